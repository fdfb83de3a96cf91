"""Checkpoints: what a run needs to go on, kept so that neither a kill nor a full disk nor a stranger's file does harm.

    folder/step-000000120/tensors.safetensors   weights, optimiser, random number generators
                          state.json            everything else
                          manifest.json         the size and the SHA-256 of the two

A checkpoint is written as a draft beside the others, synced and renamed: under its name it is whole or not there. A
folder has one writer at a time. Nothing is ever unpickled: the tensors are read as the safetensors format defines them
(https://github.com/huggingface/safetensors#format), by this module, so that what is hashed is what is used, one tensor
at a time and never twice in memory; a mapped file could be cut short under the reader.
"""

import errno
import hashlib
import json
import math
import os
import random
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import numpy as np
import torch

from workloads.contract import Failure, RunFailed

TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
FORMAT = 1
MOST_HEADER = 16 * 1024**2
MOST_STATE = 64 * 1024**2
MOST_MANIFEST = 64 * 1024
MOST_BYTES = 256 * 1024**3
DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
Tensors = dict[str, torch.Tensor]
State = dict[str, Any]

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_STEP = re.compile(r"step-(\d{9,18})(\.replaced)?")
_DRAFT = ".draft-"
_TENSOR = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./:-]{0,299}")
_HASH = re.compile(r"[0-9a-f]{64}")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CHUNK = 16 * 1024**2
_PICKLED = frozenset({".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin"})


# --- saving --------------------------------------------------------------------------------------------------------


