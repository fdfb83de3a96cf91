"""The composition root: the only module that knows every adapter."""

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from app.adapters import observations, sources
from app.adapters.channels import Channels
from app.adapters.clock import SystemClock
from app.adapters.doorbells import CeleryBell, LocalBell, Silence
from app.adapters.github.app import GitHubApp
from app.adapters.github.logs import read_job_log, read_templates
from app.adapters.github.webhook import interpret
from app.adapters.launchers.process import ProcessLauncher
from app.adapters.launchers.ray import RayLauncher
from app.adapters.mlflow import Mlflow
from app.adapters.osv import OsvAdvisories
from app.adapters.prometheus import Prometheus
from app.adapters.resolver import UvResolver
from app.adapters.watch import OperatorsWatch
from app.adapters.workflow_check import WorkflowJudges
from app.db.credentials import Credentials
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
from app.security.vault import Vault, key_file, keys_of
from app.settings import Settings
from app.summaries import DetectorSummaries
from app.telemetry.logs import configure

GITHUB_API = "https://api.github.com"


class Unconfigured(Permanent):
    """Something that cannot be guessed is missing; the message names the variable."""


class Unregistered(Unconfigured):
    """No App at all is known: the settings name none, and none was set up."""


@dataclass(frozen=True)
class Wired:
    """`settings` are complete: what the environment left open is taken from what was kept when the App was set up."""

    settings: Settings
    engine: Engine
    bell: Doorbell
    store: SqlStore
    kit: Kit
    app: GitHubApp
    vault: Vault

    @property
    def oauth(self) -> tuple[str, str] | None:
        """The App's client id and client secret, with which people sign in. None: nobody can."""
        return _oauth(self.settings)


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
    """Raises Insecure."""
    told = settings.launcher
    keep_s = told.keep_days * 24 * 3600
    found: list[Launcher] = [
        ProcessLauncher(
            told.directory,
            command=shlex.split(told.command),
            pass_on=told.pass_on,
            at_once=told.at_once,
            gpus=told.gpus,
            memory_mib=told.memory_mib,
            keep_s=keep_s,
        )
    ]
    if told.ray_address and told.ray_directory is not None:
        found.append(
            RayLauncher(
                told.ray_address,
                told.ray_directory,
                command=shlex.split(told.ray_command),
                environment={name: value for name, value in os.environ.items() if name in told.pass_on},
                token_file=told.ray_token_file,
                cpus=told.ray_cpus,
                gpus=told.ray_gpus,
                memory_mib=told.memory_mib,
                keep_s=keep_s,
                timeout_s=told.ray_timeout_s,
            )
        )
    return {launcher.name: launcher for launcher in found}


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


def vault(settings: Settings) -> Vault:
    """What seals secrets. On SQLite its key is made by itself, in a file beside the database; elsewhere, where several
    machines share the database, it must be set, and the vault is not usable without. Raises Unconfigured."""
    told = settings.vault
    database = make_url(settings.database.url)
    try:
        if told.keys_file is not None:
            return Vault(keys_of(told.keys_file.read_text()))
        if told.keys.get_secret_value():
            return Vault(keys_of(told.keys.get_secret_value()))
        if database.get_backend_name() == "sqlite" and database.database:
            return Vault(keys_of(key_file(Path(database.database).with_suffix(".key"))))
    except OSError as error:
        raise Unconfigured(f"the keys of the vault cannot be read: {error}") from error
    except ValueError as error:
        raise Unconfigured(f"HEAL_VAULT__KEYS_FILE: {error}") from error
    return Vault(())


def credentials(settings: Settings, engine: Engine) -> Credentials:
    return Credentials(engine, vault(settings))


def usable(sealing: Vault) -> Vault:
    """Raises Unconfigured for one without a key."""
    if not sealing.usable:
        raise Unconfigured(
            "HEAL_VAULT__KEYS_FILE is not set: secrets are kept in the database, and only sealed. Make a key with "
            "`openssl rand -base64 32`; see docs/how-to/install.md"
        )
    return sealing


def completed(settings: Settings, kept: Mapping[str, bytes]) -> Settings:
    """With what was kept when the App was set up (app.db.credentials) wherever the environment says nothing. Nothing is
    taken from there when the environment names another App."""
    told = settings.github
    if not kept or (told.app_id and told.app_id != int(kept["app_id"])):
        return settings
    text = {name: value.decode() for name, value in kept.items()}
    github: dict[str, object] = {"app_id": int(text["app_id"])}
    if not settings.private_key_pem():
        github |= {"private_key": SecretStr(text["private_key"]), "private_key_file": None}
    if not settings.webhook_secrets():
        github |= {"webhook_secrets": (SecretStr(text["webhook_secret"]),), "webhook_secrets_file": None}
    if not told.client_id:
        github["client_id"] = text["client_id"]
    if not settings.client_secret():
        github |= {"client_secret": SecretStr(text["client_secret"]), "client_secret_file": None}
    github |= {name: text[name] for name in ("api_url", "web_url") if name not in told.model_fields_set}
    web: dict[str, object] = {} if settings.web.public_url else {"public_url": text["public_url"]}
    if not settings.web.operators and int(text.get("operator", 0)):
        web["operators"] = (int(text["operator"]),)
    return settings.model_copy(
        update={"github": told.model_copy(update=github), "web": settings.web.model_copy(update=web)}
    )


def missing(settings: Settings) -> list[str]:
    """The variables without which the App cannot work, and that are not set. Raises Unconfigured for a file that cannot
    be read."""
    try:
        needed = {
            "HEAL_GITHUB__APP_ID": settings.github.app_id,
            "HEAL_GITHUB__PRIVATE_KEY_FILE": settings.private_key_pem(),
            "HEAL_GITHUB__WEBHOOK_SECRETS_FILE": settings.webhook_secrets(),
        }
    except OSError as error:
        raise Unconfigured(f"a file with a secret cannot be read: {error}") from error
    return [name for name, value in needed.items() if not value]


def _oauth(settings: Settings) -> tuple[str, str] | None:
    pair = settings.github.client_id, settings.client_secret()
    return pair if all(pair) else None


def wire(settings: Settings, *, passing: Callable[[str], None] = onwards) -> Wired:
    """Everything. Connected to nothing yet (engines and clients connect when first used), except that the database is
    asked for the App's credentials where the settings do not give them.

    Raises Unconfigured for a missing App id, key or secret (Unregistered when all of them are), DuplicateKind for two
    plugins of one kind, Sealed for kept credentials whose key is missing, Unreachable.
    """
    engine = make_engine(settings.database_url())
    sealing = vault(settings)
    if missing(settings):
        settings = completed(settings, Credentials(engine, sealing).all())
    if lacking := missing(settings):
        kind = Unregistered if len(lacking) == 3 else Unconfigured
        raise kind(f"{lacking[0]} is not set; run `heal setup`, or see docs/how-to/install.md")
    if _oauth(settings):
        usable(sealing)
    key = settings.private_key_pem()
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
    return Wired(settings, engine, bell, store, kit, app, sealing)


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
