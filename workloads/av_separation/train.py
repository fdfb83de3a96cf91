"""Training. Each step is batch x accumulate x processes mixtures, in an order that depends on the seed alone: neither
on how a step is cut into batches nor on where the training was interrupted. On a CPU a resumed training ends with the
same weights, bit for bit, as one that was not interrupted.

A learning rate that follows `minutes` follows the clock, so such a run is repeated in its order, not in its bits.
"""

import contextlib
import gc
import math
import os
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from workloads import checkpoint, folder, memory, ranks, seed
from workloads.av_separation import data, losses, metrics, rows
from workloads.av_separation.config import Train
from workloads.av_separation.data import Example, Source
from workloads.av_separation.device import settle
from workloads.av_separation.drift import Observations
from workloads.av_separation.model import CHECKPOINTS, WEIGHTS, Separator, build, parameters, save_weights
from workloads.contract import Failure, Measured, Metric, Report, Run, RunFailed, Unavailable
from workloads.failures import classify

MOST_BAD = 5
"""So many steps in a row without a finite gradient end a run; half precision, whose scale is still sought, may take
five times as many."""
SLOWER = 4.0
"""After a NaN the learning rate is divided by this."""
MOST_BEFORE = 100
"""So many runs that have gone on from each other are looked through for a checkpoint."""
STAGES = ((1 / 3, 0.5), (2 / 3, 0.75))
"""A curriculum: until this part of `steps`, mixtures of this part of their length and range of levels, dry."""

Open = Callable[..., Source]
Ended = Failure | None


# --- data ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Batch:
    """mixture: (batch, samples); mouths: (batch, speakers, frames, 48, 48); seen: (batch, speakers, frames);
    clean: (batch, speakers, samples)."""

    mixture: Tensor
    mouths: Tensor
    seen: Tensor
    clean: Tensor

    @classmethod
    def of(cls, examples: list[Example]) -> "Batch":
        names = ("mixture", "mouths", "seen", "clean")
        return cls(*(torch.from_numpy(np.stack([getattr(each, name) for each in examples])) for name in names))

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(part.to(device, non_blocking=True) for part in self._parts()))

    def pin_memory(self) -> "Batch":
        """Called by the loader."""
        return Batch(*(part.pin_memory() for part in self._parts()))

    def _parts(self) -> tuple[Tensor, ...]:
        return self.mixture, self.mouths, self.seen, self.clean

    @property
    def finite(self) -> bool:
        return all(bool(torch.isfinite(part).all()) for part in (self.mixture, self.mouths, self.clean))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a batch lies: the first step of it all, the examples before that, and this process among the others."""

    step: int
    examples: int
    rank: int = 0
    processes: int = 1


class Order(Sampler[list[tuple[int, int]]]):
    """For each forward pass from `place` on, the mixtures of this process: (stage, number of the example)."""

    def __init__(self, config: Train, place: Place) -> None:
        self._config, self._place = config, place

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        config, place = self._config, self._place
        first = place.examples
        for step in range(place.step, config.steps):
            at = stage(config, step)
            for number in range(config.accumulate):
                start = first + (number * place.processes + place.rank) * config.batch
                yield [(at, start + each) for each in range(config.batch)]
            first += global_batch(config)


class Mixtures(Dataset[Example]):
    """The sources of all stages of the curriculum; the last is the whole task."""

    def __init__(self, config: Train, open_source: Open) -> None:
        stages = STAGES if config.curriculum else ()
        self._sources = [_source(easier(config, part), open_source, "train") for _, part in stages]
        self._sources.append(_source(config, open_source, "train"))

    def __getitem__(self, at: tuple[int, int]) -> Example:
        return self._sources[at[0]].example(at[1])


def global_batch(config: Train) -> int:
    return config.batch * config.accumulate * config.processes


def stage(config: Train, step: int) -> int:
    """Which of the curriculum's sources the step draws from."""
    return sum(step >= until * config.steps for until, _ in STAGES) if config.curriculum else 0


