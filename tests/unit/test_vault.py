"""Secrets are sealed to what they are of, by a key that is made by itself or told."""

import base64
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.security.vault import Sealed, Vault, key_file, keys_of

OLD, NEW = b"o" * 32, b"n" * 32


def text(*keys: bytes) -> str:
    return "\n".join(base64.b64encode(key).decode() for key in keys)


def test_what_was_sealed_is_opened_again_and_is_not_to_be_read_until_then() -> None:
    sealed = Vault([NEW]).seal(b"a private key", "credential private_key")
    assert b"a private key" not in sealed
    assert Vault([NEW]).open(sealed, "credential private_key") == b"a private key"


def test_one_secret_cannot_stand_in_for_another() -> None:
    vault = Vault([NEW])
    with pytest.raises(Sealed, match="credential client_secret cannot be opened"):
        vault.open(vault.seal(b"x", "credential webhook_secret"), "credential client_secret")


def test_a_former_key_still_opens_and_the_first_one_seals() -> None:
    former = Vault([OLD]).seal(b"x", "it")
    both = Vault([NEW, OLD])
    assert both.open(former, "it") == b"x"
    with pytest.raises(Sealed, match="no key of the vault opens it"):
        Vault([OLD]).open(both.seal(b"x", "it"), "it")


def test_what_a_former_key_sealed_is_told_from_what_the_first_did() -> None:
    both = Vault([NEW, OLD])
    assert both.is_current(both.seal(b"x", "it"))
    assert not both.is_current(Vault([OLD]).seal(b"x", "it"))


def test_a_damaged_secret_is_refused() -> None:
    sealed = bytearray(Vault([NEW]).seal(b"x", "it"))
    sealed[-1] ^= 1
    with pytest.raises(Sealed, match="damaged"):
        Vault([NEW]).open(bytes(sealed), "it")


def test_without_a_key_nothing_is_sealed() -> None:
    with pytest.raises(Sealed, match="HEAL_VAULT__KEYS_FILE"):
        Vault(()).seal(b"x", "it")


def test_keys_are_read_one_a_line_or_with_commas_between() -> None:
    assert keys_of(text(NEW, OLD)) == keys_of(text(NEW, OLD).replace("\n", ", ")) == [NEW, OLD]


@pytest.mark.parametrize("wrong", ["not base64!", base64.b64encode(b"short").decode()])
def test_a_key_that_is_none_says_how_to_make_one(wrong: str) -> None:
    with pytest.raises(ValueError, match="openssl rand -base64 32"):
        Vault(keys_of(wrong))


def test_the_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "var" / "heal.key"
    made = key_file(path)
    assert key_file(path) == made
    assert len(keys_of(made)[0]) == 32
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_processes_that_make_the_key_file_together_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        read = set(pool.map(lambda _: key_file(tmp_path / "heal.key"), range(32)))
    assert len(read) == 1
