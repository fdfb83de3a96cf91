"""What series of monitoring systems mean: which resource, of what, how full."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from app.domain.signal import Series
from detectors.trends import clean

MOST_SERIES = 500
MOST_LABELS, LONGEST_LABEL = 8, 120
MIB = float(1 << 20)

# What the name of a series says: the resource, whether it tells what is used, free, the size, the used part or a plain
# quantity, and the factor to bytes, seconds or a part of 1. Names as their exporters have them, our own first.
NAMES: Mapping[str, tuple[str, str, float]] = {
    "gpu_memory_used_bytes": ("gpu_memory", "used", 1.0),
    "gpu_memory_used_ratio": ("gpu_memory", "part", 1.0),
    "DCGM_FI_DEV_FB_USED": ("gpu_memory", "used", MIB),  # dcgm-exporter
    "DCGM_FI_DEV_FB_FREE": ("gpu_memory", "free", MIB),
    "DCGM_FI_DEV_FB_TOTAL": ("gpu_memory", "size", MIB),
    "nvidia_smi_memory_used_bytes": ("gpu_memory", "used", 1.0),  # nvidia_gpu_exporter
    "nvidia_smi_memory_total_bytes": ("gpu_memory", "size", 1.0),
    "host_memory_used_bytes": ("host_memory", "used", 1.0),
    "host_memory_used_ratio": ("host_memory", "part", 1.0),
    "node_memory_MemAvailable_bytes": ("host_memory", "free", 1.0),  # node_exporter
    "node_memory_MemTotal_bytes": ("host_memory", "size", 1.0),
    "container_memory_working_set_bytes": ("host_memory", "used", 1.0),  # cAdvisor
    "container_spec_memory_limit_bytes": ("host_memory", "size", 1.0),
    "disk_used_bytes": ("disk", "used", 1.0),
    "disk_used_ratio": ("disk", "part", 1.0),
    "node_filesystem_avail_bytes": ("disk", "free", 1.0),
    "node_filesystem_size_bytes": ("disk", "size", 1.0),
    "kubelet_volume_stats_used_bytes": ("disk", "used", 1.0),
    "kubelet_volume_stats_available_bytes": ("disk", "free", 1.0),
    "kubelet_volume_stats_capacity_bytes": ("disk", "size", 1.0),
    "shared_memory_used_bytes": ("shared_memory", "used", 1.0),
    "shared_memory_used_ratio": ("shared_memory", "part", 1.0),
    "file_handles_used": ("file_handles", "used", 1.0),
    "file_handles_used_ratio": ("file_handles", "part", 1.0),
    "process_open_fds": ("file_handles", "used", 1.0),
    "process_max_fds": ("file_handles", "size", 1.0),
    "node_filefd_allocated": ("file_handles", "used", 1.0),
    "node_filefd_maximum": ("file_handles", "size", 1.0),
    "error_ratio": ("error_rate", "plain", 1.0),
    "error_percent": ("error_rate", "plain", 0.01),
    "latency_seconds": ("latency", "plain", 1.0),
    "latency_ms": ("latency", "plain", 0.001),
    "queue_wait_seconds": ("queue_wait", "plain", 1.0),
    "circuit_breaker_open": ("breaker", "plain", 1.0),
}
# Names that teams make themselves, such as `checkout_error_ratio`, by their end.
ENDINGS: tuple[str, ...] = (
    "error_ratio",
    "error_percent",
    "latency_seconds",
    "latency_ms",
    "queue_wait_seconds",
    "circuit_breaker_open",
)
UNITS = {"latency": "s", "queue_wait": "s", "breaker": ""}  # others are parts of 1

# Labels that name a build or a hash, and not what is meant.
_NOISE = frozenset(
    ("__name__", "id", "image", "fstype", "driver_version", "modelName", "DCGM_FI_DRIVER_VERSION", "pci_bus_id")
)
# File systems that are full by nature, or show another one's space a second time.
_NOT_DISKS = frozenset(("squashfs", "iso9660", "erofs", "overlay", "tmpfs", "devtmpfs", "ramfs", "nsfs", "autofs"))
_SHARED = "/dev/shm"  # noqa: S108 - a name to compare with


@dataclass(frozen=True, slots=True)
class Level:
    """One resource of one thing over time. `points` are parts of 1 where `size` is known or the series says so, else
    plain quantities. `size` is in bytes or handles, None if unknown."""

    resource: str
    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]
    size: float | None = None

    @property
    def subject(self) -> str:
        return named(self.resource, self.labels)


_LEAST_SIZE = 1e-3  # of anything that can fill up: less is a mistake of whoever tells it


def named(what: str, labels: Mapping[str, str]) -> str:
    """`disk (instance node-1, mountpoint /data)`: equal for equal labels, in whatever order."""
    told = sorted((name, value) for name, value in labels.items() if name not in _NOISE and value)
    words = ", ".join(f"{name[:LONGEST_LABEL]} {value[:LONGEST_LABEL]}" for name, value in told[:MOST_LABELS])
    if len(told) > MOST_LABELS or any(len(part) > LONGEST_LABEL for pair in told for part in pair):
        words += f", {hashlib.sha256(repr(told).encode()).hexdigest()[:8]}"
    return f"{what} ({words})" if words else what


def short(labels: Mapping[str, str]) -> dict[str, str]:
    """As facts keep them: the first 20, each at most 120 characters."""
    return {name[:LONGEST_LABEL]: value[:LONGEST_LABEL] for name, value in list(labels.items())[:20]}


def levels(series: Iterable[Series]) -> Iterator[Level]:
    """Each resource that these series tell of. What they use and how much there is are brought together by labels."""
    together: dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, Series]] = defaultdict(dict)
    for one in list(series)[:MOST_SERIES]:
        meaning = _meaning(one)
        if meaning is None:
            continue
        resource, role, factor = meaning
        points = tuple((at, value * factor) for at, value in clean(one.points))
        if not points:
            continue
        limit = one.limit * factor if one.limit is not None else None
        key = tuple(sorted((name, value) for name, value in one.labels.items() if name not in _NOISE))
        if role == "plain":  # told by its own name, since a service may send two latencies
            key = (*key, ("series", one.name)) if one.name not in NAMES else key
        together[resource, key][role] = Series(one.name, points, one.labels, limit)
    for (resource, key), roles in together.items():
        level = _level(resource, dict(key), roles)
        if level is not None:
            yield level


def _meaning(series: Series) -> tuple[str, str, float] | None:
    found = NAMES.get(series.name)
    if found is None:
        ending = next((end for end in ENDINGS if series.name.endswith(f"_{end}")), None)
        return NAMES[ending] if ending else None
    if found[0] == "disk":
        if series.labels.get("mountpoint") == _SHARED:
            return ("shared_memory", *found[1:])
        if series.labels.get("fstype") in _NOT_DISKS:
            return None
    return found


def _level(resource: str, labels: Mapping[str, str], roles: Mapping[str, Series]) -> Level | None:
    if "plain" in roles:
        return Level(resource, labels, roles["plain"].points)
    if "part" in roles:
        return Level(resource, labels, roles["part"].points)
    used, free, size = (roles.get(role) for role in ("used", "free", "size"))
    whole = size.points[-1][1] if size else None
    if whole is None and used is not None:
        whole = used.limit
        if whole is None and free is not None:
            whole = used.points[-1][1] + free.points[-1][1]
    if whole is None and free is not None:
        whole = free.limit
    if whole is None or whole < _LEAST_SIZE:  # cAdvisor tells 0 of a container without a limit
        return None
    if used is not None:
        return Level(resource, labels, tuple((at, value / whole) for at, value in used.points), whole)
    if free is not None:
        return Level(resource, labels, tuple((at, 1 - value / whole) for at, value in free.points), whole)
    return None
