"""A database as it looks after some days of work: incidents in every state, with their timelines."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from app.db.codec import finding_to_json, plan_to_json
from app.db.dialect import insert as insert_or
from app.db.engine import writing
from app.db.tables import Base, DeliveryRow, IncidentRow, InstallationRow, RepairRow, RepositoryRow, TimelineRow
from app.domain.finding import EvidenceLine, Finding, Remedy, Severity
from app.domain.incident import State
from app.domain.repair import FileEdit, Plan

FORGE = "https://github.com"
NOW = datetime.now(UTC).replace(microsecond=0)
GUID = "0b989ba4-242f-11e5-81e1-c7b6966d2516"

DIFF = """--- a/train/config.yaml
+++ b/train/config.yaml
@@ -4,7 +4,7 @@
 model: resnet50
 optimizer:
   name: adamw
-batch_size: 256
+batch_size: 128
 epochs: 30
 amp: true
 --- not a header
--- a/train/old.txt
+++ /dev/null
@@ -1 +0,0 @@
-gone
"""

LINES = (
    EvidenceLine(412, "epoch 3/30 step 118 loss 1.8342 lr 0.00098", "Train"),
    EvidenceLine(417, '  File "train/loop.py", line 88, in step', "Train"),
    EvidenceLine(418, "    loss = self.model(batch.images.to(self.device)).loss", "Train"),
    EvidenceLine(
        421,
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of"
        " 15.77 GiB of which 1.21 GiB is free.",
        "Train",
        root=True,
    ),
    EvidenceLine(430, "Error: Process completed with exit code 1.", "Train"),
)

TRACE: list[dict[str, Any]] = [
    {"rule": "mode", "passed": True, "detail": "auto, from .github/heal.yml", "resets_at": None},
    {"rule": "confidence", "passed": True, "detail": "0.97 is at least 0.70", "resets_at": None},
    {"rule": "limits.open_pulls", "passed": True, "detail": "1 of 3 open fix pull requests", "resets_at": None},
    {"rule": "limits.pulls_per_day", "passed": False, "detail": "5 of 5 pull requests today",
     "resets_at": (NOW + timedelta(hours=7)).isoformat()},
]  # fmt: skip

Story = list[tuple[str, dict[str, Any]]]


def _run(number: int) -> str:
    return f"{FORGE}/acme/vision/actions/runs/{number}"


FOUND = {"kind": "gpu_oom", "summary": "CUDA ran out of memory while training", "confidence": 0.97, "run_id": 9001,
         "attempt": 1, "head_sha": "5f3a9c1e" * 5, "url": _run(9001)}  # fmt: skip
DECIDED = {"verdict": "act", "reason": "auto mode, and every rule allows it.", "mode": "auto",
           "action": "lower_batch_size", "rung": 0, "trace": TRACE}  # fmt: skip
PLANNED = {"action": "lower_batch_size", "title": "Halve batch_size to 128",
           "why": "2.00 GiB were missing on a GPU of 15.77 GiB; half the batch needs about half the activations.",
           "diff": DIFF, "calls": [], "refusal": "",
           "risk": "Training takes longer; results may differ slightly."}  # fmt: skip
APPLIED = {"action": "lower_batch_size", "title": "Opened pull request #41", "summary": "",
           "data": {"pull": 41, "branch": "heal/9f2c", "head_sha": "c0ffee12" * 5}}  # fmt: skip
PROVEN = {"job": "train (gpu)", "run_id": 9002, "attempt": 1, "url": _run(9002), "head_sha": "c0ffee12" * 5}

HEALED: Story = [("found", FOUND), ("decided", DECIDED), ("planned", PLANNED), ("applied", APPLIED),
                 ("proven", PROVEN), ("healed", {}), ("merged", {"pull": 41})]  # fmt: skip
ASKED: Story = [
    ("found", {**FOUND, "kind": "dependency_conflict", "summary": "numpy 2.3 conflicts with numba 0.58"}),
    ("decided", {**DECIDED, "verdict": "ask", "mode": "approve", "reason": "The repository asks to be asked."}),
    ("planned", {**PLANNED, "title": "Pin numpy below 2.1"}),
    ("asked", {"action": "pin_dependency"}),
]
EVERYTHING: Story = [
    *HEALED,
    ("relapsed", {"run_id": 9100, "url": _run(9100)}),
    ("asked", {"action": "rerun_failed_jobs"}),
    ("approved", {"by": "octocat", "note": "Go on."}),
    ("skipped", {"title": "batch_size is already 1", "summary": "Nothing was changed."}),
    ("failed", {"title": "could not be carried out", "summary": "The branch is protected."}),
    ("disproven", {"reason": "The same step failed again.", "url": "https://evil.example/runs/1"}),
    ("planned", {"title": "Nothing", "why": "", "diff": "", "calls": ["Re-run the failed jobs of run 9100"],
                 "risk": "", "refusal": "The file is generated."}),
    ("rejected", {"by": "hubot", "note": "<script>alert(1)</script>"}),
    ("closed", {"pull": 42, "by": "octocat"}),
    ("undone", {"title": "Reverted the change"}),
    ("recovered", {"run_id": 9200, "url": "javascript:alert(1)"}),
    ("escalated", {"reason": "no remedy is left"}),
    ("quarantined_by_hand", {"because": "a new kind of entry", "times": 3, "inner": {"a": "<b>"}}),
]  # fmt: skip


def finding(kind: str, summary: str, *, lines: tuple[EvidenceLine, ...] = LINES) -> Finding:
    return Finding(
        detector="pipeline_failure",
        kind=kind,
        subject="train.yml / train (gpu)",
        severity=Severity.HIGH,
        confidence=0.97,
        summary=summary,
        fingerprint="9f2c6d1e8a7b4c30",
        facts={"asked": "2.00 GiB", "device": "GPU 0", "total_gib": 15.77, "retryable": False, "steps": [1, 2]},
        lines=lines,
        ladder=(Remedy("lower_batch_size", {"key": "batch_size"}), Remedy("rerun_on_larger_runner")),
        job="train (gpu)",
    )


def add_incident(
    connection: Connection,
    number: int,
    state: State,
    summary: str,
    *,
    kind: str = "gpu_oom",
    repository: str = "acme/vision",
    repository_id: int = 7,
    branch: str = "main",
    ago: timedelta = timedelta(minutes=40),
    heal_s: float | None = None,
    pull: int | None = None,
    run_url: str | None = None,
    story: Story | None = None,
    lines: tuple[EvidenceLine, ...] = LINES,
) -> None:
    opened_at = NOW - ago
    connection.execute(
        insert(IncidentRow).values(
            id=number, repository_id=repository_id, installation_id=1, repository=repository,
            branch=branch, fingerprint=f"{number:016x}", kind=kind, severity="high", detector="pipeline_failure",
            summary=summary, finding=finding_to_json(finding(kind, summary, lines=lines)), head_sha="5f3a9c1e" * 5,
            run_id=9000 + number, attempt=1, workflow_path=".github/workflows/train.yml",
            run_url=_run(9000 + number) if run_url is None else run_url, state=state.value, rung=0, pull_number=pull,
            issue_number=None, opened_at=opened_at, updated_at=opened_at + timedelta(seconds=heal_s or 90),
            healed_at=opened_at + timedelta(seconds=heal_s) if heal_s is not None else None,
            merged_at=None, watch_until=None,
        )
    )  # fmt: skip
    for at, (entry_kind, data) in enumerate(story or HEALED[:2]):
        note(
            connection,
            number,
            entry_kind,
            data,
            at=opened_at + timedelta(seconds=9 * at),
            delivery=1 if at == 0 else None,
        )


def note(
    connection: Connection,
    number: int,
    kind: str,
    data: dict[str, Any],
    *,
    at: datetime = NOW,
    delivery: int | None = None,
) -> None:
    connection.execute(
        insert(TimelineRow).values(
            incident_id=number,
            at=at,
            kind=kind,
            data=data,
            delivery_id=delivery,
            actor=str(data.get("by", "")).lower(),
        )
    )


def add_delivery(connection: Connection, guid: str = GUID, *, state: str = "done") -> int:
    connection.execute(
        insert(DeliveryRow).values(
            guid=guid, source="github", event="workflow_run", action="completed", installation_id=1, repository_id=7,
            repository="acme/vision", headers={}, body=b"", received_at=NOW - timedelta(hours=1), state=state,
            mailbox="1", due_at=None,
        )
    )  # fmt: skip
    return int(connection.scalars(select(DeliveryRow.id).where(DeliveryRow.guid == guid)).one())


def add_home(connection: Connection) -> None:
    """The repositories 7 and 9, where they are not known yet."""
    home = insert_or(connection, InstallationRow).values(id=1, account="acme", added_at=NOW)
    connection.execute(home.on_conflict_do_nothing())
    for number, name in ((7, "acme/vision"), (9, "acme/churn")):
        row = insert_or(connection, RepositoryRow).values(
            id=number, full_name=name, installation_id=1, default_branch="main", added_at=NOW
        )
        connection.execute(row.on_conflict_do_nothing())


def ask(engine: Engine, number: int) -> None:
    """Have an incident wait with a plan that can be looked at, in repositories that are known."""
    edit = FileEdit("requirements.txt", "numpy>=2\nnumba==0.58\n", "numpy==2.0.2\nnumba==0.58\n")
    plan = Plan(
        "Pin numpy to 2.0.2", "numba 0.58 does not work with numpy 2.3.", (edit,), (), "Others may need a newer one."
    )
    with writing(engine) as connection:
        add_home(connection)
        add_repair(connection, number, "pin_dependency", state="asked", plan=plan_to_json(plan))
        note(connection, number, "asked", {"expires_at": (NOW + timedelta(days=3)).isoformat()})


def add_repair(
    connection: Connection, number: int, action: str, *, state: str = "proven", plan: dict[str, Any] | None = None
) -> None:
    connection.execute(
        insert(RepairRow).values(
            incident_id=number, repository_id=7, effect_key=f"repair-{number}-{uuid.uuid4()}", action=action,
            remedy={"action": action, "params": {}}, rung=0, verb="apply", state=state, approved_by="", intent={},
            plan=plan, proof={}, intended_at=NOW, proof_s=60, watch_s=60, mailbox="1", due_at=None,
        )
    )  # fmt: skip


def add_gate(connection: Connection, number: int, report: dict[str, Any], *, refusal: str = "") -> None:
    """A repair of the incident that a gate has judged."""
    plan = {"title": "Promote version 4 of churn", "refusal": refusal, "report": report}
    connection.execute(
        insert(RepairRow).values(
            incident_id=number, repository_id=7, effect_key=f"gate-{number}-{uuid.uuid4()}", action="promote_model",
            remedy={"action": "promote_model", "params": {}}, rung=0, verb="apply", state="applied", approved_by="",
            intent={}, plan=plan, proof={}, intended_at=NOW, proof_s=60, watch_s=60, mailbox="1", due_at=None,
        )
    )  # fmt: skip


def interval(label: str, value: float, low: float, high: float, bound: float, *, passed: bool = True) -> dict[str, Any]:
    return {"label": label, "value": value, "low": low, "high": high, "bound": bound, "passed": passed, "rows": 812}


GATE: dict[str, Any] = {
    "kind": "gate",
    "open": False,
    "model": "churn",
    "metric": "roc_auc",
    "champion": 3,
    "challenger": 4,
    "confidence": 0.95,
    "rows": 4_000,
    "rows_needed": 2_354,
    "gates": [
        {"name": "lineage", "passed": True, "says": "Trained at 5f3a9c1e on data 2026-11.", "missing": ""},
        {"name": "rows", "passed": False, "says": "4000 of 4400 rows.", "missing": "labels: 95.0% of the rows"},
        {"name": "metric", "passed": True, "says": "roc_auc 0.81 → 0.84: a gain of +0.0300.", "missing": ""},
        {"name": "segments", "passed": False, "says": "Worse by more than 0.05: country = <b>de</b>.", "missing": ""},
    ],
    "intervals": [
        interval("all rows", 0.03, 0.012, 0.047, 0.0),
        interval("country = <b>de</b>", -0.081, -0.11, -0.062, -0.05, passed=False),
        interval("country = 日本", 0.02, -0.004, 0.045, -0.05),
        interval("calibration (brier)", 0.001, -0.002, 0.004, -0.02),
        {"label": "not told", "value": None, "low": None, "high": None, "bound": 0.0, "passed": False, "rows": 0},
    ],
}  # fmt: skip


def change_state(engine: Engine, number: int, state: State) -> None:
    """What a worker would write: the incident's new state, and a note on its timeline."""
    with writing(engine) as connection:
        values = {"state": state.value, "updated_at": NOW + timedelta(seconds=1)}
        if state is State.HEALED:
            values["healed_at"] = NOW + timedelta(seconds=1)
        connection.execute(update(IncidentRow).where(IncidentRow.id == number).values(**values))
        note(connection, number, state.value, {})


