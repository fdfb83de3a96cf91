"""What is not a webhook of GitHub's: the schedule, monitoring systems, models. Understood without I/O."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import orjson

from app.adapters import signals
from app.domain.delivery import OBSERVATIONS, RUNS, Delivery
from app.domain.errors import Malformed
from app.domain.event import AnyEvent, Ignored, ModelObserved, Ticked, WorkloadFailed, WorkloadSucceeded
from app.domain.run import run_from_json
from app.domain.tenant import Repository, Sender


def interpret(delivery: Delivery, repository: Repository) -> AnyEvent | Ignored:
    """What happened in `repository`, for which the delivery was accepted. Raises Malformed."""
    read = READERS.get(delivery.source)
    return read(delivery, repository) if read else Ignored(f"{delivery.source} is not a source that the bot knows")


def _ticked(delivery: Delivery, repository: Repository) -> Ticked:
    return Ticked(repository=repository, sender=Sender("schedule", is_bot=True), at=_received(delivery))


def _observed(delivery: Delivery, repository: Repository) -> ModelObserved:
    """The rows are read when they are taken in (healing.observe); until then nobody knows the window."""
    sender = Sender("observations", is_bot=True)
    return ModelObserved(repository=repository, sender=sender, model=delivery.action, window="")


def _ended(delivery: Delivery, repository: Repository) -> WorkloadFailed | WorkloadSucceeded:
    """How a run on a launcher ended. Raises Malformed."""
    try:
        told = orjson.loads(delivery.body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {str(error)[:200]}") from None
    if not isinstance(told, dict):
        raise Malformed("not a JSON object")
    run = run_from_json(told)
    sender = Sender(run.launcher, is_bot=True)
    if run.failure is None:
        return WorkloadSucceeded(repository=repository, sender=sender, run=run)
    return WorkloadFailed(repository=repository, sender=sender, run=run)


def _received(delivery: Delivery) -> datetime:
    return delivery.received_at or datetime.now(UTC)


READERS: Mapping[str, Callable[[Delivery, Repository], AnyEvent | Ignored]] = {
    "schedule": _ticked,
    OBSERVATIONS: _observed,
    RUNS: _ended,
    "alertmanager": signals.alertmanager,
    "samples": signals.samples,
    "cloudevents": signals.cloudevent,
    "mlflow": signals.mlflow,
}
