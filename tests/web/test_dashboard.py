import re

import pytest
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from app.db.engine import writing
from app.domain.errors import Unreachable
from app.domain.incident import State
from app.web.dashboard.frame import ASSETS, HERE, ICONS, DiffLine, ForgeLinks, Frame, diff_lines
from app.web.dashboard.nav import SECTIONS
from app.web.dashboard.pages import errors
from tests.browser.incidents import DIFF, EVERYTHING, FORGE, GUID, add_incident
from tests.web.people import signed_in

TEMPLATES = HERE / "templates"


def test_the_list_shows_every_incident_with_its_state_in_words(site: TestClient) -> None:
    page = site.get("/").text
    for number in range(1, 11):
        assert f'href="/incidents/{number}"' in page
    for label in ("Open", "Needs approval", "Repairing", "Verifying", "Healed", "Recovered", "Escalated", "Dismissed"):
        assert f">{label}</strong>" in page
    assert "4\xa0min 12\xa0s" in page


def test_every_state_has_its_words_and_every_kind_of_entry_its_title(site: TestClient) -> None:
    parts = (TEMPLATES / "parts.html").read_text()
    assert all(f'"{state}": {{"label"' in parts for state in State)
    story = (TEMPLATES / "incident_story.html").read_text()
    kinds = {kind for kind, _ in EVERYTHING} - {"quarantined_by_hand"}
    assert all(f'"{kind}": {{"icon"' in story for kind in kinds)


def test_tabs_narrow_the_list_and_are_kept_in_the_url(site: TestClient) -> None:
    page = site.get("/?state=healed&q=cuda").text
    assert re.findall(r'id="open-(\d+)"', page) == ["3"]
    assert '<a id="tab-healed" href="/?state=healed&amp;q=cuda" aria-current="page">' in page
    assert 'href="/?state=escalated&amp;q=cuda"' in page
    assert '<input type="hidden" name="state" value="healed">' in page


@pytest.mark.parametrize(
    "query", ["?state=nonsense", "?before=x", "?before=99999999999999999999", "?before=-1", "?q=%00%ff"]
)
def test_a_strange_query_still_answers_with_a_page(site: TestClient, query: str) -> None:
    assert site.get(f"/{query}").status_code == 200


def test_a_long_list_is_cut_into_pages(empty: Engine) -> None:
    with writing(empty) as connection:
        for number in range(1, 61):
            add_incident(connection, number, State.HEALED, f"incident {number}", heal_s=1)
    site = signed_in(empty)
    first = site.get("/?state=healed").text
    assert re.findall(r'id="open-(\d+)"', first) == [str(number) for number in range(60, 10, -1)]
    older = re.search(r'id="older" href="([^"]+)"', first)
    assert older is not None
    second = site.get(older[1].replace("&amp;", "&")).text
    assert re.findall(r'id="open-(\d+)"', second) == [str(number) for number in range(10, 0, -1)]
    assert 'id="newest" href="/?state=healed"' in second
    assert 'id="older"' not in second


def test_an_empty_list_says_what_to_do(empty: Engine, site: TestClient) -> None:
    assert "Nothing matches" in site.get("/?q=zzz").text
    assert "Show all incidents" in site.get("/?q=zzz").text


def test_an_empty_database_says_how_to_begin(empty: Engine) -> None:
    page = signed_in(empty).get("/").text
    assert "No incidents yet" in page
    assert "make demo" in page


def test_an_incident_shows_the_way_from_delivery_to_proof(site: TestClient) -> None:
    page = site.get("/incidents/1").text
    assert GUID in page
    assert '<div class="line root" id="L421">' in page
    assert 'href="#L421"' in page
    titles = (
        "Found",
        "Decided: act by itself",
        "Planned: Halve batch_size to 128",
        "Applied: Opened pull request #41",
        "Proven",
        "Pull request merged",
        "Approved by octocat",
        "Undone: Reverted the change",
    )
    shown = {re.sub("<[^>]+>", "", head).strip() for head in re.findall(r"<h3>(.*?)</h3>", page)}
    assert set(titles) <= shown
    assert f'href="{FORGE}/acme/vision/pull/41"' in page
    assert f'href="{FORGE}/acme/vision/actions/runs/9002"' in page
    assert "5 of 5 pull requests today" in page
    assert "Quarantined by hand" in page  # a kind that this version does not know
    assert "a new kind of entry" in page


def test_an_incident_without_log_lines_says_so(site: TestClient) -> None:
    assert "No log lines were kept" in site.get("/incidents/4").text


def test_text_from_repositories_never_becomes_markup(site: TestClient) -> None:
    assert "&lt;b&gt;Unknown&lt;/b&gt;" in site.get("/").text
    page = site.get("/incidents/1").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page
    assert 'value="&#34;&gt;&lt;b&gt;"' in site.get('/?q="><b>').text


def test_links_lead_to_the_forge_or_are_text(site: TestClient) -> None:
    for path in ("/", "/incidents/1", "/incidents/10"):
        links = re.findall(r'<a [^>]*href="([^"]+)"', site.get(path).text)
        assert links
        assert all(link.startswith(("/", "#", f"{FORGE}/")) for link in links), links
    assert "https://evil.example/runs/1" in site.get("/incidents/10").text


