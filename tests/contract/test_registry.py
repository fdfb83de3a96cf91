"""What every registry of models does: the twin, and MLflow itself."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from app.adapters.mlflow import Insecure, Mlflow
from app.domain.errors import Refused, Unreachable
from app.ports.registry import NoRegistry, Registry, Version
from tests.contract.registered import MlflowTeam
from tests.services import Server
from tests.twins.registry import MemoryRegistry


class World:
    """A registry, and how a training writes into it. Each test has a model of its own."""

    def __init__(self, registry: Registry, add: Callable[..., int], delete: Callable[[str, int], None]) -> None:
        self.registry = registry
        self.model = f"churn {uuid.uuid4().hex[:8]}"
        self._add = add
        self._delete = delete

    def add(
        self,
        *,
        metrics: Mapping[str, float] = {},
        tags: Mapping[str, str] = {},
        run_tags: Mapping[str, str] = {},
        files: Mapping[str, bytes] = {},
        data: str = "",
    ) -> int:
        return self._add(self.model, metrics, tags, run_tags, files, data)

    def delete(self, number: int) -> None:
        self._delete(self.model, number)


def twin() -> World:
    registry = MemoryRegistry()

    def add(model: str, metrics, tags, run_tags, files, data) -> int:  # type: ignore[no-untyped-def]
        every = {**run_tags, **tags}
        sha = every.get("heal.code_sha") or every.get("mlflow.source.git.commit", "")
        digest = every.get("heal.data_version") or data
        added = registry.add(model, metrics=metrics, tags=every, files=files, code_sha=sha, data_version=digest)
        return added.number

    return World(registry, add, registry.forget)


def real(url: str) -> World:
    team = MlflowTeam(url)

    def add(model: str, metrics, tags, run_tags, files, data) -> int:  # type: ignore[no-untyped-def]
        datasets = {"customers": data} if data else {}
        return team.register(model, team.run(metrics=metrics, tags=run_tags, files=files, datasets=datasets), tags)

    def delete(model: str, number: int) -> None:
        team.call("DELETE", "model-versions/delete", {"name": model, "version": str(number)})

    return World(Mlflow(url, grants=(("*", "*"),), timeout_s=60).only("acme/trainer"), add, delete)


@pytest.fixture(params=["twin", "mlflow"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "twin":
        return twin()
    server: Server = request.getfixturevalue("mlflow_server")
    return real(server.url)


def test_a_version_is_told_with_what_its_run_measured(world: World) -> None:
    number = world.add(
        metrics={"accuracy": 0.875, "loss": 0.25},
        tags={"stage": "candidate"},
        run_tags={"mlflow.source.git.commit": "c0ffee", "owner": "maria"},
        data="d1g3st",
    )
    found = world.registry.version(world.model, number)
    assert found is not None
    assert (found.model, found.number, found.ready) == (world.model, number, True)
    assert dict(found.metrics) == {"accuracy": 0.875, "loss": 0.25}
    assert (found.code_sha, found.data_version) == ("c0ffee", "d1g3st")
    assert (found.tags["stage"], found.tags["owner"]) == ("candidate", "maria")
    assert found.run_id
    assert found.created_at is not None
    assert found.created_at.tzinfo is not None
    assert found.url.startswith("http")


def test_what_was_written_on_the_version_counts_more_than_what_the_run_says(world: World) -> None:
    number = world.add(
        tags={"heal.data_version": "2026-11", "heal.code_sha": "abc", "both": "version"},
        run_tags={"mlflow.source.git.commit": "def", "both": "run"},
        data="d1",
    )
    found = world.registry.version(world.model, number)
    assert found is not None
    assert (found.code_sha, found.data_version, found.tags["both"]) == ("abc", "2026-11", "version")


def test_what_is_not_there_is_none(world: World) -> None:
    assert world.registry.version(world.model, 1) is None
    assert world.registry.aliased(world.model, "champion") is None
    assert world.registry.versions(world.model, tags={}) == []
    number = world.add()
    assert world.registry.version(world.model, number + 1) is None
    assert world.registry.aliased(world.model, "champion") is None


def test_an_alias_points_moves_and_goes(world: World) -> None:
    one, two = world.add(), world.add()
    registry, model = world.registry, world.model
    registry.point(model, "champion", one)
    registry.point(model, "champion", one)
    assert number(registry.aliased(model, "champion")) == one
    registry.point(model, "champion", two)
    registry.point(model, "previous", one)
    assert (number(registry.aliased(model, "champion")), number(registry.aliased(model, "previous"))) == (two, one)
    registry.point(model, "champion", None)
    registry.point(model, "champion", None)
    assert registry.aliased(model, "champion") is None
    assert number(registry.aliased(model, "previous")) == one


def test_an_alias_does_not_point_at_nothing(world: World) -> None:
    one = world.add()
    world.registry.point(world.model, "champion", one)
    with pytest.raises(Refused, match="no version"):
        world.registry.point(world.model, "champion", one + 7)
    assert number(world.registry.aliased(world.model, "champion")) == one


def test_an_alias_goes_with_the_version_it_points_at(world: World) -> None:
    one = world.add()
    world.registry.point(world.model, "champion", one)
    world.delete(one)
    assert world.registry.aliased(world.model, "champion") is None
    assert world.registry.version(world.model, one) is None


def test_versions_are_told_newest_first_and_by_the_tags_of_version_or_run(world: World) -> None:
    one = world.add(tags={"heal.id": "k1"})
    two = world.add(run_tags={"heal.id": "k2"})
    three = world.add(tags={"heal.id": "k1", "more": "1"})

    def found(**tags: str) -> list[int]:
        return [each.number for each in world.registry.versions(world.model, tags=tags)]

    assert found() == [three, two, one]
    assert [each.number for each in world.registry.versions(world.model, tags={}, most=2)] == [three, two]
    assert found(**{"heal.id": "k1"}) == [three, one]
    assert found(**{"heal.id": "k2"}) == [two]
    assert found(**{"heal.id": "k1", "more": "1"}) == [three]
    assert found(**{"heal.id": "nobody"}) == []


def test_versions_are_told_since_a_moment(world: World) -> None:
    one = world.registry.version(world.model, world.add())
    assert one is not None
    assert one.created_at is not None
    just_then, later = one.created_at, one.created_at + timedelta(days=1)
    assert [each.number for each in world.registry.versions(world.model, tags={}, since=just_then)] == [one.number]
    assert world.registry.versions(world.model, tags={}, since=later) == []


def test_a_tag_is_written_and_overwritten(world: World) -> None:
    one = world.add(tags={"heal.id": "k1"})
    world.registry.tag(world.model, one, "heal.id", "k2")
    world.registry.tag(world.model, one, "said by", "ünï '\"\n<b>")
    found = world.registry.version(world.model, one)
    assert found is not None
    assert (found.tags["heal.id"], found.tags["said by"]) == ("k2", "ünï '\"\n<b>")
    with pytest.raises(Refused, match="no version"):
        world.registry.tag(world.model, one + 1, "a", "b")


def test_an_artefact_comes_whole_or_not_at_all(world: World) -> None:
    content = bytes(range(256)) * 40
    one = world.registry.version(world.model, world.add(files={"heal/evaluation.parquet": content, "top.txt": b"t"}))
    assert one is not None
    registry = world.registry
    assert registry.file(one, "heal/evaluation.parquet", most_bytes=len(content)) == content
    assert registry.file(one, "top.txt", most_bytes=1) == b"t"
    assert registry.file(one, "heal/evaluation.parquet", most_bytes=len(content) - 1) is None
    assert registry.file(one, "heal/nothing.parquet", most_bytes=100) is None
    assert registry.file(one, "heal", most_bytes=100) is None
    assert registry.file(Version(world.model, 9), "top.txt", most_bytes=100) is None


@pytest.mark.parametrize(
    "path", ["../secret", "heal/../../x", "/etc/passwd", "a//b", "", ".", "a\\b", "%2e%2e/x", "a\nb", "a?b", "x" * 501]
)
def test_a_path_that_leads_elsewhere_is_refused(world: World, path: str) -> None:
    one = world.registry.version(world.model, world.add(files={"top.txt": b"t"}))
    assert one is not None
    with pytest.raises(Refused, match="no path of an artefact"):
        world.registry.file(one, path, most_bytes=100)


def number(version: Version | None) -> int | None:
    return version.number if version else None


# what only MLflow has


@pytest.mark.parametrize("model", ["it's", "a' OR name='b", "a/b", "a:b", "", "x" * 201, "a\nb"])
def test_a_name_that_would_ask_for_something_else_is_refused(model: str) -> None:
    registry = Mlflow("http://127.0.0.1:9")  # nobody listens there: it is refused before anybody is asked
    for ask in (
        lambda: registry.version(model, 1),
        lambda: registry.versions(model, tags={}),
        lambda: registry.aliased(model, "champion"),
        lambda: registry.point(model, "champion", 1),
        lambda: registry.tag(model, 1, "a", "b"),
    ):
        with pytest.raises(Refused, match="no name"):
            ask()


def test_a_repository_uses_the_models_it_was_given_and_no_others(mlflow_server: Server) -> None:
    world = real(mlflow_server.url)
    world.add()
    whole = Mlflow(mlflow_server.url, grants=(("acme/*", "churn *"), ("evil/twin", "theirs")), timeout_s=60)
    assert whole.only("Acme/trainer").version(world.model, 1) is not None
    theirs = whole.only("evil/twin")
    version = Version(world.model, 1, run_id="r")
    for ask in (
        lambda: theirs.version(world.model, 1),
        lambda: theirs.versions(world.model, tags={}),
        lambda: theirs.aliased(world.model, "champion"),
        lambda: theirs.point(world.model, "champion", 1),
        lambda: theirs.tag(world.model, 1, "a", "b"),
        lambda: theirs.file(version, "a", most_bytes=1),
        lambda: theirs.only("stranger/x").version(world.model, 1),
    ):
        with pytest.raises(Refused, match="HEAL_MLFLOW__MODELS"):
            ask()


def test_a_server_that_does_not_answer_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        Mlflow("http://127.0.0.1:9", timeout_s=1).version("churn", 1)


class Rude(BaseHTTPRequestHandler):
    """Answers everything with what the test asks for, and keeps what it was sent."""

    answer: tuple[int, dict[str, str], bytes] = (200, {}, b"{}")
    seen: list[tuple[str, str]] = []  # noqa: RUF012 - each test has a class of its own

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization", "")))
        status, headers, body = self.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def rude() -> Iterator[tuple[type[Rude], str]]:
    handler = type("Handler", (Rude,), {"seen": []})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield handler, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_no_redirection_is_followed(rude: tuple[type[Rude], str]) -> None:
    handler, url = rude
    handler.answer = (302, {"Location": f"{url}/elsewhere"}, b"")
    with pytest.raises(Refused, match="TRACKING_URI"):
        Mlflow(url, token="t").version("churn", 1)
    assert [path.partition("?")[0] for path, _ in handler.seen] == ["/api/2.0/mlflow/model-versions/get"]


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [(401, Refused, "TOKEN"), (403, Refused, "PASSWORD"), (429, Unreachable, "429"), (503, Unreachable, "503")],
)
def test_trouble_says_what_to_do(rude: tuple[type[Rude], str], status: int, error: type[Exception], words: str) -> None:
    handler, url = rude
    handler.answer = (status, {}, b"s3cret")
    with pytest.raises(error, match=words) as caught:
        Mlflow(url, token="t0ken").version("churn", 1)
    assert "t0ken" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"<html>", b"[" * 100_000, b'{"model_version": 7}', b'{"model_version": {"version": "-1"}}', b"{}"],
)
def test_an_answer_that_is_none_is_unreachable(rude: tuple[type[Rude], str], body: bytes) -> None:
    handler, url = rude
    handler.answer = (200, {}, body)
    with pytest.raises(Unreachable, match="something else"):
        Mlflow(url).version("churn", 1)


def test_credentials_are_sent_as_the_operator_gave_them(rude: tuple[type[Rude], str]) -> None:
    handler, url = rude
    handler.answer = (404, {}, b"")
    Mlflow(url, token="t0ken").version("churn", 1)
    Mlflow(url, username="heal", password="pw").version("churn", 1)
    Mlflow(url).version("churn", 1)
    assert [sent for _, sent in handler.seen] == ["Bearer t0ken", "Basic aGVhbDpwdw==", ""]


@pytest.mark.parametrize("url", ["ftp://host", "mlflow", "https://user:pw@host", "file:///tmp/x", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Insecure):
        Mlflow(url)


def test_no_secret_crosses_a_network_in_the_clear() -> None:
    with pytest.raises(Insecure, match="https"):
        Mlflow("http://mlflow.example", token="t")
    with pytest.raises(Insecure, match="https"):
        Mlflow("http://mlflow.example", username="heal", password="p")
    Mlflow("http://mlflow.example")
    Mlflow("http://localhost:5000", token="t")
    Mlflow("https://mlflow.example", token="t")


def test_where_no_registry_is_configured_everything_says_so() -> None:
    with pytest.raises(Refused, match="HEAL_MLFLOW__TRACKING_URI"):
        NoRegistry().only("acme/trainer").versions("churn", tags={}, since=datetime.now(UTC))
