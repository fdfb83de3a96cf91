"""Checkpoints: whole or not there, the same bit for bit, and a stranger's file does no harm."""

import contextlib
import errno
import hashlib
import json
import os
import pickle
import random
import resource
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import checkpoint
from workloads.contract import Failure, RunFailed

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 5, generator=made)
    return {
        "model.weight": weight,
        "model.turned": weight.T,  # not contiguous, and shares its memory
        "model.half": weight.to(torch.bfloat16),
        "step": torch.tensor(float(seed)),
        "none": torch.empty(0, 4, dtype=torch.int64),
        "mask": torch.tensor([True, False, True]),
    }


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return set(a) == set(b) and all(
        a[name].dtype == b[name].dtype and a[name].shape == b[name].shape and torch.equal(a[name], b[name])
        for name in a
    )


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- saved and loaded ----------------------------------------------------------------------------------------------


def test_what_is_loaded_is_what_was_saved(tmp_path):
    path = checkpoint.save(tmp_path / "new", 120, tensors=tensors(), state={"loss": 0.1 + 0.2, "names": ["a", None]})
    found, state = checkpoint.load(path)
    assert path.name == "step-000000120"
    assert same(found, tensors())
    assert state == {"loss": 0.1 + 0.2, "names": ["a", None]}


def test_the_tensors_are_a_file_of_the_format_that_others_read(tmp_path):
    path = checkpoint.save(tmp_path, 1, tensors=tensors(), state={})
    assert same(safetensors.torch.load_file(path / checkpoint.TENSORS), tensors())


def test_a_file_that_the_format_s_own_library_wrote_is_read(tmp_path):
    path = checkpoint.save(tmp_path, 1, tensors={}, state={})
    theirs = {name: tensor.contiguous().clone() for name, tensor in tensors().items()}
    safetensors.torch.save_file(theirs, path / checkpoint.TENSORS, metadata={"format": "pt"})
    vouch(path)
    assert same(checkpoint.load(path)[0], tensors())


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_shape_and_type_comes_back_bit_for_bit(data, tmp_path_factory):
    made = {}
    for number in range(data.draw(st.integers(0, 4))):
        dtype = data.draw(st.sampled_from(list(checkpoint.DTYPES.values())))
        shape = data.draw(st.lists(st.integers(0, 4), max_size=3))
        count = int(np.prod(shape)) * dtype.itemsize
        raw = data.draw(st.binary(min_size=count, max_size=count))
        raw = bytes(byte & 1 for byte in raw) if dtype is torch.bool else raw
        flat = torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)
        made[f"t.{number}"] = flat.reshape(shape)
    path = checkpoint.save(tmp_path_factory.mktemp("any"), 1, tensors=made, state={})
    found, _ = checkpoint.load(path)
    assert {name: (t.dtype, t.shape, raw_bytes(t)) for name, t in found.items()} == {
        name: (t.dtype, t.shape, raw_bytes(t)) for name, t in made.items()
    }


def raw_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


# --- which are kept ------------------------------------------------------------------------------------------------


def test_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 4, 5):
        checkpoint.save(tmp_path, step, tensors={}, state={}, keep=2)
    assert kept(tmp_path) == ["step-000000004", "step-000000005"]


def test_the_best_is_kept_beside_the_newest_until_there_is_a_better_one(tmp_path):
    for step in (1, 2, 3, 4):
        checkpoint.save(tmp_path, step, tensors={}, state={"best": step == 1}, keep=2)
    assert kept(tmp_path) == ["step-000000001", "step-000000003", "step-000000004"]
    checkpoint.save(tmp_path, 5, tensors={}, state={"best": True}, keep=2)
    checkpoint.save(tmp_path, 6, tensors={}, state={}, keep=2)
    checkpoint.save(tmp_path, 7, tensors={}, state={}, keep=2)
    assert kept(tmp_path) == ["step-000000005", "step-000000006", "step-000000007"]


def test_a_step_that_is_saved_again_is_replaced(tmp_path):
    checkpoint.save(tmp_path, 1, tensors={}, state={"turn": 1})
    path = checkpoint.save(tmp_path, 1, tensors={}, state={"turn": 2})
    assert kept(tmp_path) == ["step-000000001"]
    assert checkpoint.load(path)[1] == {"turn": 2}


