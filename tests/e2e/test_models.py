"""A model gets worse, is trained anew by its own repository's workflow, and is promoted if it is better: with a real
MLflow server, and a training that really trains."""

import io
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.adapters.mlflow import Mlflow
from app.db.reads import IncidentDetail
from app.domain.incident import State
from app.ports.registry import Version
from tests.e2e.conftest import Staged
from tests.e2e.stage import Stage, wait_for
from tests.e2e.test_signals import Team
from tests.services import Server

REPOSITORY = Path(__file__).with_name("retraining")
THEN, NOW = (1.5, 1.0, 0.0), (0.0, 1.0, 1.5)  # what made customers leave, and what does
LABELLED, HELD_OUT, SERVED = 3_000, 2_000, 4_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the launcher keeps its runs."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def bot(staged: Staged, mlflow_server: Server, runs: Path) -> Iterator[Stage]:
    settings = {
        "HEAL_LAUNCHER__COMMAND": f"{sys.executable} {Path(__file__).with_name('workload.py')}",
        "HEAL_LAUNCHER__DIRECTORY": str(runs),
        "HEAL_LAUNCHER__PASS_ON": "MLFLOW_TRACKING_URI",
        "MLFLOW_TRACKING_URI": mlflow_server.url,
        "HEAL_MLFLOW__TRACKING_URI": mlflow_server.url,
        "HEAL_MLFLOW__MODELS": "*/retrained-*=churn-*",
        "HEAL_MLFLOW__TIMEOUT_S": "60",
        "HEAL_HEALING__LOOK_EVERY_S": "1",
    }
    with staged("embedded", settings) as made:
        made.start_killable()
        yield made


def customers(seed: int, rows: int, why: tuple[float, ...]) -> tuple[Any, Any]:
    """Features, always alike, and who left."""
    dice = np.random.default_rng(seed)
    features = dice.normal(size=(rows, 3))
    return features, (features @ why + dice.logistic(scale=0.3, size=rows) > 0).astype(int)


def sheet(seed: int, rows: int, why: tuple[float, ...]) -> str:
    features, left = customers(seed, rows, why)
    lines = ["id,visits,spent,calls,left"]
    lines += [
        f"c{seed}-{n},{','.join(f'{value:.6f}' for value in row)},{said}"
        for n, (row, said) in enumerate(zip(features, left, strict=True))
    ]
    return "\n".join(lines) + "\n"


def planned(incident: IncidentDetail) -> dict[str, str]:
    """Action → why its plan was refused, "" if it was not; in their order."""
    return {entry.data["action"]: entry.data["refusal"] for entry in incident.timeline if entry.kind == "planned"}


