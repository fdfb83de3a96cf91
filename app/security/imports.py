"""Which modules a repository's Python files import. By lines, so that every version of Python can be read.

An import in a text or a comment may count as one: that errs on the side of "imported".
"""

import json
import re
import tarfile
import zlib
from typing import BinaryIO

from app.domain.advisory import Imports

MAX_FILES = 3_000
MAX_BYTES = 64 << 20
MAX_FILE = 1 << 20
MAX_MODULES = 5_000
SHOWN_FILES = 5

_IMPORT = re.compile(r"[ \t]{0,100}import[ \t]{1,20}([\w., \t]{1,1000})")
_FROM = re.compile(r"[ \t]{0,100}from[ \t]{1,20}([A-Za-z_]\w{0,200})(?:\.[\w.]{0,500})?[ \t]{1,20}import\b")
_DYNAMIC = re.compile(r"""(?:import_module|__import__)\([ \t]{0,20}["']([A-Za-z_]\w{0,200})""")


def modules_of(source: str) -> set[str]:
    """The top-level modules that these lines import."""
    found: set[str] = set()
    for line in source.split("\n"):
        if "import" not in line or len(line) > 4_000:
            continue
        match = _FROM.match(line)
        if match:
            found.add(match[1])
        elif match := _IMPORT.match(line):
            found |= {name for part in match[1].split(",") if (name := part.strip().partition(" ")[0].split(".")[0])}
        found |= set(_DYNAMIC.findall(line))
    return {name for name in found if name.isidentifier()}


def imports_in(archive: BinaryIO) -> Imports:
    """Of all .py and .ipynb files of a .tar.gz with one folder at its root, as far as the bounds allow."""
    found: dict[str, list[str]] = {}
    files = read = 0
    complete = True
    try:
        with tarfile.open(fileobj=archive, mode="r|gz") as tar:
            for entry in tar:
                path = entry.name.partition("/")[2]
                wanted = entry.isfile() and path.endswith((".py", ".ipynb"))
                files, read = files + wanted, read + entry.size  # what is passed over is unpacked, too
                if files > MAX_FILES or read > MAX_BYTES:
                    complete = False
                    break
                if not wanted:
                    continue
                file = tar.extractfile(entry) if entry.size <= MAX_FILE else None
                if file is None:
                    complete = False
                    continue
                text = file.read(MAX_FILE).decode("utf-8", "replace")
                for module in modules_of(_cells(text) if path.endswith(".ipynb") else text):
                    if module in found or len(found) < MAX_MODULES:
                        found.setdefault(module, []).append(path)
    except (tarfile.TarError, EOFError, zlib.error, OSError):
        complete = False  # cut off at the forge's limit
    return Imports({module: tuple(paths[:SHOWN_FILES]) for module, paths in found.items()}, complete)


def _cells(notebook: str) -> str:
    """The code of a notebook."""
    try:
        content = json.loads(notebook)
    except (json.JSONDecodeError, RecursionError):
        return ""
    cells = content.get("cells") if isinstance(content, dict) else None
    code = []
    for cell in cells if isinstance(cells, list) else ():
        source = cell.get("source") if isinstance(cell, dict) and cell.get("cell_type") == "code" else None
        lines = source if isinstance(source, list) else [source]
        code += [line for line in lines if isinstance(line, str)]
    return "\n".join(line.rstrip("\n") for line in code)
