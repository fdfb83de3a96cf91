"""`python -m workloads NAME VERB …`: run a workload on this machine."""

import argparse
import contextlib
import errno
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workloads import catalogue, folder, settings
from workloads.contract import EXIT_CODES, Failure, RunFailed, Verb, Workload, failure
from workloads.fingerprint import code_sha
from workloads.progress import Bar
from workloads.supervise import supervise

HEAL_ID = "heal_id"  # the repair that a run belongs to: the bot tells it as if it were a setting
REPORT_LINE = "heal-report "
_CODES = ", ".join(f"{number} {kind}" for kind, number in sorted(EXIT_CODES.items(), key=lambda each: each[1]))
_ENDS = f"It ends with 0, or with what went wrong: {_CODES}."


def main(words: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if words is None else words)
    try:
        if not words or words[0] in ("-h", "--help"):
            _say(_overview())
            return 0
        if words[0] == "list":
            return _list(words[1:])
        workload = catalogue.find(words[0])
        if len(words) == 1 or words[1] in ("-h", "--help"):
            _say(_about(workload))
            return 0
        return _run(workload, catalogue.verb(workload, words[1]), words[1], words[2:])
    except RunFailed as error:
        return _refused(error, as_json="--json" in words)


def _run(workload: Workload, verb: Verb, name: str, words: Sequence[str]) -> int:
    asked = _parser(workload, verb, name).parse_args(words)
    try:
        told = _told(asked, verb)
        heal_id = told.pop(HEAL_ID, "")
        config = settings.read(verb.Config, told)
        needs = workload.plan(name, config).as_json()
    except RunFailed as error:
        if asked.out and not asked.plan:
            _leave(asked.out, workload.name, name, error)
        raise
    if asked.plan:
        _say(json.dumps(needs, indent=1) if asked.json else _needs(needs))
        return 0
    request = {
        "workload": workload.name,
        "verb": name,
        "settings": told,
        "config": settings.as_json(config),
        "heal_id": heal_id,
        "code_sha": code_sha(),
        "resume": str(asked.resume.absolute()) if asked.resume else "",
        "memory_mib": asked.memory_mib,
        "time_limit_s": asked.time_limit_s,
        "needs": needs,
    }
    out = asked.out or Path("runs") / f"{workload.name}-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        out = _made(out, new=not asked.out)
        with Bar(sys.stderr, name, quiet=asked.quiet) as bar:
            ended = supervise(out.absolute(), request, bar.show)
    except OSError as error:
        kind = Failure.DISK_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else Failure.BAD_SETTING
        raise RunFailed(kind, f"{out} cannot be written: {error.strerror}; name another folder with --out") from error
    if asked.json:
        _say(json.dumps(ended.record, indent=1))
    elif ended.exit_code == 0:
        _say(_summary(ended.record, out))
    if ended.exit_code:
        _complain(_line(ended.record, out))
    if asked.report_line:
        _say(REPORT_LINE + (out / "report.json").read_text(encoding="utf-8").replace("\n", ""))
    return ended.exit_code


def _made(out: Path, *, new: bool) -> Path:
    """The folder; another one, where it is to be new and a run of the same second has it already."""
    found = out
    for number in itertools.count(2):
        try:
            found.mkdir(parents=True, exist_ok=not new)
            break
        except FileExistsError:
            if not new:
                raise
            found = out.with_name(f"{out.name}-{number}")
    return found


def _told(asked: argparse.Namespace, verb: Verb) -> dict[str, str]:
    """The settings as they were given. Raises RunFailed."""
    told = settings.pairs(asked.set)
    place = settings.positional(verb.Config)
    if place and asked.input:
        told[place] = asked.input
    if asked.resume and not asked.resume.is_dir():
        raise RunFailed(Failure.DATA_MISSING, f"there is no folder {asked.resume} to resume from")
    return told


def _leave(out: Path, workload: str, verb: str, error: RunFailed) -> None:
    """Whoever started a run and looks into its folder learns that it was refused."""
    told = {"workload": workload, "verb": verb, "outcome": "failed", "failure": failure(error)}
    with contextlib.suppress(OSError):
        out.mkdir(parents=True, exist_ok=True)
        folder.write(out / folder.REPORT, told)


