from sqlalchemy import update

from app.db.engine import writing
from app.db.tables import DeliveryRow
from app.domain.event import Ignored
from app.healing.work import perform
from app.ports.queue import Work
from tests.healing.world import World


def test_a_claimed_delivery_comes_with_its_claim_and_stays_when_the_lease_is_renewed(world: World) -> None:
    guid = world.arrive(Ignored("nothing follows from it"))
    lease = world.store.claim(Work.DELIVERY)
    assert lease is not None
    assert lease.delivery is not None
    assert (lease.delivery.guid, lease.delivery.body, lease.delivery.attempts) == (guid, b"{}", 1)
    assert world.store.renew(lease).delivery == lease.delivery


def test_a_body_that_cannot_be_unpacked_fails_its_own_delivery_and_not_the_worker(world: World) -> None:
    world.arrive(Ignored("nothing follows from it"))
    with writing(world.engine) as connection:
        connection.execute(update(DeliveryRow).values(body=b"not a frame"))
    assert perform(world.kit, Work.DELIVERY)
    assert world.delivery_states() == ["ready"]
    assert world.attempts(Work.DELIVERY) == 1
    assert not perform(world.kit, Work.DELIVERY)
