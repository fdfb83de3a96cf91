"""Why a pipeline failed, as its logs tell, or a run on a launcher itself."""

from collections.abc import Iterator

from app.domain.event import Observable, RunFinished, WorkloadFailed, WorkloadSucceeded
from app.domain.evidence import Evidence, EvidenceBag, JobLogs
from app.domain.finding import Clear, Finding
from detectors.claim import KEPT_DIGITS, Claim, claimed
from detectors.diagnosis import diagnose
from detectors.runs import RUN_EVENTS, claimed_run
from detectors.team import knowledge

_RUNS = {
    "nan_loss": "nan_loss",
    "data_missing": "data_missing_or_schema",
    "data_malformed": "data_missing_or_schema",
    "collective_timeout": "nccl_timeout",
    "checkpoint_corrupt": "checkpoint_corrupt",
    "preempted": "runner_lost",
    "killed": "runner_lost",
}
"""What a run on a launcher says of its failure → the cause."""


class PipelineFailure:
    """Claims one finding for each cause, `unknown` included; DependencyConflict and ResourceConstraint claim theirs."""

    kind = "pipeline_failure"
    reacts_to = frozenset({"workflow_run.failed", *RUN_EVENTS})
    Settings = None
    needs: frozenset[type[Evidence]] = frozenset({JobLogs})

    def detect(self, event: Observable, evidence: EvidenceBag) -> Iterator[Finding | Clear]:
        if isinstance(event, RunFinished):
            yield from claimed(self.kind, event, self._claims(evidence))
        elif isinstance(event, WorkloadFailed | WorkloadSucceeded):
            yield from claimed_run(self.kind, event.run, _RUNS)

    def _claims(self, evidence: EvidenceBag) -> Iterator[Claim]:
        logs, known = evidence.get(JobLogs), knowledge(evidence)
        for log in logs.logs if logs else ():
            for cause in diagnose(log, known)[:1]:
                if cause.signature is None or cause.signature.detector == self.kind:
                    key = cause.key.translate(KEPT_DIGITS) if cause.signature else cause.key
                    yield Claim(log.job, cause, cause.facts, key)
