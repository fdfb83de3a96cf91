"""Whether the jobs that failed have passed."""

from datetime import UTC, datetime

import pytest

from app.domain.evidence import Job
from app.healing.verify import judge
from app.ports.forge import RunInfo

AT = datetime(2026, 11, 21, tzinfo=UTC)
RUN = RunInfo(5, 2, "completed", "success", "a" * 40, "main", "push", ".github/workflows/ci.yml", "CI", "", AT)


def looked_at(*conclusions: dict[str, str]) -> list[tuple[RunInfo, list[Job]]]:
    """What each run's jobs came to."""
    return [(RUN, [Job(1, name, 5, 2, "a" * 40, ended) for name, ended in run.items()]) for run in conclusions]


@pytest.mark.parametrize(
    ("runs", "proven", "reason"),
    [
        ([{"fit": "success", "eval": "success"}], True, "'fit' passed"),
        ([{"fit": "success", "eval": "failure"}], False, "'eval' failed again"),
        ([{"fit": "failure", "eval": "success"}], False, "'fit' failed again"),
        ([{"fit": "skipped", "eval": "timed_out"}], False, "'eval' failed again"),
        ([{"fit": "success"}], None, "'eval' did not run"),
        ([{"fit": "success", "eval": "skipped"}], None, "'eval' was skipped"),
        ([{"fit": "success"}, {"eval": "success"}], True, "'fit' passed"),
        ([{"fit": "success", "eval": "success"}, {"eval": "failure"}], False, "'eval' failed again"),
        ([], None, "'fit' did not run"),
    ],
)
def test_all_jobs_must_have_passed_and_none_may_have_failed(runs, proven, reason) -> None:
    answer = judge(looked_at(*runs), ("fit", "eval"))
    assert answer.proven is proven
    assert reason in answer.reason
