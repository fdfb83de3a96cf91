"""Manifests that are pushed are resolved before a job fails for them."""

from collections.abc import Iterator, Sequence

import pytest

from app.adapters.resolver import UvResolver
from app.domain.errors import Unreachable
from app.domain.event import Pushed
from app.domain.incident import State
from app.domain.tenant import Sender
from app.healing.requirements import is_manifest
from app.ports.resolver import Resolution
from sandbox.index import Package
from tests.healing.world import AUTO, World
from tests.sandbox.index_server import serve_index

PACKAGES = (
    Package("arrowlite", "2.9.4"),
    Package("arrowlite", "3.2.0"),
    Package("frames", "1.4.2", ("arrowlite>=2,<3",)),
    Package("frames", "1.5.0", ("arrowlite>=2.9,<4",)),
    Package("store", "2.1.0", ("arrowlite>=3,<4",)),
    Package("future", "1.0", requires_python=">=3.13"),
)
FITS = "frames==1.5.0\nstore==2.1.0\n"
CONFLICTS = "# what we need\nframes==1.4.2\nstore==2.1.0\n"


@pytest.fixture(scope="module")
def resolver() -> Iterator[UvResolver]:
    with serve_index(PACKAGES) as url:
        yield UvResolver(url, timeout_s=60)


@pytest.fixture
def pushed_to(world: World, resolver: UvResolver) -> World:
    world.project(AUTO)
    world.kit.__dict__["resolver"] = resolver
    return world


def push(world: World, files: dict[str, str | None], *, complete: bool = True, branch: str = "main") -> str:
    before = world.forge.branches.get(branch, "")
    sha = world.forge.push(branch, files)
    world.arrive(
        Pushed(
            repository=world.forge.repository,
            sender=Sender("maria"),
            branch=branch,
            before=before,
            head_sha=sha,
            paths=frozenset(files) if complete else frozenset(),
            complete=complete,
        )
    )
    world.drain()
    return sha


def test_a_pushed_conflict_is_told_at_its_line_with_the_resolvers_proof(pushed_to: World) -> None:
    sha = push(pushed_to, {"requirements.txt": CONFLICTS})
    incident = pushed_to.incident()
    finding = incident.finding
    assert (finding.kind, finding.subject, incident.head_sha) == (
        "dependency_resolution_conflict",
        "requirements.txt",
        sha,
    )
    assert {"who": "frames<=1.4.2", "requires": "arrowlite>=2,<3"} in finding.facts["contradiction"]
    assert {"who": "store", "requires": "arrowlite>=3,<4"} in finding.facts["contradiction"]
    assert [(line.number, line.text) for line in finding.lines] == [(2, "frames==1.4.2"), (3, "store==2.1.0")]
    assert finding.facts["is_new"] is True
    annotation = pushed_to.forge.checks[-1].text.annotations[0]
    assert (annotation.path, annotation.line) == ("requirements.txt", 2)


def test_the_push_that_mends_it_ends_the_incident(pushed_to: World) -> None:
    push(pushed_to, {"requirements.txt": CONFLICTS})
    push(pushed_to, {"requirements.txt": FITS})
    assert pushed_to.incident().state is State.RECOVERED


def test_a_conflict_that_was_there_before_is_not_called_new(pushed_to: World) -> None:
    push(pushed_to, {"requirements.txt": CONFLICTS})
    push(pushed_to, {"requirements.txt": CONFLICTS + "# a remark\n"})
    assert pushed_to.incident().finding.facts["is_new"] is False


def test_the_same_conflict_in_other_versions_is_the_same_incident(pushed_to: World) -> None:
    push(pushed_to, {"requirements.txt": CONFLICTS})
    push(pushed_to, {"requirements.txt": "frames<1.5\nstore>=2\n"})
    assert pushed_to.incident().finding.summary.startswith("requirements.txt cannot be installed")
    assert pushed_to.kinds().count("found") == 2


def test_requirements_that_fit_are_not_spoken_of(pushed_to: World) -> None:
    push(pushed_to, {"requirements.txt": FITS})
    assert pushed_to.forge.checks == []


def test_a_version_that_nobody_published_is_named(pushed_to: World) -> None:
    push(pushed_to, {"requirements.txt": "frames==9.9\n"})
    finding = pushed_to.incident().finding
    assert (finding.kind, finding.facts["missing"]) == ("package_version_missing", ["frames==9.9"])


def test_a_package_for_another_python_is_told_as_that(pushed_to: World) -> None:
    push(pushed_to, {".python-version": "3.11\n", "requirements.txt": "future==1.0\n"})
    finding = pushed_to.incident().finding
    assert (finding.kind, finding.facts["python"]) == ("python_version_unsupported", "3.11")


