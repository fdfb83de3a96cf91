"""Why a pipeline failed, as its logs tell."""

from collections.abc import Iterator

from app.domain.event import RunFinished
from app.domain.evidence import Evidence, EvidenceBag, JobLogs
from app.domain.finding import Finding
from detectors.claim import KEPT_DIGITS, claim
from detectors.diagnosis import diagnose


class PipelineFailure:
    """Claims one finding for each failed job, `unknown` included; dependency trouble is left to DependencyConflict."""

    kind = "pipeline_failure"
    reacts_to = frozenset({"workflow_run.failed"})
    needs: frozenset[type[Evidence]] = frozenset({JobLogs})

    def detect(self, event: RunFinished, evidence: EvidenceBag) -> Iterator[Finding]:
        logs = evidence.get(JobLogs)
        for log in logs.logs if logs else ():
            cause = diagnose(log)[0]
            if cause.signature is None or cause.signature.detector == self.kind:
                key = cause.key.translate(KEPT_DIGITS) if cause.signature else cause.key
                yield claim(self.kind, event, log.job, cause, cause.facts, key)
