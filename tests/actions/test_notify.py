"""Telling people in a channel."""

from dataclasses import dataclass, field, replace

import pytest
from pydantic import ValidationError

from actions.notify import Notify, NotifyParams
from app.domain.errors import Refused, Unreachable
from app.domain.finding import Remedy
from app.domain.outcome import Conclusion
from app.domain.repair import Plan, Repair
from app.ports.notifier import Notice
from tests.actions.stage import NOW, Stage, stage

PARAMS = NotifyParams(channel="team")


@dataclass
class Channels:
    trouble: list[Exception] = field(default_factory=list)
    sent: list[Notice] = field(default_factory=list)

    def channels(self) -> frozenset[str]:
        return frozenset({"team"})

    def send(self, channel: str, notice: Notice) -> None:
        if self.trouble:
            raise self.trouble.pop()
        self.sent.append(notice)


def with_channels(*trouble: Exception) -> tuple[Stage, Channels]:
    made, channels = stage(), Channels(list(trouble))
    return replace(made, tools=replace(made.tools, notifier=channels)), channels


def repair() -> Repair:
    return Repair(1, Remedy("notify", {"channel": "team"}), 0, "e" * 16, NOW)


def test_the_message_says_what_broke_and_nothing_of_the_log() -> None:
    made, channels = with_channels()
    plan = Notify().plan(made.incident, PARAMS, made.tools)
    assert plan.calls == ("send a message to team",)
    outcome = Notify().apply(repair(), PARAMS, plan, made.tools)
    assert outcome.conclusion is Conclusion.SUCCESS
    (notice,) = channels.sent
    assert (notice.key, notice.body) == ("e" * 16, "it broke")
    assert notice.title.startswith("acme/trainer: ")


def test_carried_out_twice_it_is_sent_once() -> None:
    made, channels = with_channels()
    for _ in range(2):
        assert Notify().apply(repair(), PARAMS, Plan("x"), made.tools).conclusion is Conclusion.SUCCESS
    assert len(channels.sent) == 1


def test_a_channel_that_is_not_there_is_refused_in_the_dry_run() -> None:
    made, _ = with_channels()
    plan = Notify().plan(made.incident, NotifyParams(channel="nobody"), made.tools)
    assert plan.refusal == "the operator has configured no channel nobody"
    assert Notify().plan(made.incident, PARAMS, stage().tools).refusal


def test_a_channel_that_will_not_take_it_is_no_failure_and_one_that_is_away_is_tried_again() -> None:
    made, channels = with_channels(Refused("no"))
    assert Notify().apply(repair(), PARAMS, Plan("x"), made.tools).conclusion is Conclusion.SKIPPED
    channels.trouble.append(Unreachable("away"))
    with pytest.raises(Unreachable):
        Notify().apply(repair(), PARAMS, Plan("x"), made.tools)
    assert Notify().apply(repair(), PARAMS, Plan("x"), made.tools).conclusion is Conclusion.SUCCESS


def test_what_was_said_cannot_be_taken_back() -> None:
    made, _ = with_channels()
    assert Notify().undo(repair(), made.tools).conclusion is Conclusion.NEUTRAL


def test_a_channel_must_be_named() -> None:
    with pytest.raises(ValidationError):
        NotifyParams.model_validate({})
