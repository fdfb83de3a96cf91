"""A bot whose GitHub is in memory: events go in, rows are worked off, writes are counted."""

import io
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import BinaryIO

import pytest
from sqlalchemy import Engine, select, update

import actions
from app.adapters import observations
from app.adapters.clock import SystemClock
from app.adapters.github.logs import read_job_log, read_templates
from app.db.engine import db_now, reading, writing
from app.db.leases import ROWS
from app.db.store import SqlStore
from app.db.tables import DeliveryRow, EffectRow, IncidentRow, RepairRow
from app.domain.delivery import Delivery
from app.domain.event import AnyEvent, ButtonPressed, CommandGiven, Ignored, PullClosed
from app.domain.evidence import Annotation, Job, JobLog
from app.domain.incident import Incident
from app.domain.repair import Repair
from app.domain.tenant import Sender
from app.healing.kit import Kit
from app.healing.work import perform
from app.ports.queue import Work
from app.ports.resolver import Locked, Locking, Resolution
from app.ports.store import Record
from app.registry import collect
from app.summaries import DetectorSummaries
from detectors import builtin
from tests.twins.forge import MemoryApp, MemoryForge, ScriptedJob

TRANSIENT = (
    "urllib3.exceptions.ProtocolError: ('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))"
)
OUT_OF_MEMORY = (
    "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 64.0 MiB for an array with shape (4096, 2048) "
    "and data type float64"
)
ASSERTION = "FAILED tests/test_metric.py::test_recall - assert 0.75 == 0.8"
STRANGE = "the frobnicator declined to frobnicate"

TRAIN_YAML = "# how we train\nbatch_size: 4096  # rows\ngradient_accumulation_steps: 1\nlearning_rate: 0.1\n"
AUTO = "version: 1\nmode: auto\n"


def job_log(line: str) -> bytes:
    """A failed step as GitHub's log API tells it."""
    lines = (
        "##[group]Run python train.py",
        "python train.py",
        "shell: /usr/bin/bash -e {0}",
        "##[endgroup]",
        "Traceback (most recent call last):",
        '  File "train.py", line 3, in <module>',
        line,
        "##[error]Process completed with exit code 1.",
    )
    return "".join(f"2026-11-21T09:00:0{n}.0000000Z {text}\n" for n, text in enumerate(lines)).encode()


class NoResolver:
    def resolve(
        self, requirements: Sequence[str], *, python: str | None = None, constraints: Sequence[str] = ()
    ) -> Resolution:
        return Resolution(False, explanation="nothing resolves here")

    def lock(self, locking: Locking) -> Locked:
        return Locked(False, explanation="nothing resolves here")