@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        7,
        "javascript:alert(1)",
        "http://github.com/o/r",
        "https://github.com.evil.example/o/r",
        "https://user@github.com/o/r",
        "https://github.com:444/o/r",
        "https://github.com\\@evil.example/",
        "//github.com/o/r",
        " https://github.com/o/r",
        "https://github.com/o\n/r",
        "https://[/",
    ],
)
def test_what_does_not_lead_to_the_forge_is_no_link(url: object) -> None:
    assert ForgeLinks("https://github.com").link(url) == ""


def test_what_leads_to_the_forge_is_a_link() -> None:
    assert ForgeLinks("https://github.com/").link("https://github.com/o/r") == "https://github.com/o/r"
    assert ForgeLinks("http://127.0.0.1:8099").link("http://127.0.0.1:8099/o/r") == "http://127.0.0.1:8099/o/r"
    assert ForgeLinks("https://github.com").at("o/r", "tree", "a b#c") == "https://github.com/o/r/tree/a%20b%23c"


def test_a_forge_without_a_web_address_is_refused() -> None:
    with pytest.raises(ValueError, match="no web address"):
        ForgeLinks("javascript:alert(1)")


def test_a_diff_is_read_by_its_hunks_so_that_content_cannot_pose_as_a_header() -> None:
    lines = list(diff_lines(DIFF))
    assert [line.text for line in lines if line.kind == "file"] == ["train/config.yaml", "train/old.txt"]
    assert DiffLine("del", "-", "batch_size: 256") in lines
    assert DiffLine("add", "+", "batch_size: 128") in lines
    assert DiffLine("same", "", "--- not a header") in lines
    assert [line.text for line in lines][-1] == "gone"


def test_a_removed_line_of_dashes_is_no_header() -> None:
    lines = list(diff_lines("--- a/x\n+++ b/x\n@@ -1,2 +1 @@\n--- a/y\n keep\n\\ No newline at end of file\n"))
    assert DiffLine("del", "-", "-- a/y") in lines
    assert lines[-1] == DiffLine("same", "", "\\ No newline at end of file")


def test_an_unknown_page_answers_404_in_the_same_layout(site: TestClient) -> None:
    for path in ("/nope", "/incidents/4711", "/incidents/x", "/incidents/99999999999999999999", "/static/1/nope.css"):
        answer = site.get(path)
        assert answer.status_code == 404
        assert "<h1>Not found</h1>" in answer.text
        assert 'href="#content"' in answer.text


def test_a_database_that_is_away_answers_503_and_a_mistake_500() -> None:
    def away(_request: Request) -> Response:
        raise Unreachable("secret detail")

    def broken(_request: Request) -> Response:
        raise RuntimeError("secret detail")

    app = Starlette(routes=[Route("/a", away), Route("/b", broken)], exception_handlers=errors(Frame(FORGE, "1")))
    site = TestClient(app, raise_server_exceptions=False)
    for path, status, title in (("/a", 503, "Not available right now"), ("/b", 500, "Something went wrong")):
        answer = site.get(path)
        assert answer.status_code == status
        assert title in answer.text
        assert "secret detail" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_every_answer_carries_the_security_headers(site: TestClient) -> None:
    for path in ("/", "/incidents/1", "/nope", ASSETS["dashboard.css"].url):
        headers = site.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["referrer-policy"] == "same-origin"


def test_no_page_carries_inline_script_or_style(site: TestClient) -> None:
    for path in ("/", "/incidents/1", "/nope"):
        page = site.get(path).text
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)


def test_static_files_last_for_ever_under_their_hash_only(site: TestClient) -> None:
    asset = ASSETS["dashboard.js"]
    answer = site.get(asset.url)
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]
    assert site.get("/static/000000000000/dashboard.js").headers["cache-control"] == "no-cache"
    assert site.get("/static/x/../pages.py").status_code == 404


def test_a_fragment_holds_the_live_parts_alone(site: TestClient) -> None:
    fragment = site.get("/?state=healed", headers={"Heal-Fragment": "live"})
    assert 'id="incidents" data-part' in fragment.text
    assert "<header" not in fragment.text
    assert "Heal-Fragment" in fragment.headers["vary"]
    assert fragment.headers["cache-control"] == "no-store"


def test_the_colour_mode_comes_from_the_cookie(site: TestClient) -> None:
    assert 'data-color-mode="auto"' in site.get("/").text
    site.cookies.set("color_mode", "dark")
    assert 'data-color-mode="dark"' in site.get("/").text
    site.cookies.set("color_mode", '"><b>')
    assert 'data-color-mode="auto"' in site.get("/").text


def test_every_vendored_file_has_its_licence_and_the_tokens_are_small() -> None:
    vendor = HERE / "static" / "vendor"
    assert {file.name for file in (vendor / "LICENSES").iterdir()} == {
        "primer-primitives.txt",
        "primer-octicons.txt",
        "relative-time-element.txt",
    }
    assert (vendor / "tokens.css").stat().st_size < 30_000


def test_every_token_that_the_style_uses_is_vendored() -> None:
    tokens = ASSETS["vendor/tokens.css"].body.decode()
    used = set(re.findall(r"var\((--[\w-]+)", ASSETS["dashboard.css"].body.decode()))
    assert {name for name in used if f"{name}:" not in tokens} == set()


def test_every_icon_that_is_drawn_is_vendored() -> None:
    written = "".join(file.read_text() for file in TEMPLATES.iterdir())
    drawn = set(re.findall(r'(?:"icon": |icon\()"([a-z-]+)"', written)) | {section.icon for section in SECTIONS}
    assert "pulse" in drawn
    assert drawn - set(ICONS) == set()
