from dataclasses import dataclass

import pytest

import actions
from app.registry import DuplicateKind, collect
from detectors import builtin


@dataclass
class Plugin:
    kind: str


def test_plugins_are_found_by_their_kind() -> None:
    assert list(collect("none", [Plugin("a"), Plugin("b")])) == ["a", "b"]


def test_two_of_one_kind_refuse_to_start() -> None:
    with pytest.raises(DuplicateKind, match="uninstall one"):
        collect("none", [Plugin("a"), Plugin("a")])


def test_installed_plugins_stand_beside_those_that_ship(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "theirs-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[heal.detectors]\nweather = theirs:Weather\n")
    (tmp_path / "theirs.py").write_text("class Weather:\n    kind = 'weather'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert set(collect("heal.detectors", builtin.BUILTIN)) == {d.kind for d in builtin.BUILTIN} | {"weather"}


def test_every_remedy_of_every_signature_fits_its_action() -> None:
    from detectors.signatures import SIGNATURES

    known = {action.kind: action for action in actions.BUILTIN}
    for signature in SIGNATURES:
        for remedy in signature.ladder:
            known[remedy.action].Params.model_validate(dict(remedy.params))
