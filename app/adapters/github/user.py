"""GitHub as the person who signs in sees it: the way there and back, who they are, and what they may where."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import requests

from app.adapters.github.client import API_VERSION, USER_AGENT, trouble
from app.domain.errors import Malformed, Refused, Unreachable

MOST_PAGES = 100
_PAGE = 100
_PERMISSIONS = ("admin", "maintain", "push", "triage", "pull")  # from the most to the least


class SignedOut(Refused):
    """GitHub does not take the person's token: it is over, or they took it back."""


class CodeRefused(Refused):
    """GitHub does not take the code: it was used, is too old, or is not for this App. `reason` is GitHub's word."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"GitHub did not take the code: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class UserToken:
    """`lasts_s` is None for one without an end."""

    text: str = field(repr=False)
    lasts_s: float | None = None


@dataclass(frozen=True, slots=True)
class Person:
    id: int
    login: str


@dataclass(frozen=True, slots=True)
class Permitted:
    """What a person may do in a repository, in GitHub's word: admin, maintain, push, triage or pull."""

    installation_id: int
    repository_id: int
    permission: str


class GitHubPeople:
    """One object serves a whole process. Every method that asks raises Unreachable, RateLimited, Refused, and Malformed
    for an answer that is not GitHub's."""

    def __init__(
        self, *, web_url: str, api_url: str, client_id: str, client_secret: str, timeout_s: float = 15.0
    ) -> None:
        self._web_url = web_url.rstrip("/")
        self._api_url = api_url.rstrip("/")
        self._client_id = client_id
        self._client_secret = client_secret
        self._timeout_s = timeout_s

    def way_in(self, *, state: str, challenge: str, back_to: str) -> str:
        """Where the browser is sent. `challenge` is PKCE's, S256."""
        query = {
            "client_id": self._client_id,
            "redirect_uri": back_to,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{self._web_url}/login/oauth/authorize?{urlencode(query)}"

    def exchange(self, code: str, *, verifier: str, back_to: str) -> UserToken:
        """The token for a code, which is good once. Raises CodeRefused."""
        call = "POST /login/oauth/access_token"
        form = {
            "client_id": self._client_id,
            "client_secret": self._client_secret,
            "code": code,
            "redirect_uri": back_to,
            "code_verifier": verifier,
        }
        headers = {"Accept": "application/json", "User-Agent": USER_AGENT}
        url = f"{self._web_url}/login/oauth/access_token"
        answer = self._ask(
            call, lambda: requests.post(url, form, headers=headers, timeout=self._timeout_s, allow_redirects=False)
        )
        told = _object(call, answer)
        if "error" in told:
            raise CodeRefused(str(told["error"])[:100])
        text, lasts_s = told.get("access_token"), told.get("expires_in")
        if not isinstance(text, str) or not text:
            raise Malformed(f"{call}: the answer holds no token")
        return UserToken(text, float(lasts_s) if isinstance(lasts_s, int | float) and lasts_s > 0 else None)

    def person(self, token: str) -> Person:
        """Whose token that is. Raises SignedOut."""
        told = _object("GET /user", self._get("/user", token))
        match told:
            case {"id": int(number), "login": str(login)} if number > 0 and login:
                return Person(number, login)
        raise Malformed("GET /user: the answer names nobody")

    def permissions(self, token: str, *, within: Iterable[int]) -> list[Permitted]:
        """What they may in the repositories of those installations that they see, too. Raises SignedOut."""
        wanted = frozenset(within)
        seen = {each.get("id") for each in self._all("/user/installations", "installations", token)}
        return [
            permitted
            for installation_id in sorted(wanted & seen)
            for permitted in self._of_installation(installation_id, token)
        ]

    def _of_installation(self, installation_id: int, token: str) -> Iterator[Permitted]:
        for each in self._all(f"/user/installations/{installation_id}/repositories", "repositories", token):
            permissions = each.get("permissions")
            if isinstance(each.get("id"), int) and isinstance(permissions, dict):
                most = next((name for name in _PERMISSIONS if permissions.get(name) is True), "")
                if most:
                    yield Permitted(installation_id, each["id"], most)

    def _all(self, path: str, name: str, token: str) -> Iterator[Mapping[str, Any]]:
        """The entries of all pages."""
        for page in range(1, MOST_PAGES + 1):
            call = f"GET {path}"
            found = _object(call, self._get(path, token, {"per_page": _PAGE, "page": page})).get(name)
            if not isinstance(found, list):
                raise Malformed(f"{call}: the answer holds no {name}")
            yield from (each for each in found if isinstance(each, dict))
            if len(found) < _PAGE:
                return

    def _get(self, path: str, token: str, query: Mapping[str, int] | None = None) -> requests.Response:
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {token}",
            "User-Agent": USER_AGENT,
            "X-GitHub-Api-Version": API_VERSION,
        }
        url = f"{self._api_url}{path}"
        return self._ask(
            f"GET {path}",
            lambda: requests.get(url, query, headers=headers, timeout=self._timeout_s, allow_redirects=False),
        )

    def _ask(self, call: str, send: Callable[[], requests.Response]) -> requests.Response:
        try:
            answer = send()
        except requests.RequestException as error:
            raise Unreachable(f"{call}: no answer from GitHub ({type(error).__name__})") from None
        if answer.status_code == 401:
            raise SignedOut(f"{call}: GitHub does not take the person's token any more")
        if answer.status_code >= 300:
            said = {name.lower(): value for name, value in answer.headers.items()}
            raise trouble(call, answer.status_code, said, answer.text, datetime.now(UTC))
        return answer


def _object(call: str, answer: requests.Response) -> dict[str, Any]:
    try:
        told = answer.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise Malformed(f"{call}: the answer is not GitHub's")
    return told
