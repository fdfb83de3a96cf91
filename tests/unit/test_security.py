import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from app.security.markdown import Markdown, cell, clean, code_block, code_span, inline, link
from app.security.marker import marker, matches
from app.security.masking import mask, mask_event

RENDERER = MarkdownIt("gfm-like", {"html": True, "linkify": False})
NASTY = st.lists(
    st.sampled_from(
        [
            "@ada", "#1", "GH-7", "acme/models#3", "`", "``", "```", "~~~", "|", "<b>", "</details>", "<!--", "-->",
            "[a](b)", "![a](b)", "[x]: http://e.x", "https://evil.example", "www.evil.example", "a@b.example", "**",
            "_", "# ", "- ", "1. ", "> ", "---", "===", "    ", "\t", "\n", "\r", "\r\n", "\\", "&amp;", "&#64;ada",
            "\x1b[31m", "\x1b]8;;http://e.x\x07", "\u202e", "\u200b", "\u2028", "\x00", "\x0b", "\x0c", "\x85",
            "word", "déjà", "5", "deadbeef", "<", ">", "$x$", ":tada:", "{{ 7 }}", "\U000e0041", "\ud800",
        ]
    )
    | st.text(max_size=8),
    max_size=25,
).map("".join)  # fmt: skip


def nodes(markdown: str) -> list[tuple[str, str]]:
    """Every node a browser would get: (type, content)."""
    found = []
    for token in RENDERER.parse(markdown):
        found.append((token.type, token.content))
        found += [(child.type, child.content) for child in token.children or ()]
    return found


HARMLESS = {"paragraph_open", "paragraph_close", "inline", "text", "code_inline", "text_special"}
LINKED = re.compile(r"@\w|#\d|GH-\d|://|www\.\w|\b[0-9a-f]{7,}\b|\w@\w")


@settings(deadline=None)
@given(NASTY)
def test_inline_text_is_words_and_code_only(text: str) -> None:
    for kind, content in nodes(f"Before: {inline(text)}"):
        assert kind in HARMLESS
        assert kind != "text" or not LINKED.search(content)


@settings(deadline=None)
@given(NASTY)
def test_inline_text_begins_no_block_of_its_own(text: str) -> None:
    assert {kind for kind, _ in nodes(inline(text))} <= HARMLESS
    assert "\n" not in inline(text)


@settings(deadline=None)
@given(NASTY)
def test_a_cell_is_one_cell(text: str) -> None:
    rendered = nodes(f"| a | b |\n|---|---|\n| {cell(text)} | end |")
    assert [kind for kind, _ in rendered].count("td_open") == 2
    assert ("text", "end") in rendered
    assert not {kind for kind, _ in rendered} & {"link_open", "image", "html_inline", "html_block"}


@settings(deadline=None)
@given(NASTY)
def test_a_code_block_is_closed_by_its_own_fence_only(text: str) -> None:
    rendered = nodes(f"{code_block(text)}\n\nafter")
    assert [kind for kind, _ in rendered] == ["fence", "paragraph_open", "inline", "text", "paragraph_close"]


@settings(deadline=None)
@given(NASTY)
def test_a_code_span_is_one_code_span(text: str) -> None:
    kinds = [kind for kind, _ in nodes(f"a {code_span(text)} b")]
    assert set(kinds) <= HARMLESS
    assert kinds.count("code_inline") <= 1


@settings(deadline=None)
@given(NASTY, NASTY.filter(lambda url: not re.fullmatch(r"https?://[\w.:/%~-]+", url)))
def test_a_link_goes_nowhere_else(label: str, url: str) -> None:
    for token in RENDERER.parse(link(label, url)):
        assert not any(child.type in ("link_open", "image", "html_inline") for child in token.children or ())
    inner = RENDERER.parse(f"a {link(label, 'https://github.com/acme')} b")[1].children or []
    addresses = [child.attrs["href"] for child in inner if child.type == "link_open"]
    assert addresses == ["https://github.com/acme"]
    assert {child.type for child in inner} <= HARMLESS | {"link_open", "link_close"}


