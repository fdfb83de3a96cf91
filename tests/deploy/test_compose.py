"""docker-compose.yml, read as data: no Docker engine is needed."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from app.settings import misspelt

ROOT = Path(__file__).parents[2]
COMPOSE: Mapping[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "docker-compose.yml")
SERVICES: Mapping[str, Any] = COMPOSE["services"]
OURS = ("web", "worker", "migrate")
every_service = pytest.mark.parametrize("name", SERVICES)


def test_the_stack_is_complete() -> None:
    assert set(SERVICES) == {"web", "worker", "migrate", "postgres", "redis"}


@every_service
def test_every_service_that_stays_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    if name == "migrate":
        assert check == {"disable": True}
    else:
        assert check["test"][0] in ("CMD", "CMD-SHELL")
        assert {"interval", "timeout"} <= set(check)


@every_service
def test_no_service_runs_as_root_or_may_become_root(name: str) -> None:
    service = SERVICES[name]
    uid = int(service["user"].partition(":")[0])
    assert uid > 0
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True


@every_service
def test_no_secret_stands_in_an_environment(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"PASSWORD|SECRET|PRIVATE_KEY|TOKEN", variable):
            assert variable.endswith("_FILE"), variable
            assert value.startswith("/run/secrets/"), variable
        assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), f"{variable} carries a password"


@every_service
def test_a_service_gets_the_secret_files_that_it_names_and_no_others(name: str) -> None:
    service = SERVICES[name]
    named = {
        value.removeprefix("/run/secrets/")
        for value in service.get("environment", {}).values()
        if str(value).startswith("/run/secrets/")
    }
    assert named == set(service.get("secrets", []))


def test_every_secret_is_a_file() -> None:
    for name, secret in COMPOSE["secrets"].items():
        assert set(secret) == {"file"}, name


@every_service
def test_every_image_is_pinned_to_a_version(name: str) -> None:
    tag = SERVICES[name]["image"].partition(":")[2]
    assert re.match(r"\d+(\.\d+)*", tag), tag


@pytest.mark.parametrize("name", OURS)
def test_our_services_set_only_settings_that_exist(name: str) -> None:
    assert misspelt(SERVICES[name]["environment"]) == []


@pytest.mark.parametrize("name", ["web", "worker"])
def test_web_and_worker_have_the_time_to_finish_what_runs(name: str) -> None:
    assert SERVICES[name]["stop_grace_period"] == "45s"


@pytest.mark.parametrize("name", ["web", "worker"])
def test_nothing_of_ours_starts_before_the_schema_is_current(name: str) -> None:
    assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_redis_appends_to_disk_and_keeps_its_volume() -> None:
    command = SERVICES["redis"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert SERVICES["redis"]["volumes"] == ["redis:/data"]


def test_the_database_keeps_its_volume_and_checks_passwords() -> None:
    postgres = SERVICES["postgres"]
    assert postgres["volumes"] == ["postgres:/var/lib/postgresql/data"]
    assert "POSTGRES_HOST_AUTH_METHOD" not in postgres["environment"]


def test_only_the_web_is_published_and_on_loopback_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"web": ["127.0.0.1:8000:8000"]}


def test_database_and_broker_cannot_be_reached_from_outside() -> None:
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["inside"]


def test_the_example_environment_names_only_settings_that_exist() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    named = [line.lstrip("# ") for line in lines if re.match(r"(# )?[A-Z_]+=", line)]
    assert named
    environ = dict(line.partition("=")[::2] for line in named)
    assert all(name.startswith("HEAL_") for name in environ)
    assert misspelt(environ) == []


def test_what_compose_asks_for_is_in_the_example_environment() -> None:
    asked = re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text())
    example = (ROOT / ".env.example").read_text()
    assert asked
    assert [name for name in asked if f"{name}=" not in example] == []
