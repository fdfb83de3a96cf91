"""How often the diagnosis is right on a folder of labelled logs, how well it knows it, and whether it carries over.

    python -m benchmarks diagnosis --corpus PATH [--json] [--wrong] [--quick] [--calibrate] [--results FILE]

PATH holds `dev.jsonl` (labelled pieces of logs), `needles.jsonl` (whole logs with cause and its lines) and
`cidiff.jsonl` (whole logs with error lines, beside a log of the same job that passed), each where there is one. The
logs are read as `heal diagnose` reads them: nobody says whether the job failed.

"Left out" diagnoses each repository's records without the alternatives of patterns that no other repository's record
supports: what signatures written from the other repositories alone would have found. Confidence is fitted on those
answers, and figures about confidence are those of a fit without the repository in question.
"""

import argparse
import gzip
import io
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.adapters.logfile import job_logs, templates_in
from app.commands.diagnose import causes_of
from detectors.confidence import CALIBRATION, Calibration
from detectors.diagnosis import Cause, ranked_lines
from detectors.lines import view
from detectors.signatures import BUILTIN, Knowledge, Matcher, Signature

NEAR_LINES = 2
BINS = 10
PRECISION, COVERAGE = 0.99, 0.6
HEALTHY, UNKNOWN = "no_failure", "unknown"
TRANSIENT = frozenset(signature.kind for signature in BUILTIN.signatures if signature.transient)
REPAIRED = frozenset(s.kind for s in BUILTIN.signatures if s.ladder[0].action != "open_issue")
CALIBRATION_FILE = Path(__file__).parents[1] / "detectors" / "calibration.toml"
RESULTS = Path(__file__).parent / "results" / "diagnosis.json"
NAIVE: Mapping[str, Mapping[str, Any]] = {
    "dev": {"strict": 0.789, "lenient": 0.812, "macro F1": 0.812, "false alarms": "5/12"},
    "needles": {"label": "0.41-0.54", "hit@1": 0.39, "hit@5": 0.60},
    "cidiff": {"hit@1": 0.61, "hit@5": 0.96},
}
"""37 ordered patterns, and for lines the last keyword line above the first failing exit: read, not run here."""


@dataclass(frozen=True)
class Record:
    """One labelled log. `label` is "" and `lines` are those of errors in the set cidiff."""

    set: str
    id: str
    repo: str
    log: bytes
    label: str
    also: tuple[str, ...]
    ambiguous: bool
    facts: Mapping[str, Any]
    lines: tuple[int, ...]
    green: frozenset[int] | None = None


@dataclass(frozen=True)
class Answer:
    """What was diagnosed for a record; `label` is `no_failure` where no cause was found."""

    record: Record
    causes: Sequence[Cause]

    @property
    def label(self) -> str:
        return self.causes[0].kind if self.causes else HEALTHY

    @property
    def right(self) -> bool:
        return self.label == self.record.label

    def near(self, first: int) -> bool:
        lines = ranked_lines(self.causes)[:first]
        return any(abs(line - right) <= NEAR_LINES for line in lines for right in self.record.lines)


def records(corpus: Path) -> list[Record]:
    """The labelled logs of each set that the corpus has."""
    found = []
    for name in ("dev", "needles", "cidiff"):
        path = corpus / f"{name}.jsonl"
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            row = json.loads(line)
            file = row.get("file") or row.get("fail")
            passed = row.get("passing")
            found.append(
                Record(
                    set=name,
                    id=row["id"],
                    repo=row.get("source_repo") or row["id"],
                    log=gzip.decompress((corpus / file).read_bytes()) if file else row["text"].encode(),
                    label=row.get("label", ""),
                    also=tuple(row.get("secondary_labels", ())),
                    ambiguous=row.get("ambiguous", False),
                    facts=row.get("expected_fields", {}),
                    lines=tuple(
                        row.get("equivalent_lines") or [*row.get("error_lines", ()), *row.get("error_lines_2", ())]
                    ),
                    green=_green(corpus / passed) if passed else None,
                )
            )
    return found


