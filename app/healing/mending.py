"""Whether a run that failed is being repaired, for the repair that has started it and waits."""

from app.domain.event import Observable, WorkloadFailed
from app.domain.incident import ACTIVE, State
from app.domain.run import run_note
from app.healing.kit import Kit
from app.healing.reconsider import held_until


def note_of(launcher: str, handle: str) -> str:
    """Where the incidents stand that a run's failure was taken into."""
    return f"failed-runs/{launcher}/{handle}"


def mending(kit: Kit, repository_id: int, launcher: str, handle: str) -> bool | None:
    """None: nobody has looked at its failure yet. What only a limit has stopped for a time goes on, too."""
    with kit.store.begin() as ledger:
        note = ledger.shelved(repository_id, note_of(launcher, handle))
        if note is None:
            return None
        found = [ledger.incident(number) for number in note["incidents"]]
        if any(incident.state in ACTIVE for incident in found):
            return True
        waiting = [incident for incident in found if incident.state is State.OBSERVED]
        return any(held_until(ledger.record(incident.id)) is not None for incident in waiting)


def gone_on(kit: Kit, event: Observable) -> str:
    """Why the word of a run that failed no longer speaks of the present; empty if it does."""
    if not isinstance(event, WorkloadFailed):
        return ""
    with kit.store.begin() as ledger:
        note = ledger.shelved(event.repository.id, run_note(event.run.launcher, event.run.handle)) or {}
    return "the run goes on already" if note.get("resumed_as") else ""
