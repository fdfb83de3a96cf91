"""What a pickle would import, read from its opcodes. Nothing is ever loaded.

A model file may be a pickle, several in a row (old PyTorch), a compressed one (joblib), a zip with pickles in it
(PyTorch, NumPy's .npz) or a NumPy array of objects. Everything is bounded: what is larger is not looked at, and said.
"""

import io
import lzma
import pickletools
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

from app.domain.advisory import ModelFile

SUFFIXES = frozenset((".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".ckpt", ".npy", ".npz"))
MAX_BYTES = 32 << 20
MAX_MEMBERS = 200
MAX_OPCODES = 2_000_000
MAX_IMPORTS = 200

_STRINGS = frozenset(
    ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING")
)
_COMPRESSED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
# what zipfile and zlib raise on damaged files; RuntimeError also where one is encrypted
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    IndexError,
    OverflowError,
)
_NUMPY = b"\x93NUMPY"
_NUMPY_HEADER = 1 << 16
_RECORDS = posixpath.sep + "data" + posixpath.sep  # where PyTorch keeps the raw numbers


def is_model_file(path: str) -> bool:
    return posixpath.splitext(path)[1].lower() in SUFFIXES


def read_model_file(path: str, content: bytes) -> ModelFile:
    """What it would import, sorted. A file without a pickle imports nothing."""
    found = _Imports()
    problem = ""
    try:
        if content.startswith(b"PK\x03\x04"):
            problem = _zip(content, found)
        elif content.startswith(_COMPRESSED):
            unpacker = zlib.decompressobj(wbits=47)  # zlib or gzip
            _stream(unpacker.decompress(content, MAX_BYTES), found)
            problem = f"unpacked it is larger than {MAX_BYTES >> 20} MiB" if unpacker.unconsumed_tail else ""
        else:
            _stream(content, found)
    except _BROKEN as error:
        problem = f"the archive cannot be read: {type(error).__name__}"
    return ModelFile(path, tuple(sorted(found.names)[:MAX_IMPORTS]), found.hidden, problem or found.problem)


class _Imports:
    def __init__(self) -> None:
        self.names: set[str] = set()
        self.hidden = 0
        self.left = MAX_OPCODES
        self.problem = ""


def _zip(content: bytes, found: _Imports) -> str:
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        members = [member for member in packed.infolist() if not member.is_dir() and _RECORDS not in member.filename]
        left = MAX_BYTES
        for member in members[:MAX_MEMBERS]:
            with packed.open(member) as file:
                file._expected_crc = None  # type: ignore[attr-defined]  # those who load models do not look at it either
                inside = file.read(left + 1)
            left -= len(inside)
            if left < 0:
                return f"unpacked it is larger than {MAX_BYTES >> 20} MiB"
            _stream(inside, found)
    return f"it has more than {MAX_MEMBERS} members" if len(members) > MAX_MEMBERS else ""


def _stream(content: bytes, found: _Imports) -> None:
    """The pickles that begin at the start, one after the other."""
    if content.startswith(_NUMPY):
        content = _objects(content)
    stream = io.BytesIO(content)
    while stream.tell() < len(content):
        start = stream.tell()
        if not _pickle(stream, found) or stream.tell() == start:
            return


def _objects(content: bytes) -> bytes:
    """The pickle in a NumPy file; nothing where its type is not object ('|O')."""
    wide = content[6:7] != b"\x01"
    size = int.from_bytes(content[8 : 12 if wide else 10], "little")
    start = (12 if wide else 10) + min(size, _NUMPY_HEADER)
    return content[start:] if b"O" in content[8:start].partition(b"descr")[2].partition(b",")[0] else b""


def _pickle(stream: IO[bytes], found: _Imports) -> bool:
    """One pickle's imports; whether it came to its end. What stands before a broken place is executed, so it counts."""
    memo: dict[Any, str | None] = {}
    latest: list[str | None] = []  # the strings that were pushed last; None for anything else
    for name, argument in _opcodes(stream):
        found.left -= 1
        if found.left <= 0 or len(found.names) > MAX_IMPORTS:
            found.problem = "it is too long to be looked at whole"
            return False
        if name in ("GLOBAL", "INST"):
            module, _, attribute = str(argument).partition(" ")
            found.names.add(_joined(module, attribute))
            latest = [None]
        elif name == "STACK_GLOBAL":
            module_, attribute_ = (latest[-2], latest[-1]) if len(latest) >= 2 else (None, None)
            if module_ is None or attribute_ is None:
                found.hidden += 1
            else:
                found.names.add(_joined(module_, attribute_))
            latest = [None]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = latest[-1] if latest else None
        elif name == "MEMOIZE":
            memo[len(memo)] = latest[-1] if latest else None
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            latest = [*latest[-1:], memo.get(argument)]
        elif name in _STRINGS:
            latest = [*latest[-1:], str(argument)]
        elif name in ("EXT1", "EXT2", "EXT4"):
            found.hidden += 1
            latest = [None]
        elif name == "STOP":
            return True
        elif name not in ("PROTO", "FRAME", "MARK"):
            latest = [*latest[-1:], None]
    if found.names:
        found.problem = "it cannot be read to its end"
    return False


def _opcodes(stream: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """Until the end of the pickle, or to where it is none."""
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            yield opcode.name, argument
    except (ValueError, IndexError, OverflowError, MemoryError):
        return


def _joined(module: str, attribute: str) -> str:
    return f"{module[:200]}.{attribute[:200]}"
