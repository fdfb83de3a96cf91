import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.adapters.resolver import UvResolver
from app.domain.errors import Refused, Unreachable
from sandbox.index import Package
from tests.sandbox.index_server import serve_index

PACKAGES = (
    Package("arrowlite", "2.9.4"),
    Package("arrowlite", "3.2.0"),
    Package("frames", "1.4.2", ("arrowlite>=2,<3",)),
    Package("frames", "1.5.0", ("arrowlite>=2.9,<4",)),
    Package("store", "2.1.0", ("arrowlite>=3,<4",)),
    Package("future", "1.0", requires_python=">=3.13"),
)


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    with serve_index(PACKAGES) as url:
        yield url


@pytest.fixture(scope="module")
def resolver(index: str) -> UvResolver:
    return UvResolver(index, timeout_s=60)


def test_requirements_that_fit_give_every_version(resolver: UvResolver) -> None:
    found = resolver.resolve(["frames>=1", "Store==2.1.0 ; python_version >= '3'"])
    assert found.resolved
    assert dict(found.pins) == {"arrowlite": "3.2.0", "frames": "1.5.0", "store": "2.1.0"}


def test_a_conflict_comes_with_the_resolvers_own_proof(resolver: UvResolver) -> None:
    found = resolver.resolve(["frames==1.4.2", "store==2.1.0"])
    assert not found.resolved
    assert found.pins == ()
    assert "arrowlite" in found.explanation
    assert "frames==1.4.2" in found.explanation
    assert "/tmp" not in found.explanation


def test_a_package_that_does_not_exist_is_a_conflict(resolver: UvResolver) -> None:
    found = resolver.resolve(["nowhere==1"])
    assert not found.resolved
    assert "nowhere" in found.explanation


def test_the_python_version_counts(resolver: UvResolver) -> None:
    assert resolver.resolve(["future"], python="3.13").resolved
    assert not resolver.resolve(["future"], python="3.12").resolved


@pytest.mark.parametrize(
    "line",
    [
        "-r other.txt",
        "--index-url https://elsewhere.example/simple",
        "-e .",
        "./here",
        "frames @ https://elsewhere.example/frames-1.0-py3-none-any.whl",
        "frames @ file:///etc/passwd",
        "git+https://elsewhere.example/frames.git",
        "frames==1.0\n-r /etc/passwd",
        "frames==1.0\x00",
        "frames==1.0 --hash=sha256:00",
        "x" * 3000,
    ],
)
def test_anything_but_a_plain_requirement_is_refused(resolver: UvResolver, line: str) -> None:
    with pytest.raises(Refused):
        resolver.resolve(["frames", line])


def test_a_python_version_that_is_none_is_refused(resolver: UvResolver) -> None:
    with pytest.raises(Refused, match="not a Python version"):
        resolver.resolve(["frames"], python="/bin/sh")


def test_an_index_that_does_not_answer_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="did not answer"):
        UvResolver("http://127.0.0.1:9/simple/", jail="off").resolve(["frames"])


def _fake_uv(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "uv"
    program.write_text(f"#!{sys.executable}\n{script}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(program))


def test_a_resolver_that_hangs_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "child"
    _fake_uv(
        tmp_path,
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n",
        monkeypatch,
    )
    with pytest.raises(Unreachable, match="took longer"):
        UvResolver("http://127.0.0.1:9/simple/", timeout_s=2, jail="off").resolve(["frames"])
    state = Path(f"/proc/{note.read_text()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_the_resolver_sees_nothing_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAL_GITHUB__PRIVATE_KEY", "secret")
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", "http://elsewhere.example/simple")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    _fake_uv(
        tmp_path,
        "import os, sys\n"
        "names = set(os.environ) - {'LC_CTYPE'}\n"
        "assert 'token' not in ' '.join(sys.argv), 'the URL with its password is in the arguments'\n"
        "print('seen==' + '-'.join(sorted(names)))\n",
        monkeypatch,
    )
    found = UvResolver("http://user:token@127.0.0.1:9/simple/", jail="off").resolve(["frames"])
    assert found.pins == (("seen", "HOME-PATH-UV_CACHE_DIR-UV_DEFAULT_INDEX-UV_HTTP_RETRIES"),)


def test_a_required_jail_that_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Refused, match="install bubblewrap"):
        UvResolver("http://127.0.0.1:9/simple/", jail="require").resolve(["frames"])


def test_a_jail_that_does_not_work_is_no_jail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(broken))
    with pytest.raises(Refused, match="install bubblewrap"):
        UvResolver("http://127.0.0.1:9/simple/", jail="require").resolve(["frames"])


def test_a_working_jail_wraps_the_resolver(index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that notes how it was called and then runs the program, as bubblewrap would."""
    note = tmp_path / "arguments"
    wrapper = tmp_path / "bwrap"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {note}\nwhile [ "$1" != "--" ]; do shift; done\nshift\nexec "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(wrapper))
    assert UvResolver(index, jail="require").resolve(["frames"]).resolved
    walls = note.read_text()
    assert "--unshare-all --share-net --die-with-parent" in walls
    assert f"--ro-bind-try {os.path.expanduser('~')} " not in walls


def test_what_is_published_as_source_only_is_not_called_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "Because numba==0.53.0 has no usable wheels and you require numba==0.53.0, we can conclude that your "
        "requirements are unsatisfiable. hint: Wheels are required for `numba` because building from source is disabled"
    )
    monkeypatch.setattr(
        UvResolver, "_run", lambda *_: (1, "", f"No solution found when resolving dependencies: {said}")
    )
    with pytest.raises(Refused, match="source only"):
        UvResolver("https://index.example/simple").resolve(["numba==0.53.0"])


def test_the_certificates_of_a_private_index_reach_the_resolver(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, str] = {}
    popen = subprocess.Popen
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/ssl/certs/of-our-own.pem")
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **named: seen.update(named["env"]) or popen(*args, **named))
    UvResolver(index, timeout_s=60).resolve(["store"])
    assert seen["SSL_CERT_FILE"] == "/etc/ssl/certs/of-our-own.pem"
