"""Observations that a workflow run uploaded: an artefact `heal-observations…` with a file for each model."""

import hashlib
import re

import structlog

from app.domain.delivery import OBSERVATIONS, Delivery
from app.domain.errors import Malformed, Refused
from app.domain.event import RunFinished
from app.domain.model import ARROW, JSON, PARQUET, Role
from app.healing.kit import Kit
from app.healing.models_section import MODEL_NAME
from app.ports.forge import Artifact, Forge

log = structlog.get_logger()

PREFIX = "heal-observations"
MOST_BYTES = 64 * 1024 * 1024
MOST_ARTIFACTS = 5
_TYPES = {"parquet": PARQUET, "arrow": ARROW, "json": JSON}


def collect(kit: Kit, forge: Forge, event: RunFinished) -> None:
    """Keep each file as a delivery of its own, once by artefact and name. Only what ran on the default branch counts:
    a branch of anybody's making must not speak for the model that is served."""
    if event.from_fork or event.head_branch != event.repository.default_branch:
        return
    try:
        uploaded = [artifact for artifact in forge.artifacts(event.run_id) if artifact.name.startswith(PREFIX)]
    except Refused as error:
        log.warning("artifacts_refused", run_id=event.run_id, error=str(error))
        return
    for artifact in uploaded[:MOST_ARTIFACTS]:
        kept = _deliveries(forge, event, artifact)
        if kept:
            kit.store.keep(kept)


def _deliveries(forge: Forge, event: RunFinished, artifact: Artifact) -> list[Delivery]:
    if artifact.size_bytes > MOST_BYTES:
        log.warning("artifact_too_large", run_id=event.run_id, artifact=artifact.id, size_bytes=artifact.size_bytes)
        return []
    try:
        files = forge.artifact_files(artifact, most_bytes=MOST_BYTES)
    except (Refused, Malformed) as error:
        log.warning("artifact_unread", run_id=event.run_id, artifact=artifact.id, error=str(error))
        return []
    deliveries = []
    for path, body in files.items():
        model, role, content_type = _told(path)
        if re.fullmatch(MODEL_NAME, model) and content_type:
            deliveries.append(
                Delivery(
                    guid=f"artifact-{artifact.id}-{hashlib.sha256(path.encode()).hexdigest()[:16]}",
                    source=OBSERVATIONS,
                    event="observations",
                    action=model,
                    body=body,
                    installation_id=event.repository.installation_id,
                    repository_id=event.repository.id,
                    repository=event.repository.full_name,
                    headers={"content-type": content_type, **({"role": role} if role else {})},
                )
            )
    return deliveries


def _told(path: str) -> tuple[str, str, str]:
    """Model, role and content type of `churn.parquet`, `churn.reference.json`."""
    model, _, ending = path.rpartition("/")[2].rpartition(".")
    role = Role.REFERENCE.value if model.endswith(f".{Role.REFERENCE}") else ""
    return model.removesuffix(f".{Role.REFERENCE}"), role, _TYPES.get(ending, "")
