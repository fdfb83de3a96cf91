"""Which modules a repository's files import, out of its archive."""

import io
import json
import tarfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.advisory import AddedLine
from app.healing.gather_security import added_by
from app.ports.forge import FileChange
from app.security import imports
from app.security.imports import imports_in


def archive(**files: str) -> io.BytesIO:
    """A .tar.gz as GitHub sends one; `__` in a name stands for `/`, `_py` for `.py`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            path = name.replace("__", "/").replace("_py", ".py").replace("_nb", ".ipynb")
            entry = tarfile.TarInfo(f"acme-model-1234567/{path}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("acme-model-1234567/link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    packed.seek(0)
    return packed


def test_python_files_and_notebooks_are_read_and_nothing_else() -> None:
    cells: list[Any] = [
        {"cell_type": "markdown", "source": ["import prose"]},
        {"cell_type": "code", "source": ["%pip install x\n", "import pandas as pd\n", "from torch import nn"]},
        {"cell_type": "code", "source": "import jax"},
        "no cell",
    ]
    found = imports_in(
        archive(src__a_py="import yaml", b_py="import yaml, os", c="import text", d_nb=json.dumps({"cells": cells}))
    )
    assert dict(found.modules) == {
        "yaml": ("src/a.py", "b.py"),
        "os": ("b.py",),
        "pandas": ("d.ipynb",),
        "torch": ("d.ipynb",),
        "jax": ("d.ipynb",),
    }
    assert found.complete


@pytest.mark.parametrize(("bound", "value"), [("MAX_FILES", 1), ("MAX_BYTES", 15), ("MAX_FILE", 11)])
def test_what_is_beyond_a_bound_makes_it_incomplete(monkeypatch: pytest.MonkeyPatch, bound: str, value: int) -> None:
    monkeypatch.setattr(imports, bound, value)
    found = imports_in(archive(a_py="import yaml", b_py="import numpy as np"))
    assert "yaml" in found.modules
    assert (set(found.modules), found.complete) == ({"yaml"}, False)


def test_an_archive_that_is_cut_off_is_read_up_to_there() -> None:
    whole = archive(a_py="import yaml\n" + "# x\n" * 50_000).getvalue()
    assert not imports_in(io.BytesIO(whole[: len(whole) // 2])).complete
    assert not imports_in(io.BytesIO(b"no archive")).complete
    assert not imports_in(io.BytesIO(b"")).complete


@pytest.mark.parametrize(
    "text", ["{", "[]", "null", '{"cells": 5}', '{"cells": [{"cell_type": "code"}]}', "[" * 100_000]
)
def test_a_broken_notebook_imports_nothing(text: str) -> None:
    assert dict(imports_in(archive(a_nb=text)).modules) == {}


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_is_survived(data: st.DataObject) -> None:
    content = bytearray(archive(a_py="import yaml", b_nb="{}").getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    imports_in(io.BytesIO(bytes(content)))


PATCH = """\
@@ -1,3 +1,4 @@
 import os
-x = 1
+x = 2
+y = 3
 z = 4
@@ -40 +41,2 @@ def f():
+last
 end
\\ No newline at end of file"""


def test_added_lines_have_their_numbers_in_the_new_file() -> None:
    assert list(added_by(FileChange("a.py", "modified", PATCH))) == [
        AddedLine("a.py", 2, "x = 2"),
        AddedLine("a.py", 3, "y = 3"),
        AddedLine("a.py", 41, "last"),
    ]


@settings(max_examples=200, deadline=None)
@given(patch=st.text(alphabet="@-+ 1,\n\\x", max_size=100))
def test_a_patch_of_any_form_is_survived(patch: str) -> None:
    assert all(line.line >= 0 for line in added_by(FileChange("a", "modified", patch)))
