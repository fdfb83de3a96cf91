"""How often the diagnosis is right on a folder of labelled logs.

    python -m benchmarks.bench_diagnosis --corpus PATH [--json] [--wrong]

PATH holds `dev.jsonl` (labelled pieces of logs), `needles.jsonl` (whole logs with cause and its lines) and
`cidiff.jsonl` (whole logs with error lines), each where there is one. In pieces, "no cause found" counts as
`no_failure`: some are of jobs that did not fail, which the bot never sees.
"""

import argparse
import gzip
import io
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
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


def best(text: str) -> list[Cause]:
    """Of several failed jobs, the causes of the one that is known best."""
    return max((diagnose(log) for log in jobs_of(text)), key=lambda causes: causes[0].confidence)


def ranked_lines(causes: Sequence[Cause]) -> list[int]:
    """The root of each cause, then what stands around the first."""
    roots = [line.number for cause in causes for line in cause.lines if line.root]
    return [*roots, *(line.number for line in causes[0].lines if not line.root)]


def measure(corpus: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The figures of each set that the corpus has, and one row for each record."""
    rows = []
    begin = time.perf_counter()
    for name in ("dev", "needles", "cidiff"):
        rows += [
            {"set": name, "id": record["id"], **_scored(name, record, corpus)} for record in _records(corpus, name)
        ]
    report: dict[str, Any] = {}
    for name in ("dev", "needles", "cidiff"):
        figures = [row["figures"] for row in rows if row["set"] == name and row["figures"]]
        if figures:
            shares = {key: round(sum(row[key] for row in figures) / len(figures), 4) for key in figures[0]}
            report[name] = {"n": len(figures), **shares}
    return report | {"seconds": round(time.perf_counter() - begin, 2)}, rows


def _scored(name: str, record: dict[str, Any], corpus: Path) -> dict[str, Any]:
    file = record.get("file") or record.get("fail")
    text = gzip.decompress((corpus / file).read_bytes()).decode("utf-8", "replace") if file else record["text"]
    causes = best(text)
    label, want = causes[0].kind, record.get("label", "")
    if label == "unknown" and (name == "dev" or want == "no_failure"):
        label = "no_failure"
    row = {"label": label, "want": want, "root": next((line.text for line in causes[0].lines if line.root), "")}
    if name == "dev":
        return row | {"figures": {"strict": label == want, "lenient": label in (want, *record["secondary_labels"])}}
    wanted = record.get("equivalent_lines") or [*record.get("error_lines", []), *record.get("error_lines_2", [])]
    if not wanted:
        return row | {"figures": {}}
    near = [any(abs(line - right) <= NEAR_LINES for right in wanted) for line in ranked_lines(causes)]
    figures = {"label": label == want} if want else {}
    return row | {"figures": {**figures, "hit@1": near[:1] == [True], "hit@5": any(near[:5])}}


def _records(corpus: Path, name: str) -> list[dict[str, Any]]:
    path = corpus / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--wrong", action="store_true", help="list what was labelled or placed wrongly, on stderr")
    arguments = parser.parse_args()
    report, rows = measure(arguments.corpus)
    for row in rows:
        if arguments.wrong and not all(row["figures"].values()):
            print(
                f"{row['id']}: {row['label']}, wanted {row['want'] or 'another line'}: {row['root'][:160]}",
                file=sys.stderr,
            )
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        for name, figures in report.items():
            print(name, figures)


if __name__ == "__main__":
    main()
