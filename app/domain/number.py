"""Numbers of rows, as others write them: in addresses, forms, comments and URLs of webhooks."""


def row_number(text: str) -> int | None:
    """None for what is no number, or none that fits into 64 bits. It may be 0."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None
