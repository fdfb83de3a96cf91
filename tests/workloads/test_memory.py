"""What a training step takes is told from small ones, and after an OOM the batch fits at once."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workloads import memory
from workloads.memory import Estimate, batch_after_oom

MIB = 2**20


def test_planning_needs_no_torch():
    code = "import sys, workloads.memory as m; m.needs_of(10); assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_higher_of_two_phases_counts():
    estimate = Estimate(100, 10, "", floor_bytes=200, floor_per_item_bytes=1)
    assert [estimate.peak_bytes(batch) for batch in (1, 11, 12, 20)] == [201, 211, 220, 300]


@given(
    fixed=st.integers(0, 10**9),
    slope=st.integers(0, 10**7),
    floor=st.integers(0, 10**9),
    limit=st.integers(1, 10**10),
)
def test_the_largest_batch_fits_and_the_next_does_not(fixed, slope, floor, limit):
    estimate = Estimate(fixed, slope, "", floor)
    batch = estimate.largest_batch(limit, margin=0)
    if batch:
        assert estimate.peak_bytes(batch) <= limit
    if batch < 2**31:
        assert estimate.peak_bytes(batch + 1) > limit


def test_the_fixed_part_is_weights_gradients_and_states():
    assert memory.needs_of(1000, "adamw").peak_bytes(64) == 16_000
    assert memory.needs_of(1000, "sgd").peak_bytes(64) == 8_000
    assert memory.needs_of(1000, "sgd+momentum", per_item_bytes=10, base_bytes=5).peak_bytes(64) == 12_645


# --- the next batch ------------------------------------------------------------------------------------------------


@given(
    batch=st.integers(1, 300),
    accumulate=st.integers(1, 12),
    limit=st.none() | st.integers(1, 4000),
    slope=st.none() | st.integers(0, 50),
    failures=st.integers(0, 3),
)
def test_the_next_batch_is_smaller_fits_and_keeps_the_product(batch, accumulate, limit, slope, failures):
    estimate = None if slope is None else Estimate(100, slope, "")
    found = batch_after_oom(batch=batch, accumulate=accumulate, limit_bytes=limit, estimate=estimate, failures=failures)
    if found is None:
        one_fits = estimate is None or limit is None or estimate.largest_batch(limit) >= 1
        assert batch == 1 or not one_fits
        return
    smaller, more = found
    assert smaller < batch
    assert smaller * more == batch * accumulate
    if estimate and limit is not None:
        assert estimate.peak_bytes(smaller) <= limit


def test_with_an_estimate_it_is_the_largest_that_fits():
    estimate = Estimate(100, 10, "")
    told = {"batch": 128, "accumulate": 1, "estimate": estimate}
    assert batch_after_oom(limit_bytes=500, **told) == (32, 4)
    assert batch_after_oom(limit_bytes=110, **told) is None
    assert batch_after_oom(limit_bytes=116, **told) == (1, 128)


def test_without_an_estimate_it_is_half_and_at_the_end_nothing():
    assert batch_after_oom(batch=128, accumulate=2, limit_bytes=500, estimate=None) == (64, 4)
    assert batch_after_oom(batch=1, accumulate=4, limit_bytes=500, estimate=None) is None


def test_an_estimate_that_was_wrong_is_not_believed_alone():
    told = {"batch": 64, "accumulate": 1, "limit_bytes": 10**9, "estimate": Estimate(100, 10, "")}
    assert batch_after_oom(**told) == (32, 2)
    told["accumulate"] = 3
    assert batch_after_oom(**told) == (48, 4)
    assert batch_after_oom(failures=1, **told) == (32, 6)


# --- probes, measured ----------------------------------------------------------------------------------------------


def apart(work) -> float:
    """A number from a process of its own: what others have left in the heap has no part in it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            torch.set_num_threads(1)
            memory.steady()
            memory._Process().tidy()
            os.write(writing, repr(float(work())).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        answer = told.read()
    os.waitpid(pid, 0)
    return float(answer)


def training(hidden: int):
    model = torch.nn.Sequential(torch.nn.Linear(64, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, hidden))
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)

    def step(batch: int) -> None:
        optimizer.zero_grad()
        model(torch.randn(batch * 512, 64)).square().mean().backward()
        optimizer.step()

    return step


def peak_of(hidden: int, batch: int) -> float:
    memory.steady()
    meter = memory._Process()
    meter.reset()
    step = training(hidden)
    for _ in range(2):
        step(batch)
    return meter.peak()


