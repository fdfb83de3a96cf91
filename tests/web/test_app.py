"""The web process as a whole: what is served where, and to whom."""

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.testclient import TestClient

from app.settings import Settings
from app.web.app import create
from app.wiring import Unconfigured, Wired, wire

SECRET = "s3cret"


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = tmp_path_factory.mktemp("key") / "key.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def wired(database_url: str, key_file: Path, host: str = "127.0.0.1", secret: str = SECRET) -> Wired:
    settings = Settings(
        database={"url": database_url},
        queue={"threads": 0},
        web={"host": host},
        github={"app_id": 1, "private_key_file": key_file, "webhook_secrets": secret, "api_url": "http://127.0.0.1:1"},
    )
    return wire(settings)


@pytest.fixture
def client(database_url: str, key_file: Path):
    with TestClient(create(wired(database_url, key_file)), base_url="http://127.0.0.1") as client:
        yield client


def signed(body: bytes) -> dict[str, str]:
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "X-GitHub-Event": "ping",
        "X-GitHub-Delivery": "guid-1",
        "X-Hub-Signature-256": f"sha256={digest}",
    }


def test_without_a_secret_nothing_is_served(database_url: str, key_file: Path) -> None:
    with pytest.raises(Unconfigured, match="WEBHOOK_SECRETS"):
        wired(database_url, key_file, secret="")


def test_a_signed_delivery_is_accepted_through_the_whole_application(client: TestClient) -> None:
    body = json.dumps({"zen": "Design for failure."}).encode()
    answer = client.post("/webhooks/github", content=body, headers=signed(body))
    assert answer.status_code == 202
    assert answer.json() == {"delivery": "guid-1", "fresh": True}


def test_the_webhook_answers_only_to_post(client: TestClient) -> None:
    answer = client.get("/webhooks/github")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


def test_livez_and_readyz_tell_how_it_stands(client: TestClient) -> None:
    assert client.get("/livez").json() == {"alive": True}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert {probe["name"] for probe in ready.json()["probes"]} >= {
        "database",
        "migrations",
        "broker",
        "oldest delivery",
    }


def test_metrics_count_what_is_kept(client: TestClient) -> None:
    body = b"{}"
    client.post("/webhooks/github", content=body, headers=signed(body))
    assert 'heal_deliveries{state="ready"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_nobody_sees_anything_before_they_have_signed_in(database_url: str, key_file: Path, host: str) -> None:
    with TestClient(create(wired(database_url, key_file, host=host)), base_url="http://127.0.0.1") as client:
        assert client.get("/").status_code == 401
        away = client.get("/?q=x", headers={"Accept": "text/html"}, follow_redirects=False)
        assert (away.status_code, away.headers["location"]) == (303, "/sign-in?onwards=%2F%3Fq%3Dx")
        assert client.get("/api/v1/incidents").status_code == 401
        assert client.get("/livez").status_code == 200


def test_the_sign_in_comes_with_a_strict_policy(client: TestClient) -> None:
    page = client.get("/sign-in")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_page_under_another_host_name_is_refused(client: TestClient) -> None:
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_an_unknown_page_is_a_page(client: TestClient) -> None:
    answer = client.get("/nowhere")
    assert answer.status_code == 404
    assert "<html" in answer.text


def test_a_database_that_is_away_is_not_ready_and_says_what_to_do(key_file: Path) -> None:
    away = wired("postgresql+psycopg://nobody@127.0.0.1:1/none", key_file)
    with TestClient(create(away), base_url="http://127.0.0.1") as client:
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert "HEAL_DATABASE__URL" in ready.text
        body = b"{}"
        answer = client.post("/webhooks/github", content=body, headers=signed(body))
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "30"