def save(
    folder: Path, step: int, *, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any], keep: int = 3
) -> Path:
    """Keep a checkpoint, and of the older ones the `keep` - 1 newest and the newest whose state says `"best": True`.

    `state` is what JSON can hold; the tensors may be on any device and share memory. Raises RunFailed(DISK_FULL), and
    then the older ones are as they were.
    """
    for name, tensor in tensors.items():
        if not _TENSOR.fullmatch(name) or tensor.dtype not in _NAMES:
            raise ValueError(f"a checkpoint cannot hold {name!r} of {tensor.dtype}")
    told = json.dumps(state).encode()
    if len(told) > MOST_STATE:
        raise ValueError(f"the state is {len(told)} bytes of JSON: arrays belong to the tensors")
    final = folder / f"step-{step:09d}"
    draft = folder / f"{_DRAFT}{final.name}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clean(folder)
        draft.mkdir()
        files = {TENSORS: _write_tensors(draft / TENSORS, tensors), STATE: _write(draft / STATE, told)}
        manifest = {"format": FORMAT, "step": step, "best": state.get("best") is True, "files": files}
        _write(draft / MANIFEST, json.dumps(manifest).encode())
        _sync(draft)
        _put(draft, final)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        shutil.rmtree(draft, ignore_errors=True)
        free = shutil.disk_usage(folder).free if folder.is_dir() else 0
        needed = sum(tensor.nbytes for tensor in tensors.values()) + len(told)
        raise RunFailed(
            Failure.DISK_FULL,
            f"the checkpoint of step {step} needs {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free where "
            f"{folder} is: make room, or keep fewer checkpoints",
            facts={"needed_bytes": needed, "free_bytes": free},
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _thin_out(folder, step, keep)
    return final


def _put(draft: Path, final: Path) -> None:
    """Rename; one that stands there already is put aside under a name that `latest` knows."""
    aside = final.with_name(f"{final.name}.replaced")
    if final.exists() or final.is_symlink():
        _remove(aside)
        final.rename(aside)
    draft.rename(final)
    _sync(final.parent)
    _remove(aside)


def _thin_out(folder: Path, step: int, keep: int) -> None:
    """Only what looks whole counts. Later steps are of another run in this folder: they are left alone."""
    older = [(at, path) for at, path in _found(folder) if at < step]
    told = {path: _glance(path) for _, path in older}
    whole = [path for _, path in older if told[path] is not None]
    kept = {*whole[: max(0, keep - 1)], *[path for path in whole if (told[path] or {}).get("best") is True][:1]}
    for _, path in older:
        if path not in kept:
            _remove(path)


def _remove(path: Path) -> None:
    """First out of sight, then away: half a checkpoint is never seen."""
    draft = path.with_name(f"{_DRAFT}{path.name}-{secrets.token_hex(4)}")
    try:
        path.rename(draft)
    except OSError:
        return
    _discard(draft)


def _clean(folder: Path) -> None:
    """Drafts of a writer that was killed."""
    for path in folder.glob(f"{_DRAFT}*"):
        _discard(path)


def _discard(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The widest first, as the format's own library does, so that every tensor lies aligned."""
    header: dict[str, Any] = {}
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    if len(head) > MOST_HEADER:
        raise ValueError(f"{len(tensors)} tensors are more than a checkpoint holds")

    def parts() -> Iterator[bytes | memoryview]:
        yield len(head).to_bytes(8, "little") + head
        for name in names:
            whole = memoryview(_bytes_of(tensors[name].detach().cpu().contiguous()))
            for at in range(0, len(whole), _CHUNK):
                yield whole[at : at + _CHUNK]

    return _write_parts(path, parts())


def _bytes_of(tensor: torch.Tensor) -> Any:
    """The memory of a contiguous tensor, as an array of bytes."""
    return tensor.reshape(-1).view(torch.uint8).numpy()


def _write(path: Path, content: bytes) -> dict[str, Any]:
    return _write_parts(path, iter([content]))


def _write_parts(path: Path, parts: Iterator[bytes | memoryview]) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("xb", buffering=0) as file:
        for part in parts:
            rest = memoryview(part)
            digest.update(rest)
            size += len(rest)
            while rest:
                rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    return {"bytes": size, "sha256": digest.hexdigest()}


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- finding -------------------------------------------------------------------------------------------------------


def latest(folder: Path, passed_over: Callable[[Path, str], None] | None = None) -> Path | None:
    """The newest checkpoint whose hashes are right. `passed_over` hears of every newer one that is broken, and why."""
    for _, path in _found(folder):
        try:
            _check(path)
        except RunFailed as broken:
            if passed_over:
                passed_over(path, str(broken))
        else:
            return path
    return None


def _found(folder: Path) -> list[tuple[int, Path]]:
    """Step and path, the newest first."""
    names = [(_STEP.fullmatch(path.name), path) for path in folder.iterdir()] if folder.is_dir() else []
    found = sorted(((int(name[1]), name[2] is None, path) for name, path in names if name), reverse=True)
    return [(step, path) for step, _, path in found]


def _glance(path: Path) -> State | None:
    """The manifest, where the files have the sizes it tells; not their hashes, which take long."""
    try:
        with _opened(path) as folder:
            manifest = _manifest(folder)
            for name, told in manifest["files"].items():
                with _file(folder, name, MOST_BYTES) as file:
                    if os.fstat(file.fileno()).st_size != told["bytes"]:
                        return None
    except RunFailed:
        return None
    return manifest


def _check(path: Path) -> None:
    """Raises RunFailed where a file is not what the manifest says."""
    with _opened(path) as folder:
        for name, told in _manifest(folder)["files"].items():
            with _file(folder, name, MOST_BYTES) as file:
                digest = hashlib.sha256()
                buffer = bytearray(min(_CHUNK, told["bytes"] + 1))
                left = _size(file, name, told)
                while left:
                    count = file.readinto(memoryview(buffer)[: min(left, len(buffer))])
                    if not count:
                        raise _corrupt(f"{name} ends too early")
                    digest.update(memoryview(buffer)[:count])
                    left -= count
            if digest.hexdigest() != told["sha256"]:
                raise _corrupt(f"{name} is not what was written: its SHA-256 differs from the manifest's")


# --- loading -------------------------------------------------------------------------------------------------------


def load(path: Path, most_bytes: int = MOST_BYTES) -> tuple[Tensors, State]:
    """The tensors, on the CPU, and the state of the checkpoint `path`. Raises RunFailed(CHECKPOINT_CORRUPT).

    It is a stranger's until the hashes agree: sizes are told and bounded before anything is read, and a link is
    followed nowhere below `path`. That the hashes agree says that it is whole, not who wrote it.
    """
    with _opened(path) as folder:
        files = _manifest(folder)["files"]
        with _file(folder, STATE, MOST_STATE) as file:
            told = file.read(_size(file, STATE, files[STATE]))
        if hashlib.sha256(told).hexdigest() != files[STATE]["sha256"]:
            raise _corrupt(f"{STATE} is not what was written: its SHA-256 differs from the manifest's")
        state = _object(told, STATE)
        with _file(folder, TENSORS, most_bytes) as file:
            tensors = _read_tensors(file, _size(file, TENSORS, files[TENSORS]), files[TENSORS]["sha256"])
    return tensors, state


def _read_tensors(file: BinaryIO, size: int, sha256: str) -> Tensors:
    first = file.read(8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > min(MOST_HEADER, size - 8):
        raise _corrupt(f"{TENSORS}: a header of {length} bytes in a file of {size}")
    head = file.read(length)
    digest = hashlib.sha256(first + head)
    laid = _layout(_object(head, TENSORS), size - 8 - length)
    found: Tensors = {}
    for name, dtype, shape in laid:
        try:
            tensor = found[name] = torch.empty(shape, dtype=dtype)
        except RuntimeError as error:  # no element, and yet sizes whose product is none
            raise _corrupt(f"{TENSORS}: there is no tensor of the shape of {name}") from error
        rest = memoryview(_bytes_of(tensor))
        while len(rest):
            count = file.readinto(rest[:_CHUNK])  # type: ignore[attr-defined]  # a raw file has it
            if not count:
                raise _corrupt(f"{TENSORS} ends too early")
            digest.update(rest[:count])
            rest = rest[count:]
        if dtype is torch.bool and tensor.numel() and int(tensor.view(torch.uint8).max()) > 1:
            raise _corrupt(f"{TENSORS}: {name} is to be true or false, and is neither")
    if digest.hexdigest() != sha256:
        raise _corrupt(f"{TENSORS} is not what was written: its SHA-256 differs from the manifest's")
    return found


def _layout(header: State, size: int) -> list[tuple[str, torch.dtype, list[int]]]:
    """What lies in the file, in its order, without a gap: name, type and shape."""
    header.pop("__metadata__", None)
    laid: list[tuple[int, int, str, torch.dtype, list[int]]] = []
    for name, told in header.items():
        told = told if isinstance(told, dict) else {}
        dtype, shape, offsets = DTYPES.get(str(told.get("dtype"))), told.get("shape"), told.get("data_offsets")
        if not _TENSOR.fullmatch(name) or not dtype or not _counts(shape, 64) or not _counts(offsets, 2) or not offsets:
            raise _corrupt(f"{TENSORS}: {name[:100]!r} is described in a way that is not understood")
        laid.append((offsets[0], offsets[-1], name, dtype, shape))
    end = 0
    for start, stop, name, dtype, shape in sorted(laid, key=lambda each: each[:3]):
        if start != end or stop - start != math.prod(shape) * dtype.itemsize:
            raise _corrupt(f"{TENSORS}: {name} does not lie where it should")
        end = stop
    if end != size:
        raise _corrupt(f"{TENSORS} holds {size} bytes, and {end} are described")
    return [(name, dtype, shape) for _, _, name, dtype, shape in sorted(laid, key=lambda each: each[:3])]


def _counts(told: Any, most: int) -> TypeGuard[list[int]]:
    """A list of sizes, small enough that their product is quickly found."""
    return (
        isinstance(told, list)
        and len(told) <= most
        and all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 2**48 for each in told)
    )


def _manifest(folder: int) -> State:
    with _file(folder, MANIFEST, MOST_MANIFEST) as file:
        told = _object(file.read(MOST_MANIFEST), MANIFEST)
    if told.get("format") != FORMAT:
        raise _corrupt(f"{MANIFEST} is of format {str(told.get('format'))[:20]!r}, and {FORMAT} is what is read here")
    files = told.get("files")
    if not isinstance(files, dict) or set(files) != {TENSORS, STATE}:
        raise _corrupt(f"{MANIFEST} does not tell of {TENSORS} and {STATE}")
    for each in files.values():
        good = isinstance(each, dict) and _counts([each.get("bytes")], 1)
        if not good or not isinstance(each.get("sha256"), str) or not _HASH.fullmatch(each["sha256"]):
            raise _corrupt(f"{MANIFEST} tells sizes or hashes that are none")
    return told


def _object(content: bytes, name: str) -> State:
    try:
        found = json.loads(content.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _corrupt(f"{name} cannot be read: it is no JSON, or nested too deep, or names a thing twice") from error
    if not isinstance(found, dict):
        raise _corrupt(f"{name} is no object of JSON")
    return found


def _once(pairs: list[tuple[str, Any]]) -> State:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A handle of the checkpoint's folder, for what is opened in it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _corrupt(_why_not(path)) from error
    try:
        yield handle
    except RunFailed as broken:
        if broken.kind is Failure.CHECKPOINT_CORRUPT:
            broken.facts.setdefault("checkpoint", str(path))
        raise
    finally:
        os.close(handle)


def _why_not(path: Path) -> str:
    if path.is_symlink():
        return f"{path} is a link, and a checkpoint is read only where it lies"
    if not path.exists():
        return f"{path} is not there"
    if path.suffix.lower() in _PICKLED or _is_pickle(path):
        return (
            f"{path} is not opened: files of this kind are pickles, and to unpickle is to run whatever code their "
            f"writer put in. A checkpoint is a folder with {TENSORS}, {STATE} and {MANIFEST}"
        )
    return f"{path} is no checkpoint: that is a folder with {TENSORS}, {STATE} and {MANIFEST}"


def _is_pickle(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    except OSError:
        return False


@contextmanager
def _file(folder: int, name: str, most: int) -> Iterator[Any]:
    """A plain file of the folder, unbuffered. Links, pipes and devices are refused, and what is too large."""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise _corrupt(f"{name} cannot be opened: {error.strerror}") from error
    with os.fdopen(handle, "rb", buffering=0) as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise _corrupt(f"{name} is no plain file")
        if found.st_size > most:
            raise _corrupt(f"{name} has {found.st_size} bytes, and at most {most} are read")
        try:
            yield file
        except OSError as error:
            raise _corrupt(f"{name} cannot be read: {error.strerror}") from error


def _size(file: BinaryIO, name: str, told: Mapping[str, Any]) -> int:
    size = os.fstat(file.fileno()).st_size
    if size != told["bytes"]:
        raise _corrupt(f"{name} has {size} bytes, and {told['bytes']} were written")
    return size


def _corrupt(why: str) -> RunFailed:
    return RunFailed(Failure.CHECKPOINT_CORRUPT, why)


# --- optimisers ----------------------------------------------------------------------------------------------------


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[Tensors, State]:
    """What an optimiser knows, as tensors named `optimizer.…` and JSON: for each parameter in the order of its groups,
    and of each group its settings."""
    whole = optimizer.state_dict()
    tensors: Tensors = {}
    scalars: dict[str, State] = {}
    for index, known in whole["state"].items():
        for key, value in known.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.state.{index}.{key}"] = value
            else:
                scalars.setdefault(str(index), {})[key] = value
    groups = []
    for number, group in enumerate(whole["param_groups"]):
        groups.append({key: value for key, value in group.items() if not isinstance(value, torch.Tensor)})
        found = {key: value for key, value in group.items() if isinstance(value, torch.Tensor)}
        tensors |= {f"optimizer.group.{number}.{key}": value for key, value in found.items()}
    return tensors, {"groups": groups, "scalars": scalars}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]
) -> None:
    """The inverse, bit for bit, for an optimiser of the same kind with the same parameters in the same groups. Other
    tensors may stand among `tensors`. Raises RunFailed(CHECKPOINT_CORRUPT) where it does not fit."""
    now = optimizer.state_dict()
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    try:
        groups = [dict(group) for group in state["groups"]]
        known: dict[int, State] = {int(index): dict(of) for index, of in state["scalars"].items()}
        for name, tensor in tensors.items():
            kind, _, rest = name.removeprefix("optimizer.").partition(".")
            number, _, key = rest.partition(".")
            if not name.startswith("optimizer."):
                continue
            if kind == "group":
                groups[int(number)][key] = tensor
                continue
            known.setdefault(int(number), {})[key] = tensor
            if tensor.ndim and tensor.shape != parameters[int(number)].shape:
                raise _corrupt(f"{name} is {list(tensor.shape)}, of another shape than its parameter")
        for group, was in zip(groups, now["param_groups"], strict=True):
            if group["params"] != was["params"]:
                raise _corrupt("the optimiser of the checkpoint has other groups of parameters")
            tuples = {key for key, value in was.items() if isinstance(value, tuple)}  # JSON knows lists only
            group |= {key: tuple(group[key]) for key in tuples & set(group)}
            group |= {key: value for key, value in was.items() if key not in group}  # what a newer torch has added
        if not set(known) <= {index for group in groups for index in group["params"]}:
            raise _corrupt("the optimiser of the checkpoint knows parameters that there are not")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise _corrupt(f"the optimiser of the checkpoint does not fit this one: {error!r:.200}") from error
    # A copy: load_state_dict keeps tensors that need no conversion, and the optimiser writes into them.
    copied = {index: {key: _copy(value) for key, value in of.items()} for index, of in known.items()}
    optimizer.load_state_dict({"state": copied, "param_groups": groups})


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


# --- random numbers ------------------------------------------------------------------------------------------------


def rng_state() -> tuple[Tensors, State]:
    """Where the generators of random, numpy, torch and every CUDA device of this process stand: tensors named `rng.…`
    and JSON. CUDA that this process does not use is not woken."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    tensors = {
        "rng.python": torch.tensor(numbers, dtype=torch.int64),
        "rng.numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "rng.torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        tensors |= {f"rng.cuda.{index}": of for index, of in enumerate(torch.cuda.get_rng_state_all())}
    return tensors, {
        "python": {"version": version, "gauss": gauss},
        "numpy": {"name": name, "position": int(position), "has_gauss": int(has_gauss), "cached": float(cached)},
    }


def restore_rng(tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    """The inverse. Devices that are here but not in the checkpoint, or the other way round, are left out. Raises
    RunFailed(CHECKPOINT_CORRUPT)."""
    try:
        python, numbers = state["python"], state["numpy"]
        random.setstate((python["version"], tuple(tensors["rng.python"].tolist()), python["gauss"]))
        keys = tensors["rng.numpy"].numpy().astype(np.uint32)
        if keys.shape != (624,) or not 0 <= numbers["position"] <= 624:  # numpy believes it
            raise ValueError("no state of MT19937")  # noqa: TRY301
        np.random.set_state((numbers["name"], keys, numbers["position"], numbers["has_gauss"], numbers["cached"]))
        torch.set_rng_state(tensors["rng.torch"])
        for index in range(torch.cuda.device_count() if "rng.cuda.0" in tensors else 0):
            if f"rng.cuda.{index}" in tensors:
                torch.cuda.set_rng_state(tensors[f"rng.cuda.{index}"], index)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise _corrupt(f"the random numbers of the checkpoint cannot be restored: {error!r:.200}") from error
