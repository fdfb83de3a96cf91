"""The ways in for what is not GitHub's, through the whole web process."""

import base64
import gzip
import hashlib
import hmac
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.db.digest import digest
from app.db.engine import db_now, make_engine, reading, writing
from app.db.store import SqlStore
from app.db.tables import DeliveryRow, TokenRow
from app.db.tokens import Tokens
from app.domain.access import Scope, TokenKind
from app.domain.tenant import Repository
from app.web.app import create
from tests.conftest import Bell
from tests.web.test_app import key_file, wired

__all__ = ["key_file"]

HERE = Repository(7, "acme/trainer", 3)
THERE = Repository(8, "acme/other", 3)
ADDRESS = "/api/v1/models/churn/observations"
ROWS = [{"age": 30, "prediction": 1}, {"age": 40, "prediction": 0}]
FIRING = {
    "version": "4",
    "groupKey": '{}:{alertname="DiskFull"}',
    "status": "firing",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "DiskFull", "instance": "gpu-1"},
            "annotations": {"summary": "disk is 97 % full"},
            "startsAt": "2026-11-21T09:00:00.123456789Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "https://prometheus.example/graph",
            "fingerprint": "c6eadffa33fcdf37",
        }
    ],
}
SERIES = {"series": [{"name": "gpu_memory_used_bytes", "labels": {"gpu": "0"}, "points": [[1e9, 5]], "limit": 80}]}


class Api:
    """The web process, a token that may do all, and what was kept."""

    def __init__(self, client: TestClient, engine: Engine) -> None:
        self.client = client
        self.engine = engine
        self.store = SqlStore(engine, Bell())
        self.tokens = Tokens(engine, self.store.secret)
        with self.store.begin() as ledger:
            for repository in (HERE, THERE):
                ledger.remember_repository(repository)
        self.token = self.make()

    def make(self, repository: Repository = HERE, *scopes: Scope, **words: Any) -> str:
        return self.tokens.create(repository, scopes or tuple(Scope), **words)[1]

    def post(self, body: Any = ROWS, address: str = ADDRESS, token: str = "", **headers: str) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"authorization": f"Bearer {token or self.token}", "content-type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(address, content=content, headers=given)

    def kept(self) -> list[Any]:
        with reading(self.engine) as connection:
            return list(connection.execute(select(DeliveryRow).order_by(DeliveryRow.id)))


@pytest.fixture
def api(database_url: str, key_file: Path) -> Iterator[Api]:
    engine = make_engine(database_url)
    with TestClient(create(wired(database_url, key_file)), base_url="http://127.0.0.1") as client:
        yield Api(client, engine)
    engine.dispose()


def refused(answer: Any, status: int, code: str) -> None:
    error = answer.json()
    assert (answer.status_code, error["code"]) == (status, code)
    assert error["detail"]
    assert error["hint"]


# who may send


@pytest.mark.parametrize(
    "given", ["", "Basic heal_x", "Bearer", "Bearer x", "Bearer heal_" + "A" * 43, "Bearer heal_" + "A" * 4000]
)
def test_without_a_token_that_is_known_nothing_is_kept(api: Api, given: str) -> None:
    answer = api.post(authorization=given)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["hint"]
    assert "AAAA" not in answer.text
    assert api.kept() == []


def test_a_revoked_token_is_refused_from_then_on(api: Api) -> None:
    assert api.post().status_code == 202
    assert api.tokens.revoke(1)
    refused(api.post(), 401, "wrong_token")


def test_an_expired_token_is_refused(api: Api) -> None:
    refused(api.post(token=api.make(expires_in_s=-1.0)), 401, "wrong_token")
    assert api.post(token=api.make(expires_in_s=60.0)).status_code == 202


def test_a_token_of_a_repository_that_the_app_was_removed_from_is_refused(api: Api) -> None:
    with api.store.begin() as ledger:
        ledger.forget_repositories([HERE.id])
    refused(api.post(), 401, "wrong_token")


