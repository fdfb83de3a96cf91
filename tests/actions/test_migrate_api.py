import contextlib
import importlib.metadata
import importlib.util
import io
import re
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actions.migrate_api import MigrateApi
from actions.migrations import Migration, MigrationsInvalid, migrations, parse, spoken_of
from actions.migrations.__main__ import PAGE, with_table
from actions.migrations.codemod import rewrite
from app.domain.errors import Malformed
from app.domain.finding import EvidenceLine
from app.domain.policy import Policy
from detectors.diagnosis import diagnose
from detectors.signatures import BUILTIN
from tests.actions.stage import Stage, crash_everywhere, stage
from tests.detectors.logs import failing_log

action = MigrateApi()
KNOWN = {migration.id: migration for migration in migrations()}
FLOAT = "AttributeError: `np.float_` was removed in the NumPy 2.0 release. Use `np.float64` instead."
NUMPY = "/opt/python/lib/python3.12/site-packages/numpy/__init__.py"
TRAIN = "import numpy as np\n\nx = np.float_(3)\n"


def installed(migration: Migration) -> bool:
    try:
        there = not migration.library.distribution or bool(importlib.metadata.version(migration.library.distribution))
    except importlib.metadata.PackageNotFoundError:
        return False
    names = re.findall(r"^(?:import|from) (\w+)", migration.before + migration.after, re.MULTILINE)
    return there and all(importlib.util.find_spec(name) for name in names)


EXECUTED = [migration for migration in migrations() if migration.runs and installed(migration)]


def traceback(*frames: tuple[str, int, str], error: str) -> tuple[EvidenceLine, ...]:
    texts = ["Traceback (most recent call last):"]
    for path, number, code in frames:
        texts += [f'  File "{path}", line {number}, in <module>', f"    {code}"]
    texts.append(error)
    return tuple(EvidenceLine(n, text, root=text == error) for n, text in enumerate(texts, start=1))


def at(files: Mapping[str, str], evidence: tuple[EvidenceLine, ...], **more: Any) -> Stage:
    found = stage(files, **more)
    incident = replace(found.incident, finding=replace(found.incident.finding, lines=evidence))
    found.incident = incident
    found.tools = replace(found.tools, incident=incident)
    return found


def floating(files: Mapping[str, str], path: str = "train.py", line: int = 3, **more: Any) -> Stage:
    code = files[path].split("\n")[line - 1].strip()
    frames = ((f"/home/runner/work/trainer/trainer/{path}", line, code), (NUMPY, 400, "raise AttributeError("))
    return at(files, traceback(*frames, error=FLOAT), **more)


def after(text: str, name: str, **more: Any) -> str:
    return rewrite(text, KNOWN[name], **more).text


# the table


def test_the_table_knows_many_migrations_of_many_libraries() -> None:
    assert len(KNOWN) >= 200
    assert {
        "NumPy",
        "pandas",
        "scikit-learn",
        "SciPy",
        "Matplotlib",
        "PyTorch",
        "transformers",
        "pydantic",
        "Python",
    } <= {migration.library.name for migration in KNOWN.values()}


@pytest.mark.parametrize("migration", KNOWN.values(), ids=lambda each: each.id)
def test_a_migration_turns_before_into_after_and_leaves_what_is_not_it(migration: Migration) -> None:
    found = rewrite(migration.before, migration)
    assert found.text == migration.after
    assert found.sites
    assert not rewrite(migration.after, migration).sites, "what is migrated has no site left"
    for text in migration.not_this:
        assert rewrite(text, migration).text == text
    assert migration.tells
    assert migration.source.startswith("https://")


@pytest.mark.parametrize("migration", KNOWN.values(), ids=lambda each: each.id)
def test_examples_with_windows_line_ends_and_a_mark_keep_them(migration: Migration) -> None:
    before, wanted = (f"\ufeff{text}".replace("\n", "\r\n") for text in (migration.before, migration.after))
    assert rewrite(before, migration).text == wanted