class Trainer(Team):
    """A repository with a model that serves: trained on what was known then."""

    def __init__(self, bot: Stage, mlflow: Server, scratch: Path, name: str = "retrained") -> None:
        suffix = uuid.uuid4().hex[:8]
        self.registered, self.url = f"churn-{suffix}", mlflow.url
        self.registry = Mlflow(mlflow.url, timeout_s=60)
        self.scratch = scratch
        self.files = {
            str(path.relative_to(REPOSITORY)): path.read_text()
            .replace("churn-model", self.registered)
            .replace("http://mlflow.example", mlflow.url)
            for path in sorted(REPOSITORY.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }
        self.files["data/labelled.csv"] = sheet(1, LABELLED, THEN)
        self.files["data/held_out.csv"] = sheet(2, HELD_OUT, NOW)
        self.make_the_champion()
        super().__init__(bot, f"{name}-{suffix}", self.files)

    def make_the_champion(self) -> None:
        """As the team did it: with the same program, on their own machine."""
        for path, text in self.files.items():
            (self.scratch / path).parent.mkdir(parents=True, exist_ok=True)
            (self.scratch / path).write_text(text)
        environment = {"MLFLOW_TRACKING_URI": self.url, "ROUNDS": "300", "GITHUB_SHA": "0" * 40}
        subprocess.run([sys.executable, "train.py"], cwd=self.scratch, env=environment, check=True)
        self.weights = np.load(io.BytesIO(self.artefact(1, "model/weights.npy")))
        self.registry.point(self.registered, "champion", 1)

    def artefact(self, number: int, path: str) -> bytes:
        found = self.registry.file(self.version(number), path, most_bytes=1 << 20)
        assert found is not None
        return found

    def version(self, number: int) -> Version:
        found = self.registry.version(self.registered, number)
        assert found is not None
        return found

    def champion(self) -> int:
        found = self.registry.aliased(self.registered, "champion")
        assert found is not None
        return found.number

    def observed(self, seed: int, why: tuple[float, ...]) -> pa.Table:
        """What the champion said of customers, and what they did."""
        features, left = customers(seed, SERVED, why)
        score = 1 / (1 + np.exp(-(self.weights[0] + features @ self.weights[1:])))
        columns = {name: features[:, n] for n, name in enumerate(("visits", "spent", "calls"))}
        return pa.table({**columns, "prediction": (score >= 0.5).astype(int), "score": score, "label": left})

    def degrade(self) -> None:
        self.done(self.send(self.observed(11, THEN), role="reference"))
        self.done(self.send(self.observed(12, NOW), window="monday", close="true"))


@pytest.fixture
def team(bot: Stage, mlflow_server: Server, tmp_path: Path) -> Trainer:
    return Trainer(bot, mlflow_server, tmp_path)


DEATHS = (
    "write 1 of retrain_model",  # the workflow is started, and nobody knows its run
    "applied retrain_model",
    "write 2 of promote_model",  # after the rehearsal
    "write 4 of promote_model",  # the champion has moved, or is about to
)


@pytest.mark.parametrize("deaths", [(), DEATHS], ids=["", "killed"])
def test_a_degraded_model_is_trained_anew_and_the_better_version_serves(
    bot: Stage, team: Trainer, deaths: tuple[str, ...]
) -> None:
    """Also when the bot is killed again and again on the way."""
    sha = bot.push(team.name, {"data/labelled.csv": sheet(3, LABELLED, NOW)})
    bot.settle()
    if deaths:
        draft = bot.order.with_suffix(".draft")
        draft.write_text("\n".join(f"kill {step}" for step in deaths))
        os.replace(draft, bot.order)
    team.degrade()
    incident = bot.wait_for(team.name, State.HEALED, State.ESCALATED)
    assert incident.line.state is State.HEALED, bot.story(team.name)
    assert incident.line.kind == "model_degraded"
    assert planned(incident) == {"retrain_model": "", "promote_model": ""}
    (run,) = bot.runs(team.name)
    assert (run.event, run.head_sha, run.conclusion) == ("workflow_dispatch", sha, "success")
    assert team.champion() == 2
    new, old = team.version(2), team.version(1)
    assert new.metrics["accuracy"] > old.metrics["accuracy"] + 0.05
    assert (new.code_sha, new.tags["heal.run_id"]) == (sha, str(run.id))
    assert new.tags["heal.inputs"] == '{"rounds": "300"}'
    assert team.registry.aliased(team.registered, "previous") == old
    bot.settle()
    assert not bot.order.exists(), f"the bot did not die at: {bot.order.read_text()}"
    assert len(bot.runs(team.name)) == 1
    bot.nothing_twice(team.name)
    bot.nothing_lost()


def test_a_version_that_is_not_better_is_not_promoted_and_a_person_is_asked(bot: Stage, team: Trainer) -> None:
    """The team has no newer labels: the new version is as good as the old one."""
    team.degrade()
    incident = bot.wait_for(team.name, State.HEALED, State.ESCALATED)
    assert incident.line.state is State.ESCALATED, bot.story(team.name)
    assert list(planned(incident)) == ["retrain_model", "promote_model", "open_issue"]
    assert team.champion() == 1
    assert team.registry.aliased(team.registered, "previous") is None
    assert team.version(2).tags["heal.id"]
    assert "the gate is closed" in planned(incident)["promote_model"]
    bot.settle()
    assert team.champion() == 1


def test_a_training_that_registers_nothing_is_told_to_a_person(bot: Stage, team: Trainer) -> None:
    bot.push(team.name, {"train.py": "print('fitted, and kept for myself')\n"})
    team.degrade()
    incident = bot.wait_for(team.name, State.ESCALATED)
    assert list(planned(incident)) == ["retrain_model", "open_issue"]
    (reason,) = [entry.data["reason"] for entry in incident.timeline if entry.kind == "disproven"]
    assert "registered no new version" in reason
    assert team.champion() == 1


def test_a_training_that_a_person_takes_back_is_cancelled(bot: Stage, team: Trainer) -> None:
    bot.push(team.name, {"train.py": "import time\n\nprint('epoch 1', flush=True)\ntime.sleep(600)\n"})
    issue = bot.act("POST", f"/repos/{team.name}/issues", {"title": "Who trains here?"})["number"]
    team.degrade()
    told = bot.wait_for_entry(team.name, "progress").data["text"]
    assert told.startswith("train is ")
    incident = bot.incident(team.name)
    assert incident is not None
    bot.say(team.name, issue, f"/heal undo {incident.line.id}")
    bot.wait_for(team.name, State.DISMISSED)
    bot.settle()
    (run,) = bot.runs(team.name)
    assert run.conclusion == "cancelled"
    assert (team.champion(), team.registry.version(team.registered, 2)) == (1, None)


def test_a_workload_outlives_the_bot_and_what_it_made_is_promoted(bot: Stage, team: Trainer, runs: Path) -> None:
    (team.scratch / "data/labelled.csv").write_text(sheet(3, LABELLED, NOW))
    by_workload = (
        team.files[".github/heal.yml"]
        .replace("workflow: train.yml", "workload: churn")
        .replace("inputs: {rounds: 300}", f"settings: {{rounds: 300, folder: {team.scratch}}}")
    )
    bot.push(team.name, {".github/heal.yml": by_workload})
    team.degrade()
    began = wait_for("the workload to begin", lambda: next(iter(runs.glob("*/out/began")), None))
    assert "churn: train in" in bot.wait_for_entry(team.name, "progress").data["text"]
    bot.processes["web"].kill()
    (began.parent / "go").touch()
    bot.go()
    incident = bot.wait_for(team.name, State.HEALED, State.ESCALATED)
    assert incident.line.state is State.HEALED, bot.story(team.name)
    assert (team.champion(), bot.runs(team.name)) == (2, [])
    assert team.version(2).tags["heal.trained_by"] == "churn"
    assert team.version(2).code_sha == "5" * 40
    bot.settle()
    assert len(list(runs.glob("*/spec.json"))) == 1


def test_a_repository_that_was_not_given_the_model_is_refused(
    bot: Stage, mlflow_server: Server, tmp_path: Path
) -> None:
    stranger = Trainer(bot, mlflow_server, tmp_path, name="stranger")
    stranger.degrade()
    incident = bot.wait_for(stranger.name, State.HEALED, State.ESCALATED)
    assert "HEAL_MLFLOW__MODELS" in planned(incident)["retrain_model"]
    assert bot.runs(stranger.name) == []