needs_peaks = pytest.mark.skipif(not memory._Process().reset(), reason="this kernel does not let peaks be reset")
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@needs_peaks
@forks
def test_the_peak_of_eight_times_the_batch_is_told_within_a_tenth():
    training(8)(1)  # what the optimiser imports in its first step is not the model's

    def predicted() -> float:
        estimate = memory.probe(training(512), (2, 4))
        return estimate.peak_bytes(32)

    real = apart(lambda: peak_of(512, 32))
    assert apart(predicted) == pytest.approx(real, rel=0.1)
    assert real > apart(lambda: peak_of(512, 4)) + 50 * MIB  # there was something to tell


@needs_peaks
@forks
def test_the_optimiser_s_temporaries_are_a_phase_of_their_own():
    class Heavy(torch.optim.SGD):
        def step(self, closure=None):
            torch.ones(64 * MIB // 4)
            return super().step(closure)

    def floor() -> float:
        weight = torch.nn.Parameter(torch.zeros(8))
        torch.optim.SGD([weight], lr=0.1)  # now the step that is called by the other one's has hooks, too
        optimizer = Heavy([weight], lr=0.1)

        def step(batch: int) -> None:
            (weight * torch.ones(batch, 8)).sum().backward()
            optimizer.step()

        estimate = memory.probe(step, (1, 3))
        return estimate.floor_bytes - estimate.fixed_bytes

    assert apart(floor) == pytest.approx(64 * MIB, rel=0.1)


def test_where_peaks_cannot_be_measured_there_is_no_estimate(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROC", tmp_path)
    monkeypatch.setattr(memory, "steady", lambda: True)
    assert memory.probe(lambda batch: pytest.fail("nothing is run for nothing")) is None
    assert memory.limit_of() is None


# --- limits --------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A /proc and a /sys/fs/cgroup to be filled: 100 MiB are resident and 1 GiB is available."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text(
        f"VmSize:\t{400 * 1024} kB\nVmData:\t{200 * 1024} kB\nVmRSS:\t{100 * 1024} kB\n"
    )
    (tmp_path / "meminfo").write_text("MemTotal: 9999999 kB\nMemAvailable:    1048576 kB\n")
    monkeypatch.setattr(memory, "PROC", tmp_path)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    return tmp_path


def group(where, **files) -> None:
    where.mkdir(parents=True)
    for name, content in files.items():
        (where / name.replace("__", ".")).write_text(content)


def test_without_other_limits_it_is_what_the_machine_has(machine):
    assert memory.limit_of() == memory.Limit(1124 * MIB, "MemAvailable")


def test_the_tightest_group_above_counts_and_page_cache_does_not(machine):
    (machine / "self/cgroup").write_text("0::/pod/box\n")
    stat = f"anon 5\ninactive_file {30 * MIB}\n"
    group(machine / "cgroup/pod", memory__max=str(500 * MIB), memory__current=str(200 * MIB), memory__stat=stat)
    group(machine / "cgroup/pod/box", memory__max="max\n", memory__current=str(150 * MIB), memory__stat=stat)
    assert memory.limit_of() == memory.Limit((100 + 330) * MIB, "cgroup memory.max")


def test_the_first_version_of_groups_is_read_too(machine):
    (machine / "self/cgroup").write_text("4:cpu,memory:/box\n0::/\n")
    group(machine / "cgroup/memory", memory__limit_in_bytes=str(2**63 - 4096), memory__usage_in_bytes="7")
    group(
        machine / "cgroup/memory/box",
        memory__limit_in_bytes=str(600 * MIB),
        memory__usage_in_bytes=str(400 * MIB),
    )
    assert memory.limit_of() == memory.Limit(300 * MIB, "cgroup memory.limit_in_bytes")


def test_a_limit_of_the_process_counts_less_what_it_has(machine, monkeypatch):
    limits = {memory.resource.RLIMIT_DATA: 260 * MIB, memory.resource.RLIMIT_AS: 500 * MIB}
    monkeypatch.setattr(memory.resource, "getrlimit", lambda number: (limits[number], -1))
    assert memory.limit_of() == memory.Limit(160 * MIB, "RLIMIT_DATA")


def test_nothing_is_left_where_more_is_taken_than_allowed(machine, monkeypatch):
    monkeypatch.setattr(memory.resource, "getrlimit", lambda number: (MIB, -1))
    assert memory.limit_of() == memory.Limit(100 * MIB, "RLIMIT_AS")


def test_this_machine_has_a_limit():
    assert memory.limit_of().bytes > 10 * MIB
