"""What is kept of a window of a model's predictions: counts and sums that add up, no raw rows.

Rows of one session resemble each other, so every mean needs the scatter of sessions, not of rows. Kept is, for a vector
`v` of what each row adds (`COMPONENTS`), the sum over rows and the sum over sessions of the outer product of session
sums: enough for the sandwich variance of any smooth function of the means (the linearisation of survey statistics).
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

TASKS = ("binary", "multiclass", "regression")
VERSION = 1

_CLASSIFICATION = ("rows", "error", "scored", "brier", "log_loss", "gap", "true_positive", "predicted", "positive")
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "binary": _CLASSIFICATION,
    "multiclass": _CLASSIFICATION,
    "regression": ("rows", "absolute", "squared", "signed", "label", "label_squared"),
}
"""What a labelled row adds; the second is the loss that streams and segments follow."""

BLOCK_ROWS = 50
BLOCKS = 2_000
OPEN_SESSIONS = 256
PENDING = 4_000
CLASSES = 50
SEGMENT_COLUMNS, SEGMENT_VALUES = 4, 50
TEXT = 64
LARGEST = 1e60
BUCKET_S, BUCKETS = 300, 1_000
OTHER = "…"

_LOGIT_SPAN, _LOGIT_BINS = 9.2, 254
EDGES: NDArray[np.float64] = 1 / (1 + np.exp(-np.linspace(-_LOGIT_SPAN, _LOGIT_SPAN, _LOGIT_BINS + 1)))
"""Edges of the 256 bins of a score: equal steps of its logit, since confident scores differ near 0 and 1."""
LATENCY_STEPS = 4
"""Latencies are counted in bins that grow by the fourth root of two (19 %)."""

Summary = dict[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Observations in columns of equal length, in the order in which they were made.

    `prediction` and `label` are class names (text, integers, booleans; `true` and `1` are the same) or, in a
    regression, numbers; a label that is not known yet is None or NaN. `score` is 0…1: the probability of the class
    `positive` in a binary task, of the predicted class in a multiclass one. `id` names a prediction so that its label
    can come later; `session` is what rows share that are not independent (a user, a visit, a device). `segments` are
    columns to slice by. `at` is seconds since the epoch, `latency_ms` milliseconds, `failed` whether the request was.
    """

    task: str
    prediction: Sequence[Any]
    score: Sequence[Any] | None = None
    label: Sequence[Any] | None = None
    id: Sequence[Any] | None = None
    session: Sequence[Any] | None = None
    segments: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    at: Sequence[Any] | None = None
    latency_ms: Sequence[Any] | None = None
    failed: Sequence[Any] | None = None
    positive: Any = "1"


