"""The pages of models."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.db import migrate
from app.db.engine import make_engine
from app.db.store import SqlStore
from app.domain.access import Role
from app.domain.errors import Unreachable
from app.domain.incident import State
from app.ports.registry import NoRegistry
from tests.browser.models import CONFIG, trained
from tests.healing.world import World
from tests.twins.registry import MemoryRegistry
from tests.web.people import add_repository, signed_in, visitor

PATH = "/models/1"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """For those who only look. Incident 1 is the drift, 2 the benchmark."""
    engine = make_engine(f"sqlite:///{tmp_path_factory.mktemp('models')}/heal.db")
    migrate.upgrade(engine)
    yield trained(engine)
    engine.dispose()


@pytest.fixture
def site(seen: World) -> TestClient:
    return signed_in(seen.engine, seen.kit)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """For those who decide."""
    engine = make_engine(f"sqlite:///{tmp_path}/heal.db")
    migrate.upgrade(engine)
    yield trained(engine)
    engine.dispose()


def aliases(world: World) -> dict[str, int]:
    registry = world.kit.registry
    assert isinstance(registry, MemoryRegistry)
    return registry.aliases("acme-churn")


def asked(page: str) -> str:
    found = re.search(r'name="repair" value="(\d+)"', page)
    assert found is not None
    return found[1]


def part(page: str, name: str) -> str:
    return page.partition(f'id="{name}"')[2].partition("</section>")[0]


def test_the_list_tells_of_each_model_how_it_does(site: TestClient) -> None:
    page = site.get("/models").text
    assert f'href="{PATH}">churn</a>' in page
    assert "Data drifted" in page
    assert "2026-11-20: 1,500 rows" in page
    assert 'href="/incidents/1"' in page


def test_the_list_can_be_searched_and_taken_away(site: TestClient) -> None:
    assert "No model matches" in site.get("/models?q=zzz").text
    (row,) = csv.DictReader(io.StringIO(site.get("/models?q=trainer&format=csv").text))
    assert (row["model"], row["repository"], row["drift"], row["window"]) == (
        "churn",
        "acme/trainer",
        "drifted",
        "2026-11-20",
    )


def test_versions_stand_with_their_aliases(site: TestClient) -> None:
    page = part(site.get(PATH).text, "versions")
    rows = {number: page.partition(f'id="version-{number}"')[2].partition("</tr>")[0] for number in (1, 2, 3)}
    assert 'tone-healed">champion</span>' in rows[2]
    assert ">previous</span>" in rows[1]
    assert '<span class="tag' not in rows[3]
    assert "accuracy 0.86" in rows[3]
    assert "github.com/acme/trainer/commit/5f3a9c1e" in rows[3]


def test_metrics_are_drawn_over_the_windows_with_what_is_told_as_worse(site: TestClient) -> None:
    page = part(site.get(PATH).text, "metrics")
    assert page.index(">accuracy</title>") < page.index(">brier</title>")
    first = page.partition("</figure>")[0]
    assert "Threshold Reference: 0.9" in first
    assert "Threshold Told as worse from here: 0.88" in first
    for window in ("2026-11-18", "2026-11-19", "2026-11-20"):
        assert f'<th scope="row">{window}</th>' in first
    assert re.search(r"0\.74\d+ \(0\.7\d+ – 0\.7\d+\)", first)


def test_the_distributions_of_a_drifted_feature_stand_side_by_side(site: TestClient) -> None:
    page = part(site.get(PATH).text, "drift")
    assert "columns look different in this window" in page
    assert "mean 4" in page
    changed = page.partition('class="features"')[2].partition('id="quiet"')[0]
    assert '<rect class="ref"' in changed
    assert '<rect class="cur"' in changed
    assert "&lt;b&gt;nz&lt;/b&gt;" in changed
    assert "<b>nz</b>" not in page
    assert ">income " in page.partition('id="quiet"')[2]


def test_the_window_is_chosen_by_the_address(site: TestClient) -> None:
    page = part(site.get(f"{PATH}?window=2026-11-18").text, "drift")
    assert '<option value="2026-11-18" selected>' in page
    assert "No change in" in page


def test_a_feature_can_be_looked_for(site: TestClient) -> None:
    page = part(site.get(f"{PATH}?feature=INC").text, "drift")
    assert "<h3 data-plain>income" in page
    assert "<h3 data-plain>age" not in page


def test_training_and_validation_share_a_plot_and_samples_have_their_limit(site: TestClient) -> None:
    page = site.get(PATH).text
    curves = part(page, "curves")
    assert curves.count('<figure class="plot"') == 2
    both = curves.split("</figure>")[1]
    assert "train_loss: from" in both
    assert "val_loss: from" in both
    assert "run-acme-churn-3" in curves
    assert "Threshold gpu_memory_used_bytes: 16G." in part(page, "series")


def test_gates_and_benchmarks_are_told_with_their_reports(site: TestClient) -> None:
    page = site.get(PATH).text
    gates = part(page, "gates")
    assert "2 → 3" in gates
    assert 'href="/incidents/1/gate"' in gates
    runs = part(page, "runs")
    assert "benchmark_model" in runs
    assert "benchmark.yml (h100-8): latency_ms" in runs
    assert re.search(r"github\.com/acme/trainer/actions/runs/\d+", runs)


def test_a_promotion_that_waits_is_approved_here_and_done_by_the_loop(world: World) -> None:
    site = signed_in(world.engine, world.kit)
    page = site.get(PATH).text
    assert "Promote version 3 of churn" in page
    answer = site.post(f"{PATH}/promote", data={"repair": asked(page)}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/incidents/1")
    world.drain()
    assert aliases(world) == {"champion": 3, "previous": 2}
    assert world.incident(1).state is State.VERIFYING
    assert "version 3 serves since" in site.get("/models").text


def test_what_was_promoted_is_taken_back_by_a_button(world: World) -> None:
    site = signed_in(world.engine, world.kit)
    site.post(f"{PATH}/promote", data={"repair": asked(site.get(PATH).text)})
    world.drain()
    page = site.get(PATH).text
    assert "Version 3 was promoted in place of version 2." in page
    site.post(f"{PATH}/roll-back", data={"repair": asked(page), "reason": "nonsense"})
    world.drain()
    assert aliases(world)["champion"] == 2


def test_without_a_promotion_of_ours_the_former_version_can_be_asked_for(world: World) -> None:
    site = signed_in(world.engine, world.kit)
    world.say("reject 1")
    world.drain()
    page = site.get(PATH).text
    assert "Version 2 serves, and version 1 served before it." in page
    answer = site.post(f"{PATH}/roll-back", data={"reason": "nonsense"}, follow_redirects=False)
    assert answer.headers["location"] == "/incidents/3"
    world.drain()
    assert aliases(world)["champion"] == 1


def test_a_decision_about_what_does_not_wait_any_more_is_refused(world: World) -> None:
    site = signed_in(world.engine, world.kit)
    page = site.get(PATH).text
    assert site.post(f"{PATH}/promote", data={"repair": "999"}).status_code == 409
    assert site.post(f"{PATH}/roll-back", data={"repair": asked(page)}).status_code == 409
    world.say("reject 1")
    world.drain()
    assert site.post(f"{PATH}/promote", data={"repair": asked(page)}).status_code == 409
    assert aliases(world)["champion"] == 2


def test_where_two_must_say_yes_the_first_is_kept(world: World) -> None:
    site = signed_in(world.engine, world.kit)
    world.project(CONFIG + "approvals: {promote_model: 2}\n")
    page = site.get(PATH).text
    assert "2 people must say yes." in page
    told = site.post(f"{PATH}/promote", data={"repair": asked(page)})
    assert "Another person must say yes, too." in told.text
    world.drain()
    assert aliases(world)["champion"] == 2


def test_viewers_see_no_buttons_and_cannot_decide(world: World) -> None:
    site = signed_in(world.engine, world.kit)
    repair = asked(site.get(PATH).text)
    visitor(site, world.engine, Role.VIEWER, [world.forge.repository.id])
    page = site.get(PATH)
    assert page.status_code == 200
    assert "Approve the promotion" not in page.text
    for way in ("promote", "roll-back"):
        assert site.post(f"{PATH}/{way}", data={"repair": repair}).status_code == 403


def test_github_has_the_last_word_on_who_may_promote(world: World) -> None:
    site = signed_in(world.engine, world.kit)
    repair = asked(site.get(PATH).text)
    visitor(site, world.engine, Role.OPERATOR, [world.forge.repository.id])
    assert site.post(f"{PATH}/promote", data={"repair": repair}).status_code == 403
    world.drain()
    assert aliases(world)["champion"] == 2


def test_whoever_may_not_see_a_model_is_told_that_there_is_none(site: TestClient, seen: World) -> None:
    visitor(site, seen.engine, Role.ADMIN, [4711])
    assert site.get(PATH).status_code == 404
    assert site.post(f"{PATH}/roll-back").status_code == 404
    assert "churn" not in site.get("/models").text


def test_without_github_the_page_shows_what_the_bot_knows(site: TestClient, seen: World) -> None:
    seen.forge.fail_next("file", Unreachable("away"))
    answer = site.get(PATH)
    assert answer.status_code == 200
    assert "GitHub cannot be asked for heal.yml now" in answer.text
    assert "The registry was not asked" in answer.text
    assert "columns look different in this window" in answer.text


def test_without_the_registry_the_page_says_so(world: World) -> None:
    site = signed_in(world.engine, world.kit)
    registry = world.kit.registry
    assert isinstance(registry, MemoryRegistry)
    registry.fail_next("aliased", Unreachable("away"))
    assert "The registry does not answer now." in site.get(PATH).text
    object.__setattr__(world.kit, "registry", NoRegistry())
    site = signed_in(world.engine, world.kit)
    assert "no model registry is configured" in site.get(PATH).text


def test_a_model_that_has_sent_nothing_says_what_to_send(engine: Engine, store: SqlStore) -> None:
    add_repository(engine, 7, "acme/vision")
    with store.begin() as ledger:
        ledger.models.add_model(7, "fraud")
    client = signed_in(engine)
    page = client.get(PATH).text
    assert "No window is kept yet." in page
    assert "No window has enough labelled predictions yet." in page
    assert "No reference yet" in client.get("/models").text


def test_live_parts_ask_neither_github_nor_the_registry(site: TestClient, seen: World) -> None:
    seen.forge.calls.clear()
    page = site.get(PATH, headers={"Heal-Fragment": "live"}).text
    assert seen.forge.calls == []
    assert 'id="incidents"' in page
    assert 'id="versions"' not in page
