"""The workloads that there are, by name. A module is imported when its workload is asked for."""

import difflib
from importlib.metadata import EntryPoint, entry_points

from workloads.contract import Failure, RunFailed, Verb, Workload

GROUP = "heal.workloads"  # of entry points: a team's own, `name = "package:WORKLOAD"`
BUILTIN = {"av_separation": EntryPoint("av_separation", "workloads.av_separation:WORKLOAD", GROUP)}


def names() -> tuple[str, ...]:
    """The bundled ones first."""
    return (*BUILTIN, *sorted(entry_points(group=GROUP).names - BUILTIN.keys()))


def find(name: str) -> Workload:
    """Raises RunFailed."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names())}"
        raise RunFailed(Failure.BAD_SETTING, f"there is no workload {name[:100]!r}; {hint}")
    entry = BUILTIN.get(name) or next(iter(entry_points(group=GROUP, name=name)))
    try:
        workload: Workload = entry.load()
    except (ImportError, AttributeError) as error:
        raise RunFailed(Failure.NOT_INSTALLED, f"the workload {name} cannot be loaded: {error}") from error
    return workload


def verb(workload: Workload, name: str) -> Verb:
    """Raises RunFailed."""
    found = workload.verbs.get(name)
    if found is None:
        can = ", ".join(workload.verbs)
        raise RunFailed(Failure.BAD_SETTING, f"{workload.name} cannot {name[:100]!r}; it can {can}")
    return found