def test_what_is_cut_short_does_not_count_as_one_of_those_that_are_kept(tmp_path):
    for step in (1, 2):
        broken = checkpoint.save(tmp_path, step, tensors=tensors(), state={}, keep=2)
    os.truncate(broken / checkpoint.TENSORS, 20)
    checkpoint.save(tmp_path, 3, tensors=tensors(), state={}, keep=2)
    assert kept(tmp_path) == ["step-000000001", "step-000000003"]


def test_the_one_just_saved_stays_where_later_ones_of_another_run_lie(tmp_path):
    for step in (100, 200, 300):
        checkpoint.save(tmp_path, step, tensors={}, state={})
    assert checkpoint.save(tmp_path, 50, tensors={}, state={}, keep=1).exists()
    assert len(kept(tmp_path)) == 4


def test_nothing_is_latest_where_nothing_is(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "never") is None


# --- killed in the middle ------------------------------------------------------------------------------------------

CALLS = ((os, "fsync"), (Path, "mkdir"), (Path, "rename"), (Path, "open"), (Path, "unlink"), (os, "rmdir"))


def killed_at(folder: Path, nth: int, step: int, again: bool) -> bool:
    """A child saves and is killed by SIGKILL before its nth call of the operating system. Whether it got so far."""
    child = os.fork()
    if child == 0:
        left = [nth]
        for owner, name in CALLS:
            setattr(owner, name, countdown(getattr(owner, name), left))
        try:
            checkpoint.save(folder, step, tensors=tensors(step), state={"step": step, "again": again}, keep=2)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def countdown(call: Callable, left: list[int]) -> Callable:
    def counted(*args, **kwargs):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return call(*args, **kwargs)

    return counted


@pytest.mark.parametrize("again", [False, True], ids=["a new step", "a step that is there"])
def test_wherever_a_save_is_killed_the_newest_loads(tmp_path, again):
    points = 0
    while points < 100:
        folder = tmp_path / str(points)
        for step in (1, 2):
            checkpoint.save(folder, step, tensors=tensors(step), state={"step": step, "again": False}, keep=2)
        killed = killed_at(folder, points, 2 if again else 3, again)
        found = checkpoint.latest(folder)
        loaded, state = checkpoint.load(found)
        assert state["step"] in ((2,) if again else (2, 3))
        assert same(loaded, tensors(state["step"]))
        checkpoint.save(folder, 4, tensors=tensors(4), state={"step": 4}, keep=1)
        assert kept(folder) == ["step-000000004"]
        points += 1
        if not killed:
            break
    assert state["again"] is again  # the last was not killed, and got through
    assert points > 10


