"""Runs one job of a workflow in a scratch folder: real bash, real exit codes, a log in GitHub's format.

It executes whatever the workflow says, with the rights of the process that calls it. The sandbox therefore only runs
repositories that the demonstration or a test put there; it is no place for code of strangers.
"""

import contextlib
import functools
import io
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
import venv
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from sandbox.joblog import Annotation, JobLog, now
from sandbox.workflow import EXPRESSION, Job, Step, WorkflowInvalid, parse_workflow

__all__ = ["JobResult", "StepResult", "WorkflowInvalid", "parse_workflow", "run_job", "should_run", "skipped_job"]

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELLS = {
    "": ("/usr/bin/bash -e {0}", ["bash", "-e"]),
    "bash": (
        "/usr/bin/bash --noprofile --norc -e -o pipefail {0}",
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"],
    ),
    "sh": ("/usr/bin/sh -e {0}", ["sh", "-e"]),
    "python": ("python {0}", ["python"]),
}
GRACE_S = 2.0  # between asking a process group to stop and killing it
OUTPUT_GRACE_S = 0.5  # how long a child that outlives its step may still hold the step's output open
POLL_S = 0.05

Checkout = Callable[[Path], None]


@dataclass(frozen=True)
class StepResult:
    """One step as GitHub's jobs API shows it: status queued, in_progress or completed; conclusion in GitHub's words."""

    number: int
    name: str
    status: str
    conclusion: str | None
    started_at: datetime | None
    completed_at: datetime | None


@dataclass(frozen=True)
class JobResult:
    """How a job ended: success, failure, cancelled or skipped."""

    name: str
    conclusion: str
    steps: tuple[StepResult, ...]
    log: str
    started_at: datetime
    completed_at: datetime
    labels: tuple[str, ...]
    annotations: tuple[Annotation, ...] = ()
    artifacts: tuple[tuple[str, bytes], ...] = ()


TIDY = ("actions/checkout", "actions/setup-python")  # these clean up at the end of the job
ACTIONS = (*TIDY, "actions/upload-artifact")
# What GitHub refuses while a job is set up, with its words.
DEAD_ACTIONS = {
    "actions/upload-artifact": ("v1", "v2", "v3"),
    "actions/download-artifact": ("v1", "v2", "v3"),
    "actions/cache": ("v1", "v2"),
}
DEAD_ACTION = (
    "This request has been automatically failed because it uses a deprecated version of `{name}: {version}`. Learn "
    "more: https://github.blog/changelog/2024-04-16-deprecation-notice-v3-of-the-artifact-actions/"
)
DEAD_IMAGES = {"ubuntu-18.04": "Ubuntu 18.04", "ubuntu-20.04": "Ubuntu 20.04"}
DEAD_IMAGE = "This is a scheduled {image} brownout. The {image} LTS runner is deprecated and will be removed."
DEAD_COMMANDS = ("set-env", "add-path")
DEAD_COMMAND = (
    "The `{name}` command is disabled. Please upgrade to using Environment Files or opt into unsecure command "
    "execution by setting the `ACTIONS_ALLOW_UNSECURE_COMMANDS` environment variable to `true`. For more "
    "information see: https://github.blog/changelog/2020-10-01-github-actions-deprecating-set-env-and-add-path-commands/"
)
# A runner whose label ends in -<n>mb has so much memory for each process.
MEMORY_LABEL = re.compile(r".*-(\d{2,6})mb")
MINUTE_S = 60.0
MINUTE = "SANDBOX_MINUTE_S"  # a job's variable: how long a minute of its timeouts is, so that a test need not wait


class StepFailed(Exception):
    """A step could not be run; the message goes to the log as its error."""


