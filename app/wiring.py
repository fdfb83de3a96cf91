"""The composition root: the only module that knows every adapter."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Engine

from app.adapters import observations, sources
from app.adapters.channels import Channels
from app.adapters.clock import SystemClock
from app.adapters.doorbells import CeleryBell, LocalBell, Silence
from app.adapters.github.app import GitHubApp
from app.adapters.github.logs import read_job_log, read_templates
from app.adapters.github.webhook import interpret
from app.adapters.launchers.process import ProcessLauncher
from app.adapters.mlflow import Mlflow
from app.adapters.osv import OsvAdvisories
from app.adapters.prometheus import Prometheus
from app.adapters.resolver import UvResolver
from app.adapters.watch import OperatorsWatch
from app.adapters.workflow_check import WorkflowJudges
from app.db.engine import make_engine
from app.db.store import SqlStore
from app.db.vitals import Vitals
from app.domain.delivery import Delivery
from app.domain.errors import Permanent
from app.domain.event import AnyEvent, Ignored
from app.domain.fleet import Part
from app.domain.tenant import Repository
from app.healing.kit import Kit, onwards
from app.healing.pump import Pump
from app.plugins import known_actions, known_detectors
from app.ports.launcher import Launcher
from app.ports.notifier import NoNotifier, Notifier
from app.ports.queue import Doorbell
from app.ports.registry import NoRegistry, Registry
from app.security.masking import mask_event
from app.settings import Settings
from app.summaries import DetectorSummaries
from app.telemetry.logs import configure

GITHUB_API = "https://api.github.com"


class Unconfigured(Permanent):
    """Something that cannot be guessed is missing; the message names the variable."""


@dataclass(frozen=True)
class Wired:
    settings: Settings
    engine: Engine
    bell: Doorbell
    store: SqlStore
    kit: Kit
    app: GitHubApp


def doorbell(settings: Settings) -> Doorbell:
    if not settings.queue.doorbell:
        return Silence()
    return LocalBell() if settings.embedded else CeleryBell(settings.queue.broker_url)


def advisories(settings: Settings) -> OsvAdvisories:
    wanted = settings.advisories
    return OsvAdvisories(
        wanted.url, wanted.cache, fresh_s=wanted.fresh_s, timeout_s=wanted.timeout_s, clock=SystemClock()
    )


def monitoring(settings: Settings) -> Prometheus | None:
    """None where none is configured. Raises Insecure."""
    told = settings.prometheus
    if not told.url:
        return None
    return Prometheus(
        told.url,
        repositories=told.repositories,
        token_file=told.token_file,
        hours=told.hours,
        timeout_s=told.timeout_s,
    )


def registry(settings: Settings) -> Registry:
    """Raises Insecure."""
    told = settings.mlflow
    if not told.tracking_uri:
        return NoRegistry()
    return Mlflow(
        told.tracking_uri,
        token=settings.mlflow_token(),
        username=told.username,
        password=settings.mlflow_password(),
        grants=told.grants(),
        timeout_s=told.timeout_s,
    )


def launchers(settings: Settings) -> dict[str, Launcher]:
    told = settings.launcher
    process = ProcessLauncher(
        told.directory, command=shlex.split(told.command), pass_on=told.pass_on, keep_s=told.keep_days * 24 * 3600
    )
    return {process.name: process}


def channels(settings: Settings) -> Notifier:
    """Raises Malformed for an address that cannot be used."""
    told = settings.notify.addresses()
    return Channels(told, timeout_s=settings.notify.timeout_s) if told else NoNotifier()


def watch(settings: Settings, engine: Engine, bell: Doorbell) -> OperatorsWatch:
    """GitHub's status page speaks of github.com alone."""
    told = settings.operations
    return OperatorsWatch(
        repository=told.repository,
        endpoints=told.endpoints,
        status_url=told.github_status_url if settings.github.api_url == GITHUB_API else "",
        timeout_s=told.timeout_s,
        parts=lambda: [*Vitals(engine).parts(), Part("broker", bell.reachable(), "due rows are found by the poll")],
    )


def logs(settings: Settings) -> None:
    configure(form=settings.log.format, level=settings.log.level, processors=(mask_event,))


def wire(settings: Settings, *, passing: Callable[[str], None] = onwards) -> Wired:
    """Everything, connected to nothing yet: engines and clients connect when first used.

    Raises Unconfigured for a missing App id, key or secret, DuplicateKind for two plugins of one kind.
    """
    secrets = settings.webhook_secrets()
    key = settings.private_key_pem()
    for name, value in (
        ("HEAL_GITHUB__APP_ID", settings.github.app_id),
        ("HEAL_GITHUB__PRIVATE_KEY_FILE", key),
        ("HEAL_GITHUB__WEBHOOK_SECRETS_FILE", secrets),
    ):
        if not value:
            raise Unconfigured(f"{name} is not set; see docs/how-to/install.md")
    engine = make_engine(settings.database_url())
    bell = doorbell(settings)
    store = SqlStore(engine, bell, lease_s=settings.database.lease_s, max_attempts=settings.database.max_attempts)
    clock = SystemClock()
    app = GitHubApp(
        api_url=settings.github.api_url,
        app_id=settings.github.app_id,
        private_key_pem=key,
        clock=clock,
        timeout_s=settings.github.timeout_s,
        seconds_between_writes=settings.github.seconds_between_writes,
    )
    kit = Kit(
        store=store,
        app=app,
        detectors=known_detectors(),
        actions=known_actions(),
        resolver=UvResolver(
            settings.resolver.index_url, timeout_s=settings.resolver.timeout_s, jail=settings.resolver.jail
        ),
        clock=clock,
        parse=partial(_parse, app, settings.github.app_id),
        read_log=read_job_log,
        read_green=read_templates,
        read_batch=observations.read,
        summaries=DetectorSummaries(partial(store.secret, "observations")),
        signals=monitoring(settings),
        watch=watch(settings, engine, bell),
        workflow_check=WorkflowJudges(),
        advisories=advisories(settings),
        registry=registry(settings),
        launchers=launchers(settings),
        notifier=channels(settings),
        dashboard_url=settings.web.public_url,
        look_every_s=settings.healing.look_every_s,
        tick_every_s=settings.healing.tick_every_s,
        renew_every_s=settings.database.lease_s / 3,
        passing=passing,
    )
    return Wired(settings, engine, bell, store, kit, app)


def embedded_workers(wired: Wired) -> Pump | None:
    """Worker threads of this process, on the embedded default."""
    settings = wired.settings
    if not settings.embedded or not settings.queue.threads:
        return None
    pump = Pump(wired.kit, threads=settings.queue.threads, poll_s=settings.queue.poll_s, sweep_s=settings.queue.sweep_s)
    if isinstance(wired.bell, LocalBell):
        wired.bell.connect(pump.ring)
    return pump


def _parse(app: GitHubApp, app_id: int, delivery: Delivery, repository: Repository | None) -> AnyEvent | Ignored:
    if repository is not None:
        return sources.interpret(delivery, repository)
    return interpret(delivery, app_slug=app.slug(), app_id=app_id)