def test_what_is_sent_belongs_to_the_repository_of_the_token(api: Api) -> None:
    for token in (api.token, api.make(THERE)):
        assert api.post(token=token, idempotency_key="one").json()["fresh"] is True
    assert [(row.repository_id, row.repository, row.installation_id) for row in api.kept()] == [
        (7, "acme/trainer", 3),
        (8, "acme/other", 3),
    ]


def test_a_token_sends_only_what_its_scope_names(api: Api) -> None:
    watcher, model = api.make(HERE, Scope.SIGNALS), api.make(HERE, Scope.OBSERVATIONS)
    refused(api.post(token=watcher), 403, "wrong_scope")
    refused(api.post(FIRING, "/api/v1/signals/alertmanager", model), 403, "wrong_scope")
    assert api.post(FIRING, "/api/v1/signals/alertmanager", watcher).status_code == 202


def test_only_the_hash_of_a_token_is_kept_and_when_it_was_last_used(api: Api) -> None:
    def row() -> Any:
        with reading(api.engine) as connection:
            return connection.execute(select(TokenRow)).one()

    assert (row().digest, row().last_used_at) == (digest(api.token), None)
    assert api.token not in str(row())
    api.post()
    used = row().last_used_at
    assert used is not None
    api.post()
    assert row().last_used_at == used  # a write for each request would cost more than it tells
    with writing(api.engine) as connection:
        connection.execute(TokenRow.__table__.update().values(last_used_at=db_now(-3600)))
    api.post()
    assert row().last_used_at >= used


def test_a_token_that_sends_too_often_is_told_when_to_come_again(
    database_url: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAL_API__REQUESTS_PER_MINUTE", "3")
    engine = make_engine(database_url)
    with TestClient(create(wired(database_url, key_file)), base_url="http://127.0.0.1") as client:
        api = Api(client, engine)
        assert [api.post().status_code for _ in range(4)] == [202, 202, 202, 429]
        answer = api.post()
        refused(answer, 429, "too_many")
        assert 1 <= int(answer.headers["retry-after"]) <= 20
        assert api.post(token=api.make(THERE)).status_code == 202
    engine.dispose()


def test_on_a_public_address_signals_are_taken_and_pages_ask_who_is_there(database_url: str, key_file: Path) -> None:
    engine = make_engine(database_url)
    with TestClient(create(wired(database_url, key_file, host="0.0.0.0"))) as client:
        api = Api(client, engine)
        assert api.post().status_code == 202
        assert client.get("/").status_code == 401
    engine.dispose()


# observations


def arrow(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


TABLE = pa.table({"age": [30, 40], "prediction": [1, 0]})


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (json.dumps(ROWS).encode(), "application/json; charset=utf-8"),
        (b'{"columns": {"age": [1], "prediction": [0]}, "window": "w1", "close": true}', "application/json"),
        (arrow(TABLE), "application/vnd.apache.arrow.stream"),
        (parquet(TABLE), "application/vnd.apache.parquet"),
    ],
)
@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
def test_observations_are_kept_as_they_were_before_they_were_packed(
    api: Api, body: bytes, content_type: str, encoding: str
) -> None:
    packed = {"identity": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}[encoding](body)
    address = f"{ADDRESS}?task=binary&segments=a,b"
    answer = api.post(packed, address, content_type=content_type, content_encoding=encoding)
    assert (answer.status_code, answer.json()["fresh"]) == (202, True)
    (row,) = api.kept()
    with api.store.begin() as ledger:
        delivery = ledger.delivery(row.id)
    assert delivery.body == body
    assert (delivery.source, delivery.action) == ("observations", "churn")
    assert delivery.headers == {"content-type": content_type.partition(";")[0], "task": "binary", "segments": "a,b"}