@settings(deadline=None)
@given(NASTY)
def test_nothing_invisible_and_no_terminal_code_is_left(text: str) -> None:
    left = clean(text)
    assert not re.search(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2028\ufeff\ud800]", left
    )
    assert clean(left) == left


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The job failed twice", "The job failed twice"),
        ("numpy==1.26 and pandas>=2 cannot be resolved", "`numpy==1.26` and `pandas>=2` cannot be resolved"),
        ("ping @ada, please", "ping `@ada`, please"),
        ("two\nlines", "two lines"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("it's 5 of 6, 83% (done).", "it's 5 of 6, 83% (done)."),
        ("a | b", "a `|` b"),
        ("", ""),
    ],
)
def test_plain_words_stay_readable(text: str, expected: str) -> None:
    assert inline(text) == expected


def test_long_text_is_cut_visibly() -> None:
    assert inline("word " * 1_000, 20) == "word word word word…"
    block = code_block("\n".join(["x" * 50] * 100), limit=500)
    assert block.splitlines()[-2] == "… (cut)"
    assert len(block) < 600
    assert "…" in code_block("y" * 1_000)


def test_an_address_with_a_trick_is_no_link() -> None:
    for url in (
        "javascript:alert(1)",
        "https://a b",
        "//evil.example",
        "https://ada:pw@github.com/",
        "https://a/\n[x](y)",
    ):
        assert "](" not in link("run", url)
    assert link("run 7", "https://github.com/a(b)") == "[run 7](https://github.com/a%28b%29)"
    assert isinstance(link("run", ""), Markdown)


# --- masking -------------------------------------------------------------------------------------------------------

