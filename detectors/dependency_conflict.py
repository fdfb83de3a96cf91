"""Requirements that cannot be installed: which contradicts which, and where they are written."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from app.domain.event import Observable, Pushed, RunFinished
from app.domain.evidence import Evidence, EvidenceBag, JobLogs, Manifests
from app.domain.finding import Clear, EvidenceLine, Finding, Severity, fingerprint
from app.domain.requirement import ManifestLine, ManifestResolution, Resolutions
from detectors.claim import KEPT_DIGITS, Claim, claimed
from detectors.diagnosis import Cause, diagnose
from detectors.proofs import YOU, Proof, normal, package_of, read_proof
from detectors.team import knowledge

PACKAGES, PLACES, SHOWN, LEFT_OUT = 20, 40, 5, 10
CONFLICT, MISSING, PYTHON = (
    "dependency_resolution_conflict",
    "package_version_missing",
    "python_version_unsupported",
)
RESOLVED_CONFIDENCE = 0.98  # the resolver's proof holds for the index and the Python that it was asked about

_WRITTEN = re.compile(
    r"""(?:^|["'])\s*(?P<requirement>(?P<package>@?[A-Za-z0-9](?:[\w./-]*[A-Za-z0-9])?)(?=[\s\[<>=!~;"',@]|$)[^"';]*)"""
)


class DependencyConflict:
    """Looks at manifests when they are pushed, and claims the failed jobs whose cause lies in their requirements."""

    kind = "dependency_conflict"
    reacts_to = frozenset({"workflow_run.failed", Pushed.kind})
    needs: frozenset[type[Evidence]] = frozenset({JobLogs, Manifests, Resolutions})
    Settings = None

    def detect(self, event: Observable, evidence: EvidenceBag) -> Iterator[Finding | Clear]:
        if isinstance(event, RunFinished):
            for finding in claimed(self.kind, event, self._of_run(evidence)):
                about, places = finding.facts["about"], finding.facts["requirements"]
                yield replace(finding, fingerprint=_mark(finding.kind, about, places)) if about else finding
        resolutions = evidence.get(Resolutions)
        for manifest in resolutions.manifests if resolutions else ():
            if manifest.resolved:
                yield Clear(self.kind, manifest.path, why=f"the requirements of {manifest.path} fit together")
            else:
                yield self.of_manifest(manifest)

    def _of_run(self, evidence: EvidenceBag) -> Iterator[Claim]:
        logs, manifests, known = evidence.get(JobLogs), evidence.get(Manifests), knowledge(evidence)
        for log in logs.logs if logs else ():
            cause = next(iter(diagnose(log, known)), None)
            if cause is not None and cause.signature is not None and cause.signature.detector == self.kind:
                proof = read_proof(cause.nearby)
                packages = packages_of(cause, proof)
                places = list(places_of(packages, manifests.files if manifests else {}))
                about = _about(packages, proof)
                facts = {
                    **cause.facts,
                    **told(proof),
                    "about": about,
                    "packages": packages,
                    "requirements": places[:PLACES],
                }
                if cause.kind == CONFLICT and packages:
                    cause = replace(cause, summary=f"{cause.summary}: {', '.join(packages[:SHOWN])}")
                yield Claim(log.job, cause, facts, " ".join(about).translate(KEPT_DIGITS))

    def of_manifest(self, manifest: ManifestResolution) -> Finding:
        """The finding of one that does not fit together."""
        proof = read_proof([manifest.explanation])
        kind = kind_of(proof, manifest.explanation)
        packages = list(proof.packages)[:PACKAGES]
        wanted = {normal(package) for package in packages}
        named = [line for line in manifest.lines if normal(package_of(line.text)) in wanted] or list(manifest.lines[:1])
        places = [
            {"package": package_of(n.text), "requirement": n.text, "path": n.path, "line": n.number} for n in named
        ]
        about = _about(packages, proof)
        facts: dict[str, Any] = {
            **told(proof),
            "about": about,
            "packages": packages,
            "requirements": places[:PLACES],
            "path": named[0].path,
            "line": named[0].number,
            "explanation": manifest.explanation[:2_000],
        }
        facts |= {"python": manifest.python} if manifest.python else {}
        facts |= {"is_new": manifest.is_new} if manifest.is_new is not None else {}
        facts |= {"left_out": list(manifest.left_out[:LEFT_OUT])} if manifest.left_out else {}
        return Finding(
            detector=self.kind,
            kind=kind,
            subject=manifest.path,
            severity=Severity.LOW if manifest.is_new is False else Severity.MEDIUM,
            confidence=RESOLVED_CONFIDENCE,
            summary=_summary(kind, manifest, proof, packages),
            fingerprint=_mark(kind, about, places),
            facts=facts,
            lines=tuple(_evidence(line, root=index == 0) for index, line in enumerate(named[:PLACES])),
        )


def kind_of(proof: Proof, explanation: str) -> str:
    """What stands in the way: Python, a version that does not exist, or requirements that contradict each other."""
    asked_python = "Python version" in explanation and bool(proof.python)
    if asked_python or (proof.python and not proof.missing and len(proof.requirements) < 2):
        return PYTHON
    lost = {normal(package_of(text)) for text in proof.missing}
    contested = [r for r in proof.requirements if normal(r.package) not in lost and r.who != YOU]
    return MISSING if lost and not contested else CONFLICT


def told(proof: Proof) -> dict[str, Any]:
    """The proof as facts, without what it does not say."""
    facts: dict[str, Any] = {}
    if proof.requirements:
        facts["contradiction"] = [{"who": r.who, "requires": str(r)} for r in proof.requirements[:PACKAGES]]
    if proof.missing:
        facts["missing"] = list(proof.missing[:PACKAGES])
    return facts


def _about(packages: Iterable[str], proof: Proof) -> list[str]:
    """What tells one conflict from another, whoever explains it: the contested packages, else all that are named."""
    return sorted({normal(package) for package in proof.contested or packages})


def _mark(kind: str, about: Iterable[str], places: Iterable[Mapping[str, Any]]) -> str:
    """The same for a manifest and for the jobs that fail for it later: one incident, whichever comes first.

    The same conflict in another manifest is another one: each is mended by itself.
    """
    path = min((str(place["path"]) for place in places), default="")
    return fingerprint(kind, *(text.translate(KEPT_DIGITS).replace("/", "\x1f") for text in (path, *about)))


def packages_of(cause: Cause, proof: Proof) -> list[str]:
    """The packages that the cause and the resolver's explanation name."""
    said = [str(cause.facts[fact]) for fact in ("package", "requirement") if fact in cause.facts]
    found: dict[str, str] = {}
    for package in (*map(package_of, said), *proof.packages):
        found.setdefault(normal(package), package.partition("[")[0])
    return list(found.values())[:PACKAGES]


