import re
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from actions.manifests import Manifest, Tree, read
from actions.pin_dependency import PinDependency
from actions.search import MAX_RESOLVES
from app.adapters.resolver import UvResolver
from app.domain.errors import Malformed, Refused, Unreachable
from app.domain.outcome import Conclusion
from app.domain.policy import Policy
from app.ports.resolver import Resolution
from sandbox.index import Package
from tests.actions.stage import WORKFLOW, crash_everywhere, stage
from tests.sandbox.index_server import serve_index

action = PinDependency()


def manifest_of(path: str, text: str) -> Manifest:
    at = stage({path: text})
    return read(path, Tree(at.incident, at.tools))


PACKAGES = (
    Package("arrowlite", "2.9.4"),
    Package("arrowlite", "3.0.1"),
    Package("arrowlite", "3.2.0"),
    Package("featurestore", "2.1.0", ("arrowlite>=3,<4",)),
    Package("tabular", "1.4.1", ("arrowlite>=2,<3",)),
    Package("tabular", "1.4.2", ("arrowlite>=2,<3",)),
    Package("tabular", "1.5.0", ("arrowlite>=2.9,<4",)),
    Package("tabular", "1.6.0", ("arrowlite>=2.9,<4",)),
    Package("metricbook", "0.9.3"),
    Package("metricbook", "0.9.4"),
    # each of the two fits only a newer other one
    Package("left", "1.0", ("base==1",)),
    Package("left", "2.0", ("base==2",)),
    Package("right", "1.0", ("base==3",)),
    Package("right", "2.0", ("base==2",)),
    Package("base", "1"),
    Package("base", "2"),
    Package("base", "3"),
    # only an older one fits
    Package("old-friend", "4.0", ("arrowlite>=2,<3",)),
    Package("old-friend", "3.0", ("arrowlite>=3,<4",)),
    Package("old-friend", "2.0", ("arrowlite>=3,<4",)),
)

PINS = """\
# What the pipeline needs.\r
\r
featurestore==2.1.0     # joins\r
tabular == 1.4.2 ; python_version >= "3"   # frames==1.4.2\r
metricbook==0.9.3\r
arrowlite"""


@pytest.fixture(scope="module")
def resolver() -> Iterator[UvResolver]:
    with serve_index(PACKAGES) as url:
        yield UvResolver(url, jail="off")


def test_the_nearest_newer_version_that_fits_is_pinned(resolver: UvResolver) -> None:
    at = stage({"requirements.txt": PINS}, resolver=resolver)
    plan = at.plan(action)
    (edit,) = plan.edits
    assert edit.after == PINS.replace("tabular == 1.4.2", "tabular == 1.5.0")
    assert plan.title == "Move tabular from 1.4.2 to 1.5.0"
    assert "arrowlite" in plan.why


def test_an_older_version_is_taken_only_when_no_newer_fits(resolver: UvResolver) -> None:
    text = "old-friend==4.0\nfeaturestore==2.1.0\n"
    plan = stage({"requirements.txt": text}, resolver=resolver).plan(action)
    assert plan.edits[0].after == text.replace("4.0", "3.0")


def test_two_pins_move_when_one_does_not_help(resolver: UvResolver) -> None:
    text = "metricbook==0.9.3\nleft==1.0\nright==1.0\n"
    plan = stage({"requirements.txt": text}, resolver=resolver).plan(action)
    assert plan.edits[0].after == "metricbook==0.9.3\nleft==2.0\nright==2.0\n"


def test_the_dependencies_of_a_project_are_changed_in_place(resolver: UvResolver) -> None:
    text = (
        '[project]\nname = "x"\n# tabular==1.4.2 was good\n'
        "dependencies = [\n  'featurestore==2.1.0',   # joins\n"
        "  \"tabular[fast]==1.4.2; python_version > '3'\",\n]\n"
        "[tool.x]\nkeep = \"tabular[fast]==1.4.2; python_version > '3'\"\n"
    )
    plan = stage({"pyproject.toml": text}, resolver=resolver).plan(action)
    assert plan.edits[0].after == text.replace("]==1.4.2", "]==1.5.0", 1)


def test_nothing_that_fits_is_a_refusal_with_the_resolvers_words(resolver: UvResolver) -> None:
    refusal = stage({"requirements.txt": "tabular==1.4.2\narrowlite>=9\n"}, resolver=resolver).plan(action).refusal
    assert "no change of one pin" in refusal
    assert "arrowlite" in refusal


def test_requirements_that_fit_are_left_alone(resolver: UvResolver) -> None:
    at = stage({"requirements.txt": "metricbook==0.9.3\n"}, resolver=resolver)
    assert at.plan(action).refusal == "the requirements of requirements.txt fit together"


def test_the_file_that_the_workflow_installs_comes_first(resolver: UvResolver) -> None:
    files = {
        WORKFLOW: "run: uv pip install -r deploy/requirements.txt\n",
        "deploy/requirements.txt": PINS,
        "requirements.txt": PINS,
    }
    assert stage(files, resolver=resolver).plan(action).edits[0].path == "deploy/requirements.txt"


def test_a_repository_without_requirements_is_refused() -> None:
    assert "no requirements.txt" in stage({"train.py": "pass\n"}).plan(action).refusal
    assert "no requirements.txt" in stage({"pyproject.toml": "[tool.x]\n"}).plan(action).refusal


