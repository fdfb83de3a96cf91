"""Let a training that diverged converge: a lower learning rate, clipped gradients, or a longer warm-up."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import re
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from actions import fix_pull_request, scalars
from actions.job_log import lines_of
from actions.scalars import ANY, Addition, Kind
from actions.settings import ENTRY, IMPORTED, CannotSay, Changes, File, Setting, Settings
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.repair import Plan, Proof, Repair
from app.ports.plugins import Tools

LOWEST_LEARNING_RATE = 1e-8
LOWEST_CLIP = Decimal("0.01")
HIGHEST_WARMUP_RATIO = Decimal("0.5")

_LEARNING_RATE = (
    ("learning_rate", "lr"),
    ("base_lr", "base_learning_rate", "init_lr", "initial_lr", "max_lr", "peak_lr", "lr0"),
)
_CLIP = (
    ("max_grad_norm", "gradient_clip_val", "gradient_clipping", "clip_grad_norm", "grad_clip", "grad_norm_clip"),
    ("clip_norm", "clip_grad", "gradient_clip", "clipnorm", "clip_gradients", "max_norm"),
)
_WARMUP_RATIO = (("warmup_ratio", "warmup_fraction", "warmup_proportion"),)
_WARMUP_STEPS = (("warmup_steps", "num_warmup_steps", "lr_warmup_steps", "warmup_iters", "warmup_iterations"),)
_TOTAL_STEPS = (
    ("max_steps", "total_steps", "num_train_steps", "max_train_steps", "num_training_steps", "max_iters", "steps"),
)
_SCHEDULE = frozenset({"lr_scheduler_type", "lr_scheduler", "scheduler"})
_RESUME = (("resume_from_checkpoint", "resume_from", "ckpt_path", "init_from", "resume"),)
_TITLES = {"lower_rate": "Lower the learning rate", "clip": "Clip the gradients", "warmup": "Warm up longer"}
_LIGHTNING = re.compile(r"(?m)^[ \t]*(?:from|import)[ \t]+(?:pytorch_lightning|lightning)\b")
_DEEPSPEED = re.compile(r"zero_optimization|train_micro_batch_size_per_gpu")
_SAVED = re.compile(r"(?i)\b(?:sav(?:ed|ing)|wrote|writing|last finite|finite)\b")
_CHECKPOINT = re.compile(
    r"(?<![\w./:-])((?:[a-z0-9]{1,10}://)?[\w./+=-]{1,200}(?:\.(?:ckpt|pt|pth|bin|safetensors|npz|h5|keras|msgpack)"
    r"|/checkpoint-\d{1,12}))(?![\w/-])"
)
_NOT_FINITE = re.compile(r"(?i)(?<![\w-])-?(?:nan|inf|infinity)\b")
_PASSES = "the job that failed passes on the fix branch"


class TuneParams(BaseModel):
    """`factor`: what a learning rate is divided by; a clipping limit, a warm-up of steps, too, where they are set."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    means: Literal["lower_rate", "clip", "warmup"] = "lower_rate"
    factor: int = Field(default=10, ge=2, le=1000)


class TuneDivergence:
    kind = "tune_divergence"
    Params: type[BaseModel] = TuneParams
    proves = Proof.FIX_BRANCH

    def plan(self, incident: Incident, params: TuneParams, tools: Tools) -> Plan:
        settings, changes = Settings(incident, tools), Changes()
        means = {"lower_rate": _lower_rate, "clip": _clip, "warmup": _warm_up}[params.means]
        try:
            title, why, risk = means(settings, changes, params.factor)
            resumed = _resume(settings, changes, incident, tools)
            edits = changes.edits()
        except CannotSay as reason:
            return Plan(_TITLES[params.means], refusal=str(reason))
        if refusal := fix_pull_request.forbidden(incident, edits, tools.policy):
            return Plan(title, refusal=refusal)
        return Plan(title, why=why + resumed, edits=edits, risk=risk, proof=_PASSES)

    def apply(self, repair: Repair, params: TuneParams, plan: Plan, tools: Tools) -> Outcome:
        return fix_pull_request.propose(repair, plan, tools)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return fix_pull_request.withdraw(repair, tools)