def _green(file: Path) -> frozenset[int]:
    with file.open("rb") as log:
        return templates_in(log)


def answer(record: Record, knowledge: Knowledge = BUILTIN, *, green: bool = False) -> Answer:
    """What `heal diagnose` says."""
    told = causes_of(io.BytesIO(record.log), green=record.green if green else None, knowledge=knowledge)
    return Answer(record, [one.cause for one in told])


def measure(answers: Sequence[Answer], with_green: Sequence[Answer] = ()) -> dict[str, Any]:
    """The figures of each set."""
    report: dict[str, Any] = {}
    dev = [answer for answer in answers if answer.record.set == "dev"]
    if dev:
        report["dev"] = _of_pieces(dev)
    needles = [answer for answer in answers if answer.record.set == "needles" and answer.record.lines]
    if needles:
        report["needles"] = {"n": len(needles), "label": _share(a.right for a in needles), **_of_lines(needles)}
    for name, some in (("cidiff", [a for a in answers if a.record.set == "cidiff"]), ("cidiff, green", with_green)):
        if some:
            report[name] = {"n": len(some), **_of_lines(some)}
    return report


def _of_pieces(answers: Sequence[Answer]) -> dict[str, Any]:
    facts = [(answer, name, value) for answer in answers for name, value in answer.record.facts.items()]
    healthy = [answer for answer in answers if answer.record.label == HEALTHY]
    labels = {answer.record.label for answer in answers}
    return {
        "n": len(answers),
        "strict": _share(answer.right for answer in answers),
        "lenient": _share(answer.right or answer.label in answer.record.also for answer in answers),
        "unambiguous": _share(answer.right for answer in answers if not answer.record.ambiguous),
        "macro F1": round(sum(_f1(answers, {label}) for label in labels) / len(labels), 4),
        "facts": _share(
            answer.causes and same(value, answer.causes[0].facts.get(name)) for answer, name, value in facts
        ),
        "false alarms": f"{sum(answer.label != HEALTHY for answer in healthy)}/{len(healthy)}",
    }


def _of_lines(answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "hit@1": _share(answer.near(1) for answer in answers),
        "hit@5": _share(answer.near(5) for answer in answers),
    }


def same(wanted: Any, told: Any) -> bool:
    """A fact is right; of a list of wanted values any will do."""
    if isinstance(wanted, list):
        return told in wanted or (isinstance(told, list) and bool(set(map(str, wanted)) & set(map(str, told))))
    if isinstance(wanted, (int, float)) and isinstance(told, (int, float)):
        return abs(wanted - told) <= 1e-6 * max(1, abs(wanted))
    return str(wanted) == str(told)


def _share(rights: Iterator[Any] | Sequence[Any] | Any) -> float:
    told = [bool(right) for right in rights]
    return round(sum(told) / len(told), 4) if told else 0.0


def _f1(answers: Sequence[Answer], kinds: frozenset[str] | set[str]) -> float:
    """Of the question whether the label is one of `kinds`."""
    outcomes = Counter((answer.record.label in kinds, answer.label in kinds) for answer in answers)
    # Within one class both must be that label; within several any of them.
    wrong = outcomes[True, False] + outcomes[False, True]
    return 2 * outcomes[True, True] / (2 * outcomes[True, True] + wrong) if outcomes[True, True] else 0.0


