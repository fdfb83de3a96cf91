"""A training fails for want of memory, twice, and nobody has to be there: with a real limit, a real MLflow server, and
what was trained in the place of the degraded model."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db.engine import reading
from app.db.reads import IncidentDetail
from app.db.tables import IncidentRow
from app.domain.incident import State
from tests.e2e.conftest import Staged
from tests.e2e.stage import HANG_S, Stage, wait_for
from tests.e2e.test_models import LABELLED, NOW, Trainer, planned, sheet
from tests.services import Server

ENDED = frozenset({State.HEALED, State.RECOVERED, State.ESCALATED, State.DISMISSED, State.OBSERVED})
BATCH, ACCUMULATE = 16, 1
MEMORY_MIB = 1_700


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the launcher keeps its runs."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def bot(staged: Staged, mlflow_server: Server, runs: Path) -> Iterator[Stage]:
    settings = {
        "HEAL_LAUNCHER__COMMAND": f"{sys.executable} {Path(__file__).with_name('hungry_workload.py')}",
        "HEAL_LAUNCHER__DIRECTORY": str(runs),
        "HEAL_LAUNCHER__MEMORY_MIB": str(MEMORY_MIB),
        "HEAL_LAUNCHER__PASS_ON": "MLFLOW_TRACKING_URI",
        "MLFLOW_TRACKING_URI": mlflow_server.url,
        "HEAL_MLFLOW__TRACKING_URI": mlflow_server.url,
        "HEAL_MLFLOW__MODELS": "*/hungry-*=churn-*,*/speech-*=churn-*",
        "HEAL_MLFLOW__TIMEOUT_S": "60",
        "HEAL_HEALING__LOOK_EVERY_S": "1",
    }
    with staged("embedded", settings) as made:
        made.start_killable()
        yield made


def incidents(bot: Stage, repository: str) -> list[IncidentDetail]:
    wanted = select(IncidentRow.id).where(IncidentRow.repository == repository).order_by(IncidentRow.id)
    with reading(bot.engine) as connection:
        found = [bot.reads.incident(number) for number in connection.scalars(wanted)]
    return [incident for incident in found if incident is not None]


def ended(bot: Stage, repository: str, many: int) -> list[IncidentDetail]:
    """The repository's incidents, once there are so many and nothing is done about any of them any more."""

    def found() -> list[IncidentDetail] | None:
        there = incidents(bot, repository)
        return there if len(there) == many and all(each.line.state in ENDED for each in there) else None

    try:
        return wait_for(f"{many} incidents to end", found, within_s=3 * HANG_S)  # torch is loaded twice
    except AssertionError as error:
        raise AssertionError(f"{error}\n{stories(bot, repository)}") from None


def stories(bot: Stage, repository: str) -> str:
    lines = []
    for incident in incidents(bot, repository):
        lines += ["", str(incident.line)]
        lines += [f"{each.at:%T} {each.kind} {json.dumps(dict(each.data))[:400]}" for each in incident.timeline]
    return "\n".join(lines)


def entries(incident: IncidentDetail, kind: str) -> list[dict[str, object]]:
    return [dict(entry.data) for entry in incident.timeline if entry.kind == kind]


def test_a_training_that_runs_out_of_memory_is_resumed_until_it_fits_and_its_model_serves(
    bot: Stage, mlflow_server: Server, tmp_path: Path, runs: Path
) -> None:
    team = Trainer(bot, mlflow_server, tmp_path, name="hungry")
    (team.scratch / "data/labelled.csv").write_text(sheet(3, LABELLED, NOW))
    settings = f"rounds: 300, batch: {BATCH}, accumulate: {ACCUMULATE}, folder: {team.scratch}"
    by_workload = (
        team.files[".github/heal.yml"]
        .replace("workflow: train.yml", "workload: churn")
        .replace("inputs: {rounds: 300}", f"settings: {{{settings}}}")
    )
    bot.push(team.name, {".github/heal.yml": by_workload})
    team.degrade()
    model, run = ended(bot, team.name, 2)
    assert (model.line.state, run.line.state) == (State.HEALED, State.HEALED), stories(bot, team.name)

    assert (run.finding.kind, run.finding.subject) == ("host_oom", "workload churn / train (model churn)")
    resumed = [told["data"]["changes"] for told in entries(run, "applied")]  # type: ignore[index]
    assert resumed == [{"batch": "8", "accumulate": "2"}, {"batch": "4", "accumulate": "4"}]
    assert planned(model) == {"retrain_model": "", "promote_model": ""}
    assert not entries(model, "asked") + entries(run, "asked")
    for incident in (model, run):
        seen = entries(incident, "progress") + entries(incident, "proven")
        assert "from step 3 with 4 times 4" in str(seen)  # the end of the newest run's log

    steps = [json.loads(path.read_text()) for path in runs.glob("*/out/steps.json")]
    assert sorted(map(len, steps)) == [2, 3, 4]
    assert {examples for each in steps for examples in each} == {BATCH * ACCUMULATE}
    assert team.champion() == 2
    version = team.version(2)
    assert version.metrics["accuracy"] > team.version(1).metrics["accuracy"] + 0.05
    assert json.loads(version.tags["heal.inputs"])["batch"] == "4"
    bot.settle()
    assert len(list(runs.glob("*/out"))) == 3


def test_a_separation_of_speech_that_runs_out_of_memory_is_resumed_and_registers_its_model(
    bot: Stage, mlflow_server: Server, tmp_path: Path, runs: Path
) -> None:
    """The workload that comes with the bot, in a process that the kernel gives no more memory."""
    team = Trainer(bot, mlflow_server, tmp_path, name="speech")
    settings = {"preset": "tiny", "steps": 1, "batch": 64, "seconds": 1, "threads": 1, "device": "cpu", "warmup": 0}
    settings |= {"validate_every": 0, "checkpoint_every": 1}
    trained = {"workload": "av_separation", "settings": settings, "timeout": "10m"}
    rules = {"task": "binary", "registry": team.registered, "retrain": trained}
    # what it registers has no rows of customers that a gate could compare
    playbooks = {"model_degraded": ["retrain_model", "open_issue"]}
    config = {"version": 1, "mode": "auto", "models": {"churn": rules}, "playbooks": playbooks}
    bot.push(team.name, {".github/heal.yml": json.dumps(config)})
    before = set(runs.iterdir())
    team.degrade()
    model, run = ended(bot, team.name, 2)
    assert (model.line.state, run.line.state) == (State.HEALED, State.HEALED), stories(bot, team.name)

    assert (run.finding.kind, run.finding.subject) == ("host_oom", "workload av_separation / train (model churn)")
    assert run.finding.facts["told"]["batch"] == 64
    resumed = [told["data"]["changes"] for told in entries(run, "applied")]  # type: ignore[index]
    assert 1 <= len(resumed) <= 2
    assert {int(told["batch"]) * int(told["accumulate"]) for told in resumed} == {64}
    assert not entries(model, "asked") + entries(run, "asked")
    ends = [json.loads(path.read_text()) for path in runs.glob("*/out/report.json") if path.parents[1] not in before]
    assert sorted(each["outcome"] for each in ends) == ["failed"] * len(resumed) + ["succeeded"]
    assert team.version(2).tags["heal.trained_by"] == "av_separation"
    assert json.loads(team.version(2).tags["heal.inputs"])["batch"] == resumed[-1]["batch"]