@pytest.mark.parametrize("migration", EXECUTED, ids=lambda each: each.id)
def test_the_old_code_fails_as_the_table_says_and_the_new_code_runs(
    migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        with pytest.raises(Exception) as failure:
            exec(compile(migration.before, "before.py", "exec"), {"__name__": "before"})
        exec(compile(migration.after, "after.py", "exec"), {"__name__": "after"})
    module = type(failure.value).__module__
    name = type(failure.value).__qualname__
    lines = f"{name if module == 'builtins' else f'{module}.{name}'}: {failure.value}".splitlines()
    assert any(migration.told_by(line) for line in lines)
    ladders = [signature.ladder for line in lines for _, signature in BUILTIN.causes(line)]
    assert any(rung.action == "migrate_api" for ladder in ladders for rung in ladder), "a detector finds it"


def test_most_of_the_table_is_executed() -> None:
    assert len(EXECUTED) >= 170


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("not toml", "x"),
        ('library = "x"\npackages = []\nmigration = [{ id = "a", removed_in = "1" }]', "before is missing"),
        (
            'library = "x"\npackages = []\nsource = "https://x"\n'
            'migration = [{ id = "a", removed_in = "1", before = "a", after = "b" }]',
            "one of names",
        ),
        ('library = "x"\npackages = []\ncolour = 1\nmigration = []', "unknown field 'colour'"),
        ('library = "x"\npackages = []\nmigration = [{ id = 1 }]', "id is not a field"),
    ],
)
def test_a_mistake_in_the_table_is_named(text: str, word: str) -> None:
    with pytest.raises(MigrationsInvalid, match=word):
        parse("x", text)


def test_a_line_speaks_of_a_migration_only_with_whole_names() -> None:
    assert [each.id for each in spoken_of("AttributeError: module 'numpy' has no attribute 'trapz'")] == ["numpy-trapz"]
    assert spoken_of("AttributeError: module 'numpy' has no attribute 'trapz2'") == ()
    assert spoken_of("AttributeError: module 'my.numpy' has no attribute 'trapz'") == ()
    assert spoken_of("TypeError: my_read_csv() got an unexpected keyword argument 'squeeze'") == ()


# what a name means


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        ("import numpy as xp\n\nx = xp.float_(3)\n", "import numpy as xp\n\nx = xp.float64(3)\n"),
        ("import numpy\n\nx = numpy.float_(3)\n", "import numpy\n\nx = numpy.float64(3)\n"),
        ("from numpy import float_\n\nx = float_(3)\n", "from numpy import float64\n\nx = float64(3)\n"),
        ("from numpy import float_ as f\n\nx = f(3)\n", "from numpy import float64 as f\n\nx = f(3)\n"),
        ("from numpy import float_ as float64\n\nfloat64(3)\n", "from numpy import float64\n\nfloat64(3)\n"),
        (
            "def f():\n\tfrom numpy import float_, inf\n\treturn float_(inf)\n",
            "def f():\n\tfrom numpy import float64, inf\n\treturn float64(inf)\n",
        ),
        (
            "from numpy import (\n    float_,  # wide\n    inf,\n)\n\nx = float_(inf)\n",
            "from numpy import (\n    float64,  # wide\n    inf,\n)\n\nx = float64(inf)\n",
        ),
        (
            'from numpy import float_\n\n__all__ = ["float_"]\n',
            'from numpy import float64 as float_\n\n__all__ = ["float_"]\n',
        ),
        (
            "from numpy import float64, float_\n\nx = float_(float64(3))\n",
            "from numpy import float64, float64 as float_\n\nx = float_(float64(3))\n",
        ),
        ("import numpy as np; x = np.float_(1) ; y=2\n", "import numpy as np; x = np.float64(1) ; y=2\n"),
        ("import numpy as np\nx = np . float_ (1)", "import numpy as np\nx = np . float64 (1)"),
        (
            'import numpy as np\n"""np.float_"""\nx = f"{np.float_(1)}"\n',
            'import numpy as np\n"""np.float_"""\nx = f"{np.float64(1)}"\n',
        ),
    ],
)
def test_aliases_and_forms_of_imports_are_followed(before: str, wanted: str) -> None:
    assert after(before, "numpy-float_") == wanted


