"""The GitHub App itself: its key, its installations, and GitHub's record of what it sent."""

import threading
import time
from datetime import UTC, datetime

import orjson
from github.GithubApp import GithubApp
from github.HookDelivery import HookDeliverySummary
from github.Installation import Installation
from github.PaginatedList import PaginatedList
from github.Repository import Repository as RemoteRepository

from app.adapters.github.auth import AppKey, InstallationAuth, Scope, Token, Tokens
from app.adapters.github.client import Client, Connections, Pace, Rate
from app.adapters.github.forge import GitHubForge
from app.domain.errors import NotInstalled, Refused
from app.domain.tenant import Repository
from app.ports.clock import Clock
from app.ports.forge import SentBody, SentDelivery

SLUG_LIFE_S = 60.0
READ_ONLY = {"contents": "read", "metadata": "read"}


class GitHubApp:
    """The port `App`. Safe for threads; one object serves a whole process."""

    def __init__(
        self,
        *,
        api_url: str,
        app_id: int,
        private_key_pem: str,
        clock: Clock,
        timeout_s: float = 15.0,
        seconds_between_writes: float = 1.0,
    ) -> None:
        self._app_id = app_id
        self._clock = clock
        self._timeout_s = timeout_s
        self._seconds_between_writes = seconds_between_writes
        self._connections = Connections(api_url.rstrip("/"), timeout_s)
        self._client = self._connections.client(
            AppKey(app_id, private_key_pem, clock), pace=Pace(0, clock), clock=clock
        )
        self._tokens = Tokens(self._mint, clock)
        self._lock = threading.Lock()
        self._paces: dict[int, Pace] = {}
        self._slug = ""
        self._slug_until = 0.0

    def forge(self, repository: Repository) -> GitHubForge:
        """Nothing is asked of GitHub yet. The token it writes with will be good for this repository only."""
        return GitHubForge(
            repository,
            self._as_installation(Scope(repository.installation_id, repository.id)),
            self._as_installation(Scope(repository.installation_id)),
            app_id=self._app_id,
            login=lambda: f"{self._slug or self.slug()}[bot]",
            granted=lambda: self._tokens.get(Scope(repository.installation_id, repository.id)).permissions,
            timeout_s=self._timeout_s,
        )

    def repositories(self, installation_id: int) -> list[Repository]:
        client = self._as_installation(Scope(installation_id))
        found = PaginatedList(RemoteRepository, client, "/installation/repositories", {}, list_item="repositories")
        return [Repository(one.id, one.full_name, installation_id, one.default_branch or "main") for one in found]

    def installations(self) -> list[int]:
        """Those that are not suspended."""
        found = PaginatedList(Installation, self._client, "/app/installations", {})
        return [one.id for one in found if one.suspended_at is None]

    def sent_deliveries(self, *, since: datetime) -> list[SentDelivery]:
        recent = []
        for one in PaginatedList(HookDeliverySummary, self._client, "/app/hook/deliveries", {}):
            sent = _sent(one)
            if sent.delivered_at < since:
                break
            recent.append(sent)
        return recent

    def sent_body(self, delivery_id: int) -> SentBody:
        call = f"/app/hook/deliveries/{delivery_id}"
        _, found = self._client.requestJsonAndCheck("GET", call)
        request = found.get("request") if isinstance(found, dict) else None
        payload = request.get("payload") if isinstance(request, dict) else None
        if not isinstance(payload, dict):
            raise Refused(f"GET {call}: GitHub keeps no body of this delivery")
        return SentBody(str(found.get("guid", "")), str(found.get("event", "")), orjson.dumps(payload))

    def redeliver(self, delivery_id: int) -> None:
        self._client.requestJsonAndCheck("POST", f"/app/hook/deliveries/{delivery_id}/attempts")

    def slug(self) -> str:
        """Asks GitHub at most once a minute."""
        if time.monotonic() >= self._slug_until:
            app = GithubApp(self._client, url="/app")
            self._slug = app.slug
            self._slug_until = time.monotonic() + SLUG_LIFE_S
        return self._slug

    def rates(self) -> list[Rate]:
        """What GitHub has told this process of its limits, without asking."""
        return self._connections.rates.all()

    def _as_installation(self, scope: Scope) -> Client:
        with self._lock:
            pace = self._paces.setdefault(scope.installation_id, Pace(self._seconds_between_writes, self._clock))
        return self._connections.client(InstallationAuth(self._tokens, scope), pace=pace, clock=self._clock)

    def _mint(self, scope: Scope) -> Token:
        """Raises NotInstalled when the installation is gone or suspended, or does not cover the repository."""
        narrowed = {"repository_ids": [scope.repository_id]} if scope.repository_id else {"permissions": READ_ONLY}
        path = f"/app/installations/{scope.installation_id}/access_tokens"
        try:
            _, answer = self._client.requestJsonAndCheck("POST", path, input=narrowed)
        except Refused as error:
            raise NotInstalled(f"the App has no access: {error}") from error
        granted = {str(name): str(level) for name, level in (answer.get("permissions") or {}).items()}
        return Token(answer["token"], datetime.fromisoformat(answer["expires_at"]), granted)


def _sent(one: HookDeliverySummary) -> SentDelivery:
    return SentDelivery(
        id=one.id or 0,
        guid=one.guid or "",
        event=one.event or "",
        action=one.action or "",
        status=one.status or "",
        ok=200 <= (one.status_code or 0) < 300,
        delivered_at=one.delivered_at or datetime.fromtimestamp(0, UTC),
        redelivery=bool(one.redelivery),
    )
