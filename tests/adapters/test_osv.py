"""Advisories from OSV, with and without the network.

The records are GitHub's GHSA-34jh-p97f-mpxf, GHSA-v845-jxx5-vc9f and GHSA-c2qf-rxjj-qqgw (github/advisory-database) and
PyPA's PYSEC-2023-192 (pypa/advisory-database), both CC-BY-4.0, shortened to what matching needs.
"""

import json
import zipfile
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from app.adapters.osv import OsvAdvisories
from app.adapters.osv.records import advisory, affects, cvss3, id_of, merged, names_in
from app.adapters.osv.versions import SemVer, parsed
from app.domain.advisory import Advisory, LockedPackage
from app.domain.errors import Malformed
from tests.adapters.osv_server import OsvServer, served


def affected(name: str, *ranges: tuple[str, str], ecosystem: str = "PyPI") -> list[dict[str, Any]]:
    return [
        {
            "package": {"ecosystem": ecosystem, "name": name},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": start}, {"fixed": end}]}],
        }
        for start, end in ranges
    ]


PROXY = {
    "id": "GHSA-34jh-p97f-mpxf",
    "modified": "2024-06-17T21:37:20Z",
    "aliases": ["CVE-2024-37891"],
    "summary": "urllib3's Proxy-Authorization request header isn't stripped during cross-origin redirects ",
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:H/PR:H/UI:N/S:U/C:H/I:N/A:N"}],
    "affected": affected("urllib3", ("0", "1.26.19"), ("2.0.0", "2.2.2")),
    "database_specific": {"severity": "MODERATE"},
}
COOKIE = {
    "id": "GHSA-v845-jxx5-vc9f",
    "modified": "2023-11-04T00:30:22Z",
    "aliases": ["CVE-2023-43804"],
    "summary": "`Cookie` HTTP header isn't stripped on cross-origin redirects",
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:H/PR:H/UI:N/S:U/C:H/I:H/A:N"}],
    "affected": affected("urllib3", ("2.0.0", "2.0.6"), ("0", "1.26.17")),
    "database_specific": {"severity": "MODERATE"},
}
PYSEC = {
    "id": "PYSEC-2023-192",
    "modified": "2023-10-10T14:28:19.389317Z",
    "aliases": ["CVE-2023-43804", "GHSA-v845-jxx5-vc9f"],
    "details": "urllib3 is a user-friendly HTTP client library for Python.",
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:N"}],
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "urllib3", "purl": "pkg:pypi/urllib3"},
            "ranges": [
                {
                    "type": "GIT",
                    "repo": "https://github.com/urllib3/urllib3",
                    "events": [{"introduced": "0"}, {"fixed": "644124ecd0b6e417c527191f866daa05a5a2056d"}],
                },
                {
                    "type": "ECOSYSTEM",
                    "events": [{"introduced": "2.0.0"}, {"fixed": "2.0.6"}, {"introduced": "0"}, {"fixed": "1.26.17"}],
                },
            ],
            "versions": ["1.26.15", "1.26.16", "2.0.5"],
        }
    ],
}
SEMVER = {
    "id": "GHSA-c2qf-rxjj-qqgw",
    "modified": "2023-07-10T22:57:56Z",
    "aliases": ["CVE-2022-25883"],
    "summary": "semver vulnerable to Regular Expression Denial of Service",
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:L"}],
    "affected": affected("semver", ("7.0.0", "7.5.2"), ("6.0.0", "6.3.1"), ("0", "5.7.2"), ecosystem="npm"),
    "database_specific": {"severity": "MODERATE"},
}


def pypi(version: str, name: str = "urllib3") -> LockedPackage:
    return LockedPackage("PyPI", name, version, "uv.lock")


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2026, 11, 21, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def osv() -> Any:
    with served() as server:
        server.add(PROXY, "1.26.16", "1.26.5")
        server.add(COOKIE, "1.26.16", "1.26.5")
        server.add(PYSEC, "1.26.16", "1.26.5")
        yield server


def asking(osv: OsvServer, cache: Path | None, clock: Clock) -> OsvAdvisories:
    return OsvAdvisories(osv.url, cache, fresh_s=3600, timeout_s=5, clock=clock)


# matching
@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ("1.26.18", ("1.26.19", "2.2.2")),
        ("1.26.19", None),
        ("1.27", None),
        ("2.0.0a1", None),
        ("2.0.0", ("2.2.2",)),
        ("2.2.2rc1", ("2.2.2",)),
        ("2.2.2.post1", None),
        ("0.3", ("1.26.19", "2.2.2")),
        ("not a version", None),
    ],
)
def test_a_version_in_one_of_the_ranges_is_affected(version: str, fixed: tuple[str, ...] | None) -> None:
    assert affects(PROXY, "PyPI", "urllib3", version) == fixed


@pytest.mark.parametrize(("version", "hit"), [("1.26.16", True), ("1.26.17", False), ("2.0.5", True), ("2.0.6", False)])
def test_several_intervals_in_one_range_are_told_apart(version: str, hit: bool) -> None:
    assert (affects(PYSEC, "PyPI", "urllib3", version) is not None) is hit


