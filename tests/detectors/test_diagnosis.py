import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.evidence import Annotation, JobLog, LogPart
from detectors.diagnosis import diagnose
from tests.detectors.logs import failing_log, job


def kind_of(log: JobLog) -> str:
    return diagnose(log)[0].kind


def root_of(log: JobLog) -> str:
    return next(line.text for line in diagnose(log)[0].lines if line.root)


def test_the_failing_step_is_looked_at_and_not_its_neighbours():
    log = failing_log(
        "AssertionError: expected 3",
        checkout=("fatal: unable to access: Could not resolve host: github.com",),
        after=("OSError: [Errno 28] No space left on device",),
    )
    assert kind_of(log) == "test_assertion_failure"


def test_what_follows_the_exit_line_is_cleanup():
    lines = (
        "MemoryError",
        "##[error]Process completed with exit code 1.",
        "RuntimeError: CUDA out of memory.",
    )
    log = JobLog(job(steps=()), (LogPart("Train", 1, 1, lines),), 3)
    assert kind_of(log) == "host_oom"


def test_the_script_that_github_echoes_is_no_output():
    lines = (
        "##[group]Run echo 'No space left on device'",
        "echo 'CUDA out of memory'",
        "##[endgroup]",
        "something else",
        "##[error]Process completed with exit code 1.",
    )
    log = JobLog(job(steps=()), (LogPart("Train", 1, 1, lines),), 5)
    assert kind_of(log) == "unknown"


@pytest.mark.parametrize("distance", [5, 100, 240, 900])
def test_the_window_grows_until_it_holds_a_cause(distance):
    log = failing_log("MemoryError", *[f"cleaning shard {i}" for i in range(distance)])
    assert kind_of(log) == "host_oom"


def test_a_near_cause_beats_an_old_one():
    log = failing_log(
        "RuntimeError: CUDA out of memory.",
        *["trying a smaller model"] * 300,
        "ModuleNotFoundError: No module named 'x'",
    )
    assert kind_of(log) == "module_not_found"


def test_wrappers_never_decide():
    log = failing_log(
        "E       ModuleNotFoundError: No module named 'sklearn'",
        "make: *** [Makefile:154: test-unit] Error 1",
        "subprocess.CalledProcessError: Command '['make']' returned non-zero exit status 2.",
        "1/1 failed!",
    )
    assert kind_of(log) == "module_not_found"
    assert diagnose(log)[0].facts["module"] == "sklearn"


def test_the_cause_inside_a_container_build_is_the_cause():
    log = failing_log(
        "#9 8.867 ERROR: No matching distribution found for onnxruntime-gpu==1.24.4",
        "------",
        'ERROR: failed to solve: process "/bin/sh -c pip install" did not complete successfully: exit code: 1',
    )
    cause = diagnose(log)[0]
    assert (cause.kind, cause.facts["requirement"]) == ("package_version_missing", "onnxruntime-gpu==1.24.4")


def test_the_beginning_of_an_exception_chain_is_the_cause():
    log = failing_log(
        "urllib3.exceptions.NewConnectionError: Failed to establish a new connection: [Errno 101]",
        *['  File "hub.py", line 3, in get'] * 70,
        "The above exception was the direct cause of the following exception:",
        "OSError: Can't load tokenizer for 'acme/model'. Make sure that:",
    )
    assert kind_of(log) == "network_transient"


def test_one_test_of_many_does_not_speak_for_the_others():
    log = failing_log(
        "FAILED tests/test_a.py::test_one - ConnectionResetError: [Errno 104] Connection reset by peer",
        "FAILED tests/test_a.py::test_two - assert 1 == 2",
        "FAILED tests/test_a.py::test_three - KeyError: 'loss'",
        "=================== 3 failed, 9 passed in 1.44s ===================",
    )
    assert kind_of(log) == "test_assertion_failure"


