"""MLflow's model registry, over its REST API (version 2.0).

Not through MLflow's own client: it takes its credentials from the process' environment, follows redirections and the
addresses that runs name for their artefacts, and reports its use to its makers.
"""

import ipaddress
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote, urlsplit

import requests
import urllib3

from app.domain.errors import HealError, Permanent, Refused, Unreachable
from app.ports.registry import Registry, Version, safe_path

MOST_BYTES = 16 * 1024 * 1024  # of an answer that is no artefact
MOST_VERSIONS = 100
MOST_METRICS = 1_000
MOST_TAGS = 500
LONGEST_TAG = 8_000
MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,199}")
ALIAS = re.compile(r"[A-Za-z0-9_-]{1,100}")
RUN = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Insecure(Permanent):
    """Credentials would cross a network in the clear."""


class Mlflow:
    """`url` and the credentials are the operator's; nothing but that address is ever asked, and redirections are not
    followed. `grants` say which repository may use which models, as pairs of patterns: a repository that names a model
    in its heal.yml is thereby given nothing."""

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        username: str = "",
        password: str = "",
        grants: tuple[tuple[str, str], ...] = (),
        timeout_s: float = 10.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise Insecure("HEAL_MLFLOW__TRACKING_URI must be https://HOST or http://HOST, without credentials in it")
        if (token or password) and parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise Insecure("HEAL_MLFLOW__TRACKING_URI must be https://… where a token or a password is sent to it")
        self._url = url.rstrip("/")
        self._token = token
        self._login = (username, password) if username or password else None
        self._grants = grants
        self._timeout_s = timeout_s

    def only(self, repository: str) -> Registry:
        name = repository.lower()
        models = tuple(model for pattern, model in self._grants if fnmatchcase(name, pattern.lower()))
        return _Granted(self, repository, models)

    def version(self, model: str, number: int) -> Version | None:
        found = self._get("model-versions/get", name=_model(model), version=str(number))
        return self._with_run(self._read(found.get("model_version"), model)) if found is not None else None

    def aliased(self, model: str, alias: str) -> Version | None:
        # not by asking for the alias: that is answered with 400 when there is none, as other mistakes are
        number = self._aliases(model).get(_alias(alias))
        return None if number is None else self.version(model, number)

    def versions(
        self, model: str, *, tags: Mapping[str, str], since: datetime | None = None, most: int = MOST_VERSIONS
    ) -> list[Version]:
        found = self._get(
            "model-versions/search",
            filter=f"name='{_model(model)}'",
            max_results=str(min(most, MOST_VERSIONS)),
            order_by="version_number DESC",
        )
        listed = (found or {}).get("model_versions")
        read = [self._read(each, model) for each in (listed if isinstance(listed, list) else [])[:MOST_VERSIONS]]
        late = [each for each in read if since is None or (each.created_at is not None and each.created_at >= since)]
        whole = [self._with_run(each) for each in sorted(late, key=lambda each: -each.number)]
        return [each for each in whole if tags.items() <= each.tags.items()]

    def point(self, model: str, alias: str, number: int | None) -> None:
        at = self._aliases(model).get(_alias(alias))
        if at == number:
            return
        body = {"name": model, "alias": alias}
        if number is None:
            self._send("DELETE", "registered-models/alias", body)
        elif self._get("model-versions/get", name=model, version=str(number)) is None:
            raise Refused(f"the registry has no version {number} of {model}")
        else:
            self._send("POST", "registered-models/alias", {**body, "version": str(number)})

    def tag(self, model: str, number: int, name: str, value: str) -> None:
        body = {"name": _model(model), "version": str(number), "key": name[:250], "value": value[:LONGEST_TAG]}
        if self._send("POST", "model-versions/set-tag", body) is None:
            raise Refused(f"the registry has no version {number} of {model}")

    def file(self, version: Version, path: str, *, most_bytes: int) -> bytes | None:
        """Through the server, wherever it keeps its artefacts: their own addresses are never asked."""
        path, run_id = safe_path(path), version.run_id
        if not run_id:
            return None
        if not RUN.fullmatch(run_id):
            raise Refused(f"{run_id[:100]!r} is no run of MLflow")
        listed = (self._get("artifacts/list", run_id=run_id, path=path.rpartition("/")[0]) or {}).get("files")
        sizes = {
            each.get("path"): _number(each.get("file_size")) or 0
            for each in (listed if isinstance(listed, list) else [])
            if isinstance(each, dict) and not each.get("is_dir")
        }
        if path not in sizes or sizes[path] > most_bytes:
            return None
        address = f"{self._url}/get-artifact"
        answer = self._ask("GET", address, most_bytes=most_bytes, params={"run_id": run_id, "path": path})
        return answer if answer is not None and len(answer) <= most_bytes else None

    # how it is asked

    def _aliases(self, model: str) -> dict[str, int]:
        found: Any = (self._get("registered-models/get", name=_model(model)) or {}).get("registered_model")
        listed = found.get("aliases") if isinstance(found, dict) else None
        pairs = [each for each in (listed if isinstance(listed, list) else []) if isinstance(each, dict)]
        return {str(each.get("alias")): number for each in pairs if (number := _number(each.get("version")))}

    def _read(self, told: Any, model: str) -> Version:
        number = _number(told.get("version")) if isinstance(told, dict) else None
        if not isinstance(told, dict) or not number:
            raise Unreachable("MLflow answers with something else than a version")
        created = _number(told.get("creation_timestamp"))
        tags = _pairs(told.get("tags"))
        return Version(
            model,
            number,
            run_id=str(told.get("run_id") or "")[:100],
            created_at=datetime.fromtimestamp(created / 1000, UTC) if created else None,
            tags=tags,
            url=f"{self._url}/#/models/{quote(model, safe='')}/versions/{number}",
            ready=told.get("status", "READY") == "READY",
        )

    def _with_run(self, version: Version) -> Version:
        """What its run says of it; a run that was deleted says nothing."""
        if not RUN.fullmatch(version.run_id):
            return _lineage(version, "")
        run: Any = (self._get("runs/get", run_id=version.run_id) or {}).get("run")
        data = run.get("data") if isinstance(run, dict) else None
        if run is None or not isinstance(data, dict):
            return _lineage(version, "")
        told = data.get("metrics")
        metrics = {}
        for each in (told if isinstance(told, list) else [])[:MOST_METRICS]:
            value = each.get("value") if isinstance(each, dict) else None
            if isinstance(value, int | float) and math.isfinite(value):
                metrics[str(each.get("key"))[:250]] = float(value)
        tags = {**_pairs(data.get("tags")), **version.tags}
        inputs = run.get("inputs")
        return _lineage(replace(version, metrics=metrics, tags=tags), _digest(inputs))

    def _get(self, what: str, /, **query: str) -> dict[str, Any] | None:
        """None: there is no such thing."""
        return _json(self._ask("GET", f"{self._url}/api/2.0/mlflow/{what}", most_bytes=MOST_BYTES, params=query))

    def _send(self, method: str, path: str, body: Mapping[str, str]) -> dict[str, Any] | None:
        return _json(self._ask(method, f"{self._url}/api/2.0/mlflow/{path}", most_bytes=MOST_BYTES, json=body))

    def _ask(self, method: str, address: str, *, most_bytes: int, **more: Any) -> bytes | None:
        """At most one byte more than asked for. None: 404."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy and no .netrc that the environment names
                with session.request(
                    method,
                    address,
                    headers=headers,
                    auth=None if self._token else self._login,
                    timeout=self._timeout_s,
                    allow_redirects=False,
                    stream=True,
                    **more,
                ) as answer:
                    most = most_bytes + 1 if answer.status_code == 200 else 4_000
                    body: bytes = answer.raw.read(most, decode_content=True)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(f"MLflow does not answer: {type(error).__name__}") from error
        if answer.status_code == 200:
            return body
        if answer.status_code == 404:
            return None
        raise _trouble(answer.status_code, body)


class _Granted:
    """The registry as one repository may use it."""

    def __init__(self, registry: Mlflow, repository: str, models: tuple[str, ...]) -> None:
        self._registry = registry
        self._repository = repository
        self._models = models

    def only(self, repository: str) -> Registry:
        return self if repository == self._repository else self._registry.only(repository)

    def _for(self, model: str) -> Mlflow:
        if any(fnmatchcase(model, pattern) for pattern in self._models):
            return self._registry
        raise Refused(
            f"{self._repository} may not use the model {model[:100]!r} of the registry; the operator's"
            f" HEAL_MLFLOW__MODELS lets it with {self._repository}={model[:100]}"
        )

    def version(self, model: str, number: int) -> Version | None:
        return self._for(model).version(model, number)

    def aliased(self, model: str, alias: str) -> Version | None:
        return self._for(model).aliased(model, alias)

    def versions(
        self, model: str, *, tags: Mapping[str, str], since: datetime | None = None, most: int = MOST_VERSIONS
    ) -> list[Version]:
        return self._for(model).versions(model, tags=tags, since=since, most=most)

    def point(self, model: str, alias: str, number: int | None) -> None:
        self._for(model).point(model, alias, number)

    def tag(self, model: str, number: int, name: str, value: str) -> None:
        self._for(model).tag(model, number, name, value)

    def file(self, version: Version, path: str, *, most_bytes: int) -> bytes | None:
        return self._for(version.model).file(version, path, most_bytes=most_bytes)


def _trouble(status: int, body: bytes) -> HealError:
    if status in (401, 403):
        return Refused(f"MLflow answers {status}: what HEAL_MLFLOW__TOKEN or __USERNAME and __PASSWORD say is refused")
    if 300 <= status < 400:
        return Refused("MLflow's address redirects elsewhere; set HEAL_MLFLOW__TRACKING_URI to where it really is")
    if status == 429 or status >= 500:
        return Unreachable(f"MLflow answers {status}")
    try:
        why = str(json.loads(body)["message"])[:300]
    except (ValueError, LookupError, TypeError, RecursionError):
        why = ""
    return Refused(f"MLflow answers {status}: {why}" if why else f"MLflow answers {status}")


def _json(body: bytes | None) -> dict[str, Any] | None:
    if body is None:
        return None
    try:
        found = json.loads(body) if len(body) <= MOST_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unreachable("MLflow answers with something else")
    return found


def _lineage(version: Version, digest: str) -> Version:
    """The commit and the data a version was made from: what we (or the team) wrote on it, else what MLflow noted."""
    tags = version.tags
    return replace(
        version,
        code_sha=tags.get("heal.code_sha") or tags.get("mlflow.source.git.commit", ""),
        data_version=tags.get("heal.data_version") or digest,
    )


def _digest(inputs: Any) -> str:
    """The digests of the data sets that the run logged."""
    listed = inputs.get("dataset_inputs") if isinstance(inputs, dict) else None
    sets = [each.get("dataset") for each in (listed if isinstance(listed, list) else []) if isinstance(each, dict)]
    return ",".join(sorted({str(one["digest"])[:64] for one in sets if isinstance(one, dict) and one.get("digest")}))[
        :500
    ]


def _pairs(told: Any) -> dict[str, str]:
    listed = [each for each in (told if isinstance(told, list) else [])[:MOST_TAGS] if isinstance(each, dict)]
    return {str(each.get("key"))[:250]: str(each.get("value", ""))[:LONGEST_TAG] for each in listed}


def _number(value: Any) -> int | None:
    """MLflow writes whole numbers as numbers or as texts."""
    text = str(value)
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _model(name: str) -> str:
    if not MODEL.fullmatch(name):
        raise Refused(f"{name[:100]!r} is no name of a registered model")
    return name


def _alias(name: str) -> str:
    if not ALIAS.fullmatch(name):
        raise Refused(f"{name[:100]!r} is no alias of a registered model")
    return name


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
