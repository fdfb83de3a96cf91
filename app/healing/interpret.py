"""Turn a delivery into what happened."""

from app.domain.delivery import GITHUB, Delivery
from app.domain.errors import Malformed
from app.domain.event import AnyEvent, Ignored
from app.healing.kit import Kit


def interpret(kit: Kit, delivery: Delivery) -> AnyEvent | Ignored:
    """The event, or the reason there is none. A delivery that cannot be read is a reason too, not a failure."""
    repository = None
    if delivery.source != GITHUB:
        with kit.store.begin() as ledger:
            repository = ledger.repository(delivery.repository_id or 0)
        if repository is None:
            return Ignored("the App is not installed on this repository any more")
    try:
        return kit.parse(delivery, repository)
    except Malformed as error:
        return Ignored(f"cannot be read: {error}")
