"""What runs on a launcher say of how they ended, as findings: told by the run itself, so nothing is guessed."""

from collections.abc import Iterator, Mapping

from app.domain.event import WorkloadFailed, WorkloadSucceeded
from app.domain.finding import Clear, EvidenceLine, Finding, Severity, fingerprint
from app.domain.run import EndedRun
from detectors.claim import KEPT_DIGITS
from detectors.playbooks import OF_RUNS, ladder_of
from detectors.signatures import SIGNATURES

RUN_EVENTS = (WorkloadFailed.kind, WorkloadSucceeded.kind)
SHOWN_LINES = 20


def claimed_run(detector: str, run: EndedRun, causes: Mapping[str, str]) -> Iterator[Finding | Clear]:
    """The finding of a run that failed for one of these causes; of one that came to its end that all is well.

    A workload that is run for one thing is one incident, whatever it fails of: it is the same run that goes on, and it
    may be short of memory first and diverge then.
    """
    if run.failure is None:
        yield Clear(detector, _subject(run), why="a run of it came to its end")
        return
    kind = causes.get(run.failure.kind)
    if kind is None:
        return
    known = next((each for each in SIGNATURES if each.kind == kind and not each.name.startswith("hint_")), None)
    playbook = f"{OF_RUNS}{kind}"
    yield Finding(
        detector=detector,
        kind=kind,
        subject=_subject(run),
        severity=known.severity if known else Severity.MEDIUM,
        confidence=1.0,
        summary=run.failure.message or (known.title if known else kind),
        fingerprint=fingerprint("workload", *(part.translate(KEPT_DIGITS) for part in _parts(run))),
        facts=_facts(run),
        lines=_lines(run.tail),
        ladder=ladder_of(playbook),
        playbook=playbook,
    )


def _parts(run: EndedRun) -> tuple[str, str, str]:
    return run.workload, run.verb, run.about


def _subject(run: EndedRun) -> str:
    return f"workload {run.workload} / {run.verb}" + (f" ({run.about})" if run.about else "")


def _facts(run: EndedRun) -> dict[str, object]:
    """What it tells has a place of its own: it cannot stand for what we know."""
    assert run.failure is not None
    known = {
        "told": dict(run.failure.facts),
        "failure": run.failure.kind,
        "advice": dict(run.failure.advice),
        "resumable": run.failure.resumable,
        "launcher": run.launcher,
        "run": run.handle,
        "restarts": run.restarts,
    }
    return known | ({"model": run.model} if run.model else {})


def _lines(tail: str) -> tuple[EvidenceLine, ...]:
    """The end of its log; its last line that says something is where it stopped."""
    lines = tail.splitlines()
    shown = list(enumerate(lines, start=1))[-SHOWN_LINES:]
    last = max((number for number, text in shown if text.strip()), default=0)
    return tuple(EvidenceLine(number, text, root=number == last) for number, text in shown)
