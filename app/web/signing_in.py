"""What signing in is made of, from what is wired."""

from app.adapters.github.user import GitHubPeople
from app.db.accounts import Accounts
from app.db.owners import Owners
from app.web.github_sign_in import GitHubSignIn
from app.web.origin import links_are_given
from app.web.sessions import Cookies
from app.wiring import Wired

TIMEOUT_S = 8.0  # somebody waits


def github_of(wired: Wired) -> GitHubSignIn | None:
    """None where the App's client id, its secret or a key of the vault is missing: nobody can sign in by GitHub."""
    told, secret = wired.settings.github, wired.settings.client_secret()
    if not (told.client_id and secret and wired.vault.usable):
        return None
    people = GitHubPeople(
        web_url=told.web_url,
        api_url=told.api_url,
        client_id=told.client_id,
        client_secret=secret,
        timeout_s=min(told.timeout_s, TIMEOUT_S),
    )
    return GitHubSignIn(
        people,
        Accounts(wired.engine),
        Owners(wired.engine),
        wired.vault,
        operators=wired.settings.web.operators,
    )


def cookies_of(wired: Wired) -> Cookies:
    github = github_of(wired)
    return Cookies(
        Accounts(wired.engine),
        wired.settings.web,
        github.refresh if github else lambda session, _: session,
        local=links_are_given(wired.settings),
    )