def easier(config: Train, part: float) -> Train:
    """Shorter, with levels nearer to each other, dry and without noise."""
    shorter = max(0.32, round(config.seconds * part / 0.32) * 0.32)
    middle = (config.snr_low + config.snr_high) / 2
    near = (config.snr_high - config.snr_low) / 2 * part
    return replace(config, seconds=shorter, snr_low=middle - near, snr_high=middle + near, noise=0.0, reverb=0.0)


def _source(config: Train, open_source: Open, split: str) -> Source:
    training = split == "train"
    return open_source(
        config.data if training else config.valid or config.data,
        split=split,
        seconds=config.seconds,
        speakers=config.speakers,
        seed=config.seed if training else 0,
        snr_db=(config.snr_low, config.snr_high),
        noise=config.noise,
        reverb=config.reverb,
        same_voice=config.same_voice if training else 0.0,  # validation data may be too little for it
        missing=config.lips_missing if training else 0.0,
    )


# --- one process ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Progress:
    """How far a training is, beside its weights. Kept in each checkpoint."""

    step: int = 0
    examples: int = 0
    elapsed_s: float = 0.0
    best_db: float | None = None
    best_step: int = -1
    stale: int = 0  # validations since the best
    bad: int = 0  # steps in a row without a finite gradient
    skipped: int = 0
    loss_db: float | None = None  # smoothed


def learning_rate(config: Train, step: int, elapsed_s: float) -> float:
    """Up linearly over `warmup` steps; then down along a cosine to 1 % at the last step, or the last minute."""
    part = step / config.steps
    if config.minutes:
        part = max(part, elapsed_s / (60 * config.minutes))
    rising = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    falling = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(part, 1.0))) if config.schedule == "cosine" else 1.0
    return config.learning_rate * rising * falling


