"""Secrets that turn up in text are replaced by `***`, before the text is stored, logged or shown.

Every pattern is linear in the text: its repetitions are possessive or bounded, and a look-behind lets it start only
once in a run of its own characters.
"""

import re
from bisect import bisect_right
from collections.abc import Mapping, MutableMapping
from typing import Any

from app.security.markdown import clean

MASK = "***"
_MAX_DEPTH = 8

_KNOWN = re.compile(
    r"""
      gh[pour]_[A-Za-z0-9]{30,}+                              # GitHub
    | ghs_[A-Za-z0-9_.-]{16,}+                                # installation tokens have no fixed length any more
    | github_pat_[A-Za-z0-9_]{16,}+
    | (?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{4,}+(?:\.[A-Za-z0-9_-]*+)?  # JWT
    | (?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])  # AWS key id
    | (?<![A-Za-z0-9])xox[a-z]-[A-Za-z0-9-]{10,}+               # Slack
    | (?<![A-Za-z0-9])xapp-[A-Za-z0-9-]{10,}+
    | (?<=hooks\.slack\.com/services/)[A-Za-z0-9/_-]{8,}+
    | (?<![A-Za-z0-9])hf_[A-Za-z0-9]{16,}+                      # Hugging Face
    | (?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{16,}+                    # OpenAI and its kin
    | (?<![A-Za-z0-9])[rs]k_(?:live|test)_[A-Za-z0-9]{10,}+     # Stripe
    | (?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{16,}+                 # GitLab
    | (?<![A-Za-z0-9])heal_[A-Za-z0-9_-]{32,}+                  # our own
    | (?<![A-Za-z0-9])pypi-[A-Za-z0-9_-]{32,}+
    | (?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{30,}+                   # Google
    """,
    re.VERBOSE,
)
_PEM_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY-----")
_PEM_END = re.compile(r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY-----")
_PEM_BODY = re.compile(r"(?:(?:\s|\\[nr])*+(?:(?:Proc-Type|DEK-Info):[^\n]{0,200}+|[A-Za-z0-9+/=]{16,}+))*+")
_PEM_MOST = 16_384
_URL_LOGIN = re.compile(r"(?<=://)(?:[^\s/@:]{0,256}+:[^\s/]{1,256}|[^\s/@:]{16,256}+)@")
_BEARER = re.compile(r"(?i)\b(bearer|basic)([ \t]{1,4})([A-Za-z0-9._~+/=-]{8,}+)")
_NAMED = re.compile(
    r"""(?ix)
    (passwords?|passwd|(?<![$A-Za-z{])pwd|passphrase|secrets?|tokens?|api[_-]?keys?|access[_-]?keys?|private[_-]?keys?|authorization|credentials?)
    ((?:[_-][a-z0-9_-]{1,24}+)?["']?[ \t]{0,4}(?:=>|:=|[:=](?!=))[ \t]{0,4})
    (?:(["'])([^"'\n]{1,2048}+)\3?|([^\s"'`,;&)}\]]{1,2048}+))
    """
)
_PLAIN_VALUE = re.compile(r"(?i:true|false|none|null|undefined)|\*{3,}|\$\{.*|\$[A-Z][A-Z0-9_]+", re.DOTALL)
# numbers, paths, addresses, calls: what code and configuration put beside a word like token
_ORDINARY_VALUE = re.compile(
    r"-?[0-9]{1,7}(?:\.[0-9]{1,6})*|\.{0,2}/[a-z]{2,12}/.*|https?://.*|[A-Za-z_][\w.]*\(.*", re.DOTALL
)
_LOGIN_VALUE = re.compile(r"[0-9=]|[a-z][A-Z]")


def mask(text: str) -> str:
    """The text with `***` in place of every secret that can be told. Keeps the number of lines.

    Give it text that went through `clean`: an invisible character inside a secret would hide it.
    """
    text = _KNOWN.sub(MASK, _without_keys(text))
    text = _URL_LOGIN.sub(f"{MASK}@", text)
    text = _BEARER.sub(_login, text)
    return _NAMED.sub(_named, text)


def _without_keys(text: str) -> str:
    """PEM private keys masked, also those that are cut off before their end."""
    pieces = []
    kept_to = 0
    ends = [match.end() for match in _PEM_END.finditer(text)]
    for begin in _PEM_BEGIN.finditer(text):
        if begin.start() < kept_to:
            continue
        following = bisect_right(ends, begin.end())
        end = ends[following] if following < len(ends) else len(text) + _PEM_MOST
        if end - begin.start() > _PEM_MOST:
            body = _PEM_BODY.match(text, begin.end())
            end = body.end() if body else begin.end()
        pieces += [text[kept_to : begin.start()], MASK, "\n" * text.count("\n", begin.start(), end)]
        kept_to = end
    return "".join([*pieces, text[kept_to:]])


def _login(match: re.Match[str]) -> str:
    # "basic information" is prose
    return f"{match[1]}{match[2]}{MASK}" if _LOGIN_VALUE.search(match[3]) else match[0]


def _named(match: re.Match[str]) -> str:
    name, between, quote, quoted, bare = match.groups()
    value = quoted if quoted is not None else bare
    if _PLAIN_VALUE.fullmatch(value):
        return match[0]
    if not name.lower().startswith("pass"):
        if _ORDINARY_VALUE.fullmatch(value):
            return match[0]
        # "unexpected token: end of file" is a message, not a secret; `token=…` is one
        digits = any(character.isdigit() for character in value)
        is_prose = ":" in between and quote is None and (len(value) < 8 or not (digits or len(value) >= 20))
        if is_prose:
            return match[0]
    return f"{name}{between}{quote or ''}{MASK}{quote or ''}"


_SECRET_KEYS = frozenset(
    {"password", "passwd", "secret", "token", "authorization", "api_key", "private_key", "webhook_secret", "cookie"}
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def mask_event(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ARG001
    """A structlog processor: secrets masked, and no value can begin a line of its own or steer a terminal."""
    for key, value in event.items():
        event[key] = MASK if key.lower() in _SECRET_KEYS and value else _safe(value, 0)
    return event


def _safe(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), mask(clean(value)))
    if isinstance(value, bytes):
        return _safe(value.decode(errors="replace"), depth)
    if depth >= _MAX_DEPTH:
        return "…" if isinstance(value, (Mapping, list, tuple, set, frozenset)) else value
    if isinstance(value, Mapping):
        return {
            _safe(key, depth + 1): MASK if str(key).lower() in _SECRET_KEYS and inner else _safe(inner, depth + 1)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_safe(inner, depth + 1) for inner in value]
    if isinstance(value, BaseException):
        return _safe(repr(value), depth)
    return value
