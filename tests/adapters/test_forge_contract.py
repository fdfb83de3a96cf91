"""What every forge does, held against both: GitHub in memory, and the GitHub adapter against the sandbox."""

import tarfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.errors import NotInstalled, RateLimited, Refused, Unreachable
from app.domain.evidence import Annotation
from app.domain.fleet import Runner
from app.domain.outcome import Conclusion
from app.ports.forge import About, Button, CheckText
from tests.adapters.conftest import World

AT = datetime(2026, 11, 21, 9, 0, 0, tzinfo=UTC)
MARK = "<!-- heal:0123456789abcdef0123456789abcdef -->"
HEAD = "heal/3f2a"
TEXT = CheckText(name="Heal", title="Looking into it", summary="One moment.")
DONE = CheckText(
    name="Heal",
    title="Healed",
    summary="The job passes again.",
    text="Evidence",
    conclusion=Conclusion.SUCCESS,
    annotations=(Annotation("failure", "out of memory", "train.py", 3, "MemoryError"),),
    buttons=(Button("Undo", "Take the repair back", "undo"),),
    details_url="https://heal.example/incidents/1",
)


def branch(world: World, files: dict[str, str | None] | None = None) -> str:
    """Our branch with one commit; its SHA."""
    sha = world.forge.commit(world.main, files or {"train.py": "print('better')\n"}, "Repair", AT)
    world.forge.ensure_branch(HEAD, sha)
    return sha


def pull(world: World) -> int:
    branch(world)
    return world.forge.ensure_pull(head=HEAD, base="main", title="Repair", body="Why").number


def test_files_and_paths_of_a_commit_are_read(world: World) -> None:
    found = world.forge.file("train.py", world.main)
    assert found is not None
    assert (found.path, found.text, len(found.blob_sha)) == ("train.py", "print('train')\n", 40)
    assert world.forge.paths(world.main) == ["README.md", "train.py"]
    assert world.forge.file("train.py", "main") == found


@pytest.mark.parametrize("path", ["missing.py", "folder/missing.py", "binary.bin", "../../user", "/train.py", "a/../b"])
def test_a_file_that_is_not_there_or_no_text_is_none(world: World, path: str) -> None:
    sha = world.push("main", {"binary.bin": "a\0b"})
    assert world.forge.file(path, sha) is None


def test_a_large_file_is_none(world: World) -> None:
    sha = world.push("main", {"large.txt": "x" * (1 << 20), "larger.txt": "x" * ((1 << 20) + 1)})
    assert world.forge.file("large.txt", sha) is not None
    assert world.forge.file("larger.txt", sha) is None


def test_the_bytes_of_a_file_are_read_up_to_a_limit(world: World) -> None:
    large = "x" * (2 << 20)
    sha = world.push("main", {"large.bin": large, "binary.bin": "a\0b"})
    assert world.forge.content("binary.bin", sha, most_bytes=3) == b"a\0b"
    assert world.forge.content("binary.bin", sha, most_bytes=2) is None
    assert world.forge.content("large.bin", sha, most_bytes=4 << 20) == large.encode()
    assert world.forge.content("missing.bin", sha, most_bytes=9) is None
    assert world.forge.content("../missing.bin", sha, most_bytes=9) is None


def test_what_a_branch_has_changed_is_told_with_its_patch(world: World) -> None:
    sha = world.push("feature", {"train.py": "print('train')\nprint('more')\n", "new.txt": "one\n", "README.md": None})
    world.push("main", {"elsewhere.txt": "not of that branch\n"})
    found = {change.path: change for change in world.forge.changes("main", sha)}
    assert {path: change.status for path, change in found.items()} == {
        "README.md": "removed",
        "new.txt": "added",
        "train.py": "modified",
    }
    patch = found["train.py"].patch.splitlines()
    assert patch[0].startswith("@@ -1")
    assert patch[-1] == "+print('more')"


def test_an_archive_holds_the_files_of_a_commit_in_one_folder(world: World) -> None:
    with world.forge.archive(world.main) as packed, tarfile.open(fileobj=packed, mode="r:gz") as tar:
        files = {entry.name.partition("/")[2]: tar.extractfile(entry) for entry in tar if entry.isfile()}
        train = files["train.py"]
        assert set(files) == {"README.md", "train.py"}
        assert train is not None
        assert train.read() == b"print('train')\n"


