"""Let training fit into memory: smaller batches that add up to the same one, and what else saves memory."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from actions import fix_pull_request, scalars
from actions.scalars import Addition, Kind, Scalar
from actions.settings import (
    ENTRY,
    IMPORTED,
    CannotSay,
    Changes,
    File,
    Setting,
    Settings,
    count,
)
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.repair import Plan, Proof, Repair
from app.ports.plugins import Tools

MOST_STEPS = 4  # how much further than asked a batch may shrink so that it divides

# From the most particular to the most general: where a file has several, the first is the one that fills the memory.
_MICRO = (
    *("per_device_train_batch_size", "per_gpu_train_batch_size", "train_micro_batch_size_per_gpu", "micro_batch_size"),
    *("device_batch_size", "micro_train_batch_size"),
)
_BATCH_SIZE = (_MICRO, ("train_batch_size",), ("batch_size", "batchsize", "mini_batch_size", "minibatch_size"))
_ACCUMULATION = (
    (
        *("gradient_accumulation_steps", "accumulate_grad_batches", "accumulation_steps", "grad_accum", "accum_steps"),
        *("grad_accum_steps", "gradient_accumulation", "grad_accumulation_steps", "accum_iter", "grad_acc_steps"),
    ),
)
_WORKERS = (("dataloader_num_workers", "loader_num_workers", "dataloader_workers"), ("num_workers",))
_CHECKPOINTING = (("gradient_checkpointing", "use_gradient_checkpointing", "activation_checkpointing"),)
_PRECISION = frozenset({"precision", "mixed_precision", "torch_dtype", "dtype", "amp", "half_precision_backend"})

_DEEPSPEED = re.compile(r"zero_optimization|wall_clock_breakdown|steps_per_print|train_micro_batch_size_per_gpu")
_LIGHTNING = re.compile(r"(?m)^[ \t]*(?:from|import)[ \t]+(?:pytorch_lightning|lightning)\b")
_HF_READS = re.compile(r"HfArgumentParser|TrainingArguments\(\s*\*\*")
_HF_FLAG = "per_device_train_batch_size"
_TITLES = {
    "batch": "Lower the batch size",
    "gradient_checkpointing": "Turn gradient checkpointing on",
    "bf16": "Train in bfloat16",
    "fewer_workers": "Load data with fewer workers",
}
_PASSES = "the job that failed passes on the fix branch"


class BatchParams(BaseModel):
    """`factor`: what the batch (or the number of workers) is divided by."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    means: Literal["batch", "gradient_checkpointing", "bf16", "fewer_workers"] = "batch"
    factor: int = Field(default=2, ge=2, le=64)


@dataclass(frozen=True, slots=True)
class _Accumulation:
    """Where the steps are counted: a number, a place for one, or nowhere because `total` fixes the effective batch."""

    at: Setting | None = None
    new: tuple[File, Addition] | None = None
    total: Setting | None = None
    key: str = ""
    steps: int = 1


class LowerBatchSize:
    kind = "lower_batch_size"
    Params: type[BaseModel] = BatchParams
    proves = Proof.FIX_BRANCH

    def plan(self, incident: Incident, params: BatchParams, tools: Tools) -> Plan:
        try:
            plan = _plan(Settings(incident, tools), params)
        except CannotSay as reason:
            return Plan(_TITLES[params.means], refusal=str(reason))
        refusal = fix_pull_request.forbidden(incident, plan.edits, tools.policy)
        return Plan(plan.title, refusal=refusal) if refusal else plan

    def apply(self, repair: Repair, params: BatchParams, plan: Plan, tools: Tools) -> Outcome:
        return fix_pull_request.propose(repair, plan, tools)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return fix_pull_request.withdraw(repair, tools)


def _plan(settings: Settings, params: BatchParams) -> Plan:
    if params.means == "gradient_checkpointing":
        return _checkpointing(settings)
    if params.means == "bf16":
        return _bf16(settings)
    if params.means == "fewer_workers":
        return _fewer_workers(settings, params.factor)
    return _smaller_batch(settings, params.factor)


