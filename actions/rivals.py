"""Whether Dependabot or Renovate is about the same package already: two who move it are in each other's way."""

import re
from collections.abc import Iterable

from app.ports.forge import Pull
from app.ports.plugins import Tools

BOTS = frozenset({"dependabot[bot]", "dependabot-preview[bot]", "renovate[bot]"})
BRANCHES = ("dependabot/", "renovate/")
MOST_BODY = 20_000


def rival(names: Iterable[str], tools: Tools) -> str:
    """Why these packages are left alone, naming the pull request; empty if nobody moves one of them."""
    pulls = [pull for pull in tools.forge.open_pulls() if pull.author in BOTS or pull.head_branch.startswith(BRANCHES)]
    for name in names:
        for pull in pulls:
            if names_package(pull, name):
                bot = pull.author or pull.head_branch.partition("/")[0]
                return f"{bot} has #{pull.number} open about {name}: merge or close it"
    return ""


def names_package(pull: Pull, name: str) -> bool:
    """In its title or branch; a pull request of a bot about a group of packages names them in its body."""
    said = [pull.title, pull.head_branch]
    if pull.author in BOTS:
        said.append(pull.body[:MOST_BODY])
    return spelled(name).search("\n".join(said)) is not None


def spelled(name: str) -> re.Pattern[str]:
    """The package's name as a whole, however its parts are joined, perhaps before a version."""
    joined = "[-_.]+".join(re.escape(part) for part in re.split(r"[-_.]+", name))
    return re.compile(rf"(?<![\w.-]){joined}(?:-v?\d[\w.]*)?(?![\w-])", re.IGNORECASE)
