"""What pipelines run on: what is away or worse than before is told, what is well is said to be."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.event import Ticked
from app.domain.evidence import Alerts, EvidenceBag, Job, JobStep
from app.domain.finding import Clear, Finding, Severity
from app.domain.fleet import Answered, Fleet, GitHubStatus, Operations, Part, Ran, Runner, Trouble
from app.domain.multiplicity import holm
from app.domain.signal import Alert
from app.domain.tenant import Repository, Sender
from detectors.infrastructure_health import InfrastructureHealth
from detectors.resource_constraint import ResourceConstraint

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
EVENT = Ticked(repository=Repository(1, "acme/trainer", 1, "main"), sender=Sender("schedule"), at=NOW)
GPU = frozenset({"self-hosted", "gpu"})


def ago(**how):
    return NOW - timedelta(**how)


def claims(*evidence, detector=None, **settings):
    detector = detector or InfrastructureHealth()
    bag = EvidenceBag(*evidence, settings={detector.kind: settings})
    return list(detector.detect(EVENT, bag))


def found(*evidence, **settings):
    return [claim for claim in claims(*evidence, **settings) if isinstance(claim, Finding)]


def cleared(*evidence, **settings):
    return {claim.subject for claim in claims(*evidence, **settings) if isinstance(claim, Clear)}


def job(run, *, wait_s=10.0, asked=None, labels=("self-hosted", "gpu"), **more):
    asked = asked or ago(hours=3)
    started = asked + timedelta(seconds=wait_s)
    told = {
        "name": "train",
        "conclusion": "success",
        "head_sha": f"{run:040x}",
        "completed_at": started + timedelta(minutes=5),
    } | more
    return Ran(
        Job(id=run, run_id=run, attempt=1, labels=labels, created_at=asked, started_at=started, **told), "CI", "ci.yml"
    )


def queued(run, minutes, **more):
    told = {"status": "queued", "conclusion": "", "completed_at": None} | more
    ran = job(run, asked=ago(minutes=minutes), **told)
    return ran


# runners
def runner(number, online=True, away_min=None, **more):
    since = ago(minutes=away_min) if away_min is not None else None
    return Runner(number, f"gpu-{number}", online, labels=GPU, offline_since=since, **more)


def test_a_runner_that_is_away_for_long_is_told():
    (finding,) = found(Fleet(NOW, runners=(runner(1), runner(2, False, 45))))
    assert (finding.kind, finding.severity) == ("runner_offline", Severity.MEDIUM)
    assert finding.facts["runners"] == ["gpu-2"]
    assert finding.facts["offline_s"] == 45 * 60
    assert finding.summary == "gpu-2 offline for 45 min; 1 of 2 runners online"


def test_without_any_runner_left_it_is_serious():
    (finding,) = found(Fleet(NOW, runners=(runner(1, False, 45), runner(2, False, 31))))
    assert finding.severity is Severity.HIGH
    assert finding.facts["runners"] == ["gpu-1", "gpu-2"]


@pytest.mark.parametrize(
    ("runners", "clear"),
    [
        ((runner(1), runner(2)), True),
        ((), True),
        ((runner(1, False, 5),), False),
        ((runner(1, False),), True),
        ((runner(1, False, 500, ephemeral=True),), True),
        (None, False),
    ],
    ids=["online", "scaled to zero", "away for a moment", "never seen online", "takes one job and goes", "not visible"],
)
def test_a_healthy_fleet_is_left_alone(runners, clear):
    assert found(Fleet(NOW, runners=runners)) == []
    assert ("self-hosted runners" in cleared(Fleet(NOW, runners=runners))) is clear


def test_runners_that_may_be_away_are_named_in_the_settings():
    fleet = Fleet(NOW, runners=(runner(1, False, 500),))
    assert found(fleet, ignore_runners=["gpu-*"]) == []
    assert len(found(fleet, ignore_runners=["cpu-*"])) == 1


# jobs that wait
def test_a_job_that_no_runner_takes_is_told():
    (finding,) = found(Fleet(NOW, (queued(1, 75), queued(2, 10)), (runner(1),)))
    assert (finding.kind, finding.facts["waits_s"]) == ("no_runner", 75 * 60)
    assert finding.facts["labels"] == ["gpu", "self-hosted"]
    assert finding.facts["runners_that_could"] == 1
    assert "waiting jobs" in cleared(Fleet(NOW, (queued(2, 10),)))


def test_a_job_that_waits_for_a_person_or_for_another_is_left_alone():
    assert found(Fleet(NOW, (queued(1, 500, status="waiting"), queued(2, 500, status="pending")))) == []


# queues
def queue(recent, before=30, wait_s=20.0, **more):
    past = [job(n, wait_s=wait_s + n % 7, asked=ago(hours=4 + n), **more) for n in range(before)]
    return [*past, *(job(100 + n, wait_s=w, asked=ago(minutes=90 - 5 * n), **more) for n, w in enumerate(recent))]


def test_a_queue_slower_than_its_own_past_is_told():
    (finding,) = found(Fleet(NOW, tuple(queue([600, 700, 800, 900]))))
    assert finding.kind == "queue_slow"
    assert finding.facts["waits_s"] == 750
    assert finding.facts["usual_s"] == 23
    assert finding.facts["p"] < 0.005
    assert finding.subject == "queue of gpu, self-hosted"


@pytest.mark.parametrize(
    "jobs",
    [
        pytest.param(queue([20, 22, 25, 21]), id="as before"),
        pytest.param(queue([100, 110, 90, 100]), id="longer, but short"),
        pytest.param(queue([700, 20, 25, 21]), id="one of four"),
        pytest.param(queue([700, 800, 900], wait_s=600), id="always slow"),
    ],
)
def test_a_queue_like_its_own_past_is_well(jobs):
    assert found(Fleet(NOW, tuple(jobs))) == []
    assert "queue of gpu, self-hosted" in cleared(Fleet(NOW, tuple(jobs)))


def test_a_short_past_says_nothing():
    fleet = Fleet(NOW, tuple(queue([600, 700, 800, 900], before=10)))
    assert found(fleet) == []
    assert "queue of gpu, self-hosted" not in cleared(fleet)


def test_many_jobs_of_one_run_wait_together_and_count_once():
    past = queue([])
    burst = [job(100, wait_s=900, asked=ago(minutes=30), name=f"train ({n})") for n in range(20)]
    assert found(Fleet(NOW, (*past, *burst))) == []


def test_what_still_waits_counts_with_what_it_has_waited():
    past = queue([])
    waiting = [queued(200 + n, 30 + n) for n in range(4)]
    assert [f.kind for f in found(Fleet(NOW, (*past, *waiting)))] == ["queue_slow"]


def test_jobs_that_an_earlier_attempt_began_are_left_out():
    odd = [job(100 + n, wait_s=-9000, asked=ago(minutes=30)) for n in range(5)]
    assert "queue of gpu, self-hosted" not in cleared(Fleet(NOW, (*queue([]), *odd)))


# steps
def steps(runner, failures, total, first=0, step="Test", shas=None):
    return [
        job(
            first + n,
            runner=runner,
            steps=(JobStep(1, "Set up job", "success"), JobStep(2, step, "failure" if n < failures else "success")),
            **({"head_sha": shas[n]} if shas else {}),
        )
        for n in range(total)
    ]


def test_a_step_that_fails_on_one_runner_alone_is_told():
    jobs = [*steps("gpu-1", 6, 12), *steps("gpu-2", 1, 30, 100), *steps("gpu-3", 0, 30, 200)]
    (finding,) = found(Fleet(NOW, tuple(jobs)))
    assert (finding.kind, finding.subject) == ("runner_flaky", "runner gpu-1")
    assert finding.summary == "Test of CI failed 6 of 12 times on gpu-1, 1 of 60 elsewhere"
    assert "runner gpu-3" in cleared(Fleet(NOW, tuple(jobs)))


@pytest.mark.parametrize(
    "jobs",
    [
        pytest.param([*steps("a", 3, 12), *steps("b", 6, 30, 100)], id="it fails everywhere"),
        pytest.param([*steps("a", 2, 12), *steps("b", 0, 30, 100)], id="twice is not often"),
        pytest.param([*steps("a", 4, 4), *steps("b", 0, 30, 100)], id="few trials"),
        pytest.param([*steps("a", 6, 12), *steps("b", 0, 5, 100)], id="hardly ran elsewhere"),
        pytest.param(
            [*steps("a", 6, 12, shas=["x"] * 12), *steps("b", 0, 30, 100)], id="one commit again and again is one trial"
        ),
        pytest.param(
            [
                *steps("a", 6, 12, shas=[f"s{n}" for n in range(12)]),
                *steps("b", 6, 30, 100, shas=[f"s{n}" for n in range(30)]),
                *steps("c", 0, 30, 200),
            ],
            id="broken commits",
        ),
    ],
)
def test_a_step_that_fails_for_another_reason_blames_no_runner(jobs):
    assert found(Fleet(NOW, tuple(jobs))) == []


def test_githubs_own_machines_are_not_compared():
    hosted = [
        Ran(Job(**{n: getattr(r.job, n) for n in Job.__dataclass_fields__} | {"runner_group": "GitHub Actions"}), "CI")
        for r in [*steps("GitHub Actions 1", 6, 12), *steps("GitHub Actions 2", 0, 60, 100)]
    ]
    assert found(Fleet(NOW, tuple(hosted))) == []


def test_holm_keeps_the_family_together():
    assert holm({"a": 0.001, "b": 0.004, "c": 0.5}, 0.01) == {"a", "b"}
    assert holm({"a": 0.004, "b": 0.004, "c": 0.004}, 0.01) == set()
    assert holm({"a": float("nan")}, 0.01) == set()
    assert holm({}, 0.01) == set()


# GitHub
DEGRADED = GitHubStatus(
    {"Actions": "partial_outage", "Copilot": "major_outage"},
    (Trouble("Delays in starting jobs", "major", ago(hours=1), ("Actions",), "https://stspg.io/1"),),
)


def test_githubs_trouble_is_told_where_it_is_felt():
    failed = job(1, asked=ago(minutes=30), conclusion="failure", completed_at=ago(minutes=10))
    (finding,) = found(Fleet(NOW, (failed,)), DEGRADED)
    assert (finding.kind, finding.severity, finding.ladder) == ("github_degraded", Severity.LOW, ())
    assert finding.facts["components"] == {"Actions": "partial_outage"}
    assert finding.facts["incidents"] == ["Delays in starting jobs"]
    assert finding.facts["jobs"] == ["CI / train"]


@pytest.mark.parametrize(
    "jobs",
    [(), (job(1),), (job(1, conclusion="failure", completed_at=ago(hours=2)),)],
    ids=["nothing ran", "what ran passed", "what failed had failed before"],
)
def test_githubs_trouble_that_nobody_feels_is_left_alone(jobs):
    assert found(Fleet(NOW, jobs), DEGRADED) == []
    assert "GitHub" not in cleared(Fleet(NOW, jobs), DEGRADED)


def test_trouble_with_what_pipelines_do_not_need_is_left_alone():
    failed = job(1, conclusion="failure", completed_at=ago(minutes=10))
    other = GitHubStatus({"Copilot": "major_outage"})
    assert found(Fleet(NOW, (failed,)), other) == []
    assert "GitHub" in cleared(Fleet(NOW, (failed,)), other)


def test_a_slow_queue_of_githubs_own_machines_is_explained_by_githubs_trouble():
    jobs = tuple(queue([600, 700, 800, 900], labels=("ubuntu-latest",)))
    assert [f.kind for f in found(Fleet(NOW, jobs), GitHubStatus())] == ["queue_slow"]
    assert found(Fleet(NOW, jobs), DEGRADED) == []
    own = tuple(queue([600, 700, 800, 900]))
    assert [f.kind for f in found(Fleet(NOW, own), DEGRADED)] == ["queue_slow"]


# operations
def test_an_endpoint_that_is_down_for_a_while_is_told():
    down = Answered("https://serve.example/healthz", 503, 0.1, bad_since=ago(minutes=20))
    silent = Answered("https://other.example/", 0, 5.0, "ConnectTimeout", ago(minutes=20))
    first, second = found(Operations(NOW, (down, silent)))
    assert (first.kind, first.severity) == ("endpoint_down", Severity.HIGH)
    assert first.summary == "https://serve.example/healthz answers 503 for 20 min"
    assert second.summary == "https://other.example/ does not answer (ConnectTimeout) for 20 min"
    assert first.fingerprint != second.fingerprint


def test_an_endpoint_that_answers_is_well_and_one_bad_look_is_not_enough():
    well = Answered("https://a.example/", 200, 0.1)
    once = Answered("https://b.example/", 500, 0.1, bad_since=NOW)
    assert found(Operations(NOW, (well, once))) == []
    assert cleared(Operations(NOW, (well, once))) == {"endpoint https://a.example/"}


def test_the_bots_own_parts_are_told_when_they_are_unwell():
    parts = (Part("database", True, "fast"), Part("workers", False, "a delivery waits for 900 s", ago(minutes=15)))
    (finding,) = found(Operations(NOW, parts=parts))
    assert (finding.kind, finding.subject) == ("bot_unwell", "the bot's workers")
    assert cleared(Operations(NOW, parts=parts)) == {"the bot's database"}


# alerts
def test_alerts_about_what_is_down_are_told_and_others_left_alone():
    labels = {"instance": "node-1", "severity": "critical"}
    (finding,) = found(Alerts((Alert("KubeNodeNotReady", True, labels), Alert("Watchdog", True))))
    assert (finding.kind, finding.severity) == ("target_down", Severity.CRITICAL)
    assert cleared(Alerts((Alert("KubeNodeNotReady", False, labels),))) == {finding.subject}


def test_no_alert_is_claimed_twice():
    from detectors.infrastructure_health import _DOWN
    from detectors.resource_constraint import alert_kind

    assert [name for name in _DOWN if alert_kind(Alert(name, True))] == []


# time limits, which are a resource
def timed(minutes, limit_min=60.0):
    return Fleet(
        NOW,
        tuple(
            Ran(one.job, one.workflow, one.workflow_path, limit_min * 60)
            for n, m in enumerate(minutes)
            for one in [
                job(n, asked=ago(hours=20 - n), wait_s=0, completed_at=ago(hours=20 - n) + timedelta(minutes=m))
            ]
        )[::-1],
    )


def test_a_job_near_its_timeout_is_told_before_it_is_cancelled():
    (finding,) = claims(timed([50, 55, 56, 57, 58]), detector=ResourceConstraint())
    assert (finding.kind, finding.facts["took_s"], finding.facts["limit_s"]) == ("time_limit_near", 58 * 60, 3600)


@pytest.mark.parametrize("minutes", [[10, 11, 12, 10, 11], [10, 11, 12, 10, 58], [58, 58]])
def test_a_job_far_from_its_timeout_is_left_alone(minutes):
    assert [c for c in claims(timed(minutes), detector=ResourceConstraint()) if isinstance(c, Finding)] == []


MOMENTS = st.none() | st.integers(-(10**7), 10**5).map(lambda s: NOW + timedelta(seconds=s))
JOBS = st.builds(
    Job,
    st.integers(0, 9),
    st.sampled_from(["train", "test"]),
    st.integers(0, 40),
    st.just(1),
    st.sampled_from(["a", "b", ""]),
    st.sampled_from(["success", "failure", "", "skipped"]),
    status=st.sampled_from(["queued", "completed", "waiting"]),
    steps=st.lists(
        st.builds(JobStep, st.just(1), st.sampled_from(["x", "y"]), st.sampled_from(["success", "failure"])), max_size=2
    ).map(tuple),
    runner=st.sampled_from(["", "r1", "r2"]),
    labels=st.sampled_from([(), ("ubuntu-latest",), ("self-hosted",)]),
    created_at=MOMENTS,
    started_at=MOMENTS,
    completed_at=MOMENTS,
)
FLEETS = st.builds(
    Fleet,
    st.just(NOW),
    st.lists(st.builds(Ran, JOBS, st.just("CI"), st.just("ci.yml"), st.none() | st.floats(0, 1e6)), max_size=80).map(
        tuple
    ),
    st.none() | st.lists(st.builds(Runner, st.integers(), st.text(max_size=3), st.booleans()), max_size=3).map(tuple),
)


@settings(max_examples=100, deadline=None)
@given(FLEETS, st.sampled_from([GitHubStatus(), DEGRADED]))
def test_any_fleet_is_taken(fleet, github):
    for detector in (InfrastructureHealth(), ResourceConstraint()):
        for claim in detector.detect(EVENT, EvidenceBag(fleet, github)):
            assert claim.subject
