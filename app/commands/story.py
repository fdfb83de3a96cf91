"""One incident, from delivery to proof, as lines for a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from app.db.reads import Entry, IncidentDetail
from app.security.masking import mask


def lines(found: IncidentDetail) -> Iterator[str]:
    """Everything `heal incidents show` prints. What came from repositories is masked and made inert."""
    line, finding = found.line, found.finding
    yield f"incident {line.id} · {line.state} · {line.repository} · {line.branch}"
    yield f"{finding.kind} ({finding.confidence:.0%}): {_inert(finding.summary)}"
    yield ""
    for seen in finding.lines:
        yield f"  {seen.number:>6} {'>' if seen.root else ' '} {_inert(seen.text)}"
    yield ""
    for entry in found.timeline:
        yield from _entry(entry)


def _entry(entry: Entry) -> Iterator[str]:
    data = entry.data
    delivery = f"  delivery {entry.guid}" if entry.guid else ""
    yield f"{entry.at:%Y-%m-%d %H:%M:%S}  {entry.kind:<10} {_inert(_headline(data))}{delivery}"
    for check in data.get("trace", ()):
        resets = f" (resets {check['resets_at']})" if check.get("resets_at") else ""
        yield f"    {'pass' if check['passed'] else 'STOP'}  {check['rule']}: {_inert(check['detail'])}{resets}"
    for text in str(data.get("diff", "")).splitlines():
        yield f"    {_inert(text)}"
    for call in data.get("calls", ()):
        yield f"    {_inert(str(call))}"
    if data.get("url"):
        yield f"    {_inert(str(data['url']))}"


def _headline(data: Mapping[str, Any]) -> str:
    first = ("verdict", "action", "title", "summary", "reason", "refusal", "job", "by", "pull", "run_id")
    return " · ".join(str(data[key]) for key in first if data.get(key))


def _inert(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in mask(text))