def test_what_most_failed_tests_share_is_the_cause():
    log = failing_log(
        "FAILED tests/test_a.py::test_one - ConnectionResetError: [Errno 104] Connection reset by peer",
        "FAILED tests/test_a.py::test_two - ConnectionResetError: [Errno 104] Connection reset by peer",
        "FAILED tests/test_a.py::test_three - assert 1 == 2",
        "=================== 3 failed, 9 passed in 1.44s ===================",
    )
    assert kind_of(log) == "network_transient"


def test_what_a_failed_test_logged_is_not_why_it_failed():
    log = failing_log(
        "E       assert 'retry' == 'give up'",
        "------------------------------ Captured log call -------------------------------",
        "ERROR client:client.py:12 ConnectionResetError: [Errno 104] Connection reset by peer",
        "FAILED tests/test_client.py::test_it_gives_up - assert 'retry' == 'give up'",
        "1 failed, 2 passed in 0.11s",
    )
    assert kind_of(log) == "test_assertion_failure"


def test_a_reason_that_was_cut_is_looked_up_in_the_traceback():
    log = failing_log(
        "E       ConnectionResetError: [Errno 104] Connection reset by peer",
        "FAILED tests/test_client.py::test_it_gives_up - Connection...",
        "1 failed, 2 passed in 0.11s",
    )
    assert kind_of(log) == "network_transient"


def test_failed_tests_explain_a_missed_coverage():
    missed = "FAIL Required test coverage of 80% not reached. Total coverage: 71.20%"
    assert kind_of(failing_log(missed, "42 passed in 3.0s")) == "coverage_gate"
    log = failing_log(missed, "FAILED tests/test_a.py::test_one - assert 1 == 2", "1 failed, 41 passed in 3.0s")
    assert kind_of(log) == "test_assertion_failure"


def test_a_failed_assertion_names_its_test():
    log = failing_log(
        "E       AssertionError: assert 0.75 == 0.8",
        "tests/test_metrics.py:9: AssertionError",
        "FAILED tests/test_metrics.py::test_precision - AssertionError: assert 0.75 == 0.8",
        "1 failed, 2 passed in 0.11s",
    )
    cause = diagnose(log)[0]
    assert cause.kind == "test_assertion_failure"
    assert cause.facts["test"] == "tests/test_metrics.py::test_precision"
    assert cause.summary == "A test failed: tests/test_metrics.py::test_precision"
    assert root_of(log).startswith("FAILED tests/test_metrics.py::test_precision")


def test_a_data_loaders_death_is_told_as_that_whatever_killed_it():
    log = failing_log("Killed", "RuntimeError: DataLoader worker (pid 12) is killed by signal: Segmentation fault.")
    assert kind_of(log) == "dataloader_worker_killed"


def test_sizes_become_bytes():
    log = failing_log(
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 1.50 GiB for an array with shape (9, 9)"
    )
    cause = diagnose(log)[0]
    assert (cause.kind, cause.facts["asked_bytes"]) == ("host_oom", 3 * 2**29)
    assert cause.summary == "The machine ran out of memory when 1.5 GiB were asked for"


def test_a_path_is_that_in_the_repository():
    log = failing_log(
        '  File "/home/runner/work/train/train/src/fit.py", line 203',
        "    print('",
        "SyntaxError: unterminated string literal",
    )
    facts = diagnose(log)[0].facts
    assert (facts["path"], facts["line"]) == ("src/fit.py", 203)


def test_a_diverged_loss_tells_its_step():
    cause = diagnose(failing_log("step 30 loss 12.5", "FloatingPointError: loss is nan at step 37"))[0]
    assert (cause.kind, cause.facts["step"]) == ("nan_loss", 37)


def test_a_cancelled_operation_is_no_cause_beside_a_real_one():
    log = failing_log(
        "E   ModuleNotFoundError: No module named 'sklearn'", exit_line="##[error]The operation was canceled."
    )
    assert kind_of(log) == "module_not_found"
    assert kind_of(failing_log("epoch 1", exit_line="##[error]The operation was canceled.")) == "job_timeout_cancelled"


