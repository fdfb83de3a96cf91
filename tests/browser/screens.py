"""Every screen of the dashboard, for whoever walks them all: axe, phone, zoom, longer words, screenshots."""

from dataclasses import dataclass

from sqlalchemy import Engine

from tests.browser.incidents import ask, fill
from tests.browser.models import fill_models
from tests.browser.people import fill_people
from tests.browser.workings import fill_workings


@dataclass(frozen=True, slots=True)
class Screen:
    """`name` is that of its picture in the documentation; `picture` False where one would show nothing new."""

    name: str
    path: str
    picture: bool = True


SCREENS = [
    Screen("incidents", "/"),
    Screen("incident", "/incidents/1"),
    Screen("incident-escalated", "/incidents/2", picture=False),
    Screen("incident-log", "/incidents/3/log?q=memory"),
    Screen("incident-log-gone", "/incidents/2/log", picture=False),
    Screen("gate", "/incidents/7/gate"),
    Screen("nothing-found", "/?q=zzz", picture=False),
    Screen("not-understood", "/?q=who:knows", picture=False),
    Screen("several-incidents", "/incidents/bulk?verb=reject&id=1&id=2&id=8", picture=False),
    Screen("saved-views", "/views", picture=False),
    Screen("approvals", "/approvals"),
    Screen("deliveries", "/deliveries"),
    Screen("delivery", "/deliveries/11", picture=False),
    Screen("delivery-put-aside", "/deliveries/14", picture=False),
    Screen("no-delivery-found", "/deliveries?event=zzz", picture=False),
    Screen("simulator", "/simulator?delivery=11"),
    Screen("system", "/system"),
    Screen("insights", "/insights?days=30"),
    Screen("audit-log", "/audit"),
    Screen("audit-verified", "/audit/verify", picture=False),
    Screen("repositories", "/repositories", picture=False),
    Screen("repository", "/repositories/1"),
    Screen("repository-unreachable", "/repositories/7", picture=False),
    Screen("no-repository-found", "/repositories?q=zzz", picture=False),
    Screen("models", "/models", picture=False),
    Screen("model", "/models/1"),
    Screen("no-model-found", "/models?q=zzz", picture=False),
    Screen("settings", "/settings", picture=False),
    Screen("settings-members", "/settings/installations/1"),
    Screen("settings-tokens", "/settings/installations/1/tokens"),
    Screen("settings-rules", "/settings/installations/1/rules?repository=7", picture=False),
    Screen("sign-in-link", "/sign-in/link?token=x", picture=False),
]


def furnish(engine: Engine) -> None:
    """What the screens show."""
    fill(engine)
    ask(engine, 2)
    fill_workings(engine)
    fill_models(engine)
    fill_people(engine)
