"""What runs out: told by samples and by alerts, and silent on what does not."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.event import AlertsReported, SamplesReported
from app.domain.evidence import Alerts, EvidenceBag, JobLogs, Samples
from app.domain.finding import Clear, Finding, Severity
from app.domain.signal import Alert, Series
from app.domain.signature import TeamSignature
from app.domain.tenant import Repository, Sender
from detectors.resource_constraint import ResourceConstraint, alert_kind
from detectors.resources import ENDINGS, NAMES, levels, named
from tests.detectors.logs import failing_log, run_failed

GIB = 1 << 30
REPOSITORY = Repository(1, "acme/trainer", 1, "main")
EVENT = SamplesReported(repository=REPOSITORY, sender=Sender("agent"), series=())
NODE = {"instance": "node-1", "mountpoint": "/data"}


def series(name, values, labels=NODE, limit=None, step_s=60.0):
    return Series(name, tuple((1.7e9 + step_s * n, float(v)) for n, v in enumerate(values)), labels, limit)


def claims(*told, **settings):
    bag = EvidenceBag(Samples(told), settings={"resource_constraint": settings})
    return list(ResourceConstraint().detect(EVENT, bag))


def one(*told, **settings):
    (claim,) = claims(*told, **settings)
    return claim


@pytest.mark.parametrize(
    ("told", "kind", "facts"),
    [
        (series("gpu_memory_used_ratio", [0.95] * 6), "gpu_memory_high", {"now_ratio": 0.95, "threshold_ratio": 0.9}),
        (
            series("gpu_memory_used_bytes", [76 * GIB] * 6, limit=80 * GIB),
            "gpu_memory_high",
            {"size_bytes": 80 * GIB, "free_bytes": 4 * GIB},
        ),
        (series("host_memory_used_ratio", [0.98] * 6), "host_memory_high", {"now_ratio": 0.98}),
        (series("disk_used_ratio", [0.9] * 6), "disk_high", {"threshold_ratio": 0.85}),
        (series("shared_memory_used_ratio", [0.95] * 6), "shared_memory_high", {}),
        (series("file_handles_used", [1000] * 6, limit=1024), "file_handles_high", {"size": 1024, "free": 24}),
        (series("error_ratio", [0.08] * 6), "error_rate_high", {"now_ratio": 0.08, "threshold_ratio": 0.05}),
        (series("checkout_error_percent", [8] * 6), "error_rate_high", {"now_ratio": 0.08}),
        (series("latency_seconds", [12] * 6), "latency_high", {"now_s": 12, "threshold_s": 10}),
        (series("infer_latency_ms", [12_000] * 6), "latency_high", {"now_s": 12}),
        (series("queue_wait_seconds", [900] * 6), "queue_wait_high", {"now_s": 900}),
        (series("circuit_breaker_open", [1] * 6), "breaker_open", {}),
    ],
)
def test_what_stays_above_its_threshold_is_claimed(told, kind, facts):
    finding = one(told)
    assert isinstance(finding, Finding)
    assert finding.kind == kind
    assert facts.items() <= finding.facts.items()
    assert "node-1" in finding.summary
    assert [remedy.action for remedy in finding.ladder] == ["open_issue"]


@pytest.mark.parametrize(
    "told",
    [
        series("gpu_memory_used_ratio", [0.85] * 6),
        series("host_memory_used_ratio", [0.9] * 6),
        series("disk_used_ratio", [0.8] * 6),
        series("shared_memory_used_ratio", [0.1] * 6),
        series("file_handles_used", [100] * 6, limit=1024),
        series("error_ratio", [0.01] * 6),
        series("latency_seconds", [2] * 6),
        series("queue_wait_seconds", [30] * 6),
        series("circuit_breaker_open", [0] * 6),
        series("disk_used_ratio", [0.5, 0.5, 0.5, 0.5, 0.5]),
    ],
    ids=lambda told: told.name,
)
def test_what_is_well_is_said_to_be(told):
    clear = one(told)
    assert isinstance(clear, Clear)
    assert clear.subject == one(series(told.name, [x for _, x in told.points], limit=told.limit)).subject


def test_one_spike_is_neither_claimed_nor_called_well():
    assert claims(series("latency_seconds", [1, 1, 1, 1, 60])) == []


def test_between_well_and_too_much_nothing_is_said():
    assert claims(series("disk_used_ratio", [0.84] * 6)) == []


def test_a_few_samples_say_nothing():
    assert claims(series("disk_used_ratio", [0.99] * 3)) == []
    assert claims(series("disk_used_ratio", [0.1] * 3)) == []


def test_a_half_open_breaker_is_left_alone():
    assert claims(series("circuit_breaker_open", [1, 1, 1, 1, 0.5])) == []


def test_a_disk_that_fills_is_told_with_its_hour_and_interval():
    finding = one(series("disk_used_bytes", (300 + np.arange(180)) * GIB, limit=600 * GIB, step_s=120))
    assert finding.kind == "disk_filling"
    truth = 121 * 120
    assert finding.facts["full_in_earliest_s"] <= truth <= finding.facts["full_in_latest_s"]
    assert finding.facts["rises_per_hour_bytes"] == pytest.approx(30 * GIB, rel=0.01)
    assert finding.summary.startswith("Disk full in 4 h (")


def test_a_disk_that_is_full_within_the_hour_is_urgent():
    finding = one(series("disk_used_ratio", np.linspace(0.4, 0.84, 120)))
    assert finding.severity is Severity.HIGH
    assert finding.facts["full_in_s"] == pytest.approx(60 * 0.16 / 0.44 * 119, rel=0.02)
    assert finding.summary.startswith("Disk full in 43 min (")


def test_a_disk_that_fills_far_ahead_is_left_alone():
    slow = series("disk_used_bytes", (300 + np.arange(180)) * GIB, limit=600 * GIB, step_s=120)
    assert claims(slow, horizon_h=3) == []
    assert isinstance(one(slow, horizon_h=1), Clear)


def test_high_and_filling_are_one_incident():
    high = one(series("disk_used_ratio", [0.9] * 6))
    filling = one(series("disk_used_ratio", np.linspace(0.5, 0.95, 180)))
    assert (high.kind, filling.kind) == ("disk_high", "disk_filling")
    assert high.fingerprint == filling.fingerprint
    assert high.subject == filling.subject


def test_two_disks_and_two_machines_are_different_incidents():
    places = [NODE, NODE | {"mountpoint": "/data2"}, NODE | {"mountpoint": "/srv/data"}, NODE | {"instance": "node-2"}]
    found = claims(*(series("disk_used_ratio", [0.9] * 6, place) for place in places))
    assert len({finding.fingerprint for finding in found}) == 4


def test_a_sawtooth_of_garbage_collection_is_no_trend():
    values = 0.4 + 0.4 * ((np.arange(300) % 40) / 40)
    assert all(isinstance(claim, Clear) for claim in claims(series("host_memory_used_ratio", values)))


@pytest.mark.parametrize(
    ("told", "resource", "ratio"),
    [
        (
            [
                series("node_filesystem_avail_bytes", [1 * GIB] * 3),
                series("node_filesystem_size_bytes", [10 * GIB] * 3),
            ],
            "disk",
            0.9,
        ),
        (
            [series("DCGM_FI_DEV_FB_USED", [75_000] * 3), series("DCGM_FI_DEV_FB_FREE", [5_000] * 3)],
            "gpu_memory",
            15 / 16,
        ),
        (
            [
                series("nvidia_smi_memory_used_bytes", [9] * 3, {"uuid": "a"}),
                series("nvidia_smi_memory_total_bytes", [10] * 3, {"uuid": "a"}),
            ],
            "gpu_memory",
            0.9,
        ),
        (
            [series("node_memory_MemAvailable_bytes", [2] * 3), series("node_memory_MemTotal_bytes", [10] * 3)],
            "host_memory",
            0.8,
        ),
        ([series("process_open_fds", [900] * 3), series("process_max_fds", [1000] * 3)], "file_handles", 0.9),
        (
            [
                series("node_filesystem_avail_bytes", [1] * 3, {"mountpoint": "/dev/shm", "fstype": "tmpfs"}),
                series("node_filesystem_size_bytes", [4] * 3, {"mountpoint": "/dev/shm", "fstype": "tmpfs"}),
            ],
            "shared_memory",
            0.75,
        ),
    ],
)
def test_exporters_own_names_are_understood(told, resource, ratio):
    (level,) = levels(told)
    assert level.resource == resource
    assert level.points[-1][1] == pytest.approx(ratio)


@pytest.mark.parametrize(
    "told",
    [
        [series("disk_used_bytes", [5] * 6)],
        [series("container_memory_working_set_bytes", [5] * 6), series("container_spec_memory_limit_bytes", [0] * 6)],
        [
            series("node_filesystem_avail_bytes", [0] * 6, {"fstype": "squashfs"}),
            series("node_filesystem_size_bytes", [9] * 6, {"fstype": "squashfs"}),
        ],
        [series("node_load1", [99] * 6)],
        [series("node_filesystem_size_bytes", [9] * 6)],
        [series("disk_used_bytes", [math.nan] * 6, limit=5)],
    ],
    ids=["no size", "no limit", "full by nature", "something else", "only the size", "not a number"],
)
def test_what_cannot_be_judged_is_left_alone(told):
    assert claims(*told) == []


def test_labels_that_change_with_each_start_do_not_make_another_thing():
    first, second = (next(levels([series("disk_used_ratio", [1] * 5, NODE | {"id": number})])) for number in "ab")
    assert first.subject == second.subject


def alerted(*alerts):
    event = AlertsReported(repository=REPOSITORY, sender=Sender("alertmanager"), alerts=alerts)
    return list(ResourceConstraint().detect(event, EvidenceBag(Alerts(alerts))))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NodeFilesystemSpaceFillingUp", "disk_filling"),
        ("NodeFilesystemAlmostOutOfSpace", "disk_high"),
        ("NodeFilesystemFilesFillingUp", "inodes_filling"),
        ("KubePersistentVolumeFillingUp", "disk_filling"),
        ("KubePersistentVolumeInodesFillingUp", "inodes_filling"),
        ("NodeMemoryHighUtilization", "host_memory_high"),
        ("NodeFileDescriptorLimit", "file_handles_high"),
        ("HostOutOfMemory", "host_memory_high"),
        ("HostOutOfDiskSpace", "disk_high"),
        ("HostDiskWillFillIn24Hours", "disk_filling"),
        ("HostOomKillDetected", "host_memory_high"),
        ("KubernetesVolumeFullInFourDays", "disk_filling"),
        ("DCGMHighFBMemoryUsage", "gpu_memory_high"),
        ("gpu_memory_high", "gpu_memory_high"),
        ("TooManyOpenFiles", "file_handles_high"),
        ("CircuitBreakerOpen", "breaker_open"),
        ("HighErrorRate", "error_rate_high"),
        ("InferenceLatencyP99", "latency_high"),
        ("JobQueueWaitingTooLong", "queue_wait_high"),
        ("Watchdog", None),
        ("InfoInhibitor", None),
        ("KubePodCrashLooping", None),
        ("NodeRAIDDiskFailure", None),
        ("HostNetworkReceiveErrors", None),
        ("PrometheusErrorSendingAlertsToSomeAlertmanagers", None),
        ("HostUnusualDiskReadLatency", None),
        ("TargetDown", None),
        ("", None),
    ],
)
def test_well_known_alerts_are_understood_and_others_left_alone(name, kind):
    assert alert_kind(Alert(name, True)) == kind


def test_a_label_says_what_an_alert_is_about():
    assert alert_kind(Alert("Teapot", True, {"resource": "gpu_memory"})) == "gpu_memory_high"
    assert alert_kind(Alert("Teapot", True, {"resource": "tea"})) is None


def test_an_alert_is_claimed_while_it_fires_and_well_when_it_is_over():
    labels = {"alertname": "HostOutOfMemory", "instance": "node-1", "severity": "critical"}
    (finding,) = alerted(Alert("HostOutOfMemory", True, labels, {"summary": "Out of memory\non node-1"}))
    assert (finding.kind, finding.severity) == ("host_memory_high", Severity.CRITICAL)
    assert finding.summary == "Out of memory on node-1"
    (clear,) = alerted(Alert("HostOutOfMemory", False, labels | {"severity": "warning"}))
    assert isinstance(clear, Clear)
    assert clear.subject == finding.subject


def test_an_alert_about_something_else_is_left_alone():
    assert alerted(Alert("Watchdog", True), Alert("Watchdog", False)) == []


def test_what_an_alert_says_is_kept_short():
    labels = {f"label{n}": "x" * 10_000 for n in range(100)}
    (finding,) = alerted(Alert("HostOutOfMemory", True, labels, {"summary": "y" * 100_000}))
    assert len(finding.summary) <= 300
    assert len(finding.subject) < 2_500
    assert len(finding.facts["labels"]) <= 20


NAMES_OF_SERIES = st.sampled_from([*NAMES, *(f"my_{end}" for end in ENDINGS), "other"])
SERIES = st.builds(
    Series,
    NAMES_OF_SERIES,
    st.lists(st.tuples(st.floats(), st.floats()), max_size=25).map(tuple),
    st.dictionaries(st.sampled_from(["instance", "mountpoint", "fstype"]), st.text(max_size=8), max_size=3),
    st.none() | st.floats(),
)
ALERTS = st.builds(
    Alert, st.text(max_size=30), st.booleans(), st.dictionaries(st.text(max_size=9), st.text(max_size=9))
)


@settings(max_examples=150, deadline=None)
@given(st.lists(SERIES, max_size=5), st.lists(ALERTS, max_size=3))
def test_whatever_is_sent_is_taken(told, alerts):
    for claim in ResourceConstraint().detect(EVENT, EvidenceBag(Samples(tuple(told)), Alerts(tuple(alerts)))):
        assert claim.subject
        if isinstance(claim, Finding):
            assert 0 < claim.confidence <= 1


def test_labels_that_are_not_shown_still_tell_things_apart():
    shown = {f"a{place}": "same" for place in range(8)}
    assert len({named("disk", shown | {"persistentvolumeclaim": claim}) for claim in ("logs", "data")}) == 2
    assert len({named("disk", {"instance": "x" * 120 + end}) for end in "ab"}) == 2


def test_what_a_team_has_a_signature_for_is_left_to_it():
    log = failing_log("RuntimeError: No space left on device: the scratch volume of the team")
    ours = TeamSignature(
        name="scratch",
        kind="team:scratch",
        title="The scratch volume is full",
        summary="",
        patterns=("the scratch volume of the team",),
        examples=("the scratch volume of the team",),
        not_this=("another volume",),
        severity=Severity.HIGH,
        transient=False,
        ladder=("open_issue",),
    )
    found = {bool(known): bool(list(_of_run(log, known))) for known in ((), (ours,))}
    assert found == {False: True, True: False}


def _of_run(log, signatures):
    bag = EvidenceBag(JobLogs((log,)), signatures=signatures)
    return ResourceConstraint().detect(run_failed(), bag)