def left_out(found: Sequence[Record]) -> list[Answer]:
    """Each labelled record, diagnosed without what only its own repository supports."""
    labelled = [record for record in found if record.label]
    pieces = [
        (piece, (signature, piece))
        for signature in BUILTIN.signatures
        for pattern in signature.patterns
        for piece in alternatives(pattern)
    ]
    matcher = Matcher(pieces)
    support: dict[str, set[str]] = defaultdict(set)
    for record in labelled:
        for log in job_logs(io.BytesIO(record.log)):
            seen = view(log)
            for _, text, _ in seen.lines[: seen.end]:
                for _, (_, piece) in matcher(text):
                    support[piece].add(record.repo)
    answers = []
    known: dict[str, Knowledge] = {}
    for record in labelled:
        if record.repo not in known:
            own = {piece for piece, repos in support.items() if repos == {record.repo}}
            kept = [_without(signature, own) for signature in BUILTIN.signatures]
            known[record.repo] = Knowledge(
                [signature for signature in kept if signature.patterns], BUILTIN.red_herrings
            )
        answers.append(answer(record, known[record.repo]))
    return answers


def _without(signature: Signature, unsupported: set[str]) -> Signature:
    patterns = []
    for pattern in signature.patterns:
        pieces = alternatives(pattern)
        kept = [piece for piece in pieces if piece not in unsupported]
        patterns += [pattern] if len(kept) == len(pieces) else kept
    return replace(signature, patterns=tuple(patterns))


def alternatives(pattern: str) -> list[str]:
    """The alternatives of a pattern at its top level, each with the pattern's flags."""
    flags = re.match(r"\(\?[a-z]+\)", pattern)
    pieces, depth, start, i, in_class = [], 0, flags.end() if flags else 0, flags.end() if flags else 0, False
    while i < len(pattern):
        c = pattern[i]
        if c == "\\":
            i += 1
        elif in_class:
            in_class = c != "]"
        elif c == "[":
            in_class = True
            i += pattern[i + 1 : i + 2] in ("]",)
        elif c in "()":
            depth += 1 if c == "(" else -1
        elif c == "|" and depth == 0:
            pieces.append(pattern[start:i])
            start = i + 1
        i += 1
    return [(flags[0] if flags else "") + piece for piece in (*pieces, pattern[start:])]


def fitted(answers: Sequence[Answer]) -> Calibration:
    """The confidence that these answers deserve: a logistic fit, and for each repaired kind the lowest threshold above
    which every answer is right."""
    from sklearn.linear_model import LogisticRegression

    told = [answer for answer in answers if answer.causes and answer.causes[0].features]
    names = sorted(told[0].causes[0].features)
    rows = [[answer.causes[0].features[name] for name in names] for answer in told]
    fit = LogisticRegression(C=0.3, max_iter=1000).fit(rows, [answer.right for answer in told])
    weights = {"bias": round(float(fit.intercept_[0]), 3)}
    weights |= {name: round(float(weight), 3) for name, weight in zip(names, fit.coef_[0], strict=True)}
    bare = Calibration(weights, {}, 1.0, CALIBRATION.lowest, CALIBRATION.highest)
    wrong: dict[str, float] = defaultdict(float)
    for answer in told:
        cause = answer.causes[0]
        if not answer.right and not cause.features["contested"]:
            wrong[cause.kind] = max(wrong[cause.kind], bare.confidence(cause.features) + 0.01)
    thresholds = {kind: round(max(FLOOR, wrong[kind]), 3) for kind in sorted(REPAIRED)}
    return replace(bare, thresholds=thresholds, otherwise=FLOOR)


FLOOR = 0.8


