"""The JWTs that machines get: ours alone, for this alone, and not for long."""

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.security.access_tokens import AUDIENCE, ISSUER, KIND, LASTS_S, Access, AccessTokens

SEED = bytes(range(32))
NOW = 1_800_000_000.0
WHO = Access(7, "f" * 32)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> AccessTokens:
    return AccessTokens(SEED, now=clock)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_what_was_issued_is_read_by_every_process_of_the_installation(tokens: AccessTokens, clock: Clock) -> None:
    assert AccessTokens(SEED, now=clock).read(tokens.issue(WHO)) == WHO


def test_no_two_are_alike(tokens: AccessTokens) -> None:
    assert tokens.issue(WHO) != tokens.issue(WHO)


def test_it_is_good_until_its_last_second_and_no_longer(tokens: AccessTokens, clock: Clock) -> None:
    issued = tokens.issue(WHO)
    clock.now = NOW + LASTS_S - 1
    assert tokens.read(issued) == WHO
    clock.now = NOW + LASTS_S
    assert tokens.read(issued) is None


def test_another_installations_is_refused(tokens: AccessTokens, clock: Clock) -> None:
    assert tokens.read(AccessTokens(b"x" * 32, now=clock).issue(WHO)) is None


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_another_algorithm_is_refused_whatever_the_header_says(tokens: AccessTokens, algorithm: str) -> None:
    header, claims, _ = tokens.issue(WHO).split(".")
    told = json.loads(base64.urlsafe_b64decode(header + "=="))
    forged = f"{part({**told, 'alg': algorithm})}.{claims}."
    assert tokens.read(forged) is None


@pytest.mark.parametrize(
    ("claims", "header"),
    [
        ({"aud": "elsewhere"}, {}),
        ({"iss": "elsewhere"}, {}),
        ({"sub": "root"}, {}),
        ({"fam": None}, {}),
        ({}, {"typ": "JWT"}),
        ({}, {"kid": "other"}),
    ],
    ids=["audience", "issuer", "subject", "family", "type", "key"],
)
def test_one_of_our_key_for_something_else_is_refused(
    tokens: AccessTokens, claims: dict[str, object], header: dict[str, str]
) -> None:
    ours = jwt.get_unverified_header(tokens.issue(WHO))
    body = {"iss": ISSUER, "aud": AUDIENCE, "sub": "7", "fam": "f", "iat": NOW, "exp": int(NOW) + 60, **claims}
    key = tokens._key
    assert isinstance(key, Ed25519PrivateKey)
    good = jwt.encode({**body, "aud": AUDIENCE, "iss": ISSUER, "sub": "7", "fam": "f"}, key, "EdDSA", headers=ours)
    assert tokens.read(good) == Access(7, "f")
    assert tokens.read(jwt.encode(body, key, "EdDSA", headers={**ours, **header})) is None


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é.é.é", "." * 10, "A" * 5_000])
def test_garbage_is_nobodys(tokens: AccessTokens, text: str) -> None:
    assert tokens.read(text) is None


def test_the_header_says_what_kind_it_is(tokens: AccessTokens) -> None:
    assert jwt.get_unverified_header(tokens.issue(WHO))["typ"] == KIND
