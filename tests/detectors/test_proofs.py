"""Resolvers' explanations as they really read; what they say of each other's requirements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.proofs import MOST, YOU, Proof, read_proof

UV = """\
  × No solution found when resolving dependencies:
  ╰─▶ Because torchvision==0.20.1 depends on torch==2.5.1 and you require torch==2.6.0, we can conclude that your
      requirements and torchvision==0.20.1 are incompatible.
      And because you require torchvision==0.20.1, we can conclude that your requirements are unsatisfiable."""
UV_INFERS = """\
error: No solution found when resolving dependencies
  cause: Because tensorflow==2.5.0 depends on numpy>=1.19.2,<1.20.dev0 and you require tensorflow==2.5.0,
         we can conclude that you require numpy>=1.19.2,<1.20.dev0.
         And because you require numpy>=1.24, we can conclude that your requirements are unsatisfiable."""
UV_MARKERS = """\
  ╰─▶ Because only typing-extensions{python_version < '3.13'}<4.10.0 is available and altair==5.4.0 depends on
      typing-extensions{python_version < '3.13'}>=4.10.0, we can conclude that altair==5.4.0 cannot be used.
      And because only altair<=5.4.0 is available and you require altair>=5.4.0, we can conclude that the requirements
      are unsatisfiable."""
PIP = """\
ERROR: Cannot install ward 0.44.1b0 and py2neo 4.3.0 because these package versions have conflicting dependencies.

The conflict is caused by:
    ward 0.44.1b0 depends on pygments<3.0.0 and >=2.4.2
    py2neo 4.3.0 depends on pygments~=2.3.1"""
PIP_CONSTRAINT = """\
The conflict is caused by:
    The user requested click==5.0
    The user requested (constraint) click==7.0"""
POETRY = """\
  Because no versions of torchvision match >0.20.1,<0.21
   and torchvision (0.20.1) depends on torch (2.5.1), torchvision (>=0.20.1,<0.21) requires torch (2.5.1).
  So, because myapp depends on both torch (2.6.0) and torchvision (~0.20.1), version solving failed."""
CONDA = """\
The following packages are incompatible
├─ numpy 1.26.*  is installable with the potential options
│  ├─ numpy 1.26.0 would require
│  │  └─ python >=3.9,<3.10.0a0 , which can be installed;
└─ pandas 1.0.*  is not installable because there are no viable options
   └─ pandas 1.0.5 would require
      └─ python >=3.6,<3.7.0a0 , which conflicts with any installable versions previously reported;"""
NPM = """\
npm ERR! ERESOLVE could not resolve
npm ERR! While resolving: react-hot-loader@4.13.1
npm ERR! Found: react@18.2.0
npm ERR!   dev react@"^18.2.0" from the root project
npm ERR! Could not resolve dependency:
npm ERR! peer react@"^15.0.0 || ^16.0.0" from react-hot-loader@4.13.1"""


def said(proof: Proof) -> list[tuple[str, str]]:
    return [(requirement.who, str(requirement)) for requirement in proof.requirements]


@pytest.mark.parametrize(
    ("explanation", "requirements", "first"),
    [
        (UV, [("torchvision==0.20.1", "torch==2.5.1"), (YOU, "torch==2.6.0"), (YOU, "torchvision==0.20.1")], "torch"),
        (
            UV_INFERS,
            [("tensorflow==2.5.0", "numpy>=1.19.2,<1.20.dev0"), (YOU, "tensorflow==2.5.0"), (YOU, "numpy>=1.24")],
            "numpy",
        ),
        (
            UV_MARKERS,
            [("altair==5.4.0", "typing-extensions>=4.10.0"), (YOU, "altair>=5.4.0")],
            "typing-extensions",
        ),
        (PIP, [("ward==0.44.1b0", "pygments<3.0.0,>=2.4.2"), ("py2neo==4.3.0", "pygments~=2.3.1")], "pygments"),
        (PIP_CONSTRAINT, [(YOU, "click==5.0"), (YOU, "click==7.0")], "click"),
        (
            POETRY,
            [("torchvision==0.20.1", "torch==2.5.1"), (YOU, "torch==2.6.0"), (YOU, "torchvision~0.20.1")],
            "torch",
        ),
        (
            CONDA,
            [
                (YOU, "numpy 1.26.*"),
                ("numpy 1.26.0", "python >=3.9,<3.10.0a0"),
                (YOU, "pandas 1.0.*"),
                ("pandas 1.0.5", "python >=3.6,<3.7.0a0"),
            ],
            "python",
        ),
        (NPM, [(YOU, "react@^18.2.0"), ("react-hot-loader@4.13.1", "react@^15.0.0 || ^16.0.0")], "react"),
    ],
    ids=["uv", "uv infers", "uv markers", "pip", "pip constraint", "poetry", "conda", "npm"],
)
def test_a_proof_says_which_requirement_of_whom_contradicts_which(explanation, requirements, first) -> None:
    proof = read_proof(explanation.splitlines())
    assert said(proof) == requirements
    assert proof.packages[0] == first


def test_all_versions_of_a_package_are_not_the_project() -> None:
    text = "Because all versions of store depend on arrowlite>=3,<4 and you require store, we can conclude"
    assert said(read_proof([text])) == [("store", "arrowlite>=3,<4"), (YOU, "store")]


def test_what_a_resolver_concludes_is_not_taken_for_what_the_project_asks() -> None:
    assert (YOU, "numpy>=1.19.2,<1.20.dev0") not in said(read_proof(UV_INFERS.splitlines()))


@pytest.mark.parametrize(
    ("explanation", "missing"),
    [
        (
            "Because there is no version of requests==99.0 and you require requests==99.0, we can conclude",
            "requests==99.0",
        ),
        ("Because nosuchpackage was not found in the package registry and you require nosuchpackage", "nosuchpackage"),
        (
            "Because omega depends on cfg4py (^0.7.1) which doesn't match any versions, version solving failed.",
            "cfg4py^0.7.1",
        ),
        ("Because cffi==1.18 has no wheels with a matching Python ABI tag and you require cffi==1.18", "cffi==1.18"),
    ],
)
def test_what_the_index_does_not_have_is_named(explanation, missing) -> None:
    assert read_proof([explanation]).missing == (missing,)


def test_text_that_is_no_proof_says_nothing() -> None:
    assert read_proof(["Collecting numpy", "Requirement already satisfied: torch in ./lib"]) == Proof()


def test_a_proof_is_read_whatever_its_line_breaks() -> None:
    assert read_proof(UV.splitlines()) == read_proof([" ".join(line.strip(" ×╰─▶") for line in UV.splitlines())])


@given(
    st.lists(
        st.one_of(
            st.text(max_size=80),
            st.sampled_from(
                [*UV.splitlines(), *PIP.splitlines(), *POETRY.splitlines(), *CONDA.splitlines(), *NPM.splitlines()]
            ),
        ),
        max_size=40,
    )
)
def test_any_text_is_read_without_a_crash_and_within_bounds(lines) -> None:
    proof = read_proof(lines)
    assert proof == read_proof(lines)
    assert len(proof.requirements) <= MOST


def test_a_long_text_is_read_in_a_bounded_part() -> None:
    assert len(read_proof(["a==1 depends on b==2 and " * 200_000]).requirements) <= MOST
