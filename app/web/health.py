"""Whether the process lives, whether it can serve, and numbers about both."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from app.db import migrate
from app.db.vitals import LATE_S, Vitals
from app.domain.errors import Unreachable
from app.ports.queue import Doorbell, Work


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing that was looked at. `hint` says what to do when it is not well."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


def probe(engine: Engine, bell: Doorbell, working: Callable[[], bool]) -> list[Probe]:
    """Database, migrations, broker, workers of this process, and the age of the oldest delivery that waits."""
    try:
        behind = migrate.pending(engine)
        age_s = Vitals(engine).oldest_due_s(Work.DELIVERY)
    except Unreachable as error:
        return [Probe("database", False, str(error), "start it, or correct HEAL_DATABASE__URL")]
    return [
        Probe("database", True, engine.dialect.name),
        Probe("migrations", not behind, "behind" if behind else "current", "run `heal db upgrade`" if behind else ""),
        _broker(bell),
        Probe("workers", working(), "", "" if working() else "a worker thread has died; see the log and restart"),
        Probe(
            "oldest delivery",
            age_s < LATE_S,
            f"waits for {age_s:.0f} s",
            "" if age_s < LATE_S else "start more workers: `heal worker`",
        ),
    ]


def _broker(bell: Doorbell) -> Probe:
    """A broker that is away slows the loop to its poll; it loses nothing, so it does not take us out of service."""
    heard = bell.reachable()
    return Probe("broker", True, "reachable" if heard else "away: due rows are found by the poll")


class Numbers(Collector):
    """Read from the database at each scrape, so that they are true whoever did the work and whoever is asked."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        rows = self._vitals.numbers()
        for name, help_text, labels in (
            ("heal_deliveries", "Deliveries kept, by state", ("state",)),
            ("heal_incidents", "Incidents, by state and kind", ("state", "kind")),
            ("heal_repairs", "Repairs, by action and state", ("action", "state")),
            ("heal_effects", "Side effects, by kind and state", ("kind", "state")),
        ):
            family = GaugeMetricFamily(name, help_text, labels=labels)
            for values, count in rows[name]:
                family.add_metric(values, count)
            yield family
        waiting = GaugeMetricFamily("heal_oldest_due_seconds", "How long the oldest due row waits", labels=("work",))
        for work in Work:
            waiting.add_metric((str(work),), self._vitals.oldest_due_s(work))
        yield waiting


def routes(engine: Engine, bell: Doorbell, working: Callable[[], bool]) -> list[BaseRoute]:
    """`/livez`, `/readyz`, `/metrics`."""
    registry = CollectorRegistry()
    registry.register(Numbers(Vitals(engine)))

    def livez(_: Request) -> Response:
        alive = working()
        return JSONResponse({"alive": alive}, 200 if alive else 503)

    def readyz(_: Request) -> Response:
        probes = probe(engine, bell, working)
        ready = all(p.ok for p in probes)
        return JSONResponse({"ready": ready, "probes": [asdict(p) for p in probes]}, 200 if ready else 503)

    def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]
