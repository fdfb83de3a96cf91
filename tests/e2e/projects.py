"""Small repositories that break in a known way, in milliseconds: their workflow is one line of shell."""

from collections.abc import Mapping

WORKFLOW = """\
name: CI
on: push
jobs:
  train:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - name: Train
        run: sh train.sh
"""
TRAIN_YAML = "# how we train\nbatch_size: 4096  # rows\ngradient_accumulation_steps: 1\nlearning_rate: 0.1\n"

_TRACEBACK = "echo 'Traceback (most recent call last):'\necho '  File \"train.py\", line 3, in <module>'\n"
_MEMORY = (
    'echo "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 64.0 MiB for an array with shape (4096, 2048) '
    'and data type float64"\n'
)
_NETWORK = (
    "echo \"urllib3.exceptions.ProtocolError: ('Connection aborted.', "
    "ConnectionResetError(104, 'Connection reset by peer'))\"\n"
)

TOO_LARGE = f"if grep -q 'batch_size: 4096' configs/train.yaml; then\n{_TRACEBACK}{_MEMORY}exit 1\nfi\necho trained\n"
ALWAYS_TOO_LARGE = f"{_TRACEBACK}{_MEMORY}exit 1\n"
FLAKY = f'if [ "$GITHUB_RUN_ATTEMPT" = 1 ]; then\n{_TRACEBACK}{_NETWORK}exit 1\nfi\necho trained\n'
BUG = "echo 'FAILED tests/test_metric.py::test_recall - assert 0.75 == 0.8'\nexit 1\n"
GREEN = "echo trained\n"


def project(script: str, mode: str = "auto") -> Mapping[str, str]:
    """The files of a repository whose workflow runs `script`, healed in this mode."""
    return {
        ".github/workflows/ci.yml": WORKFLOW,
        ".github/heal.yml": f"version: 1\nmode: {mode}\n",
        "configs/train.yaml": TRAIN_YAML,
        "train.sh": script,
    }