def empty(task: str, positive: Any = "1") -> Summary:
    """A window without observations.

    - `rows` predictions taken; `labelled` of them have a label; `invalid` rows had no usable prediction (none, or a
      number beyond `LARGEST`); `dropped` wait for no label any more (beyond `PENDING`); `unmatched` labels had no
      prediction that waits.
    - `scores`: bin of the score → rows, rows predicted positive, labelled rows, their sum of scores, their hits (label
      is positive; in a multiclass task: prediction is right).
    - `sums`, `products` (upper triangle), `sessions`: `COMPONENTS` over labelled rows and closed sessions;
      `open`: the last `OPEN_SESSIONS` sessions, which may go on in the next batch.
    - `confusion`: prediction → label → rows, at most `CLASSES` names each.
    - `segments`: column → value → rows, loss, products of session sums (rows², rows · loss, loss²), sessions; at most
      `SEGMENT_COLUMNS` columns of `SEGMENT_VALUES` values, the others are `OTHER`.
    - `blocks`: consecutive whole sessions of at least `BLOCK_ROWS` rows (neighbours are joined beyond `BLOCKS`):
      rows, loss; `block`: the one that is not full yet.
    - `pending`: hash of the id → prediction, score, hash of the session, segments, of predictions whose label may come:
      those with the `PENDING` smallest hashes, which is a uniform sample of all that came and does not depend on order.
    - `service`: start of five minutes (seconds) → requests, failed ones, bin of latency → requests.
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}")
    size = len(COMPONENTS[task])
    return {
        "version": VERSION,
        "task": task,
        "positive": class_name(positive),
        "rows": 0,
        "labelled": 0,
        "invalid": 0,
        "dropped": 0,
        "unmatched": 0,
        "scores": {},
        "sums": [0.0] * size,
        "products": [0.0] * (size * (size + 1) // 2),
        "sessions": 0,
        "open": {},
        "confusion": {},
        "segments": {},
        "blocks": [],
        "block": [0, 0.0],
        "pending": {},
        "service": {},
    }


def summarise(batch: Batch, key: bytes = b"") -> Summary:
    """What is kept of one batch. `key` (at most 64 bytes, a secret of the caller) makes hashes of ids unguessable."""
    kept = empty(batch.task, batch.positive)
    _check_lengths(batch)
    prediction = _targets(batch.task, batch.prediction)
    valid = [index for index, value in enumerate(prediction) if value is not None]
    kept["rows"], kept["invalid"] = len(valid), len(prediction) - len(valid)
    label = _targets(batch.task, batch.label) if batch.label is not None else [None] * len(prediction)
    rows = _Rows(
        prediction=[prediction[index] for index in valid],
        label=[label[index] for index in valid],
        score=_probabilities(batch.score, len(prediction))[valid],
        session=[_hash(batch.session[index], key) if batch.session is not None else "" for index in valid],
        segments={
            _text(name): [class_name(column[index]) or "" for index in valid]
            for name, column in list(batch.segments.items())[:SEGMENT_COLUMNS]
        },
    )
    positive = _are(rows.prediction, kept["positive"])
    for index, predicted in zip(_bins(rows.score), positive, strict=True):
        if index >= 0:
            counts = kept["scores"].setdefault(str(index), [0, 0, 0, 0.0, 0])
            counts[0] += 1
            counts[1] += int(predicted)
    _count_labels(kept, rows.take([place for place, value in enumerate(rows.label) if value is not None]))
    if batch.id is not None:
        for place, index in enumerate(valid):
            named = _hash(batch.id[index], key)
            if rows.label[place] is None and named:
                kept["pending"][named] = rows.waiting(place)
    _bound_pending(kept)
    _count_requests(kept, batch)
    return kept


def join(summary: Mapping[str, Any], ids: Sequence[Any], labels: Sequence[Any], key: bytes = b"") -> Summary:
    """`summary` with the labels of predictions that waited for one; each label is taken once."""
    if len(ids) != len(labels):
        raise ValueError(f"labels has {len(labels)} rows, id has {len(ids)}")
    targets = _targets(summary["task"], labels)
    named = {_hash(one, key): target for one, target in zip(ids, targets, strict=True) if target is not None}
    pending = dict(summary["pending"])
    found = [(pending.pop(one), target) for one, target in named.items() if one in pending]
    kept = empty(summary["task"], summary["positive"])
    kept["unmatched"] = len(named) - len(found)
    columns = sorted({column for (_, _, _, segments), _ in found for column in segments})
    _count_labels(
        kept,
        _Rows(
            prediction=[row[0] for row, _ in found],
            label=[target for _, target in found],
            score=np.array([math.nan if row[1] is None else row[1] for row, _ in found], dtype=float),
            session=[row[2] for row, _ in found],
            segments={column: [row[3].get(column, "") for row, _ in found] for column in columns},
        ),
    )
    return merge({**summary, "pending": pending}, kept)


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> Summary:
    """What is kept of both, `first` being the earlier one."""
    for name in ("version", "task", "positive"):
        if first[name] != second[name]:
            raise ValueError(f"{name} differs: {first[name]} before, {second[name]} now")
    both = empty(first["task"], first["positive"])
    for name in ("rows", "labelled", "invalid", "dropped", "unmatched", "sessions"):
        both[name] = first[name] + second[name]
    both["sums"], both["products"] = (_added(first[name], second[name]) for name in ("sums", "products"))
    both["scores"] = {index: list(counts) for index, counts in first["scores"].items()}
    for index, counts in second["scores"].items():
        both["scores"][index] = _added(both["scores"].get(index, [0] * len(counts)), counts)
    both["open"] = dict(first["open"])
    for session, sums in second["open"].items():
        before = both["open"].pop(session, None)
        both["open"][session] = _added(before, sums) if before else list(sums)
    _close_sessions(both)
    _merge_tables(both, first, second)
    _merge_blocks(both, first, second)
    both["pending"] = {**first["pending"], **second["pending"]}
    _bound_pending(both)
    return both


def moments(summary: Mapping[str, Any]) -> tuple[Floats, Floats, int]:
    """Sums of `COMPONENTS` (k), the sum over sessions of the products of their sums (k x k), the number of sessions."""
    sums = np.array(summary["sums"], dtype=float)
    products = np.zeros((len(sums), len(sums)))
    products[np.triu_indices(len(sums))] = summary["products"]
    products += np.triu(products, 1).T
    if summary["open"]:
        going = np.array(list(summary["open"].values()), dtype=float)
        products += going.T @ going
    return sums, products, summary["sessions"] + len(summary["open"])


def score_table(summary: Mapping[str, Any]) -> tuple[NDArray[np.int64], Floats]:
    """Bins of the score that hold rows (b), ascending, and for each (b x 5): rows, predicted positive, labelled rows,
    the labelled rows' sum of scores, and hits."""
    found = sorted((int(index), counts) for index, counts in summary["scores"].items())
    return (
        np.array([index for index, _ in found], dtype=np.int64),
        np.array([counts for _, counts in found], dtype=float).reshape(len(found), 5),
    )