def _parser(workload: Workload, verb: Verb, name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m workloads {workload.name} {name}",
        description=f"{verb.summary[0].upper()}{verb.summary[1:]}.",
        epilog="settings, with their defaults:\n"
        + "\n".join(settings.described(verb.Config))
        + f"\n\n{_wrapped(_ENDS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    place = settings.positional(verb.Config)
    if place:
        parser.add_argument("input", nargs="?", default="", metavar=place.upper(), help="the same as --set " + place)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; may be repeated")
    parser.add_argument("--out", type=Path, help="folder of the run; runs/NAME-VERB-TIME where it is left out")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="folder of an earlier run to go on from")
    parser.add_argument("--memory-mib", type=_positive, metavar="N", help="private memory that the run may take")
    parser.add_argument("--time-limit-s", type=_positive, metavar="S", help="seconds after which it is ended")
    parser.add_argument("--plan", action="store_true", help="say what it would need, and run nothing")
    parser.add_argument("--json", action="store_true", help="print the record of the run, or the plan, as JSON")
    parser.add_argument("--report-line", action="store_true", help=f"print a last line `{REPORT_LINE.strip()} {{…}}`")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _list(words: Sequence[str]) -> int:
    found = _there()
    if "--json" in words:
        told = [
            {
                "name": each.name,
                "summary": each.summary,
                "verbs": {name: verb.summary for name, verb in each.verbs.items()},
            }
            for each in found
        ]
        _say(json.dumps(told, indent=1))
    else:
        _say("\n".join(f"{each.name:<16} {', '.join(each.verbs):<48} {each.summary}" for each in found))
    return 0


def _overview() -> str:
    lines = ["usage: python -m workloads list | NAME [VERB] [options]", ""]
    for workload in _there():
        lines += [f"  {workload.name:<16} {workload.summary}", f"  {'':<16} {', '.join(workload.verbs)}"]
    return "\n".join([*lines, "", "`python -m workloads NAME VERB --help` tells the settings."])


def _there() -> list[Workload]:
    """Those that can be loaded; what is wrong with others is complained of."""
    found = []
    for name in catalogue.names():
        try:
            found.append(catalogue.find(name))
        except RunFailed as error:
            _complain(str(error))
    return found


def _about(workload: Workload) -> str:
    lines = [f"usage: python -m workloads {workload.name} VERB [options]", "", f"{workload.summary}", ""]
    return "\n".join(lines + [f"  {name:<12} {verb.summary}" for name, verb in workload.verbs.items()])


def _needs(needs: Mapping[str, Any]) -> str:
    def amount(name: str, unit: str, scale: float) -> str:
        told = needs[name]
        return f"{told['value'] / scale:.3g} {unit}" if "value" in told else f"not known ({told['unavailable']})"

    lines = [
        f"GPU      {needs['gpu']}",
        f"memory   {amount('memory_bytes', 'GiB', 2**30)}",
        f"VRAM     {amount('vram_bytes', 'GiB', 2**30)}",
        f"time     {amount('time_s', 's', 1)}",
    ]
    return "\n".join(lines + ([f"by       {needs['basis']}"] if needs["basis"] else []))


def _summary(record: Mapping[str, Any], out: Path) -> str:
    lines = [f"{record['workload']} {record['verb']} succeeded in {record['took_s']:.1f} s; {out}"]
    for name, metric in record["metrics"].items():
        said = f"{metric['value']:.4g} {metric['unit']}".rstrip() if "value" in metric else metric["unavailable"]
        lines.append(f"  {name:<28} {said}")
    lines += [f"  {name:<28} {out / where}" for name, where in record["artefacts"].items()]
    return "\n".join(lines + [f"  {note}" for note in record["notes"]])


def _line(record: Mapping[str, Any], out: Path) -> str:
    """The last line of a run that failed: people read it, and so does the bot in the log of a workflow."""
    failure = record["failure"]
    line = f"heal-run: failed {failure['kind']}: {failure['message']}"
    if failure.get("resumable"):
        advised = "".join(f" --set {name}={value}" for name, value in failure["advice"].items())
        line += f"; go on with --resume {out}{advised}"
    return " ".join(line.split())


def _refused(error: RunFailed, *, as_json: bool) -> int:
    if as_json:
        _say(json.dumps({"outcome": "failed", "failure": {"kind": error.kind.value, "message": str(error)}}))
    _complain(f"heal-run: failed {error.kind}: {error}")
    return EXIT_CODES[error.kind]


def _wrapped(text: str) -> str:
    words, lines = text.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > 110:
            lines.append("")
        lines[-1] += f"{word} "
    return "\n".join(line.strip() for line in lines)


def _say(text: str) -> None:
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads any more, which changes nothing of how it ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
