"""Writes the table of docs/plugins/migrate_api.md: `python -m actions.migrations --write`; without, prints it."""

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from actions.migrations import Migration, migrations

PAGE = Path(__file__).parents[2] / "docs" / "plugins" / "migrate_api.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def table() -> str:
    """One row a migration, below the name of its library."""
    return "\n".join(_rows())


def _rows() -> Iterator[str]:
    for library, found in groupby(migrations(), key=lambda migration: migration.library.name):
        yield f"\n### {library}\n"
        yield "| Migration | What changes | Removed in | How it shows |"
        yield "|---|---|---|---|"
        for each in found:
            more = len(each.names) + len(each.modules) - 1
            change = f"`{each.change()}`" + (f" and {more} more" if more > 0 else "")
            yield f"| [{each.id}]({each.source}) | {change} | {each.removed_in} | {_code(each)} |"


def _code(migration: Migration) -> str:
    return f"`` {migration.tells[0]} ``".replace("|", "\\|")


def with_table(page: str) -> str:
    """The page with the table as it is now."""
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(with_table(PAGE.read_text("utf-8")), "utf-8")
    else:
        sys.stdout.write(table() + "\n")