@pytest.mark.parametrize(
    ("version", "hit"), [("7.5.1", True), ("7.5.2-rc.1", True), ("7.5.2", False), ("6.3.0", True), ("5.7.2", False)]
)
def test_npm_versions_are_compared_as_semver_does(version: str, hit: bool) -> None:
    assert (affects(SEMVER, "npm", "semver", version) is not None) is hit


def test_last_affected_is_affected_and_what_follows_is_not() -> None:
    record = {**PROXY, "affected": affected("a", ("1.0", "9"))}
    record["affected"][0]["ranges"][0]["events"] = [{"introduced": "1.0"}, {"last_affected": "1.5"}]
    assert [affects(record, "PyPI", "a", version) for version in ("0.9", "1.5", "1.5.1")] == [None, (), None]


def test_an_enumerated_version_is_affected_however_it_is_spelt() -> None:
    record = {**PROXY, "affected": [{"package": {"ecosystem": "PyPI", "name": "A_b"}, "versions": ["1.0", "dev"]}]}
    assert [affects(record, "PyPI", "a-b", v) is not None for v in ("1.0.0", "dev", "1.1")] == [True, True, False]


def test_another_package_and_a_withdrawn_record_do_not_count() -> None:
    assert affects(PROXY, "PyPI", "urllib", "1.26.5") is None
    assert affects(PROXY, "npm", "urllib3", "1.26.5") is None
    assert affects({**PROXY, "withdrawn": "2024-07-01T00:00:00Z"}, "PyPI", "urllib3", "1.26.5") is None


def test_a_range_whose_end_cannot_be_read_does_not_stand_open() -> None:
    record = {**PROXY, "affected": affected("a", ("0", "first-good-version"))}
    assert affects(record, "PyPI", "a", "1.0") is None


def test_one_vulnerability_under_several_names_counts_once() -> None:
    (both,) = merged([advisory(PYSEC, ("1.26.17",)), advisory(COOKIE, ("1.26.17",))])
    assert both.id == "GHSA-v845-jxx5-vc9f"
    assert both.aliases == ("CVE-2023-43804", "PYSEC-2023-192")
    assert (both.score, both.severity, both.fixed) == (5.9, "medium", ("1.26.17",))


def test_names_that_only_a_third_record_joins_are_one() -> None:
    chain = [Advisory("A", ("X",)), Advisory("B", ("Y",)), Advisory("C", ("X", "Y"))]
    assert len(merged(chain)) == 1


# Scores as FIRST's examples (https://www.first.org/cvss/v3-1/examples) and GitHub have them.
@pytest.mark.parametrize(
    ("vector", "score"),
    [
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
        ("CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", 6.4),
        ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:N/A:N", 5.5),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:L", 5.3),
        ("CVSS:3.1/AV:N/AC:H/PR:H/UI:N/S:U/C:H/I:N/A:N", 4.4),
        ("CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:N/I:N/A:N", 0.0),
        ("CVSS:3.1/AV:N", None),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", None),
        ("", None),
    ],
)
def test_cvss_scores_are_those_of_the_specification(vector: str, score: float | None) -> None:
    assert cvss3(vector) == score


def test_semver_precedence_is_that_of_the_specification() -> None:
    """https://semver.org/#spec-item-11"""
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    ordered += ["1.0.0-rc.1", "1.0.0"]
    assert all(SemVer(one) < SemVer(next_) for one, next_ in pairwise(ordered))
    assert SemVer("9.0.0") < SemVer("10.0.0")
    assert SemVer("1.0.0+a") == SemVer("v1.0.0+b")


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=30) | st.from_regex(r"[0-9a.+!-]{1,20}", fullmatch=True))
def test_any_version_compares_or_is_refused(text: str) -> None:
    for ecosystem in ("PyPI", "npm"):
        try:
            assert parsed(ecosystem, text) == parsed(ecosystem, text)
        except ValueError:
            continue


