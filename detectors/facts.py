"""The typed facts of a cause, as the lines around its root tell them, and what of them names it."""

from collections.abc import Mapping, Sequence
from typing import Any

import re2

from app.domain.template import template
from detectors.lines import Line
from detectors.signatures import Knowledge, Signature, fact_name

LINES_BEFORE, LINES_AFTER = 40, 30
FACT_CHARACTERS, LISTED = 400, 60
SHOWN_CHARACTERS = 120

_BYTES = re2.compile(r"(?i)(\d+(?:\.\d+)?) ?([KMGTP]?)i?B")
_NUMBER = re2.compile(r"\d+(?:\.\d+)?")
_CHECKOUT = re2.compile(r"^(?:/.*?/work/[^/]+/[^/]+/|/__w/[^/]+/[^/]+/|/github/workspace/|\./)")
_INTEGERS = frozenset(
    (
        *("http_status", "status", "line", "exit_code", "minutes", "milliseconds", "count", "failed_count", "errors"),
        *("would_reformat", "free_mb", "found_version", "step", "epoch", "gpu_index"),
    )
)
_LISTS = frozenset(
    (
        *("failed_tests", "mismatched", "tools_mentioned", "ts_codes", "mypy_codes", "advisories", "npm_peer"),
        *("arch", "hub_url"),
    )
)
IDENTITY = frozenset(
    (
        *("action", "arch", "argument", "artifact", "image", "missing_header", "missing_input", "missing_key"),
        *("missing_module", "missing_name", "missing_path", "model", "module", "package", "parameter", "path", "ref"),
        *("requirement", "test", "undefined_symbol"),
    )
)
"""Facts that name the cause; the others (sizes, messages, steps) may differ when it comes back."""

_ONE_A_JOB = frozenset(
    (
        *("cuda_oom", "host_oom", "disk_full", "nan_loss", "nccl_timeout", "dataloader_worker_killed", "segfault"),
        *("gpu_not_found", "cuda_driver_mismatch", "job_timeout_cancelled", "runner_lost", "secret_leaked"),
    )
)
"""Kinds of which a job has one cause at a time, however the line is worded."""


def facts_of(
    signature: Signature, pattern: Any, lines: Sequence[Line], at: int, knowledge: Knowledge
) -> dict[str, Any]:
    """What the root line `lines[at]`, which `pattern` found, and then its surroundings tell; nearest first.

    A size with a unit, `{"value": 2.0, "unit": "GiB"}`, is told in bytes as well, as `…_bytes`.
    """
    facts: dict[str, Any] = {}
    _add(facts, pattern.search(lines[at][1]))
    around = [at, *range(at - 1, max(-1, at - LINES_BEFORE - 1), -1)]
    around += range(at + 1, min(len(lines), at + LINES_AFTER + 1))
    for index in around:
        for found, told in knowledge.facts_in(signature, lines[index][1]):
            _add(facts, found.search(lines[index][1]))
            facts = {**told, **facts}
    for name, value in list(facts.items()):
        if isinstance(value, dict) and value.keys() == {"value", "unit"}:
            size = _in_bytes(f"{value['value']} {value['unit']}")
            if size is not None:
                facts[f"{name}_bytes"] = size
    return facts


def names(pattern: Any, text: str) -> bool:
    """The line names what it is about."""
    found = pattern.search(text)
    return bool(found) and any(told and fact_name(group) in IDENTITY for group, told in found.groupdict().items())


def key(signature: Signature, facts: Mapping[str, Any], root: str) -> str:
    """What stays equal when the cause comes back.

    A transient cause comes back from elsewhere; a lasting one keeps its names, whatever its numbers, or the words of
    its root line.
    """
    if signature.transient:
        return ""
    if facts.get("failed_tests"):
        return str(min(facts["failed_tests"]))  # tests that run side by side are told in any order
    told = " ".join(f"{name}={value}" for name, value in sorted(facts.items()) if name in IDENTITY)
    return told or ("" if signature.kind in _ONE_A_JOB else template(root))


def shown(name: str, value: Any) -> str:
    """The fact as people read it."""
    if isinstance(value, dict) and value.keys() == {"value", "unit"}:
        return f"{value['value']:g} {value['unit']}"
    if not name.endswith("_bytes") or not isinstance(value, int):
        return str(value)[:SHOWN_CHARACTERS]
    power = min(4, max(0, value.bit_length() - 1) // 10)
    return f"{value / 1024**power:.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def _add(facts: dict[str, Any], found: Any) -> None:
    places = found.re.groupindex if found else {}
    for group in sorted(places, key=places.__getitem__):
        name, _, part = fact_name(group).partition("__")
        text = found[group]
        if not text:
            continue
        if part:
            facts.setdefault(name, {}).setdefault(part, _typed(part, text))
        elif name in _LISTS:
            listed = facts.setdefault(name, [])
            if text not in listed and len(listed) < LISTED:
                listed.append(text[:FACT_CHARACTERS])
        elif name not in facts:
            facts[name] = _typed(name, text)


def _typed(name: str, text: str) -> Any:
    if name.endswith("_bytes"):
        size = _in_bytes(text)
        return text[:FACT_CHARACTERS] if size is None else size
    if name == "path":
        text = _CHECKOUT.sub("", text)
    if name in _INTEGERS and text.isdecimal():
        return int(text)
    if name == "value" and _NUMBER.fullmatch(text):
        return float(text)
    return text[:FACT_CHARACTERS]


def _in_bytes(text: str) -> int | None:
    size = _BYTES.fullmatch(text)
    return round(float(size[1]) * 1024 ** " KMGTP".index(size[2].upper() or " ")) if size else None
