"""Reads what a job uploaded, in memory and within bounds; writes no file."""

import zipfile
import zlib
from typing import BinaryIO

from app.domain.errors import Malformed

MOST_FILES = 100


def files_of(packed: BinaryIO, *, most_bytes: int) -> dict[str, bytes]:
    """The archive's files by name, until `most_bytes` are together. Raises Malformed."""
    found: dict[str, bytes] = {}
    left = most_bytes
    try:
        with zipfile.ZipFile(packed) as archive:
            for member in archive.infolist()[:MOST_FILES]:
                if member.filename.endswith("/") or member.file_size > left:
                    continue
                with archive.open(member) as file:  # never more than the archive says, and that fits
                    found[member.filename] = file.read(left)
                left -= len(found[member.filename])
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        raise Malformed(f"not an archive that can be read: {type(error).__name__}") from error
    return found
