"""A side effect that was decided, and must happen exactly once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EffectKind(StrEnum):
    """What is to be done, and the members of the effect's `request`."""

    CHECK = "check"  # the check run of one SHA: {sha}
    PULL_COMMENT = "comment"  # the sticky comment on the pull request whose run failed: {}, of the effect's incident
    PULL_BODY = "pull_body"  # the text of a fix pull request: {}, of the effect's incident
    REPLY = "reply"  # the answer to a command: {number, comment_id, message, show, react}
    NEWS = "news"  # word of an incident's state to the channels of heal.yml: {state, at}
    CONFIG_CHECK = "config"  # heal.yml's verdict at a commit: {sha}
    ONBOARDING = "onboarding"  # the pull request that introduces the bot: {}


@dataclass(frozen=True, slots=True)
class Effect:
    """One row of the outbox. The same `key` asked for again while it waits is one effect; after it was done, it is
    done again with the newest `request` (a sticky text is edited in place, never posted twice)."""

    key: str
    kind: EffectKind
    repository_id: int
    request: Mapping[str, Any] = field(default_factory=dict)
    incident_id: int | None = None
    id: int = 0
    revision: int = 0
    remote_id: str = ""
    attempts: int = 0