class _Log(JobLog):
    """A log that also knows the commands which GitHub's runner has disabled: they fail the step that prints them."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = ""

    def _command(self, line: str, name: str, properties: str, value: str) -> None:
        if name in DEAD_COMMANDS:
            self.write(f"##[error]Unable to process command '{line}' successfully.")
            self.refused = DEAD_COMMAND.format(name=name)
        else:
            super()._command(line, name, properties, value)


class Cancelled(Exception):
    """The job was cancelled or ran past its timeout."""


class TimedOut(Exception):
    """One step ran past its own timeout."""


def should_run(job: Job, needed: Mapping[str, str]) -> bool:
    """Whether `job` runs, given the conclusions of the jobs it needs, by job id."""
    conclusions = [needed[job_id] for job_id in job.needs]
    return {
        "success": all(conclusion == "success" for conclusion in conclusions),
        "failure": "failure" in conclusions,
        "cancelled": "cancelled" in conclusions,
        "always": True,
    }[job.condition]


def skipped_job(job: Job) -> JobResult:
    at = now()
    return JobResult(job.name, "skipped", (), "", at, at, job.labels)


def run_job(
    job: Job,
    *,
    checkout: Checkout,
    scratch: Path,
    env: Mapping[str, str],
    progress: Callable[[StepResult], None] | None = None,
    cancelled: threading.Event | None = None,
    inputs: Mapping[str, str] | None = None,
    token: str = "",
) -> JobResult:
    """Run `job` to its end and say how it went; the workflow's failures are results, never exceptions.

    `checkout` fills an empty folder with the commit (it may raise OSError or subprocess.SubprocessError). `scratch` is
    this job's own empty folder, left for the caller to delete. `env` is all that steps get besides the runner's own
    variables: GITHUB_REPOSITORY, GITHUB_SHA, GITHUB_RUN_ATTEMPT and the like. `inputs` are those of workflow_dispatch,
    `token` is the job's own for the API.
    """
    stop = cancelled or threading.Event()
    return _JobRun(job, checkout, scratch.absolute(), env, progress, stop, inputs or {}, token).run()


class _JobRun:
    """The state of one job while it runs."""

    def __init__(
        self,
        job: Job,
        checkout: Checkout,
        scratch: Path,
        env: Mapping[str, str],
        progress: Callable[[StepResult], None] | None,
        cancelled: threading.Event,
        inputs: Mapping[str, str],
        token: str,
    ) -> None:
        self._job = job
        self._checkout = checkout
        self._progress = progress
        self._cancelled = cancelled
        self._log = _Log()
        self._log.mask(token)
        self._results: list[StepResult] = []
        self._groups: list[int] = []
        self._artifacts: dict[str, bytes] = {}
        self._path: list[str] = []
        self._exported: dict[str, str] = {}
        self._outputs: dict[str, dict[str, str]] = {}
        self._failed = False
        self._minute_s = _positive(job.env.get(MINUTE, "")) or MINUTE_S
        self._deadline = time.monotonic() + job.timeout_minutes * self._minute_s
        self._memory_mb = next((int(m[1]) for m in map(MEMORY_LABEL.fullmatch, job.labels) if m), 0)
        self._repository = env.get("GITHUB_REPOSITORY", "acme/repository")
        self._scratch = scratch
        self._temp = scratch / "_temp"
        self._tools = scratch / "_tool"
        folder = self._repository.rpartition("/")[2]
        self._workspace = scratch / "work" / folder / folder
        self._base = {
            "HOME": str(scratch / "home"),
            "TMPDIR": str(self._temp),
            "LANG": "C.UTF-8",
            "CI": "true",
            **env,
            "GITHUB_ACTIONS": "true",
            "GITHUB_JOB": job.id,
            "GITHUB_WORKSPACE": str(self._workspace),
            "RUNNER_OS": "Linux",
            "RUNNER_ARCH": "X64",
            "RUNNER_NAME": "sandbox",
            "RUNNER_ENVIRONMENT": "self-hosted",
            "RUNNER_TEMP": str(self._temp),
            "RUNNER_TOOL_CACHE": str(self._tools),
            "RUNNER_WORKSPACE": str(self._workspace.parent),
        }
        self._contexts = {
            "github": {
                key.removeprefix("GITHUB_").lower(): value
                for key, value in self._base.items()
                if key.startswith("GITHUB_")
            },
            "runner": {
                key.removeprefix("RUNNER_").lower(): value
                for key, value in self._base.items()
                if key.startswith("RUNNER_")
            },
            "inputs": dict(inputs),
            "secrets": {"GITHUB_TOKEN": token},
        }
        self._contexts["github"]["token"] = token

    def run(self) -> JobResult:
        started_at = now()
        for folder in (self._scratch / "home", self._temp, self._tools, self._workspace):
            folder.mkdir(parents=True, exist_ok=True)
        stopped = not self._step(1, "Set up job", self._set_up)
        last = len(self._job.steps) + 1
        runs = self._failed is False
        for number, step in enumerate(self._job.steps, start=2):
            name = self._name(step)
            if stopped or not runs or not self._wanted(step):
                self._skip(number, name)
            elif not self._step(number, name, functools.partial(self._execute, step), step.continue_on_error):
                stopped = True
        for step in reversed(self._job.steps):
            if step.uses is not None and step.uses.partition("@")[0] in TIDY and runs and not stopped:
                last += 1
                self._step(last, f"Post {self._name(step)}", lambda: self._log.write("Post job cleanup."))
        self._step(last + 1, "Complete job", self._complete)
        return JobResult(
            name=self._job.name,
            conclusion="cancelled" if stopped else "failure" if self._failed else "success",
            steps=tuple(self._results),
            log=self._log.text(),
            started_at=started_at,
            completed_at=now(),
            labels=self._job.labels,
            annotations=tuple(self._log.annotations),
            artifacts=tuple(self._artifacts.items()),
        )

    def _wanted(self, step: Step) -> bool:
        return {"success": not self._failed, "failure": self._failed, "always": True, "cancelled": False}[
            step.condition
        ]

    def _name(self, step: Step) -> str:
        if step.name:
            return self._expand(step.name, step)
        if step.uses is not None:
            return f"Run {step.uses}"
        return f"Run {self._expand((step.run or '').strip(), step).partition(chr(10))[0]}"

    def _step(self, number: int, name: str, work: Callable[[], None], forgiven: bool = False) -> bool:
        """Do `work` as step `number`; False if the whole job has to stop here."""
        result = StepResult(number, name, "in_progress", None, now(), None)
        self._tell(result)
        self._log.begin_step()
        conclusion, goes_on = "success", True
        try:
            work()
        except Cancelled:
            self._log.write("##[error]The operation was canceled.")
            conclusion, goes_on = "cancelled", False
        except (StepFailed, TimedOut) as failure:
            self._log.error(str(failure))
            if not forgiven:
                conclusion = "failure"
                self._failed = True
        result = replace(result, status="completed", conclusion=conclusion, completed_at=now())
        self._results.append(result)
        self._tell(result)
        return goes_on

    def _skip(self, number: int, name: str) -> None:
        at = now()
        self._results.append(StepResult(number, name, "completed", "skipped", at, at))
        self._tell(self._results[-1])

    def _tell(self, result: StepResult) -> None:
        if self._progress is not None:
            self._progress(result)

    def _set_up(self) -> None:
        log = self._log
        log.write("Current runner version: 'sandbox'")
        log.write("Runner name: 'sandbox'")
        log.group("Runner Image", "Runner: sandbox", f"Labels: {', '.join(self._job.labels)}")
        granted = self._job.permissions
        log.group("GITHUB_TOKEN Permissions", *(f"{name.title()}: {level}" for name, level in granted.items()))
        log.write("Secret source: None")
        log.write("Prepare workflow directory")
        log.write("Prepare all required actions")
        for label in self._job.labels:
            if label in DEAD_IMAGES:
                raise StepFailed(DEAD_IMAGE.format(image=DEAD_IMAGES[label]))
        for step in self._job.steps:
            name, _, version = (step.uses or "").partition("@")
            if version.partition(".")[0] in DEAD_ACTIONS.get(name, ()):
                raise StepFailed(DEAD_ACTION.format(name=name, version=version))
            if step.uses is not None and name not in ACTIONS:
                raise StepFailed(f"Unable to resolve action {step.uses}: the sandbox has {', '.join(ACTIONS)}")
        log.write(f"Complete job name: {self._job.name}")

    def _complete(self) -> None:
        self._log.write("Cleaning up orphan processes")
        for group in self._groups:
            _signal_group(group, signal.SIGKILL)

    def _execute(self, step: Step) -> None:
        if step.uses is None:
            self._run_script(step)
        elif step.uses.partition("@")[0] == "actions/checkout":
            self._run_checkout(step)
        elif step.uses.partition("@")[0] == "actions/upload-artifact":
            self._run_upload(step)
        else:
            self._run_setup_python(step)

    def _run_checkout(self, step: Step) -> None:
        self._announce_action(step, {"repository": self._repository})
        self._log.write(f"Syncing repository: {self._repository}")
        try:
            self._checkout(self._workspace)
        except (OSError, subprocess.SubprocessError) as error:
            raise StepFailed(f"The repository could not be checked out: {error}") from error
        self._log.write("[command]/usr/bin/git log -1 --format=%H")
        self._log.write(self._base.get("GITHUB_SHA", ""))

    def _run_upload(self, step: Step) -> None:
        """One file or one folder, as a zip; the files stand in it without the path above them."""
        self._announce_action(step, {"name": "artifact", "if-no-files-found": "warn"})
        inputs = {key: self._expand(value, step) for key, value in step.inputs.items()}
        path = (self._workspace / inputs.get("path", "")).resolve()
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        if not path.is_relative_to(self._workspace.resolve()) or not files:
            self._log.write(f"##[warning]No files were found with the provided path: {inputs.get('path', '')}.")
            return
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.name if path.is_file() else str(file.relative_to(path)))
        if inputs.get("name", "artifact") in self._artifacts:
            message = "Failed to CreateArtifact: Received non-retryable error: Failed request: (409) Conflict:"
            raise StepFailed(f"{message} an artifact with this name already exists on the workflow run")
        self._artifacts[inputs.get("name", "artifact")] = packed.getvalue()
        self._log.write(f"Artifact {inputs.get('name', 'artifact')} has been successfully uploaded!")

    def _run_setup_python(self, step: Step) -> None:
        self._announce_action(step, {})
        environment = self._tools / "Python" / "x64"
        # Jobs get an environment of their own, so that what they install never reaches the serving one.
        venv.EnvBuilder(symlinks=True, with_pip=False).create(environment)
        library = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        serving = [entry for entry in sys.path if entry.endswith("-packages")]
        (library / "serving.pth").write_text("".join(f"{entry}\n" for entry in serving))
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        if uv is not None:
            (environment / "bin" / "uv").symlink_to(uv)
        self._path.insert(0, str(environment / "bin"))
        self._exported["pythonLocation"] = str(environment)
        version = ".".join(str(part) for part in sys.version_info[:3])
        self._log.group("Installed versions", f"Successfully set up CPython ({version})")

    def _announce_action(self, step: Step, defaults: Mapping[str, str]) -> None:
        shown = {**defaults, **{key: self._expand(value, step) for key, value in step.inputs.items()}}
        lines = [f"  {key}: {value}" for key, value in shown.items()]
        self._log.group(f"Run {step.uses}", *(["with:", *lines] if lines else []), *self._shown_env(step))

    def _shown_env(self, step: Step) -> list[str]:
        lines = [f"  {key}: {value}" for key, value in self._variables(step).items()]
        return ["env:", *lines] if lines else []

    def _variables(self, step: Step) -> dict[str, str]:
        """What the workflow, the job, $GITHUB_ENV and the step set, in that order."""
        variables = {key: self._expand(value, None) for key, value in self._job.env.items()} | self._exported
        return variables | {key: self._expand(value, step, variables) for key, value in step.env.items()}

    def _expand(self, text: str, step: Step | None, variables: Mapping[str, str] | None = None) -> str:
        """Replace `${{ context.key }}`; what does not exist is empty, as on GitHub."""

        def value(match: re.Match[str]) -> str:
            context, *keys = match[1].strip().split(".")
            if context == "github" and keys[:2] == ["event", "inputs"]:
                context, keys = "inputs", keys[2:]
            if context == "steps" and len(keys) == 3 and keys[1] == "outputs":
                return self._outputs.get(keys[0], {}).get(keys[2], "")
            if context == "env":
                known = variables if variables is not None else self._variables(step) if step else self._exported
                return known.get(keys[0], "")
            return self._contexts.get(context, {}).get(".".join(keys), "")

        return EXPRESSION.sub(value, text)

    def _run_script(self, step: Step) -> None:
        script = self._expand(step.run or "", step).rstrip("\n")
        shell = step.shell
        if shell not in SHELLS:
            raise StepFailed(f"The sandbox has no shell '{shell}': use bash, sh or python")
        shown, argv = SHELLS[shell]
        lines = script.split("\n")
        commands = [f"\x1b[36;1m{line}\x1b[0m" for line in lines]
        self._log.group(f"Run {lines[0]}", *commands, f"shell: {shown}", *self._shown_env(step))
        folder = self._workspace / self._expand(step.working_directory, step)
        if not folder.is_dir():
            message = "An error occurred trying to start process '/usr/bin/bash' with working directory"
            raise StepFailed(f"{message} '{folder}'. No such file or directory")
        files = {
            name: self._temp / f"{name.lower()}_{len(self._results)}" for name in ("ENV", "PATH", "OUTPUT", "STATE")
        }
        files["STEP_SUMMARY"] = self._temp / f"step_summary_{len(self._results)}"
        for file in files.values():
            file.touch()
        script_file = self._temp / f"script_{len(self._results)}.{'py' if shell == 'python' else 'sh'}"
        script_file.write_text(script + "\n")
        environment = {
            **self._base,
            **self._variables(step),
            **{f"GITHUB_{name}": str(file) for name, file in files.items()},
            "PATH": os.pathsep.join([*self._path, SYSTEM_PATH]),
        }
        try:
            code = self._run_process([*argv, str(script_file)], folder, environment, step)
        finally:
            self._log.flush()
        self._exported |= _assignments(files["ENV"])
        self._path[:0] = reversed(files["PATH"].read_text(errors="replace").splitlines())
        if step.id:
            self._outputs[step.id] = _assignments(files["OUTPUT"])
        refused, self._log.refused = self._log.refused, ""
        if refused:
            raise StepFailed(refused)
        if code != 0:
            raise StepFailed(f"Process completed with exit code {code}.")

    def _run_process(self, argv: list[str], folder: Path, environment: Mapping[str, str], step: Step) -> int:
        step_deadline = time.monotonic() + (step.timeout_minutes or self._job.timeout_minutes) * self._minute_s
        # Found on the job's own PATH, not on that of the serving process.
        program = shutil.which(argv[0], path=environment["PATH"])
        if program is None:
            raise StepFailed(f"{argv[0]}: command not found. Did the job set up Python?")
        command = [program, *argv[1:]]
        if self._memory_mb:
            command = ["/bin/sh", "-c", f'ulimit -v {self._memory_mb * 1024} && exec "$@"', "sh", *command]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._groups.append(process.pid)
        with process, selectors.DefaultSelector() as selector:
            assert process.stdout is not None
            descriptor = process.stdout.fileno()
            selector.register(descriptor, selectors.EVENT_READ)
            ended_at: float | None = None
            while True:
                if selector.select(POLL_S):
                    output = os.read(descriptor, 65536)
                    if not output:
                        break
                    self._log.feed(output)
                if ended_at is None and process.poll() is not None:
                    ended_at = time.monotonic()
                if ended_at is not None:
                    if time.monotonic() - ended_at > OUTPUT_GRACE_S:
                        break
                    continue
                self._check_time(process, step, step_deadline)
            while process.poll() is None:  # it closed its output and still runs
                self._check_time(process, step, step_deadline)
                time.sleep(POLL_S)
        # bash reports a child killed by signal 9 as 137; a killed bash itself is reported the same way.
        return process.returncode if process.returncode >= 0 else 128 - process.returncode

    def _check_time(self, process: subprocess.Popen[bytes], step: Step, step_deadline: float) -> None:
        if self._cancelled.is_set():
            _stop_group(process)
            raise Cancelled
        if time.monotonic() > self._deadline:
            _stop_group(process)
            message = f"The job has exceeded the maximum execution time of {self._job.timeout_minutes:g} minutes."
            self._log.annotations.append(Annotation("failure", message))
            raise Cancelled
        if time.monotonic() > step_deadline:
            _stop_group(process)
            raise TimedOut(f"The action '{self._name(step)}' has timed out after {step.timeout_minutes:g} minutes.")


def _positive(text: str) -> float:
    """0 for what is no number above 0."""
    return float(text) if re.fullmatch(r"\d{1,3}(?:\.\d{1,3})?", text) else 0.0


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _stop_group(process: subprocess.Popen[bytes]) -> None:
    _signal_group(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _assignments(file: Path) -> dict[str, str]:
    """The `NAME=value` and `NAME<<END … END` entries of $GITHUB_ENV or $GITHUB_OUTPUT. Raises StepFailed."""
    values: dict[str, str] = {}
    lines = iter(file.read_text(errors="replace").splitlines())
    for line in lines:
        heredoc = re.fullmatch(r"([^=<]+)<<(.+)", line)
        if heredoc is not None:
            body: list[str] = []
            for part in lines:
                if part == heredoc[2]:
                    break
                body.append(part)
            else:
                raise StepFailed(f"Invalid value. Matching delimiter not found '{heredoc[2]}'")
            values[heredoc[1]] = "\n".join(body)
        elif line:
            name, separator, value = line.partition("=")
            if not separator or not name:
                raise StepFailed(f"Invalid format '{line}'")
            values[name] = value
    return values
