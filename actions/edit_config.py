"""Change one setting of a training configuration by a known recipe."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from actions import fix_pull_request, scalars
from actions.mentions import mentioned, told
from actions.scalars import Scalar
from app.domain.errors import Malformed
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.repair import FileEdit, Plan, Proof, Repair
from app.ports.plugins import Tools

MAX_FILES = 50
MAX_FILE_BYTES = 256 * 1024
LOWEST_LEARNING_RATE = 1e-8

# From the most particular to the most general: where a file has several, the first is the one that fills the memory.
_BATCH_SIZE = (
    ("per_device_train_batch_size", "train_micro_batch_size_per_gpu", "micro_batch_size"),
    ("train_batch_size",),
    ("batch_size",),
)
_ACCUMULATION = (("gradient_accumulation_steps", "accumulate_grad_batches", "accumulation_steps", "grad_accum"),)
_LEARNING_RATE = (("learning_rate", "lr"),)

_ELSEWHERE = re.compile(r"(?:eval\w*|val|valid\w*|tests?|testing|infer\w*|predict\w*|serv\w+)", re.IGNORECASE)
_FAVOURED = re.compile(r"train|optim", re.IGNORECASE)
_CONVENTIONAL = re.compile(
    r"(?:^|/)(?:configs?|conf|params?|hparams|hyperparams)(?:/|\.|[-_][^/]*\.)|(?:^|/)train[^/]*\."
)
_NOT_CONFIG = re.compile(
    r"(?:^|/)(?:\.[^/]+|node_modules|vendor|third_party)/"
    r"|(?:^|/)(?:package(?:-lock)?\.json|tsconfig[^/]*\.json|pyproject\.toml|Cargo\.toml|Pipfile|ruff\.toml|mkdocs\.ya?ml"
    r"|(?:docker-)?compose[^/]*\.ya?ml|\.[^/]+)$"
)


class ConfigParams(BaseModel):
    """`factor`: what the setting is divided by; 2 for a batch and 10 for a learning rate if not given."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    recipe: Literal["lower_batch_size", "lower_learning_rate"]
    factor: int | None = Field(default=None, ge=2, le=1000)


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    text: str
    rank: int


class _CannotSay(Exception):
    """The reason is the plan's refusal."""


class EditConfig:
    kind = "edit_config"
    Params: type[BaseModel] = ConfigParams
    proves = Proof.FIX_BRANCH

    def plan(self, incident: Incident, params: ConfigParams, tools: Tools) -> Plan:
        batch = params.recipe == "lower_batch_size"
        title = "Lower the batch size" if batch else "Lower the learning rate"
        files = _config_files(incident, tools)
        try:
            plan = _lower_batch_size(files, params.factor or 2) if batch else _lower_rate(files, params.factor or 10)
        except _CannotSay as reason:
            return Plan(title, refusal=str(reason))
        refusal = fix_pull_request.forbidden(incident, plan.edits, tools.policy)
        return Plan(title, refusal=refusal) if refusal else plan

    def apply(self, repair: Repair, params: ConfigParams, plan: Plan, tools: Tools) -> Outcome:
        return fix_pull_request.propose(repair, plan, tools)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return fix_pull_request.withdraw(repair, tools)


