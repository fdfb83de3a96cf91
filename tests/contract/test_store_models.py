"""Models, windows, samples and tokens, on both databases."""

import math

import pytest
from sqlalchemy import Engine, func, select

from app.db import models
from app.db.engine import reading
from app.db.store import SqlStore
from app.db.tables import SeriesRow
from app.db.tokens import PREFIX, Tokens
from app.domain.access import Scope, TokenKind
from app.domain.evidence import Observed
from app.domain.model import Role
from app.domain.signal import Series
from app.domain.tenant import Repository
from app.ports.models import Model, Window
from app.ports.queue import Work
from tests.contract.things import REPOSITORY, delivery


def observed(name: str = "w", rows: int = 3, **parts: object) -> Observed:
    return Observed(name, rows, **parts)  # type: ignore[arg-type]


def the_model(store: SqlStore, name: str = "churn", repository_id: int = 7) -> Model:
    with store.begin() as ledger:
        model = ledger.models.add_model(repository_id, name)
    assert model is not None
    return model


def test_a_window_comes_back_as_it_was_saved(store: SqlStore) -> None:
    model = the_model(store)
    profile = {"columns": {"age": [1.5, 2e300]}, "text": "\u00e9\x00"}
    window = Window(Role.CURRENT, observed(profile=profile, summary={"rows": 3}), closed=True)
    with store.begin() as ledger:
        ledger.models.save_window(model, window)
        assert ledger.models.window(model, Role.CURRENT, "w") == window
        ledger.models.save_window(model, Window(Role.CURRENT, observed(rows=9)))
        assert ledger.models.window(model, Role.CURRENT, "w") == Window(Role.CURRENT, observed(rows=9))
        assert ledger.models.window(model, Role.REFERENCE, "w") is None


def test_windows_are_told_newest_first_and_those_before_one(store: SqlStore) -> None:
    model = the_model(store)
    with store.begin() as ledger:
        for name in ("b", "a", "c"):
            ledger.models.save_window(model, Window(Role.CURRENT, observed(name)))
        names = [w.observed.window for w in ledger.models.windows(model, role=Role.CURRENT, most=9)]
        before = [w.observed.window for w in ledger.models.windows(model, role=Role.CURRENT, before="c", most=9)]
    assert (names, before) == (["c", "a", "b"], ["a", "b"])


def test_closing_the_others_names_them_once(store: SqlStore) -> None:
    model = the_model(store)
    with store.begin() as ledger:
        for name in ("a", "b", "c"):
            ledger.models.save_window(model, Window(Role.CURRENT, observed(name)))
        ledger.models.save_window(model, Window(Role.REFERENCE, observed("r")))
        assert ledger.models.close_others(model, "c") == ["a", "b"]
        assert ledger.models.close_others(model, "c") == []
        assert not ledger.models.windows(model, role=Role.REFERENCE)[0].closed


