"""Secrets in added lines, told by the formats that their issuers publish.

Only formats with a mark of their own: what merely looks random is not claimed. Where the issuer adds a checksum it must
be right, and what is plainly a placeholder is passed over. Every pattern is linear: bounded, and begun by a fixed mark.
"""

import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PLACEHOLDER = re.compile(r"(?i)example|placeholder|dummy|your[_-]|x{6}|<[^>]{0,40}>|\.\.\.|\*{3}|0{8}|1234567|abcdef")
LEAST_ENTROPY = 3.0  # bits a character; English has 4.1 over letters, but repeats itself


@dataclass(frozen=True)
class Kind:
    """A kind of secret. `confidence` is that of a match that passed `holds`."""

    name: str
    pattern: re.Pattern[str]
    confidence: float = 0.9
    holds: Callable[[str], bool] = bool


@dataclass(frozen=True)
class Leak:
    kind: str
    secret: str
    confidence: float


def leaks_in(text: str, after: str = "") -> Iterator[Leak]:
    """The secrets in one line, each once. `after` is the line that follows it: there a private key begins."""
    seen: set[str] = set()
    for mark in _KEY.finditer(text):
        body = _KEY_BODY.match(text[mark.end() :] or after)
        if body and body[1] not in seen and entropy(body[1]) >= LEAST_ENTROPY:
            seen.add(body[1])
            yield Leak("private_key", body[1], 0.95)
    for kind in KINDS:
        for match in kind.pattern.finditer(text):
            secret = match[1]
            if secret in seen or _PLACEHOLDER.search(secret) or not kind.holds(secret):
                continue
            if entropy(secret) >= LEAST_ENTROPY:
                seen.add(secret)
                yield Leak(kind.name, secret, kind.confidence)


def entropy(text: str) -> float:
    """Bits a character, by how often each one occurs."""
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts)


def has_github_checksum(token: str) -> bool:
    """The last six characters are the CRC-32 of the random part, in base 62. npm's tokens are made the same way.

    https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/
    """
    body = token.partition("_")[2]
    value, digits = zlib.crc32(body[:-6].encode()), ""
    while value:
        value, digit = divmod(value, 62)
        digits = _BASE62[digit] + digits
    return body[-6:] == digits.rjust(6, "0")


def _mark(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9_-])({pattern})(?![A-Za-z0-9_-])")


# the mark alone is no key: its body follows, in the same line or in the next one
_KEY = re.compile(r"-----BEGIN (?:(?:RSA|EC|DSA|OPENSSH|ENCRYPTED) ){0,2}PRIVATE KEY-----(\s*$|\\r?\\n|\\n)")
_KEY_BODY = re.compile(r"\s{0,40}[\"'+]{0,3}([A-Za-z0-9+/]{40,76})")
_SLACK_HOOK = r"hooks\.slack\.com/services/T[A-Z0-9]{6,14}/B[A-Z0-9]{6,14}/[A-Za-z0-9]{20,40}"

KINDS = (
    Kind("github_token", _mark(r"gh[pour]_[A-Za-z0-9]{36}"), 0.99, has_github_checksum),
    Kind("github_app_token", _mark(r"ghs_[A-Za-z0-9]{36}"), 0.99, has_github_checksum),
    Kind("github_fine_grained_token", _mark(r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"), 0.97),
    Kind("npm_token", _mark(r"npm_[A-Za-z0-9]{36}"), 0.99, has_github_checksum),
    Kind("pypi_token", _mark(r"pypi-AgE[A-Za-z0-9_-]{60,250}"), 0.98),  # a macaroon of pypi.org or its test site
    Kind("aws_access_key_id", _mark(r"(?:AKIA|ASIA)[A-Z2-7]{16}"), 0.85),
    Kind("slack_token", _mark(r"xox[abeoprs]-[0-9]{6,14}-[A-Za-z0-9-]{10,200}"), 0.95),
    Kind("slack_webhook", _mark(_SLACK_HOOK), 0.95),
    Kind("hugging_face_token", _mark(r"hf_[A-Za-z]{34}"), 0.95),
    Kind("openai_key", _mark(r"sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,100}T3BlbkFJ[A-Za-z0-9_-]{20,100}"), 0.97),
    Kind("anthropic_key", _mark(r"sk-ant-(?:api|admin)[0-9]{2}-[A-Za-z0-9_-]{80,110}"), 0.97),
    Kind("stripe_live_key", _mark(r"[rs]k_live_[A-Za-z0-9]{20,110}"), 0.97),
    Kind("gitlab_token", _mark(r"glpat-[A-Za-z0-9_-]{20}"), 0.95),
    Kind("google_api_key", _mark(r"AIza[A-Za-z0-9_-]{35}"), 0.9),
    Kind("sendgrid_key", _mark(r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"), 0.97),
    Kind("databricks_token", _mark(r"dapi[0-9a-f]{32}(?:-[0-9])?"), 0.9),
    Kind("digitalocean_token", _mark(r"do[opr]_v1_[0-9a-f]{64}"), 0.97),
    Kind("azure_storage_key", re.compile(r"AccountKey=([A-Za-z0-9+/]{86}==)"), 0.95),
)
