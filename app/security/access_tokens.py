"""Access tokens of machines: short-lived JWTs that we sign ourselves (RFC 9068), with one algorithm and no other."""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

LASTS_S = 600
ISSUER, AUDIENCE, KIND = "heal", "heal/api", "at+jwt"
_LONGEST = 2_000


@dataclass(frozen=True, slots=True)
class Access:
    """`token_id` is the API token that it was issued for, `family` the line of refresh tokens beside it."""

    token_id: int
    family: str


class AccessTokens:
    """`seed` is 32 secret bytes of this installation."""

    def __init__(self, seed: bytes, *, now: Callable[[], float] = time.time) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"access tokens\0" + seed).digest())
        public = self._key.public_key()
        self._public = public
        self._kid = hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]
        self._now = now

    def issue(self, access: Access) -> str:
        now = int(self._now())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(access.token_id),
            "fam": access.family,
            "iat": now,
            "exp": now + LASTS_S,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self._kid, "typ": KIND})

    def read(self, text: str) -> Access | None:
        """None for what we have not issued, or not for this, or too long ago."""
        if len(text) > _LONGEST:
            return None
        try:
            header = jwt.get_unverified_header(text)
            if header.get("typ") != KIND or header.get("kid") != self._kid:
                return None
            claims = jwt.decode(
                text,
                self._public,
                algorithms=["EdDSA"],
                issuer=ISSUER,
                audience=AUDIENCE,
                options={"require": ["exp", "iat", "iss", "aud", "sub"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError:
            return None
        subject, family, ends = claims["sub"], claims.get("fam"), claims["exp"]
        if not (isinstance(subject, str) and subject.isdecimal() and isinstance(family, str) and isinstance(ends, int)):
            return None
        return Access(int(subject), family) if self._now() < ends else None
