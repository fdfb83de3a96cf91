"""How scenarios went, for the terminal, as JSON, and as the page docs/reference/scenarios.md.

results.json keeps what was measured last of each scenario; the page is made of it and of the catalogue alone.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import actions
from app.domain.repair import Proof
from tests.scenarios.catalogue import ROOT, Scenario, catalogue, demo
from tests.scenarios.play import Played

PAGE = Path(__file__).parents[2] / "docs/reference/scenarios.md"
RESULTS = ROOT / "results.json"
_PROVES = {action.kind: action.proves for action in actions.BUILTIN}
_HEAD = """\
# Scenarios

Each of these {all} small repositories really fails in the stand-in for GitHub, and the bot does to it what stands here:
{healed} are healed, {alone} are rightly not. `make test` plays them all and fails where one ends otherwise. They are
plain files under tests/scenarios and, those of the demonstration, under sandbox/repositories. Where the repair is a
pull request, the test also merges it, says `/heal undo`, merges the revert, and finds the tree byte for byte as before.

This page is written by `python -m tests.scenarios --write`.

## Healed

The last column is the median time in seconds from the failed run's event to the proof, with the stand-in for GitHub on
the same machine; a real runner takes as long as it takes.

| scenario | what is wrong | cause | ladder, as far as climbed | healed by | proof | s |
|---|---|---|---|---|---|--:|
"""
_ALONE = """
## Left alone

Nothing of these repositories may be changed; at most an issue tells a person.

| scenario | what is wrong | cause | ends | why |
|---|---|---|---|---|
"""
_OTHERS = """
## Tried, and handed to a person

| scenario | what is wrong | cause | ladder, as far as climbed | ends | why |
|---|---|---|---|---|---|
"""


def outcome(played: Played) -> dict[str, Any]:
    scenario = played.scenario
    return {
        "scenario": scenario.name,
        "title": scenario.title,
        "cause": scenario.cause,
        "ended": played.ended,
        "applied": played.seen.applied,
        "heal_s": played.heal_s,
        "seconds": round(played.seconds, 1),
        "undo_s": None if played.undone_s is None else round(played.undone_s, 1),
        "right": played.right,
        "problems": played.problems,
    }


def shown(played: Sequence[Played]) -> str:
    rows = [("scenario", "cause", "ended", "applied", "healed in", "played in", "undo")]
    for each in played:
        heal = "–" if each.heal_s is None else f"{each.heal_s:.1f} s"
        undo = "–" if each.undone_s is None else f"{each.undone_s:.1f} s"
        ended = each.ended if each.right else f"{each.ended} (WRONG)"
        applied = ", ".join(each.seen.applied)
        rows.append((each.scenario.name, each.scenario.cause, ended, applied, heal, f"{each.seconds:.1f} s", undo))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    right = sum(each.right for each in played)
    return "\n".join(lines) + f"\n\n{right} of {len(played)} ended as told.\n"


def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    return found


def write(rounds: Sequence[Sequence[Played]]) -> None:
    """Keep what was measured (the times are medians over the rounds), and write the page."""
    scenarios = (*catalogue(), *demo())
    kept = results() | {each.scenario.name: _result(each, rounds) for each in rounds[-1]}
    known = {scenario.name for scenario in scenarios}
    kept = {name: kept[name] for name in sorted(kept) if name in known}
    RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    PAGE.write_text(page(scenarios, kept), "utf-8")


def _result(played: Played, rounds: Sequence[Sequence[Played]]) -> dict[str, Any]:
    same = [each for each_round in rounds for each in each_round if each.scenario.name == played.scenario.name]
    times = [each.heal_s for each in same if each.heal_s is not None]
    incident = played.seen.incident
    return {
        "ended": played.ended,
        "applied": played.seen.applied,
        "jobs": sorted(incident.finding.failed_jobs) if incident else [],
        "heal_s": round(median(times), 1) if times else None,
    }


def page(scenarios: Sequence[Scenario], kept: Mapping[str, Any]) -> str:
    """The page, from the catalogue and what is kept of each scenario."""
    scenarios = sorted((s for s in scenarios if s.name in kept), key=lambda s: s.name)
    healed = [s for s in scenarios if s.ends == "healed"]
    alone = [s for s in scenarios if s.left_alone]
    others = [s for s in scenarios if s not in healed and s not in alone]
    parts = [_HEAD.format(all=len(scenarios), healed=len(healed), alone=len(alone) + len(others))]
    for scenario in healed:
        told = kept[scenario.name]
        by = scenario.healed_by or ""
        cells = [_climbed(told["applied"]), f"`{by}`", _proof(_PROVES[by], told["jobs"]), _time(told["heal_s"])]
        parts.append(_row(scenario, cells))
    parts.append(_ALONE)
    parts += [_row(s, [s.ends, s.why or "nothing that is known to be safe would help"]) for s in alone]
    if others:
        parts.append(_OTHERS)
        parts += [_row(s, [_climbed(kept[s.name]["applied"]), s.ends, s.why or "no rung was left"]) for s in others]
    return "".join(parts)


def _row(scenario: Scenario, cells: Sequence[str]) -> str:
    return f"| {' | '.join([f'`{scenario.name}`', scenario.title, f'`{scenario.cause}`', *cells])} |\n"


def _climbed(applied: Sequence[str]) -> str:
    return " → ".join(f"`{action}`" for action in applied) or "–"


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.1f}"


def _proof(proves: Proof, jobs: Sequence[str]) -> str:
    which = f"{'job' if len(jobs) == 1 else 'jobs'} {', '.join(f'`{job}`' for job in jobs)}"
    return {
        Proof.FIX_BRANCH: f"{which} green on the fix branch",
        Proof.SAME_RUN: f"{which} green in a later attempt",
        Proof.OWN: "what it started was followed to its end",
        Proof.NOTHING: "–",
    }[proves]
