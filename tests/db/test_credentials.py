"""What was entrusted to the bot is kept sealed, and completes the settings."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from app.db.credentials import Credentials
from app.db.engine import make_engine, reading
from app.db.tables import CredentialRow
from app.security.vault import Sealed, Vault
from app.settings import Settings
from app.wiring import Unconfigured, completed, vault, wire

KEY = b"k" * 32
KEPT = {
    "app_id": b"7",
    "slug": b"heal",
    "private_key": b"PEM",
    "webhook_secret": b"hook",
    "client_id": b"Iv1.x",
    "client_secret": b"oauth",
    "api_url": b"https://github.example/api/v3",
    "web_url": b"https://github.example",
    "public_url": b"https://heal.example",
}


@pytest.fixture
def kept(engine: Engine) -> Credentials:
    return Credentials(engine, Vault([KEY]))


def test_credentials_are_kept_sealed_and_a_newer_one_takes_the_place(kept: Credentials, engine: Engine) -> None:
    kept.keep({"client_id": b"first", "slug": b"heal"})
    kept.keep({"client_id": b"second"})
    assert kept.all() == {"client_id": b"second", "slug": b"heal"}
    with reading(engine) as connection:
        sealed = connection.scalars(select(CredentialRow.sealed)).all()
    assert not any(b"second" in value or b"heal" in value for value in sealed)


def test_credentials_whose_key_is_lost_say_so(kept: Credentials, engine: Engine) -> None:
    kept.keep({"client_id": b"x"})
    with pytest.raises(Sealed, match="credential client_id"):
        Credentials(engine, Vault([b"o" * 32])).all()


def test_a_former_key_can_be_left_out_once_all_is_sealed_anew(kept: Credentials, engine: Engine) -> None:
    kept.keep(KEPT)
    newer = b"n" * 32
    both = Credentials(engine, Vault([newer, KEY]))
    assert both.renew() == len(KEPT)
    assert both.renew() == 0
    assert Credentials(engine, Vault([newer])).all() == KEPT


def test_a_database_without_tables_has_no_credentials(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    assert Credentials(engine, Vault([KEY])).all() == {}
    engine.dispose()


def test_what_was_kept_completes_settings_that_say_nothing() -> None:
    whole = completed(Settings(), KEPT)
    assert whole.github.app_id == 7
    assert whole.private_key_pem() == "PEM"
    assert whole.webhook_secrets() == (b"hook",)
    assert (whole.github.client_id, whole.client_secret()) == ("Iv1.x", "oauth")
    assert whole.github.api_url == "https://github.example/api/v3"
    assert whole.web.public_url == "https://heal.example"


def test_the_environment_comes_before_what_was_kept() -> None:
    told = Settings(
        github={"webhook_secrets": "new,old", "api_url": "https://api.github.com"}, web={"public_url": "https://b"}
    )
    whole = completed(told, KEPT)
    assert whole.webhook_secrets() == (b"new", b"old")
    assert whole.github.api_url == "https://api.github.com"
    assert whole.github.web_url == "https://github.example"
    assert whole.web.public_url == "https://b"


def test_who_owns_the_app_runs_the_bot_unless_the_environment_names_others() -> None:
    kept = {**KEPT, "operator": b"501"}
    assert completed(Settings(), kept).web.operators == (501,)
    assert completed(Settings(web={"operators": "7,8"}), kept).web.operators == (7, 8)
    assert completed(Settings(), {**KEPT, "operator": b"0"}).web.operators == ()


def test_files_that_are_there_and_empty_say_nothing(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    files = {"private_key_file": empty, "webhook_secrets_file": empty, "client_secret_file": empty}
    whole = completed(Settings(github=files), KEPT)
    assert (whole.private_key_pem(), whole.webhook_secrets(), whole.client_secret()) == ("PEM", (b"hook",), "oauth")


def test_nothing_of_another_app_is_mixed_in() -> None:
    told = Settings(github={"app_id": 8})
    assert completed(told, KEPT) == told


def test_the_bot_is_wired_with_what_was_kept(database_url: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=")
    settings = Settings(database={"url": database_url}, vault={"keys_file": keys})
    with pytest.raises(Unconfigured, match="HEAL_GITHUB__APP_ID"):
        wire(settings)
    engine = make_engine(database_url)
    Credentials(engine, Vault([KEY])).keep(KEPT)
    engine.dispose()
    wired = wire(settings)
    assert wired.oauth == ("Iv1.x", "oauth")
    assert wired.settings.github.app_id == 7
    wired.engine.dispose()


def test_sqlite_makes_its_own_key_and_other_databases_want_to_be_told_one(tmp_path: Path) -> None:
    assert vault(Settings(database={"url": f"sqlite:///{tmp_path / 'heal.db'}"})).usable
    assert (tmp_path / "heal.key").exists()
    assert not vault(Settings(database={"url": "postgresql+psycopg://nobody@nowhere/heal"})).usable


def test_people_cannot_sign_in_without_a_key_that_seals_what_they_sign_in_with() -> None:
    settings = Settings(
        database={"url": "postgresql+psycopg://nobody@nowhere/heal"},
        github={
            "app_id": 1,
            "private_key": "PEM",
            "webhook_secrets": "s",
            "client_id": "Iv1.x",
            "client_secret": "oauth",
        },
    )
    with pytest.raises(Unconfigured, match="HEAL_VAULT__KEYS_FILE"):
        wire(settings)


def test_keys_that_are_none_name_the_variable() -> None:
    with pytest.raises(Unconfigured, match=r"HEAL_VAULT__KEYS_FILE.*openssl"):
        vault(Settings(vault={"keys": "nonsense"}))