@pytest.mark.parametrize(
    "text",
    [
        "import torch as np\n\nx = np.float_\n",
        "class np:\n    float_ = 1\n\n\nx = np.float_\n",
        "import numpy as np\n\nfor np in ():\n    x = np.float_\n",
        "from .numpy import float_\n\nx = float_\n",
        "from numpy.typing import float_\n\nx = float_\n",
        "import numpy as np\n\nx = np.zeros(3).float_\n",
        "import numpy as np\n\nx = dict(float_=1)['float_']\n",
        'import numpy as np\n\nx = getattr(np, "float_")\n',
        "import numpy as np\n\nnp.float_ = 3\n",
        'import numpy as np\n\nx = np.float_ if hasattr(np, "float_") else np.float64\n',
        "import numpy as np\n\ntry:\n    x = np.float_\nexcept AttributeError:\n    x = np.float64\n",
    ],
)
def test_what_is_not_numpy_or_asks_for_itself_is_left(text: str) -> None:
    assert after(text, "numpy-float_") == text


def test_below_a_star_import_only_what_the_traceback_proves_changes() -> None:
    text = "import numpy as np\nfrom shapes import *\n\nx = np.float_(3)\n"
    assert after(text, "numpy-float_") == text
    assert after(text, "numpy-float_", line=4) == text.replace("float_", "float64")


def test_a_name_that_may_be_bound_twice_changes_where_the_traceback_points() -> None:
    text = "try:\n    import numpy as np\nexcept ImportError:\n    np = None\n\nx = np.float_(3)\n"
    found = rewrite(text, KNOWN["numpy-float_"])
    assert found.text == text
    assert "something else" in found.left[0].reason
    assert after(text, "numpy-float_", line=6) == text.replace("float_(", "float64(")


def test_other_files_may_still_import_the_old_name() -> None:
    text = "from numpy import float_\n\nx = float_(3)\n"
    assert after(text, "numpy-float_", exported=True) == text.replace("import float_", "import float64 as float_")


@pytest.mark.parametrize(
    ("other", "kept"),
    [
        ("from shapes import float_\n", True),
        ("from .shapes import (\n    area,\n    float_,\n)\n", True),
        ("from pkg.shapes import *\n", True),
        ("import shapes\n\nshapes.float_(1)\n", True),
        ("import numpy\nfrom shapes import area\n\nnumpy.float_(1)\n", False),
        ("from numpy import float_\n\nshapes = float_\n", False),
    ],
)
def test_a_name_that_another_file_takes_stays_bound(other: str, kept: bool) -> None:
    text = "from numpy import float_\n\nx = float_(3)\n"
    files = {"train.py": TRAIN, "shapes.py": text, "other.py": other}
    found = {edit.path: edit.after or "" for edit in floating(files).plan(action).edits}["shapes.py"]
    assert ("import float64 as float_" in found) == kept


def test_a_moved_name_finds_the_import_that_is_there() -> None:
    text = "import pickle\nimport numpy as np\n\nx = np.loads(b'')\n"
    assert after(text, "numpy-loads") == "import pickle\nimport numpy as np\n\nx = pickle.loads(b'')\n"
    text = "import numpy as np\n\npickle = 3\nx = np.loads(b'')\n"
    found = rewrite(text, KNOWN["numpy-loads"])
    assert found.text == text
    assert "another meaning" in found.left[0].reason