def class_name(value: Any) -> str | None:
    """The name of a class: `True`, `1`, `1.0` and "1" are the same; None for what is missing."""
    if value is None:
        return None
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if not math.isfinite(number):
            return None
        return str(int(number)) if number == int(number) else repr(number)
    return _text(value)


def latency_ms(index: int) -> float:
    """The lower edge of a bin of latencies."""
    return float(2.0 ** (index / LATENCY_STEPS))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows with a usable prediction, in columns; `score` is NaN and `session` "" where there is none."""

    prediction: list[Any]
    label: list[Any]
    score: Floats
    session: list[str]
    segments: dict[str, list[str]]

    def take(self, places: list[int]) -> "_Rows":
        return _Rows(
            prediction=[self.prediction[place] for place in places],
            label=[self.label[place] for place in places],
            score=self.score[places],
            session=[self.session[place] for place in places],
            segments={name: [column[place] for place in places] for name, column in self.segments.items()},
        )

    def waiting(self, place: int) -> list[Any]:
        score = float(self.score[place])
        segments = {name: column[place] for name, column in self.segments.items()}
        return [self.prediction[place], None if math.isnan(score) else score, self.session[place], segments]


def _check_lengths(batch: Batch) -> None:
    size = len(batch.prediction)
    columns = {name: getattr(batch, name) for name in ("score", "label", "id", "session", "at", "latency_ms", "failed")}
    columns |= {f"segments.{name}": column for name, column in batch.segments.items()}
    for name, column in columns.items():
        if column is not None and len(column) != size:
            raise ValueError(f"{name} has {len(column)} rows, prediction has {size}")


def _text(value: Any) -> str:
    """In one line, and without halves of surrogate pairs, which JSON may hold and UTF-8 may not."""
    return " ".join(str(value).split()).encode("utf-8", "replace").decode()[:TEXT]


def _hash(value: Any, key: bytes) -> str:
    """Sixteen hexadecimal digits; "" for what is missing."""
    if value is None or value == "":
        return ""
    return hashlib.blake2b(str(value).encode("utf-8", "replace"), digest_size=8, key=key).hexdigest()


def _number(value: Any) -> float:
    """NaN for what is no number, or so large that sums of its fourth power would not be."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if abs(number) <= LARGEST else math.nan


def _targets(task: str, column: Sequence[Any]) -> list[Any]:
    """Class names or numbers; None for what is missing."""
    if task != "regression":
        return [class_name(value) for value in column]
    return [None if math.isnan(number) else number for number in map(_number, column)]


def _probabilities(column: Sequence[Any] | None, size: int) -> Floats:
    """NaN for what is missing or outside 0…1."""
    if column is None:
        return np.full(size, math.nan)
    scores = np.array([_number(value) for value in column], dtype=float)
    scores[~((scores >= 0) & (scores <= 1))] = math.nan
    return scores


def _are(column: Sequence[Any], name: Any) -> NDArray[np.bool_]:
    return np.array([value == name for value in column], dtype=bool)


def _bins(score: Floats) -> NDArray[np.int64]:
    """0…255 for each score; -1 where there is none."""
    return np.where(np.isnan(score), -1, np.searchsorted(EDGES, score, side="right"))


