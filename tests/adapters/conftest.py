"""One sandbox for all tests of a process; every test has a repository of its own in it."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.adapters.worlds import Box, MemoryWorld, SandboxWorld

_numbers = itertools.count(1)

World = MemoryWorld | SandboxWorld


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    box = Box.start(tmp_path_factory.mktemp("sandbox"))
    yield box
    box.sandbox.stop()


@pytest.fixture
def real(box: Box) -> Iterator[Callable[..., SandboxWorld]]:
    """Makes a world in the sandbox; what was sent there is held to GitHub's description afterwards."""
    made = []

    def make(**settings: object) -> SandboxWorld:
        made.append(SandboxWorld(box, f"model-{next(_numbers)}", **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for world in made:
        world.check_requests()


@pytest.fixture(params=["memory", "sandbox"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return MemoryWorld()
    made: SandboxWorld = request.getfixturevalue("real")()
    return made
