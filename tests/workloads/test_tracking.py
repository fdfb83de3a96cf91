"""What a run tells a real MLflow server."""

from pathlib import Path

import pytest
import requests

from tests.services import Server
from tests.workloads.conftest import Runner
from workloads import tracking


def test_a_training_is_written_down_and_registers_its_model(workloads: Runner, mlflow_server: Server):
    told = {"MLFLOW_TRACKING_URI": mlflow_server.url}
    settings = ("--set", "register_as=toys", "--set", "heal_id=r9", "--set", "steps=3")
    ran = workloads("toy", "train", *settings, env=told)
    assert ran.code == 0, ran.complained
    assert not [event for event in ran.events if event["event"] == "not_tracked"]

    def ask(path: str, /, **params: str) -> dict:
        return requests.get(f"{mlflow_server.url}/api/2.0/mlflow/{path}", params=params, timeout=30).json()

    version = ask("model-versions/get", name="toys", version="1")["model_version"]
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert tags == {"heal.id": "r9", "heal.data_version": "5" * 64}
    run = ask("runs/get", run_id=version["run_id"])["run"]
    assert run["info"]["status"] == "FINISHED"
    params = {param["key"]: param["value"] for param in run["data"]["params"]}
    assert params["steps"] == "3"
    assert params["rate"] == "0.5"
    curve = ask("metrics/get-history", run_id=version["run_id"], metric_key="loss")["metrics"]
    assert [point["step"] for point in curve] == [0, 1, 2]
    files = ask("artifacts/list", run_id=version["run_id"], path="heal")["files"]
    assert [file["path"] for file in files] == ["heal/rows.csv"]
    files = ask("artifacts/list", run_id=version["run_id"], path="model")["files"]
    assert [file["path"] for file in files] == ["model/weights"]


def test_a_failed_training_is_written_down_as_failed(workloads: Runner, mlflow_server: Server, tmp_path: Path):
    ran = workloads("toy", "train", "--set", "how=fail", env={"MLFLOW_TRACKING_URI": mlflow_server.url})
    tracked = next(event for event in ran.events if event["event"] == "tracked")
    url = f"{mlflow_server.url}/api/2.0/mlflow/runs/get"
    run = requests.get(url, params={"run_id": tracked["mlflow_run"]}, timeout=30).json()["run"]
    assert run["info"]["status"] == "FAILED"
    assert {"key": "heal.failure", "value": "host_oom"} in run["data"]["tags"]


def test_a_server_that_does_not_answer_ends_no_training(workloads: Runner):
    told = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    ran = workloads("toy", "train", env=told)
    assert ran.code == 0
    assert [event for event in ran.events if event["event"] == "not_tracked"]


def test_a_model_that_was_to_be_registered_and_could_not_be_has_not_succeeded(workloads: Runner, mlflow_server: Server):
    told = {"MLFLOW_TRACKING_URI": mlflow_server.url}
    ran = workloads("toy", "train", "--set", "register_as=a/b:c", env=told)
    assert ran.code == 1
    assert "a/b:c" in ran.complained


@pytest.mark.parametrize(
    "said", ["http://me:top%40s@host/x", "http://me:to@p@host:5000/x", "token abcd1234 was refused"]
)
def test_nothing_that_lets_one_in_is_told(said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abcd1234")
    told = tracking.masked(said)
    assert "***" in told
    assert not any(secret in told for secret in ("me:", "top", "to@", "abcd"))
    assert tracking.masked("http://host:5000/x: no") == "http://host:5000/x: no"


def test_a_server_that_hangs_is_asked_more_seldom(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(tracking.time, "monotonic", lambda: now[0])

    class Hangs:
        asked = 0

        def get_experiment_by_name(self, name):
            return type("Experiment", (), {"experiment_id": "1"})

        def create_run(self, experiment, tags):
            return type("Run", (), {"info": type("Info", (), {"run_id": "r"})})

        def log_batch(self, run, points):
            self.asked += 1
            self.sizes = len(points)
            now[0] += 20
            raise TimeoutError

    told: list[str] = []
    tracker = tracking._Mlflow(
        Hangs(), {"workload": "toy", "verb": "train", "settings": {}}, lambda *a, **f: told.append(a[0])
    )
    for step in range(10_000):
        tracker.metric("loss", 1.0, step)
        now[0] += 0.1
    assert 0 < tracker._client.asked <= 7  # of 1 000 s and more of training, not 500 times
    assert tracker._client.sizes <= 1000
    assert told.count("not_tracked") == tracker._client.asked