def _lower_batch_size(files: Sequence[_File], factor: int) -> Plan:
    file, batch = _the_one(files, _BATCH_SIZE, "a batch size")
    steps = _accumulation(file, batch)
    sizes = []
    for scalar in (batch, steps):
        if not scalars.is_whole(scalar.literal) or scalars.whole(scalar.literal) < 1:
            raise _CannotSay(f"{scalar.name} in {file.path} is {scalar.literal}, which is no count")
        sizes.append(scalars.whole(scalar.literal))
    size, count = sizes
    if size == 1:
        raise _CannotSay(f"{batch.name} in {file.path} is already 1")
    if size % factor:
        raise _CannotSay(
            f"{batch.name} in {file.path} is {size}, which {factor} does not divide: the effective batch would change"
        )
    changes = {
        batch: scalars.write_whole(size // factor, batch.literal),
        steps: scalars.write_whole(count * factor, steps.literal),
    }
    return Plan(
        f"Lower {batch.key} from {size} to {size // factor}",
        why=f"a batch of {size} does not fit into memory; {steps.key} grows from {count} to {count * factor}, so the "
        f"effective batch stays {size * count}",
        edits=(_edit(file, changes),),
        risk="more steps a batch make training slower; batch-wise statistics (batch normalisation) see smaller batches",
        proof="the job that failed passes on the fix branch",
    )


def _lower_rate(files: Sequence[_File], factor: int) -> Plan:
    file, rate = _the_one(files, _LEARNING_RATE, "a learning rate")
    lower = scalars.divide(rate.literal, factor)
    if float(rate.literal.replace("_", "")) <= 0:
        raise _CannotSay(f"{rate.name} in {file.path} is {rate.literal}, which cannot be lowered")
    if float(lower.replace("_", "")) < LOWEST_LEARNING_RATE:
        raise _CannotSay(f"{rate.name} in {file.path} is already {rate.literal}")
    return Plan(
        f"Lower {rate.key} from {rate.literal} to {lower}",
        why=f"training diverged with a learning rate of {rate.literal}",
        edits=(_edit(file, {rate: lower}),),
        risk="training learns more slowly and may need more steps",
        proof="the job that failed passes on the fix branch",
    )


def _edit(file: _File, changes: dict[Scalar, str]) -> FileEdit:
    try:
        return FileEdit(file.path, file.text, scalars.rewrite(file.path, file.text, changes))
    except Malformed as error:
        raise _CannotSay(str(error)) from error


def _the_one(files: Sequence[_File], tiers: Sequence[Sequence[str]], what: str) -> tuple[_File, Scalar]:
    """The setting of the best-ranked file that has one. Raises _CannotSay for none, or for several of equal rank."""
    for rank in sorted({file.rank for file in files}):
        fitting = [(file, scalar) for file in files if file.rank == rank for scalar in _of_best_tier(file, tiers)]
        if len(fitting) > 1:
            fitting = [pair for pair in fitting if _FAVOURED.search(".".join(map(str, pair[1].path[:-1])))] or fitting
        if len(fitting) > 1:
            names = ", ".join(f"{scalar.name} in {file.path}" for file, scalar in fitting[:6])
            raise _CannotSay(f"cannot tell which one is meant: {names}")
        if fitting:
            return fitting[0]
    raise _CannotSay(f"no configuration file has {what}")


def _accumulation(file: _File, batch: Scalar) -> Scalar:
    found = _of_best_tier(file, _ACCUMULATION)
    found = [scalar for scalar in found if scalar.path[:-1] == batch.path[:-1]] or found
    if not found:
        raise _CannotSay(
            f"{file.path} has no gradient accumulation: without it, a smaller {batch.key} changes the training"
        )
    if len(found) > 1:
        raise _CannotSay(f"cannot tell which one is meant: {', '.join(s.name for s in found)} in {file.path}")
    return found[0]


def _of_best_tier(file: _File, tiers: Sequence[Sequence[str]]) -> list[Scalar]:
    keys = frozenset(key for tier in tiers for key in tier)
    if not any(key in file.text for key in keys):
        return []
    try:
        found = scalars.find(file.path, file.text, keys)
    except Malformed:
        return []
    found = [s for s in found if not any(_ELSEWHERE.fullmatch(str(part)) for part in s.path[:-1])]
    tiered = ([scalar for scalar in found if scalar.key in tier] for tier in tiers)
    return next((scalars_of_tier for scalars_of_tier in tiered if scalars_of_tier), [])


def _config_files(incident: Incident, tools: Tools) -> list[_File]:
    """Files that look like configuration, the likeliest first."""
    paths = [
        p for p in tools.forge.paths(incident.head_sha) if p.endswith(scalars.SUFFIXES) and not _NOT_CONFIG.search(p)
    ]
    said = told(incident, tools)
    ranked = sorted((_rank(path, said), path.count("/"), path) for path in paths)
    return list(_read(((rank, path) for rank, _, path in ranked[:MAX_FILES]), incident, tools))


def _read(ranked: Iterable[tuple[int, str]], incident: Incident, tools: Tools) -> Iterator[_File]:
    for rank, path in ranked:
        file = tools.forge.file(path, incident.head_sha)
        if file is not None and len(file.text.encode()) <= MAX_FILE_BYTES:
            yield _File(path, file.text, rank)


def _rank(path: str, said: str) -> int:
    if mentioned(path, said):
        return 0
    if mentioned(path.rpartition("/")[2], said):
        return 1
    return 2 if _CONVENTIONAL.search(path) else 3