def test_a_repository_has_so_many_models_and_no_more(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MOST_MODELS", 2)
    first = the_model(store, "a")
    the_model(store, "b")
    with store.begin() as ledger:
        assert ledger.models.add_model(7, "c") is None
        assert ledger.models.add_model(7, "a") == first
        assert ledger.models.add_model(8, "c") is not None


def test_curves_come_back_with_values_that_json_does_not_have(store: SqlStore) -> None:
    model = the_model(store)
    curves = {"loss": ((1.0, 0.5), (2.0, math.inf), (3.0, math.nan))}
    with store.begin() as ledger:
        ledger.models.save_curves(Model(model.id, model.name, "run-1", curves))
        found = ledger.models.model(7, "churn")
    assert found is not None
    assert (found.run, found.curves["loss"][:2]) == ("run-1", curves["loss"][:2])
    assert math.isnan(found.curves["loss"][2][1])


def test_samples_join_what_was_kept_each_time_once(store: SqlStore) -> None:
    first = Series("disk_used_ratio", ((1.0, 0.1), (3.0, 0.3)), {"device": "sda"}, 1.0)
    more = Series("disk_used_ratio", ((2.0, 0.2), (3.0, 0.35)), {"device": "sda"})
    other = Series("disk_used_ratio", ((1.0, 0.9),), {"device": "sdb"})
    with store.begin() as ledger:
        ledger.models.add_samples(7, [first])
        (joined, alone) = ledger.models.add_samples(7, [more, other])
        assert joined == Series("disk_used_ratio", ((1.0, 0.1), (2.0, 0.2), (3.0, 0.35)), {"device": "sda"}, 1.0)
        assert alone == other
        assert ledger.models.series(7, [more]) == [joined]
        assert ledger.models.series(8, [more]) == []


def test_samples_are_kept_in_a_ring(store: SqlStore, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MOST_POINTS", 3)
    monkeypatch.setattr(models, "MOST_SERIES", 2)
    for number in range(4):
        points = tuple((float(at), 0.0) for at in range(number, number + 4))
        with store.begin() as ledger:
            ledger.models.add_samples(7, [Series(f"s{number}", points), Series("steady", points)])
    with reading(engine) as connection:
        kept = {row.name: row.points for row in connection.execute(select(SeriesRow))}
    assert set(kept) == {"s3", "steady"}
    assert [at for at, _ in kept["steady"]] == [4.0, 5.0, 6.0]


def test_a_series_that_is_sent_in_pieces_is_one(store: SqlStore) -> None:
    with store.begin() as ledger:
        (joined,) = ledger.models.add_samples(7, [Series("x", ((2.0, 1.0),)), Series("x", ((1.0, 1.0),))])
    assert joined.points == ((1.0, 1.0), (2.0, 1.0))


def test_observations_do_not_hold_up_the_deliveries_of_github(store: SqlStore) -> None:
    for number, source in enumerate(("observations", "github", "observations", "samples", "schedule")):
        store.keep([delivery(f"g{number}", source=source)])
    leases = [store.claim(Work.DELIVERY) for _ in range(4)]
    found = [lease.delivery.source for lease in leases if lease is not None and lease.delivery is not None]
    assert sorted(found) == ["github", "observations", "samples"]
    assert leases[3] is None  # the other observations, and the schedule behind the samples


def test_a_dropped_body_is_gone_and_its_headers_say_why(store: SqlStore) -> None:
    (kept,) = store.keep([delivery()])
    with store.begin() as ledger:
        ledger.drop_body(kept.id, {"taken": "w1"})
        found = ledger.delivery(kept.id)
    assert (found.body, found.headers) == (b"", {"taken": "w1"})


@pytest.fixture
def tokens(store: SqlStore, engine: Engine) -> Tokens:
    with store.begin() as ledger:
        ledger.remember_repository(REPOSITORY)
    return Tokens(engine, store.secret)


def test_a_token_is_found_by_its_text_and_by_nothing_else(tokens: Tokens) -> None:
    made, text = tokens.create(REPOSITORY, [Scope.SIGNALS], name="ci")
    assert text.startswith(PREFIX)
    assert len(text) == len(PREFIX) + 43
    found = tokens.bearer(text)
    assert found is not None
    assert (found.id, found.repository, found.scopes, found.name) == (made.id, REPOSITORY, {Scope.SIGNALS}, "ci")
    assert found.may(Scope.SIGNALS)
    assert not found.may(Scope.OBSERVATIONS)
    for wrong in (text[:-1], text + "A", text.upper(), "", PREFIX):
        assert tokens.bearer(wrong) is None


def test_two_tokens_are_never_the_same(tokens: Tokens) -> None:
    texts = {tokens.create(REPOSITORY, [Scope.SIGNALS], kind=kind)[1] for kind in TokenKind for _ in range(3)}
    assert len(texts) == 6


def test_the_secret_of_an_mlflow_token_is_told_again_to_the_web_process_and_kept_nowhere(
    tokens: Tokens, store: SqlStore, engine: Engine
) -> None:
    made, text = tokens.create(REPOSITORY, [Scope.SIGNALS], kind=TokenKind.MLFLOW)
    again = Tokens(engine, store.secret).mlflow(made.id)
    assert again is not None
    assert again[1] == text
    assert tokens.bearer(text) is None
    assert tokens.revoke(made.id)
    assert not tokens.revoke(made.id)
    assert tokens.mlflow(made.id) is None


def test_tokens_are_listed_newest_first_also_those_that_are_over(tokens: Tokens) -> None:
    for name in ("a", "b"):
        tokens.create(REPOSITORY, [Scope.SIGNALS], name=name)
    tokens.revoke(1)
    assert [(token.name, token.revoked_at is not None) for token in tokens.all()] == [("b", False), ("a", True)]
    assert tokens.all(repository_id=99) == []


def test_points_that_were_kept_are_counted_once(store: SqlStore, engine: Engine) -> None:
    sent = [Series("x", ((1.0, 1.0),), {"a": "1"})]
    for _ in range(3):
        with store.begin() as ledger:
            ledger.models.add_samples(7, sent)
    with reading(engine) as connection:
        assert connection.scalar(select(func.count()).select_from(SeriesRow)) == 1


def test_what_is_kept_of_a_removed_repository_goes_after_a_while(
    store: SqlStore, tokens: Tokens, engine: Engine
) -> None:
    other = Repository(8, "octo/other", 3)
    with store.begin() as ledger:
        ledger.remember_repository(other)
    for repository in (REPOSITORY, other):
        model = the_model(store, repository_id=repository.id)
        with store.begin() as ledger:
            ledger.models.save_window(model, Window(Role.CURRENT, observed()))
            ledger.models.add_samples(repository.id, [Series("x", ((1.0, 1.0),))])
        tokens.create(repository, [Scope.SIGNALS])
    with store.begin() as ledger:
        ledger.forget_repositories([REPOSITORY.id])
    store.prune(older_than_s=3600)
    with store.begin() as ledger:
        assert ledger.models.model(REPOSITORY.id, "churn") is not None
    store.prune(older_than_s=-1)
    with store.begin() as ledger:
        assert ledger.models.model(REPOSITORY.id, "churn") is None
        assert ledger.models.model(other.id, "churn") is not None
    with reading(engine) as connection:
        assert list(connection.scalars(select(SeriesRow.repository_id))) == [other.id]
    assert [token.repository for token in tokens.all()] == [other]
