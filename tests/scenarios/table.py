"""How scenarios went, for the terminal, as JSON, and as the page docs/reference/scenarios.md."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import actions
from app.domain.repair import Proof
from tests.scenarios.catalogue import Scenario
from tests.scenarios.play import Played

PAGE = Path(__file__).parents[2] / "docs/reference/scenarios.md"
_PROVES = {action.kind: action.proves for action in actions.BUILTIN}
_PROOFS = {
    Proof.FIX_BRANCH: "the job is green on the fix branch",
    Proof.SAME_RUN: "the job is green in a later attempt of the same run",
    Proof.OWN: "looked at what it started",
    Proof.NOTHING: "",
}
_HEAD = """\
# Scenarios

Every repository of this table really fails in the stand-in for GitHub, and the bot really does to it what stands here:
`make test` plays all of them, and fails when one ends otherwise. They stand as plain files under
[tests/scenarios](https://github.com/self-healing-mlops-bot/self-healing-mlops-bot/tree/main/tests/scenarios) and
sandbox/repositories. After each repair that came as a pull request the test merges it, says `/heal undo`, merges the
revert, and finds the tree byte for byte as it was.
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


def write(rounds: Sequence[Sequence[Played]]) -> None:
    """The page, from plays of the same scenarios; times are medians."""
    PAGE.write_text(page(rounds), "utf-8")


def page(rounds: Sequence[Sequence[Played]]) -> str:
    first = sorted(rounds[0], key=lambda played: played.scenario.name)
    times = {p.scenario.name: [each.heal_s for r in rounds for each in r if each.scenario.name == p.scenario.name
                               and each.heal_s is not None] for p in first}  # fmt: skip
    healed = [p for p in first if p.scenario.ends == "healed"]
    alone = [p for p in first if p.scenario.left_alone]
    rest = [p for p in first if p not in healed and p not in alone]
    parts = [_HEAD, f"{len(first)} scenarios: {len(healed)} are healed, {len(alone) + len(rest)} are rightly not.\n"]
    parts.append(f"\n## Healed\n\nThe time is the median of {len(rounds)} {'play' if len(rounds) == 1 else 'plays'}, ")
    parts.append(
        "from the failed run's event to the proof, on 2 CPU cores with the stand-in for GitHub beside the bot.\n\n"
    )
    parts.append("| scenario | what is wrong | cause | ladder, as far as it was climbed | healed by | proof | s |\n")
    parts.append("|---|---|---|---|---|---|--:|\n")
    parts += [_healed(p.scenario, p.seen.applied, times[p.scenario.name]) for p in healed]
    parts.append("\n## Left alone\n\nNothing of these repositories is changed; a person is told.\n\n")
    parts.append("| scenario | what is wrong | cause | ends | why |\n|---|---|---|---|---|\n")
    parts += [_alone(p.scenario) for p in [*alone, *rest]]
    return "".join(parts)


def _healed(scenario: Scenario, applied: Sequence[str], times: Sequence[float]) -> str:
    proof = _PROOFS[_PROVES[scenario.healed_by or ""]]
    climbed = " → ".join(f"`{action}`" for action in applied)
    seconds = f"{median(times):.1f}" if times else "–"
    cells = (f"`{scenario.name}`", scenario.title, f"`{scenario.cause}`", climbed, f"`{scenario.healed_by}`", proof)
    return f"| {' | '.join(cells)} | {seconds} |\n"


def _alone(scenario: Scenario) -> str:
    why = scenario.why or "nothing that is safe to do by itself would help"
    return f"| `{scenario.name}` | {scenario.title} | `{scenario.cause}` | {scenario.ends} | {why} |\n"
