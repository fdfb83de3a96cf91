"""OSV's API with what is kept of it on this machine."""

import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import requests
import structlog
import urllib3

from app.adapters.osv.cache import Cache, Key
from app.adapters.osv.records import ECOSYSTEMS, advisory, affects, id_of, merged, names_in
from app.domain.advisory import Affected, Known, LockedPackage
from app.domain.errors import Malformed
from app.ports.clock import Clock

log = structlog.get_logger()

AT_ONCE = 1_000  # OSV's own limit for a batch
MAX_PAGES = 10
MAX_RECORDS = 400  # fetched for one question; the rest next time
MAX_ANSWER_BYTES = 32 << 20
MAX_RECORD_BYTES = 4 << 20
MAX_DUMP_RECORDS = 1_000_000


class _Away(Exception):
    """OSV did not answer, or not as it should."""


class OsvAdvisories:
    """The port `Advisories`. `url` "": never asks, answers from what is kept.

    A version is looked up anew when the last look is older than `fresh_s`. Each answer is matched here, by the rules of
    OSV's schema, so that it is the same with and without the network.
    """

    def __init__(self, url: str, cache: Path | None, *, fresh_s: float, timeout_s: float, clock: Clock) -> None:
        self._url = url.rstrip("/")
        self._cache = Cache(cache)
        self._fresh = timedelta(seconds=fresh_s)
        self._timeout_s = timeout_s
        self._clock = clock

    def affecting(self, packages: Sequence[LockedPackage]) -> Known:
        asked = {package.key: package for package in packages if package.ecosystem in ECOSYSTEMS}
        now = self._clock.now()
        ages = self._cache.ages(asked)
        old = [key for key in asked if key not in ages or now - ages[key] > self._fresh]
        if old and self._url:
            try:
                self._look_up(old, now)
            except _Away as error:
                log.warning("advisories_out_of_reach", error=str(error), versions=len(old))
            ages = self._cache.ages(asked)
        about = self._cache.about({key[:2] for key in ages})
        affected = tuple(
            Affected(package, found)
            for package in packages
            if package.key in asked
            and (found := _concerning(package, about.get((package.ecosystem, package.name), [])))
        )
        return Known(affected, min(ages.values(), default=None), complete=len(ages) == len(asked))

    def _look_up(self, keys: Sequence[Key], now: datetime) -> None:
        """Keep all records about these versions. Raises _Away; what was kept by then stays kept."""
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            newest = self._listed(some)
            kept = self._cache.modified(newest)
            missing = [name for name, modified in newest.items() if kept.get(name) != modified]
            for name in missing[:MAX_RECORDS]:
                self._cache.keep([self._record(name)])
            if len(missing) > MAX_RECORDS:
                raise _Away(f"{len(missing)} records are missing, more than are fetched at once")
            self._cache.looked(some, now)

    def _listed(self, keys: Sequence[Key]) -> dict[str, str]:
        """The ids of the records about these versions, and when each was last changed."""
        found: dict[str, str] = {}
        queries = [{"package": {"ecosystem": e, "name": n}, "version": v} for e, n, v in keys]
        for _ in range(MAX_PAGES):
            answers = _list(self._ask("POST", "/v1/querybatch", {"queries": queries}).get("results"))
            if len(answers) != len(queries):
                raise _Away("an answer to another question")
            more = []
            for query, answer in zip(queries, answers, strict=True):
                answer = answer if isinstance(answer, dict) else {}
                for each in _list(answer.get("vulns")):
                    if isinstance(each, dict) and id_of(each):
                        found[id_of(each)] = str(each.get("modified", ""))
                if answer.get("next_page_token"):
                    more.append({**query, "page_token": answer["next_page_token"]})
            if not more:
                return found
            queries = more
        raise _Away(f"more than {MAX_PAGES} pages")

    def _record(self, name: str) -> dict[str, Any]:
        return self._ask("GET", f"/v1/vulns/{quote(name, safe='')}")

    def _ask(self, verb: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            with requests.request(verb, self._url + path, json=body, timeout=self._timeout_s, stream=True) as answer:
                answer.raise_for_status()
                content = answer.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
            found = json.loads(content) if len(content) <= MAX_ANSWER_BYTES else None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError, RecursionError) as error:
            raise _Away(f"{verb} {path}: {type(error).__name__}") from error
        if not isinstance(found, dict):
            raise _Away(f"{verb} {path}: no object, or more than {MAX_ANSWER_BYTES >> 20} MiB")
        return found

    def load(self, dump: Path) -> tuple[int, str]:
        """Take in a dump of one ecosystem (`<ecosystem>/all.zip` of OSV's bucket): how many records, of which.

        Raises Malformed.
        """
        newest = ""
        counted: Counter[str] = Counter()
        with _zip(dump) as packed:
            records = iter(_records(packed))
            kept = 0
            while some := list(islice(records, AT_ONCE)):
                kept += self._cache.keep(some)
                for record in some:
                    counted.update({ecosystem for ecosystem, _ in names_in(record)})
                    newest = max(newest, str(record.get("modified", "")))
        if not counted:
            raise Malformed(f"{dump.name} has no record of {' or '.join(sorted(ECOSYSTEMS))}")
        ecosystem, _ = counted.most_common(1)[0]
        self._cache.dumped(ecosystem, _time(newest) or self._clock.now())
        return kept, ecosystem

    def stock(self) -> dict[str, Any]:
        return self._cache.stock()


def _concerning(package: LockedPackage, records: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    found = []
    for record in records:
        fixed = affects(record, *package.key)
        if fixed is not None:
            found.append(advisory(record, fixed))
    return merged(found)


def _zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise Malformed(f"{path.name} is no zip that can be read") from error


def _records(packed: zipfile.ZipFile) -> Iterator[dict[str, Any]]:
    for member in packed.infolist()[:MAX_DUMP_RECORDS]:
        if member.filename.endswith(".json") and member.file_size <= MAX_RECORD_BYTES:
            with packed.open(member) as file:
                record = _parsed(file)
            if record is not None:
                yield record


def _parsed(file: IO[bytes]) -> dict[str, Any] | None:
    try:
        record = json.loads(file.read(MAX_RECORD_BYTES))
    except (ValueError, RecursionError, zipfile.BadZipFile):
        return None
    return record if isinstance(record, dict) else None


def _time(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