def test_included_files_are_resolved_together_and_their_lines_named(pushed_to: World) -> None:
    push(pushed_to, {"requirements/base.txt": "frames==1.4.2\n", "requirements/dev.txt": "-r base.txt\nstore==2.1.0\n"})
    places = {(p["path"], p["line"]) for p in pushed_to.incident().finding.facts["requirements"]}
    assert places == {("requirements/base.txt", 1), ("requirements/dev.txt", 2)}


def test_lines_that_are_not_looked_at_are_named(pushed_to: World) -> None:
    odd = "git+https://example.com/x.git\n--index-url https://example.com\n"
    push(pushed_to, {"requirements.txt": odd + CONFLICTS})
    left_out = pushed_to.incident().finding.facts["left_out"]
    assert [line.partition(":")[0] for line in left_out] == ["requirements.txt"] * 2


def test_a_pyproject_is_read_too(pushed_to: World) -> None:
    text = '[project]\nname = "x"\ndependencies = [\n  "frames==1.4.2",\n  "store==2.1.0",\n]\n'
    push(pushed_to, {"pyproject.toml": text})
    assert [line.number for line in pushed_to.incident().finding.lines] == [4, 5]


def test_a_push_whose_paths_github_left_out_is_looked_at_whole(pushed_to: World) -> None:
    push(pushed_to, {"requirements.txt": CONFLICTS}, complete=False)
    assert pushed_to.incident().finding.subject == "requirements.txt"


def test_an_index_that_does_not_answer_is_no_news(pushed_to: World) -> None:
    class Silent:
        def resolve(self, requirements: Sequence[str], *, python: str | None = None) -> Resolution:
            raise Unreachable("the package index did not answer")

    pushed_to.kit.__dict__["resolver"] = Silent()
    push(pushed_to, {"requirements.txt": CONFLICTS})
    assert pushed_to.forge.checks == []
    assert pushed_to.delivery_states() == ["done"]


def test_an_include_that_leads_back_ends(pushed_to: World) -> None:
    push(pushed_to, {"requirements.txt": "-r requirements.txt\n-r ../../etc/passwd\nframes==1.4.2\nstore==2.1.0\n"})
    assert pushed_to.incident().finding.kind == "dependency_resolution_conflict"


@pytest.mark.parametrize(
    ("path", "looked_at"),
    [
        ("requirements.txt", True),
        ("services/api/requirements-dev.in", True),
        ("requirements/train.txt", True),
        ("pyproject.toml", True),
        ("vendor/lib/pyproject.toml", False),
        ("docs/requirements.md", False),
        ("train.py", False),
    ],
)
def test_manifests_are_known_by_their_names(path: str, looked_at: bool) -> None:
    assert is_manifest(path) is looked_at


def test_the_job_that_fails_for_a_pushed_conflict_joins_its_incident(pushed_to: World) -> None:
    push(pushed_to, {"requirements.txt": CONFLICTS})
    explained = pushed_to.incident().finding.facts["explanation"]
    pushed_to.fail(f"error: No solution found when resolving dependencies: {explained}")
    pushed_to.drain()
    incident = pushed_to.incident()
    assert incident.run_id
    assert incident.finding.ladder[0].action == "pin_dependency"
    with pytest.raises(LookupError):
        pushed_to.incident(2)


def test_a_conflict_that_comes_back_by_a_push_opens_its_incident_anew(pushed_to: World) -> None:
    pushed_to.project("version: 1\nmode: observe\n")
    push(pushed_to, {"requirements.txt": CONFLICTS})
    pushed_to.fail(f"error: No solution found when resolving: {pushed_to.incident().finding.facts['explanation']}")
    pushed_to.drain()
    pushed_to.forge.push("main", {"requirements.txt": FITS})
    run = pushed_to.forge.add_run(
        head_sha=pushed_to.forge.branches["main"],
        head_branch="main",
        conclusion="success",
        jobs=[pushed_to.forge.job("train", "success")],
    )
    pushed_to.arrive(pushed_to.forge.finished(run.id))
    pushed_to.drain()
    assert pushed_to.incident().state is State.RECOVERED
    push(pushed_to, {"requirements.txt": CONFLICTS})
    assert pushed_to.incident().state is State.OBSERVED


def test_the_same_conflict_in_two_manifests_is_over_when_both_are_mended(pushed_to: World) -> None:
    push(pushed_to, {"requirements.txt": CONFLICTS, "train/requirements.txt": CONFLICTS})
    push(pushed_to, {"requirements.txt": FITS})
    states = {pushed_to.incident(n).finding.subject: pushed_to.incident(n).state for n in (1, 2)}
    assert states["requirements.txt"] is State.RECOVERED
    assert states["train/requirements.txt"] is State.OBSERVED or states["train/requirements.txt"] is State.ESCALATED


def test_a_manifest_that_is_deleted_has_no_conflict_any_more(pushed_to: World) -> None:
    push(pushed_to, {"requirements.txt": CONFLICTS})
    push(pushed_to, {"requirements.txt": None})
    assert pushed_to.incident().state is State.RECOVERED