def test_only_the_open_pulls_of_that_account_are_listed(world: World) -> None:
    for name in ("one", "two", "three"):
        world.push(name, {f"{name}.txt": name})
    first, _, third = (
        world.pull_by_hand(head, f"Bump {head}", login)
        for head, login in (("one", "depbot"), ("two", "maria"), ("three", "depbot"))
    )
    assert [pull.number for pull in world.forge.open_pulls(by="depbot")] == [third, first]
    world.close_by_hand(third)
    assert [pull.title for pull in world.forge.open_pulls(by="depbot")] == ["Bump one"]


def test_a_folder_is_no_file(world: World) -> None:
    sha = world.push("main", {"configs/base.yml": "a: 1\n"})
    assert world.forge.file("configs", sha) is None
    assert "configs/base.yml" in world.forge.paths(sha)


def test_the_owners_defaults_are_read_from_a_repository_of_their_own(world: World) -> None:
    assert world.forge.owner_file(".github/heal.yml") is None
    world.share({".github/heal.yml": "mode: propose\n"})
    found = world.forge.owner_file(".github/heal.yml")
    assert found is not None
    assert found.text == "mode: propose\n"
    assert world.forge.owner_file("missing.yml") is None


def test_names_with_odd_characters_are_read_and_written(world: World) -> None:
    name = "configs/läufe #1?&%20.yml"
    sha = world.forge.commit(world.main, {name: "ü: 1\r\n"}, "Add", AT)
    found = world.forge.file(name, sha)
    assert found is not None
    assert found.text == "ü: 1\r\n"
    assert name in world.forge.paths(sha)


def test_the_same_commit_made_twice_is_one_commit(world: World) -> None:
    files: dict[str, str | None] = {"train.py": "print('better')\n", "README.md": None, "missing.py": None, "new": ""}
    first = world.forge.commit(world.main, files, "Repair\n\nWith a body.", AT)
    assert world.forge.commit(world.main, files, "Repair\n\nWith a body.", AT) == first
    assert world.forge.commit(world.main, files, "Repair\n\nWith a body.", AT + timedelta(seconds=1)) != first
    assert world.forge.paths(first) == ["new", "train.py"]


def test_a_commit_moves_no_branch(world: World) -> None:
    world.forge.commit(world.main, {"train.py": "x"}, "Repair", AT)
    assert world.forge.branch_head("main") == world.main


def test_a_branch_is_made_once_and_moved_only_from_where_we_left_it(world: World) -> None:
    first = branch(world)
    world.forge.ensure_branch(HEAD, first)
    second = world.forge.commit(world.main, {"train.py": "second"}, "Repair", AT)
    with pytest.raises(Refused):
        world.forge.ensure_branch(HEAD, second)
    with pytest.raises(Refused):
        world.forge.ensure_branch(HEAD, second, replace=world.main)
    assert world.forge.branch_head(HEAD) == first
    world.forge.ensure_branch(HEAD, second, replace=first)
    assert world.forge.branch_head(HEAD) == second


def test_a_branch_is_deleted_only_where_we_left_it(world: World) -> None:
    sha = branch(world)
    with pytest.raises(Refused):
        world.forge.delete_branch(HEAD, world.main)
    assert world.forge.branch_head(HEAD) == sha
    world.forge.delete_branch(HEAD, sha)
    world.forge.delete_branch(HEAD, sha)
    assert world.forge.branch_head(HEAD) is None


def test_a_branch_that_is_not_there_has_no_head(world: World) -> None:
    assert world.forge.branch_head("heal/never") is None


def test_a_pull_request_exists_once_and_carries_the_newest_text(world: World) -> None:
    number = pull(world)
    again = world.forge.ensure_pull(head=HEAD, base="main", title="Better", body="Because")
    assert (again.number, again.title, again.body, again.state) == (number, "Better", "Because", "open")
    assert [found.number for found in world.forge.pulls_of(HEAD)] == [number]
    seen = world.forge.pull(number)
    assert (seen.title, seen.head_branch, seen.base_branch) == ("Better", HEAD, "main")
    assert seen.head_sha == world.forge.branch_head(HEAD)


def test_a_pull_request_without_a_branch_is_refused(world: World) -> None:
    with pytest.raises(Refused):
        world.forge.ensure_pull(head="heal/never", base="main", title="Repair", body="")