def _smaller_batch(settings: Settings, factor: int) -> Plan:
    batch = settings.the_one(_BATCH_SIZE, "a batch size")
    key, size = batch.scalar.key, _count(batch)
    if size == 1:
        raise CannotSay(f"{batch} is already 1")
    if batch.scalar.word == "train_batch_size" and _DEEPSPEED.search(batch.file.text):
        return _more_steps(settings, batch, factor)
    accumulation = _accumulation(settings, batch)
    effective = size * accumulation.steps
    divided = _count(accumulation.total) if accumulation.total else effective
    smaller = _smaller(size, divided, factor)
    if smaller is None:
        raise CannotSay(f"{batch} is {size}, which {factor} does not divide: the effective batch would change")
    changes = Changes()
    changes.change(batch, scalars.write_whole(smaller, batch.scalar.literal))
    steps = effective // smaller
    if accumulation.at is not None:
        changes.change(accumulation.at, scalars.write_whole(steps, accumulation.at.scalar.literal))
        grown = f"{accumulation.key} grows from {accumulation.steps} to {steps}"
    elif accumulation.new is not None:
        file, addition = accumulation.new
        changes.add(file, Addition(addition.beside, addition.key, str(steps)))
        grown = f"{accumulation.key} of {steps} is added, which is 1 where nothing is said"
    else:
        grown = f"{accumulation.total} says how many samples make a step"
    stays = f"so the effective batch stays {_count(accumulation.total) if accumulation.total else effective}"
    return Plan(
        f"Lower {key} from {size} to {smaller}",
        why=f"a batch of {size} does not fit into memory; {grown}, {stays}",
        edits=changes.edits(),
        risk="more steps a batch make training slower; batch-wise statistics (batch normalisation) see smaller batches",
        proof=_PASSES,
    )


def _more_steps(settings: Settings, total: Setting, factor: int) -> Plan:
    """DeepSpeed, told only the whole batch: what fits into memory at once follows from the steps."""
    size, steps = _count(total), _accumulation(settings, total)
    if steps.at is None and steps.new is None:
        raise CannotSay(f"{total.file.path} has no gradient accumulation")
    if size % (steps.steps * factor):
        raise CannotSay(f"{total} is {size}, which {steps.steps * factor} steps do not divide")
    changes, many = Changes(), steps.steps * factor
    if steps.at is not None:
        changes.change(steps.at, scalars.write_whole(many, steps.at.scalar.literal))
    elif steps.new is not None:
        changes.add(steps.new[0], Addition(steps.new[1].beside, steps.new[1].key, str(many)))
    return Plan(
        f"Raise {steps.key} from {steps.steps} to {many}",
        why=f"what is held in memory at once is {total.scalar.key} divided by the steps and by the devices; the "
        f"effective batch stays {size}",
        edits=changes.edits(),
        risk="more steps a batch make training slower",
        proof=_PASSES,
    )


