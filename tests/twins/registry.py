"""A model registry in memory: the port `Registry`, with every write recorded and every failure scripted."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from app.domain.errors import HealError, Refused
from app.ports.registry import Registry, Version, safe_path

START = datetime(2026, 11, 21, tzinfo=UTC)


@dataclass(slots=True)
class MemoryRegistry:
    """`writes` are the effects that really happened: ("point", model, alias, number) and ("tag", model, number, name,
    value). Each version is a minute younger than the one before it, unless a test says when it was made."""

    writes: list[tuple[object, ...]] = field(default_factory=list)
    _versions: dict[str, dict[int, Version]] = field(default_factory=dict)
    _aliases: dict[tuple[str, str], int] = field(default_factory=dict)
    _files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    _failures: list[tuple[str, HealError, bool]] = field(default_factory=list)

    # what a test says

    def add(
        self,
        model: str,
        *,
        run_id: str = "",
        created_at: datetime | None = None,
        code_sha: str = "",
        data_version: str = "",
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
        alias: str = "",
        ready: bool = True,
    ) -> Version:
        """The next version of the model, as a training would register it."""
        have = self._versions.setdefault(model, {})
        number = max(have, default=0) + 1
        run_id = run_id or f"run-{model}-{number}"
        have[number] = Version(
            model,
            number,
            run_id=run_id,
            created_at=created_at or START + timedelta(minutes=number),
            code_sha=code_sha,
            data_version=data_version,
            metrics=dict(metrics or {}),
            tags=dict(tags or {}),
            url=f"https://registry.test/#/models/{model}/versions/{number}",
            ready=ready,
        )
        self._files[run_id] = dict(files or {})
        if alias:
            self._aliases[model, alias] = number
        return have[number]

    def put_file(self, run_id: str, path: str, content: bytes) -> None:
        self._files.setdefault(run_id, {})[path] = content

    def forget(self, model: str, number: int) -> None:
        """Someone deletes the version, and with it the aliases that point at it."""
        del self._versions[model][number]
        self._aliases = {key: at for key, at in self._aliases.items() if (key[0], at) != (model, number)}

    def point_by_hand(self, model: str, alias: str, number: int) -> None:
        self._aliases[model, alias] = number

    def aliases(self, model: str) -> dict[str, int]:
        return {alias: number for (of, alias), number in self._aliases.items() if of == model}

    def fail_next(self, method: str, error: HealError, *, after_write: bool = False) -> None:
        """`after_write`: the effect happens, and then the answer is lost."""
        self._failures.append((method, error, after_write))

    # the port

    def only(self, repository: str) -> Registry:
        return self

    def version(self, model: str, number: int) -> Version | None:
        with self._call("version"):
            return self._versions.get(model, {}).get(number)

    def aliased(self, model: str, alias: str) -> Version | None:
        with self._call("aliased"):
            return self._versions.get(model, {}).get(self._aliases.get((model, alias), 0))

    def versions(
        self, model: str, *, tags: Mapping[str, str], since: datetime | None = None, most: int = 100
    ) -> list[Version]:
        with self._call("versions"):
            newest = sorted(self._versions.get(model, {}).values(), key=lambda each: -each.number)[: min(most, 100)]
            late = [each for each in newest if since is None or (each.created_at or START) >= since]
            return [each for each in late if tags.items() <= each.tags.items()]

    def point(self, model: str, alias: str, number: int | None) -> None:
        with self._call("point"):
            if number is None:
                if self._aliases.pop((model, alias), None) is not None:
                    self.writes.append(("point", model, alias, None))
                return
            if number not in self._versions.get(model, {}):
                raise Refused(f"the registry has no version {number} of {model}")
            if self._aliases.get((model, alias)) != number:
                self._aliases[model, alias] = number
                self.writes.append(("point", model, alias, number))

    def tag(self, model: str, number: int, name: str, value: str) -> None:
        with self._call("tag"):
            version = self._versions.get(model, {}).get(number)
            if version is None:
                raise Refused(f"the registry has no version {number} of {model}")
            if version.tags.get(name) != value:
                self._versions[model][number] = replace(version, tags={**version.tags, name: value})
                self.writes.append(("tag", model, number, name, value))

    def file(self, version: Version, path: str, *, most_bytes: int) -> bytes | None:
        with self._call("file"):
            content = self._files.get(version.run_id, {}).get(safe_path(path))
            return content if content is None or len(content) <= most_bytes else None

    @contextmanager
    def _call(self, method: str) -> Iterator[None]:
        scripted = next((each for each in self._failures if each[0] == method), None)
        if scripted:
            self._failures.remove(scripted)
            if not scripted[2]:
                raise scripted[1]
        yield
        if scripted:
            raise scripted[1]
