"""Addresses and forms that no page of ours makes: they find nothing, and break nothing."""

import pytest
from sqlalchemy import Engine

from tests.web.people import signed_in


@pytest.mark.parametrize(
    "address",
    [
        "/?q=repo:%00",
        "/?q=-actor:%00*",
        "/audit?verb=%00",
        "/audit?what=%00",
        "/audit?who=%00",
        "/deliveries?event=%00&source=%00&repository=%00",
        "/repositories?q=%00",
        "/models?q=%00",
    ],
)
def test_a_character_that_no_database_holds_is_looked_for_in_vain(engine: Engine, address: str) -> None:
    assert signed_in(engine).get(address).status_code == 200


def test_a_pasted_delivery_whose_repository_has_no_number_names_none(engine: Engine) -> None:
    form = {"body": '{"repository": {"id": true}}', "event": "push", "source": "current"}
    answer = signed_in(engine).post("/simulator", data=form)
    assert answer.status_code == 200
    assert "names no repository that you may see here" in answer.text


@pytest.mark.parametrize("headers", ['"abc"', "5", '["x"]'])
def test_a_pasted_delivery_with_headers_that_are_none_is_read_without_them(engine: Engine, headers: str) -> None:
    body = f'{{"headers": {headers}, "event": "push", "payload": {{}}}}'
    answer = signed_in(engine).post("/simulator", data={"body": body, "event": "push"})
    assert answer.status_code == 200