def test_a_process_that_saves_all_the_time_can_be_killed_at_any_time(tmp_path):
    checkpoint.save(tmp_path, 1, tensors=tensors(1), state={"step": 1})
    clock = random.Random(7)
    for _ in range(15):
        at = checkpoint.load(checkpoint.latest(tmp_path))[1]["step"]
        child = os.fork()
        if child == 0:
            try:
                while True:
                    at += 1
                    checkpoint.save(tmp_path, at, tensors=tensors(at), state={"step": at}, keep=2)
            finally:
                os._exit(1)
        signal.sigtimedwait((), clock.uniform(0.001, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        loaded, state = checkpoint.load(checkpoint.latest(tmp_path))
        assert state["step"] >= at - 1
        assert same(loaded, tensors(state["step"]))


# --- the disk is full ----------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_the_older_ones_stay(tmp_path, monkeypatch):
    """A limit on the size of files, of the process: the kernel cuts the write short, as a full disk does."""
    first = checkpoint.save(tmp_path, 1, tensors=tensors(), state={})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(RunFailed) as told:
            checkpoint.save(tmp_path, 2, tensors={"large": torch.zeros(100_000)}, state={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert told.value.kind is Failure.DISK_FULL
    assert told.value.facts["needed_bytes"] > 400_000
    assert kept(tmp_path) == ["step-000000001"]
    assert same(checkpoint.load(first)[0], tensors())


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "mkdir"), (Path, "rename")])
def test_a_full_disk_is_told_wherever_it_shows(tmp_path, monkeypatch, owner, name):
    checkpoint.save(tmp_path, 1, tensors={}, state={"turn": 1})

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(owner, name, full)
    with pytest.raises(RunFailed) as told:
        checkpoint.save(tmp_path, 1, tensors={}, state={"turn": 2})
    assert told.value.kind is Failure.DISK_FULL
    assert kept(tmp_path) == ["step-000000001"]
    assert checkpoint.load(tmp_path / "step-000000001")[1] == {"turn": 1}


def test_a_save_that_fails_otherwise_leaves_no_draft(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        checkpoint.save(tmp_path, 1, tensors={}, state={})
    assert kept(tmp_path) == []


# --- broken, and hostile -------------------------------------------------------------------------------------------


def vouch(path: Path) -> None:
    """Make the manifest agree with the files, as a forger would."""
    manifest = json.loads((path / checkpoint.MANIFEST).read_text())
    for name in (checkpoint.TENSORS, checkpoint.STATE):
        content = (path / name).read_bytes()
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (path / checkpoint.MANIFEST).write_text(json.dumps(manifest))


def refused(path: Path) -> str:
    with pytest.raises(RunFailed) as told:
        checkpoint.load(path)
    assert told.value.kind is Failure.CHECKPOINT_CORRUPT
    return str(told.value)


def test_a_broken_one_is_passed_over_and_told(tmp_path):
    for step in (1, 2, 3):
        path = checkpoint.save(tmp_path, step, tensors=tensors(), state={})
    os.truncate(path / checkpoint.TENSORS, 20)
    (tmp_path / "step-000000002" / checkpoint.STATE).unlink()
    heard = []
    found = checkpoint.latest(tmp_path, lambda path, why: heard.append((path.name, why)))
    assert found.name == "step-000000001"
    assert [name for name, _ in heard] == ["step-000000003", "step-000000002"]
    assert "20 bytes" in heard[0][1]


@pytest.mark.parametrize("name", [checkpoint.TENSORS, checkpoint.STATE, checkpoint.MANIFEST])
def test_no_byte_can_be_changed_or_lost_unseen(tmp_path, name):
    path = checkpoint.save(tmp_path, 1, tensors=tensors(), state={"loss": 1.5})
    whole = (path / name).read_bytes()
    before = checkpoint.load(path)
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        for spoiled in (whole[:at], whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]):
            (path / name).write_bytes(spoiled)
            found = checkpoint.latest(tmp_path)
            if found is None:
                refused(path)
            else:  # what the manifest says besides sizes and hashes
                after = checkpoint.load(path)
                assert name == checkpoint.MANIFEST
                assert same(after[0], before[0])
                assert after[1] == before[1]


def forged(folder: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    path = checkpoint.save(folder, 1, tensors={}, state={})
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    (path / checkpoint.TENSORS).write_bytes(struct.pack("<Q", len(head) if length is None else length) + head + data)
    vouch(path)
    return path


def entry(dtype: object = "U8", shape: object = (4,), offsets: object = (0, 4)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_a_forged_file_that_is_as_it_should_be_is_read(tmp_path):
    """What the next test changes."""
    assert checkpoint.load(forged(tmp_path, {"a": entry()}, b"abcd"))[0]["a"].tolist() == list(b"abcd")


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry(offsets=(0, 5))},
        {"a": entry(shape=(2**62, 4))},
        {"a": entry(shape=(2**40,), offsets=(0, 2**40))},
        {"a": entry(shape=(-4,))},
        {"a": entry(shape=(True, 4))},
        {"a": entry(shape=4)},
        {"a": entry(shape=(1,) * 65 + (4,))},
        {"a": entry(shape=(1,) * 100_000)},
        {"a": entry(offsets=(-4, 0))},
        {"a": entry(offsets=(4, 0))},
        {"a": entry(offsets=())},
        {"a": entry(offsets=(0, 1, 4))},
        {"a": entry(dtype="OBJECT")},
        {"a": entry(dtype=["U8"])},
        {"a": entry(dtype="BOOL")},
        {"a": entry(dtype="F64")},
        {"a": entry(), "b": entry()},
        {"a": entry(shape=(3,), offsets=(0, 3))},
        {"a": entry(shape=(3,), offsets=(1, 4))},
        {"a": entry(), "b": entry(shape=(2**40, 2**40, 0), offsets=(4, 4))},
        {"../../a": entry(), "": entry()},
        {"a\n": entry()},
        {"a": None},
        {"a": [entry()]},
        [entry()],
        {},
        b'{"a": {}, "a": {}}',
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b"\xff\xfe{}",
        b'{"a": {"dtype": "U8", "shape": [' + b"9" * 10_000 + b'], "data_offsets": [0, 4]}}',
        b"",
    ],
    ids=lambda header: str(header)[:60],
)
def test_a_hostile_header_is_refused(tmp_path, header):
    assert checkpoint.TENSORS in refused(forged(tmp_path, header, b"abcd"))


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**63, 2**64 - 1])
def test_a_header_that_lies_about_its_length_is_refused_before_it_is_read(tmp_path, length):
    refused(forged(tmp_path, {"a": entry()}, b"abcd", length=length))


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=200))
def test_no_content_whatever_gets_anything_but_an_answer(content, tmp_path_factory):
    path = checkpoint.save(tmp_path_factory.mktemp("any"), 1, tensors={}, state={})
    for name in (checkpoint.TENSORS, checkpoint.STATE):
        (path / name).write_bytes(content)
    vouch(path)
    with contextlib.suppress(RunFailed):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"format": 2}',
        b'{"format": 1, "files": {"../../secret": {"bytes": 1, "sha256": "0"}}}',
        b'{"format": 1, "files": {"tensors.safetensors": {}, "state.json": {}}}',
        b'{"format": 1, "files": {"tensors.safetensors": {"bytes": -1, "sha256": ""}, "state.json": []}}',
        b"{" * 60_000,
        b" " * 70_000 + b"{}",
    ],
    ids=lambda manifest: str(manifest)[:60],
)
def test_a_hostile_manifest_is_refused(tmp_path, manifest):
    path = checkpoint.save(tmp_path, 1, tensors={}, state={})
    (path / checkpoint.MANIFEST).write_bytes(manifest)
    assert checkpoint.MANIFEST in refused(path)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    path = checkpoint.save(tmp_path, 1, tensors={}, state={})
    os.truncate(path / checkpoint.STATE, 2**40)  # sparse: it takes no room
    assert "at most" in refused(path)
    path = checkpoint.save(tmp_path, 1, tensors=tensors(), state={})
    with pytest.raises(RunFailed, match="at most"):
        checkpoint.load(path, most_bytes=100)


