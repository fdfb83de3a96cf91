from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.evidence import Annotation, JobLog, LogPart
from app.domain.template import template_hash
from detectors.diagnosis import diagnose, ranked_lines
from tests.detectors.logs import STEPS, failing_log, job


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


def test_a_fair_cause_near_the_exit_beats_a_strong_one_far_above():
    log = failing_log("No space left on device", *["recovered"] * 300, "AssertionError: expected 3")
    assert kind_of(log) == "test_assertion_failure"


def test_wrappers_never_decide():
    log = failing_log(
        "E       ModuleNotFoundError: No module named 'sklearn'",
        "make: *** [Makefile:154: test-unit] Error 1",
        "subprocess.CalledProcessError: Command '['make']' returned non-zero exit status 2.",
        "1/1 failed!",
    )
    assert kind_of(log) == "module_not_found"
    assert diagnose(log)[0].facts["missing_module"] == "sklearn"


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
    assert kind_of(failing_log(missed, "42 passed in 3.0s")) == "unknown"
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


TEXTS = st.text(st.characters(exclude_categories=()), max_size=80)
LINES = st.lists(
    st.one_of(
        TEXTS,
        st.sampled_from(
            [
                *("MemoryError", "loss: nan", "##[endgroup]", "##[group]Run y", "Post job cleanup.", "x" * 50_000),
                *("##[error]Process completed with exit code 1.", "FAILED a.py::t - MemoryError", "____ test_a ____"),
                *("During handling of the above exception, another exception occurred:", "[INFO] ECONNRESET", ""),
            ]
        ),
    ),
    max_size=40,
)
LOGS = st.builds(
    JobLog,
    st.builds(
        job,
        steps=st.sampled_from([(), STEPS]),
        conclusion=st.sampled_from(["", "failure", "cancelled", "success", "timed_out"]),
    ),
    st.lists(
        st.builds(
            LogPart,
            st.sampled_from(["", "Train"]),
            st.integers(0, 5),
            st.integers(1, 10**9),
            LINES.map(tuple),
        ),
        max_size=4,
    ).map(tuple),
    st.integers(0, 10**9),
    st.lists(st.builds(Annotation, st.sampled_from(["failure", "warning"]), TEXTS), max_size=3).map(tuple),
    st.none() | st.frozensets(st.sampled_from([template_hash("MemoryError"), template_hash(""), 7])),
)


@given(LOGS)
def test_any_log_gets_a_diagnosis_and_the_same_one_again(log):
    causes = diagnose(log)
    assert diagnose(replace(log, total_lines=log.total_lines + 1)) == causes
    assert causes or log.job.conclusion in ("", "success")
    assert all(0 < cause.confidence < 1 for cause in causes)
    assert sum(cause.confidence for cause in causes) <= 1 + 1e-9
    assert not any(cause.actionable for cause in causes[1:])
    assert len(ranked_lines(causes)) == len(set(ranked_lines(causes)))


def test_the_underlining_of_a_traceback_is_no_evidence():
    log = failing_log("    loss = step(batch)", "           ^^^^^^^^^^^", "MemoryError")
    shown = [line.text for line in diagnose(log)[0].lines]
    assert "    loss = step(batch)" in shown
    assert not [text for text in shown if "^^^" in text]


def test_a_log_in_which_nothing_failed_has_no_cause():
    lines = ("tests/test_client.py::test_connect_timeout PASSED [ 30%]", "42 passed in 3.0s")
    log = JobLog(job(steps=(), conclusion=""), (LogPart("Test", 1, 1, lines),), 2)
    assert diagnose(log) == []
    assert kind_of(replace(log, job=job())) == "unknown"


def test_a_job_that_came_to_its_cleanup_without_an_error_is_well_whatever_it_said():
    lines = ("OSError: [Errno 28] No space left on device", "trying again", "Post job cleanup.")
    log = JobLog(job(steps=(), conclusion=""), (LogPart("Test", 1, 1, lines),), 3)
    assert diagnose(log) == []
    warned = "##[error]WARNING: Running pip as the 'root' user can result in broken permissions"
    assert diagnose(JobLog(log.job, (LogPart("Test", 1, 1, (warned, *lines)),), 4)) == []
    failed = JobLog(log.job, (LogPart("Test", 1, 1, ("##[error]it broke", *lines)),), 4)
    assert kind_of(failed) == "disk_full"


def test_a_job_that_succeeded_has_no_cause():
    log = failing_log("MemoryError")
    assert diagnose(replace(log, job=job(conclusion="success"))) == []


def test_a_failure_that_nobody_concluded_and_no_signature_names_is_unknown():
    lines = ("Traceback (most recent call last):", "frob.FrobnicationError: out of tune")
    log = JobLog(job(steps=(), conclusion=""), (LogPart("Train", 1, 1, lines),), 2)
    assert (kind_of(log), root_of(log)) == ("unknown", lines[1])


def test_a_cascade_is_told_from_its_beginning():
    log = failing_log(
        "RuntimeError: DataLoader worker (pid(s) 411) exited unexpectedly",
        "BrokenPipeError: [Errno 32] Broken pipe",
        "subprocess.CalledProcessError: Command '['python', 'train.py']' returned non-zero exit status 1.",
    )
    causes = diagnose(log)
    assert [cause.kind for cause in causes] == ["dataloader_worker_killed"]
    followed = causes[0].consequences
    assert [one.kind for one in followed] == ["network_transient", "wrapper", "exit"]
    assert [one.line.number for one in followed] == [11, 12, 13]