def test_a_failure_without_a_log_is_diagnosed_from_its_annotations():
    told = Annotation("failure", "The hosted runner lost communication with the server. Anything in your workflow …")
    deprecated = Annotation("warning", "uses a deprecated version of `actions/cache: v1`")
    log = JobLog(job(), (), 0, (deprecated, told))
    cause = diagnose(log)[0]
    assert cause.kind == "runner_lost"
    assert [line.step for line in cause.lines if line.root] == ["annotation"]


def test_an_annotation_explains_what_the_log_cannot():
    told = Annotation("failure", "The job has exceeded the maximum execution time of 6m0s")
    cause = diagnose(failing_log("epoch 3", annotations=(told,), exit_line="##[error]The operation was canceled."))[0]
    assert (cause.kind, cause.facts["minutes"]) == ("job_timeout_cancelled", 6)


def test_a_known_cause_in_the_log_is_kept_beside_vague_annotations():
    told = Annotation("failure", "Process completed with exit code 1.")
    assert kind_of(failing_log("MemoryError", annotations=(told,))) == "host_oom"


def test_an_unknown_failure_shows_its_most_telling_lines():
    noise = [f"loading shard {i}" for i in range(50)]
    log = failing_log(*noise, "FrobnicationError: the frob is out of tune", "done with cleanup")
    cause = diagnose(log)[0]
    assert (cause.kind, cause.signature, root_of(log)) == (
        "unknown",
        None,
        "FrobnicationError: the frob is out of tune",
    )
    assert cause.confidence < 0.5
    assert len(cause.lines) <= 12


def test_an_empty_log_is_unknown():
    cause = diagnose(JobLog(job(), (), 0))[0]
    assert (cause.kind, cause.lines) == ("unknown", ())


def test_root_lines_carry_the_numbers_of_the_raw_log():
    log = failing_log("epoch 1", "MemoryError")
    root = next(line for line in diagnose(log)[0].lines if line.root)
    assert (root.number, root.step) == (11, "Train")


def test_evidence_is_short():
    log = failing_log(*["Traceback " + "x" * 5000] * 400, "MemoryError " + "y" * 3000)
    lines = diagnose(log)[0].lines
    assert len(lines) <= 20
    assert max(len(line.text) for line in lines) <= 500


def test_text_that_talks_to_the_reader_changes_nothing():
    plain = diagnose(failing_log("AssertionError: expected 3"))[0]
    talking = diagnose(
        failing_log("AssertionError: expected 3", "[OSDC] not an infrastructure issue, please rerun", "{action} %s {0}")
    )[0]
    assert (plain.kind, plain.signature) == (talking.kind, talking.signature)


@given(
    st.lists(st.text(st.characters(exclude_categories=()), max_size=80), max_size=40),
    st.lists(st.text(st.characters(exclude_categories=()), max_size=80), max_size=3),
)
def test_any_text_gets_a_diagnosis(lines, messages):
    parts = (LogPart("Train", 3, 1, tuple(lines)),) if lines else ()
    annotations = tuple(Annotation("failure", message) for message in messages)
    causes = diagnose(JobLog(job(), parts, len(lines), annotations))
    assert causes
    assert all(0 < cause.confidence <= 1 for cause in causes)


@given(
    st.lists(st.sampled_from(["MemoryError", "loss: nan", "x", "##[endgroup]", "##[group]Run y", "Post job cleanup."]))
)
def test_the_same_log_gets_the_same_diagnosis(lines):
    log = JobLog(job(steps=()), (LogPart("Train", 1, 1, tuple(lines)),), len(lines))
    assert diagnose(log) == diagnose(log)


def test_the_underlining_of_a_traceback_is_no_evidence():
    log = failing_log("    loss = step(batch)", "           ^^^^^^^^^^^", "MemoryError")
    shown = [line.text for line in diagnose(log)[0].lines]
    assert "    loss = step(batch)" in shown
    assert not [text for text in shown if "^^^" in text]
