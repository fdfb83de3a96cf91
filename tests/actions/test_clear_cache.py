from typing import Any

import pytest

from actions.clear_cache import ClearCache
from app.domain.outcome import Conclusion
from tests.actions.stage import Stage, crash_everywhere
from tests.actions.workflows import failed

action = ClearCache()


def cached(key: str, fallbacks: str = "", more: str = "", **told: Any) -> Stage:
    return failed(workflow(key, fallbacks, more), "disk_full", **told)


def workflow(key: str, fallbacks: str = "", more: str = "") -> str:
    restore = f"          restore-keys: |\n{fallbacks}" if fallbacks else ""
    return (
        "on: push\njobs:\n  train:\n    runs-on: ubuntu-latest\n    steps:\n"
        "      - name: Wheels # kept\n        uses: actions/cache@v4\n        with:\n"
        f"          path: ~/.cache/pip\n          key: {key}\n{restore}      - run: make\n{more}"
    )


HASH = "${{ hashFiles('requirements.txt') }}"


@pytest.mark.parametrize(
    ("key", "fallback", "new_key", "new_fallback"),
    [
        (f"pip-v1-{HASH}", "pip-v1-", f"pip-v2-{HASH}", "pip-v2-"),
        (f"pip-v9-{HASH}", "", f"pip-v10-{HASH}", ""),
        (
            "${{ runner.os }}-pip-" + HASH,
            "${{ runner.os }}-pip-",
            "v2-${{ runner.os }}-pip-" + HASH,
            "v2-${{ runner.os }}-pip-",
        ),
        ("v1-data", "", "v2-data", ""),
        ("model-v1", "", "model-v2", ""),
        ("py3.v1-v2-x", "", "py3.v1-v3-x", ""),
    ],
)
def test_the_key_and_its_beginnings_are_counted_up(key: str, fallback: str, new_key: str, new_fallback: str) -> None:
    lines = f"            {fallback}\n" if fallback else ""
    new_lines = f"            {new_fallback}\n" if fallback else ""
    plan = cached(key, lines).plan(action)
    assert not plan.refusal
    assert plan.edits[0].after == workflow(new_key, new_lines)


def test_a_version_inside_an_expression_is_not_counted() -> None:
    key = "pip-${{ hashFiles('v1-lock.txt') }}"
    assert f"key: v2-{key}\n" in (cached(key).plan(action).edits[0].after or "")


def test_the_same_cache_elsewhere_in_the_file_moves_with_it() -> None:
    more = (
        "  other:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/cache/restore@v4\n"
        "        with: {path: ~/.cache/pip, key: pip-v1}\n"
    )
    assert cached("pip-v1", more=more).plan(action).edits[0].after == workflow("pip-v2", more=more.replace("v1", "v2"))


SECOND = "      - uses: actions/cache@v4\n        with: {path: data/raw, key: raw-v1}\n"


def test_of_several_caches_the_one_that_the_evidence_names_is_meant() -> None:
    at = cached("pip-v1", more=SECOND, lines=("tar: data/raw/x.bin: Wrote only 512 of 10240 bytes",))
    assert at.plan(action).edits[0].after == workflow("pip-v1", more=SECOND.replace("v1", "v2"))
    assert "cannot tell which cache" in cached("pip-v1", more=SECOND).plan(action).refusal


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("on: push\njobs:\n  train:\n    runs-on: x\n    steps:\n      - run: make\n", "no step of actions/cache"),
        (workflow("pip-v1-x", "            pip-\n"), "has no v1 where the key has it"),
        (workflow("pip-v1-x", "            raw-v1\n", SECOND), "same beginning"),
        (workflow("|\n            pip-v1"), "not edited"),
    ],
)
def test_what_would_not_forget_the_cache_is_refused(text: str, word: str) -> None:
    line = "/home/runner/.cache/pip: No space left on device"
    assert word in failed(text, "disk_full", lines=(line,)).plan(action).refusal


def test_it_is_offered_once_and_taken_back() -> None:
    def make() -> Stage:
        return cached("pip-v1")

    assert crash_everywhere(make, lambda at, tools: at.apply(action, at.repair(action), tools=tools))
    at = make()
    done = at.done(action)
    for _ in range(2):
        assert action.undo(done, at.tools).conclusion is Conclusion.SUCCESS
    assert list(at.forge.branches) == ["main"]