def test_a_pull_request_that_we_closed_was_not_closed_by_a_human(world: World) -> None:
    number = pull(world)
    world.forge.close_pull(number)
    world.forge.close_pull(number)
    closed = world.forge.pull(number)
    assert (closed.state, closed.merged, closed.closed_by_human) == ("closed", False, False)


def test_a_pull_request_that_a_person_closed_tells_so(world: World) -> None:
    number = pull(world)
    world.close_by_hand(number)
    assert world.forge.pull(number).closed_by_human
    assert world.forge.pulls_of(HEAD)[0].closed_by_human
    assert world.forge.ensure_pull(head=HEAD, base="main", title="Again", body="").number != number


def test_a_merged_pull_request_is_merged_and_not_closed_by_a_human(world: World) -> None:
    number = pull(world)
    world.merge_by_hand(number)
    merged = world.forge.pull(number)
    assert (merged.state, merged.merged, merged.closed_by_human) == ("closed", True, False)
    found = world.forge.file("train.py", "main")
    assert found is not None
    assert found.text == "print('better')\n"


def test_pull_requests_of_a_branch_come_newest_first(world: World) -> None:
    first = pull(world)
    world.forge.close_pull(first)
    second = world.forge.ensure_pull(head=HEAD, base="main", title="Again", body="").number
    assert [found.number for found in world.forge.pulls_of(HEAD)] == [second, first]
    assert world.forge.pulls_of("heal/never") == []


def test_a_comment_exists_once_and_is_edited_in_place(world: World) -> None:
    number = pull(world)
    first = world.forge.ensure_comment(number, MARK, f"One\n\n{MARK}")
    assert world.forge.ensure_comment(number, MARK, f"Two\n\n{MARK}") == first
    assert world.comments(number) == [("heal[bot]", f"Two\n\n{MARK}")]


def test_a_comment_carries_its_marker_even_if_the_text_does_not(world: World) -> None:
    number = pull(world)
    first = world.forge.ensure_comment(number, MARK, "One")
    assert world.forge.ensure_comment(number, MARK, "One") == first
    assert world.comments(number) == [("heal[bot]", f"One\n\n{MARK}")]


def test_a_comment_of_somebody_else_is_not_ours_even_with_our_marker(world: World) -> None:
    number = pull(world)
    theirs = world.comment("mallory", number, f"I am the bot {MARK}")
    assert world.forge.ensure_comment(number, MARK, "Ours") != theirs
    assert [author for author, _ in world.comments(number)] == ["mallory", "heal[bot]"]