def test_a_cancelled_operation_after_a_cause_is_its_consequence():
    log = failing_log("MemoryError", exit_line="##[error]The operation was canceled.")
    causes = diagnose(log)
    assert [cause.kind for cause in causes] == ["host_oom"]
    assert [one.kind for one in causes[0].consequences] == ["exit"]


def test_a_cancel_is_the_cause_beside_a_weak_hint_far_above():
    log = failing_log("Connection refused", *["compiling"] * 400, exit_line="##[error]The operation was canceled.")
    assert kind_of(log) == "job_timeout_cancelled"


def test_what_a_program_merely_informs_of_says_less_than_what_it_fails_of():
    log = failing_log(
        "403 Forbidden: This token does not have sufficient permissions",
        "2026-03-05 13:50:48 [INFO] httpx: ConnectTimeout: 2 s, next server",
    )
    assert kind_of(log) == "permissions"


def test_of_several_test_reports_the_cause_is_what_most_of_them_met():
    module = ("E   ModuleNotFoundError: No module named 'kenlm'",)
    other = ("E   ImportError: cannot import name 'fit' from 'train'",)
    first, second, third = (f"____ ERROR collecting tests/test_{name}.py ____" for name in "abc")
    assert kind_of(failing_log(first, *module, second, *module, third, *other)) == "module_not_found"
    assert kind_of(failing_log(first, *module, second, *other, third, *other)) == "import_error_version"


def test_a_line_that_the_last_successful_log_had_as_well_is_no_cause():
    log = failing_log("ModuleNotFoundError: No module named 'y'", "OSError: No space left on device")
    assert kind_of(log) == "disk_full"
    assert (
        kind_of(replace(log, green=frozenset({template_hash("OSError: No space left on device")})))
        == "module_not_found"
    )
    assert kind_of(replace(log, green=frozenset())) == "disk_full"


def test_a_failure_like_the_last_successful_log_keeps_its_cause():
    log = failing_log("MemoryError")
    assert kind_of(replace(log, green=frozenset({template_hash("MemoryError")}))) == "host_oom"


def test_an_unknown_failure_shows_what_the_last_successful_log_had_not():
    log = failing_log(
        "FrobnicationError: seen before", "warming up", "TuningError: never seen", "FrobnicationError: seen before"
    )
    assert root_of(log) == "FrobnicationError: seen before"
    assert (
        root_of(replace(log, green=frozenset({template_hash("FrobnicationError: seen before")})))
        == "TuningError: never seen"
    )


def test_a_silent_step_fails_for_what_came_before_it():
    lines = (
        "##[group]Run git describe",
        "##[endgroup]",
        "fatal: No tags can describe '60a189413d732eccd0158591618422c7cad1aed7'.",
    )
    silent = ('##[group]Run [ -n "$VERSION" ]', "##[endgroup]", "##[error]Process completed with exit code 1.")
    log = JobLog(job(steps=()), (LogPart("describe", 1, 1, lines), LogPart("check", 2, 4, silent)), 6)
    assert (kind_of(log), root_of(log)) == ("git_lfs_or_checkout_failure", lines[2])


@pytest.mark.parametrize(
    "exit_line", ['The command "make test" exited with 2.', "ERROR: Job failed: exit code 1", "Finished: FAILURE"]
)
def test_the_exit_lines_of_others_are_known(exit_line):
    lines = ("MemoryError", exit_line, "RuntimeError: CUDA out of memory.")
    assert kind_of(JobLog(job(steps=()), (LogPart("Train", 1, 1, lines),), 3)) == "host_oom"


def test_the_lines_to_read_first_begin_with_the_root_and_stand_apart():
    log = failing_log(
        "ConnectionResetError: [Errno 104] Connection reset by peer",
        *["epoch"] * 10,
        "E   ModuleNotFoundError: No module named 'x'",
        "during cleanup",
        "E   ModuleNotFoundError: No module named 'x'",
    )
    causes = diagnose(log)
    numbers = [line.number for line in causes[0].leads]
    assert numbers[:2] == [23, 10]
    assert all(abs(a - b) > 2 for a in numbers for b in numbers if a != b)
    assert ranked_lines(causes)[0] == 23
    assert [line.root for line in causes[0].ranked].index(True) == 0


def test_a_sure_cause_may_be_acted_on():
    cause = diagnose(failing_log("RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB"))[0]
    assert (cause.kind, cause.actionable) == ("cuda_oom", True)


def test_a_contested_cause_is_only_told():
    log = failing_log(
        "API rate limit exceeded", *["page"] * 90, "ConnectionResetError: [Errno 104] Connection reset by peer"
    )
    cause = diagnose(log)[0]
    assert (cause.kind, cause.actionable) == ("network_transient", False)


def test_an_unknown_cause_is_only_told():
    assert not diagnose(failing_log("FrobnicationError: out of tune"))[0].actionable


def test_a_flood_of_errors_is_read_from_its_end():
    log = failing_log(*["MemoryError ECONNRESET No space left on device"] * 30_000, "RuntimeError: CUDA out of memory.")
    assert kind_of(log) == "cuda_oom"


def test_a_failed_test_with_a_reason_is_read_before_the_count_of_failures():
    log = failing_log(
        "FAILED tests/test_io.py::test_read - ModuleNotFoundError: No module named 'modules'",
        *(f"FAILED tests/test_sum.py::test_{n} - assert {n} == 0" for n in range(1, 30)),
        "===== 30 failed, 545 passed in 93.22s (0:01:33) =====",
    )
    cause = diagnose(log)[0]
    assert cause.kind == "test_assertion_failure"
    first, second = (line.text for line in cause.leads[:2])
    assert first.startswith("FAILED tests/test_io.py::test_read")
    assert second.startswith("===== 30 failed")
