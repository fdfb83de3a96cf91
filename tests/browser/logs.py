"""The log behind an incident, as GitHub would serve it to the screens."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from typing import Any, BinaryIO, cast

from app.domain.errors import Refused
from app.domain.evidence import Job, JobStep
from app.domain.tenant import Repository
from app.healing.kit import Kit
from app.ports.forge import App, Forge

REPOSITORY, RUN = 7, 9003
LINES = {
    1: "##[group]Run python -m train.loop --config train/config.yaml",
    2: "\x1b[36;1mpython -m train.loop --config train/config.yaml\x1b[0m",
    3: "##[endgroup]",
    300: "##[warning]The learning rate is higher than that of the last run.",
    412: "epoch 3/30 step 118 loss 1.8342 lr 0.00098",
    416: "Traceback (most recent call last):",
    417: '  File "train/loop.py", line 88, in step',
    418: "    loss = self.model(batch.images.to(self.device)).loss",
    421: "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of"
    " 15.77 GiB of which 1.21 GiB is free.",
    430: "##[error]Process completed with exit code 1.",
    431: "Post job cleanup.",
    432: "[command]/usr/bin/git version",
}
TOTAL = 1_200


def text() -> bytes:
    lines = (LINES.get(n, f"epoch {n // 40} step {n} loss {4 / n:.4f} lr 0.00098") for n in range(1, TOTAL + 1))
    return "".join(f"2026-11-21T09:00:00.0000000Z {line}\n" for line in lines).encode()


class _Forge:
    """Of one repository: the run that failed, no configuration, and nothing else."""

    def __init__(self, forge: Forge) -> None:
        self._forge = forge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._forge, name)

    def file(self, path: str, ref: str, *, strict: bool = False) -> None:
        """There is no heal.yml."""

    def owner_file(self, path: str) -> None:
        """None of the owner's either."""

    def jobs(self, run_id: int, attempt: int) -> list[Job]:
        if run_id != RUN:
            raise Refused("GitHub does not have this run any more")
        steps = (JobStep(1, "Run python -m train.loop", "failure"), JobStep(2, "Post job cleanup.", "success"))
        return [Job(1, "train (gpu)", run_id, attempt, "5f3a9c1e" * 5, "failure", steps=steps)]

    @contextmanager
    def job_log(self, job: Job) -> Iterator[BinaryIO]:
        del job
        yield BytesIO(text())


class _App:
    def __init__(self, app: App) -> None:
        self._app = app

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    def forge(self, repository: Repository) -> Forge:
        forge = self._app.forge(repository)
        return cast(Forge, _Forge(forge)) if repository.id == REPOSITORY else forge


def with_log(kit: Kit) -> Kit:
    """The same, whose GitHub has the logs of one repository."""
    return replace(kit, app=cast(App, _App(kit.app)))
