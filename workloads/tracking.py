"""MLflow, where MLFLOW_TRACKING_URI names a server: settings, curves, artefacts, and a version in the registry.

A server that does not answer never ends a training: what it misses is told as an event, and the folder has it all.
"""
# ruff: noqa: ARG002 - the one that tracks nothing takes what the protocol hands it

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from workloads.contract import Measured, Report, RunFailed

HEAL_ID = "heal.id"  # the tag by which the bot finds what one of its repairs has trained
MODEL, EVALUATION = "model", "evaluation"  # the artefacts that have a place of their own: a folder, a table
_EVERY = 20  # points of curves that go out together
_MOST, _MOST_SETTINGS = 1000, 100  # points and settings that MLflow takes at once
_PAUSE = 10.0  # times as long as a call in vain took, the next one waits
_USER = re.compile(r"(?<=://)[^/\s]+(?=@)")  # of an address: it may hold a password
_SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")

Tell = Callable[..., None]


class Tracker(Protocol):
    def metric(self, name: str, value: float, step: int) -> None: ...
    def finish(self, report: Report, out: Path, config: Any, data: str) -> None:
        """`data` is the hash of what was learnt from, "" if nothing was."""
        ...

    def fail(self, failed: RunFailed) -> None: ...


class NoTracker:
    def metric(self, name: str, value: float, step: int) -> None:
        return

    def finish(self, report: Report, out: Path, config: Any, data: str) -> None:
        return

    def fail(self, failed: RunFailed) -> None:
        return


def masked(text: str) -> str:
    """Without what lets one in to the server: libraries put addresses into their messages."""
    for name in _SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return _USER.sub("***", text)


def tracker(request: Mapping[str, Any], tell: Tell) -> Tracker:
    """MLflow's client if a server is named and the client is there; else nothing is tracked, and `tell` says why."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return NoTracker()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        from mlflow import MlflowClient
    except ImportError:
        tell("not_tracked", reason="MLFLOW_TRACKING_URI is set and MLflow is not installed: pip install mlflow-skinny")
        return NoTracker()
    try:
        return _Mlflow(MlflowClient(), request, tell)
    except Exception as error:  # noqa: BLE001 - a training does not depend on who writes it down
        tell("not_tracked", reason=_reason(error))
        return NoTracker()


def _reason(error: Exception) -> str:
    return masked(f"{type(error).__name__}: {error}")[:500]


class _Mlflow:
    def __init__(self, client: Any, request: Mapping[str, Any], tell: Tell) -> None:
        self._client, self._tell = client, tell
        self._points: list[tuple[str, float, int]] = []
        self._quiet_until = float("-inf")
        name = str(request["workload"])
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else client.create_experiment(name)
        tags = {"mlflow.runName": f"{name} {request['verb']}", "heal.workload": name, "heal.verb": request["verb"]}
        self._heal_id = str(request.get("heal_id") or "")
        if self._heal_id:
            tags[HEAL_ID] = self._heal_id
        if request.get("code_sha"):
            tags["mlflow.source.git.commit"] = str(request["code_sha"]).removesuffix("-dirty")
        self._run = client.create_run(experiment, tags=tags).info.run_id
        self._log(params=request.get("config") or request["settings"])
        tell("tracked", mlflow_run=self._run)

    def metric(self, name: str, value: float, step: int) -> None:
        self._points.append((name, value, step))
        del self._points[:-_MOST]
        if len(self._points) >= _EVERY and time.monotonic() >= self._quiet_until:
            self._guarded(self._flush)

    def finish(self, report: Report, out: Path, config: Any, data: str) -> None:
        def last() -> None:
            self._flush()
            found = {name: told.value for name, told in report.metrics.items() if isinstance(told, Measured)}
            self._log(points=[(name, value, 0) for name, value in found.items()])
            for name, where in report.artefacts.items():
                path = out / where
                if name == EVALUATION:
                    self._client.log_artifact(self._run, str(path), "heal")
                elif path.is_dir():
                    self._client.log_artifacts(self._run, str(path), name)
                else:
                    self._client.log_artifact(self._run, str(path), MODEL if name == MODEL else None)
            self._client.set_terminated(self._run, "FINISHED")

        self._guarded(last)
        wanted = getattr(config, "register_as", "")
        if wanted and MODEL in report.artefacts:
            self._register(str(wanted), data)

    def fail(self, failed: RunFailed) -> None:
        def last() -> None:
            self._flush()
            self._client.set_tag(self._run, "heal.failure", failed.kind.value)
            self._client.set_terminated(self._run, "FAILED")

        self._guarded(last)

    def _register(self, name: str, data: str) -> None:
        """Raises whatever MLflow raises: a training that was to register its model and could not has not succeeded."""
        if not self._client.search_registered_models(f"name = '{name}'", max_results=1):
            self._client.create_registered_model(name)
        source = self._client.get_run(self._run).info.artifact_uri + f"/{MODEL}"
        tags = {HEAL_ID: self._heal_id} if self._heal_id else {}
        if data:
            tags["heal.data_version"] = data
        version = self._client.create_model_version(name, source, self._run, tags=tags)
        self._tell("registered", name=name, version=str(version.version))

    def _flush(self) -> None:
        points, self._points = self._points, []
        self._log(points=points)

    def _log(self, *, points: Sequence[tuple[str, float, int]] = (), params: Mapping[str, Any] | None = None) -> None:
        """In as few requests as the server takes: a hundred settings in each, or a thousand points."""
        from mlflow.entities import Metric, Param

        now_ms = int(time.time() * 1000)
        metrics = [Metric(name, value, now_ms, step) for name, value, step in points]
        told = [Param(name, str(value)) for name, value in (params or {}).items()]
        for first in range(0, len(metrics), _MOST):
            self._client.log_batch(self._run, metrics[first : first + _MOST])
        for first in range(0, len(told), _MOST_SETTINGS):
            self._client.log_batch(self._run, params=told[first : first + _MOST_SETTINGS])

    def _guarded(self, act: Callable[[], None]) -> None:
        began = time.monotonic()
        try:
            act()
        except Exception as error:  # noqa: BLE001 - see above: the folder has it all
            now = time.monotonic()
            self._quiet_until = now + _PAUSE * (now - began)  # a server that hangs shall not slow the training down
            self._tell("not_tracked", reason=_reason(error))