def test_a_batch_that_is_sent_twice_is_kept_once(api: Api) -> None:
    assert [api.post().json()["fresh"] for _ in range(2)] == [True, False]
    keyed = [api.post(body, idempotency_key="k").json() for body in (ROWS, ROWS[:1])]
    assert [answer["fresh"] for answer in keyed] == [True, False]
    assert keyed[0]["delivery"] == keyed[1]["delivery"]
    for address in ("/api/v1/models/other/observations", f"{ADDRESS}?window=w2"):
        assert api.post(address=address).json()["fresh"] is True


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "application/json", 400, "malformed"),
        (b"{", "application/json", 400, "malformed"),
        (b"\xff\xfe", "application/json", 400, "malformed"),
        (b"[1]", "application/json", 400, "malformed"),
        (b'{"rows": [], "surprise": 1}', "application/json", 400, "malformed"),
        (b"[" * 5000 + b"]" * 5000, "application/json", 400, "malformed"),
        (b"[]", "application/vnd.apache.parquet", 400, "malformed"),
        (b"PAR1 and no more", "application/vnd.apache.parquet", 400, "malformed"),
        (b"ARROW1", "application/vnd.apache.arrow.stream", 400, "malformed"),
        (b"a,b\n1,2\n", "text/csv", 415, "wrong_type"),
        (b"[]", "", 415, "wrong_type"),
    ],
)
def test_what_is_no_batch_is_refused_and_not_kept(
    api: Api, body: bytes, content_type: str, status: int, code: str
) -> None:
    refused(api.post(body, content_type=content_type), status, code)
    assert api.kept() == []


@pytest.mark.parametrize(
    ("name", "query", "code"),
    [
        ("a%2Fb", "", "wrong_name"),
        ("%2E%2E", "", "wrong_name"),
        ("x" * 101, "", "wrong_name"),
        ("churn", "?window=../x", "malformed"),
        ("churn", "?roel=reference", "malformed"),
        ("churn", "?close=perhaps", "malformed"),
        ("churn", "?" + "&".join(f"a{n}=1" for n in range(60)), "malformed"),
    ],
)
def test_a_wrong_name_or_query_is_told(api: Api, name: str, query: str, code: str) -> None:
    answer = api.post(address=f"/api/v1/models/{name}/observations{query}")
    assert answer.status_code in (400, 404)
    if answer.status_code == 400:
        refused(answer, 400, code)
    assert api.kept() == []


