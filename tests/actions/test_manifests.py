"""What is read of manifests, and that nothing but versions is ever changed."""

import re

import pytest

from actions.manifests import Line, Manifest, Tree, poetry_specifier, read
from actions.rivals import names_package
from app.domain.errors import Malformed
from app.ports.forge import Pull
from app.security.toml import load_toml
from tests.actions.stage import stage


def manifest(path: str, text: str, **others: str) -> Manifest:
    at = stage({path: text, **{name.replace("__", "/").replace("_DOT_", "."): text for name, text in others.items()}})
    return read(path, Tree(at.incident, at.tools))


def by_name(found: Manifest) -> dict[str, Line]:
    return {line.name: line for line in found.lines}


PROJECT = """\
[project]
name = "trainer"
dependencies = ["alpha==1.0", 'beta[x,y]==1.0 ; python_version > "3"', "gamma~=1.0", "delta>=1,<2", "epsilon"]
description = "alpha==1.0"

[project.optional-dependencies]
plots = ["zeta==1.0", "trainer[all]"]
all = ["alpha==1.0"]

[dependency-groups]
lint = ["eta==1.0"]
dev = [{include-group = "lint"}, "theta==1.0", {include-group = "dev"}]
"""


def test_every_list_of_a_project_is_read_with_its_place() -> None:
    lines = by_name(manifest("pyproject.toml", PROJECT))
    assert {name: (line.operator, line.version) for name, line in lines.items()} == {
        "alpha": ("==", "1.0"),
        "beta": ("==", "1.0"),
        "gamma": ("~=", "1.0"),
        "delta": ("", ""),
        "epsilon": ("", ""),
        "zeta": ("==", "1.0"),
        "eta": ("==", "1.0"),
        "theta": ("==", "1.0"),
    }
    assert lines["zeta"].place == "pyproject.toml:7"


def test_a_change_says_nothing_else_than_the_version() -> None:
    found = manifest("pyproject.toml", PROJECT)
    for line in found.lines:
        if not line.version:
            continue
        changed = found.changed({line: "2.5"})["pyproject.toml"]
        before, after = str(load_toml(PROJECT)), str(load_toml(changed))
        assert after != before
        assert after.replace("2.5", "1.0") == before
        assert len(changed) == len(PROJECT)


def test_groups_are_installed_with_the_main_list_and_with_what_they_include() -> None:
    units = [{line.name for line in unit.lines} for unit in manifest("pyproject.toml", PROJECT).units]
    main = {"alpha", "beta", "gamma", "delta", "epsilon"}
    assert units == [main, main | {"zeta"}, main, main | {"eta"}, main | {"eta", "theta"}]


def test_the_same_pin_in_two_lists_is_two_lines() -> None:
    found = manifest("pyproject.toml", PROJECT)
    alphas = [line for line in found.lines if line.name == "alpha"]
    assert [line.group for line in alphas] == ["", "all"]
    changed = found.changed({alphas[1]: "2.0"})["pyproject.toml"]
    assert changed.count("alpha==1.0") == 2
    assert 'all = ["alpha==2.0"]' in changed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[project\n", "pyproject.toml is not a TOML file that can be read"),
        ("[project]\ndependencies = 'a'\n", "pyproject.toml: project.dependencies must be a list of strings"),
        ("[project]\ndependencies = [1]\n", "pyproject.toml: project.dependencies must be a list of strings"),
        ("[project]\ndependencies = ['a @ https://x.example/a.whl']\n", "refers to a place"),
        (
            "[dependency-groups]\ndev = ['-e .']\n",
            "pyproject.toml: dependency-groups.dev[0] is not a plain requirement",
        ),
        ("[tool.poetry.dependencies]\na = {git = 'https://x.example/a'}\n", "refers to a place, not to a version: git"),
        ("[tool.poetry.dependencies]\na = {path = '../a'}\n", "refers to a place, not to a version: path"),
        ("[tool.poetry.dependencies]\na = '^1 || ^2'\n", "has alternatives"),
        ("[tool.poetry.dependencies]\na = [{version = '1'}]\n", "has several constraints"),
        ("[tool.poetry.dependencies]\na = '^x'\n", "has no version"),
    ],
)
def test_what_is_no_plain_requirement_is_named(text: str, reason: str) -> None:
    with pytest.raises(Malformed, match=re.escape(reason)):
        manifest("pyproject.toml", text)


