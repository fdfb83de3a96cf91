"""A package index of invented packages: PEP 503 pages, PEP 691 JSON, PEP 658 metadata, and real wheels made in memory.

`uv pip compile --default-index …/simple/` and `pip install --index-url …/simple/` work against it without a network.
"""

import base64
import hashlib
import html
import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "text/html"
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip can hold: the same wheel is the same bytes everywhere


@dataclass(frozen=True)
class Package:
    """One version of one package; `modules` maps a path inside the wheel to its source.

    Without `modules` the wheel holds one module named for the package, with its `__version__`.
    """

    name: str
    version: str
    requires: tuple[str, ...] = ()
    requires_python: str = ">=3.11"
    summary: str = ""
    modules: Mapping[str, str] | None = None

    @property
    def distribution(self) -> str:
        return re.sub(r"[-_.]+", "_", self.name).lower()

    @property
    def filename(self) -> str:
        return f"{self.distribution}-{self.version}-py3-none-any.whl"


@dataclass(frozen=True)
class Wheel:
    package: Package
    metadata: bytes
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def metadata_sha256(self) -> str:
        return hashlib.sha256(self.metadata).hexdigest()


def build_wheel(package: Package) -> Wheel:
    """The wheel of `package`, byte for byte the same each time."""
    default = {f"{package.distribution}.py": f'"""{package.summary}"""\n\n__version__ = "{package.version}"\n'}
    metadata = _metadata(package)
    info = f"{package.distribution}-{package.version}.dist-info"
    files = {path: source.encode() for path, source in (package.modules or default).items()}
    files[f"{info}/METADATA"] = metadata
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: sandbox\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{path},sha256={_record_digest(data)},{len(data)}\n" for path, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, ZIP_EPOCH)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return Wheel(package, metadata, buffer.getvalue())


def routes(packages: Iterable[Package]) -> list[Route]:
    """The routes of the index, to be mounted so that `/simple/` is at the root of the server."""
    projects: dict[str, dict[str, Wheel]] = {}
    for package in packages:
        projects.setdefault(_normal(package.name), {})[package.filename] = build_wheel(package)

    def listing(request: Request) -> Response:
        if JSON_TYPE in request.headers.get("accept", ""):
            names = [{"name": name} for name in sorted(projects)]
            return JSONResponse({"meta": {"api-version": "1.1"}, "projects": names}, media_type=JSON_TYPE)
        return _page([f'<a href="/simple/{name}/">{name}</a>' for name in sorted(projects)])

    def project(request: Request) -> Response:
        name = _normal(request.path_params["name"])
        wheels = projects.get(name)
        if wheels is None:
            return PlainTextResponse("404 Not Found", status_code=404)
        if JSON_TYPE in request.headers.get("accept", ""):
            return JSONResponse(_project(name, wheels.values()), media_type=JSON_TYPE)
        return _page([_anchor(name, wheel) for wheel in wheels.values()])

    def file(request: Request) -> Response:
        filename = request.path_params["filename"]
        wheel = projects.get(_normal(request.path_params["name"]), {}).get(filename.removesuffix(".metadata"))
        if wheel is None:
            return PlainTextResponse("404 Not Found", status_code=404)
        if filename.endswith(".metadata"):
            return Response(wheel.metadata, media_type="application/octet-stream")
        return Response(wheel.content, media_type="application/octet-stream")

    return [
        Route("/simple/", listing),
        Route("/simple/{name}/", project),
        Route("/simple/{name}/{filename}", file),
    ]


def _metadata(package: Package) -> bytes:
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {package.name}",
        f"Version: {package.version}",
        f"Summary: {package.summary}",
        f"Requires-Python: {package.requires_python}",
        *(f"Requires-Dist: {requirement}" for requirement in package.requires),
    ]
    return ("\n".join(lines) + "\n").encode()


def _record_digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _project(name: str, wheels: Iterable[Wheel]) -> dict[str, object]:
    wheels = list(wheels)
    return {
        "meta": {"api-version": "1.1"},
        "name": name,
        "versions": [wheel.package.version for wheel in wheels],
        "files": [
            {
                "filename": wheel.package.filename,
                "url": f"/simple/{name}/{wheel.package.filename}",
                "size": len(wheel.content),
                "hashes": {"sha256": wheel.sha256},
                "requires-python": wheel.package.requires_python,
                "core-metadata": {"sha256": wheel.metadata_sha256},
            }
            for wheel in wheels
        ],
    }


def _anchor(name: str, wheel: Wheel) -> str:
    filename = wheel.package.filename
    return (
        f'<a href="/simple/{name}/{filename}#sha256={wheel.sha256}"'
        f' data-requires-python="{html.escape(wheel.package.requires_python)}"'
        f' data-core-metadata="sha256={wheel.metadata_sha256}">{filename}</a>'
    )


def _page(anchors: Iterable[str]) -> Response:
    body = "".join(f"{anchor}<br>\n" for anchor in anchors)
    content = f'<!DOCTYPE html>\n<html><head><meta name="pypi:repository-version" content="1.1"></head>\n<body>\n{body}'
    return Response(f"{content}</body></html>\n", media_type=HTML_TYPE)