def _components(task: str, positive: str, rows: _Rows) -> Floats:
    """What each labelled row adds (rows x components)."""
    ones = np.ones(len(rows.label))
    if task == "regression":
        label, prediction = (np.array(column, dtype=float) for column in (rows.label, rows.prediction))
        signed = prediction - label
        return np.column_stack([ones, np.abs(signed), signed**2, signed, label, label**2])
    right = np.array([one == two for one, two in zip(rows.prediction, rows.label, strict=True)], dtype=bool)
    predicted, actual = _are(rows.prediction, positive), _are(rows.label, positive)
    hit = actual if task == "binary" else right
    scored = ~np.isnan(rows.score)
    score = np.where(scored, rows.score, 0)
    likely = np.clip(np.where(hit, score, 1 - score), 1e-6, 1)
    columns = [ones, ~right, scored, (score - hit) ** 2 * scored, -np.log(likely) * scored, (score - hit) * scored]
    binary = [predicted & actual, predicted, actual]
    return np.column_stack([*columns, *(column * (task == "binary") for column in binary)]).astype(float)


def _count_labels(kept: Summary, rows: _Rows) -> None:
    """Adds labelled rows to everything but `rows` and what a score alone tells."""
    if not rows.label:
        return
    task = kept["task"]
    values = _components(task, kept["positive"], rows)
    kept["labelled"] += len(values)
    groups, names = _sessions(rows.session)
    sums = _grouped(values, groups, len(names))
    going = {name: place for place, name in enumerate(names) if name}
    closed = np.ones(len(names), dtype=bool)
    closed[list(going.values())] = False
    kept["sums"] = _added(kept["sums"], values.sum(axis=0).tolist())
    kept["products"] = _added(kept["products"], _products(sums[closed]))
    kept["sessions"] += int(closed.sum())
    kept["open"] = {name: sums[place].tolist() for name, place in going.items()}
    _close_sessions(kept)
    _count_blocks(kept, sums[:, :2])
    for column, cells in rows.segments.items():
        table: dict[str, list[float]] = kept["segments"].setdefault(column, {})
        places: dict[str, int] = {}
        codes = np.array(
            [places.setdefault(_bounded(places, cell, SEGMENT_VALUES), len(places)) for cell in cells], dtype=np.int64
        )
        for value, place in places.items():
            inside = codes == place
            own = _grouped(values[inside, :2], groups[inside], len(names))
            own = own[own[:, 0] > 0]
            _add_bounded(table, value, [*own.sum(axis=0).tolist(), *_products(own), len(own)], SEGMENT_VALUES)
    if task == "regression":
        return
    for prediction, label in zip(rows.prediction, rows.label, strict=True):
        by_label = kept["confusion"].setdefault(_bounded(kept["confusion"], prediction, CLASSES), {})
        name = _bounded(by_label, label, CLASSES)
        by_label[name] = by_label.get(name, 0) + 1
    hits = _are(rows.label, kept["positive"]) if task == "binary" else values[:, 1] == 0
    for index, score, hit in zip(_bins(rows.score), rows.score, hits, strict=True):
        if index >= 0:
            counts = kept["scores"].setdefault(str(index), [0, 0, 0, 0.0, 0])
            counts[2] += 1
            counts[3] += float(score)
            counts[4] += int(hit)