def test_a_crash_after_any_write_leaves_one_pull_request(resolver: UvResolver) -> None:
    short = "featurestore==2.1.0\ntabular==1.4.2\n"
    writes = crash_everywhere(
        lambda: stage({"requirements.txt": short}, resolver=resolver),
        lambda at, tools: at.apply(action, at.repair(action), tools=tools),
    )
    assert writes == 3


def test_undo_closes_the_pull_request(resolver: UvResolver) -> None:
    at = stage({"requirements.txt": PINS}, resolver=resolver)
    assert action.undo(at.done(action), at.tools).conclusion is Conclusion.SUCCESS
    assert set(at.forge.branches) == {"main"}


def test_a_protected_file_is_refused(resolver: UvResolver) -> None:
    at = stage({"requirements.txt": PINS}, resolver=resolver, policy=Policy(protected_paths=("requirements*",)))
    assert "protected" in at.plan(action).refusal


class Stubborn:
    """Never resolves, and counts."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def resolve(
        self, requirements: Sequence[str], *, python: str | None = None, constraints: Sequence[str] = ()
    ) -> Resolution:
        self.asked.append((*requirements, f"python {python}"))
        return Resolution(False, explanation="because p1 and p2 disagree")


def test_the_search_is_bounded_and_starts_with_the_named_pins() -> None:
    stubborn = Stubborn()
    text = "".join(f"p{n}==1.0\n" for n in range(60))
    files = {"requirements.txt": text, WORKFLOW: "with:\n  python-version: '3.12'\n"}
    at = stage(files, resolver=stubborn, lines=("cannot install p7 with p3",))
    assert at.plan(action).refusal
    assert len(stubborn.asked) == MAX_RESOLVES
    moved = [[line for line in asked if line.endswith((">1.0", "<1.0"))] for asked in stubborn.asked]
    assert moved[:5] == [[], ["p7>1.0"], ["p3>1.0"], ["p1>1.0"], ["p2>1.0"]]
    assert {asked[-1] for asked in stubborn.asked} == {"python 3.12"}


def test_an_index_that_is_away_is_tried_again_later() -> None:
    class Away:
        def resolve(
            self, requirements: Sequence[str], *, python: str | None = None, constraints: Sequence[str] = ()
        ) -> Resolution:
            raise Unreachable("no answer")

    with pytest.raises(Unreachable):
        stage({"requirements.txt": PINS}, resolver=Away()).plan(action)


def test_what_the_resolver_refuses_is_a_refusal() -> None:
    class Picky:
        def resolve(
            self, requirements: Sequence[str], *, python: str | None = None, constraints: Sequence[str] = ()
        ) -> Resolution:
            raise Refused("not that line")

    assert stage({"requirements.txt": PINS}, resolver=Picky()).plan(action).refusal == "requirements.txt: not that line"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a==1 --hash=sha256:00\n", "requirements.txt:1 has a hash"),
        ("a==1\nb==2 \\\n    --hash=sha256:00\n", "requirements.txt:2 has an option"),
        ("-r other.txt\n", "requirements.txt:1 includes other.txt, which is not there"),
        ("-r ../../etc/passwd\n", "requirements.txt:1 includes ../../etc/passwd, which is not there"),
        ("--extra-index-url https://x.example\n", "requirements.txt:1 has an option"),
        ("a @ https://x.example/a.whl\n", "requirements.txt:1 refers to a place"),
        ("./local\n", "requirements.txt:1 is not a plain requirement"),
    ],
)
def test_lines_that_are_no_plain_requirements_are_named(text: str, reason: str) -> None:
    with pytest.raises(Malformed, match=re.escape(reason)):
        manifest_of("requirements.txt", text)
    assert reason in stage({"requirements.txt": text}).plan(action).refusal


@pytest.mark.parametrize("line", ["a", "a>=1", "a==1.*", "a==1,<2", "a===1", "a~=1.0", "a!=1"])
def test_only_a_single_exact_version_is_a_pin(line: str) -> None:
    assert [found.pin for found in manifest_of("requirements.txt", line).lines] == [""]


NAMES = st.sampled_from(["alpha", "Beta_two", "gamma.x", "delta-4[extra,more]"])
REST = st.sampled_from(["", "  # note ==9.9", ' ; python_version >= "3.8"', '; sys_platform=="linux" # why'])
ENDS = st.sampled_from(["\n", "\r\n"])


@given(st.lists(st.tuples(NAMES, st.sampled_from(["==", " == "]), REST), min_size=1, max_size=6), ENDS, st.booleans())
def test_a_new_pin_changes_its_version_and_nothing_else(
    drawn: list[tuple[str, str, str]], end: str, final_newline: bool
) -> None:
    lines = ["# head", "", *(f"{name}{operator}1.0{rest}" for name, operator, rest in drawn)]
    text = end.join(lines) + (end if final_newline else "")
    manifest = manifest_of("requirements.txt", text)
    assert [line.pin for line in manifest.lines] == ["1.0"] * len(drawn)
    for number, line in enumerate(manifest.lines):
        changed = manifest.changed({line: "2.5"})["requirements.txt"]
        assert changed == text[: line.start] + "2.5" + text[line.end :]
        again = manifest_of("requirements.txt", changed)
        assert [found.pin for found in again.lines] == ["2.5" if n == number else "1.0" for n in range(len(drawn))]
        old, new = Requirement(line.requirement), Requirement(again.lines[number].requirement)
        assert (old.name, old.extras, old.marker) == (new.name, new.extras, new.marker)
