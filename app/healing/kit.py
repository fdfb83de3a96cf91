"""What every step of the loop works with."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from pydantic import BaseModel

from app.domain.delivery import Delivery
from app.domain.event import AnyEvent, Ignored
from app.domain.evidence import Annotation, Job, JobLog
from app.domain.tenant import Repository
from app.ports.advisories import Advisories, NoAdvisories
from app.ports.clock import Clock
from app.ports.forge import App
from app.ports.launcher import Launcher
from app.ports.models import Batch, Summaries
from app.ports.notifier import NoNotifier, Notifier
from app.ports.plugins import Action, Detector
from app.ports.registry import NoRegistry, Registry
from app.ports.resolver import Resolver
from app.ports.signals import Signals
from app.ports.store import Store
from app.ports.watch import Watch
from app.ports.workflows import WorkflowCheck
from app.security.marker import marker


class Recent:
    """What never changes, such as the jobs of a run that is over: fetched once by each process. Safe for threads."""

    def __init__(self, most: int = 3_000) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, ...], Any] = OrderedDict()

    def get(self, key: tuple[object, ...]) -> Any:
        with self._lock:
            return self._kept.get(key)

    def keep(self, key: tuple[object, ...], value: Any) -> None:
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


def onwards(_: str) -> None:
    """Steps are passed in silence, except in the tests that stop there."""


@dataclass(frozen=True)
class Kit:
    """Built once by `app.wiring`.

    `parse` turns a delivery into an event (with the repository it was sent for, where it is not GitHub's); `read_log` a
    raw job log into evidence, `read_green` one of a job that passed into the templates of its lines, `read_batch` a
    delivery into a model's observations, of which `summaries` says what is kept; `signals`, where there is any, is the
    monitoring that may be asked, `watch` what the operator has us look at, `recent` the jobs of runs that are over;
    `look_every_s` is how often a repair without proof is looked at, `renew_every_s` how often a lease is renewed,
    `tick_every_s` how often the detectors look at what sends no events; `passing` is told each named step on the way.
    """

    store: Store
    app: App
    detectors: Mapping[str, Detector]
    actions: Mapping[str, Action]
    resolver: Resolver
    clock: Clock
    parse: Callable[[Delivery, Repository | None], AnyEvent | Ignored]
    read_log: Callable[[BinaryIO, Job, Sequence[Annotation]], JobLog]
    read_green: Callable[[BinaryIO], frozenset[int]]
    read_batch: Callable[[Delivery], Batch]
    summaries: Summaries
    signals: Signals | None = None
    watch: Watch | None = None
    recent: Recent = field(default_factory=Recent)
    advisories: Advisories = field(default_factory=NoAdvisories)
    registry: Registry = field(default_factory=NoRegistry)
    launchers: Mapping[str, Launcher] = field(default_factory=dict)
    notifier: Notifier = field(default_factory=NoNotifier)
    workflow_check: WorkflowCheck | None = None
    dashboard_url: str = ""
    look_every_s: float = 60.0
    tick_every_s: float = 900.0
    renew_every_s: float = 10.0
    passing: Callable[[str], None] = onwards

    @property
    def settings(self) -> dict[str, type[BaseModel] | None]:
        """Every detector's kind, and the model of its settings in heal.yml."""
        return {kind: detector.Settings for kind, detector in self.detectors.items()}

    @property
    def params_of(self) -> dict[str, type[BaseModel]]:
        """Every action's kind, and the model of its parameters."""
        return {kind: action.Params for kind, action in self.actions.items()}

    def mark(self, effect_key: str) -> str:
        """The signed mark by which we recognise our own comments and issues."""
        return marker(self.store.secret("markers"), effect_key)

    def params(self, action: str, values: Mapping[str, Any]) -> Any:
        """Checked against the action's own model; pydantic's ValidationError names what does not fit."""
        return self.actions[action].Params.model_validate(dict(values))
