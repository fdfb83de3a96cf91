"""`models:` and `signals:` in heal.yml."""

import pytest

from app.domain.model import ModelRules, Query
from app.healing.configuration import REPOSITORY, explain, resolve

TEXT = """
version: 1
models:
  churn:
    task: binary
    positive: true
    columns: {prediction: said, segments: [country, plan]}
    window: 12h
    keep: 10
    importance: {age: 0.5}
    objectives: {errors: {target: 0.99}, latency: {target: 0.95, threshold_ms: 200}}
  price: {task: regression}
signals:
  prometheus:
    disk_used_ratio: {query: 1 - free / size, limit: 1}
    queue: sum(waiting)
"""


def read(text: str, owner: str | None = None):
    return resolve(text, owner, known_detectors={}, known_actions=[])


def test_models_and_queries_become_rules() -> None:
    configured = read(TEXT)
    assert configured.problems == ()
    assert configured.policy.models == {
        "churn": ModelRules(
            columns={"prediction": "said", "segments": ("country", "plan"), "task": "binary", "positive": "1"},
            window_s=12 * 3600,
            keep=10,
            importance={"age": 0.5},
            objectives={"errors": {"target": 0.99}, "latency": {"target": 0.95, "threshold_ms": 200.0}},
        ),
        "price": ModelRules(columns={"task": "regression"}),
    }
    assert configured.policy.queries == {
        "disk_used_ratio": Query("1 - free / size", 1.0),
        "queue": Query("sum(waiting)"),
    }


def test_the_repositorys_model_takes_the_place_of_the_owners_of_that_name() -> None:
    configured = read("version: 1\nmodels: {price: {task: binary}}\n", TEXT)
    assert configured.policy.models["price"].columns == {"task": "binary"}
    assert configured.policy.models["churn"].keep == 10
    told = {key: (value, origin) for key, value, origin in explain(configured)}
    assert told["models.price"] == ('{"task": "binary", "window": "1d", "keep": 30}', REPOSITORY)
    assert told["signals.prometheus.queue"][0] == "sum(waiting)"


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("models: {churn: {task: ternary}}", "binary"),
        ("models: {churn: {colums: {}}}", "did you mean 'columns'"),
        ("models: {churn: {columns: {predicted: x}}}", "did you mean 'prediction'"),
        ("models: {churn: {window: 30m}}", "hours or days"),
        ("models: {churn: {window: 400d}}", "7776000"),
        ("models: {churn: {keep: 1}}", "greater than or equal to 2"),
        ("models: {churn: {columns: {segments: [a, b, c, d, e]}}}", "at most 4"),
        ("models: {a/b: {}}", "pattern"),
        ("signals: {prometheus: {'1x': up}}", "pattern"),
        ("signals: {prometheus: {x: ''}}", "at least 1"),
        ("signals: {prometheus: {x: {promql: up}}}", "unknown key 'promql'"),
    ],
)
def test_what_is_wrong_is_told(section: str, says: str) -> None:
    problems = read(f"version: 1\n{section}\n").problems
    assert any(says in problem.message for problem in problems), [problem.message for problem in problems]