def fill(engine: Engine) -> None:
    """Tables and ten incidents: 1 shows every kind of entry, 2 waits for approval, 3 is healed, 7 has a gate."""
    Base.metadata.create_all(engine)
    with writing(engine) as connection:
        add_delivery(connection)
        add_incident(connection, 1, State.ESCALATED, "CUDA ran out of memory while fine-tuning the segmentation head",
                     ago=timedelta(days=3), pull=41, story=EVERYTHING)  # fmt: skip
        add_incident(connection, 2, State.AWAITING_APPROVAL, "numpy 2.3 conflicts with numba 0.58",
                     kind="dependency_conflict", repository="acme/forecasting", branch="feature/seasonal",
                     ago=timedelta(hours=5), story=ASKED)  # fmt: skip
        add_incident(connection, 3, State.HEALED, "CUDA ran out of memory while training", ago=timedelta(hours=3),
                     heal_s=252, pull=41, story=HEALED)  # fmt: skip
        add_incident(connection, 4, State.OBSERVED, "A test fails: test_auc_is_above_baseline", kind="test_failure",
                     repository="acme/churn", repository_id=9, ago=timedelta(hours=2), lines=())  # fmt: skip
        add_incident(connection, 5, State.RECOVERED, "The package index did not answer", kind="network_transient",
                     repository="acme/forecasting", ago=timedelta(minutes=80))  # fmt: skip
        add_incident(connection, 6, State.DISMISSED, "The linter found 3 mistakes", kind="lint",
                     repository="acme/churn", repository_id=9, ago=timedelta(minutes=71))  # fmt: skip
        add_incident(connection, 7, State.HEALED, "The runner lost its connection", kind="runner_lost",
                     repository="acme/speech-recognition", ago=timedelta(minutes=50), heal_s=41)  # fmt: skip
        add_incident(connection, 8, State.VERIFYING, "No space left on device while exporting the model",
                     kind="disk_full", repository="acme/speech-recognition", branch="release/2026.11",
                     ago=timedelta(minutes=12), pull=43)  # fmt: skip
        add_incident(connection, 9, State.REPAIRING, "The download of the dataset timed out", kind="network_transient",
                     ago=timedelta(minutes=2))  # fmt: skip
        add_incident(connection, 10, State.OPEN, "<b>Unknown</b> failure in 日本語のとても長いステップ名",
                     kind="unknown", repository="acme/" + "a-very-long-repository-name-" * 3, branch="wip/" + "x" * 60,
                     ago=timedelta(seconds=8), run_url="https://evil.example/runs/1")  # fmt: skip
        add_gate(connection, 7, GATE, refusal="the gate is closed")