class Trainer:
    """The training of one process. All processes step alike; the first one alone validates, keeps and tells."""

    def __init__(self, config: Train, run: Run, open_source: Open, make: Callable[[str], Separator]) -> None:
        self.config, self.run = config, run
        self.accelerator = _accelerator(config)
        self.first = self.accelerator.is_main_process
        self.progress = Progress()
        self.observed = Observations("reference")
        seed.everything(config.seed)
        self.mixtures = Mixtures(config, open_source)
        self.valid = _source(config, open_source, "valid") if self.first and config.validate_every else None
        self.model = make(config.preset)
        self.model.train()
        optimizer = torch.optim.AdamW(_groups(self.model, config.weight_decay), lr=config.learning_rate, fused=True)
        self.net, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        self._kept: int | None = None

    # the steps

    def train(self) -> Ended:
        """Until the last step, the last minute, or no gain any more. Why it was stopped early from outside, if it was:
        then a checkpoint has been kept."""
        now = time.process_time if self.config.clock == "cpu" else time.monotonic
        began = now() - self.progress.elapsed_s
        for batches in self._steps():
            self.progress.elapsed_s = now() - began
            stopped, over = self._agree(self._told_to_end(), self._over())
            if stopped is not None:
                self.keep()
                return stopped
            if over:
                break
            self._step(batches)
            self._after_step()
        if self.config.validate_every and self.progress.step % self.config.validate_every:
            self.validate()
        self.keep()
        return None

    def _steps(self) -> Iterator[Iterator[Batch]]:
        """Each step's batches. They are mixed as they are asked for, or ahead of time by processes of their own."""
        config, progress = self.config, self.progress
        place = Place(progress.step, progress.examples, self.accelerator.process_index, self.accelerator.num_processes)
        loader = DataLoader(
            self.mixtures,
            batch_sampler=Order(config, place),
            num_workers=_loaders(config, self.accelerator.device),
            collate_fn=Batch.of,
            pin_memory=self.accelerator.device.type == "cuda",
            # A generator of its own: the one of the training shall not depend on how often it was resumed.
            generator=torch.Generator().manual_seed(config.seed),
        )
        batches = iter(loader)
        for _ in range(progress.step, config.steps):
            yield (next(batches) for _ in range(config.accumulate))

    def _over(self) -> bool:
        """The minutes have gone by, or validations bring nothing any more."""
        config, progress = self.config, self.progress
        late = bool(config.minutes) and progress.elapsed_s >= 60 * config.minutes
        return late or (bool(config.patience) and progress.stale >= config.patience)

    def _step(self, batches: Iterator[Batch]) -> None:
        config, progress = self.config, self.progress
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, progress.step, progress.elapsed_s)
        self.optimizer.zero_grad(set_to_none=True)
        total, finite = 0.0, True
        for number in range(config.accumulate):
            batch = next(batches)
            last = number == config.accumulate - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.net):
                loss = self._loss(batch.to(self.accelerator.device))
                self.accelerator.backward(loss)
            if self.first:  # while a GPU works
                self.observed.add(batch.mixture.numpy(), batch.seen.numpy(), batch.clean.numpy())
            total += float(loss.detach()) / config.accumulate
            if not math.isfinite(total) and finite:
                finite = False
                if not batch.finite:
                    raise RunFailed(
                        Failure.DATA_MALFORMED,
                        f"a mixture of step {progress.step} holds NaN or infinite samples: look at the data",
                        facts={"step": progress.step, "first_example": progress.examples},
                    )
        norm = float(self.accelerator.clip_grad_norm_(self.model.parameters(), config.clip or math.inf))
        scaler = self.accelerator.scaler
        if math.isfinite(norm):
            progress.bad = 0
            smooth = 0.98 if progress.loss_db is not None else 0.0
            progress.loss_db = smooth * (progress.loss_db or 0.0) + (1 - smooth) * total
        else:
            progress.bad += 1
            progress.skipped += 1
            self._too_bad(norm, total, MOST_BAD * (5 if scaler is not None else 1))
        if math.isfinite(norm) or scaler is not None:  # the scaler leaves the step out itself, and scales less
            self.optimizer.step()
        progress.step += 1
        progress.examples += global_batch(config)
        if self.first:
            self._tell_progress({"loss_db": total} if math.isfinite(total) else {})

    def _tell_progress(self, figures: dict[str, float]) -> None:
        """In steps, or in minutes where these will be over first."""
        config, progress = self.config, self.progress
        if config.minutes and progress.elapsed_s / (60 * config.minutes) > progress.step / config.steps:
            minutes = min(progress.elapsed_s / 60, config.minutes)
            self.run.progress(round(minutes, 2), config.minutes, "min", step=progress.step, **figures)
        else:
            self.run.progress(progress.step, config.steps, "steps", **figures)

    def _loss(self, batch: Batch) -> Tensor:
        with self.accelerator.autocast():
            estimates = self.net(batch.mixture, batch.mouths, batch.seen)
        # Of voices whose lips are never seen nobody can say which is which.
        free = batch.seen.amax(-1) <= 0 if self.config.mode == "target" else torch.ones(batch.seen.shape[:2])
        return losses.partly_free_loss(estimates, batch.clean, batch.mixture, free > 0)

    def _too_bad(self, norm: float, loss: float, most: int) -> None:
        progress = self.progress
        if self.first:
            self.run.event("step_skipped", step=progress.step, loss=str(loss), gradient=str(norm), row=progress.bad)
        if progress.bad < most:
            return
        slower = self.config.learning_rate / SLOWER
        raise RunFailed(
            Failure.NAN_LOSS,
            f"{progress.bad} steps in a row had no finite gradient (loss {loss}, step {progress.step}): "
            f"go on from the last checkpoint with a learning rate of {slower:g}",
            advice={"learning_rate": slower},
            facts={"step": progress.step, "learning_rate": self.config.learning_rate, "skipped": progress.skipped},
        )

    def _after_step(self) -> None:
        config, step = self.config, self.progress.step
        if self.first and step % 20 == 0 and self.progress.loss_db is not None:
            self.run.metric("train_loss_db", self.progress.loss_db, step, "dB")
            self.run.metric("learning_rate", float(self.optimizer.param_groups[0]["lr"]), step)
        better = bool(config.validate_every) and step % config.validate_every == 0 and self.validate()
        if better or step % config.checkpoint_every == 0:
            self.keep()

    # after running out of memory

    def smaller_batch(self, failures: int) -> tuple[dict[str, int], dict[str, Any]]:
        """Advice and facts for a run that goes on in less memory, from two small steps in what is left of this one.

        The weights have changed after that: nothing is kept any more. `failures`: how many batches chosen so have been
        too large already.
        """
        config, device = self.config, str(self.accelerator.device)
        self.optimizer.zero_grad(set_to_none=True)
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
        limit, estimate = memory.limit_of(device), None
        sizes = sorted({max(1, config.batch // 8), max(2, config.batch // 4)})
        if sizes[-1] < config.batch:
            with contextlib.suppress(Exception):  # even these may be too large; how the run ended stays what is told
                estimate = memory.probe(self._trial, sizes, device)
        chosen = memory.batch_after_oom(
            batch=config.batch,
            accumulate=config.accumulate,
            limit_bytes=limit.bytes if limit else None,
            estimate=estimate,
            failures=failures,
        )
        facts: dict[str, Any] = {"batch": config.batch, "accumulate": config.accumulate}
        if limit is not None:
            facts |= {"limit_bytes": limit.bytes, "limit": limit.what}
        if estimate is not None:
            facts |= {"predicted_bytes": estimate.peak_bytes(config.batch), "basis": estimate.basis}
        if chosen is None:
            return {}, facts
        return {"batch": chosen[0], "accumulate": chosen[1]}, facts

    def _trial(self, batch: int) -> None:
        """One step with a batch of that size: one mixture, over and over. Other processes are not asked."""
        one = self.mixtures[(0, 0)] if not self.config.curriculum else self.mixtures[(len(STAGES), 0)]
        together = Batch.of([one] * batch).to(self.accelerator.device)
        self.optimizer.zero_grad(set_to_none=True)
        with self.accelerator.autocast():
            estimates = self.model(together.mixture, together.mouths, together.seen)
        losses.target_loss(estimates, together.clean, together.mixture).backward()  # type: ignore[no-untyped-call]
        self.optimizer.optimizer.step()

    # agreeing with the other processes

    def _told_to_end(self) -> Ended:
        if not self.first:
            return None
        try:
            self.run.check()
        except RunFailed as failed:
            return failed.kind
        return None

    def _agree(self, ended: Ended, over: bool) -> tuple[Ended, bool]:
        """What the first process has found, in all of them."""
        if self.accelerator.num_processes == 1:
            return ended, over
        kinds = list(Failure)
        told = torch.tensor(int(over) if ended is None else 2 + kinds.index(ended), device=self.accelerator.device)
        torch.distributed.broadcast(told, 0)
        number = int(told)
        return (kinds[number - 2], False) if number > 1 else (None, number == 1)

    # validation

    def validate(self) -> bool:
        """SI-SNRi on the same mixtures each time. True: better than ever."""
        if self.valid is None:
            return False
        progress = self.progress
        self.model.eval()
        found: list[float] = []
        for index in range(self.config.valid_mixtures):
            example = self.valid.example(index)
            found += improvements(example, self.separated(example), free=self.config.mode == "pit")
        self.model.train()
        if not found:
            raise RunFailed(Failure.DATA_MALFORMED, "no mixture for the validation has a voice that can be measured")
        value = float(np.mean(found))
        self.run.metric("valid_si_snri_db", value, progress.step, "dB")
        better = math.isfinite(value) and (progress.best_db is None or value > progress.best_db)
        if better:
            progress.best_db, progress.best_step, progress.stale = value, progress.step, 0
        else:
            progress.stale += 1
        return better

    def separated(self, example: Example) -> np.ndarray[Any, Any]:
        """(speakers, samples), by the weights as they are now."""
        batch = Batch.of([example]).to(self.accelerator.device)
        with torch.no_grad(), self.accelerator.autocast():
            found: np.ndarray[Any, Any] = self.model(batch.mixture, batch.mouths, batch.seen)[0].float().cpu().numpy()
        return found

    # checkpoints

    def keep(self) -> None:
        progress = self.progress
        if not self.first or self._kept == progress.step:
            return
        optimizer, of_optimizer = checkpoint.optimizer_tensors(self.optimizer.optimizer)
        chance, of_chance = checkpoint.rng_state()
        scaler = self.accelerator.scaler
        state = {
            "progress": asdict(progress),
            "best": progress.best_step == progress.step,
            "preset": self.config.preset,
            "optimizer": of_optimizer,
            "rng": of_chance,
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()} | optimizer | chance
        path = checkpoint.save(
            self.run.out / CHECKPOINTS, progress.step, tensors=tensors, state=state, keep=self.config.keep
        )
        self._kept = progress.step
        self.run.event("checkpoint", step=progress.step, path=path.relative_to(self.run.out).as_posix())

    def resume(self, earlier: Path) -> None:
        """Go on from the newest whole checkpoint of `earlier`, the folder of a run, or of those that it has itself
        gone on from; else from the start. That is kept here, too: a run that fails soon loses nothing."""
        found = self._newest(earlier)
        if found is None:
            self._event("nothing_to_resume", folder=str(earlier / CHECKPOINTS))
            return
        kept = found.parent
        tensors, state = checkpoint.load(found)
        if state.get("preset") != self.config.preset:
            raise RunFailed(
                Failure.BAD_SETTING,
                f"the run to go on with is of the preset {state.get('preset')}, not {self.config.preset}",
            )
        weights = {name.removeprefix("model."): of for name, of in tensors.items() if name.startswith("model.")}
        try:
            self.model.load_state_dict(weights)
            self.progress = Progress(**state["progress"])
            if self.accelerator.scaler is not None and state["scaler"] is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            checkpoint.restore_optimizer(self.optimizer.optimizer, tensors, state["optimizer"])
            checkpoint.restore_rng(tensors, state["rng"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise RunFailed(
                Failure.CHECKPOINT_CORRUPT, f"{found.name} is whole, but not of this training: {error!r:.300}"
            ) from error
        self.progress.bad = 0
        self._event("resumed", step=self.progress.step, checkpoint=str(found))
        if self.first and kept.resolve() != (self.run.out / CHECKPOINTS).resolve():
            self._bring_best(kept)
            self.keep()

    def _newest(self, earlier: Path) -> Path | None:
        for _ in range(MOST_BEFORE):
            found = checkpoint.latest(earlier / CHECKPOINTS, self._passed_over)
            before = (folder.read(earlier / folder.REQUEST) or {}).get("resume")
            if found is not None or not before:
                return found
            earlier = Path(str(before))
        return None

    def _bring_best(self, kept: Path) -> None:
        """The best weights so far belong to the run that goes on. Where they are lost it looks for the best anew."""
        if self.progress.best_step < 0:
            return
        best = kept / f"step-{self.progress.best_step:09d}"
        try:
            tensors, state = checkpoint.load(best)
        except RunFailed as broken:
            self._passed_over(best, str(broken))
            self.progress.best_db, self.progress.best_step = None, -1
            return
        checkpoint.save(self.run.out / CHECKPOINTS, self.progress.best_step, tensors=tensors, state=state)

    def _passed_over(self, path: Path, why: str) -> None:
        self._event("checkpoint_passed_over", path=str(path), why=why)

    def _event(self, name: str, **fields: Any) -> None:
        if self.first:
            self.run.event(name, **fields)

    def best_weights(self) -> tuple[Separator, int]:
        """The model with the weights that did best in validation, or else the last; and their step."""
        best = self.run.out / CHECKPOINTS / f"step-{self.progress.best_step:09d}"
        if self.progress.best_step < 0:
            return self.model, self.progress.step
        try:
            tensors, _ = checkpoint.load(best)
        except RunFailed as broken:
            self._passed_over(best, str(broken))
            self.progress.best_db = None  # it is not of the weights that there are
            return self.model, self.progress.step
        self.model.load_state_dict(
            {name.removeprefix("model."): of for name, of in tensors.items() if name.startswith("model.")}
        )
        return self.model, self.progress.best_step


def improvements(example: Example, estimates: np.ndarray[Any, Any], *, free: bool) -> list[float]:
    """SI-SNRi in dB of each voice that can be measured. `free`: in the order that fits best."""
    order = metrics.best_order(estimates, example.clean) if free else range(len(estimates))
    found = []
    for voice, at in zip(example.clean, order, strict=True):
        with contextlib.suppress(metrics.Undefined):
            found.append(metrics.improvement(metrics.si_snr, estimates[at], voice, example.mixture))
    return found


def _accelerator(config: Train) -> Accelerator:
    cpu = settle(config.device, config.threads).type == "cpu"
    if cpu and config.precision == "fp16":
        raise RunFailed(Failure.BAD_SETTING, "precision is fp16, which needs a GPU: say bf16 or fp32")
    precision = {"fp32": "no"}.get(config.precision, config.precision)
    return Accelerator(cpu=cpu, mixed_precision=precision, gradient_accumulation_steps=config.accumulate)


def _loaders(config: Train, device: torch.device) -> int:
    """A GPU is kept busy by several processes that mix; a CPU has its own work."""
    if config.loaders >= 0:
        return config.loaders
    return min(8, max(1, (os.cpu_count() or 2) - 1)) if device.type == "cuda" else 0


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay is for matrices, not for biases and scales."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


# --- the run -------------------------------------------------------------------------------------------------------


def run_train(
    config: Train,
    run: Run,
    *,
    open_source: Open = data.open_source,
    make: Callable[[str], Separator] = build,
) -> Report:
    """Train, keep the best weights as `model.safetensors`, and say what came of it. Raises RunFailed."""
    kept = run.out / CHECKPOINTS
    if run.resume is None and kept.is_dir() and any(kept.iterdir()):  # whoever goes on later could not tell them apart
        message = f"{run.out} has the checkpoints of an earlier training: go on with --resume, or name another --out"
        raise RunFailed(Failure.BAD_SETTING, message)
    backend = "nccl" if config.device != "cpu" and torch.cuda.is_available() else "gloo"
    given = (config, run.out, run.resume, open_source, make)
    with ranks.together(config.processes, run.out / ".meeting", backend, _train_along, *given):
        return _train(config, run, open_source, make)


def _train(config: Train, run: Run, open_source: Open, make: Callable[[str], Separator]) -> Report:
    trainer = None
    _careful(run.resume)
    try:
        trainer = Trainer(config, run, open_source, make)
        run.event("data", spec=config.data, sha256=data.fingerprint_of(config.data))
        run.event("model", preset=config.preset, parameters=parameters(trainer.model))
        if run.resume is not None:
            trainer.resume(run.resume)
        first = trainer.progress.step, trainer.progress.elapsed_s
        ended = trainer.train()
    except (RuntimeError, MemoryError, OSError) as error:
        known = _advised(error, trainer, run.resume)
        if known is None:
            raise
        raise known from error
    if ended is not None:
        run.check()  # raises, in the words of whoever ended it
        raise RunFailed(ended, "it was told to end")
    return _report(trainer, *first)


class Along:
    """The run of a process that is not the first: it says nothing."""

    def __init__(self, out: Path, resume: Path | None) -> None:
        self.out, self.resume = out, resume

    def event(self, name: str, /, **fields: Any) -> None: ...

    def progress(self, done: float, total: float, unit: str, **figures: float) -> None: ...

    def metric(self, name: str, value: float, step: int, unit: str = "") -> None: ...

    def check(self) -> None: ...


def _train_along(
    config: Train, out: Path, resume: Path | None, open_source: Open, make: Callable[[str], Separator]
) -> None:
    trainer = None
    _careful(resume)
    try:
        trainer = Trainer(config, Along(out, resume), open_source, make)
        if resume is not None:
            trainer.resume(resume)
        trainer.train()
    except (RuntimeError, MemoryError, OSError) as error:
        known = _advised(error, trainer, resume)
        if known is None:
            raise
        raise known from error


def _advised(error: Exception, trainer: Trainer | None, resumed: Path | None) -> RunFailed | None:
    """What the failure is; where memory ran out, with the batch that fits. None: a bug."""
    failed = classify(error)
    if failed is None or failed.kind not in (Failure.CUDA_OOM, Failure.HOST_OOM):
        return failed
    if trainer is None:  # not even the model fits
        return failed
    if "DataLoader worker" in str(failed):
        return RunFailed(failed.kind, str(failed), advice={"loaders": 0}, facts=failed.facts)
    traceback.clear_frames(error.__traceback__)  # they hold what did not fit
    advice, facts = trainer.smaller_batch(_failures_before(resumed))
    return RunFailed(failed.kind, str(failed), advice=advice, facts=failed.facts | facts)


def _careful(resumed: Path | None) -> None:
    """After an OOM the batch was chosen for a process whose heap is steady."""
    if _failures_before(resumed):
        memory.steady()


def _failures_before(resumed: Path | None) -> int:
    """1 where the run that this one goes on from has ended for want of memory, too: what was advised was too much."""
    record = folder.read(resumed / folder.RECORD) if resumed is not None else None
    kind = ((record or {}).get("failure") or {}).get("kind")
    return int(kind in (Failure.CUDA_OOM, Failure.HOST_OOM))


def _report(trainer: Trainer, first_step: int, first_s: float) -> Report:
    config, progress, out = trainer.config, trainer.progress, trainer.run.out
    model, step = trainer.best_weights()
    save_weights(model, out / WEIGHTS, config.preset)
    observed, drift = trainer.observed.write(out)
    artefacts = {"model": WEIGHTS, "observations": observed}
    if trainer.valid is not None:
        model.eval()
        kept = rows.write(out, trainer.valid, config.valid_mixtures, trainer.separated, free=config.mode == "pit")
        artefacts["evaluation"] = kept
    steps, spent = progress.step - first_step, progress.elapsed_s - first_s
    found: dict[str, Metric] = {
        "valid_si_snri_db": Unavailable(
            "there was no validation" if progress.best_step < 0 else "the weights of the best validation are lost"
        )
        if progress.best_db is None
        else Measured(progress.best_db, "dB"),
        "train_loss_db": Unavailable("no step was taken")
        if progress.loss_db is None
        else Measured(progress.loss_db, "dB"),
        "steps": Measured(progress.step),
        "skipped_steps": Measured(progress.skipped),
        "trained_s": Measured(progress.elapsed_s, "s"),
        "mixtures_per_s": Measured(steps * global_batch(config) / spent, "1/s")
        if steps and spent
        else Unavailable("no step was taken"),
        "parameters": Measured(parameters(model)),
    }
    notes = [f"the weights are those of step {step}"]
    if config.patience and progress.stale >= config.patience:
        notes.append(f"it stopped early: {progress.stale} validations brought no gain")
    return Report(metrics=found, artefacts=artefacts, drift=drift, notes=tuple(notes))
