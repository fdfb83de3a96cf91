"""What would be decided about a delivery, and by which rules. No network, no database, no effect."""

from app import simulation
from app.domain.errors import Malformed
from app.simulation import NoSuchJob, Simulation


def simulate(body: bytes, *, event: str, config: str | None, log: bytes | None, job: str) -> Simulation:
    """`config` is the text of a heal.yml. Raises Malformed."""
    try:
        return simulation.simulate(body, event=event, config=simulation.configured(config), log=log, job=job)
    except NoSuchJob as error:
        raise Malformed(f"{error}; name one by --job") from error
