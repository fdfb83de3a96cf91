"""What is not a webhook of GitHub's: the schedule, monitoring systems, models. Understood without I/O."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from app.adapters import signals
from app.domain.delivery import OBSERVATIONS, Delivery
from app.domain.event import AnyEvent, Ignored, ModelObserved, Ticked
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


def _received(delivery: Delivery) -> datetime:
    return delivery.received_at or datetime.now(UTC)


READERS: Mapping[str, Callable[[Delivery, Repository], AnyEvent | Ignored]] = {
    "schedule": _ticked,
    OBSERVATIONS: _observed,
    "alertmanager": signals.alertmanager,
    "samples": signals.samples,
    "cloudevents": signals.cloudevent,
    "mlflow": signals.mlflow,
}
