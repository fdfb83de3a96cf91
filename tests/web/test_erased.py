"""What was erased leaves pages that work."""

from sqlalchemy import Engine

from app.db.store import SqlStore
from tests.contract.test_store_erase import WORD, fill, remove
from tests.web.people import signed_in


def test_an_erased_incident_has_a_page_that_tells_nothing(store: SqlStore, engine: Engine) -> None:
    number = fill(store, engine)
    remove(store)
    store.erase()
    client = signed_in(engine)
    for path in (f"/incidents/{number}", "/", "/?state=all", "/deliveries"):
        answer = client.get(path, follow_redirects=True)
        assert answer.status_code == 200, (path, answer.text[:500])
        assert WORD not in answer.text
    assert "erased" in client.get(f"/incidents/{number}").text
