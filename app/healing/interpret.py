"""Turn a delivery into what happened."""

from app.domain.delivery import Delivery
from app.domain.errors import Malformed
from app.domain.event import AnyEvent, Ignored
from app.healing.kit import Kit


def interpret(kit: Kit, delivery: Delivery) -> AnyEvent | Ignored:
    """The event, or the reason there is none. A delivery that cannot be read is a reason too, not a failure."""
    try:
        return kit.parse(delivery)
    except Malformed as error:
        return Ignored(f"cannot be read: {error}")
