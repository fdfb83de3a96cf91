from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings, misspelt
from app.wiring import launchers


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_default_is_embedded() -> None:
    settings = Settings()
    assert settings.embedded
    assert settings.database_url().startswith("sqlite:///")


def test_two_webhook_secrets_are_active_while_one_is_rotated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAL_GITHUB__WEBHOOK_SECRETS", "new,old")
    assert Settings().webhook_secrets() == (b"new", b"old")


def test_secrets_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secrets").write_text("new\nold\n\n")
    (tmp_path / "key.pem").write_text("PEM")
    (tmp_path / "password").write_text("p@ss/word\n")
    monkeypatch.setenv("HEAL_GITHUB__WEBHOOK_SECRETS_FILE", "secrets")
    monkeypatch.setenv("HEAL_GITHUB__PRIVATE_KEY_FILE", "key.pem")
    monkeypatch.setenv("HEAL_DATABASE__URL", "postgresql+psycopg://heal@db/heal")
    monkeypatch.setenv("HEAL_DATABASE__PASSWORD_FILE", "password")
    settings = Settings()
    assert settings.webhook_secrets() == (b"new", b"old")
    assert settings.private_key_pem() == "PEM"
    assert settings.database_url() == "postgresql+psycopg://heal:p%40ss%2Fword@db/heal"


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAL_GITHUB__WEBHOOK_SECRETS", "canary")
    assert "canary" not in repr(Settings())


def test_a_misspelt_member_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAL_DATABASE__ULR", "x")
    with pytest.raises(ValidationError):
        Settings()


def test_a_misspelt_group_is_told() -> None:
    assert misspelt({"HEAL_DATBASE__URL": "x", "HEAL_WEB__PORT": "1", "HOME": "/"}) == ["HEAL_DATBASE__URL"]


def test_other_programs_variables_in_the_env_file_are_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_USER=heal\nHEAL_WEB__PORT=9000\n")
    assert Settings().web.port == 9000


def test_endpoints_are_addresses_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAL_OPERATIONS__ENDPOINTS", "https://a.example/healthz, http://b:8000")
    assert Settings().operations.endpoints == ("https://a.example/healthz", "http://b:8000")
    monkeypatch.setenv("HEAL_OPERATIONS__ENDPOINTS", "file:///etc/passwd")
    with pytest.raises(ValidationError, match="no http"):
        Settings()


def test_who_may_use_which_model_is_told_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().mlflow.grants() == ()
    monkeypatch.setenv("HEAL_MLFLOW__MODELS", "acme/trainer=churn, acme/*=shared *")
    assert Settings().mlflow.grants() == (("acme/trainer", "churn"), ("acme/*", "shared *"))
    monkeypatch.setenv("HEAL_MLFLOW__MODELS", "churn")
    with pytest.raises(ValidationError, match="OWNER/NAME=MODEL"):
        Settings()


def test_the_registrys_secrets_come_from_files_and_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAL_MLFLOW__TOKEN", "canary")
    monkeypatch.setenv("HEAL_MLFLOW__PASSWORD", "canary")
    settings = Settings()
    assert (settings.mlflow_token(), settings.mlflow_password()) == ("canary", "canary")
    assert "canary" not in repr(settings)
    (tmp_path / "token").write_text("from a file\n")
    monkeypatch.setenv("HEAL_MLFLOW__TOKEN_FILE", "token")
    monkeypatch.setenv("HEAL_MLFLOW__PASSWORD_FILE", "token")
    assert (Settings().mlflow_token(), Settings().mlflow_password()) == ("from a file", "from a file")


def test_no_variable_of_the_bots_own_is_passed_on_to_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAL_LAUNCHER__PASS_ON", "MLFLOW_TRACKING_URI, WANDB_MODE")
    assert Settings().launcher.pass_on == ("MLFLOW_TRACKING_URI", "WANDB_MODE")
    monkeypatch.setenv("HEAL_LAUNCHER__PASS_ON", "HEAL_MLFLOW__TOKEN")
    with pytest.raises(ValidationError, match="no run gets it"):
        Settings()


def test_a_ray_cluster_needs_a_directory_that_its_nodes_see(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(launchers(Settings())) == ["process"]
    monkeypatch.setenv("HEAL_LAUNCHER__RAY_ADDRESS", "http://head:8265")
    for wrong in ("", "runs"):
        monkeypatch.setenv("HEAL_LAUNCHER__RAY_DIRECTORY", wrong)
        with pytest.raises(ValidationError, match="HEAL_LAUNCHER__RAY_DIRECTORY must be set"):
            Settings()
    monkeypatch.setenv("HEAL_LAUNCHER__RAY_DIRECTORY", "/shared/runs")
    assert list(launchers(Settings())) == ["process", "ray"]
