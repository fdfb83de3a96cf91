"""Requirements that cannot be installed, and where they are written."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from app.domain.event import RunFinished
from app.domain.evidence import Evidence, EvidenceBag, JobLogs, Manifests
from app.domain.finding import Finding
from detectors.claim import KEPT_DIGITS, claim
from detectors.diagnosis import Cause, diagnose

PACKAGES, PLACES, SHOWN = 20, 40, 5

_NAME = r"[A-Za-z0-9@](?:[\w./-]*[A-Za-z0-9])?"
_BOUND = r"(?:===|==|~=|!=|<=|>=|<|>) ?v?[0-9][\w.*+!-]*"
# uv: "Because a==1 depends on b>=2 and you require b==1, we can conclude …"; pip: "a 1 depends on b>=2".
_REQUIREMENT = re.compile(rf"(?<![\w./-])(?P<package>{_NAME})(?:\[[\w, -]*\])? ?{_BOUND}(?:, ?{_BOUND})*")
_BARE = re.compile(
    rf"(?:you require|depends on|[Bb]ecause|peer|Found:|[Rr]esolving:) (?:\w+@)?(?P<package>{_NAME})(?=[@ ,:]|$)"
)
_NOT_PACKAGES = frozenset(
    ("and", "any", "all", "these", "there", "we", "only", "you", "your", "the", "python", "no", "of")
)
_WRITTEN = re.compile(rf"""(?:^|["'])\s*(?P<requirement>(?P<package>{_NAME})(?=[\s\[<>=!~;"',@]|$)[^"';]*)""")
_BOX = re.compile(r"[╰─▶│├×]+")


class DependencyConflict:
    """Claims the failed jobs whose cause lies in their requirements, and names the lines of the manifests."""

    kind = "dependency_conflict"
    reacts_to = frozenset({"workflow_run.failed"})
    needs: frozenset[type[Evidence]] = frozenset({JobLogs, Manifests})

    def detect(self, event: RunFinished, evidence: EvidenceBag) -> Iterator[Finding]:
        logs, manifests = evidence.get(JobLogs), evidence.get(Manifests)
        for log in logs.logs if logs else ():
            cause = diagnose(log)[0]
            if cause.signature is not None and cause.signature.detector == self.kind:
                packages = packages_of(cause)
                places = list(places_of(packages, manifests.files if manifests else {}))
                facts: dict[str, Any] = {**cause.facts, "packages": packages, "requirements": places[:PLACES]}
                if cause.kind == "dependency_resolution_conflict" and packages:
                    cause = replace(cause, summary=f"{cause.summary}: {', '.join(packages[:SHOWN])}")
                key = " ".join(sorted(map(_normal, packages)))
                yield claim(self.kind, event, log.job, cause, facts, key.translate(KEPT_DIGITS))


def packages_of(cause: Cause) -> list[str]:
    """The packages that the resolver's explanation names, in its order."""
    said = [str(cause.facts[fact]) for fact in ("package", "requirement") if fact in cause.facts]
    explanation = " ".join(_BOX.sub(" ", text).strip() for text in cause.nearby)
    found: dict[str, str] = {}
    for text in (*said, explanation):
        named = [(match.start(), match["package"]) for match in _REQUIREMENT.finditer(text)]
        named += [(match.start("package"), match["package"]) for match in _BARE.finditer(text)]
        if text in said and not named:
            named = [(0, text)]
        for _, package in sorted(named):
            if package.lower() not in _NOT_PACKAGES:
                found.setdefault(_normal(package), package)
    return list(found.values())[:PACKAGES]


def places_of(packages: Iterable[str], manifests: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The lines of the manifests that name one of the packages: package, requirement, path, line."""
    wanted = {_normal(package): package for package in packages}
    for path, text in sorted(manifests.items()):
        for number, line in enumerate(text.splitlines(), start=1):
            for match in _WRITTEN.finditer(line.split("#")[0][:500]):
                package = wanted.get(_normal(match["package"]))
                if package:
                    requirement = match["requirement"].strip(" ,=\"'")
                    yield {"package": package, "requirement": requirement, "path": path, "line": number}


def _normal(package: str) -> str:
    """PEP 503: case and separators do not tell packages apart."""
    return re.sub(r"[-_.]+", "-", package).lower()
