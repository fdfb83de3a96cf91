"""The sections of heal.yml about what is done, and who is told."""

import pytest

from app import plugins
from app.domain.finding import Remedy
from app.domain.policy import Autonomy, Route, named
from app.healing.configuration import Configured, explain, resolve

ACTIONS = named({kind: action.Params for kind, action in plugins.known_actions().items()})


def configured(text: str, owner: str | None = None) -> Configured:
    return resolve(f"version: 1\n{text}", owner, known_detectors={}, known_actions=ACTIONS)


def test_a_rung_is_a_name_or_a_name_with_parameters_and_what_follows() -> None:
    found = configured(
        "playbooks:\n"
        "  model_degraded:\n"
        "    - action: lower_batch_size\n"
        "      params: {factor: 4}\n"
        "      then: open_issue\n"
        "    - rerun_failed_jobs\n"
    )
    assert not found.problems
    first, second = found.policy.playbooks["model_degraded"]
    assert first == Remedy("lower_batch_size", {"factor": 4}, Remedy("open_issue"))
    assert second == Remedy("rerun_failed_jobs")
    told = {key: (value, origin) for key, value, origin in explain(found)}
    assert told["playbooks.model_degraded"] == (
        'lower_batch_size {"factor": 4}, then open_issue → rerun_failed_jobs',
        ".github/heal.yml",
    )


def test_the_repositorys_playbook_stands_in_place_of_the_owners_for_that_cause_alone() -> None:
    owner = "version: 1\nplaybooks: {host_oom: [open_issue], disk_full: [open_issue]}\n"
    policy = configured("playbooks: {host_oom: [rerun_failed_jobs]}\n", owner).policy
    assert policy.playbooks == {"host_oom": (Remedy("rerun_failed_jobs"),), "disk_full": (Remedy("open_issue"),)}


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("playbooks: {x1: [lower_bach_size]}", "playbooks.x1.0", "did you mean 'lower_batch_size'?"),
        ("playbooks: {x1: [revert_repair]}", "playbooks.x1.0", "no action that can be a rung"),
        ("playbooks: {x1: [{action: lower_batch_size, params: {factor: x}}]}", "playbooks.x1.0.params", "factor"),
        ("playbooks: {x1: [{action: open_issue, then: nothing}]}", "playbooks.x1.0.then", "no action"),
        ("playbooks: {x1: []}", "playbooks.x1", "at least 1"),
        ("playbooks: {x1: [{action: open_issue, parms: {}}]}", "playbooks.x1.0.parms", "did you mean 'params'?"),
        ("playbooks: {'Not a cause': [open_issue]}", "playbooks.Not a cause.[key]", "match pattern"),
        ("autonomy: {suggest_at: 0.2}", "autonomy.suggest_at", "0.5"),
        ("autonomy: {shadw: true}", "autonomy.shadw", "did you mean 'shadow'?"),
        ("notify: [{channel: team, on: [exploded]}]", "notify.0.on.0", "escalated"),
        ("notify: [{channel: team, quiet: {from: 22, to: 31}}]", "notify.0.quiet.to", "23"),
        ("limits: {breaker_rest: 2d}", "limits.breaker_rest", "86400"),
    ],
)
def test_a_mistake_is_told_where_it_stands(text: str, path: str, words: str) -> None:
    problems = configured(f"{text}\n").problems
    assert [problem.path for problem in problems] == [path]
    assert words in problems[0].message


def test_what_is_not_said_of_autonomy_keeps_its_default() -> None:
    assert configured("autonomy: {suggest_at: 0.9}\n").policy.autonomy == Autonomy(suggest_at=0.9)


def test_the_owners_channels_are_told_as_well_as_the_repositorys() -> None:
    owner = "version: 1\nnotify: [{channel: ops}]\n"
    text = "notify: [{channel: team, on: [healed], quiet: {from: 22, to: 7}, digest: 30, least: high}]\n"
    first, second = configured(text, owner).policy.notify
    assert first == Route("ops")
    assert second == Route("team", frozenset({"healed"}), "high", (22, 7), "critical", 1800)


def test_limits_of_budgets_and_breakers_are_read() -> None:
    limits = configured("limits: {gpu_minutes_per_day: 5, money_per_month: 2.5, breaker_rest: 2h}\n").policy.limits
    assert (limits.gpu_minutes_per_day, limits.money_per_month, limits.breaker_rest_s) == (5, 2.5, 7200)
