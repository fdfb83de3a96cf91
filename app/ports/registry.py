"""The registry of trained models: versions, what is known of them, and the names that point at them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from app.domain.errors import Refused


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a registered model.

    `code_sha` is the commit it was trained at and `data_version` a digest or name of the data, both "" where nobody
    said; `run_id` is the training run; `metrics` are the run's last values; `tags` the version's and its run's (the
    version's own where both have one). Not `ready`: it is still being registered, or that failed.
    """

    model: str
    number: int
    run_id: str = ""
    created_at: datetime | None = None
    code_sha: str = ""
    data_version: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    ready: bool = True


def safe_path(path: str) -> str:
    """The path of an artefact below its run, as it was given. Raises Refused for one that would lead elsewhere."""
    parts = path.split("/")
    if not path or len(path) > 500 or "\\" in path or "%" in path or any(p in ("", ".", "..") for p in parts):
        raise Refused(f"{path[:100]!r} is no path of an artefact")
    if any(ord(each) < 32 or each in "#?" for each in path):
        raise Refused(f"{path[:100]!r} is no path of an artefact")
    return path


class Registry(Protocol):
    """Raises Unreachable when it does not answer, Refused for what it will not do."""

    def only(self, repository: str) -> "Registry":
        """The same, for one repository (owner/name): it refuses the models that the operator has not given it."""
        ...

    def version(self, model: str, number: int) -> Version | None: ...
    def aliased(self, model: str, alias: str) -> Version | None:
        """The version an alias points at; None if there is no such alias (or model)."""
        ...

    def versions(
        self, model: str, *, tags: Mapping[str, str], since: datetime | None = None, most: int = 100
    ) -> list[Version]:
        """Those that carry all of these tags (on the version or its run) and were registered since, newest first; of
        the newest `most` (at most 100)."""
        ...

    def point(self, model: str, alias: str, number: int | None) -> None:
        """The alias points at that version, or (None) is gone. The registry has no compare-and-swap: look before."""
        ...

    def tag(self, model: str, number: int, name: str, value: str) -> None: ...
    def file(self, version: Version, path: str, *, most_bytes: int) -> bytes | None:
        """An artefact of the version's run. None: there is none, or it is larger. Refused: `path` leads elsewhere."""
        ...


class NoRegistry:
    """Where none is configured."""

    def _none(self) -> Refused:
        return Refused("no model registry is configured; set HEAL_MLFLOW__TRACKING_URI")

    def only(self, repository: str) -> Registry:  # noqa: ARG002
        return self

    def version(self, model: str, number: int) -> Version | None:  # noqa: ARG002
        raise self._none()

    def aliased(self, model: str, alias: str) -> Version | None:  # noqa: ARG002
        raise self._none()

    def versions(
        self,
        model: str,  # noqa: ARG002
        *,
        tags: Mapping[str, str],  # noqa: ARG002
        since: datetime | None = None,  # noqa: ARG002
        most: int = 100,  # noqa: ARG002
    ) -> list[Version]:
        raise self._none()

    def point(self, model: str, alias: str, number: int | None) -> None:  # noqa: ARG002
        raise self._none()

    def tag(self, model: str, number: int, name: str, value: str) -> None:  # noqa: ARG002
        raise self._none()

    def file(self, version: Version, path: str, *, most_bytes: int) -> bytes | None:  # noqa: ARG002
        raise self._none()
