"""Take a model's observations into the window they belong to: once, and without keeping a row."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from app.domain.delivery import OBSERVATIONS, Delivery
from app.domain.errors import Malformed
from app.domain.event import ModelObserved
from app.domain.evidence import Observed
from app.domain.model import DAY_S, Columns, ModelRules, Role
from app.domain.policy import Policy
from app.healing.hold import Hold
from app.healing.kit import Kit
from app.ports.models import Batch, Model, Window

TAKEN = "taken"  # the header of a delivery that was taken in: the windows to look at, the last one its own
REFERENCE = "reference"
MOST_LOOKS = 4
MOST_EARLIER = 14
MOST_CURVE_POINTS = 2_000


@dataclass(frozen=True, slots=True)
class Taken:
    """The windows to look at now, oldest first, and what the sender should know."""

    windows: tuple[str, ...]
    note: str = ""


def take_in(kit: Kit, hold: Hold, event: ModelObserved, delivery: Delivery, policy: Policy) -> Taken:
    """The rows go into their window and the body goes, in one fenced transaction. Raises Malformed.

    Taken in before (the worker died since), nothing is counted again. What is not observations only asks for a look.
    """
    if delivery.source != OBSERVATIONS:
        return _newest(kit, event)
    if TAKEN in delivery.headers:
        return Taken(tuple(json.loads(delivery.headers[TAKEN])))
    batch = kit.read_batch(delivery)
    rules = policy.models.get(batch.model, ModelRules())
    columns = columns_of(batch, rules)
    late = batch.table is not None and bool(columns.id and columns.label) and not columns.prediction
    if late:
        changed = _labelled(kit, event, batch, columns, rules)
        note = "" if changed else "no window waits for a label of these ids"
    else:
        changed = _counted(kit, event, batch, columns, rules, delivery.received_at)
        note = _note(batch, columns)
    kit.passing("after summarise")
    with kit.store.begin(hold.lease) as ledger:
        ledger.remember_repository(event.repository)
        model = ledger.models.add_model(event.repository.id, batch.model)
        if model is None:
            raise Malformed("the repository has as many models as are kept")
        looks = []
        for window in changed:
            name = window.observed.window
            begins = ledger.models.window(model, batch.role, name) is None
            ledger.models.save_window(model, window)
            if batch.role is Role.CURRENT:
                looks += [*(ledger.models.close_others(model, name) if begins else ()), name]
        if looks:
            ledger.models.forget_windows(model, rules.keep)
        if batch.curves:
            ledger.models.save_curves(with_curves(model, batch))
            looks = looks or [w.observed.window for w in ledger.models.windows(model, role=Role.CURRENT)] or [""]
        taken = Taken(tuple(looks[-MOST_LOOKS:]), note)
        ledger.drop_body(hold.lease.row_id, {TAKEN: json.dumps(taken.windows)})
    kit.passing("after take in")
    return taken


def columns_of(batch: Batch, rules: ModelRules) -> Columns:
    """What the request says comes before heal.yml, and that before a column's own name. A column that is not in the
    table is nothing: labels may come later."""
    names = set(batch.table.column_names) if batch.table is not None else set()
    told: dict[str, Any] = {**rules.columns, **batch.said}
    for role in fields(Columns):
        if role.name in ("task", "positive", "segments", "leave_out"):
            continue
        name = told.get(role.name, role.name)
        told[role.name] = name if name in names else ""
    listed: dict[str, Any] = {name: tuple(told[name]) for name in ("segments", "leave_out") if name in told}
    return Columns(**{**told, **listed})


def window_at(at: datetime, length_s: int) -> str:
    """The window that a time belongs to: its start, as a day where windows are whole days."""
    start = datetime.fromtimestamp(at.timestamp() // length_s * length_s, UTC)
    return start.strftime("%Y-%m-%d" if length_s % DAY_S == 0 else "%Y-%m-%dT%H:%MZ")


def with_curves(model: Model, batch: Batch) -> Model:
    """The curves of one run go on; those of another take their place."""
    curves = dict(model.curves) if batch.run == model.run else {}
    for metric, points in batch.curves.items():
        both = {**dict(curves.get(metric, ())), **dict(points)}
        curves[metric] = tuple(sorted(both.items())[-MOST_CURVE_POINTS:])
    return replace(model, run=batch.run, curves=curves)


def _newest(kit: Kit, event: ModelObserved) -> Taken:
    with kit.store.begin() as ledger:
        model = ledger.models.model(event.repository.id, event.model)
        newest = [] if model is None else ledger.models.windows(model, role=Role.CURRENT)
    if not newest:
        return Taken((), f"no observations of the model {event.model} are kept")
    return Taken((newest[0].observed.window,))


def _counted(
    kit: Kit, event: ModelObserved, batch: Batch, columns: Columns, rules: ModelRules, received_at: datetime | None
) -> list[Window]:
    """The window with the batch in it; none if there is nothing to count."""
    if batch.table is None and not batch.close:
        return []
    name = batch.window or (REFERENCE if batch.role is Role.REFERENCE else "")
    with kit.store.begin() as ledger:
        now = received_at or ledger.now()
        name = name or window_at(now, rules.window_s)
        model = ledger.models.model(event.repository.id, batch.model)
        kept = None if model is None else ledger.models.window(model, batch.role, name)
        references = [] if model is None else ledger.models.windows(model, role=Role.REFERENCE)
    before = kept or Window(batch.role, Observed(name, 0))
    observed = before.observed
    if batch.table is not None:
        like = observed if batch.role is Role.REFERENCE else (references[0].observed if references else observed)
        batched = kit.summaries.of(name, batch.table, columns, like)
        observed = kit.summaries.joined(observed, batched)
    return [replace(before, observed=observed, closed=before.closed or batch.close)]


def _labelled(kit: Kit, event: ModelObserved, batch: Batch, columns: Columns, rules: ModelRules) -> list[Window]:
    """The windows in which these labels were waited for, oldest first."""
    with kit.store.begin() as ledger:
        model = ledger.models.model(event.repository.id, batch.model)
        if model is None:
            return []
        windows = ledger.models.windows(model, role=batch.role, most=rules.keep)
    if batch.window:
        windows = [window for window in windows if window.observed.window == batch.window]
    changed = []
    for window in windows:
        observed = kit.summaries.labelled(window.observed, batch.table, columns)
        if observed is not None:
            changed.append(replace(window, observed=observed))
    return changed[::-1]


def _note(batch: Batch, columns: Columns) -> str:
    if batch.table is None:
        return ""
    if not columns.task and columns.prediction:
        return "no task is set for the model: its predictions are not judged"
    if columns.task and not columns.prediction:
        return "there is no column of predictions: only the inputs are looked at"
    return ""


def window_of(kit: Kit, event: ModelObserved) -> tuple[Model, Window, Window | None, Sequence[Window]] | None:
    """The model, the window, its reference and the windows before it. None: the model is not kept."""
    with kit.store.begin() as ledger:
        model = ledger.models.model(event.repository.id, event.model)
        if model is None:
            return None
        window = ledger.models.window(model, Role.CURRENT, event.window)
        references = ledger.models.windows(model, role=Role.REFERENCE)
        earlier = ledger.models.windows(model, role=Role.CURRENT, before=event.window, most=MOST_EARLIER)
    return (
        model,
        window or Window(Role.CURRENT, Observed(event.window, 0)),
        references[0] if references else None,
        earlier if window else [],
    )
