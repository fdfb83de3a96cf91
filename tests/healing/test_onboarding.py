"""Where somebody has chosen a repository, the bot introduces itself by one pull request; elsewhere it only observes."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import delete, select

from app.db.engine import reading, writing
from app.db.tables import EffectRow, TurnRow
from app.domain.errors import RateLimited, Refused, Unreachable
from app.domain.event import InstallationChanged
from app.domain.incident import ONBOARDING_BRANCH
from app.domain.policy import CONFIG_PATH, named
from app.healing.configuration import ON_ALL, explain, resolve
from app.healing.gather import configuration
from app.healing.onboarding import AT_ONCE, MOST_DIAGNOSED, MOST_ROWS, Stack, heal_yml
from app.ports.forge import About
from app.ports.queue import Work
from tests.healing.world import OUT_OF_MEMORY, STRANGE, TRANSIENT, World
from tests.twins.forge import MemoryForge


def changed(world: World, change: str = "created", *, selection: str = "selected", **more: tuple[int, ...]) -> None:
    world.arrive(InstallationChanged(installation_id=1, change=change, selection=selection, account="acme", **more))
    world.drain()


def ran(world: World, line: str | None, *, branch: str = "main", name: str = "train", status: str = "completed") -> int:
    """A run was over before the App came; `line` None: it passed."""
    job = world.forge.job(name, "success") if line is None else world.failed_job(line, name)
    run = world.forge.add_run(
        head_sha=world.forge.branches["main"],
        head_branch=branch,
        conclusion="success" if line is None else "failure",
        status=status,
        jobs=[job],
    )
    return run.id


def body(world: World) -> str:
    (pull,) = world.forge.pulls.values()
    return pull.body


def offered(forge: MemoryForge) -> str:
    return forge.commits[forge.branches[ONBOARDING_BRANCH]].files[CONFIG_PATH]


def problems(world: World, text: str) -> object:
    kit = world.kit
    return resolve(text, None, known_detectors=kit.settings, known_actions=named(kit.params_of)).problems


# on all repositories
def test_installed_on_all_repositories_the_bot_observes_and_says_why(world: World) -> None:
    world.project(None)
    changed(world, selection="all")
    configured = configuration(world.kit, world.forge)
    assert ("mode", "observe", ON_ALL) in explain(configured)
    assert world.forge.writes == []


def test_a_file_of_the_team_counts_on_all_repositories_too(world: World) -> None:
    world.project()
    changed(world, selection="all")
    assert ("mode", "auto", CONFIG_PATH) in explain(configuration(world.kit, world.forge))


def test_so_does_a_file_of_the_owner(world: World) -> None:
    world.project(None)
    world.forge.owner_files[CONFIG_PATH] = "version: 1\nmode: propose\n"
    changed(world, selection="all")
    assert configuration(world.kit, world.forge).policy.mode == "propose"


def test_where_repositories_were_selected_the_origin_is_the_default(world: World) -> None:
    world.project(None)
    changed(world)
    assert ("mode", "observe", "default") in explain(configuration(world.kit, world.forge))


def test_a_later_choice_replaces_the_former_one(world: World) -> None:
    changed(world, selection="all")
    changed(world, "removed")
    assert world.store.selection(1) == "selected"
    changed(world, "new_permissions_accepted", selection="")
    assert world.store.selection(1) == "selected"


# on selected ones
def test_a_chosen_repository_gets_one_pull_request_with_a_valid_file(world: World) -> None:
    world.project(None)
    changed(world)
    (pull,) = world.forge.pulls.values()
    assert (pull.head_branch, pull.base_branch) == (ONBOARDING_BRANCH, "main")
    assert problems(world, offered(world.forge)) == ()
    assert "mode: approve" in offered(world.forge)
    assert "No workflow has run here yet" in pull.body


def test_the_event_sent_again_opens_no_second_one(world: World) -> None:
    world.project(None)
    changed(world)
    changed(world, "added", added=(1,))
    assert len(world.forge.pulls) == 1


@pytest.mark.parametrize("merged", [True, False])
def test_what_was_closed_or_merged_is_never_opened_again(world: World, merged: bool) -> None:
    world.project(None)
    changed(world)
    world.close_pull(1, merged=merged)
    world.forge.push("main", {CONFIG_PATH: None})
    changed(world, "added", added=(1,))
    assert len(world.forge.pulls) == 1


def test_the_offered_file_has_its_verdict(world: World) -> None:
    world.project(None)
    changed(world)
    (check,) = world.forge.checks
    assert (check.sha, check.text.title) == (world.forge.branches[ONBOARDING_BRANCH], "valid")


def test_what_is_left_of_all_repositories_is_introduced(world: World) -> None:
    other = world.app.add("acme/other")
    for forge in (world.forge, other):
        forge.push("main", {"train.py": "print()\n"})
    changed(world, selection="all")
    other.installed = False
    changed(world, "removed", removed=(2,))
    assert (len(world.forge.pulls), len(other.pulls)) == (1, 0)


def test_only_what_was_added_is_introduced(world: World) -> None:
    other = world.app.add("acme/other")
    other.push("main", {"train.py": "print()\n"})
    world.project(None)
    changed(world, "added", added=(2,))
    assert (len(world.forge.pulls), len(other.pulls)) == (0, 1)


@pytest.mark.parametrize("about", [About(fork=True), About(archived=True)])
def test_forks_and_archives_get_none(world: World, about: About) -> None:
    world.project(None)
    world.forge.nature = about
    changed(world)
    assert world.forge.writes == []


def test_a_repository_that_is_set_up_gets_none(world: World) -> None:
    world.project("version: 1\nmode: oto\n")
    changed(world)
    assert world.forge.writes == []


def test_a_repository_that_its_owner_has_set_up_gets_none(world: World) -> None:
    world.project(None)
    world.forge.owner_files[CONFIG_PATH] = "version: 1\n"
    changed(world)
    assert world.forge.writes == []


def test_an_empty_repository_gets_none(world: World) -> None:
    changed(world)
    assert world.forge.writes == []


def test_some_are_introduced_at_once_and_the_others_in_turn(world: World) -> None:
    others = [world.app.add(f"acme/other-{number}") for number in range(AT_ONCE)]
    for forge in (world.forge, *others):
        forge.push("main", {"train.py": "print()\n"})
    changed(world)
    assert sum(len(forge.pulls) for forge in (world.forge, *others)) == AT_ONCE
    with writing(world.engine) as connection:
        connection.execute(delete(TurnRow).where(TurnRow.name.startswith("onboarding:")))
    world.wait_for(Work.EFFECT)
    world.drain()
    assert [len(forge.pulls) for forge in (world.forge, *others)] == [1] * (AT_ONCE + 1)


@pytest.mark.parametrize("method", ["commit", "ensure_branch", "ensure_pull"])
@pytest.mark.parametrize("after_write", [True, False])
def test_whoever_is_interrupted_makes_the_same_pull_request(world: World, method: str, after_write: bool) -> None:
    world.project(None)
    world.forge.fail_next(method, Unreachable("gone"), after_write=after_write)
    changed(world)
    world.forge.push("main", {"requirements.txt": "mlflow\n"})  # the world goes on meanwhile
    world.wait_for(Work.EFFECT)
    world.drain()
    assert len(world.forge.pulls) == 1
    assert len(world.forge.written("commit")) == 1


# what would have been done
def test_the_body_tells_of_each_failed_run_what_would_have_been_done(world: World) -> None:
    world.project(None)
    first = ran(world, OUT_OF_MEMORY)
    ran(world, None)
    ran(world, TRANSIENT, name="download")
    changed(world)
    text = body(world)
    assert "Of the last 3 runs **2 failed**" in text
    assert "- asked a person first: 2 times" in text
    assert f"/actions/runs/{first}" in text
    assert re.search(r"\| `lower_batch_size` \| asked a person first \|", text)
    assert re.search(r"\| `rerun_failed_jobs` \| asked a person first \|", text)


def test_nothing_is_changed_or_kept_of_the_past_runs(world: World) -> None:
    world.project(None)
    ran(world, OUT_OF_MEMORY)
    changed(world)
    assert {write.method for write in world.forge.writes} == {"commit", "ensure_branch", "ensure_pull", "ensure_check"}
    with world.store.begin() as ledger:
        assert ledger.incidents_at(1) == []


def test_what_is_not_known_is_not_claimed(world: World) -> None:
    world.project(None)
    ran(world, STRANGE)
    changed(world)
    assert "lower_batch_size" not in body(world)
    assert "**1 failed**" in body(world)


def test_an_expired_log_is_told(world: World) -> None:
    world.project(None)
    gone = world.forge.job("train", "failure", None)
    world.forge.add_run(head_sha=world.forge.branches["main"], head_branch="main", jobs=[gone])
    changed(world)
    assert "its log has expired" in body(world)
    assert "- not known: 1 time" in body(world)


def test_runs_that_cannot_be_read_are_told(world: World) -> None:
    world.project(None)
    world.forge.fail_next("runs", Refused("Actions are off"))
    changed(world)
    assert "could not be read" in body(world)


def test_when_nothing_failed_it_says_so(world: World) -> None:
    world.project(None)
    ran(world, None)
    ran(world, None)
    changed(world)
    assert "None of the last 2 runs failed" in body(world)


def test_only_so_many_are_looked_at_and_the_rest_is_told(world: World) -> None:
    world.project(None)
    for _ in range(MOST_DIAGNOSED + 2):
        ran(world, TRANSIENT)
    changed(world)
    assert len(re.findall(r"/actions/runs/", body(world))) == MOST_DIAGNOSED
    assert "2 older ones were not" in body(world)
    assert world.forge.calls.count("job_log") == MOST_DIAGNOSED


def test_a_body_is_never_too_long_for_github(world: World) -> None:
    world.project(None)
    jobs = [world.failed_job(f"ModuleNotFoundError: No module named '{'m' * 200}{n}'", f"job-{n}") for n in range(8)]
    for _ in range(MOST_DIAGNOSED):
        world.forge.add_run(head_sha=world.forge.branches["main"], head_branch="main", jobs=jobs)
    changed(world)
    assert len(body(world)) < 65_536
    assert f"{8 * MOST_DIAGNOSED - MOST_ROWS} more causes of these runs are left out" in body(world)


def test_runs_under_way_and_on_branches_of_ours_are_left_out(world: World) -> None:
    world.project(None)
    ran(world, OUT_OF_MEMORY, branch="heal/feed")
    ran(world, OUT_OF_MEMORY, status="in_progress")
    changed(world)
    assert "No workflow has run here yet" in body(world)


def test_words_of_a_log_do_nothing_in_the_body(world: World) -> None:
    world.project(None)
    ran(world, "ModuleNotFoundError: No module named 'x|y<img src=x> @everyone ghp_" + "a" * 36 + "'")
    changed(world)
    assert "ghp_" not in body(world)
    assert not re.search(r"(?<!`)<img", body(world))


def test_a_limit_of_github_postpones_it_whole(world: World) -> None:
    world.project(None)
    ran(world, OUT_OF_MEMORY)
    until = world.kit.clock.now() + timedelta(hours=1)
    world.forge.fail_next("job_log", RateLimited("wait", retry_at=until))
    changed(world)
    assert world.forge.pulls == {}
    with reading(world.engine) as connection:
        assert connection.scalar(select(EffectRow.state)) == "wanted"


# the file
def test_the_file_tells_what_was_found(world: World) -> None:
    world.forge.push(
        "main",
        {
            ".github/workflows/train.yml": "on: push\n",
            "requirements.txt": "torch==2.5\nmlflow>=2.9\n",
            "pyproject.toml": "[project]\nname = 'x'\n",
        },
    )
    changed(world)
    text = offered(world.forge)
    assert "#   workflows            .github/workflows/train.yml" in text
    assert "#   Python requirements  pyproject.toml, requirements.txt" in text
    assert "#   MLflow               requirements.txt" in text


def test_what_stands_there_as_a_comment_is_valid_as_well(world: World) -> None:
    text = heal_yml(Stack(("a.yml",), ("requirements.txt",), ("requirements.txt",)))
    head, _, rest = text.partition("version: 1\n")
    asked = re.sub(r"^# (?=(?:actions|protected|limits|models):|  )", "", rest, flags=re.MULTILINE)
    assert problems(world, f"version: 1\n{asked}") == ()
    assert {"actions", "protected", "limits", "models"} <= set(re.findall(r"^(\w+):", asked, re.MULTILINE))
    assert all(line.startswith("#") or not line for line in head.splitlines())


@pytest.mark.parametrize("name", ["a\nmode: auto\n.txt", "a\r\u2028mode: auto", "\x1b[2Jx", "x" * 5000])
def test_a_name_of_a_file_writes_nothing_into_it(world: World, name: str) -> None:
    text = heal_yml(Stack((name,) * 20, (name,), (name,)))
    assert problems(world, text) == ()
    assert re.findall(r"^mode:.*", text, re.MULTILINE) == ["mode: approve"]
    assert max(map(len, text.splitlines())) < 2_000