_PEM_LINE = "MIIEowIBAAKCAQEA1234" * 3
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{_PEM_LINE}\nabcdefghijklmnop+/==\n-----END RSA PRIVATE KEY-----"
SECRETS = {
    "a classic token": ("ghp_" + "a1B2" * 9, "{}"),
    "an installation token": ("ghs_" + "a1B2" * 9, "remote: {} expired"),
    "a long installation token": ("ghs_" + "a1.B2-" * 40, "x={}"),
    "a user token": ("ghu_" + "a1B2" * 9, "({})"),
    "a fine-grained token": ("github_pat_" + "a1B2_" * 12, "{}"),
    "a JWT": ("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiIxMjM0NSJ9.c2lnbmF0dXJl", "jwt {}"),
    "an AWS key id": ("AKIAIOSFODNN7EXAMPLE", "{}"),
    "an AWS secret": ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aws_secret_access_key = {}"),
    "a PEM key": (PEM, "key:\n{}\nnext"),
    "a cut PEM key": (PEM.rpartition("\n")[0], "{}"),
    "a password in a URL": ("hunter2", "git clone https://ada:{}@github.com/acme/models"),
    "a password with an at sign": ("hun@ter2", "https://ada:{}@host/x"),
    "a token in a URL": ("0123456789abcdef0123", "https://{}@github.com/acme/models"),
    "an environment variable": ("s3cr3t", "MY_TOKEN={}"),
    "a password": ("correct", "password: {}"),
    "a password with a dollar": ("$ecret", "password: {}"),
    "a quoted password": ("correct horse", 'password = "{}"'),
    "a JSON secret": ("hush-hush", '{{"client_secret": "{}"}}'),
    "an encrypted PEM key": (PEM.replace("-\nMII", "-\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AB\n\nMII"), "{}"),
    "a PEM key in JSON": (PEM.replace("\n", "\\n").rpartition("\\n")[0], '{{"k": "{}"}}'),
    "a bearer": ("abcdef123456", "Authorization: Bearer {}"),
    "a basic login": ("YWRhOmh1bnRlcjI=", "authorization: Basic {}"),
    "a Slack token": ("xoxb-123456789012-abcdefghij", "{}"),
    "a Slack hook": ("T000/B000/XXXXXXXX", "https://hooks.slack.com/services/{}"),
    "a Hugging Face token": ("hf_" + "aB3d" * 8, "login {}"),
    "an OpenAI key": ("sk-proj-" + "aB3d" * 8, "{}"),
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_masked(name: str) -> None:
    secret, line = SECRETS[name]
    masked = mask(f"before\n{line.format(secret)}\nafter")
    assert secret not in masked
    assert "***" in masked
    assert masked.startswith("before\n")
    assert masked.endswith("\nafter")


@pytest.mark.parametrize(
    "line",
    [
        "max_tokens: 2048, pad_token_id=50256",
        "Setting tokenizer=AutoTokenizer",
        "SyntaxError: unexpected token: end of file",
        "secrets: None",
        "token=${{ secrets.GITHUB_TOKEN }}",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "https://github.com/acme/models/actions/runs/1",
        "ssh://git@github.com/acme/models",
        "the task-runner asked for -----BEGIN CERTIFICATE-----",
        "numpy==1.26.4 and pandas>=2",
        "Collecting google-cloud-secret-manager==2.24.0",
        "Downloading ghp_import-2.1.0-py3-none-any.whl.metadata",
        "docker run -v $PWD:/work paddle",
        "export PYTHONPATH=$PWD:$PWD/ADK",
        "token_vectors = embedder(*tensors)",
        "and some basic information like the bus ID",
        "GOOGLE_APPLICATION_CREDENTIALS: /home/runner/work/creds.json",
        "gpg-passphrase=null",
        "access_token_scopes: https://www.googleapis.com/auth/cloud",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert mask(line) == line


@settings(deadline=None)
@given(NASTY | st.text())
def test_masking_keeps_the_number_of_lines(text: str) -> None:
    assert mask(text).count("\n") == text.count("\n")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit",
    [
        "eyJaaaaaaaa", "eyJaaaaaaaa.", "eyJaaaaaaaa-", "ghp_", "://", "://a:", "a@", "token", "token=", "token: ",
        "password'", "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY", "bearer ",
        "sk-", "xoxb-", "AKIA", "\x1b[", "\x1b]", "`", "\x1b[0;", "hooks.slack.com/services/", "token_", "-",
    ],
)  # fmt: skip
def test_hostile_repetition_takes_linear_time(unit: str) -> None:
    """A quadratic pattern would need hours for this text, and run into the time limit."""
    text = unit * (1_000_000 // len(unit))
    assert mask(text) is not None
    assert clean(text) is not None


def test_a_log_event_carries_no_secret_and_no_line_of_its_own() -> None:
    token = "ghs_" + "a1B2" * 9
    event: dict[str, Any] = {
        "event": f"sent {token}\r\n2026-01-01 forged line",
        "token": "short",
        "count": 3,
        "headers": {"Authorization": "x", "n": [f"a\x1b[31m{token}", b"\xff\n", ("t",)]},
        "error": ValueError(f"bad {token}\n"),
        "empty": None,
    }
    out = mask_event(None, "info", event)
    assert token not in repr(out)
    assert "\n" not in "".join(str(value) for value in out.values())
    assert out["event"] == "sent ***\\n2026-01-01 forged line"
    assert out["token"] == "***"
    assert out["headers"]["Authorization"] == "***"
    assert out["headers"]["n"][0] == "a***"
    assert (out["count"], out["empty"]) == (3, None)


def test_a_nested_log_event_is_cut_where_it_gets_deep() -> None:
    deep: Any = "token=abc"
    for _ in range(50):
        deep = [deep]
    assert "abc" not in repr(mask_event(None, "info", {"deep": deep}))


# --- markers -------------------------------------------------------------------------------------------------------


def test_a_mark_is_known_only_by_its_secret_and_effect() -> None:
    mark = marker(b"secret", "effect-1")
    text = f"Hello\n{mark}\n"
    assert matches(b"secret", "effect-1", text)
    assert not matches(b"other", "effect-1", text)
    assert not matches(b"secret", "effect-2", text)
    assert not matches(b"secret", "effect-1", "Hello")


@settings(deadline=None)
@given(st.text())
def test_a_mark_shows_nothing_whatever_the_effect(effect_key: str) -> None:
    assert re.fullmatch(r"<!-- heal:[0-9a-f]{32} -->", marker(b"secret", effect_key))
