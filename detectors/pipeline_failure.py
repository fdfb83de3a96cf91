"""Why a pipeline failed, as its logs tell."""

from collections.abc import Iterator

from app.domain.event import Observable, RunFinished
from app.domain.evidence import Evidence, EvidenceBag, JobLogs
from app.domain.finding import Finding
from detectors.claim import KEPT_DIGITS, Claim, claimed
from detectors.diagnosis import diagnose
from detectors.team import knowledge


class PipelineFailure:
    """Claims one finding for each cause, `unknown` included; DependencyConflict and ResourceConstraint claim theirs."""

    kind = "pipeline_failure"
    reacts_to = frozenset({"workflow_run.failed"})
    Settings = None
    needs: frozenset[type[Evidence]] = frozenset({JobLogs})

    def detect(self, event: Observable, evidence: EvidenceBag) -> Iterator[Finding]:
        if isinstance(event, RunFinished):
            yield from claimed(self.kind, event, self._claims(evidence))

    def _claims(self, evidence: EvidenceBag) -> Iterator[Claim]:
        logs, known = evidence.get(JobLogs), knowledge(evidence)
        for log in logs.logs if logs else ():
            for cause in diagnose(log, known)[:1]:
                if cause.signature is None or cause.signature.detector == self.kind:
                    key = cause.key.translate(KEPT_DIGITS) if cause.signature else cause.key
                    yield Claim(log.job, cause, cause.facts, key)
