import pytest

from app.domain.evidence import EvidenceBag, JobLogs, Manifests
from app.domain.finding import Finding, Severity
from detectors.builtin import BUILTIN
from tests.detectors.logs import failing_log, run_failed

CONFLICT = (
    "  × No solution found when resolving dependencies:",
    "  ╰─▶ Because tabular==1.4.2 depends on arrowlite>=2,<3 and all versions of",
    "      featurestore depend on arrowlite>=3,<4, we can conclude that",
    "      tabular==1.4.2 and all versions of featurestore are incompatible.",
    "      And because you require featurestore==2.1.0 and tabular==1.4.2, we can",
    "      conclude that your requirements are unsatisfiable.",
)
CONFLICT_IN_ONE_LINE = (
    "error: No solution found when resolving dependencies",
    "  cause: Because tabular==1.4.2 depends on arrowlite>=2,<3 and all versions of featurestore depend on "
    "arrowlite>=3,<4, we can conclude that all versions of featurestore and tabular==1.4.2 are incompatible.",
    "         And because you require featurestore==2.1.0 and tabular==1.4.2, we can conclude that your requirements "
    "are unsatisfiable.",
)
REQUIREMENTS = "# pins\nfeaturestore==2.1.0  # joins\nTabular==1.4.2\nmetricbook==0.9.3\n"


def findings(*logs, manifests=None, event=None) -> list[Finding]:
    evidence = EvidenceBag(JobLogs(tuple(logs)), *([Manifests(manifests)] if manifests else []))
    return [finding for detector in BUILTIN for finding in detector.detect(event or run_failed(), evidence)]


@pytest.mark.parametrize(
    ("line", "detector"),
    [
        ("MemoryError", "resource_constraint"),
        ("No space left on device", "resource_constraint"),
        ("something nobody has seen", "pipeline_failure"),
        ("ERROR: No matching distribution found for networkx==3.5", "dependency_conflict"),
        ("  × No solution found when resolving dependencies:", "dependency_conflict"),
    ],
)
def test_exactly_one_detector_claims_a_failed_job(line, detector):
    assert [finding.detector for finding in findings(failing_log(line))] == [detector]


def test_no_evidence_is_no_finding():
    assert [f for d in BUILTIN for f in d.detect(run_failed(), EvidenceBag())] == []


def test_a_finding_says_where_and_what():
    finding = findings(failing_log("MemoryError", name="train (3.11)"))[0]
    assert (finding.kind, finding.subject, finding.job) == ("host_oom", "train / train (3.11)", "train (3.11)")
    assert finding.severity is Severity.HIGH
    assert [(rung.action, dict(rung.params)) for rung in finding.ladder] == [
        ("lower_batch_size", {"factor": 2}),
        ("lower_batch_size", {"factor": 4}),
        ("lower_batch_size", {"means": "gradient_checkpointing"}),
        ("open_issue", {}),
    ]


def test_an_unknown_failure_changes_nothing():
    finding = findings(failing_log("FrobnicationError: out of tune"))[0]
    assert (finding.kind, finding.severity, finding.ladder) == ("unknown", Severity.MEDIUM, ())


def test_the_fingerprint_looks_through_what_differs_from_run_to_run():
    first = findings(failing_log("epoch 3", "FloatingPointError: loss is nan at step 37"))[0]
    second = findings(failing_log("FloatingPointError: loss is nan at step 1152"))[0]
    assert first.fingerprint == second.fingerprint


ONE = ("FAILED tests/test_a.py::test_1 - assert 1 == 2", "FAILED tests/test_a.py::test_2 - assert 1 == 2")
RESET = "requests.exceptions.ConnectionError: ('Connection aborted.', ConnectionResetError(104, 'Connection reset'))"


