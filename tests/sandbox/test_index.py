import hashlib
import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from sandbox.index import Package, build_wheel, routes
from tests.sandbox.index_server import serve_index

PACKAGES = (
    Package("Base.Tools", "1.0"),
    Package("Base.Tools", "2.0"),
    Package("app-lib", "1.1", ("base-tools>=2",)),
)
JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}


@pytest.fixture
def client():
    return TestClient(Starlette(routes=routes(PACKAGES)))


@pytest.fixture(scope="module")
def index_url():
    with serve_index(PACKAGES) as url:
        yield url


def uv(*arguments: str, index_url: str, home: Path) -> str:
    program = shutil.which("uv", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    assert program is not None
    environment = {"UV_DEFAULT_INDEX": index_url, "UV_CACHE_DIR": str(home / "cache"), "HOME": str(home)}
    done = subprocess.run([program, *arguments], env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def test_the_same_wheel_is_the_same_bytes_each_time():
    assert build_wheel(PACKAGES[0]).content == build_wheel(PACKAGES[0]).content


def test_a_wheel_holds_its_module_and_a_record_of_every_file():
    with zipfile.ZipFile(io.BytesIO(build_wheel(PACKAGES[0]).content)) as archive:
        names = archive.namelist()
        record = archive.read("base_tools-1.0.dist-info/RECORD").decode()
    assert "base_tools.py" in names
    assert {line.partition(",")[0] for line in record.splitlines()} == set(names)


def test_the_html_and_the_json_page_list_the_same_files(client):
    page = client.get("/simple/base-tools/")
    listed = client.get("/simple/base-tools/", headers=JSON).json()["files"]
    assert page.headers["content-type"].startswith("text/html")
    assert [file["filename"] for file in listed] == [
        "base_tools-1.0-py3-none-any.whl",
        "base_tools-2.0-py3-none-any.whl",
    ]
    for file in listed:
        assert f"{file['url']}#sha256={file['hashes']['sha256']}" in page.text


def test_files_and_their_metadata_match_the_digests_that_the_page_gives(client):
    file = client.get("/simple/app-lib/", headers=JSON).json()["files"][0]
    wheel = client.get(file["url"])
    metadata = client.get(file["url"] + ".metadata")
    assert hashlib.sha256(wheel.content).hexdigest() == file["hashes"]["sha256"]
    assert hashlib.sha256(metadata.content).hexdigest() == file["core-metadata"]["sha256"]
    assert "Requires-Dist: base-tools>=2" in metadata.text


def test_every_package_is_in_the_list_under_its_normal_name(client):
    names = [project["name"] for project in client.get("/simple/", headers=JSON).json()["projects"]]
    assert names == ["app-lib", "base-tools"]
    assert '"/simple/base-tools/"' in client.get("/simple/").text


@pytest.mark.parametrize("path", ["/simple/nobody/", "/simple/app-lib/app_lib-9-py3-none-any.whl"])
def test_what_the_index_does_not_have_is_not_found(client, path):
    assert client.get(path).status_code == 404


def test_uv_resolves_against_the_index(index_url, tmp_path):
    (tmp_path / "requirements.in").write_text("app-lib\n")
    resolved = uv(
        "pip", "compile", "--no-annotate", str(tmp_path / "requirements.in"), index_url=index_url, home=tmp_path
    )
    assert [line for line in resolved.splitlines() if not line.startswith("#")] == ["app-lib==1.1", "base-tools==2.0"]


def test_uv_says_that_unsatisfiable_requirements_have_no_solution(index_url, tmp_path):
    (tmp_path / "requirements.in").write_text("app-lib\nbase-tools==1.0\n")
    with pytest.raises(subprocess.CalledProcessError) as failure:
        uv("pip", "compile", str(tmp_path / "requirements.in"), index_url=index_url, home=tmp_path)
    assert "No solution found when resolving dependencies" in failure.value.stderr


def test_uv_installs_wheels_that_can_be_imported(index_url, tmp_path):
    uv("pip", "install", "--python", sys.executable, "--target", str(tmp_path / "deps"), "app-lib",
       index_url=index_url, home=tmp_path)  # fmt: skip
    code = "import app_lib, base_tools; print(app_lib.__version__, base_tools.__version__)"
    imported = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path / "deps")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert imported.stdout == "1.1 2.0\n"
