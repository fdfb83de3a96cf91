"""What is kept of a secret that somebody else holds: a token, a cookie, the text of a link."""

import hashlib


def digest(text: str) -> str:
    """SHA-256, as 64 hexadecimal digits. It is enough for secrets of 256 random bits, which nobody can guess."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
