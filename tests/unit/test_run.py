"""What a run says of its end is data of a stranger."""

import json
import math
from typing import Any

import pytest

from app.domain.errors import Malformed
from app.domain.run import EndedRun, Failure, failure_of, run_from_json, run_to_json

FAILURE = Failure(
    "host_oom", "batch 16 needs more", {"batch": "4"}, True, {"limit_bytes": 4e9, "machine": "m1", "x": True}
)
RUN = EndedRun("process", "a" * 32, "speech", "train", "model speech", "speech", "b" * 32, 1, FAILURE, "epoch 1\nbroke")


def failed(**failure: Any) -> Failure | None:
    return failure_of({"outcome": "failed", "failure": {"kind": "host_oom", **failure}})


def test_a_run_is_the_same_after_it_was_kept() -> None:
    for run in (RUN, EndedRun("process", "h", "speech", "train")):
        assert run_from_json(json.loads(json.dumps(run_to_json(run)))) == run


def test_numbers_become_what_settings_have() -> None:
    found = failed(advice={"batch": 4, "learning_rate": 1e-5, "amp": True, "precision": "bf16", "half": 0.5})
    assert found is not None
    assert found.advice == {
        "batch": "4",
        "learning_rate": "1e-05",
        "amp": "true",
        "precision": "bf16",
        "half": "0.5",
    }


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"outcome": "succeeded", "failure": {"kind": "bug"}},
        {"outcome": "failed"},
        {"outcome": "failed", "failure": "host_oom"},
        {"outcome": "failed", "failure": {}},
        {"outcome": "failed", "failure": {"kind": 3}},
        {"outcome": "failed", "failure": {"kind": "Host OOM\n"}},
        {"outcome": "failed", "failure": {"kind": "x" * 100}},
    ],
)
def test_what_tells_no_failure_is_none(report: dict[str, Any]) -> None:
    assert failure_of(report) is None


def test_what_is_too_long_too_much_or_of_another_form_is_left_out() -> None:
    found = failed(
        message="a\x00b\x1b[31m\n" + "word " * 100_000,
        advice=["batch=4"],
        facts={
            **{f"n{number}": number for number in range(1_000)},
        },
        resumable="yes",
    )
    assert found is not None
    assert len(found.message) <= 500
    assert found.message.isprintable()
    assert (found.advice, len(found.facts), found.resumable) == ({}, 40, False)
    found = failed(facts={"a": math.nan, "b": 10**400, "c": [1], "d": None, "é": 1, "../e": 1, "ok": "x" * 5_000})
    assert found is not None
    assert set(found.facts) == {"ok"}
    assert len(str(found.facts["ok"])) == 200


@pytest.mark.parametrize("change", [{"handle": ""}, {"workload": 7}, {"failure": {}}, {"failure": None}])
def test_a_kept_run_that_cannot_be_read_is_said_so(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        run_from_json({**run_to_json(RUN), **change})
