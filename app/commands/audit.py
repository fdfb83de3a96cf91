"""The audit log on the command line."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Engine

from app.db.audit import Verified
from app.db.reads.audit import Asked, AuditReads, Entry
from app.domain.access import EVERYTHING


def newest(engine: Engine, asked: Asked, limit: int) -> Sequence[Entry]:
    return AuditReads(engine).acts(EVERYTHING, asked, limit=limit).lines


def told(found: Verified) -> Iterator[str]:
    """The verdict for people."""
    if found.broken is None:
        yield f"{found.count} entries hold together"
    else:
        yield f"the chain is broken at entry {found.broken}: it was changed, or the one before it is gone"
        yield f"{found.count} entries before it hold together"
    yield f"newest link that holds: {found.newest}"
