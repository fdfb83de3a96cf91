"""How a team's training writes into MLflow, over its REST API: what the tests of registries set up."""

import time
from collections.abc import Mapping
from typing import Any

import requests


class MlflowTeam:
    """Logs runs and registers versions on a real server, under names of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(method, f"{self.url}/api/2.0/mlflow/{path}", json=body, timeout=60)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    def run(
        self,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
        datasets: Mapping[str, str] | None = None,
    ) -> str:
        now = int(time.time() * 1000)
        told = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        info = self.call("POST", "runs/create", {"experiment_id": "0", "start_time": now, "tags": told})["run"]["info"]
        run_id, root = info["run_id"], info["artifact_uri"].removeprefix("mlflow-artifacts:/")
        values = [{"key": k, "value": v, "timestamp": now, "step": 0} for k, v in (metrics or {}).items()]
        self.call("POST", "runs/log-batch", {"run_id": run_id, "metrics": values})
        for name, digest in (datasets or {}).items():
            one = {"name": name, "digest": digest, "source_type": "local", "source": "{}"}
            self.call("POST", "runs/log-inputs", {"run_id": run_id, "datasets": [{"dataset": one}]})
        for path, content in (files or {}).items():
            address = f"{self.url}/api/2.0/mlflow-artifacts/artifacts/{root}/{path}"
            assert requests.put(address, data=content, timeout=60).status_code == 200
        self.call("POST", "runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": now})
        return str(run_id)

    def register(self, model: str, run_id: str, tags: Mapping[str, str] | None = None) -> int:
        requests.post(f"{self.url}/api/2.0/mlflow/registered-models/create", json={"name": model}, timeout=60)
        told = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        body = {"name": model, "source": f"runs:/{run_id}/model", "run_id": run_id, "tags": told}
        return int(self.call("POST", "model-versions/create", body)["model_version"]["version"])