def test_each_name_of_an_import_goes_where_it_belongs() -> None:
    text = "from scipy import interp, rand, stats\n\nx = interp, rand, stats\n"
    wanted = (
        "from scipy import stats\nfrom numpy import interp\nfrom numpy.random import rand\n\nx = interp, rand, stats\n"
    )
    assert after(text, "scipy-numpy-names") == wanted
    text = "from scipy import interp, rand\n\nx = interp, rand\n"
    wanted = "from numpy import interp\nfrom numpy.random import rand\n\nx = interp, rand\n"
    assert after(text, "scipy-numpy-names") == wanted


# keywords and methods


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        ("read(x, delim_whitespace=True)", 'read(x, sep=r"\\s+")'),
        ("read(x, delim_whitespace=False)", "read(x)"),
        ("read(x, delim_whitespace = True, header=None)", 'read(x, sep = r"\\s+", header=None)'),
        ("read(delim_whitespace=False, header=None)", "read(header=None)"),
        ("read(x, ',', delim_whitespace=True)", ""),
        ("read(x, delimiter=',', delim_whitespace=True)", ""),
        ("read(x, delim_whitespace=wide)", ""),
        ("read(x, **{'delim_whitespace': True})", ""),
    ],
)
def test_a_keyword_changes_only_where_its_value_is_known(call: str, wanted: str) -> None:
    text = f"from pandas import read_csv as read\n\nx = wide = None\nframe = {call}\n"
    assert after(text, "pandas-read_csv-delim_whitespace") == text.replace(call, wanted or call)


def test_a_new_keyword_that_is_given_already_is_not_given_twice() -> None:
    text = "from sklearn.preprocessing import OneHotEncoder\n\nOneHotEncoder(sparse=False, sparse_output=False)\n"
    assert after(text, "sklearn-onehot-sparse") == text


@pytest.mark.parametrize(
    "text",
    [
        "def f(frame):\n    return frame.append({}, ignore_index=True)\n",
        "import pandas as pd\n\nframe = pd.DataFrame()\nframe = load()\nframe.append({}, ignore_index=True)\n",
        "import pandas as pd\n\nframe = pd.DataFrame()\nother = pd.Series([1])\nframe.append(other)\n",
        "import pandas as pd\n\nframe = []\nframe.append(pd.DataFrame())\n",
        "import pandas as pd\n\nframe = pd.DataFrame()\nframe.append(*rows)\n",
        "import pandas as pd\n\nadd = pd.DataFrame().append\n",
    ],
)
def test_a_method_changes_only_on_what_is_proven_to_be_a_frame(text: str) -> None:
    assert after(text, "pandas-dataframe-append") == text


def test_the_traceback_proves_the_type_of_the_one_call_in_its_line() -> None:
    text = (
        "import pandas as pd\n\n\ndef join(a, names):\n    for column in a.iteritems():\n        names.append(column)\n"
    )
    assert after(text, "pandas-iteritems") == text
    assert after(text, "pandas-iteritems", line=5) == text.replace("iteritems", "items")
    two = "x = (a.iteritems(), b.iteritems())\n"
    assert after(two, "pandas-iteritems", line=1) == two


def test_calls_within_calls_are_migrated_together() -> None:
    text = "import pandas as pd\n\na = pd.DataFrame()\nb = a.append(a.append(a))\n"
    assert after(text, "pandas-dataframe-append") == text.replace(
        "a.append(a.append(a))", "pd.concat([a, pd.concat([a, a])])"
    )


# hostile files


