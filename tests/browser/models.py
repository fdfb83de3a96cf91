"""A model as it looks after some weeks: a reference, windows of which the last one drifted, a promotion that waits
behind its gate, a benchmark, samples with a limit. Made by the product's own hands, with GitHub and the registry in
memory."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
from sqlalchemy import Engine

from app.adapters import sources
from app.db.store import SqlStore
from app.domain.delivery import Delivery
from app.domain.policy import CONFIG_PATH
from app.domain.signal import Series
from app.domain.tenant import Repository
from app.healing.kit import Kit
from app.ports.forge import App, Forge
from app.ports.queue import Work
from tests.actions.trials import classes
from tests.browser.site import wired_for
from tests.healing.test_benchmark import WORKFLOW, report
from tests.healing.world import World
from tests.twins.forge import MemoryApp
from tests.twins.registry import MemoryRegistry
from tests.web.people import add_repository

MODEL = "churn"
REFERENCE, CURRENT = "reference", "current"
CONFIG = """\
version: 1
mode: auto
actions:
  promote_model: approve
watch: 3d
models:
  churn:
    task: binary
    columns: {prediction: said, score: sure, label: left}
    registry: acme-churn
    evaluation: heal/evaluation.jsonl
    importance: {age: 2}
playbooks:
  data_drift:
    - action: promote_model
      params: {version: 3}
  model_degraded:
    - action: benchmark_model
      params: {workflow: benchmark.yml, ref: main}
    - open_issue
"""


class Silent:
    """A doorbell that nobody hears: the work is done here."""

    def ring(self, work: Work, row_id: int) -> None:
        pass

    def reachable(self) -> bool:
        return True


def observations(seed: int, rows: int, *, older: float = 0.0, wrong: float = 0.1) -> dict[str, list[Any]]:
    """Customers, and what was said of them; `older` years than usual, a share `wrong` of the answers."""
    chance = np.random.default_rng(seed)
    left = chance.random(rows) < 0.3
    said = np.where(chance.random(rows) < wrong, ~left, left)
    countries = ["de", "fr", "jp", *(["<b>nz</b>"] if older else [])]
    return {
        "age": (chance.normal(41, 11, rows) + older).round(1).tolist(),
        "income": chance.lognormal(10, 0.6, rows).round(0).tolist(),
        "country": chance.choice(countries, rows).tolist(),
        "said": said.astype(int).tolist(),
        "sure": np.where(said, 0.82, 0.18).tolist(),
        "left": left.astype(int).tolist(),
    }


def rows_of(columns: dict[str, Any]) -> bytes:
    told = {name: np.asarray(values).tolist() for name, values in columns.items()}
    size = len(told["label"])
    lines = ({"id": f"r{at}", **{name: values[at] for name, values in told.items()}} for at in range(size))
    return b"\n".join(json.dumps(line).encode() for line in lines)


def trained(engine: Engine) -> World:
    """The repository acme/trainer with its model. The world's kit knows its GitHub and its registry."""
    world = World(engine, SqlStore(engine, Silent()), look_every_s=3600.0)
    object.__setattr__(world.kit, "registry", registered())
    told = world.kit.parse
    object.__setattr__(
        world.kit,
        "parse",
        lambda delivery, home: (
            sources.interpret(delivery, home) if delivery.source == "observations" else told(delivery, home)
        ),
    )
    world.project(CONFIG)
    world.forge.push("main", {".github/workflows/benchmark.yml": WORKFLOW})
    with world.store.begin() as ledger:
        ledger.remember_repository(world.forge.repository)
        ledger.remember_installation(1, "acme", "selected")
        ledger.models.add_samples(world.forge.repository.id, [memory()])
    send(world, REFERENCE, REFERENCE, observations(1, 3_000))
    for day, (older, wrong) in enumerate(((0.0, 0.1), (0.3, 0.11), (14.0, 0.24)), start=18):
        send(world, CURRENT, f"2026-11-{day}", observations(day, 1_500, older=older, wrong=wrong))
    send(world, CURRENT, "", {}, run="run-acme-churn-3", curves=losses())
    world.drain()
    measure(world)
    return world


def fill_models(engine: Engine) -> None:
    add_repository(engine, 7, "acme/vision")
    trained(engine)


class Partly:
    """The App, whose GitHub is away, but for the repository with the model."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._here = MemoryApp().add("acme/trainer")
        self._here.push("main", {CONFIG_PATH: CONFIG})

    def forge(self, repository: Repository) -> Forge:
        return self._here if repository.id == self._here.repository.id else self._app.forge(repository)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)


def kit_for(engine: Engine) -> Kit:
    """The product's own, on that database, which knows what GitHub and the registry say of the model."""
    kit = wired_for(engine).kit
    return replace(kit, app=cast(App, Partly(kit.app)), registry=registered())


def registered() -> MemoryRegistry:
    """Versions 1 to 3: the second serves, the third has held-out rows on which it is better."""
    registry = MemoryRegistry()
    before, after = (rows_of(side) for side in classes(np.random.default_rng(1), 4_000, gain=0.04))
    for alias, accuracy, body in (("previous", 0.79, before), ("champion", 0.82, before), ("", 0.86, after)):
        registry.add(
            "acme-churn",
            alias=alias,
            code_sha="5f3a9c1e" * 5,
            data_version="2026-10",
            metrics={"accuracy": accuracy, "log_loss": 0.4},
            files={"heal/evaluation.jsonl": body},
        )
    return registry


def memory() -> Series:
    start = datetime(2026, 11, 18, tzinfo=UTC).timestamp()
    points = tuple((start + 600.0 * at, 8e9 + 1.1e7 * at) for at in range(400))
    return Series("gpu_memory_used_bytes", points, {"model": MODEL, "pod": "churn-0"}, limit=16e9)


def losses() -> dict[str, list[list[float]]]:
    steps = range(0, 2_000, 100)
    return {
        "train_loss": [[step, 2.0 / (1 + step / 200)] for step in steps],
        "val_loss": [[step, 2.1 / (1 + step / 240) + 0.05] for step in steps],
        "accuracy": [[step, 0.86 - 0.4 / (1 + step / 150)] for step in steps],
    }


def send(world: World, role: str, window: str, columns: dict[str, list[Any]], **more: Any) -> None:
    body: dict[str, Any] = {"role": role, "window": window, "close": bool(columns) and role == CURRENT, **more}
    if columns:
        body["columns"] = columns
    told = json.dumps({name: value for name, value in body.items() if value}).encode()
    home = world.forge.repository
    headers = {"content-type": "application/json"}
    guid = f"observed-{window or 'curves'}"
    world.store.keep(
        [Delivery(guid, "observations", "observations", MODEL, told, 1, home.id, home.full_name, headers, NOW)]
    )


NOW = datetime.now(UTC) - timedelta(hours=2)


def measure(world: World) -> None:
    """The benchmark that a worse model has asked for runs to its end."""
    for dispatched in world.forge.written("dispatch"):
        run_id = int(dispatched["run_id"])
        world.forge.upload(run_id, "heal-benchmark", {"benchmark.json": report(10.0, 1)})
        world.finish(run_id, "success")
    world.drain()
