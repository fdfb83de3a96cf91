"""`python -m app.i18n`: what translators and `make check` use.

extract             print every message, as JSON
update              bring the five files in step with the sources
missing LANG        print what LANG still lacks (--json: for fill)
fill LANG FILE      put in translations, a JSON object {message: translation, or a list of plural forms}
check               say what is wrong; the exit status is 1 if anything is
"""

import argparse
import json
import sys
from pathlib import Path

from app.i18n.messages import TRANSLATED, check, extract, keys, missing, update


def main() -> int:
    parser = argparse.ArgumentParser("python -m app.i18n", description=__doc__, formatter_class=_AS_IT_STANDS)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("extract")
    commands.add_parser("update")
    commands.add_parser("check")
    for name in ("missing", "fill"):
        commands.add_parser(name).add_argument("language", choices=TRANSLATED)
    commands.choices["missing"].add_argument("--json", action="store_true")
    commands.choices["fill"].add_argument("file", type=Path, help="- for standard input")
    given = parser.parse_args()
    found = extract()
    if given.command == "extract":
        _print([{"message": message.id, "where": message.locations} for message in found if message.id])
    elif given.command == "update":
        for language in TRANSLATED:
            update(language, found)
    elif given.command == "missing":
        rows = missing(given.language, found)
        if given.json:
            _print(rows)
        else:
            sys.stdout.writelines(f"{row['message']}\n" for row in rows)
    elif given.command == "fill":
        text = sys.stdin.read() if str(given.file) == "-" else given.file.read_text()
        words = json.loads(text)
        unknown = sorted(set(words) - keys(found))
        update(given.language, found, words)
        sys.stderr.writelines(f"no such message: {message!r}\n" for message in unknown)
        return 1 if unknown else 0
    else:
        mistakes = check(found)
        sys.stdout.writelines(f"{mistake}\n" for mistake in mistakes)
        return 1 if mistakes else 0
    return 0


_AS_IT_STANDS = argparse.RawDescriptionHelpFormatter


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