@pytest.mark.parametrize(
    "text",
    [
        "x = float_ + " + "(" * 5000 + ")" * 5000,
        "x = float_" + "".join(f" + {n}" for n in range(20_000)),
        "x = float_" + ".a" * 50_000,
        "x = float_, " + "not " * 50_000 + "1",
        "x = float_, " + "lambda: " * 5_000 + "1",
        "float_\n" + "".join(f"{' ' * n}if 1:\n" for n in range(90)) + " " * 90 + "pass\n",
        "if float_: pass\n" + "elif 1: pass\n" * 5_000,
        "float_ = 1\n" + "x = [" * 300 + "]" * 300,
        "float_ = 1\nx = \0\n",
        "float_ = (\n",
        "float_ = 1\n" + "#" * (1 << 20),
        "float_ = [" + "1," * 300_000 + "]",
        "print float_\n",
        "float_ = '\ud800'\n",
        "import numpy as np\n" + "np.float_\n" * 2_500,
    ],
    ids=range(15),
)
def test_a_hostile_file_is_refused_and_nothing_falls_over(text: str) -> None:
    with pytest.raises(Malformed):
        rewrite(text, KNOWN["numpy-float_"])


def test_types_that_nobody_could_follow_end_the_search() -> None:
    tangle = "".join(f"a{n} = a{n + 1}\na{n} = a{n + 2}\n" for n in range(60))
    with pytest.raises(Malformed, match="too tangled"):
        rewrite(f"{tangle}a0.iteritems()\n", KNOWN["pandas-iteritems"])