def _lower_rate(settings: Settings, changes: Changes, factor: int) -> tuple[str, str, str]:
    rate = settings.the_one(_LEARNING_RATE, "a learning rate")
    literal = rate.scalar.literal
    if _number(rate) <= 0:
        raise CannotSay(f"{rate} is {literal}, which cannot be lowered")
    lower = scalars.divide(literal, factor)
    if float(lower.replace("_", "")) < LOWEST_LEARNING_RATE:
        raise CannotSay(f"{rate} is already {literal}")
    changes.change(rate, lower)
    return (
        f"Lower {rate.scalar.key} from {literal} to {lower}",
        f"training diverged with a learning rate of {literal}",
        "training learns more slowly and may need more steps",
    )


def _clip(settings: Settings, changes: Changes, factor: int) -> tuple[str, str, str]:
    why = "training diverged; clipped gradients keep one bad batch from throwing the weights away"
    risk = "where gradients are large for a reason, training learns more slowly"
    limit = settings.one_or_none(_CLIP, frozenset({Kind.NUMBER, Kind.NULL, Kind.BOOLEAN}))
    if limit is None:
        file, addition, default = _place_for_clip(settings)
        changes.add(file, addition)
        told = f" ({default} where nothing is said)" if default else ""
        return f"Clip gradients at {addition.literal} with {addition.key}", f"{why}{told}", risk
    literal = limit.scalar.literal
    if limit.scalar.kind is Kind.BOOLEAN and literal.lower() in ("true", "yes", "on"):
        raise CannotSay(f"{limit} is on already")
    now = _number(limit) if limit.scalar.kind is Kind.NUMBER else Decimal(0)
    if limit.scalar.kind is Kind.BOOLEAN:
        new = "True" if literal[0].isupper() else "true"
    elif now <= 0 or now > 1:
        new = "1.0"
    elif now / factor < LOWEST_CLIP:
        raise CannotSay(f"{limit} is already {literal}")
    else:
        new = scalars.divide(literal, factor)
    changes.change(limit, new)
    return f"Set {limit.scalar.key} from {literal or 'nothing'} to {new}", why, risk


def _place_for_clip(settings: Settings) -> tuple[File, Addition, str]:
    """Where a framework reads a limit that is not there yet, and its default."""
    places = []
    for file in settings.files:
        for call in file.calls if file.rank in (ENTRY, IMPORTED) else ():
            arguments = call.name.endswith("TrainingArguments") or call.keyword("per_device_train_batch_size")
            if arguments and not call.splat and call.keyword("max_grad_norm") is None:
                places.append((file, Addition(call.keywords[0], "max_grad_norm", "0.1"), "1.0"))
            elif call.name == "Trainer" and _LIGHTNING.search(file.text) and not call.splat:
                places.append((file, Addition(call.keywords[0], "gradient_clip_val", "1.0"), ""))
        if file.path.endswith(".json") and _DEEPSPEED.search(file.text):
            beside = file.find(("train_micro_batch_size_per_gpu", "train_batch_size"))
            places += [(file, Addition(beside[0], "gradient_clipping", "1.0"), "")] if beside else []
    if len(places) > 1:
        named = ", ".join(f"{addition.key} in {file.path}" for file, addition, _ in places[:6])
        raise CannotSay(f"cannot tell where to add it: {named}")
    if not places:
        raise CannotSay("no configuration file has a limit for gradients, and no framework is known to have one")
    return places[0]


def _warm_up(settings: Settings, changes: Changes, factor: int) -> tuple[str, str, str]:
    setting = settings.one_or_none(_WARMUP_RATIO) or settings.one_or_none(_WARMUP_STEPS)
    why = "training diverged; a learning rate that starts low and grows spares the first steps"
    risk = "the first steps learn more slowly"
    if setting is None:
        file, addition = _place_for_warm_up(settings)
        _refuse_constant(file)
        changes.add(file, addition)
        return f"Warm up for a tenth of the steps with {addition.key}", why, risk
    _refuse_constant(setting.file)
    literal = setting.scalar.literal
    new = (
        _longer_ratio(setting) if setting.scalar.word in _WARMUP_RATIO[0] else _longer_steps(settings, setting, factor)
    )
    changes.change(setting, new)
    return f"Raise {setting.scalar.key} from {literal} to {new}", why, risk


def _longer_ratio(setting: Setting) -> str:
    now = _number(setting)
    longer = max(Decimal("0.1"), now * 2)
    if longer > HIGHEST_WARMUP_RATIO:
        raise CannotSay(f"{setting} is already {setting.scalar.literal}")
    return str(longer)


