"""The switches of the whole bot, in the hands of those who run it."""

from app.domain.audit import Act
from app.domain.policy import Switch
from app.healing.kit import Kit
from app.healing.steer import Actor, said_why

EVERYWHERE = "app"


def pause(kit: Kit, who: Actor, reason: str = "") -> None:
    """Nothing is changed anywhere until somebody lets go. Watching and reporting go on."""
    why = said_why(reason)
    with kit.store.begin() as ledger:
        ledger.switch_on(Switch(EVERYWHERE, who.name, ledger.now(), why))
        ledger.audit(_act(who, "pause", EVERYWHERE, {"reason": why} if why else {}))


def let_go(kit: Kit, who: Actor, scope: str = EVERYWHERE) -> None:
    """Take a switch back, whoever threw it."""
    with kit.store.begin() as ledger:
        ledger.switch_off(scope)
        ledger.audit(_act(who, "resume", scope, {}))


def _act(who: Actor, verb: str, scope: str, data: dict[str, str]) -> Act:
    what, number = ("bot", "") if scope == EVERYWHERE else ("switch", scope)
    return Act(who.name, who.via, verb, what, number, who.id, data=data)
