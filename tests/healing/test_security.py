"""The security detector in the loop: pushes, alerts and the schedule."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.advisory import Advisory, Affected, Known, LockedPackage
from app.domain.event import Pushed, SecurityAlertChanged, Ticked
from app.domain.incident import Incident, State
from app.domain.tenant import Sender
from detectors.security_vulnerability import SecurityVulnerability
from tests.healing.world import AUTO, World

URLLIB3 = Advisory("GHSA-34jh-p97f-mpxf", ("CVE-2024-37891",), "Proxy-Authorization", 8.1, fixed=("1.26.19", "2.2.2"))
LOCK = 'version = 1\n\n[[package]]\nname = "urllib3"\nversion = "{}"\nsource = {{ registry = "https://pypi.org" }}\n'
AT = datetime(2026, 11, 21, tzinfo=UTC)


class MemoryAdvisories:
    """Knows which versions are affected, and counts what it is asked."""

    def __init__(self, known: Mapping[tuple[str, str], Advisory], *, complete: bool = True) -> None:
        self.known = dict(known)
        self.complete = complete
        self.asked: list[LockedPackage] = []

    def affecting(self, packages: Sequence[LockedPackage]) -> Known:
        self.asked += packages
        found = [Affected(p, (self.known[p.name, p.version],)) for p in packages if (p.name, p.version) in self.known]
        return Known(tuple(found), AT, self.complete)


@pytest.fixture
def watched(world: World) -> World:
    world.kit = replace(
        world.kit,
        detectors={"security_vulnerability": SecurityVulnerability()},
        advisories=MemoryAdvisories({("urllib3", "1.26.5"): URLLIB3}),
    )
    world.project(AUTO)
    world.forge.push("main", {"train.py": "import urllib3\n"})
    return world


def advisories(world: World) -> MemoryAdvisories:
    assert isinstance(world.kit.advisories, MemoryAdvisories)
    return world.kit.advisories


def push(world: World, files: Mapping[str, str | None], branch: str = "main", *, complete: bool = True) -> None:
    """Files are pushed, and GitHub tells of it."""
    before = world.forge.branches.get(branch, "")
    if not before:
        world.forge.branches[branch] = world.forge.branches["main"]
    head = world.forge.push(branch, files)
    world.arrive(
        Pushed(
            repository=world.forge.repository,
            sender=Sender("maria"),
            branch=branch,
            before=before,
            head_sha=head,
            paths=frozenset(files) if complete else frozenset(),
            complete=complete,
        )
    )
    world.drain()


def incidents(world: World) -> list[Incident]:
    with world.store.begin() as ledger:
        return [
            i for branch in ("main", "feature") for i in ledger.incidents_at(world.forge.repository.id, branch=branch)
        ]


def test_a_vulnerable_lockfile_opens_one_incident_and_the_fixed_one_ends_it(watched: World) -> None:
    push(watched, {"uv.lock": LOCK.format("1.26.5")})
    push(watched, {"uv.lock": LOCK.format("1.26.5") + "\n"})
    (incident,) = incidents(watched)
    finding = incident.finding
    assert (finding.kind, finding.subject, finding.severity) == ("vulnerable_dependency", "uv.lock", "high")
    assert finding.summary == "urllib3 1.26.5 is vulnerable: GHSA-34jh-p97f-mpxf; fixed in 1.26.19"
    assert finding.lines[0].number == 3
    assert incident.issue_number is not None
    push(watched, {"uv.lock": LOCK.format("1.26.19")})
    assert watched.incident().state is State.RECOVERED


def test_a_push_that_touches_no_lockfile_asks_nobody(watched: World) -> None:
    push(watched, {"train.py": "import torch\n"})
    assert advisories(watched).asked == []
    assert "archive" not in watched.forge.calls
    assert incidents(watched) == []


def test_the_file_that_imports_the_package_is_named(watched: World) -> None:
    push(watched, {"uv.lock": LOCK.format("1.26.5")})
    facts = watched.incident().finding.facts
    assert (facts["reachable"], facts["imported_by"]) == ("imported", ["train.py"])


def test_a_package_that_nothing_imports_counts_one_step_less_and_is_still_told(watched: World) -> None:
    push(watched, {"train.py": "import torch\n"})
    push(watched, {"uv.lock": LOCK.format("1.26.5")})
    incident = watched.incident()
    assert (incident.finding.facts["reachable"], incident.finding.severity) == ("not imported", "medium")
    assert incident.issue_number is None


def test_what_dependabot_repairs_already_is_left_to_it(watched: World) -> None:
    branch = "dependabot/pip/urllib3-1.26.19"
    pull = watched.forge.pull_by_hand(branch, "Bump urllib3 from 1.26.5 to 1.26.19", login="dependabot[bot]")
    push(watched, {"uv.lock": LOCK.format("1.26.5")})
    incident = watched.incident()
    assert incident.finding.ladder == ()
    assert incident.finding.facts["dependabot"]["number"] == pull.number
    assert f"#{pull.number}" in incident.finding.summary
    assert watched.forge.issues == {}


def test_a_lockfile_that_is_gone_ends_the_incident(watched: World) -> None:
    push(watched, {"uv.lock": LOCK.format("1.26.5")})
    push(watched, {"uv.lock": None})
    assert watched.incident().state is State.RECOVERED


def test_a_lockfile_that_cannot_be_read_ends_nothing(watched: World) -> None:
    push(watched, {"uv.lock": LOCK.format("1.26.5")})
    push(watched, {"uv.lock": "[[package]]\nname = \n"})
    push(watched, {"uv.lock": "# " + "x" * (9 << 20)})
    assert watched.incident().state is State.ESCALATED


def test_versions_that_were_never_looked_up_end_nothing(watched: World) -> None:
    push(watched, {"uv.lock": LOCK.format("1.26.5")})
    advisories(watched).complete = False
    push(watched, {"uv.lock": LOCK.format("1.26.19")})
    assert watched.incident().state is State.ESCALATED


def test_a_branch_is_told_only_what_it_brings_itself(watched: World) -> None:
    push(watched, {"uv.lock": LOCK.format("1.26.5")})
    push(watched, {"uv.lock": LOCK.format("1.26.5") + "# more\n"}, "feature")
    assert [incident.branch for incident in incidents(watched)] == ["main"]
    advisories(watched).known["urllib3", "1.26.4"] = URLLIB3
    push(watched, {"uv.lock": LOCK.format("1.26.4")}, "feature")
    assert [incident.branch for incident in incidents(watched)] == ["main", "feature"]


def test_where_github_left_paths_out_all_lockfiles_are_read(watched: World) -> None:
    push(watched, {"deep/uv.lock": LOCK.format("1.26.5")}, complete=False)
    assert watched.incident().finding.subject == "deep/uv.lock"


def test_the_schedule_looks_at_a_repository_once_a_day(watched: World) -> None:
    watched.forge.push("main", {"uv.lock": LOCK.format("1.26.5")})
    for tick in range(96):
        at = AT + timedelta(minutes=15 * tick)
        watched.arrive(Ticked(repository=watched.forge.repository, sender=Sender("schedule", is_bot=True), at=at))
    watched.drain()
    assert [package.version for package in advisories(watched).asked] == ["1.26.5"]
    assert watched.incident().finding.subject == "uv.lock"


def dependabot(world: World, *, open: bool = True, rule: str = "GHSA-34jh-p97f-mpxf") -> SecurityAlertChanged:
    return SecurityAlertChanged(
        repository=world.forge.repository,
        sender=Sender("github"),
        source="dependabot",
        number=7,
        open=open,
        rule=rule,
        severity="high",
        details={"package": "urllib3", "ecosystem": "PyPI", "path": "uv.lock", "aliases": [], "fixed": "1.26.19"},
    )


def test_github_and_the_lockfile_speak_of_one_incident(watched: World) -> None:
    push(watched, {"uv.lock": LOCK.format("1.26.5")})
    watched.arrive(dependabot(watched))
    watched.drain()
    assert len(incidents(watched)) == 1
    watched.arrive(dependabot(watched, open=False))
    watched.drain()
    assert watched.incident().state is State.RECOVERED


def test_a_pushed_secret_is_told_without_being_told(watched: World) -> None:
    token = "hf_" + "".join("QWERTYUIOPasdfghjklZXCVBNMqwertyui"[n] for n in range(34))
    push(watched, {"upload.py": f"import hub\nhub.login({token!r})\n"})
    incident = watched.incident()
    facts = incident.finding.facts
    assert incident.finding.kind == "secret_leaked"
    assert (facts["type"], facts["path"], facts["line"]) == ("hugging_face_token", "upload.py", 2)
    assert incident.finding.summary.startswith("a secret (hugging face token) was pushed in upload.py, line 2")
    assert incident.state is State.AWAITING_APPROVAL
    assert watched.forge.issues == {}
    watched.press(f"approve:{incident.id}")
    watched.drain()
    incident = watched.incident()
    assert incident.state is State.ESCALATED
    assert watched.forge.issues[incident.issue_number or 0].labels == ("heal", "security")
    assert "huggingface.co/settings/tokens" in watched.forge.issues[incident.issue_number or 0].body
    shown = [issue.body for issue in watched.forge.issues.values()] + [
        str(check.text) for check in watched.forge.checks
    ]
    assert all(token not in text and token[3:20] not in text for text in [*shown, str(watched.record(incident.id))])


def test_a_dangerous_model_file_is_told_and_its_removal_ends_it(watched: World) -> None:
    harmful = "cos\nsystem\n(S'true'\ntR."
    push(watched, {"model.pkl": harmful})
    assert (watched.incident().finding.kind, watched.incident().finding.subject) == ("unsafe_model_file", "model.pkl")
    assert watched.incident().finding.facts["imports"] == ["os.system"]
    push(watched, {"model.pkl": None})
    assert watched.incident().state is State.RECOVERED


def test_unpinned_actions_are_told_once_a_workflow_and_never_open_an_issue(watched: World) -> None:
    path = ".github/workflows/ci.yml"
    push(watched, {path: "jobs:\n  a:\n    steps:\n      - uses: acme/deploy@v1\n      - uses: acme/notify@main\n"})
    (incident,) = incidents(watched)
    assert incident.finding.facts["actions"] == ["acme/deploy@v1", "acme/notify@main"]
    assert watched.forge.issues == {}
    push(watched, {path: f"jobs:\n  a:\n    steps:\n      - uses: acme/deploy@{'a' * 40} # v1\n"})
    assert watched.incident().state is State.RECOVERED


def test_settings_choose_what_opens_an_issue_and_what_is_ignored(watched: World) -> None:
    settings = "{open_issue_from: never, ignore: [CVE-2024-37891]}"
    text = AUTO + f"detectors: {{security_vulnerability: {{settings: {settings}}}}}\n"
    push(watched, {".github/heal.yml": text})
    push(watched, {"uv.lock": LOCK.format("1.26.5")})
    assert incidents(watched) == []


def test_a_healthy_push_says_nothing(watched: World) -> None:
    advisories(watched).known.clear()
    push(
        watched,
        {
            "uv.lock": LOCK.format("2.6.0"),
            "train.py": "token = os.environ['HF_TOKEN']\n",
            ".github/workflows/ci.yml": "jobs:\n  a:\n    steps:\n      - uses: actions/checkout@v5\n",
            "model.pkl": b"\x80\x04N.".decode(errors="surrogateescape"),
        },
    )
    assert incidents(watched) == []
    assert watched.forge.checks == []
