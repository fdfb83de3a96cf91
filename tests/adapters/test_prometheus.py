"""Asking Prometheus: against a stand-in, and against the real one where the machine has it."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from app.adapters import prometheus as adapter
from app.adapters.prometheus import Insecure, Prometheus
from app.domain.errors import Unreachable
from app.domain.model import Query
from app.domain.signal import Series
from app.domain.tenant import Repository
from tests.adapters.prometheus_stand_in import StandIn, stand_in

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DISK = {"disk_used_ratio": Query("1 - free / size", 1.0)}


@pytest.fixture
def there() -> Iterator[StandIn]:
    with stand_in() as state:
        yield state


def ask(there: StandIn, queries: dict[str, Query] | None = None, **words: object) -> list[Series]:
    return Prometheus(there.url, repositories=["*"], **words).ask(queries or DISK, until=NOON)  # type: ignore[arg-type]


def test_each_series_of_an_answer_is_a_series_under_the_querys_name(there: StandIn) -> None:
    there.answers["1 - free / size"] = [
        {"metric": {"__name__": "x", "device": "sda"}, "values": [[1000, "0.5"], [1060.5, "0.6"], [1120, "NaN"]]},
        {"metric": {"device": "sdb"}, "values": [[1000, "+Inf"]]},
    ]
    assert ask(there) == [Series("disk_used_ratio", ((1000.0, 0.5), (1060.5, 0.6)), {"device": "sda"}, 1.0)]


def test_it_is_asked_for_a_bounded_number_of_points(there: StandIn) -> None:
    ask(there, hours=24.0)
    (asked,) = there.asked
    assert asked["path"] == "/api/v1/query_range"
    span = float(asked["end"]) - float(asked["start"])
    assert span == 24 * 3600
    assert span / float(asked["step"].rstrip("s")) <= adapter.POINTS
    assert float(asked["end"]) == NOON.timestamp()


def test_the_token_of_its_file_is_sent_and_nothing_of_the_environment(
    there: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    (tmp_path / "token").write_text("s3cret\n")
    ask(there, token_file=tmp_path / "token")
    assert there.headers[0]["authorization"] == "Bearer s3cret"


def test_a_query_that_is_refused_gives_nothing_and_the_others_go_on(there: StandIn) -> None:
    there.answers["bad("] = (400, '{"status": "error", "errorType": "bad_data"}')
    there.answers["good"] = [{"metric": {}, "values": [[1, "2"]]}]
    assert [series.name for series in ask(there, {"a": Query("bad("), "b": Query("good")})] == ["b"]


@pytest.mark.parametrize(
    "answer", [(500, ""), (503, "{}"), (401, ""), (302, ""), (200, "<html>"), (200, "[]"), (200, b"\xff")]
)
def test_what_is_no_answer_is_out_of_reach(there: StandIn, answer: tuple[int, str]) -> None:
    there.answers["1 - free / size"] = answer
    with pytest.raises(Unreachable):
        ask(there)
    assert len(there.asked) == 1  # a redirection is not followed


def test_nobody_there_is_out_of_reach() -> None:
    with pytest.raises(Unreachable):
        Prometheus("http://127.0.0.1:9", repositories=["*"]).ask(DISK, until=NOON)


def test_an_answer_that_is_too_large_is_left(there: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    there.answers["1 - free / size"] = [{"metric": {}, "values": [[1, "2"]] * 100}]
    monkeypatch.setattr(adapter, "MOST_BYTES", 500)
    assert ask(there) == []


@pytest.mark.parametrize(
    "odd", [[1], [{}], [{"metric": 3, "values": 4}], [{"metric": {}, "values": [None, [], [1], ["a", "b"]]}], ["x"]]
)
def test_series_that_are_none_are_left(there: StandIn, odd: list[object]) -> None:
    there.answers["1 - free / size"] = odd
    assert ask(there) == []


@pytest.mark.parametrize(
    ("patterns", "lets"), [([], False), (["acme/*"], True), (["Acme/Trainer"], True), (["other/*"], False)]
)
def test_only_named_repositories_may_ask(patterns: list[str], lets: bool) -> None:
    there = Prometheus("https://prometheus.example", repositories=patterns)
    assert there.lets(Repository(1, "acme/trainer", 1)) is lets


@pytest.mark.parametrize("url", ["http://prometheus.example", "http://169.254.169.254", "file:///etc/passwd", "x"])
def test_an_address_in_the_clear_is_refused(url: str) -> None:
    with pytest.raises(Insecure):
        Prometheus(url, repositories=[])


@pytest.fixture
def real(tmp_path: Path) -> Iterator[str]:
    """The URL of a real Prometheus that scrapes itself."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("Prometheus is not on this machine (Debian's package prometheus)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: self, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
    )
    command = [binary, f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log, env=dict(os.environ)
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = requests.get(f"{url}/api/v1/query", params={"query": "up"}, timeout=2).json()
                if answer["data"]["result"]:
                    break
            except (requests.RequestException, ValueError):
                pass
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def test_the_real_one_answers_as_the_stand_in_does(real: str) -> None:
    asked = {"up": Query("up", 1.0), "bad": Query("up(")}
    (series,) = Prometheus(real, repositories=["*"]).ask(asked, until=datetime.now(UTC))
    assert (series.name, series.limit, series.labels["job"]) == ("up", 1.0, "self")
    assert {value for _, value in series.points} <= {0.0, 1.0}
