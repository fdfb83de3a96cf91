"""A team's own workload. It loads no library, and fails in whichever way it is told to."""

import os
import signal
import time
from dataclasses import dataclass
from typing import ClassVar

from workloads.contract import Failure, Measured, Needs, Report, RunFailed, Samples, Unavailable, Verb, setting


@dataclass(frozen=True, slots=True)
class Config:
    how: str = setting("well", "how it ends")
    steps: int = setting(3, "steps", least=1, most=100_000)
    rate: float = setting(0.5, "a rate", unit="1/s", least=0, most=1)
    batch: int = setting(8, "how many at a time", least=1)
    loud: bool = setting(False, "whether it talks")
    size: str = setting("small", "how large it is", choices=("small", "large"))
    film: str = setting("", "what it looks at", positional=True)
    register_as: str = setting("", "name in the registry")


class Toy:
    name = "toy"
    summary = "does what it is told"
    verbs: ClassVar = {"train": Verb("count to a number", Config), "benchmark": Verb("tell samples", Config)}

    def plan(self, verb, config):
        return Needs(memory_bytes=Measured(2.0**30, "B"), basis="a guess")

    def run(self, verb, config, run):
        getattr(self, config.how.replace("-", "_"))(config, run)
        if verb == "benchmark" and config.how == "nan":
            return Report(samples=(Samples("latency", "ms", "lower", (1.0, float("nan"))),))
        if verb == "benchmark":
            return Report(samples=(Samples("latency", "ms", "lower", (1.0, 2.0, 3.0, 4.0, 5.0)),))
        (run.out / "weights").write_text("7")
        (run.out / "model").mkdir(exist_ok=True)
        (run.out / "model" / "weights").write_text("7")
        (run.out / "rows.csv").write_text("id,label,prediction\n1,0,0.5\n")
        artefacts = {"weights": "weights", "model": "model", "evaluation": "rows.csv"}
        if config.how == "nan":
            return Report(metrics={"gain": Measured(float("nan"), "dB")})
        metrics = {"steps": Measured(config.steps, ""), "energy": Unavailable("no GPU")}
        return Report(metrics=metrics, artefacts=artefacts, notes=("well done",))

    def well(self, config, run):
        if config.loud:
            print("a library talks")
        run.event("data", sha256="5" * 64)
        run.event("resumed", folder=str(run.resume), film=config.film)
        for step in range(config.steps):
            run.check()
            run.metric("loss", 1 / (step + 1), step)
            run.progress(step + 1, config.steps, "steps", loss=1 / (step + 1))

    def wait(self, config, run):
        (run.out / "waits").touch()
        for step in range(3000):
            run.check()
            run.progress(step, 3000, "steps")
            time.sleep(0.02)

    def stubborn(self, config, run):
        (run.out / "waits").touch()
        time.sleep(60)

    def fail(self, config, run):
        raise RunFailed(
            Failure.HOST_OOM, "batch 8 is too large", advice={"batch": 4, "accumulate": 2}, facts={"gib": 9}
        )

    def bug(self, config, run):
        raise ZeroDivisionError("a bug")

    def hungry(self, config, run):
        bytearray(2 << 30)

    def nan(self, config, run):
        run.event("looked", value=float("nan"), where=run.out)
        run.metric("loss", float("nan"), 0)
        run.progress(1, 2, "steps", loss=float("inf"))

    def nan_fact(self, config, run):
        raise RunFailed(Failure.NAN_LOSS, "no number", facts={"loss": float("nan")})

    def secret(self, config, run):
        raise ValueError("https://me:hidden@server/api did not answer")

    def killed(self, config, run):
        os.kill(os.getpid(), signal.SIGKILL)

    def crash(self, config, run):
        held = bytearray(config.steps << 20)
        time.sleep(0.5)  # as a library that goes on for a while
        os.kill(os.getpid(), signal.SIGSEGV)
        del held

    def full(self, config, run):
        raise OSError(28, "No space left on device")


WORKLOAD = Toy()