def places_of(packages: Iterable[str], manifests: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The lines of the manifests that name one of the packages: package, requirement, path, line."""
    wanted = {normal(package): package for package in packages}
    for path, text in sorted(manifests.items()):
        for number, line in enumerate(text.splitlines(), start=1):
            for match in _WRITTEN.finditer(line.split("#")[0][:500]):
                package = wanted.get(normal(match["package"]))
                if package:
                    requirement = match["requirement"].strip(" ,=\"'")
                    yield {"package": package, "requirement": requirement, "path": path, "line": number}


def _summary(kind: str, manifest: ManifestResolution, proof: Proof, packages: list[str]) -> str:
    if kind == MISSING and proof.missing:
        return f"{manifest.path} asks for {', '.join(proof.missing[:SHOWN])}, which the index does not have"
    if kind == PYTHON:
        python = f" with Python {manifest.python}" if manifest.python else ""
        return f"{manifest.path} cannot be installed{python}: {', '.join(packages[:SHOWN]) or 'another is needed'}"
    contested = packages[0] if packages else ""
    claims = [r for r in proof.requirements if normal(r.package) == normal(contested)]
    if len(claims) >= 2:
        said = " and ".join(f"{'it asks' if r.who == YOU else f'{r.who} asks'} for {r}" for r in claims[:2])
        return f"{manifest.path} cannot be installed: {said}"
    between = ", ".join(packages[:SHOWN]) or "its requirements contradict each other"
    return f"{manifest.path} cannot be installed: {between}"


def _evidence(line: ManifestLine, *, root: bool) -> EvidenceLine:
    return EvidenceLine(line.number, line.text[:500], line.path, root)
