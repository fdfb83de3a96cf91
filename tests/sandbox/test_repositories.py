"""Each demo repository fails for its real reason, and passes once the intended repair is made by hand."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.catalogue import PACKAGES, SCENARIOS
from sandbox.runner import JobResult, parse_workflow, run_job
from tests.sandbox.index_server import serve_index

DIRECTORIES = {scenario.name: scenario.directory for scenario in SCENARIOS}


@pytest.fixture(scope="module")
def index_url():
    with serve_index(PACKAGES) as url:
        yield url


@pytest.fixture
def attempt(tmp_path: Path, index_url: str) -> Callable[..., JobResult]:
    """Run the only job of a demo repository, after replacing `old` by `new` in its file `path`."""

    def run(name: str, *edits: tuple[str, str, str], number: int = 1) -> JobResult:
        def checkout(workspace: Path) -> None:
            shutil.copytree(DIRECTORIES[name], workspace, dirs_exist_ok=True)
            for path, old, new in edits:
                text = (workspace / path).read_text()
                assert old in text
                (workspace / path).write_text(text.replace(old, new))

        (file,) = (DIRECTORIES[name] / ".github" / "workflows").iterdir()
        (job,) = parse_workflow(file.read_text()).jobs
        scratch = tmp_path / f"{name}-{number}-{len(edits)}"
        scratch.mkdir()
        env = {
            "GITHUB_REPOSITORY": f"acme/{name}",
            "GITHUB_SHA": "0" * 40,
            "GITHUB_RUN_ATTEMPT": str(number),
            "UV_DEFAULT_INDEX": index_url,
            "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
        }
        return run_job(job, checkout=checkout, scratch=scratch, env=env)

    return run


def failed_step(result: JobResult) -> str:
    (step,) = (step for step in result.steps if step.conclusion == "failure")
    return step.name


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_repository_explains_itself_and_lets_the_bot_act(scenario):
    assert (scenario.directory / "README.md").read_text().startswith("# ")
    assert "mode: auto" in (scenario.directory / ".github" / "heal.yml").read_text()
    (file,) = (scenario.directory / ".github" / "workflows").iterdir()
    workflow = parse_workflow(file.read_text())
    assert workflow.starts_on("push", "main")
    assert workflow.starts_on("pull_request", "main", "opened")


def test_the_cold_mirror_resets_the_first_attempt_and_serves_the_second(attempt):
    first = attempt("flaky-download")
    assert first.conclusion == "failure"
    assert failed_step(first) == "Test"
    assert "ConnectionResetError: [Errno 104] Connection reset by peer" in first.log
    assert attempt("flaky-download", number=2).conclusion == "success"


def test_the_oversized_batch_runs_out_of_memory_on_every_attempt(attempt):
    for number in (1, 2):
        result = attempt("oversized-batch", number=number)
        assert result.conclusion == "failure"
        assert failed_step(result) == "Train"
        assert "_ArrayMemoryError: Unable to allocate 64.0 MiB for an array with shape (4096, 2048)" in result.log


def losses(result: JobResult) -> list[str]:
    return [line.partition("loss ")[2] for line in result.log.splitlines() if " loss " in line]


def test_smaller_batches_with_gradient_accumulation_fit_and_train_the_same(attempt):
    half, quarter = (
        attempt(
            "oversized-batch",
            ("configs/train.yaml", "batch_size:   4096", f"batch_size:   {size}"),
            ("configs/train.yaml", "gradient_accumulation_steps: 1", f"gradient_accumulation_steps: {4096 // size}"),
            number=size,
        )
        for size in (2048, 1024)
    )
    assert half.conclusion == quarter.conclusion == "success"
    assert len(losses(half)) == 4
    assert losses(half) == losses(quarter)


def test_the_pins_cannot_be_resolved_until_one_of_them_moves(attempt):
    broken = attempt("unresolvable-pins")
    assert broken.conclusion == "failure"
    assert failed_step(broken) == "Install"
    assert "No solution found when resolving dependencies" in broken.log
    assert "tabular==1.4.2 depends on arrowlite>=2,<3" in broken.log
    moved = attempt("unresolvable-pins", ("requirements.txt", "tabular==1.4.2", "tabular==1.5.0"))
    assert moved.conclusion == "success"
    assert "tabular 1.5.0" in moved.log


def test_training_diverges_with_the_configured_learning_rate(attempt):
    result = attempt("diverging-training")
    assert result.conclusion == "failure"
    assert failed_step(result) == "Train"
    assert "FloatingPointError: loss is nan at step " in result.log


@pytest.mark.parametrize("rate", ["1.25", "0.625", "0.3125", "0.25"])
def test_training_converges_with_a_lower_learning_rate(attempt, rate):
    result = attempt("diverging-training", ("config.toml", "learning_rate = 2.5", f"learning_rate = {rate}"))
    assert result.conclusion == "success"


def test_the_genuine_bug_fails_on_every_attempt_with_its_assertion(attempt):
    for number in (1, 2):
        result = attempt("genuine-bug", number=number)
        assert result.conclusion == "failure"
        assert failed_step(result) == "Test"
        assert "assert 0.75 == 0.8" in result.log
