"""Who a thing belongs to: GitHub's installations and repositories."""

from dataclasses import dataclass

ALL, SELECTED = "all", "selected"
SELECTIONS = (ALL, SELECTED)  # what an installation covers, in GitHub's words


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository on which the App is installed. `id` is GitHub's; `full_name` is `owner/name`."""

    id: int
    full_name: str
    installation_id: int
    default_branch: str = "main"

    @property
    def owner(self) -> str:
        return self.full_name.partition("/")[0]

    @property
    def name(self) -> str:
        return self.full_name.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Sender:
    """The account that caused an event. `is_bot`: an App, this one too, or another machine account. `id` is GitHub's
    number of it, 0 where that is not told."""

    login: str
    is_bot: bool = False
    id: int = 0