@pytest.mark.parametrize(
    ("line", "other_line", "job"),
    [(*ONE, "test (3.10)"), (ONE[0], "MemoryError", "test (3.10)"), ("MemoryError", "MemoryError", "evaluate")],
    ids=["another test", "another kind", "memory of another job"],
)
def test_another_cause_has_another_fingerprint(line, other_line, job):
    one, other = failing_log(line, name="test (3.10)"), failing_log(other_line, name=job)
    assert findings(one)[0].fingerprint != findings(other)[0].fingerprint
    assert len(findings(one, other)) == 2


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (ONE[0], ("test (3.10)", "test (3.11)", "coverage")),
        ("ModuleNotFoundError: No module named 'pandas'", ("lint", "test", "fit")),
        ("ERROR: No matching distribution found for networkx==3.5", ("lint", "test", "fit")),
        ("MemoryError", ("fit (small)", "fit (large)", "fit")),
        (RESET, ("lint", "test", "fit")),
        ("something nobody has seen", ("lint", "test", "fit")),
    ],
    ids=["a test", "a module", "a requirement", "memory in a matrix", "the network", "unknown"],
)
def test_the_jobs_of_a_run_that_share_a_cause_are_one_finding(line, names):
    (finding,) = findings(*(failing_log(line, name=name) for name in names))
    assert finding.subject == f"train / 3 jobs: {', '.join(names)}"
    assert finding.facts["jobs"] == list(names)
    assert finding.jobs == finding.failed_jobs == names
    assert finding.job in names
    for name in names:  # whichever of them failed
        (alone,) = findings(failing_log(line, name=name))
        assert (alone.fingerprint, alone.failed_jobs) == (finding.fingerprint, (name,))
        assert alone.subject == f"train / {name}"
        assert "jobs" not in alone.facts


def test_of_many_jobs_the_first_are_named():
    names = [f"j{i}" for i in "abcdefg"]
    (finding,) = findings(*(failing_log(ONE[0], name=name) for name in names))
    assert finding.subject == "train / 7 jobs: ja, jb, jc, jd, je, …"
    assert len(finding.jobs) == 7


def test_another_workflow_has_another_fingerprint():
    log = failing_log("MemoryError")
    one = findings(log, event=run_failed(".github/workflows/train-1.yml"))[0]
    other = findings(log, event=run_failed(".github/workflows/train-2.yml"))[0]
    assert one.fingerprint != other.fingerprint


@pytest.mark.parametrize("explanation", [CONFLICT, CONFLICT_IN_ONE_LINE], ids=["wrapped", "in one line"])
def test_a_conflict_names_the_packages_and_their_lines(explanation):
    manifests = {"requirements.txt": REQUIREMENTS, "pyproject.toml": '[project]\ndependencies = ["tabular>=1.4"]\n'}
    finding = findings(failing_log(*explanation), manifests=manifests)[0]
    assert finding.kind == "dependency_resolution_conflict"
    assert finding.summary == "The requirements cannot be installed together: arrowlite, tabular, featurestore"
    assert finding.facts["packages"] == ["arrowlite", "tabular", "featurestore"]  # what is contested first
    assert finding.facts["requirements"] == [
        {"package": "tabular", "requirement": "tabular>=1.4", "path": "pyproject.toml", "line": 2},
        {"package": "featurestore", "requirement": "featurestore==2.1.0", "path": "requirements.txt", "line": 2},
        {"package": "tabular", "requirement": "Tabular==1.4.2", "path": "requirements.txt", "line": 3},
    ]
    assert [rung.action for rung in finding.ladder] == ["pin_dependency", "open_issue"]


def test_pip_explains_a_conflict_before_its_error():
    log = failing_log(
        "Collecting requests==2.31.0",
        "ERROR: Cannot install pandas==2.2.0 and numpy==1.20.0 because these package versions have conflicting "
        "dependencies.",
        "",
        "The conflict is caused by:",
        "    The user requested numpy==1.20.0",
        "    pandas 2.2.0 depends on numpy<2 and >=1.22.4",
        "",
        "ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/dependency-resolution/",
    )
    assert findings(log)[0].facts["packages"] == ["numpy", "pandas"]
    assert findings(log)[0].facts["contradiction"] == [
        {"who": "you", "requires": "numpy==1.20.0"},
        {"who": "pandas==2.2.0", "requires": "numpy<2,>=1.22.4"},
    ]


def test_a_missing_version_names_its_requirement():
    log = failing_log("ERROR: No matching distribution found for networkx==3.5")
    finding = findings(log, manifests={"requirements.txt": "numpy\nnetworkx==3.5\n"})[0]
    assert (finding.kind, finding.summary) == ("package_version_missing", "The index has no networkx==3.5")
    assert finding.facts["requirements"] == [
        {"package": "networkx", "requirement": "networkx==3.5", "path": "requirements.txt", "line": 2}
    ]


def test_the_same_conflict_has_the_same_fingerprint_whatever_the_lines():
    finding = findings(failing_log(*CONFLICT), manifests={"requirements.txt": REQUIREMENTS})[0]
    later = findings(failing_log("Using CPython 3.11", *CONFLICT), manifests={"requirements.txt": REQUIREMENTS})[0]
    assert finding.fingerprint == later.fingerprint


def test_a_finding_says_whether_it_is_certain_enough_to_be_acted_on():
    assert findings(failing_log("MemoryError"))[0].actionable
    assert not findings(failing_log("something nobody has seen"))[0].actionable
