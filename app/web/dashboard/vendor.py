"""Refresh the vendored browser assets from their pinned npm packages: `make assets`.

Needs npm, and nothing else beyond the standard library. Every package is checked against its SHA-512, so that a refresh
of the same versions writes the same bytes. Design tokens are cut down to the palette and what the style sheets use.
"""

import base64
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENDOR = HERE / "static" / "vendor"
LICENSES = VENDOR / "LICENSES"
BROWSER_TESTS = HERE.parents[2] / "tests" / "browser"

PRIMITIVES = "@primer/primitives@11.10.0"
OCTICONS = "@primer/octicons@19.42.0"
RELATIVE_TIME = "@github/relative-time-element@5.3.1"
AXE = "axe-core@4.14.1"
SHA512 = {
    PRIMITIVES: "ihZxIst4Izry284StKFjpbYvX6R/IBFTLu+qiuAmR93PsKF2hdjoabhSYwKI8iCxOUx94jVP55bI3NoY7STjYQ==",
    OCTICONS: "MEcHxVxNHu1I2Ndk5Mcwp7tfBiDk/EpytDJgKOfE2ldqIczWucVrZNeNU4wtEN5mnNudZ0YL5G0spax3bSMT4w==",
    RELATIVE_TIME: "f++QCIXxGH7rMbpTASRfLyCyPydd4HqwOmATBb/sAUCq72HEZN0MX9znmJSp7NKYxuQxF8j0Mv3ez9P32c70vw==",
    AXE: "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
}
ICONS = (
    "alert", "archive", "arrow-down", "arrow-left", "arrow-right", "arrow-up", "beaker", "bell", "bell-slash",
    "bookmark", "calendar", "check", "check-circle", "checklist", "chevron-down", "chevron-left", "chevron-right",
    "circle-slash", "clock", "code", "copy", "cpu", "dash", "database", "device-desktop", "dot-fill", "download", "eye",
    "file", "filter", "gear", "git-branch", "git-commit", "git-merge", "git-pull-request", "git-pull-request-closed",
    "globe", "graph", "history", "hourglass", "inbox", "info", "key", "law", "link", "link-external", "list-unordered",
    "lock", "log", "mark-github", "meter", "moon", "mute", "note", "organization", "package", "paper-airplane",
    "pencil", "people", "person", "play", "plus", "pulse", "question", "repo", "rocket", "search", "server", "shield",
    "shield-check", "shield-lock", "sign-in", "sign-out", "skip", "stack", "star", "stop", "sun", "sync", "tag",
    "three-bars", "tools", "trash", "undo", "unmute", "verified", "webhook", "workflow", "x", "x-circle", "zap",
)  # fmt: skip
PALETTE = re.compile(r"--(fgColor|bgColor|borderColor|data)-[\w-]+|--button-(primary|danger|default)-[\w-]+")

_DECLARATION = re.compile(r"(--[\w-]+):\s*([^;]+);")
_USE = re.compile(r"var\((--[\w-]+)")


def unpacked(package: str, into: Path) -> Path:
    """The folder of `package` (name@version), downloaded by npm and checked."""
    into.mkdir()
    done = subprocess.run(["npm", "pack", "--silent", package], cwd=into, check=True, capture_output=True, text=True)
    archive = into / done.stdout.strip().splitlines()[-1]
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != SHA512[package]:
        sys.exit(f"{package}: its SHA-512 is {found}, not the pinned one")
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")
    return into / "package"


def declarations(files: Iterable[Path]) -> dict[str, str]:
    """Custom properties of the files' first blocks; later blocks only adapt to forced colours and the like."""
    found: dict[str, str] = {}
    for file in files:
        css = re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.DOTALL)
        for name, value in _DECLARATION.findall(css):
            found.setdefault(name, " ".join(value.split()))
    return found


def used(names: Iterable[str], known: dict[str, str]) -> dict[str, str]:
    """Of the known tokens those that are named, and those their values name, in alphabetical order."""
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in known and name not in found:
            found[name] = known[name]
            waiting += _USE.findall(known[name])
    return dict(sorted(found.items()))


def block(selector: str, tokens: dict[str, str], indent: str = "") -> str:
    lines = "".join(f"{indent}  {name}: {value};\n" for name, value in tokens.items())
    return f"{indent}{selector} {{\n{lines}{indent}}}\n"


def tokens_css(package: Path) -> str:
    css = package / "dist" / "css"
    folders = ("base/size", "base/typography", "base/motion", "functional/size", "functional/typography")
    steady = declarations(file for folder in folders for file in sorted((css / folder).glob("*.css")))
    light = declarations([css / "functional/themes/light.css"])
    dark = declarations([css / "functional/themes/dark.css"])
    sheets = [HERE / "static" / "dashboard.css", *sorted((HERE / "static" / "screens").glob("*.css"))]
    wanted = {name for sheet in sheets for name in _USE.findall(sheet.read_text())}
    if missing := {name for name in wanted if not name.startswith("--heal-")} - {*steady, *light}:
        sys.exit(f"the style sheets use tokens that {PRIMITIVES} lacks: {', '.join(sorted(missing))}")
    wanted |= {name for name in light if PALETTE.fullmatch(name)}
    everywhere = used(wanted, {**steady, **light})
    themed = {name for name in everywhere if name in light}
    in_dark = {"color-scheme": "dark", **used(themed, dark)}
    return "".join(
        (
            f"/* Design tokens cut from {PRIMITIVES} (MIT, LICENSES/primer-primitives.txt) by vendor.py. */\n",
            block(":root", {"color-scheme": "light", **everywhere}),
            block('[data-color-mode="dark"]', in_dark),
            "@media (prefers-color-scheme: dark) {\n",
            block(':root:not([data-color-mode="light"])', in_dark, "  "),
            "}\n",
        )
    )


def icons_json(package: Path) -> str:
    data = json.loads((package / "build" / "data.json").read_text())
    if missing := set(ICONS) - set(data):
        sys.exit(f"{OCTICONS} has no icon named {', '.join(sorted(missing))}")
    return json.dumps({name: data[name]["heights"]["16"]["path"] for name in ICONS}, indent=1) + "\n"


def main() -> None:
    LICENSES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        packages = {name: unpacked(name, Path(folder) / str(at)) for at, name in enumerate(SHA512)}
        (VENDOR / "tokens.css").write_text(tokens_css(packages[PRIMITIVES]))
        (VENDOR / "octicons.json").write_text(icons_json(packages[OCTICONS]))
        bundle = (packages[RELATIVE_TIME] / "dist" / "bundle.js").read_bytes()
        (VENDOR / "relative-time.js").write_bytes(bundle)
        (BROWSER_TESTS / "axe.min.js").write_bytes((packages[AXE] / "axe.min.js").read_bytes())
        for name, target in (
            (PRIMITIVES, LICENSES / "primer-primitives.txt"),
            (OCTICONS, LICENSES / "primer-octicons.txt"),
            (RELATIVE_TIME, LICENSES / "relative-time-element.txt"),
            (AXE, BROWSER_TESTS / "axe.LICENSE.txt"),
        ):
            target.write_bytes((packages[name] / "LICENSE").read_bytes())


if __name__ == "__main__":
    main()
