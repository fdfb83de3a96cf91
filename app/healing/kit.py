"""What every step of the loop works with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from app.domain.delivery import Delivery
from app.domain.event import AnyEvent, Ignored
from app.domain.evidence import Annotation, Job, JobLog
from app.ports.clock import Clock
from app.ports.forge import App
from app.ports.plugins import Action, Detector
from app.ports.resolver import Resolver
from app.ports.store import Store
from app.security.marker import marker


def onwards(_: str) -> None:
    """Steps are passed in silence, except in the tests that stop there."""


@dataclass(frozen=True)
class Kit:
    """Built once by `app.wiring`.

    `parse` turns a delivery into an event; `read_log` a raw job log into evidence;
    `look_every_s` is how often a repair without proof is looked at, `renew_every_s` how
    often a lease is renewed; `passing` is told each named step on the way.
    """

    store: Store
    app: App
    detectors: Mapping[str, Detector]
    actions: Mapping[str, Action]
    resolver: Resolver
    clock: Clock
    parse: Callable[[Delivery], AnyEvent | Ignored]
    read_log: Callable[[BinaryIO, Job, Sequence[Annotation]], JobLog]
    dashboard_url: str = ""
    look_every_s: float = 60.0
    renew_every_s: float = 10.0
    passing: Callable[[str], None] = onwards

    def mark(self, effect_key: str) -> str:
        """The signed mark by which we recognise our own comments and issues."""
        return marker(self.store.secret("markers"), effect_key)

    def params(self, action: str, values: Mapping[str, Any]) -> Any:
        """Checked against the action's own model; pydantic's ValidationError names what does not fit."""
        return self.actions[action].Params.model_validate(dict(values))
