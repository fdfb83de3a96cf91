import pytest

from actions.honesty import dishonest
from app.domain.repair import FileEdit


@pytest.mark.parametrize(
    ("path", "before", "after", "where"),
    [
        ("tests/test_model.py", "x = 1\n", "x = 2\n", "tests/test_model.py:1"),
        ("src/model_test.py", "x = 1\n", "x = 2\n", "src/model_test.py:1"),
        ("conftest.py", "x = 1\n", "x = 2\n", "conftest.py:1"),
        ("web/app.spec.ts", "x\n", "y\n", "web/app.spec.ts:1"),
        (".github/workflows/ci.yml", "timeout: 1\n", "timeout: 2\n", ".github/workflows/ci.yml:1"),
        ("tox.ini", "a\n", "b\n", "tox.ini:1"),
        ("train.py", "a\nassert loss < 1\n", "a\nassert loss < 9\n", "train.py:2"),
        ("train.py", "a\nassert loss < 1\n", "a\n", "train.py:2"),
        ("train.py", "self.assertEqual(a, 1)\n", "self.assertEqual(a, 2)\n", "train.py:1"),
        ("run.sh", "python train.py\n", "python train.py || true\n", "run.sh:1"),
        ("run.sh", "python train.py\n", "python train.py || :\n", "run.sh:1"),
        ("run.sh", "python train.py\n", "set +e\npython train.py\n", "run.sh:1"),
        ("ci.yml", "run: a\n", "run: a\ncontinue-on-error: true\n", "ci.yml:2"),
        ("ci.yml", "if: always()\n", "if: false\n", "ci.yml:1"),
        ("a.toml", "fail_under = 90\n", "fail_under = 10\n", "a.toml:1"),
        ("train.py", "import x\n", "import x  # noqa\n", "train.py:1"),
        ("train.py", "x = f()\n", "x = f()  # type: ignore[misc]\n", "train.py:1"),
        ("train.py", "def check(): ...\n", "@pytest.mark.skip\ndef check(): ...\n", "train.py:1"),
        ("train.py", "def check(): ...\n", "@unittest.skipIf(True, '')\ndef check(): ...\n", "train.py:1"),
        ("train.py", "def check(): ...\n", "@pytest.mark.xfail\ndef check(): ...\n", "train.py:1"),
        ("a.js", "x()\n", "// eslint-disable-next-line\nx()\n", "a.js:1"),
        ("train.py", None, "assert True\n", "train.py:1"),
        ("train.py", "a\nassert x\n", None, "train.py:2"),
        ("../outside.yaml", "a\n", "b\n", "../outside.yaml"),
        ("/etc/outside.yaml", "a\n", "b\n", "/etc/outside.yaml"),
    ],
)
def test_an_edit_that_hides_a_failure_is_named(path: str, before: str | None, after: str | None, where: str) -> None:
    reason = dishonest([FileEdit(path, before, after)])
    assert reason is not None
    assert reason.startswith(where)


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("config.yaml", "batch_size: 64\n", "batch_size: 32\n"),
        ("requirements.txt", "frames==1.4.2  # noqa\n", "frames==1.5.0\n"),
        ("latest/config.yaml", "lr: 1\n", "lr: .1\n"),
        ("contest.toml", "lr = 1\n", "lr = 0.1\n"),
        ("train.py", "assert x\na = 1\n", "assert x\na = 2\n"),
        ("config.toml", "skip_layers = 2\nlr = 2.5\n", "skip_layers = 2\nlr = 0.25\n"),
    ],
)
def test_an_honest_edit_passes(path: str, before: str, after: str) -> None:
    assert dishonest([FileEdit(path, before, after)]) is None


def test_the_first_dishonest_edit_of_several_is_named() -> None:
    honest = FileEdit("config.yaml", "lr: 1\n", "lr: 2\n")
    assert dishonest([honest, FileEdit("run.sh", "a\n", "a || true\n")]) == "run.sh:1 suppresses a failure"
    assert dishonest([]) is None