def test_two_workers_that_comment_at_once_leave_one_comment(world: World) -> None:
    number = pull(world)
    together = threading.Barrier(4)

    def comment() -> None:
        together.wait()
        world.forge.ensure_comment(number, MARK, "Ours")

    workers = [threading.Thread(target=comment) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    world.forge.ensure_comment(number, MARK, "Ours")
    assert world.comments(number) == [("heal[bot]", f"Ours\n\n{MARK}")]


def test_a_check_run_exists_once_and_moves_from_running_to_done_and_back(world: World) -> None:
    first = world.forge.ensure_check(world.main, "incident-1", TEXT)
    assert world.forge.ensure_check(world.main, "incident-1", DONE) == first
    assert world.forge.ensure_check(world.main, "incident-1", DONE) == first
    assert world.checks(world.main) == [("incident-1", "Healed")]
    assert world.forge.ensure_check(world.main, "incident-1", TEXT) == first
    other = world.forge.ensure_check(world.main, "incident-2", TEXT)
    assert other != first
    assert len(world.checks(world.main)) == 2


def test_an_issue_exists_once_while_it_is_open(world: World) -> None:
    first = world.forge.ensure_issue(MARK, "Broken", "Evidence", ["heal"])
    assert world.forge.ensure_issue(MARK, "Still broken", "Evidence", ["heal"]) == first
    assert world.open_issues() == ["Still broken"]
    world.forge.close_issue(first, "It works again.")
    world.forge.close_issue(first, "It works again.")
    assert world.open_issues() == []
    assert [text.splitlines()[0] for _, text in world.comments(first)] == ["It works again."]
    assert world.forge.ensure_issue(MARK, "Broken", "Evidence", ["heal"]) != first


def test_an_issue_that_a_person_closed_stays_closed_and_no_other_is_opened(world: World) -> None:
    first = world.forge.ensure_issue(MARK, "Broken", "Evidence", ["heal"])
    world.close_issue_by_hand(first)
    assert world.forge.ensure_issue(MARK, "Broken again", "Evidence", ["heal"]) == first
    assert world.open_issues() == []
    other = world.forge.ensure_issue(MARK.replace("0", "f"), "Something else", "Evidence", ["heal"])
    assert other != first
    assert world.open_issues() == ["Something else"]


def test_a_pull_request_of_ours_tells_that_it_is(world: World) -> None:
    world.push("theirs", {"other.txt": "theirs"})
    theirs = world.pull_by_hand("theirs", "Bump", "depbot")
    ours = pull(world)
    authors = {found.number: found.author for found in world.forge.open_pulls(base="main")}
    assert authors[theirs] == "depbot"
    assert authors[ours].endswith("[bot]")


def test_the_changes_of_a_pull_request_are_those_since_it_left_its_base(world: World) -> None:
    world.push("theirs", {"other.txt": "theirs"})
    world.pull_by_hand("theirs", "Bump", "depbot")
    world.push("main", {"train.py": "print('moved on')\n"})
    (found,) = world.forge.open_pulls(base="main")
    assert [change.path for change in world.forge.changes(found.base_branch, found.head_sha)] == ["other.txt"]


def test_a_reaction_given_twice_is_one(world: World) -> None:
    number = pull(world)
    comment = world.comment("maintainer", number, "/heal why")
    world.forge.react(comment, "eyes")
    world.forge.react(comment, "eyes")
    with pytest.raises(Refused):
        world.forge.react(999_999_999, "eyes")


@pytest.mark.parametrize("level", ["admin", "write", "read", "none"])
def test_the_permission_of_an_account_is_told(world: World, level: str) -> None:
    world.allow(f"person-{level}", level)
    assert world.forge.permission(f"person-{level}") == level


@pytest.mark.parametrize("login", ["never-seen", "a/../b", "x?y=1"])
def test_an_unknown_account_has_no_permission(world: World, login: str) -> None:
    assert world.forge.permission(login) == "none"


def test_a_failed_run_shows_its_jobs_log_and_annotations(world: World) -> None:
    run = world.forge.run(world.failed_run())
    assert (run.attempt, run.status, run.conclusion, run.head_branch) == (1, "completed", "failure", "main")
    assert (run.name, run.workflow_path, run.trigger) == ("CI", ".github/workflows/ci.yml", "push")
    assert world.forge.runs(head_sha=run.head_sha) == [run]
    assert world.forge.runs(head_sha="f" * 40) == []
    jobs = {job.name: job for job in world.forge.jobs(run.id, 1)}
    assert {name: job.conclusion for name, job in jobs.items()} == {"steady": "success", "train": "failure"}
    assert {(job.run_id, job.attempt, job.head_sha) for job in jobs.values()} == {(run.id, 1, run.head_sha)}
    with world.forge.job_log(jobs["train"]) as log:
        lines = log.readlines()
    assert lines[-1].startswith(b"20")
    assert any(line.endswith(b"##[error]Process completed with exit code 1.\n") for line in lines)
    found = world.forge.annotations(jobs["train"])
    assert ("failure", "train.py", 3, "no more memory") in [(a.level, a.path, a.line, a.message) for a in found]


def test_what_a_run_uploaded_is_listed_and_read(world: World) -> None:
    (artifact,) = world.forge.artifacts(world.uploading_run())
    assert artifact.name == "heal-observations"
    assert artifact.size_bytes > 0
    files = world.forge.artifact_files(artifact, most_bytes=1_000_000)
    assert files == {"churn.json": b'[{"age": 1}]', "deep/notes.txt": b"x"}
    assert world.forge.artifacts(world.failed_run()) == []


def test_all_runs_are_listed_where_no_commit_is_named(world: World) -> None:
    run = world.forge.run(world.failed_run())
    assert world.forge.runs() == [run]


def test_runs_are_listed_by_branch_and_conclusion(world: World) -> None:
    run = world.forge.run(world.failed_run())
    assert world.forge.runs(branch="main", conclusion="failure") == [run]
    assert world.forge.runs(branch="main", conclusion="success") == []
    assert world.forge.runs(branch="other") == []


def test_a_job_tells_when_it_was_asked_for_and_when_it_began_and_ended(world: World) -> None:
    for job in world.forge.jobs(world.failed_run(), 1):
        assert job.created_at is not None
        assert job.started_at is not None
        assert job.completed_at is not None
        assert job.created_at <= job.started_at <= job.completed_at
        assert job.labels == ("ubuntu-latest",)


def test_the_repositorys_own_runners_are_told(world: World) -> None:
    assert world.forge.runners() == []
    runners = [
        Runner(7, "gpu-1", True, busy=True, labels=frozenset({"self-hosted", "gpu"})),
        Runner(8, "gpu-2", False, labels=frozenset({"self-hosted"})),
        Runner(9, "once-x7", True, ephemeral=True, labels=frozenset({"self-hosted"})),
    ]
    world.own(*runners)
    assert world.forge.runners() == runners


def test_a_repository_of_its_own_is_neither_a_fork_nor_archived(world: World) -> None:
    assert world.forge.about() == About()


def test_a_run_of_the_repository_itself_is_not_from_a_fork(world: World) -> None:
    run_id = world.failed_run()
    (listed,) = (run for run in world.forge.runs() if run.id == run_id)
    assert not listed.from_fork


def test_a_rerun_is_a_later_attempt_of_the_same_run(world: World) -> None:
    run_id = world.failed_run()
    world.forge.rerun_failed_jobs(run_id)
    world.finished(run_id, 2)
    again = world.forge.run(run_id)
    assert (again.attempt, again.conclusion) == (2, "success")
    assert {job.name: job.conclusion for job in world.forge.jobs(run_id, 2)}["train"] == "success"
    assert {job.name: job.conclusion for job in world.forge.jobs(run_id, 1)}["train"] == "failure"


def test_what_is_not_there_is_refused(world: World) -> None:
    calls: list[Callable[[], object]] = [
        lambda: world.forge.run(999_999_999),
        lambda: world.forge.pull(999),
        lambda: world.forge.jobs(999_999_999, 1),
        lambda: world.forge.rerun_failed_jobs(999_999_999),
        lambda: world.forge.commit("f" * 40, {"a": "b"}, "x", AT),
        lambda: world.forge.ensure_branch("heal/x", "f" * 40),
        lambda: world.forge.ensure_check("f" * 40, "x", TEXT),
    ]
    for call in calls:
        with pytest.raises(Refused):
            call()


def test_a_write_whose_answer_was_lost_is_adopted_by_the_next_try(world: World) -> None:
    sha = world.forge.commit(world.main, {"train.py": "x"}, "Repair", AT)
    tries: dict[str, Callable[[], object]] = {
        "commit": lambda: world.forge.commit(world.main, {"train.py": "x"}, "Repair", AT),
        "ensure_branch": lambda: world.forge.ensure_branch(HEAD, sha),
        "ensure_pull": lambda: world.forge.ensure_pull(head=HEAD, base="main", title="Repair", body=""),
        "ensure_comment": lambda: world.forge.ensure_comment(1, MARK, "Ours"),
        "ensure_check": lambda: world.forge.ensure_check(sha, "incident", TEXT),
        "ensure_issue": lambda: world.forge.ensure_issue(MARK, "Broken", "", ["heal"]),
    }
    for method, attempt in tries.items():
        world.break_after(method)
        with pytest.raises(Unreachable):
            attempt()
        attempt()
    assert world.forge.branch_head(HEAD) == sha
    assert len(world.forge.pulls_of(HEAD)) == 1
    assert world.comments(1) == [("heal[bot]", f"Ours\n\n{MARK}")]
    assert world.checks(sha) == [("incident", "Looking into it")]
    assert world.open_issues() == ["Broken"]


def test_a_rate_limit_says_when_to_come_back_and_nothing_was_done(world: World) -> None:
    number = pull(world)
    world.limit("ensure_comment")
    before = datetime.now(UTC)
    with pytest.raises(RateLimited) as limited:
        world.forge.ensure_comment(number, MARK, "Ours")
    assert limited.value.retry_at is not None
    assert timedelta(seconds=80) < limited.value.retry_at - before < timedelta(seconds=100)
    assert world.comments(number) == []


def test_a_repository_without_the_app_is_not_installed(world: World) -> None:
    world.uninstall()
    with pytest.raises(NotInstalled):
        world.forge.branch_head("main")
