"""kill -9 while each kind of action is applied: after the restart there is one effect, and it ends as told."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

import actions
from app.db.engine import db_now, writing
from app.db.leases import ROWS
from app.domain.repair import Proof
from tests.e2e.conftest import Staged
from tests.e2e.stage import Stage
from tests.scenarios.catalogue import Scenario, catalogue, demo, packages
from tests.scenarios.play import play_all

SCENARIOS = (*catalogue(), *demo())
KINDS = {action.kind: action for action in actions.BUILTIN}
# Where an action dies, by how it is proven; a row survives two crashes, so a play has two of them.
DEATHS = {
    Proof.FIX_BRANCH: ("write refs of {0}", "write pulls of {0}"),
    Proof.SAME_RUN: ("write 1 of {0}", "applied {0}"),
    Proof.OWN: ("write 1 of {0}", "applied {0}"),
    Proof.NOTHING: ("write 1 of {0}", "applied {0}"),
}
# Kinds that no scenario ends with: where a test kills what applies them instead, and its words there.
ELSEWHERE = {
    # their incidents come from a model and not from a run
    "retrain_model": ("e2e/test_models.py", "write 1 of retrain_model"),
    "promote_model": ("e2e/test_models.py", "write 2 of promote_model"),
    "roll_back_model": ("actions/test_promote_model.py", "test_whoever_is_killed_anywhere"),  # its writes are the same
    # a disk that is full cannot be had in a test; they are pull requests like those that are killed here
    "free_disk": ("actions/test_free_disk.py", "crash_everywhere("),
    "clear_cache": ("actions/test_clear_cache.py", "crash_everywhere("),
    # a benchmark and a question are no answer to a failure that a scenario could show healed
    "benchmark_model": ("actions/test_benchmark_model.py", "crash_everywhere("),
    "rotate_secret": ("actions/test_rotate_secret.py", "crash_everywhere("),
    # it goes on from a run of a workload, and not of a workflow
    "resume_run": ("actions/test_resume_run.py", "test_a_worker_that_stops_after_any_note_starts_it_once"),
    # a message may be sent twice, and says by its key that it is the same
    "notify": ("actions/test_notify.py", "test_carried_out_twice_it_is_sent_once"),
}
TESTS = Path(__file__).parents[1]


def scenario_of(kind: str) -> Scenario | None:
    """The plainest one that this action heals, or in which it is the last."""
    fit = [s for s in SCENARIOS if kind in (s.healed_by, *(s.tries or ())[-1:])]
    return min(fit, key=lambda s: (len(s.steps), len(s.tries or (kind,)), s.name), default=None)


PLAYED = {kind: scenario for kind in KINDS if (scenario := scenario_of(kind)) is not None}


def test_no_kind_of_action_is_left_out() -> None:
    assert set(KINDS) - set(PLAYED) == set(ELSEWHERE)
    for file, words in ELSEWHERE.values():
        assert words in (TESTS / file).read_text(), file


@pytest.fixture(scope="module")
def bot(staged: Staged) -> Iterator[Stage]:
    with staged("embedded", {"HEAL_DATABASE__LEASE_S": "30"}, packages(SCENARIOS)) as made:
        made.start_killable()
        ended = threading.Event()
        clock = threading.Thread(target=time_passes, args=(made, ended), daemon=True)
        clock.start()
        yield made
        ended.set()
        clock.join()


def time_passes(bot: Stage, ended: threading.Event) -> None:
    """The leases of whoever was killed run out at once; no lease of a living one does, however slow the machine is."""
    dead = bot.order.with_suffix(".dead")
    over = 0
    while not ended.wait(0.05):
        killed = dead.read_text().splitlines() if dead.exists() else []
        for pid in killed[over:]:
            for row in ROWS.values():
                theirs = update(row).where(row.lease_owner.endswith(f":{pid}"), row.lease_until.is_not(None))
                with writing(bot.engine) as connection:
                    connection.execute(theirs.values(lease_until=db_now(-1)))
        over = len(killed)


def order(bot: Stage, *steps: str) -> None:
    draft = bot.order.with_suffix(".draft")
    draft.write_text("\n".join(f"kill {step}" for step in steps))
    os.replace(draft, bot.order)


def dies_and_ends_as_told(bot: Stage, kind: str, deaths: tuple[str, ...], name: str) -> None:
    bot.settle()
    order(bot, *(death.format(kind) for death in deaths))
    scenario = replace(PLAYED[kind], name=name, undo=False)
    (played,) = play_all(bot, [scenario])
    left = bot.order.read_text() if bot.order.exists() else ""
    bot.order.unlink(missing_ok=True)
    assert played.right, "\n".join([str(played.problems), played.story])
    assert not left, f"the bot did not die at: {left}"
    bot.nothing_lost()
    seen = played.seen
    if KINDS[kind].proves is Proof.FIX_BRANCH:
        assert (seen.pulls, len(seen.branches - {"main"})) == (1, 1)
    if kind == "open_issue":
        assert seen.issues == 1
    for event in ("workflow_dispatch", "push"):
        runs = [run for run in bot.sandbox.state.runs.values() if run.repository.full_name == scenario.repository]
        started = [(run.workflow.path, run.head_sha) for run in runs if run.event == event]
        assert len(started) == len(set(started)), started


@pytest.mark.parametrize("kind", PLAYED)
def test_killed_while_it_is_applied(bot: Stage, kind: str) -> None:
    dies_and_ends_as_told(bot, kind, DEATHS[KINDS[kind].proves], f"{kind.replace('_', '-')}-killed")


def test_killed_before_a_pull_request_has_a_branch(bot: Stage) -> None:
    """After its tree, and after its commit; the branch and the pull request itself are tried above, with every kind."""
    dies_and_ends_as_told(bot, "pin_dependency", ("write trees of {0}", "write commits of {0}"), "branchless-killed")
