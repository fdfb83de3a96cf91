"""What would be decided about a delivery, without any effect."""

import re
from dataclasses import dataclass, field

import orjson
import zstandard
from starlette.datastructures import UploadFile
from starlette.responses import Response

from app import simulation
from app.db.owners import Owner, Owners
from app.db.reads import Reads
from app.db.reads.deliveries import DeliveryDetail
from app.domain.access import Role
from app.domain.errors import HealError, Malformed, Transient
from app.domain.tenant import Repository
from app.healing.configuration import Configured
from app.healing.gather import configuration
from app.simulation import LogUnreadable, Simulation
from app.web.dashboard.frame import Desk
from app.web.guard import LISTS, Guard, Guarded, Visit, page

MOST_BODY, MOST_CONFIG, MOST_LOG = 2 * 1024 * 1024, 64 * 1024, 8 * 1024 * 1024
OFFERED = 20
NONE, PASTED, CURRENT = "none", "pasted", "current"
_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Given:
    """What was typed. `delivery` is the number of a kept one, "" for a pasted `body`; `source` says which
    configuration is meant: none, the pasted one, or the repository's current one."""

    delivery: str = ""
    event: str = "workflow_run"
    body: str = ""
    source: str = NONE
    config: str = ""
    job: str = ""
    log: str = ""


class Wrong(Exception):
    """Something about one field; `args[0]` is its name, `args[1]` what to say beside it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is simulated. `repository_id` is None where the delivery names none."""

    body: bytes
    event: str
    repository_id: int | None


@dataclass(frozen=True, slots=True)
class Shown:
    """The form, and below it the answer to it or what is wrong with it, by field."""

    given: Given
    result: Simulation | None = None
    wrong: dict[str, str] = field(default_factory=dict)


def routes(desk: Desk) -> list[Guarded]:
    reads, owners = Reads(desk.engine), Owners(desk.engine)

    def form(visit: Visit) -> Response:
        return answer(visit, Shown(Given(delivery=visit.query.get("delivery", "")[:20])))

    def simulate(visit: Visit) -> Response:
        given = given_in(visit)
        try:
            asked = delivery_of(visit, given)
            config = config_of(visit, given, asked)
            log = log_of(visit)
            job = given.job
            result = simulation.simulate(asked.body, event=asked.event, config=config, log=log, job=job)
        except Wrong as error:
            return answer(visit, Shown(given, wrong={error.args[0]: error.args[1]}))
        except LogUnreadable as error:
            return answer(visit, Shown(given, wrong={"log": str(error)}))
        except Malformed as error:
            place = "delivery" if given.delivery else "body"
            return answer(visit, Shown(given, wrong={place: str(error)}))
        return answer(visit, Shown(given, result))

    def answer(visit: Visit, shown: Shown) -> Response:
        offered = reads.deliveries(visit.sight, event="workflow_run", limit=OFFERED).lines
        return desk.frame.render(visit, "simulator.html", shown=shown, given=shown.given, offered=offered)

    def delivery_of(visit: Visit, given: Given) -> Asked:
        if not given.delivery:
            return pasted(visit, given)
        found = kept(visit, given.delivery)
        if found is None:
            raise Wrong("delivery", visit.t("There is no such delivery, or it is not for you to see."))
        try:
            body = reads.delivery_body(found.line.id)
        except zstandard.ZstdError:
            body = b""
        if not body:
            raise Wrong("delivery", visit.t("The body of this delivery is not kept any more. Choose a newer one."))
        if len(body) > MOST_BODY:
            raise Wrong("delivery", visit.t("The body of this delivery is too large to be simulated here."))
        return Asked(body, found.line.event, found.repository_id)

    def pasted(visit: Visit, given: Given) -> Asked:
        if not given.body.strip():
            raise Wrong("body", visit.t("Choose a delivery, or paste the JSON of one."))
        if len(given.body.encode()) > MOST_BODY:
            raise Wrong("body", visit.t("This is too large: a delivery may have %(most)s.", most="2 MiB"))
        return Asked(given.body.encode(), given.event, repository_in(given.body))

    def kept(visit: Visit, number: str) -> DeliveryDetail | None:
        if not _NUMBER.fullmatch(number):
            return None
        found = reads.delivery_numbered(int(number))
        if found is None or (found.repository_id is None and not visit.sight.everything):
            return None
        owner = owners.delivery(found.line.id)
        return found if owner is not None and role_at(visit, owner) is not None else None

    def config_of(visit: Visit, given: Given, asked: Asked) -> Configured:
        if given.source == CURRENT:
            return current(visit, asked.repository_id)
        if given.source != PASTED:
            return simulation.configured(None)
        if len(given.config.encode()) > MOST_CONFIG:
            raise Wrong("config", visit.t("This is too large: a configuration may have %(most)s.", most="64 KiB"))
        return simulation.configured(given.config.replace("\r\n", "\n"))

    def current(visit: Visit, repository_id: int | None) -> Configured:
        owner = None if repository_id is None else owners.repository(repository_id)
        repository: Repository | None = None
        if repository_id is not None and owner is not None and role_at(visit, owner) is not None:
            with desk.kit.store.begin() as ledger:
                repository = ledger.repository(repository_id)
        if repository is None:
            raise Wrong("source", visit.t("The delivery names no repository that you may see here."))
        try:
            return configuration(desk.kit, desk.kit.app.forge(repository))
        except Transient:
            again = visit.t("GitHub does not answer right now. Try again in a moment, or paste the configuration.")
            raise Wrong("source", again) from None
        except HealError as error:
            raise Wrong("source", str(error)) from None

    return [
        page("/simulator", form, LISTS),
        page("/simulator", simulate, LISTS, methods=("POST",), name="simulate"),
    ]


def role_at(visit: Visit, owner: Owner) -> Role | None:
    guard: Guard = visit.request.app.state.guard
    return guard.role(visit.identity, owner) if visit.identity is not None else None


def given_in(visit: Visit) -> Given:
    """As typed, so that it can be shown again: nothing is cut off in silence."""

    def text(name: str) -> str:
        value = visit.form.get(name, "")
        return value if isinstance(value, str) else ""

    source = text("source")
    return Given(
        delivery=text("delivery").strip()[:20],
        event=text("event").strip()[:100] or "workflow_run",
        body=text("body"),
        source=source if source in (NONE, PASTED, CURRENT) else NONE,
        config=text("config"),
        job=text("job").strip()[:200],
        log=text("log"),
    )


def log_of(visit: Visit) -> bytes | None:
    """What was uploaded, else what was pasted. Raises Wrong."""
    sent = visit.form.get("file")
    if isinstance(sent, UploadFile) and sent.filename:
        log = sent.file.read(MOST_LOG + 1)
    else:
        text = visit.form.get("log", "")
        log = text.encode() if isinstance(text, str) else b""
    if len(log) > MOST_LOG:
        raise Wrong("log", visit.t("This is too large: a log may have %(most)s.", most="8 MiB"))
    return log if log.strip() else None


def repository_in(body: str) -> int | None:
    """GitHub's number of the repository that a pasted delivery names."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(content, dict) and isinstance(content.get("payload"), dict):
        content = content["payload"]
    repository = content.get("repository") if isinstance(content, dict) else None
    number = repository.get("id") if isinstance(repository, dict) else None
    return number if type(number) is int and 0 < number < 2**63 else None
