"""What repositories run on: runners, their jobs, GitHub itself, endpoints, and the bot's own parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from app.domain.evidence import Evidence, Job


@dataclass(frozen=True, slots=True)
class Runner:
    """A self-hosted runner. `ephemeral` ones take one job and go. `offline_since` is when the bot, which had seen it
    online, saw it offline first; None where it is online, or was never seen otherwise."""

    id: int
    name: str
    online: bool
    busy: bool = False
    ephemeral: bool = False
    labels: frozenset[str] = frozenset()
    offline_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """A job, and the workflow that it belongs to. `limit_s` is the job's timeout, None where it is not known."""

    job: Job
    workflow: str
    workflow_path: str = ""
    limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Fleet(Evidence):
    """The repository's self-hosted runners (None: they may not be seen) and its newest jobs, seen at `at`."""

    at: datetime
    jobs: tuple[Ran, ...] = ()
    runners: tuple[Runner, ...] | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """An incident on GitHub's status page. `impact` is `none`, `minor`, `major`, `critical` or `maintenance`."""

    name: str
    impact: str
    started_at: datetime
    components: tuple[str, ...] = ()
    url: str = ""


@dataclass(frozen=True, slots=True)
class GitHubStatus(Evidence):
    """GitHub's own word: components that are not `operational`, by their status, and incidents that are not over."""

    components: Mapping[str, str] = field(default_factory=dict)
    troubles: tuple[Trouble, ...] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """What an endpoint answered to a GET; `status` 0: nothing, and `problem` says why. `bad_since` as seen by us."""

    url: str
    status: int
    took_s: float
    problem: str = ""
    bad_since: datetime | None = None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 400


@dataclass(frozen=True, slots=True)
class Part:
    """One of the bot's own parts: `database`, `broker`, `deliveries`, `repairs`, `effects`. `detail` is for people."""

    name: str
    ok: bool
    detail: str = ""
    bad_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Operations(Evidence):
    """What the operator watches, told in the one repository that the operator named."""

    at: datetime
    endpoints: tuple[Answered, ...] = ()
    parts: tuple[Part, ...] = ()