@pytest.mark.parametrize("name", [checkpoint.TENSORS, checkpoint.STATE, checkpoint.MANIFEST])
def test_links_and_pipes_are_not_followed(tmp_path, name):
    path = checkpoint.save(tmp_path / "mine", 1, tensors={}, state={})
    (path / name).rename(tmp_path / "elsewhere")
    (path / name).symlink_to(tmp_path / "elsewhere")
    assert name in refused(path)
    (path / name).unlink()
    os.mkfifo(path / name)
    assert "plain file" in refused(path)


def test_a_checkpoint_that_is_a_link_is_refused_and_never_latest(tmp_path):
    path = checkpoint.save(tmp_path / "other", 9, tensors={}, state={})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "step-000000009").symlink_to(path)
    assert "link" in refused(tmp_path / "mine" / "step-000000009")
    assert checkpoint.latest(tmp_path / "mine") is None


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


@pytest.mark.parametrize("name", ["model.pt", "last.ckpt", "model.bin", "weights"])
def test_a_pickle_is_not_opened_and_the_refusal_says_why(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    assert "run whatever code" in refused(tmp_path / name)
    folder = checkpoint.save(tmp_path / "forged", 1, tensors={}, state={})
    for part in (checkpoint.TENSORS, checkpoint.STATE):
        (folder / part).write_bytes(pickle.dumps(Bomb()))
    vouch(folder)
    refused(folder)
    assert not (tmp_path / "exploded").exists()


def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path):
    assert "not there" in refused(tmp_path / "never")
    (tmp_path / "notes.txt").write_text("hello")
    assert "no checkpoint" in refused(tmp_path / "notes.txt")
    assert checkpoint.MANIFEST in refused(tmp_path)


# --- optimisers and random numbers ---------------------------------------------------------------------------------


