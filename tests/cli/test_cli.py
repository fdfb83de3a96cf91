"""Commands: what they print, and how they exit (0 done, 1 no, 2 usage, 3 out of reach)."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.db.store import SqlStore
from app.domain.delivery import Delivery
from app.domain.incident import State
from app.settings import Settings
from tests.cli.conftest import Heal
from tests.healing.world import OUT_OF_MEMORY, World

EXAMPLE = {
    "action": "completed",
    "installation": {"id": 7},
    "repository": {"id": 1, "full_name": "acme/trainer", "default_branch": "main", "owner": {"login": "acme"}},
    "sender": {"login": "octocat", "id": 2, "type": "User"},
    "workflow": {"name": "CI", "path": ".github/workflows/ci.yml"},
    "workflow_run": {
        "id": 99,
        "name": "CI",
        "path": ".github/workflows/ci.yml",
        "run_attempt": 1,
        "head_sha": "a" * 40,
        "head_branch": "main",
        "event": "push",
        "conclusion": "failure",
        "status": "completed",
        "html_url": "https://github.com/acme/trainer/actions/runs/99",
        "head_repository": {"id": 1, "full_name": "acme/trainer"},
        "run_started_at": "2026-11-21T09:00:00Z",
    },
}
LOG = """2026-11-21T09:00:00.0000000Z ##[group]Run python train.py
2026-11-21T09:00:00.0000000Z ##[endgroup]
2026-11-21T09:00:01.0000000Z ConnectionResetError: [Errno 104] Connection reset by peer
2026-11-21T09:00:01.0000000Z ##[error]Process completed with exit code 1.
"""


@pytest.fixture
def world(engine: Engine, store: SqlStore) -> World:
    world = World(engine, store, look_every_s=3600.0)
    world.project()
    return world


def test_help_needs_no_database_and_no_settings() -> None:
    done = subprocess.run([sys.executable, "-m", "app.cli", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for command in ("serve", "worker", "demo", "check", "config", "deliveries", "incidents", "db", "simulate", "pause"):
        assert command in done.stdout


def test_help_loads_neither_the_database_nor_the_web_server() -> None:
    code = "import sys, app.cli; print([m for m in ('sqlalchemy', 'fastapi', 'celery', 'github') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_configuration_is_validated_without_loading_the_database_or_the_web_server(tmp_path: Path) -> None:
    (tmp_path / "heal.yml").write_text("version: 1\n")
    code = (
        "import sys, app.cli; app.cli.app(['config', 'validate', sys.argv[1]], standalone_mode=False);"
        "print([m for m in ('sqlalchemy', 'fastapi', 'celery', 'github') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "heal.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["valid", "[]"]


def test_serve_says_which_setting_is_missing_where_some_are_there(heal: Heal) -> None:
    done = heal("serve", HEAL_GITHUB__APP_ID="7")
    assert done.exit_code == 2
    assert "HEAL_GITHUB__PRIVATE_KEY_FILE" in done.output


def test_a_setting_that_is_no_number_is_named(heal: Heal) -> None:
    done = heal("deliveries", "list", HEAL_WEB__PORT="eighty")
    assert done.exit_code == 2
    assert "HEAL_WEB__PORT" in done.output


def test_a_misspelt_setting_is_warned_of(heal: Heal) -> None:
    done = heal("deliveries", "list", HEAL_GITHUB__APPID="7")
    assert "HEAL_GITHUB__APPID" in done.output
    assert done.exit_code == 2  # a group refuses names it does not know


def test_worker_without_a_broker_says_what_to_use(heal: Heal) -> None:
    done = heal("worker")
    assert done.exit_code == 2
    assert "heal serve" in done.output


def test_check_tells_what_is_not_well_and_exits_with_1(heal: Heal) -> None:
    done = heal("check", "--json")
    probes = {probe["name"]: probe for probe in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert probes["database"]["ok"]
    assert probes["migrations"]["ok"]
    assert not probes["GitHub"]["ok"]
    assert probes["GitHub"]["hint"]


def test_check_asks_the_registry_where_there_is_one(heal: Heal) -> None:
    names = [probe["name"] for probe in json.loads(heal("check", "--json").stdout)]
    assert "registry" not in names
    for uri, says in (("http://127.0.0.1:1", "does not answer"), ("ftp://mlflow", "HEAL_MLFLOW__TRACKING_URI")):
        probes = {p["name"]: p for p in json.loads(heal("check", "--json", HEAL_MLFLOW__TRACKING_URI=uri).stdout)}
        assert not probes["registry"]["ok"]
        assert says in probes["registry"]["detail"]


def test_a_database_out_of_reach_exits_with_3(heal: Heal) -> None:
    done = heal("incidents", "list", HEAL_DATABASE__URL="postgresql+psycopg://nobody@127.0.0.1:1/none")
    assert done.exit_code == 3


def test_config_validate_names_line_and_likely_key(heal: Heal, tmp_path: Path) -> None:
    file = tmp_path / "heal.yml"
    file.write_text("version: 1\nmoed: auto\n")
    done = heal("config", "validate", str(file), "--json")
    problem = json.loads(done.stdout)["problems"][0]
    assert done.exit_code == 1
    assert problem["line"] == 2
    assert "mode" in problem["message"]


def test_config_validate_reads_standard_input(heal: Heal) -> None:
    done = heal("config", "validate", "-", text="version: 1\nmode: auto\n")
    assert (done.exit_code, done.stdout.strip()) == (0, "valid")


def test_config_explain_tells_where_each_value_comes_from(heal: Heal, tmp_path: Path) -> None:
    (tmp_path / "own.yml").write_text("version: 1\nmode: auto\n")
    (tmp_path / "owner.yml").write_text("version: 1\nlimits: {open_pulls: 9}\n")
    done = heal("config", "explain", "own.yml", "--owner", "owner.yml", "--json")
    rows = {row["key"]: (row["value"], row["origin"]) for row in json.loads(done.stdout)}
    assert rows["mode"][0] == "auto"
    assert rows["limits.open_pulls"][0] == "9"
    assert rows["mode"][1] != rows["limits.open_pulls"][1]
    assert rows["watch"][1] == "default"


def test_config_schema_is_a_json_schema(heal: Heal) -> None:
    assert json.loads(heal("config", "schema").stdout)["$schema"].startswith("https://json-schema.org/")


def test_a_file_that_cannot_be_read_is_a_usage_error(heal: Heal) -> None:
    assert heal("config", "validate", "nowhere.yml").exit_code == 2


def test_deliveries_are_listed_shown_and_replayed(heal: Heal, world: World) -> None:
    world.fail()
    world.drain()
    listed = json.loads(heal("deliveries", "list", "--json").stdout)
    assert [(row["guid"], row["state"]) for row in listed] == [("guid-1", "done")]
    assert json.loads(heal("deliveries", "show", "guid-1", "--json").stdout)["repository"] == "acme/trainer"
    assert heal("deliveries", "replay", "guid-1").exit_code == 0
    assert json.loads(heal("deliveries", "show", "guid-1", "--json").stdout)["state"] == "ready"
    world.drain()
    assert len(world.forge.written("rerun_failed_jobs")) == 1


def test_a_delivery_nobody_kept_is_a_no(heal: Heal) -> None:
    assert heal("deliveries", "show", "none").exit_code == 1
    assert heal("deliveries", "replay", "none").exit_code == 1


def test_deliveries_of_an_unknown_state_are_a_usage_error(heal: Heal) -> None:
    done = heal("deliveries", "list", "--state", "lost")
    assert done.exit_code == 2
    assert "ready" in done.output


def test_an_incident_is_shown_with_evidence_rules_diff_and_proof(heal: Heal, world: World) -> None:
    world.on_fix_branch("success")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    shown = heal("incidents", "show", "1").stdout
    assert "ArrayMemoryError" in shown
    assert "pass  mode:" in shown
    assert "+batch_size: 2048" in shown
    assert "proven" in shown
    assert "guid-1" in shown
    assert json.loads(heal("incidents", "show", "1", "--json").stdout)["line"]["state"] == "healed"
    assert [row["id"] for row in json.loads(heal("incidents", "list", "--state", "healed", "--json").stdout)] == [1]
    assert "host_oom" in heal("incidents", "list").stdout


def test_an_incident_that_is_not_there_is_a_no(heal: Heal) -> None:
    assert heal("incidents", "show", "5").exit_code == 1


def test_pause_stops_repairs_everywhere_until_resume(heal: Heal, world: World) -> None:
    assert heal("pause", "--reason", "an audit").exit_code == 0
    world.fail()
    world.drain()
    assert world.incident().state is State.OBSERVED
    shown = heal("incidents", "show", "1").stdout
    assert "STOP  app switch" in shown
    assert "an audit" in shown
    assert heal("resume").exit_code == 0
    world.fail()
    world.drain()
    assert world.incident().state is State.VERIFYING


def test_pause_of_one_repository_needs_its_name(heal: Heal, world: World) -> None:
    assert heal("pause", "--repository", "acme/nowhere").exit_code == 1
    world.fail()
    world.drain()
    assert heal("pause", "--repository", "acme/trainer").exit_code == 0
    with world.store.begin() as ledger:
        assert [switch.scope for switch in ledger.history(1, 1, 1).switches] == ["repository:1"]


def test_db_upgrade_is_done_twice_without_harm(heal: Heal) -> None:
    assert heal("db", "upgrade").exit_code == 0
    assert heal("db", "upgrade").exit_code == 0


def test_simulate_shows_the_rules_without_a_network(heal: Heal, tmp_path: Path) -> None:
    (tmp_path / "delivery.json").write_text(json.dumps(EXAMPLE))
    (tmp_path / "job.log").write_text(LOG)
    (tmp_path / "heal.yml").write_text("version: 1\nmode: auto\n")
    done = heal("simulate", "delivery.json", "--log", "job.log", "--job", "train", "--config", "heal.yml")
    assert done.exit_code == 0
    assert "act rerun_failed_jobs" in done.stdout
    assert "pass  mode:" in done.stdout
    quiet = heal("simulate", "delivery.json", "--log", "job.log", "--json")
    incident = json.loads(quiet.stdout)["incidents"][0]
    assert incident["finding"]["kind"] == "network_transient"
    assert incident["decision"]["verdict"] == "leave"


def test_simulate_takes_the_archive_that_githubs_run_page_downloads(heal: Heal, tmp_path: Path) -> None:
    (tmp_path / "delivery.json").write_text(json.dumps(EXAMPLE))
    with zipfile.ZipFile(tmp_path / "logs.zip", "w") as archive:
        archive.writestr("0_lint.txt", "2026-11-21T09:00:00.0000000Z all well\n")
        archive.writestr("1_train.txt", LOG)
        archive.writestr("train/1_Set up job.txt", "2026-11-21T09:00:00.0000000Z hello\n")
        archive.writestr("train/2_Run python train.py.txt", LOG)
    done = heal("simulate", "delivery.json", "--log", "logs.zip", "--job", "train", "--json")
    (incident,) = json.loads(done.stdout)["incidents"]
    assert incident["finding"]["kind"] == "network_transient"
    assert "Run python train.py" in {line["step"] for line in incident["finding"]["lines"]}
    missing = heal("simulate", "delivery.json", "--log", "logs.zip")
    assert missing.exit_code == 2
    assert "--job" in missing.output


def test_simulate_of_a_damaged_archive_is_a_usage_error(heal: Heal, tmp_path: Path) -> None:
    (tmp_path / "delivery.json").write_text(json.dumps(EXAMPLE))
    (tmp_path / "logs.zip").write_bytes(b"PK\x03\x04 cut off")
    done = heal("simulate", "delivery.json", "--log", "logs.zip", "--job", "train")
    assert done.exit_code == 2
    assert "archive" in done.output


def test_simulate_runs_no_detector_that_is_off(heal: Heal, tmp_path: Path) -> None:
    (tmp_path / "delivery.json").write_text(json.dumps(EXAMPLE))
    (tmp_path / "job.log").write_text(LOG)
    (tmp_path / "heal.yml").write_text("version: 1\nmode: auto\ndetectors: {pipeline_failure: off}\n")
    done = heal("simulate", "delivery.json", "--log", "job.log", "--config", "heal.yml", "--json")
    assert json.loads(done.stdout) == {
        "event": "workflow_run.failed of CI on main, attempt 1",
        "problems": [],
        "incidents": [],
    }


def test_simulate_takes_an_exported_delivery_with_its_event(heal: Heal, tmp_path: Path) -> None:
    (tmp_path / "delivery.json").write_text(json.dumps({"event": "star", "payload": {"action": "created"}}))
    assert "ignored" in heal("simulate", "delivery.json").stdout


def test_simulate_of_garbage_is_a_usage_error(heal: Heal, tmp_path: Path) -> None:
    (tmp_path / "delivery.json").write_text("{")
    done = heal("simulate", "delivery.json")
    assert done.exit_code == 2
    assert "JSON" in done.output


def test_what_a_repository_wrote_cannot_drive_the_terminal(heal: Heal, store: SqlStore) -> None:
    store.keep([Delivery("g", "github", "\x1b[31mred", "", b"{}", 1, 1, "acme/\x1b]0;title\x07x")])
    assert "\x1b" not in heal("deliveries", "list").stdout


def test_options_of_serve_are_checked_and_reach_the_processes_it_starts(
    heal: Heal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAL_WEB__HOST", "127.0.0.1")
    monkeypatch.setenv("HEAL_WEB__PORT", "8000")
    assert "HEAL_WEB__PORT" in heal("serve", "--port", "99999").output
    half = {"HEAL_GITHUB__APP_ID": "7"}  # refused for the missing key, after the options were taken
    heal("serve", "--host", "0.0.0.0", "--port", "8001", **half)
    assert Settings().web.host == "0.0.0.0"


def test_a_token_is_printed_once_and_listed_without_itself(world: World, heal: Heal) -> None:
    with world.store.begin() as ledger:
        ledger.remember_repository(world.forge.repository)
    made = heal("tokens", "create", "--repository", "acme/trainer", "--scope", "observations,signals", "--name", "ci")
    assert made.exit_code == 0
    text = made.stdout.strip()
    assert text.startswith("heal_")
    heal("tokens", "create", "--repository", "acme/trainer", "--expires", "90d")
    listed = json.loads(heal("tokens", "list", "--json").stdout)
    assert [(t["id"], t["name"], t["scopes"], t["expires_at"] is None) for t in listed] == [
        (2, "", ["observations"], False),
        (1, "ci", ["observations", "signals"], True),
    ]
    table = heal("tokens", "list").stdout
    assert "acme/trainer" in table
    assert text not in table
    assert heal("tokens", "revoke", "1").exit_code == 0
    assert heal("tokens", "revoke", "1").exit_code == 1
    assert json.loads(heal("tokens", "list", "--json").stdout)[1]["revoked_at"] is not None


def test_a_secret_for_mlflow_comes_with_the_address_of_its_webhook(world: World, heal: Heal) -> None:
    with world.store.begin() as ledger:
        ledger.remember_repository(world.forge.repository)
    made = json.loads(heal("tokens", "create", "--repository", "acme/trainer", "--kind", "mlflow", "--json").stdout)
    assert made["address"] == f"/api/v1/signals/mlflow/{made['id']}"
    assert made["token"].startswith("heal_")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--repository", "acme/nowhere"), 1, "acme/nowhere is not known here"),
        (("--repository", "acme/trainer", "--scope", "everything"), 2, "'everything' is none of"),
        (("--repository", "acme/trainer", "--expires", "soon"), 2, "is not a duration"),
        (("--repository", "acme/trainer", "--kind", "cookie"), 2, "'cookie' is none of"),
    ],
)
def test_a_token_that_cannot_be_made_is_told(
    world: World, heal: Heal, words: tuple[str, ...], code: int, says: str
) -> None:
    done = heal("tokens", "create", *words)
    assert (done.exit_code, says in done.stderr) == (code, True)


def test_a_link_that_signs_in_is_made_on_loopback_alone(heal: Heal) -> None:
    made = heal("sign-in-link")
    assert made.exit_code == 0, made.output
    assert made.stdout.startswith("http://127.0.0.1:8000/sign-in/link?token=")
    refused = heal("sign-in-link", HEAL_WEB__HOST="0.0.0.0")
    assert refused.exit_code == 2
    assert "HEAL_WEB__HOST" in refused.output
