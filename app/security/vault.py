"""Seals secrets before they are kept: AES-256-GCM, bound to what each is of, so that none can stand in for another.

Sealed: version (1 byte), key id (4 bytes), nonce (12 bytes), ciphertext and tag. The key id is the beginning of the
SHA-256 of the key: it says which key opens, and nothing of the key.
"""

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.domain.errors import Permanent

_VERSION = b"\x01"
_KEY, _ID, _NONCE = 32, 4, 12


class Sealed(Permanent):
    """What was sealed cannot be opened: by another key, for another thing, or damaged."""


class Vault:
    """The first key seals, all of them open: a new one is put first, and the former is left out when all is sealed
    anew. Without any key, nothing can be sealed and Sealed is raised."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if any(len(key) != _KEY for key in keys):
            raise ValueError("a key of the vault is 32 bytes, in base64: make one with `openssl rand -base64 32`")
        self._keys = {_id(key): AESGCM(key) for key in keys}
        self._first = _id(keys[0]) if keys else b""

    @property
    def usable(self) -> bool:
        return bool(self._keys)

    def seal(self, secret: bytes, about: str) -> bytes:
        """`about` names what it is the secret of; the same must be said to open it."""
        if not self._keys:
            raise Sealed("there is no key to seal secrets with: set HEAL_VAULT__KEYS_FILE")
        nonce = secrets.token_bytes(_NONCE)
        return _VERSION + self._first + nonce + self._keys[self._first].encrypt(nonce, secret, about.encode())

    def is_current(self, sealed: bytes) -> bool:
        """Whether the first key sealed it, so that no former one is needed for it."""
        return sealed.startswith(_VERSION + self._first)

    def open(self, sealed: bytes, about: str) -> bytes:
        """Raises Sealed."""
        start = len(_VERSION) + _ID
        key = self._keys.get(sealed[len(_VERSION) : start])
        if key is None or not sealed.startswith(_VERSION):
            raise Sealed(f"no key of the vault opens {about}: was a key left out of HEAL_VAULT__KEYS too early?")
        try:
            return key.decrypt(sealed[start : start + _NONCE], sealed[start + _NONCE :], about.encode())
        except InvalidTag:
            raise Sealed(f"{about} cannot be opened: it is damaged, or was sealed for something else") from None


def keys_of(text: str) -> list[bytes]:
    """The keys in a text, one a line or comma-separated. Raises ValueError."""
    try:
        return [base64.b64decode(part, validate=True) for part in text.replace(",", "\n").split()]
    except binascii.Error as error:
        raise ValueError("the keys of the vault are not base64: make one with `openssl rand -base64 32`") from error


def key_file(path: Path) -> str:
    """The text of the file; a new one, for its owner's eyes alone, when there is none. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _make_key(path)
    return path.read_text()


def _make_key(path: Path) -> None:
    """Whole or not at all, and never in place of another: a second process may be doing the same."""
    made = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(_KEY)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(made, path)
    except FileExistsError:
        pass
    finally:
        made.unlink()


def _id(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:_ID]