def _sessions(session: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """The number of each row's session in the order of first appearance, and the sessions' names; a row without one is
    alone ("")."""
    places: dict[Any, int] = {}
    groups = [places.setdefault(name or index, len(places)) for index, name in enumerate(session)]
    return np.array(groups, dtype=np.int64), [name if isinstance(name, str) else "" for name in places]


def _grouped(values: Floats, groups: NDArray[np.int64], size: int) -> Floats:
    sums = np.zeros((size, values.shape[1]))
    np.add.at(sums, groups, values)
    return sums


def _products(sums: Floats) -> list[float]:
    """The upper triangle of the sum of the outer products of the rows."""
    products: Floats = sums.T @ sums
    flat: list[float] = products[np.triu_indices(sums.shape[1])].tolist()
    return flat


def _close_sessions(kept: Summary) -> None:
    """Closes the sessions that are open longest, beyond `OPEN_SESSIONS`."""
    too_many = list(kept["open"])[: max(0, len(kept["open"]) - OPEN_SESSIONS)]
    if too_many:
        sums = np.array([kept["open"].pop(session) for session in too_many], dtype=float)
        kept["products"] = _added(kept["products"], _products(sums))
        kept["sessions"] += len(too_many)


def _count_blocks(kept: Summary, sessions: Floats) -> None:
    """Whole sessions (rows, loss), in order, into blocks of at least `BLOCK_ROWS` rows."""
    rows, loss = kept["block"]
    for more_rows, more_loss in sessions.tolist():
        rows, loss = rows + int(more_rows), loss + more_loss
        if rows >= BLOCK_ROWS:
            kept["blocks"].append([rows, loss])
            rows, loss = 0, 0.0
    kept["block"] = [rows, loss]
    _bound_blocks(kept)


def _merge_blocks(both: Summary, first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    later = [list(block) for block in second["blocks"]]
    both["block"] = list(second["block"])
    if later:
        later[0] = _added(first["block"], later[0])
    else:
        both["block"] = _added(first["block"], both["block"])
    both["blocks"] = [*map(list, first["blocks"]), *later]
    if both["block"][0] >= BLOCK_ROWS:
        both["blocks"].append(both["block"])
        both["block"] = [0, 0.0]
    _bound_blocks(both)


def _bound_blocks(kept: Summary) -> None:
    while len(kept["blocks"]) > BLOCKS:
        blocks = kept["blocks"]
        pairs = [_added(one, two) for one, two in zip(blocks[::2], blocks[1::2], strict=False)]
        kept["blocks"] = pairs + blocks[2 * len(pairs) :]


def _merge_tables(both: Summary, first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """`confusion`, `segments` and `service` of both."""
    for part in (first, second):
        for prediction, by_label in part["confusion"].items():
            into = both["confusion"].setdefault(_bounded(both["confusion"], prediction, CLASSES), {})
            for label, rows in by_label.items():
                name = _bounded(into, label, CLASSES)
                into[name] = into.get(name, 0) + rows
        for column, table in part["segments"].items():
            if column in both["segments"] or len(both["segments"]) < SEGMENT_COLUMNS:
                values = both["segments"].setdefault(column, {})
                for value, counts in table.items():
                    _add_bounded(values, value, counts, SEGMENT_VALUES)
        for start, (requests, failed, latencies) in part["service"].items():
            bucket = both["service"].setdefault(start, [0, 0, {}])
            bucket[0] += requests
            bucket[1] += failed
            for index, count in latencies.items():
                bucket[2][index] = bucket[2].get(index, 0) + count
    _bound_service(both)


def _count_requests(kept: Summary, batch: Batch) -> None:
    """Requests, failed ones and latencies, five minutes at a time."""
    if batch.at is None:
        return
    for index, value in enumerate(batch.at):
        at = _number(value)
        if not 0 <= at < 1e11:
            continue
        bucket = kept["service"].setdefault(str(int(at // BUCKET_S) * BUCKET_S), [0, 0, {}])
        bucket[0] += 1
        bucket[1] += int(batch.failed is not None and class_name(batch.failed[index]) in ("1", "true"))
        latency = _number(batch.latency_ms[index]) if batch.latency_ms is not None else math.nan
        if latency >= 0:
            step = str(math.floor(LATENCY_STEPS * math.log2(min(max(latency, 2.0**-5), 2.0**30))))
            bucket[2][step] = bucket[2].get(step, 0) + 1
    _bound_service(kept)


def _bound_service(kept: Summary) -> None:
    newest = sorted(kept["service"].items(), key=lambda item: int(item[0]))[-BUCKETS:]
    kept["service"] = dict(newest)


def _bound_pending(kept: Summary) -> None:
    too_many = len(kept["pending"]) - PENDING
    if too_many > 0:
        kept["pending"] = dict(sorted(kept["pending"].items())[:PENDING])
        kept["dropped"] += too_many


def _bounded(table: Mapping[str, Any], name: str, most: int) -> str:
    return name if name in table or len(table) < most else OTHER


def _add_bounded(table: dict[str, list[float]], name: str, counts: Sequence[float], most: int) -> None:
    name = _bounded(table, name, most)
    table[name] = _added(table.get(name, [0] * len(counts)), counts)


def _added(one: Iterable[float], two: Iterable[float]) -> list[float]:
    return [first + second for first, second in zip(one, two, strict=True)]
