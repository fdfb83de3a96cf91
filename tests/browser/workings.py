"""What the screens about the bot itself show: deliveries of every verdict, processes, switches, what was put aside."""

import json
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, insert

from app.db.audit import Act, Audit
from app.db.engine import writing
from app.db.processes import Processes
from app.db.rows import packed
from app.db.tables import DeliveryRow, EffectRow, ProcessRow, SwitchRow
from tests.browser.incidents import NOW

BODY = {
    "action": "completed",
    "workflow_run": {"id": 9001, "name": "train", "conclusion": "failure", "head_branch": "main"},
    "repository": {"id": 7, "full_name": "acme/vision", "private": True},
    "note": "日本語 " + "a-very-long-word-" * 20,
}


def fill_workings(engine: Engine) -> None:
    with writing(engine) as connection:
        _deliver(connection, 11, "workflow_run", body=packed(json.dumps(BODY).encode()))
        _deliver(connection, 12, "check_run", state="ignored", reason="the bot caused this itself")
        _deliver(connection, 13, "tick", source="schedule", action="", state="ready", finished_at=None)
        _deliver(connection, 14, "push", action="", state="dead", attempts=8, buried_at=NOW, finished_at=None,
                 last_error="not done after 8 attempts: GET /repos/acme/vision: 502 " + "x" * 80)  # fmt: skip
        connection.execute(
            insert(EffectRow).values(
                key="aside", kind="check", repository_id=7, incident_id=3, request={}, state="dead", mailbox="1:7",
                wanted_at=NOW, buried_at=NOW, attempts=8, last_error="POST /repos/acme/vision/check-runs: 403",
            )
        )  # fmt: skip
        times = {"started_at": NOW - timedelta(days=2), "seen_at": NOW - timedelta(days=1)}
        facts = {"host": "vision-1", "pid": 12, "role": "poll"}
        gone = insert(ProcessRow).values(name="vision-1:12", kind="worker", version="0.1.0", facts=facts, **times)
        connection.execute(gone)
        why = "a release is on"
        connection.execute(insert(SwitchRow).values(scope="repository:99", by="maria", at=NOW, reason=why))
    audit = Audit(engine)
    audit.add(Act("octocat", "dashboard", "approve", "incident", "2", 583231, 1, 7, {"reason": "Go on. " * 20}))
    audit.add(Act("maria", "github", "pause", "repository", "7", 77, 1, 7, {"repository": "acme/vision"}))
    audit.add(Act("the bot", "bot", "erase", "installation", "9", None, 9, None, {"incidents": 12, "repairs": 3}))
    Processes(engine).beat("local:1", "web", {"host": "local", "pid": 1, "threads": 4}, "0.1.0")


def _deliver(connection: Connection, number: int, event: str, **values: Any) -> None:
    told = {
        "id": number, "guid": f"{number:08x}-242f-11e5-81e1-c7b6966d2516", "source": "github", "event": event,
        "action": "completed", "installation_id": 1, "repository_id": 7, "repository": "acme/vision",
        "headers": {"x-github-event": event, "x-hub-signature-256": "sha256=0"}, "body": b"", "state": "done",
        "received_at": NOW - timedelta(minutes=number), "finished_at": NOW - timedelta(minutes=number - 1),
        "mailbox": "1:7", "attempts": 1,
    }  # fmt: skip
    connection.execute(insert(DeliveryRow).values({**told, **values}))