def _smaller(size: int, divided: int, factor: int) -> int | None:
    """The largest batch of at most a `factor`th that still divides what it has to; None where none is near."""
    for smaller in range(size // factor, 0, -1):
        if smaller * factor * MOST_STEPS < size:
            return None
        if divided % smaller == 0:
            return smaller
    return None


def _accumulation(settings: Settings, batch: Setting) -> _Accumulation:
    settings.refuse_overridden(_ACCUMULATION)
    near = settings.in_file(batch.file, _ACCUMULATION)
    near = [s for s in near if s.scalar.path[:-1] == batch.scalar.path[:-1]] or near
    if len(near) > 1:
        names = ", ".join(s.scalar.name for s in near)
        raise CannotSay(f"cannot tell which one is meant: {names} in {batch.file.path}")
    told = batch.scalar.word == _HF_FLAG and (batch.file.is_script or batch.scalar.handed_on)
    if not near and told and (new := _place_for_steps(settings, batch)) is not None:
        return _Accumulation(new=new, key=new[1].key)
    said = near[0] if near else settings.one_or_none(_ACCUMULATION, upto=IMPORTED)
    if said is not None:
        return _Accumulation(at=said, key=said.scalar.key, steps=_count(said))
    if total := _total(batch):
        return _Accumulation(total=total)
    opaque = [s for s in settings.in_file(batch.file, _ACCUMULATION, scalars.ANY) if s.scalar.kind is not Kind.NULL]
    if opaque:
        raise CannotSay(f"{opaque[0]} is {opaque[0].scalar.literal[:80]}, which is no plain number")
    new = _place_for_steps(settings, batch)
    if new is None:
        raise CannotSay(
            f"{batch.file.path} has no gradient accumulation: without it, a smaller {batch.scalar.key} changes "
            "the training"
        )
    return _Accumulation(new=new, key=new[1].key)


def _total(batch: Setting) -> Setting | None:
    """What fixes the effective batch whatever the micro-batch is: DeepSpeed's and Megatron's way to count."""
    if batch.scalar.word not in _MICRO:
        return None
    names = {"micro_batch_size": "global_batch_size", "train_micro_batch_size_per_gpu": "train_batch_size"}
    name = names.get(batch.scalar.word, "")
    found = batch.file.find([name]) if name else []
    beside = [s for s in found if s.path[:-1] == batch.scalar.path[:-1]]
    return Setting(batch.file, beside[0]) if len(beside) == 1 else None


def _place_for_steps(settings: Settings, batch: Setting) -> tuple[File, Addition] | None:
    """Where a framework reads the number of steps, and takes 1 for granted if it is not there."""
    file, scalar = batch.file, batch.scalar
    steps = "gradient_accumulation_steps"
    if scalar.word in ("train_micro_batch_size_per_gpu", "train_batch_size") and _DEEPSPEED.search(file.text):
        return file, Addition(scalar, steps, "1")
    if file.is_script:
        return (file, Addition(scalar, f"--{steps}", "1")) if scalar.key == f"--{_HF_FLAG}" else None
    code = [f for f in settings.files if f.is_code and f.rank in (ENTRY, IMPORTED)] + ([file] if file.is_code else [])
    places = []
    for source in dict.fromkeys(code):
        for call in source.calls:
            key = ""
            if call.keyword(_HF_FLAG) is not None:
                key = steps
            elif call.name == "Trainer" and _LIGHTNING.search(source.text):
                key = "accumulate_grad_batches"
            if key and not call.splat and call.keyword(key) is None:
                places.append((source, Addition(call.keyword(_HF_FLAG) or call.keywords[0], key, "1")))
    if len(places) == 1:
        return places[0]
    reads = any(_HF_READS.search(source.text) for source in code)
    if not places and not file.is_code and scalar.word == _HF_FLAG and reads:
        return file, Addition(scalar, steps, "1")
    if not places and not file.is_code:
        return _lightning_configuration(file)
    return None


def _lightning_configuration(file: File) -> tuple[File, Addition] | None:
    """LightningCLI's file: the trainer's own section."""
    marks = file.find(("max_epochs", "max_steps", "devices", "limit_train_batches"), scalars.ANY)
    marks = [m for m in marks if len(m.path) == 2 and m.path[0] == "trainer" and m.kind is not Kind.OTHER]
    return (file, Addition(marks[0], "accumulate_grad_batches", "1")) if marks else None


def _checkpointing(settings: Settings) -> Plan:
    title = _TITLES["gradient_checkpointing"]
    changes = Changes()
    setting = settings.one_or_none(_CHECKPOINTING, frozenset({Kind.BOOLEAN}))
    if setting is not None:
        if _is_on(setting.scalar):
            raise CannotSay(f"{setting} is on already")
        changes.change(setting, _on_like(setting.scalar))
        where = str(setting)
    else:
        file, beside = _training_arguments(settings, "gradient_checkpointing", title)
        changes.add(file, Addition(beside, "gradient_checkpointing", "True"))
        where = f"gradient_checkpointing in {file.path}"
    return Plan(
        title,
        why=f"training does not fit into memory; with {where} on, activations are computed again instead of kept",
        edits=changes.edits(),
        risk="every step computes the forward pass twice: about a third slower",
        proof=_PASSES,
    )


def _bf16(settings: Settings) -> Plan:
    title, changes = _TITLES["bf16"], Changes()
    setting = _precision_switch(settings, "bf16")
    if setting is not None:
        if _is_on(setting.scalar):
            raise CannotSay(f"{setting} is on already")
        _refuse_other_precision(setting.file)
        changes.change(setting, _on_like(setting.scalar))
        file, where = setting.file, str(setting)
    else:
        file, beside = _training_arguments(settings, "bf16", title)
        _refuse_other_precision(file)
        changes.add(file, Addition(beside, "bf16", "True"))
        where = f"bf16 in {file.path}"
    for half in _switches(file, "fp16"):
        if _is_on(half):
            changes.change(Setting(file, half), _off_like(half))
    return Plan(
        title,
        why=f"training does not fit into memory; with {where} on, activations take half of it",
        edits=changes.edits(),
        risk="needs a device that computes in bfloat16; sums are less exact",
        proof=_PASSES,
    )


def _precision_switch(settings: Settings, name: str) -> Setting | None:
    for rank in sorted({file.rank for file in settings.files}):
        found = [Setting(f, s) for f in settings.files if f.rank == rank for s in _switches(f, name)]
        if len(found) > 1:
            raise CannotSay(f"cannot tell which one is meant: {', '.join(map(str, found[:6]))}")
        if found:
            return found[0]
    return None


def _switches(file: File, name: str) -> list[Scalar]:
    """`bf16: true`, or DeepSpeed's `bf16: {enabled: true}`."""
    found = file.find((name,), frozenset({Kind.BOOLEAN}))
    nested = file.find(("enabled",), frozenset({Kind.BOOLEAN})) if name in file.text else []
    return found + [s for s in nested if len(s.path) > 1 and scalars.word(str(s.path[-2])) == name]


def _refuse_other_precision(file: File) -> None:
    for other in file.find(_PRECISION, scalars.ANY):
        if other.kind is not Kind.NULL:
            raise CannotSay(f"{other.name} in {file.path} is {other.literal[:80]}: a person chose the precision")


def _training_arguments(settings: Settings, key: str, title: str) -> tuple[File, Scalar]:
    """The one call of TrainingArguments that does not say `key` yet."""
    calls = [
        (file, call)
        for file in settings.files
        if file.is_code and file.rank in (ENTRY, IMPORTED)
        for call in file.calls
        if call.keyword(_HF_FLAG) is not None or call.name.endswith("TrainingArguments")
    ]
    if not calls:
        raise CannotSay(f"{title}: no setting {key} and no TrainingArguments were found")
    if len(calls) > 1:
        names = ", ".join(f"{call.name} in {file.path}" for file, call in calls[:6])
        raise CannotSay(f"cannot tell which one is meant: {names}")
    file, call = calls[0]
    if call.splat or call.keyword(key) is not None:
        raise CannotSay(f"{call.name} in {file.path} is given {key} in a way that cannot be changed here")
    return file, call.keyword(_HF_FLAG) or call.keywords[0]


def _fewer_workers(settings: Settings, factor: int) -> Plan:
    setting = settings.the_one(_WORKERS, "a number of data loader workers")
    many = _count(setting, least=0)
    if many == 0:
        raise CannotSay(f"{setting} is already 0")
    fewer = many // factor
    if fewer == 0 and (word := re.search(r"persistent_workers|prefetch_factor", setting.file.text)):
        raise CannotSay(f"{setting} is {many}, and {word[0]} needs at least one")
    changes = Changes()
    changes.change(setting, scalars.write_whole(fewer, setting.scalar.literal))
    return Plan(
        f"Lower {setting.scalar.key} from {many} to {fewer}",
        why=f"a worker of the data loader died; {many} of them need more memory (or shared memory) than there is",
        edits=changes.edits(),
        risk="loading data may become the slowest part of training",
        proof=_PASSES,
    )


def _count(setting: Setting | None, least: int = 1) -> int:
    assert setting is not None
    number = count(setting.scalar.literal)
    if number is None or number < least:
        raise CannotSay(f"{setting} is {setting.scalar.literal}, which is no count")
    return number


def _is_on(scalar: Scalar) -> bool:
    return scalar.literal.lower() in ("true", "yes", "on")


def _on_like(scalar: Scalar) -> str:
    """False → True, no → yes, OFF → ON."""
    return _flip(scalar.literal, {"false": "true", "no": "yes", "off": "on"})


def _off_like(scalar: Scalar) -> str:
    return _flip(scalar.literal, {"true": "false", "yes": "no", "on": "off"})


def _flip(literal: str, words: dict[str, str]) -> str:
    new = words[literal.lower()]
    return new.upper() if literal.isupper() else new.capitalize() if literal[0].isupper() else new