def _longer_steps(settings: Settings, setting: Setting, factor: int) -> str:
    if not scalars.is_whole(setting.scalar.literal) or scalars.whole(setting.scalar.literal) < 0:
        raise CannotSay(f"{setting} is {setting.scalar.literal}, which is no count")
    now = scalars.whole(setting.scalar.literal)
    found = settings.in_file(setting.file, _TOTAL_STEPS)
    totals = [scalars.whole(s.scalar.literal) for s in found if scalars.is_whole(s.scalar.literal)]
    total = totals[0] if len(totals) == 1 and totals[0] > 0 else None
    longer = now * factor if now else (total or 0) // 10
    if total is not None:
        longer = min(longer, total // 2)
    if now == 0 and longer == 0:
        raise CannotSay(f"{setting} is 0, and nothing beside it says how many steps there are in all")
    if longer <= now:
        raise CannotSay(f"{setting} is already {now}, of {total} steps in all")
    return scalars.write_whole(longer, setting.scalar.literal)


def _place_for_warm_up(settings: Settings) -> tuple[File, Addition]:
    places = [
        (file, Addition(call.keywords[0], "warmup_ratio", "0.1"))
        for file in settings.files
        if file.rank in (ENTRY, IMPORTED)
        for call in file.calls
        if (call.name.endswith("TrainingArguments") or call.keyword("per_device_train_batch_size")) and not call.splat
    ]
    if any(addition.beside.word in (*_WARMUP_RATIO[0], *_WARMUP_STEPS[0]) for _, addition in places) or not places:
        raise CannotSay("no configuration file has a warm-up, and no framework is known to have one")
    if len(places) > 1:
        raise CannotSay(f"cannot tell where to add it: {', '.join(file.path for file, _ in places[:6])}")
    return places[0]


def _refuse_constant(file: File) -> None:
    for schedule in file.find(_SCHEDULE, ANY):
        if schedule.literal.strip("\"'").lower() == "constant":
            raise CannotSay(f"{schedule.name} in {file.path} is constant, which takes no warm-up")


def _resume(settings: Settings, changes: Changes, incident: Incident, tools: Tools) -> str:
    """Start again from the last checkpoint that was finite, if a log names one that will still be there."""
    checkpoint = _last_finite(incident, tools)
    if not checkpoint or not (settings.exists(checkpoint) or checkpoint.startswith("/") or "://" in checkpoint):
        return ""
    kinds = frozenset({Kind.NULL, Kind.TEXT})
    beside = [s for file in (*changes.changed, *changes.added) for s in settings.in_file(file, _RESUME, kinds)]
    try:
        found = beside[0] if len(beside) == 1 else settings.one_or_none(_RESUME, kinds, upto=IMPORTED)
    except CannotSay:
        return ""
    if found is None or found.file.is_script or found.scalar.literal.strip("\"'") == checkpoint:
        return ""
    now = found.scalar.literal.strip("\"'")
    if found.scalar.kind is Kind.TEXT and now and "/" not in now and "." not in now:
        return ""  # a word such as "auto" or "scratch" that the program understands
    quote = "" if found.file.path.endswith((".yaml", ".yml")) and found.scalar.literal[:1] not in ("'", '"') else '"'
    quote = "'" if found.scalar.literal[:1] == "'" else quote
    changes.change(found, f"{quote}{checkpoint}{quote}")
    return f"; it goes on from {checkpoint}, the last checkpoint that the log calls saved before that"


def _last_finite(incident: Incident, tools: Tools) -> str:
    """The last checkpoint that is named as saved before the log speaks of what is not finite."""
    last = ""
    for line in _log(incident, tools):
        found = _CHECKPOINT.findall(line) if _SAVED.search(line) else []
        if _NOT_FINITE.search(line):
            return found[-1] if found and "last finite" in line.lower() else last
        last = found[-1] if found else last
    return last


def _log(incident: Incident, tools: Tools) -> list[str]:
    """The failed job's log; the lines of evidence where there is no log any more."""
    jobs = tools.forge.jobs(incident.run_id, incident.attempt) if incident.run_id else ()
    job = next((job for job in jobs if job.name == incident.finding.job), None)
    found = list(lines_of(tools.forge, job)) if job is not None else []
    return found or [line.text for line in incident.finding.lines]


def _number(setting: Setting) -> Decimal:
    try:
        return Decimal(setting.scalar.literal.replace("_", ""))
    except ArithmeticError as error:
        raise CannotSay(f"{setting} is {setting.scalar.literal}, which is no plain number") from error
