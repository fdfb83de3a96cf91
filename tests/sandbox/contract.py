"""GitHub's published contract as checks: is this request one that GitHub takes, this response one that it gives?

`check_request` and `check_response` take the path as it follows the API's root (`/repos/acme/model/issues`);
`check_event` takes a webhook's event name and body. Each raises ContractViolation with every reason.
"""

from __future__ import annotations

import functools
import gzip
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from openapi_schema_validator import OAS30Validator, OAS31Validator, oas30_format_checker, oas31_format_checker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4, DRAFT202012

DATA = Path(__file__).parent.parent / "contract_data"
METHODS = ("get", "post", "put", "patch", "delete")
SPANS_SLASHES = ("ref", "path", "branch", "base", "head", "name")

Json = Any


class ContractViolation(AssertionError):
    """A request or response that GitHub's own description does not allow."""


def _load(name: str) -> Json:
    with gzip.open(DATA / name) as file:
        return json.load(file)


@functools.cache
def rest() -> Json:
    """GitHub's REST description, the operations that the product uses."""
    document = _load("openapi-subset.json.gz")
    # GitHub's list of installations asks of every account to be a user and an enterprise at once; its single
    # installation says "either", which is what it answers.
    listed = document["paths"]["/app/installations"]["get"]["responses"]["200"]["content"]["application/json"]
    listed["schema"] = {"type": "array", "items": {"$ref": "#/components/schemas/installation"}}
    return document


@functools.cache
def webhooks() -> Json:
    """GitHub's description of its webhooks."""
    return _load("openapi-webhooks.json.gz")


@functools.cache
def _templates() -> list[tuple[re.Pattern[str], str]]:
    """Path patterns, those with the most fixed text first."""
    found = []
    for template in rest()["paths"]:
        pattern = "".join(
            (r"(.+)" if part[1:-1] in SPANS_SLASHES else r"([^/]+)") if part.startswith("{") else re.escape(part)
            for part in re.split(r"(\{[^}]+\})", template)
        )
        found.append((re.compile(pattern), template))
    return sorted(found, key=lambda pair: -len(re.sub(r"\{[^}]+\}", "", pair[1])))


def operation(method: str, path: str) -> tuple[str, Json]:
    """The path template and description of an operation. Raises ContractViolation when GitHub has none."""
    for pattern, template in _templates():
        if pattern.fullmatch(path.split("?")[0]) and method.lower() in rest()["paths"][template]:
            return template, rest()["paths"][template][method.lower()]
    raise ContractViolation(f"no operation {method} {path}")


def _resolved(node: Json) -> Json:
    while "$ref" in node:
        target = rest()
        for part in node["$ref"].split("/")[1:]:
            target = target[part]
        node = target
    return node


@functools.cache
def _registry(kind: str) -> Registry[Any]:
    document, draft = (rest(), DRAFT4) if kind == "rest" else (webhooks(), DRAFT202012)
    return Registry().with_resource("urn:github", Resource(contents=_anchored(document), specification=draft))


def _anchored(node: Json) -> Json:
    """The document with every reference absolute, so that any part of it can be a schema of its own."""
    if isinstance(node, dict):
        # A discriminator only speeds the choice up, and the validator trips over one above a list.
        copy = {key: _anchored(value) for key, value in node.items() if key != "discriminator"}
        # GitHub writes `nullable` and means that null is allowed although the enumeration leaves it out.
        if copy.get("nullable") is True and isinstance(copy.get("enum"), list):
            copy["enum"] = [*copy["enum"], None]
        return copy
    if isinstance(node, list):
        return [_anchored(item) for item in node]
    return f"urn:github{node}" if isinstance(node, str) and node.startswith("#/components/") else node


def _violations(schema: Json, value: Json, kind: str = "rest") -> Iterator[str]:
    checker = (OAS30Validator, oas30_format_checker) if kind == "rest" else (OAS31Validator, oas31_format_checker)
    validator = checker[0](_anchored(schema), registry=_registry(kind), format_checker=checker[1])
    for error in validator.iter_errors(value):
        causes = "".join(f"; {cause.message[-150:]}" for cause in error.context or ())
        yield f"{'/'.join(str(part) for part in error.absolute_path) or '(whole)'}: {error.message[-200:]}{causes}"


def _refuse(what: str, violations: list[str]) -> None:
    if violations:
        raise ContractViolation("\n  ".join([what, *violations]))


def check_request(method: str, path: str, query: Mapping[str, str] | None = None, body: Json = None) -> None:
    """Raise ContractViolation unless GitHub describes this request: its operation, parameters and JSON body."""
    template, described = operation(method, path)
    what = f"request {method} {template}"
    violations = []
    known = {p["name"]: p for p in map(_resolved, described.get("parameters", [])) if p["in"] == "query"}
    for name, value in (query or {}).items():
        if name not in known:
            violations.append(f"unknown query parameter {name!r}")
            continue
        schema = _resolved(known[name].get("schema", {}))
        typed: Json = int(value) if schema.get("type") == "integer" and value.isdecimal() else value
        typed = value == "true" if schema.get("type") == "boolean" else typed
        violations += [f"query {name}: {text}" for text in _violations(schema, typed)]
    schema = _resolved(described.get("requestBody", {})).get("content", {}).get("application/json", {}).get("schema")
    if schema is not None and body is not None:
        violations += _violations(schema, body)
        properties = _resolved(schema).get("properties")
        if properties and isinstance(body, dict) and not _resolved(schema).get("additionalProperties"):
            violations += [f"unknown property {name!r}" for name in body if name not in properties]
    elif schema is None and body:
        violations.append("this operation takes no body")
    elif _resolved(described.get("requestBody", {})).get("required") and body is None:
        violations.append("a body is required")
    _refuse(what, violations)


def check_response(method: str, path: str, status: int, body: Json = None) -> None:
    """Raise ContractViolation unless GitHub describes this answer. `body` is parsed JSON; None where there is none.

    401, 403, 404, 405, 409, 422, 429 and 5xx may answer any operation in GitHub's basic error form.
    """
    template, described = operation(method, path)
    what = f"response {status} to {method} {template}"
    response = described["responses"].get(str(status))
    if response is None and status < 400:
        raise ContractViolation(f"{what}: GitHub describes only {', '.join(described['responses'])}")
    schema = _resolved(response or {}).get("content", {}).get("application/json", {}).get("schema")
    if status >= 400:
        schema = _error_schema(schema)
    if schema is not None:
        _refuse(what, list(_violations(schema, body)))
    elif body not in (None, "", b""):
        raise ContractViolation(f"{what}: GitHub answers without a body")


def _error_schema(schema: Json) -> Json:
    """An error's schema: GitHub's basic form where it describes none; of alternatives that overlap, any will do."""
    if schema is None:
        return {"$ref": "#/components/schemas/basic-error"}
    return {"anyOf": schema["oneOf"]} if "oneOf" in schema else schema


def check_event(event: str, body: Json) -> bool:
    """Raise ContractViolation unless a webhook's body is as GitHub describes it. False: it describes no such event."""
    names = [f"{event}-{body['action']}" if body.get("action") else event, event]
    described = next((webhooks()["webhooks"][n.replace("_", "-")] for n in names
                      if n.replace("_", "-") in webhooks()["webhooks"]), None)  # fmt: skip
    if described is None:
        return False
    schema = described["post"]["requestBody"]["content"]["application/json"]["schema"]
    _refuse(f"event {event} {body.get('action', '')}", list(_violations(schema, body, "webhooks")))
    return True
