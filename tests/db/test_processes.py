import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, update

from app.db.engine import db_now, writing
from app.db.processes import GONE_S, WEB, WORKER, Heart, Processes
from app.db.tables import ProcessRow


def last_seen(engine: Engine, name: str, ago_s: float) -> None:
    with writing(engine) as connection:
        connection.execute(update(ProcessRow).where(ProcessRow.name == name).values(seen_at=db_now(-ago_s)))


def test_a_process_lives_from_its_first_word_on(engine: Engine) -> None:
    processes = Processes(engine)
    processes.beat("a", WEB, {"pid": 1}, "1.0")
    first = processes.all()[0]
    processes.beat("a", WEB, {"pid": 1}, "1.0")
    (second,) = processes.all()
    assert second.alive
    assert second.started_at == first.started_at
    assert second.seen_at >= first.seen_at
    assert (second.kind, second.version, second.facts) == (WEB, "1.0", {"pid": 1})


def test_one_that_falls_silent_is_told_as_gone_and_after_a_week_forgotten(engine: Engine) -> None:
    processes = Processes(engine)
    for name in ("gone", "forgotten", "here"):
        processes.beat(name, WORKER, {}, "1.0")
    last_seen(engine, "gone", GONE_S + 60)
    last_seen(engine, "forgotten", timedelta(days=8).total_seconds())
    processes.beat("here", WORKER, {}, "1.0")
    assert [(each.name, each.alive) for each in processes.all()] == [("here", True), ("gone", False)]


def test_a_heart_beats_at_once_and_leaves_when_it_ends_in_order(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    beaten = threading.Event()
    beat = Processes.beat

    def watched(self: Processes, *told: Any) -> None:
        beat(self, *told)
        beaten.set()

    monkeypatch.setattr(Processes, "beat", watched)
    heart = Heart(engine, WEB, {"threads": 4})
    heart.start()
    assert beaten.wait(30)
    (process,) = Processes(engine).all()
    assert process.alive
    assert process.facts["threads"] == 4
    assert str(process.facts["pid"]) in process.name
    heart.stop()
    assert Processes(engine).all() == []
