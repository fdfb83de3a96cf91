"""Whether a repository's own code comes near a package."""

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.domain.advisory import Imports, LockedPackage

# Distributions whose modules are named otherwise. All others: the name itself, with underscores.
_MODULES = {
    "pyyaml": ("yaml",),
    "ruamel-yaml": ("ruamel",),
    "pillow": ("PIL",),
    "scikit-learn": ("sklearn",),
    "scikit-image": ("skimage",),
    "opencv-python": ("cv2",),
    "opencv-python-headless": ("cv2",),
    "opencv-contrib-python": ("cv2",),
    "beautifulsoup4": ("bs4",),
    "python-dateutil": ("dateutil",),
    "python-dotenv": ("dotenv",),
    "python-multipart": ("multipart", "python_multipart"),
    "python-jose": ("jose",),
    "pyjwt": ("jwt",),
    "pygithub": ("github",),
    "gitpython": ("git",),
    "protobuf": ("google",),
    "grpcio": ("grpc",),
    "attrs": ("attr", "attrs"),
    "setuptools": ("setuptools", "pkg_resources"),
    "pytorch": ("torch",),
    "pytorch-lightning": ("pytorch_lightning", "lightning"),
    "tensorflow-cpu": ("tensorflow",),
    "tensorflow-gpu": ("tensorflow",),
    "mlflow-skinny": ("mlflow",),
    "faiss-cpu": ("faiss",),
    "faiss-gpu": ("faiss",),
    "sentencepiece": ("sentencepiece",),
    "msgpack-python": ("msgpack",),
    "mysqlclient": ("MySQLdb",),
    "psycopg2-binary": ("psycopg2",),
    "pycryptodome": ("Crypto",),
    "pycryptodomex": ("Cryptodome",),
    "pyopenssl": ("OpenSSL",),
    "pyzmq": ("zmq",),
    "dnspython": ("dns",),
    "jupyter-server": ("jupyter_server",),
    "ipython": ("IPython",),
    "markdown": ("markdown",),
    "jinja2": ("jinja2",),
    "werkzeug": ("werkzeug",),
    "sqlalchemy": ("sqlalchemy",),
    "azure-identity": ("azure",),
    "azure-storage-blob": ("azure",),
    "google-cloud-storage": ("google",),
}


@dataclass(frozen=True)
class Reach:
    """`how`: "imported" (in `files`), "through" another package that is (`through`), "not imported", "unknown"."""

    how: str
    files: tuple[str, ...] = ()
    through: str = ""


UNKNOWN = Reach("unknown")


def modules_of(name: str) -> tuple[str, ...]:
    return _MODULES.get(name) or (re.sub(r"[-.]", "_", name),)


def reach(package: LockedPackage, packages: Iterable[LockedPackage], imports: Imports | None) -> Reach:
    """ "Not imported" is only said where all files were read and the lockfile tells who needs whom."""
    if package.ecosystem != "PyPI" or imports is None:
        return UNKNOWN
    by_folded = {module.lower(): files for module, files in imports.modules.items()}
    asked_by: dict[str, set[str]] = {}
    told: list[bool] = []
    for one in packages:
        if one.path == package.path:
            told.append(one.needs is not None)
            for needed in one.needs or ():
                asked_by.setdefault(needed, set()).add(one.name)
    return _search(package.name, asked_by, by_folded, whole=imports.complete and bool(told) and all(told))


def _search(
    name: str, asked_by: Mapping[str, set[str]], imported: Mapping[str, tuple[str, ...]], *, whole: bool
) -> Reach:
    seen, waiting = {name}, deque([name])
    while waiting:
        each = waiting.popleft()
        files = next((imported[m.lower()] for m in modules_of(each) if m.lower() in imported), None)
        if files is not None:
            return Reach("imported", files) if each == name else Reach("through", files, each)
        for parent in sorted(asked_by.get(each, set()) - seen):
            seen.add(parent)
            waiting.append(parent)
    return Reach("not imported") if whole else UNKNOWN
