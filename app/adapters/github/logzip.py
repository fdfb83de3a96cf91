"""Reads the archive of a run's logs: a file for each job, and in older ones a folder with a file for each step."""

import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO, cast

from app.adapters.github.loglines import batches
from app.adapters.github.logs import LogReader, read_job_log
from app.domain.errors import Malformed
from app.domain.evidence import Annotation, Job, JobLog

ZIP_MEMBERS = 2_000
ZIP_BYTES = 500 * 1024 * 1024
ZIP_NAME_CHARACTERS = 90

_OF_STEP = re.compile(r"([^/]+)/(\d{1,6})_([^/]+)\.txt")
_OF_JOB = re.compile(r"(?:-?\d{1,6}_)?([^/]+?)(?:\.txt|\.log)?")


@dataclass(slots=True)
class _Member:
    """What the archive holds of one job: the files of its steps, or its own."""

    name: str
    whole: zipfile.ZipInfo | None = None
    steps: list[tuple[int, str, zipfile.ZipInfo]] = field(default_factory=list)

    def read(self, archive: zipfile.ZipFile, job: Job, annotations: Sequence[Annotation]) -> JobLog:
        if not self.steps and self.whole:
            with archive.open(self.whole) as log:
                return read_job_log(cast(BinaryIO, log), job, annotations)
        reader = LogReader()
        names = {step.number: step.name for step in job.steps}
        for number, name, member in sorted(self.steps, key=lambda step: step[0]):
            reader.step(names.get(number, name), number)
            with archive.open(member) as log:
                for lines in batches(cast(BinaryIO, log)):
                    reader.add(lines)
        return reader.log(job, annotations)


def read_log_zip(stream: BinaryIO, job: Job, annotations: Sequence[Annotation] = ()) -> JobLog:
    """The log of one job out of a run's archive (`GET /actions/runs/{id}/logs`). Raises Malformed; writes no file."""
    with _opened(stream) as (archive, members):
        found = members.get(_key(job.name))
        return found.read(archive, job, annotations) if found else JobLog(job, (), 0, tuple(annotations))


def read_run_zip(stream: BinaryIO, job: Job) -> Iterator[JobLog]:
    """The log of every job in a run's archive, each as `job` with its own name. Raises Malformed; writes no file."""
    with _opened(stream) as (archive, members):
        for found in members.values():
            yield found.read(archive, replace(job, name=found.name), ())


def read_zip_lines(stream: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of all jobs in a run's archive, unordered. Raises Malformed; writes no file."""
    with _opened(stream) as (archive, members):
        for found in members.values():
            for member in [found.whole] if found.whole else [step[2] for step in found.steps]:
                with archive.open(member) as log:
                    yield from batches(cast(BinaryIO, log))


@contextmanager
def _opened(stream: BinaryIO) -> Iterator[tuple[zipfile.ZipFile, dict[str, _Member]]]:
    try:
        with zipfile.ZipFile(stream) as archive:
            yield archive, _members(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as reason:
        raise Malformed(f"The log archive cannot be read: {reason}") from reason


def _members(archive: zipfile.ZipFile) -> dict[str, _Member]:
    files = [member for member in archive.infolist() if not member.is_dir()]
    if len(files) > ZIP_MEMBERS:
        raise Malformed(f"The log archive has {len(files)} members, more than {ZIP_MEMBERS}.")
    if sum(member.file_size for member in files) > ZIP_BYTES:
        raise Malformed(f"The log archive unpacks to more than {ZIP_BYTES // 2**20} MiB.")
    found: dict[str, _Member] = {}
    for member in files:
        step, whole = _OF_STEP.fullmatch(member.filename), _OF_JOB.fullmatch(member.filename)
        if step:
            of = found.setdefault(_key(step[1]), _Member(step[1]))
            of.steps.append((int(step[2]), step[3], member))
        elif whole:
            found.setdefault(_key(whole[1]), _Member(whole[1])).whole = member
    return found


def _key(name: str) -> str:
    """Letters and digits of a job's name: the archive drops or replaces the rest, and cuts long names."""
    return re.sub(r"[\W_]", "", name[:ZIP_NAME_CHARACTERS])