def test_a_body_that_is_too_large_is_refused_packed_or_not(
    database_url: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAL_API__MAX_BODY", "2048")
    engine = make_engine(database_url)
    bomb = b"[" + b" " * 50_000 + b"]"
    with TestClient(create(wired(database_url, key_file)), base_url="http://127.0.0.1") as client:
        api = Api(client, engine)
        refused(api.post(bomb), 413, "too_large")
        refused(api.post(gzip.compress(bomb), content_encoding="gzip"), 413, "too_large")
        refused(api.post(zstandard.compress(bomb), content_encoding="zstd"), 413, "too_large")
        assert api.kept() == []
        assert api.post().status_code == 202
    engine.dispose()


def test_a_body_that_is_not_packed_as_it_says_is_refused(api: Api) -> None:
    for encoding in ("gzip", "zstd"):
        refused(api.post(content_encoding=encoding), 400, "malformed")
    refused(api.post(content_encoding="br"), 415, "wrong_encoding")


def test_another_method_is_refused(api: Api) -> None:
    answer = api.client.get(ADDRESS)
    refused(answer, 405, "wrong_method")
    assert answer.headers["allow"] == "POST"


def test_the_sender_can_ask_what_became_of_a_delivery_and_nobody_else(api: Api) -> None:
    guid = api.post().json()["delivery"]
    address = f"/api/v1/sent/{guid}"
    mine = api.client.get(address, headers={"authorization": f"Bearer {api.token}"})
    assert mine.json() == {"delivery": guid, "state": "ready", "reason": ""}
    theirs = api.client.get(address, headers={"authorization": f"Bearer {api.make(THERE)}"})
    refused(theirs, 404, "not_found")
    refused(api.client.get(address), 401, "not_authorized")


# signals


def test_alertmanagers_webhook_is_kept_and_its_repetition_is_no_news(api: Api) -> None:
    answers = [api.post(FIRING, "/api/v1/signals/alertmanager") for _ in range(2)]
    assert [(answer.status_code, answer.json()["fresh"]) for answer in answers] == [(202, True), (202, False)]
    resolved = {**FIRING, "alerts": [{**FIRING["alerts"][0], "status": "resolved"}]}
    assert api.post(resolved, "/api/v1/signals/alertmanager").json()["fresh"] is True
    assert [row.source for row in api.kept()] == ["alertmanager", "alertmanager"]


@pytest.mark.parametrize(
    ("address", "body"),
    [
        ("alertmanager", {"alerts": [{"status": "firing", "labels": {}}]}),
        ("alertmanager", {"alerts": [{"status": "burning", "labels": {"alertname": "x"}}]}),
        ("alertmanager", {"alerts": 3}),
        ("alertmanager", []),
        ("samples", {"series": [{"name": "x", "points": [[1, "many"]]}]}),
        ("samples", {"series": [{"name": "x", "points": [[1, 2, 3]]}]}),
        ("samples", {"series": [{"points": []}]}),
        ("samples", {"series": [{"name": "x", "points": [], "limit": "full"}]}),
        ("samples", {}),
    ],
)
def test_signals_that_cannot_be_read_are_refused(api: Api, address: str, body: Any) -> None:
    refused(api.post(body, f"/api/v1/signals/{address}"), 400, "malformed")
    assert api.kept() == []


def event(**changes: Any) -> dict[str, Any]:
    told = {"specversion": "1.0", "id": "1", "source": "/gpu-1", "type": "dev.heal.samples.v1", "data": SERIES}
    return {name: value for name, value in {**told, **changes}.items() if value is not None}


def test_cloudevents_come_in_all_three_modes_and_once_by_source_and_id(api: Api) -> None:
    address = "/api/v1/signals/cloudevents"
    structured = api.post(event(), address, content_type="application/cloudevents+json")
    assert structured.json()["fresh"] is True
    binary = api.post(
        SERIES, address, ce_specversion="1.0", ce_id="1", ce_source="/gpu-1", ce_type="dev.heal.samples.v1"
    )
    assert binary.json() == {"delivery": structured.json()["delivery"], "fresh": False}
    encoded = base64.b64encode(json.dumps(SERIES).encode()).decode()
    batch = [event(), event(id="2", data=None, data_base64=encoded), event(id="3", type="com.example.unknown")]
    answer = api.post(batch, address, content_type="application/cloudevents-batch+json")
    assert [each["fresh"] for each in answer.json()["deliveries"]] == [False, True, True]
    assert [row.event for row in api.kept()] == ["dev.heal.samples.v1", "dev.heal.samples.v1", "com.example.unknown"]


def test_observations_as_a_cloudevent_are_observations_of_its_subject(api: Api) -> None:
    told = event(type="dev.heal.observations.v1", subject="churn", data={"rows": ROWS})
    answer = api.post(told, "/api/v1/signals/cloudevents", content_type="application/cloudevents+json")
    assert answer.status_code == 202
    (row,) = api.kept()
    assert (row.source, row.action) == ("observations", "churn")
    watcher = api.make(HERE, Scope.SIGNALS)
    answer = api.post(told, "/api/v1/signals/cloudevents", watcher, content_type="application/cloudevents+json")
    refused(answer, 403, "wrong_scope")


@pytest.mark.parametrize(
    "wrong",
    [
        event(id=None),
        event(source=""),
        event(specversion="0.3"),
        event(data={"series": 1}),
        event(type="dev.heal.alert.v1", data={}),
        event(type="dev.heal.observations.v1", subject="a/b", data={"rows": ROWS}),
        event(type="dev.heal.observations.v1", subject="churn", data={"rows": 1}),
        event(data=None, data_base64="%%%"),
        "no event",
    ],
)
def test_a_cloudevent_that_is_none_is_refused(api: Api, wrong: Any) -> None:
    answer = api.post(wrong, "/api/v1/signals/cloudevents", content_type="application/cloudevents+json")
    assert answer.status_code == 400
    assert answer.json()["hint"]
    assert api.kept() == []


def mlflow(api: Api, number: int, secret: str, told_at: int, body: bytes, **changes: str) -> Any:
    content = f"d-1.{told_at}.".encode() + body
    signature = "v1," + base64.b64encode(hmac.digest(secret.encode(), content, hashlib.sha256)).decode()
    headers = {
        "content-type": "application/json",
        "x-mlflow-delivery-id": "d-1",
        "x-mlflow-timestamp": str(told_at),
        "x-mlflow-signature": signature,
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return api.client.post(f"/api/v1/signals/mlflow/{number}", content=body, headers=headers)


def test_mlflows_webhook_is_kept_if_its_signature_is_right_and_of_now(api: Api) -> None:
    token, secret = api.tokens.create(HERE, [Scope.SIGNALS], kind=TokenKind.MLFLOW)
    body = json.dumps({"entity": "model_version_alias", "action": "created", "data": {"name": "churn"}}).encode()
    now = int(time.time())
    for wrong in (
        mlflow(api, token.id, "another", now, body),
        mlflow(api, token.id, secret, now, body, x_mlflow_signature="v1,"),
        mlflow(api, token.id, secret, now, body, x_mlflow_delivery_id="d-2"),
    ):
        refused(wrong, 401, "wrong_signature")
    refused(mlflow(api, token.id, secret, now - 3600, body), 401, "stale")
    refused(mlflow(api, 999, secret, now, body), 401, "wrong_token")
    refused(mlflow(api, 1, secret, now, body), 401, "wrong_token")  # a bearer token signs nothing
    assert api.kept() == []
    assert mlflow(api, token.id, secret, now, body).json()["fresh"] is True
    assert mlflow(api, token.id, secret, now, body).json()["fresh"] is False
    (row,) = api.kept()
    assert (row.source, row.event, row.action) == ("mlflow", "model_version_alias", "created")


def test_what_signs_for_mlflow_opens_no_other_door(api: Api) -> None:
    _, secret = api.tokens.create(HERE, list(Scope), kind=TokenKind.MLFLOW)
    refused(api.post(token=secret), 401, "wrong_token")


def test_nobody_without_the_secret_uses_up_the_requests_of_mlflows_token(
    database_url: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAL_API__REQUESTS_PER_MINUTE", "3")
    engine = make_engine(database_url)
    body, now = (
        json.dumps({"entity": "model_version_alias", "action": "created", "data": {}}).encode(),
        int(time.time()),
    )
    with TestClient(create(wired(database_url, key_file)), base_url="http://127.0.0.1") as client:
        api = Api(client, engine)
        token, secret = api.tokens.create(HERE, [Scope.SIGNALS], kind=TokenKind.MLFLOW)
        for _ in range(4):
            refused(mlflow(api, token.id, "another", now, body), 401, "wrong_signature")
        assert {each.last_used_at for each in api.tokens.all()} == {None}
        refused(mlflow(api, token.id, "another", now, b" " * (1024 * 1024 + 1)), 413, "too_large")
        assert mlflow(api, token.id, secret, now, body).status_code != 429
        assert api.tokens.all()[0].last_used_at is not None
    engine.dispose()


@pytest.mark.parametrize("name", ["alertmanager", "samples", "cloudevents"])
def test_a_signal_is_not_as_large_as_observations_may_be(api: Api, name: str) -> None:
    kind = "application/cloudevents+json" if name == "cloudevents" else "application/json"
    body = b" " * (4 * 1024 * 1024 + 1)
    refused(api.post(body, f"/api/v1/signals/{name}", content_type=kind), 413, "too_large")