def sure(answers: Sequence[Answer], basis: Sequence[Answer]) -> dict[str, Any]:
    """How well the confidence is known: each repository's answers with a fit on the others' in `basis`.

    Ten bins of equal mass; a repair is right when the cause that it acts on is.
    """
    judged: list[tuple[float, bool]] = []
    acted: list[bool] = []
    repaired = 0
    for repo in sorted({answer.record.repo for answer in answers}):
        own = [answer for answer in answers if answer.record.repo == repo]
        calibration = fitted([answer for answer in basis if answer.record.repo != repo])
        for answer in own:
            repaired += answer.record.label in REPAIRED
            if not answer.causes:
                continue
            cause = answer.causes[0]
            confidence = calibration.confidence(cause.features) if cause.features else cause.confidence
            judged.append((confidence, answer.right))
            if cause.kind in REPAIRED and calibration.is_actionable(cause.kind, confidence, cause.features):
                acted.append(answer.right)
    judged.sort()
    bins = [judged[i * len(judged) // BINS : (i + 1) * len(judged) // BINS] for i in range(BINS)]
    gaps = [abs(sum(c for c, _ in some) - sum(right for _, right in some)) for some in bins]
    return {
        "n": len(judged),
        "named right": _share(answer.right for answer in answers if answer.causes and answer.causes[0].signature),
        "calibration error": round(sum(gaps) / len(judged), 4),
        "repairs": len(acted),
        "repairs right": _share(acted),
        "coverage": round(sum(acted) / repaired, 4),
        "transient F1": round(_f1(answers, TRANSIENT), 4),
    }


def calibration_text(calibration: Calibration) -> str:
    tables = ("weights", "thresholds")
    head = "".join(f"{name} = {getattr(calibration, name)}\n" for name in ("otherwise", "lowest", "highest"))
    body = "".join(
        f"\n[{table}]\n" + "".join(f"{name} = {value}\n" for name, value in getattr(calibration, table).items())
        for table in tables
    )
    return f"# Written by `python -m benchmarks diagnosis --corpus PATH --calibrate`.\n{head}{body}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--wrong", action="store_true", help="list what was labelled or placed wrongly")
    parser.add_argument("--quick", action="store_true", help="without the repositories left out")
    parser.add_argument("--calibrate", action="store_true", help="write detectors/calibration.toml")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to keep the figures")
    arguments = parser.parse_args()
    found = records(arguments.corpus)
    begin = time.process_time()
    answers = [answer(record) for record in found]
    seconds = time.process_time() - begin
    with_green = [answer(record, green=True) for record in found if record.green is not None]
    report = measure(answers, with_green) | {"processor seconds": round(seconds, 2)}
    if not arguments.quick:
        others = left_out(found)
        report["left out"] = measure(others)
        report["confidence"] = sure([a for a in answers if a.record.label], others)
        report["confidence, left out"] = sure(others, others)
        if arguments.calibrate:
            CALIBRATION_FILE.write_text(calibration_text(fitted(others)), "utf-8")
        arguments.results.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    if arguments.wrong:
        for one in (*answers, *with_green):
            _tell(one)
    print(json.dumps(report, indent=2) if arguments.json else table(report))


def _tell(one: Answer) -> None:
    record = one.record
    wrong = [f"label {one.label}, wanted {record.label}"] if record.label and not one.right else []
    if record.lines and not one.near(1):
        wrong.append(f"line {ranked_lines(one.causes)[:5]}, wanted {list(record.lines)[:5]}")
    if record.label and one.right and one.causes:
        facts = one.causes[0].facts
        wrong += [
            f"{k} {facts.get(k)!r}, wanted {v!r}"[:200] for k, v in record.facts.items() if not same(v, facts.get(k))
        ]
    if wrong:
        root = next((line.text for cause in one.causes for line in cause.lines if line.root), "")
        print(f"{record.id}: {'; '.join(wrong)}: {root[:120]}")


def table(report: Mapping[str, Any]) -> str:
    """Each set's figures, ours beside the naive patterns'."""
    rows = ["| set | figure | ours | naive (read) |", "|---|---|---|---|"]
    for name, figures in report.items():
        flat = figures if isinstance(figures, dict) else {"": figures}
        for figure, value in flat.items():
            inner = value if isinstance(value, dict) else {"": value}
            for last, number in inner.items():
                naive = NAIVE.get(name, {}).get(figure, "") if not last else ""
                rows.append(f"| {name} | {' '.join(filter(None, (figure, last)))} | {number} | {naive} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
