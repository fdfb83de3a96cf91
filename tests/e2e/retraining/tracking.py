"""What this training needs of MLflow's REST API."""

import json
import os
import time
import urllib.error
import urllib.request

SERVER = os.environ["MLFLOW_TRACKING_URI"]
API = "/api/2.0/mlflow"


def call(method, path, body=None, content=None):
    data = json.dumps(body).encode() if content is None else content
    kind = {"Content-Type": "application/json" if content is None else "application/octet-stream"}
    with urllib.request.urlopen(urllib.request.Request(SERVER + path, data, kind, method=method), timeout=60) as answer:
        return json.loads(answer.read() or "{}")


def log(metrics, tags, parameters):
    """A finished run; its id and where its artefacts belong."""
    now = int(time.time() * 1000)
    named = [{"key": key, "value": value} for key, value in tags.items() if value]
    run = call("POST", f"{API}/runs/create", {"experiment_id": "0", "start_time": now, "tags": named})["run"]["info"]
    values = [{"key": key, "value": value, "timestamp": now, "step": 0} for key, value in metrics.items()]
    given = [{"key": key, "value": str(value)} for key, value in parameters.items()]
    call("POST", f"{API}/runs/log-batch", {"run_id": run["run_id"], "metrics": values, "params": given})
    call("POST", f"{API}/runs/update", {"run_id": run["run_id"], "status": "FINISHED", "end_time": now})
    return run["run_id"], run["artifact_uri"].removeprefix("mlflow-artifacts:/")


def keep(root, path, content):
    call("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{root}/{path}", content=content)


def register(model, run_id):
    try:
        call("POST", f"{API}/registered-models/create", {"name": model})
    except urllib.error.HTTPError as error:
        if error.code != 400:  # it is there already
            raise
    body = {"name": model, "source": f"runs:/{run_id}/model", "run_id": run_id}
    return call("POST", f"{API}/model-versions/create", body)["model_version"]["version"]