def trained(make: Callable, steps: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = make(model)
    go_on(model, optimizer, range(steps))
    return model, optimizer


def go_on(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        batch = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()


OPTIMISERS = {
    "AdamW": lambda model: torch.optim.AdamW(model.parameters(), lr=0.1 / 3),
    "AdamW in two groups": lambda model: torch.optim.AdamW(
        [{"params": model[0].parameters(), "lr": 1e-3}, {"params": model[2].parameters(), "weight_decay": 0.0}],
        amsgrad=True,
    ),
    "AdamW with its rate in a tensor": lambda model: torch.optim.AdamW(
        model.parameters(), lr=torch.tensor(1e-2), foreach=False
    ),
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
    "SGD with momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_an_optimiser_goes_on_bit_for_bit(tmp_path, kind):
    make = OPTIMISERS[kind]
    straight, _ = trained(make, 7)
    model, optimizer = trained(make, 4)
    known, state = checkpoint.optimizer_tensors(optimizer)
    path = checkpoint.save(tmp_path, 4, tensors=known | model.state_dict(), state={"optimizer": state})

    found, told = checkpoint.load(path)
    model, optimizer = trained(make, 0)
    model.load_state_dict({name: tensor for name, tensor in found.items() if not name.startswith("optimizer.")})
    checkpoint.restore_optimizer(optimizer, found, told["optimizer"])
    go_on(model, optimizer, range(4, 7))
    assert same(dict(straight.state_dict()), dict(model.state_dict()))


def test_an_optimiser_of_another_model_is_refused():
    _, optimizer = trained(OPTIMISERS["AdamW"], 1)
    known, state = checkpoint.optimizer_tensors(optimizer)
    other = torch.optim.AdamW(torch.nn.Linear(5, 5).parameters())
    wider = torch.optim.AdamW(
        torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.Tanh(), torch.nn.Linear(9, 1)).parameters()
    )
    for each in (other, wider):
        with pytest.raises(RunFailed) as told:
            checkpoint.restore_optimizer(each, known, state)
        assert told.value.kind is Failure.CHECKPOINT_CORRUPT


@pytest.mark.parametrize(
    ("extra", "state"),
    [
        ({"optimizer.state.x.exp_avg": torch.zeros(1)}, {}),
        ({"optimizer.state.99.exp_avg": torch.zeros(1)}, {}),
        ({"optimizer.group.7.lr": torch.zeros(())}, {}),
        ({}, {"groups": []}),
        ({}, {"groups": [{}]}),
        ({}, {"groups": None}),
        ({}, {"scalars": [1]}),
        ({}, {"scalars": {"99": {}}}),
    ],
)
def test_an_optimiser_that_makes_no_sense_is_refused(extra, state):
    _, optimizer = trained(OPTIMISERS["AdamW"], 1)
    known, told = checkpoint.optimizer_tensors(optimizer)
    with pytest.raises(RunFailed) as refusal:
        checkpoint.restore_optimizer(optimizer, known | extra, told | state)
    assert refusal.value.kind is Failure.CHECKPOINT_CORRUPT


def drawn() -> list[float]:
    return [random.random(), random.gauss(0, 1), *np.random.randn(3).tolist(), *torch.randn(3).tolist()]


def test_random_numbers_go_on_where_they_stood(tmp_path):
    random.gauss(0, 1)
    np.random.randn()  # both keep the second of a pair for later
    known, state = checkpoint.rng_state()
    path = checkpoint.save(tmp_path, 1, tensors=known, state=state)
    expected = drawn()
    assert drawn() != expected
    checkpoint.restore_rng(*checkpoint.load(path))
    assert drawn() == expected


@pytest.mark.parametrize(
    ("tensor", "value"),
    [
        ("rng.python", torch.zeros(3, dtype=torch.int64)),
        ("rng.python", torch.full((625,), -1)),
        ("rng.numpy", torch.zeros(3)),
        ("rng.torch", torch.zeros(3, dtype=torch.uint8)),
        ("rng.torch", torch.full((5056,), 255, dtype=torch.uint8)),
        ("rng.torch", torch.zeros(5056)),
    ],
)
def test_random_numbers_that_make_no_sense_are_refused(tensor, value):
    known, state = checkpoint.rng_state()
    far = state | {"numpy": state["numpy"] | {"position": 10**6}}
    with pytest.raises(RunFailed):
        checkpoint.restore_rng(known, far)
    with pytest.raises(RunFailed) as told:
        checkpoint.restore_rng(known | {tensor: value}, state)
    assert told.value.kind is Failure.CHECKPOINT_CORRUPT
    checkpoint.restore_rng(known, state)