@pytest.mark.parametrize(
    ("poetry", "pep440"),
    [
        ("^1.2.3", ">=1.2.3,<2"),
        ("^0.2.3", ">=0.2.3,<0.3"),
        ("^0.0.3", ">=0.0.3,<0.0.4"),
        ("^0.0", ">=0.0,<0.1"),
        ("^0", ">=0,<1"),
        ("~1.2.3", ">=1.2.3,<1.3"),
        ("~1", ">=1,<2"),
        ("~=1.2", "~=1.2"),
        ("1.2.3", "==1.2.3"),
        ("=1.2.3", "==1.2.3"),
        ("1.*", "==1.*"),
        ("*", ""),
        (">=1.2,<2.0,!=1.5", ">=1.2,<2.0,!=1.5"),
        (">= 1.2, < 2.0", ">=1.2,<2.0"),
        (">=1.2 <2.0", ">=1.2,<2.0"),
    ],
)
def test_poetrys_constraints_mean_the_same_in_pep_440(poetry: str, pep440: str) -> None:
    assert poetry_specifier(poetry, "here") == pep440


POETRY = """\
[tool.poetry.dependencies]
python = "^3.11"
alpha = "1.0"
beta = { version = "^1.0", extras = ["x"] }
gamma = ">=1.0,<2"

[tool.poetry.group.dev.dependencies]
delta = "^1.0"

[tool.poetry.dev-dependencies]
epsilon = "~1.0"
"""


def test_every_table_of_poetry_is_read_and_changed_in_place() -> None:
    found = manifest("pyproject.toml", POETRY)
    assert {line.name: (line.operator, line.version, line.group) for line in found.lines} == {
        "alpha": ("==", "1.0", ""),
        "beta": ("^", "1.0", ""),
        "gamma": ("", "", ""),
        "delta": ("^", "1.0", "dev"),
        "epsilon": ("~", "1.0", "dev"),
    }
    lines = by_name(found)
    assert lines["beta"].requirement == "beta[x]>=1.0,<2"
    changed = found.changed({lines["delta"]: "4.2", lines["alpha"]: "0.9"})["pyproject.toml"]
    assert changed == POETRY.replace('delta = "^1.0"', 'delta = "^4.2"').replace('alpha = "1.0"', 'alpha = "0.9"')


def test_included_files_and_limits_are_told_apart() -> None:
    text = "-r base/requirements.txt\n-c limits.txt\nalpha==1.0\n"
    others = {"base__requirements_DOT_txt": "--requirement=more.txt\nbeta==1.0\n", "base__more_DOT_txt": "gamma\n"}
    found = manifest("requirements.txt", text, **others, limits_DOT_txt="delta<2\n")
    (unit,) = found.units
    assert {line.name: line.place for line in unit.lines} == {
        "gamma": "base/more.txt:1",
        "beta": "base/requirements.txt:2",
        "alpha": "requirements.txt:3",
    }
    assert [line.name for line in unit.limits] == ["delta"]


def test_a_compiled_file_that_is_included_is_read_and_never_changed() -> None:
    head = "# This file was autogenerated by uv via the following command:\n#    uv pip compile x.in\n"
    others = {"base_DOT_txt": f"{head}alpha==1.0 \\\n    --hash=sha256:{'0' * 64}\nbeta==1.0\n    # via alpha\n"}
    found = manifest("requirements-dev.txt", "-r base.txt\ngamma==1.0\n", **others)
    assert {line.requirement: line.pin for line in found.lines} == {
        "alpha==1.0": "",
        "beta==1.0": "",
        "gamma==1.0": "1.0",
    }


def test_files_without_end_are_refused() -> None:
    with pytest.raises(Malformed, match="more than 1000 lines"):
        manifest("requirements.txt", "a==1\n" * 1_200)


def pull(title: str, branch: str = "x", author: str = "dependabot[bot]", body: str = "") -> Pull:
    return Pull(1, "", "open", False, branch, "", "main", title, body, author=author)


@pytest.mark.parametrize(
    ("name", "about", "is_named"),
    [
        ("scikit-learn", pull("Bump scikit_learn from 1.5 to 1.7"), True),
        ("Scikit.Learn", pull("x", "dependabot/pip/scikit-learn-1.7.0"), True),
        ("torch", pull("Bump torchvision from 0.19 to 0.20"), False),
        ("torch", pull("Bump pytorch-lightning and torch"), True),
        ("torch", pull("Bump torch-geometric"), False),
        ("lightning", pull("Bump pytorch-lightning"), False),
        ("pandas", pull("Bump the all group with 3 updates", body="Updates `numpy`, `pandas` and `scipy`"), True),
        ("pandas", pull("Bump numpy", author="octocat", body="like pandas"), False),
        ("a+b", pull("a+b"), True),
    ],
)
def test_a_pull_request_names_whole_packages(name: str, about: Pull, is_named: bool) -> None:
    assert names_package(about, name) is is_named
