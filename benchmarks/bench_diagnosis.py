"""How often the diagnosis is right on a folder of labelled logs.

    python benchmarks/bench_diagnosis.py --corpus PATH [--json] [--wrong] [--predictions FOLDER]

PATH holds `dev.jsonl` (labelled pieces of logs) and `needles.jsonl` with `full/*.log.gz` (whole logs with the line of
the cause). In pieces, "no cause found" counts as `no_failure`: some are of jobs that did not fail, which the bot never
sees.
"""

import argparse
import gzip
import io
import json
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.adapters.github.logs import read_job_log
from app.domain.evidence import Job, JobLog
from detectors.diagnosis import Cause, diagnose

NEAR_LINES = 2
TAB_FORMAT = re.compile(r"^(?!\d{4}-\d\d-)(?P<job>[^\t\n]{1,120})\t(?P<step>[^\t\n]{1,200})\t(?P<text>.*)$")
MOJIBAKE = "\u2229\u2557\u2510"  # a byte order mark that went through code page 437
EXIT = re.compile(r"##\[error\](?:Process completed with exit code [1-9]|The operation was canceled)")


def jobs_of(text: str) -> Iterator[JobLog]:
    """The failed jobs in a log, also in the tab format of GitHub's command line (several jobs in one file).

    Lines of other jobs are blanked, so line numbers stay those of the file.
    """
    lines = text.split("\n")
    tabs = [TAB_FORMAT.match(line) for line in lines]
    if sum(bool(tab) for tab in tabs) < len(lines) / 2:
        yield _read(text, "job")
        return
    by_job: dict[str, list[str]] = defaultdict(lambda: [""] * len(lines))
    for index, tab in enumerate(tabs):
        if tab:
            by_job[tab["job"]][index] = tab["text"].removeprefix(MOJIBAKE)
    failed = {job: own for job, own in by_job.items() if any(EXIT.search(line) for line in own)}
    for job, own in (failed or by_job).items():
        yield _read("\n".join(own), job)


def _read(text: str, name: str) -> JobLog:
    job = Job(id=1, name=name, run_id=1, attempt=1, head_sha="0" * 40, conclusion="failure")
    return read_job_log(io.BytesIO(text.encode()), job)


def best(text: str) -> Cause:
    """Of several failed jobs, the one whose cause is known best."""
    return max((diagnose(log)[0] for log in jobs_of(text)), key=lambda cause: cause.confidence)


def ranked_lines(cause: Cause) -> list[int]:
    root = [line.number for line in cause.lines if line.root]
    return [*root, *(line.number for line in cause.lines if not line.root)]


def measure(corpus: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rows = []
    begin = time.perf_counter()
    for record in _records(corpus / "dev.jsonl"):
        cause = best(record["text"])
        label = "no_failure" if cause.kind == "unknown" else cause.kind
        rows.append(
            {
                "set": "dev",
                "id": record["id"],
                "want": record["label"],
                "label": label,
                "cause": cause,
                "lenient": label in (record["label"], *record["secondary_labels"]),
            }
        )
    for record in _records(corpus / "needles.jsonl"):
        text = gzip.decompress((corpus / record["file"]).read_bytes()).decode("utf-8", "replace")
        cause = best(text)
        lines = ranked_lines(cause)
        near = [any(abs(line - want) <= NEAR_LINES for want in record["equivalent_lines"]) for line in lines]
        label = "no_failure" if record["label"] == "no_failure" and cause.kind == "unknown" else cause.kind
        rows.append(
            {
                "set": "needles",
                "id": record["id"],
                "want": record["label"],
                "label": label,
                "cause": cause,
                "lenient": label in (record["label"], *record["secondary_labels"]),
                "scored": bool(record["root_cause_lines"]),
                "tier": record["tier"],
                "hit1": near[:1] == [True],
                "hit5": any(near[:5]),
            }
        )
    seconds = time.perf_counter() - begin
    dev = [row for row in rows if row["set"] == "dev"]
    needles = [row for row in rows if row["set"] == "needles" and row["scored"]]
    report = {
        "dev": {
            "n": len(dev),
            "strict": _share(row["want"] == row["label"] for row in dev),
            "lenient": _share(row["lenient"] for row in dev),
        },
        "needles": {
            "n": len(needles),
            "label": _share(row["want"] == row["label"] for row in needles),
            "hit@1": _share(row["hit1"] for row in needles),
            "hit@5": _share(row["hit5"] for row in needles),
        },
        "seconds": round(seconds, 2),
    }
    return report, rows


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]


def _share(values: Iterator[bool]) -> float:
    counted = Counter(values)
    return round(counted[True] / max(1, counted.total()), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--wrong", action="store_true", help="list what was labelled wrongly")
    arguments = parser.parse_args()
    report, rows = measure(arguments.corpus)
    if arguments.wrong:
        for row in rows:
            if row["want"] != row["label"] or not row.get("hit1", True):
                root = next((line.text for line in row["cause"].lines if line.root), "")
                print(f"{row['id']}: {row['label']}, not {row['want']}: {root[:160]}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        for name, figures in report.items():
            print(name, figures)


if __name__ == "__main__":
    main()
