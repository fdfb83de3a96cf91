"""`models:` and `signals:` in heal.yml."""

import pytest

from actions.gate.metrics import METRICS, metric_named
from app.domain.model import GateRules, ModelRules, Query, Retrain
from app.healing.configuration import REPOSITORY, explain, resolve
from app.healing.models_section import METRICS as TOLD_METRICS

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
    return resolve(text, owner, known_detectors={}, known_actions={})


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


TRAINED = """
version: 1
models:
  churn:
    registry: churn model
    champion: live
    evaluation: heal/held-out.parquet
    retrain:
      workflow: train.yml
      ref: release/2.x
      inputs: {epochs: 3, rate: 0.1, fast: true, note: why not}
      timeout: 90m
    gate: {metric: roc_auc, margin: 0.01, effect: 0.05, power: 0.9, coverage: 1, cooldown: 2h}
    canary: {hold: 30m}
  speech:
    registry: speech
    retrain: {workload: separation, launcher: ray, settings: {size: small}}
"""


def test_retraining_gate_and_canary_become_rules() -> None:
    configured = read(TRAINED)
    assert configured.problems == ()
    assert configured.policy.models == {
        "churn": ModelRules(
            registry="churn model",
            champion="live",
            evaluation="heal/held-out.parquet",
            retrain=Retrain(
                workflow="train.yml",
                ref="release/2.x",
                inputs={"epochs": "3", "rate": "0.1", "fast": "true", "note": "why not"},
                timeout_s=5400,
            ),
            gate=GateRules(metric="roc_auc", margin=0.01, effect=0.05, power=0.9, coverage=1, cooldown_s=7200),
            canary_s=1800,
        ),
        "speech": ModelRules(
            registry="speech",
            retrain=Retrain(workload="separation", launcher="ray", inputs={"size": "small"}, timeout_s=7200),
        ),
    }


def test_what_is_in_force_is_told_as_one_would_write_it() -> None:
    configured = read(TRAINED)
    told = {key: value for key, value, _ in explain(configured)}
    for name in ("churn", "speech"):
        again = read(f"version: 1\nmodels:\n  {name}: {told[f'models.{name}']}\n")
        assert again.problems == ()
        assert again.policy.models[name] == configured.policy.models[name]


def test_the_metrics_that_may_be_named_are_those_of_the_gate() -> None:
    assert set(TOLD_METRICS) == set(METRICS)
    for name in (*TOLD_METRICS, "pinball_0.9"):
        metric_named(name)
        assert read(f"version: 1\nmodels: {{m: {{registry: m, gate: {{metric: {name}}}}}}}\n").problems == ()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("{retrain: {workflow: train.yml}}", "`retrain` needs `registry`"),
        ("{champion: live}", "`champion` needs `registry`"),
        ("{registry: m, retrain: {}}", "either `workflow`, a file in .github/workflows, or `workload`"),
        ("{registry: m, retrain: {workflow: t.yml, workload: w}}", "either `workflow`"),
        ("{registry: m, retrain: {workflow: t.yml, settings: {a: 1}}}", "belong to a workload"),
        ("{registry: m, retrain: {workload: w, ref: main}}", "belong to a workflow"),
        ("{registry: m, retrain: {workflow: .github/workflows/t.yml}}", "such as train.yml"),
        ("{registry: m, retrain: {workflow: train}}", "such as train.yml"),
        ("{registry: m, retrain: {workflow: t.yml, ref: '../x'}}", "is not a branch or a tag"),
        ("{registry: m, retrain: {workflow: t.yml, ref: '-x'}}", "is not a branch or a tag"),
        ("{registry: m, retrain: {workflow: t.yml, inputs: {a: [1]}}}", "string"),
        ("{registry: m, retrain: {workflow: t.yml, timeout: 30}}", "is not a duration"),
        ("{registry: m, retrain: {workflow: t.yml, timeout: 30s}}", "greater than or equal to 60"),
        ("{registry: m, retrain: {worklow: t.yml}}", "did you mean 'workflow'"),
        ("{registry: a/b}", "is not a name in the registry"),
        ('{registry: "it\'s"}', "is not a name in the registry"),
        ("{registry: m, champion: latest}", "is not an alias"),
        ("{registry: m, champion: v2}", "is not an alias"),
        ("{registry: m, evaluation: ../x}", "is not the path of an artefact"),
        ("{registry: m, evaluation: /x}", "is not the path of an artefact"),
        ("{registry: m, gate: {metric: acuracy}}", "the gate knows no metric 'acuracy'; it knows accuracy"),
        ("{registry: m, gate: {margn: 1}}", "did you mean 'margin'"),
        ("{registry: m, gate: {margin: .nan}}", "nan"),
        ("{registry: m, gate: {margin: -1}}", "greater than or equal to 0"),
        ("{registry: m, gate: {power: 1}}", "less than or equal to 0.999"),
        ("{registry: m, canary: {hold: 0s}}", "greater than or equal to 1"),
        ("{registry: m, canary: {holds: 1h}}", "did you mean 'hold'"),
    ],
)
def test_what_is_wrong_with_retraining_is_told(model: str, says: str) -> None:
    problems = read(f"version: 1\nmodels:\n  churn: {model}\n").problems
    assert any(says in problem.message for problem in problems), [problem.message for problem in problems]
