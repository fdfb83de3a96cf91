import shutil
import subprocess
from pathlib import Path

import pytest

from tests.scenarios.catalogue import ROOT, Broken, catalogue, demo, packages, read

GOOD = 'title = "It breaks"\ncause = "host_oom"\nends = "healed"\nhealed_by = "lower_batch_size"\n'
ALONE = 'title = "It breaks"\ncause = "host_oom"\nends = "escalated"\nleft_alone = true\n'


def folder(where: Path, text: str, name: str = "it-breaks") -> Path:
    workflows = where / name / "repository/.github/workflows"
    workflows.mkdir(parents=True)
    (workflows / "ci.yml").write_text("on: push\n")
    (where / name / "scenario.toml").write_text(text)
    return where / name


@pytest.mark.parametrize("text", [GOOD, ALONE, f'{GOOD}tries = ["tune_divergence", "lower_batch_size"]\n'])
def test_what_fits_is_read(tmp_path: Path, text: str) -> None:
    assert read(folder(tmp_path, text)).cause == "host_oom"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title", "Expected '='"),
        ("", "title: Field required"),
        (f"{GOOD}healedby = 1\n", "healedby: Extra inputs"),
        (GOOD.replace("healed_by", "tried_by"), "tried_by: Extra inputs"),
        (f"{GOOD}left_alone = true\n", "what is healed was not left alone"),
        (f'{ALONE}healed_by = "tune_divergence"\n', "healed_by goes with ends"),
        (GOOD.replace('ends = "healed"', 'ends = "mended"'), "ends: Input should be"),
        (f'{GOOD}tries = ["tune_divergence"]\n', "the last of tries"),
        (f'{ALONE}[after]\n"a.txt" = "b"\n', "[after] and [without] are of a fix branch"),
        (f'{GOOD}why = "because"\n', "why tells why something is not healed"),
        (f'{GOOD}permissions = {{ workflows = "all" }}\n', "permissions.workflows: Input should be"),
        (f'{GOOD}[[steps]]\nwait = "healed"\nclose = true\n', "a step does one thing, not wait, close"),
        (f'{GOOD}[[steps]]\npush = "later"\n', "no folder later"),
        (GOOD.replace("It breaks", "It | breaks"), "title: String should match"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_name_of_the_file(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(Broken) as refused:
        read(folder(tmp_path, text))
    assert str(tmp_path / "it-breaks/scenario.toml") in str(refused.value)
    assert words in str(refused.value)


def test_a_folder_needs_a_workflow_and_a_plain_name(tmp_path: Path) -> None:
    shutil.rmtree(folder(tmp_path, GOOD) / "repository")
    with pytest.raises(Broken, match="has no workflow"):
        read(tmp_path / "it-breaks")
    with pytest.raises(Broken, match="lower-case words"):
        read(folder(tmp_path, GOOD, "It_breaks"))


def test_one_index_serves_all_so_a_version_is_one_thing(tmp_path: Path) -> None:
    offer = '[[packages]]\nname = "gridfit"\nversion = "1.0"\n'
    first = read(folder(tmp_path, f"{GOOD}{offer}", "first"))
    same = read(folder(tmp_path, f"{GOOD}{offer}", "same"))
    other = read(folder(tmp_path, f'{GOOD}{offer}requires = ["numcore"]\n', "other"))
    assert [package.name for package in packages((first, same))] == ["gridfit"]
    with pytest.raises(Broken, match=r"other and first offer different packages as gridfit 1\.0"):
        packages((first, other))


def test_every_folder_is_a_scenario() -> None:
    told = {scenario.name for scenario in catalogue()}
    folders = {f.name for f in ROOT.iterdir() if f.is_dir() and (f / "repository").exists()}
    assert folders == told
    assert not told & {scenario.name for scenario in demo()}
    packages((*catalogue(), *demo()))


def test_no_file_of_a_scenario_is_ignored_by_git() -> None:
    """It would be there where it was written, and in no clone."""
    if not (ROOT.parents[1] / ".git").exists():
        pytest.skip("not a clone")
    ask = ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--", str(ROOT)]
    ignored = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [path for path in ignored if "/repository/" in path and "__pycache__" not in path] == []