@dataclass
class World:
    engine: Engine
    store: SqlStore
    app: MemoryApp = field(default_factory=lambda: MemoryApp(app_slug="heal"))
    look_every_s: float = 0.0

    def __post_init__(self) -> None:
        self.forge: MemoryForge = self.app.add("acme/trainer")
        self.forge.permissions["maria"] = "write"
        self._events: dict[str, AnyEvent | Ignored] = {}
        self._guids = (f"guid-{n}" for n in itertools.count(1))
        self.passed: list[str] = []
        self.kit = Kit(
            store=self.store,
            app=self.app,
            detectors=collect("none", builtin.BUILTIN),
            actions=collect("none", actions.BUILTIN),
            resolver=NoResolver(),
            clock=SystemClock(),
            parse=lambda delivery, _: self._events[delivery.guid],
            read_log=self._read_log,
            read_green=read_templates,
            read_batch=observations.read,
            summaries=DetectorSummaries(lambda: b"key"),
            dashboard_url="https://heal.example",
            look_every_s=self.look_every_s,
            passing=self.passed.append,
        )

    def _read_log(self, stream: BinaryIO, job: Job, notes: Sequence[Annotation]) -> JobLog:
        return read_job_log(io.BytesIO(stream.read()), job, notes)

    def project(self, config: str | None = AUTO) -> str:
        """The repository's first commit; its SHA."""
        files: dict[str, str | None] = {"configs/train.yaml": TRAIN_YAML, "train.py": "print()\n"}
        if config is not None:
            files[".github/heal.yml"] = config
        return self.forge.push("main", files)

    def failed_job(self, line: str = TRANSIENT, name: str = "train") -> ScriptedJob:
        return self.forge.job(name, "failure", job_log(line))

    def fail(self, line: str = TRANSIENT, *, branch: str = "main", name: str = "train") -> int:
        """A run fails and its delivery arrives; the run's id."""
        run = self.forge.add_run(
            head_sha=self.forge.branches[branch], head_branch=branch, jobs=[self.failed_job(line, name)]
        )
        self.arrive(self.forge.finished(run.id))
        return run.id

    def finish(self, run_id: int, conclusion: str, line: str = TRANSIENT) -> None:
        """The latest attempt of a run ends, and its delivery arrives."""
        job = self.forge.job("train", "success") if conclusion == "success" else self.failed_job(line)
        self.forge.finish_run(run_id, conclusion, [job])
        self.arrive(self.forge.finished(run_id))

    def arrive(self, event: AnyEvent | Ignored, guid: str = "") -> str:
        """Keep a delivery of that event."""
        guid = guid or next(self._guids)
        self._events[guid] = event
        self.store.keep([Delivery(guid, "github", "event", "", b"{}", 1, 1, "acme/trainer")])
        return guid

    def say(self, words: str, number: int = 1, login: str = "maria", sender: int = 0) -> None:
        """Somebody comments `/heal words`. `sender` is the number of their account."""
        comment = self.forge.comment_by_hand(number, f"/heal {words}", login)
        self.arrive(
            CommandGiven(
                repository=self.forge.repository,
                sender=Sender(login, id=sender),
                issue_number=number,
                comment_id=comment,
                words=tuple(words.split()),
            )
        )

    def press(self, button: str, login: str = "maria") -> None:
        check = self.forge.checks[-1]
        self.arrive(
            ButtonPressed(
                repository=self.forge.repository,
                sender=Sender(login),
                external_id=check.external_id,
                head_sha=check.sha,
                button=button,
            )
        )

    def merged_fix(self) -> None:
        """A fix was offered, proven and merged by a person; CI on the fix branch says no more."""
        self.project()
        self.on_fix_branch("success")
        self.fail(OUT_OF_MEMORY)
        self.drain()
        self.forge.on_push = None
        self.close_pull(1, merged=True)
        self.drain()

    def close_pull(self, number: int, *, merged: bool) -> None:
        pull = self.forge.pulls[number]
        if merged:
            self.forge.merge(number)
        else:
            self.forge.close_by_hand(number)
        self.arrive(
            PullClosed(
                repository=self.forge.repository,
                sender=Sender("maria"),
                number=number,
                merged=merged,
                head_branch=pull.head_branch,
                head_sha=pull.head_sha,
            )
        )

    def drain(self, most: int = 200) -> None:
        """Work off everything that is due, as one worker would."""
        for _ in range(most):
            if sum(perform(self.kit, work) for work in Work) == 0:
                return
        raise AssertionError("the loop does not come to rest")

    def hurry(self) -> None:
        """All repairs that wait for proof are past their deadline."""
        with writing(self.engine) as connection:
            waiting = RepairRow.proof_deadline.is_not(None)
            connection.execute(update(RepairRow).where(waiting).values(proof_deadline=db_now(-1), due_at=db_now(-1)))

    def wait_for(self, work: Work) -> None:
        """The time has come for whatever was postponed."""
        with writing(self.engine) as connection:
            row = ROWS[work]
            connection.execute(update(row).where(row.due_at.is_not(None)).values(due_at=db_now(-1)))

    def delivery_states(self) -> list[str]:
        with reading(self.engine) as connection:
            return list(connection.scalars(select(DeliveryRow.state).order_by(DeliveryRow.id)))

    def expire(self, work: Work) -> None:
        """Whoever holds a row has gone without a word, long ago."""
        with writing(self.engine) as connection:
            row = ROWS[work]
            connection.execute(update(row).where(row.lease_until.is_not(None)).values(lease_until=db_now(-1)))

    def move_news_back(self, incident_id: int, at: datetime) -> None:
        """What is to be told of the incident came at that time."""
        with writing(self.engine) as connection:
            connection.execute(update(IncidentRow).where(IncidentRow.id == incident_id).values(updated_at=at))
            waiting = EffectRow.incident_id == incident_id, EffectRow.kind == "news"
            row = connection.execute(select(EffectRow.id, EffectRow.request).where(*waiting)).one()
            request = {**row.request, "at": at.isoformat()}
            connection.execute(update(EffectRow).where(EffectRow.id == row.id).values(request=request))

    def outlive_the_watch(self) -> None:
        with writing(self.engine) as connection:
            connection.execute(update(IncidentRow).values(watch_until=db_now(-1)))

    def attempts(self, work: Work) -> int:
        """Attempts that the newest row has used up."""
        with reading(self.engine) as connection:
            return connection.scalar(select(ROWS[work].attempts).order_by(ROWS[work].id.desc()).limit(1)) or 0

    def record(self, incident_id: int = 1) -> Record:
        with self.store.begin() as ledger:
            return ledger.record(incident_id)

    def incident(self, incident_id: int = 1) -> Incident:
        return self.record(incident_id).incident

    def repairs(self, incident_id: int = 1) -> tuple[Repair, ...]:
        return self.record(incident_id).repairs

    def kinds(self, incident_id: int = 1) -> list[str]:
        return [entry.kind for entry in self.record(incident_id).timeline]

    def on_fix_branch(self, conclusion: str) -> None:
        """From now on CI runs on every push to a fix branch and ends like this at once."""

        def ran(branch: str, sha: str) -> None:
            ended = "success" if conclusion == "success" else "failure"
            job = self.forge.job("train", ended, job_log(OUT_OF_MEMORY) if ended == "failure" else b"")
            run = self.forge.add_run(head_sha=sha, head_branch=branch, conclusion=ended, jobs=[job])
            self.arrive(replace(self.forge.finished(run.id), head_branch=branch))

        self.forge.on_push = ran


@contextmanager
def killed_at(world: World, step: str) -> Iterator[None]:
    """What is done in here ends without a word at this step, as when its worker is killed; afterwards nothing dies."""

    class Killed(BaseException):
        pass

    def die(passed: str) -> None:
        if passed == step:
            object.__setattr__(world.kit, "passing", lambda _: None)
            raise Killed

    object.__setattr__(world.kit, "passing", die)
    with pytest.raises(Killed):
        yield