@given(one=st.tuples(*[st.integers(0, 30)] * 3), other=st.tuples(*[st.integers(0, 30)] * 3))
def test_semver_of_plain_numbers_is_their_order(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    a, b = (".".join(map(str, version)) for version in (one, other))
    assert (SemVer(a) < SemVer(b)) is (one < other) is (Version(a) < Version(b))


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(["PyPI", "1.0", "0", "urllib3"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "affected", "package", "ecosystem", "name", "ranges", "events", "introduced", "fixed"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_record_of_any_form_is_read(data: st.DataObject) -> None:
    record = {**data.draw(st.sampled_from([PROXY, PYSEC, SEMVER]))}
    for _ in range(data.draw(st.integers(1, 3))):
        record[data.draw(st.sampled_from(sorted(record)))] = data.draw(_ANY)
    assert isinstance(id_of(record), str)
    assert names_in(record) is not None
    affects(record, "PyPI", "urllib3", "1.26.5")
    assert advisory(record).url.startswith("https://osv.dev/")


# asking
def test_vulnerabilities_of_a_version_are_found_and_asked_for_once(
    osv: OsvServer, tmp_path: Path, clock: Clock
) -> None:
    advisories = asking(osv, tmp_path / "deep" / "advisories.db", clock)
    for _ in range(2):
        known = advisories.affecting([pypi("1.26.16"), pypi("2.6.0"), pypi("3.1.3", "jinja2")])
        (found,) = known.affected
        assert found.package == pypi("1.26.16")
        assert [one.id for one in found.advisories] == ["GHSA-34jh-p97f-mpxf", "GHSA-v845-jxx5-vc9f"]
        assert (known.complete, known.as_of) == (True, clock.at)
    assert osv.asked.count("/v1/querybatch") == 1
    assert len(osv.asked) == 4


def test_without_the_network_the_last_answer_stands_and_says_its_age(
    osv: OsvServer, tmp_path: Path, clock: Clock
) -> None:
    cache = tmp_path / "advisories.db"
    asking(osv, cache, clock).affecting([pypi("1.26.16")])
    then = clock.at
    clock.at += timedelta(days=3)
    osv.away = True
    known = asking(osv, cache, clock).affecting([pypi("1.26.16")])
    assert len(known.affected[0].advisories) == 2
    assert (known.complete, known.as_of) == (True, then)


def test_a_version_that_was_never_looked_up_makes_the_answer_incomplete(
    osv: OsvServer, tmp_path: Path, clock: Clock
) -> None:
    cache = tmp_path / "advisories.db"
    asking(osv, cache, clock).affecting([pypi("1.26.16")])
    osv.away = True
    known = asking(osv, cache, clock).affecting([pypi("1.26.16"), pypi("3.1.3", "jinja2")])
    assert (len(known.affected), known.complete) == (1, False)


def test_an_old_answer_is_asked_for_again_and_what_changed_is_fetched(
    osv: OsvServer, tmp_path: Path, clock: Clock
) -> None:
    advisories = asking(osv, tmp_path / "advisories.db", clock)
    advisories.affecting([pypi("1.26.16")])
    osv.asked.clear()
    osv.records[PROXY["id"]] = {**PROXY, "modified": "2026-01-01T00:00:00Z", "withdrawn": "2026-01-01T00:00:00Z"}
    clock.at += timedelta(hours=2)
    known = advisories.affecting([pypi("1.26.16")])
    assert [one.id for one in known.affected[0].advisories] == ["GHSA-v845-jxx5-vc9f"]
    assert osv.asked == ["/v1/querybatch", f"/v1/vulns/{PROXY['id']}"]


def test_all_pages_of_an_answer_are_read(osv: OsvServer, clock: Clock) -> None:
    osv.pages = 3
    known = asking(osv, None, clock).affecting([pypi("1.26.16")])
    assert len(known.affected[0].advisories) == 2
    assert osv.asked.count("/v1/querybatch") == 3


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{", b'{"results": []}', b'{"results": 5}', b"[" * 100_000])
def test_an_answer_of_another_form_is_none(osv: OsvServer, clock: Clock, raw: bytes) -> None:
    osv.raw = raw
    known = asking(osv, None, clock).affecting([pypi("1.26.16")])
    assert (known.affected, known.complete) == ((), False)


def test_a_cache_that_cannot_be_used_is_done_without(osv: OsvServer, tmp_path: Path, clock: Clock) -> None:
    broken = tmp_path / "advisories.db"
    broken.write_bytes(b"this is no database" * 100)
    for path in (broken, tmp_path / "advisories.db" / "below"):
        assert len(asking(osv, path, clock).affecting([pypi("1.26.16")]).affected) == 1


# the dump
def dump(tmp_path: Path, *records: object) -> Path:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for number, record in enumerate(records):
            packed.writestr(f"{number}.json", record if isinstance(record, str) else json.dumps(record))
    return path


def test_a_dump_answers_for_its_whole_ecosystem_without_asking(tmp_path: Path, clock: Clock) -> None:
    advisories = OsvAdvisories("", tmp_path / "advisories.db", fresh_s=1, timeout_s=1, clock=clock)
    assert advisories.load(dump(tmp_path, PROXY, COOKIE, PYSEC, "no json", "[]", {"id": "../x"})) == (3, "PyPI")
    known = advisories.affecting([pypi("1.26.18"), pypi("3.1.3", "jinja2")])
    assert [(one.package.version, len(one.advisories)) for one in known.affected] == [("1.26.18", 1)]
    assert known.complete
    assert known.as_of == datetime(2024, 6, 17, 21, 37, 20, tzinfo=UTC)
    assert advisories.stock()["records"] == {"PyPI": 3}
    npm = LockedPackage("npm", "semver", "7.5.1", "package-lock.json")
    assert not advisories.affecting([npm]).complete


def test_a_file_that_is_no_dump_is_malformed(tmp_path: Path, clock: Clock) -> None:
    advisories = OsvAdvisories("", None, fresh_s=1, timeout_s=1, clock=clock)
    (tmp_path / "text.zip").write_text("no zip")
    for path in (tmp_path / "text.zip", tmp_path / "missing.zip", dump(tmp_path, {"id": "GO-1", "affected": []})):
        with pytest.raises(Malformed):
            advisories.load(path)