def test_nothing_of_the_repository_is_executed(tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    text = f"import numpy as np\nopen({str(proof)!r}, 'w')\nx = np.float_(3)\n"
    assert "float64" in after(text, "numpy-float_")
    assert not proof.exists()


# the plan


def test_the_line_of_the_traceback_and_all_other_places_change_together() -> None:
    files = {
        "train.py": TRAIN,
        "src/model.py": "import numpy\n\ny = [numpy.float_(1), numpy.float_(2)]\n",
        "other.py": "a = 1\n",
    }
    plan = floating(files).plan(action)
    assert not plan.refusal
    assert {edit.path: edit.after for edit in plan.edits} == {
        "train.py": TRAIN.replace("float_", "float64"),
        "src/model.py": files["src/model.py"].replace("float_", "float64"),
    }
    assert plan.edits[0].path == "train.py"
    assert "numpy.float_ → numpy.float64" in plan.title
    assert "2 places" in plan.title
    assert "np.float_` was removed" in plan.why
    assert "https://numpy.org" in plan.why
    assert "train.py:3" in plan.why


@pytest.mark.parametrize(
    "path",
    [
        "/home/runner/work/trainer/trainer/src/pkg/a.py",
        "D:\\a\\trainer\\trainer\\src\\pkg\\a.py",
        "src/pkg/a.py",
        "./src/pkg/a.py",
        "/usr/lib/python3/dist-packages/pkg/a.py",
        "/opt/venv/lib/python3.12/site-packages/pkg/a.py",
    ],
)
def test_the_file_is_found_wherever_it_was_checked_out_or_installed(path: str) -> None:
    frames = ((path, 3, "x = np.float_(3)"), (NUMPY, 400, "raise AttributeError("))
    plan = at({"src/pkg/a.py": TRAIN, "a.py": "1\n"}, traceback(*frames, error=FLOAT)).plan(action)
    assert [edit.path for edit in plan.edits] == ["src/pkg/a.py"]


def test_pytest_tells_the_place_in_its_own_way() -> None:
    texts = ["    def fit():", ">       x = np.float_(3)", f"E       {FLOAT}", "", "train.py:3: AttributeError"]
    evidence = tuple(EvidenceLine(n, text, root=text.startswith("E ")) for n, text in enumerate(texts, start=1))
    assert at({"train.py": TRAIN}, evidence).plan(action).edits[0].path == "train.py"
    texts = [
        "train.py:3: in <module>",
        "    x = np.float_(3)",
        f"{NUMPY}:397: in __getattr__",
        "    raise",
        f"E   {FLOAT}",
    ]
    evidence = tuple(EvidenceLine(n, text, root=text.startswith("E ")) for n, text in enumerate(texts, start=1))
    assert at({"train.py": TRAIN}, evidence).plan(action).edits[0].path == "train.py"


def test_without_a_traceback_proven_places_are_enough() -> None:
    evidence = (EvidenceLine(1, FLOAT, root=True),)
    assert at({"train.py": TRAIN}, evidence).plan(action).edits[0].path == "train.py"
    refusal = at({"train.py": "x = 1\n"}, evidence).plan(action).refusal
    assert "no call site is proven" in refusal


@pytest.mark.parametrize(
    ("files", "path", "line", "word"),
    [
        ({"train.py": 'import numpy as np\n\nx = getattr(np, "float_")\n'}, "train.py", 3, "no call that is proven"),
        ({"train.py": "from common import *\n\nx = np.float_(3)\n"}, "train.py", 3, "from common import *"),
        ({"train.py": "import numpy as np\n\nx = np.float_(3\n"}, "train.py", 3, "is no Python that can be read"),
        ({"tests/test_a.py": TRAIN}, "tests/test_a.py", 3, "belongs to the tests"),
        ({"conftest.py": TRAIN}, "conftest.py", 3, "belongs to the tests"),
        ({"vendor/a.py": TRAIN}, "vendor/a.py", 3, "copied or generated"),
        ({"a_pb2.py": TRAIN}, "a_pb2.py", 3, "copied or generated"),
        ({"a.py": "# Generated by protoc. DO NOT EDIT.\n" + TRAIN}, "a.py", 4, "says that it is generated"),
        ({"a.py": "import numpy as np\n\nassert np.float_(3)\n"}, "a.py", 3, "touches an assertion"),
    ],
)
def test_a_place_that_is_not_proven_or_not_ours_is_refused(
    files: dict[str, str], path: str, line: int, word: str
) -> None:
    found = floating(files, path, line).plan(action)
    assert word in found.refusal
    assert found.edits == ()


def test_a_file_that_reads_otherwise_than_the_log_is_refused() -> None:
    evidence = traceback(("/w/train.py", 3, "x = np.float_(4)"), error=FLOAT)
    assert "reads otherwise than in the log" in at({"train.py": TRAIN}, evidence).plan(action).refusal


def test_a_call_in_somebody_elses_package_is_not_repaired_here() -> None:
    other = "/opt/venv/lib/python3.12/site-packages/oldlib/core.py"
    evidence = traceback(
        ("/w/train.py", 1, "import oldlib"), (other, 9, "np.float_"), (NUMPY, 4, "raise X"), error=FLOAT
    )
    refusal = at({"train.py": "import oldlib\n", "b.py": TRAIN}, evidence).plan(action).refusal
    assert "oldlib/core.py, which is not a file of this repository" in refusal


def test_a_class_of_the_repository_with_the_same_name_is_not_the_librarys() -> None:
    error = "AttributeError: 'DataFrame' object has no attribute 'iteritems'"
    use = "from frames import make\n\nframe = make()\nframe.iteritems()\n"
    evidence = traceback(("/w/a.py", 4, "frame.iteritems()"), error=error)
    plan = at({"a.py": use, "frames.py": "class DataFrame:\n    pass\n"}, evidence).plan(action)
    assert "frames.py has a class DataFrame of its own" in plan.refusal
    assert at({"a.py": use, "frames.py": "import pandas\n"}, evidence).plan(action).edits
    text = "from frames import DataFrame\n\nframe = DataFrame()\nframe.iteritems()\n"
    assert "it is a frames.DataFrame" in at({"a.py": text}, evidence).plan(action).refusal


def test_an_error_of_no_known_migration_is_refused() -> None:
    for error in (
        "AttributeError: module 'numpy' has no attribute 'fly'",
        "ImportError: cannot import name 'a' from 'b'",
    ):
        assert "no removed API that is known" in at({"train.py": TRAIN}, traceback(error=error)).plan(action).refusal


def test_tests_and_copies_are_left_while_the_rest_changes() -> None:
    files = {
        "train.py": TRAIN,
        "tests/test_a.py": TRAIN,
        "vendor/a.py": TRAIN,
        "z.py": "import numpy as np\nassert np.float_(1)\n",
    }
    plan = floating(files).plan(action)
    assert [edit.path for edit in plan.edits] == ["train.py"]
    assert "tests/test_a.py:3" in plan.risk
    assert "belongs to the tests" in plan.risk
    assert "z.py:2" in plan.risk


def test_of_several_migrations_the_one_whose_place_exists_is_meant() -> None:
    error = "ModuleNotFoundError: No module named 'distutils'"
    text = "from distutils.spawn import find_executable\n\ngit = find_executable('git')\n"
    plan = at({"a.py": text}, traceback(("/w/a.py", 1, text.split("\n")[0]), error=error)).plan(action)
    assert (plan.edits[0].after or "").startswith("from shutil import which\n")
    error = "TypeError: __init__() got an unexpected keyword argument 'sparse'"
    text = "from sklearn.preprocessing import OneHotEncoder\n\nencoder = OneHotEncoder(sparse=True)\n"
    plan = at({"a.py": text}, traceback(("/w/a.py", 3, "encoder = OneHotEncoder(sparse=True)"), error=error)).plan(
        action
    )
    assert "sparse_output=True" in (plan.edits[0].after or "")


def test_a_new_home_that_the_repository_does_not_ask_for_is_refused() -> None:
    error = "pydantic.errors.PydanticImportError: `BaseSettings` has been moved to the `pydantic-settings` package."
    text = "from pydantic import BaseSettings\n\n\nclass S(BaseSettings):\n    a: int = 1\n"
    evidence = traceback(("/w/a.py", 1, "from pydantic import BaseSettings"), error=error)
    assert "add it first" in at({"a.py": text}, evidence).plan(action).refusal
    assert (
        "add it first" in at({"a.py": text, "requirements.txt": "# pydantic-settings\n"}, evidence).plan(action).refusal
    )
    for name in ("pydantic-settings>=2", "pydantic_settings==2.1"):
        plan = at({"a.py": text, "requirements.txt": f"{name}\n"}, evidence).plan(action)
        assert (plan.edits[0].after or "").startswith("from pydantic_settings import BaseSettings\n")


def test_a_module_that_is_gone_changes_only_if_all_its_uses_are_known() -> None:
    error = "ModuleNotFoundError: No module named 'imp'"
    text = "import imp\n\nimp.reload(x)\nimp.find_module('x')\n"
    refusal = at({"a.py": text}, traceback(("/w/a.py", 1, "import imp"), error=error)).plan(action).refusal
    assert "imp is used otherwise in line 4" in refusal


def test_what_fails_elsewhere_is_repaired_where_it_is_written() -> None:
    error = "InvalidParameterError: The 'loss' parameter of SGDClassifier must be a str among {'x'}. Got 'log' instead."
    files = {
        "model.py": 'from sklearn.linear_model import SGDClassifier\n\nmodel = SGDClassifier(loss="log")\n',
        "train.py": "from model import model\n\nmodel.fit([[1]], [1])\n",
    }
    plan = at(files, traceback(("/w/train.py", 3, "model.fit([[1]], [1])"), error=error)).plan(action)
    assert [edit.path for edit in plan.edits] == ["model.py"]


def test_no_more_than_two_hundred_files_are_asked_for() -> None:
    files = {f"m{n:03}.py": TRAIN for n in range(230)}
    plan = floating(files, "m229.py").plan(action)
    assert len(plan.edits) == 201
    assert "more than 200 files" in plan.risk


def test_protected_paths_and_branches_are_refused() -> None:
    assert "protected" in floating({"train.py": TRAIN}, policy=Policy(protected_paths=("*.py",))).plan(action).refusal
    assert (
        "protected" in floating({"train.py": TRAIN}, policy=Policy(protected_branches=("main",))).plan(action).refusal
    )


def test_apply_and_undo_have_one_effect_however_often_they_stop() -> None:
    def make() -> Stage:
        return floating({"train.py": TRAIN, "b.py": TRAIN})

    assert crash_everywhere(make, lambda at, tools: at.apply(action, at.repair(action), tools=tools)) >= 3
    there = make()
    before = dict(there.forge.commits[there.forge.branches["main"]].files)
    repair = there.done(action)
    assert "float64" in dict(there.forge.commits[repair.outcome.data["head_sha"]].files)["b.py"]
    first, second = action.undo(repair, there.tools), action.undo(repair, there.tools)
    assert first.conclusion == second.conclusion
    assert dict(there.forge.commits[there.forge.branches["main"]].files) == before
    assert list(there.forge.branches) == ["main"]


def test_undo_of_what_was_merged_gives_back_every_byte() -> None:
    there = floating({"train.py": TRAIN.replace("\n", "\r\n")})
    repair = there.done(action)
    there.forge.merge(repair.outcome.data["pull"])
    outcome = action.undo(repair, there.tools)
    assert dict(there.forge.commits[outcome.data["head_sha"]].files)["train.py"] == TRAIN.replace("\n", "\r\n")


# from a real failure to a real success

REAL = {
    "numpy": "import numpy as np\n\n\ndef main():\n    return np.float_(3)\n\n\nmain()\n",
    "alias": "import numpy as xp\n\nprint(xp.in1d([1], [1]))\n",
    "collections": "import collections\nfrom collections import Mapping\n\nprint(Mapping, collections)\n",
    "attribute": "import collections as c\n\nprint(isinstance({}, c.Mapping))\n",
    "sklearn": """\
from sklearn.preprocessing import OneHotEncoder

print(OneHotEncoder(
    handle_unknown="ignore",
    sparse=False,
))
""",
    "pydantic": """\
from pydantic import BaseModel, Field


class Run(BaseModel):
    name: str = Field(..., regex="^a")


Run(name="a")
""",
    "root": """\
import pydantic


class Run(pydantic.BaseModel):
    @pydantic.root_validator()
    def whole(cls, values):
        return values


Run()
""",
    "append": """\
import pandas as pd


def add(frame):
    return frame.append({"a": 2}, ignore_index=True)


add(pd.DataFrame({"a": [1]}))
""",
    "scipy": "from scipy.integrate import simps\n\nprint(simps([1.0, 2.0, 3.0]))\n",
    "joblib": "from sklearn.externals import joblib as keep\n\nprint(keep.dump)\n",
}


@pytest.mark.parametrize("name", REAL)
def test_a_program_that_fails_is_diagnosed_migrated_and_runs(name: str, tmp_path: Path) -> None:
    file = tmp_path / "work" / "train.py"
    file.parent.mkdir()
    file.write_text(REAL[name])
    command = [sys.executable, "-W", "ignore", str(file)]
    failed = subprocess.run(command, capture_output=True, text=True, cwd=file.parent, timeout=120, check=False)
    assert failed.returncode == 1
    cause = diagnose(failing_log(*failed.stderr.splitlines()))[0]
    assert cause.signature is not None
    assert "migrate_api" in {rung.action for rung in cause.signature.ladder}
    plan = at({"train.py": REAL[name]}, cause.lines).plan(action)
    assert not plan.refusal
    file.write_text(plan.edits[0].after or "")
    subprocess.run(command, capture_output=True, text=True, cwd=file.parent, timeout=120, check=True)


def test_the_table_on_the_page_is_current() -> None:
    assert with_table(PAGE.read_text("utf-8")) == PAGE.read_text("utf-8"), "python -m actions.migrations --write"
    assert all(f"[{name}](" in PAGE.read_text("utf-8") for name in KNOWN)
