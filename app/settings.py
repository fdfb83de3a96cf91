"""One frozen tree of settings, read once from `HEAL_GROUP__NAME` (and files for secrets)."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import make_url


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Database(_Group):
    """Where the truth lives. The embedded default is a file beside the process."""

    url: str = Field("sqlite:///var/heal.db", description="SQLAlchemy URL: sqlite:///PATH or postgresql+psycopg://…")
    password_file: Path | None = Field(None, description="a file with the password that belongs into the URL")
    lease_s: float = Field(30.0, gt=0, description="how long a worker holds a row without a heartbeat, in seconds")
    max_attempts: int = Field(8, ge=1, description="tries before a row is put aside as dead")


class Queue(_Group):
    """The doorbell. Without a broker the workers are threads of the web process."""

    broker_url: str = Field("", description="Redis URL for Celery; empty: embedded workers")
    doorbell: bool = Field(True, description="false: never ring; the poll alone finds due rows")
    poll_s: float = Field(1.0, gt=0, description="how often due rows are looked for, in seconds")
    threads: int = Field(4, ge=0, le=64, description="embedded worker threads; 0: this process only receives")
    sweep_s: float = Field(60.0, gt=0, description="how often the sweep runs, in seconds")


class GitHub(_Group):
    """The App. Secrets may be given as files (…_FILE), which is how containers get them."""

    api_url: str = "https://api.github.com"
    web_url: str = "https://github.com"
    app_id: int = 0

    @field_validator("app_id", mode="before")
    @classmethod
    def _none_yet(cls, value: object) -> object:
        return value or 0  # a file may name it without a value

    private_key: SecretStr = SecretStr("")
    private_key_file: Path | None = None
    webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="one or two secrets, comma-separated: the second is the former one while it is being rotated"
    )

    @field_validator("webhook_secrets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value

    webhook_secrets_file: Path | None = Field(None, description="a file with one secret a line")
    client_id: str = Field("", description="the App's client id: people sign in with it")
    client_secret: SecretStr = SecretStr("")
    client_secret_file: Path | None = Field(None, description="a file with the App's client secret")
    seconds_between_writes: float = Field(1.0, ge=0)
    timeout_s: float = Field(15.0, gt=0)


class Web(_Group):
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    public_url: str = Field("", description="address under which people reach the dashboard; used in links")
    processes: int = Field(1, ge=1, le=64, description="web processes; more than one needs a broker")
    operators: Annotated[tuple[int, ...], NoDecode] = Field(
        (), description="GitHub's numbers of the accounts that run the bot and see all of it, comma-separated"
    )
    session_hours: float = Field(12.0, gt=0, le=720, description="how long a sign-in lasts at most")
    idle_minutes: float = Field(30.0, gt=0, description="how long it lasts without a request")
    requests_per_minute: int = Field(300, ge=1, description="requests of one person or address, in each web process")

    @field_validator("operators", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class Api(_Group):
    """What others than GitHub may send."""

    requests_per_minute: int = Field(600, ge=1, description="requests of one token a minute, in each web process")
    max_body: int = Field(32 * 1024 * 1024, ge=1024, description="bytes of a body, as sent and when unpacked")
    read_s: float = Field(30.0, gt=0, description="how long a body may take to arrive, in seconds")


class Prometheus(_Group):
    """The monitoring that is asked at each look by schedule."""

    url: str = Field("", description="Prometheus, or what answers like it; https, or a loopback address; empty: none")
    token_file: Path | None = Field(None, description="a file with a bearer token for it")
    repositories: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="repositories that may ask it, comma-separated; * stands for any characters"
    )
    hours: float = Field(6.0, gt=0, le=168, description="how far back it is asked")
    timeout_s: float = Field(10.0, gt=0)

    @field_validator("repositories", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class Mlflow(_Group):
    """The registry of models. Secrets may be given as files (…_FILE)."""

    tracking_uri: str = Field("", description="MLflow's server; https, or without credentials also http; empty: none")
    token: SecretStr = SecretStr("")
    token_file: Path | None = Field(None, description="a file with a bearer token for it")
    username: str = Field("", description="for a server that asks for a name and a password")
    password: SecretStr = SecretStr("")
    password_file: Path | None = None
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="which repository may use which models: OWNER/NAME=MODEL, comma-separated; * stands for any"
    )
    timeout_s: float = Field(10.0, gt=0, le=120)

    @field_validator("models", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("models")
    @classmethod
    def _pairs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pair in value:
            repository, _, model = pair.partition("=")
            if not repository.strip() or not model.strip():
                raise ValueError(f"{pair!r} is not OWNER/NAME=MODEL")
        return value

    def grants(self) -> tuple[tuple[str, str], ...]:
        pairs = (pair.partition("=") for pair in self.models)
        return tuple((repository.strip(), model.strip()) for repository, _, model in pairs)


class Launcher(_Group):
    """Where trainings and benchmarks run that are no workflow of the team: processes beside the workers, and jobs of a
    Ray cluster where one is named."""

    directory: Path = Field(Path("var/runs"), description="a directory of each run; all workers must share it")
    command: str = Field("", description="what runs a workload; empty: python -m workloads, with this interpreter")
    pass_on: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="variables that runs get of this process' environment, besides PATH, HOME and the like"
    )
    keep_days: float = Field(14.0, gt=0, description="how long the directory of a run that ended is kept")
    at_once: int = Field(1, ge=0, le=64, description="processes that run at a time, others wait; 0: any number")
    gpus: int = Field(1, ge=0, le=64, description="GPUs that a process is given, those with the most free memory")
    memory_mib: int = Field(0, ge=0, description="memory that a run may take, on Ray reserved for it; 0: any")
    ray_address: str = Field("", description="the dashboard of a Ray cluster, such as http://head:8265; empty: none")
    ray_directory: Path | None = Field(None, description="where runs write on the cluster: shared by its nodes")
    ray_command: str = Field("python -m workloads", description="what runs a workload there")
    ray_cpus: float = Field(1.0, ge=0, description="CPUs that Ray reserves for a run")
    ray_gpus: float = Field(0.0, ge=0, description="GPUs that Ray reserves for a run; parts of one are shared")
    ray_token_file: Path | None = Field(None, description="a file with a bearer token for the cluster")
    ray_timeout_s: float = Field(15.0, gt=0)

    @model_validator(mode="after")
    def _somewhere_to_write(self) -> Self:
        if self.ray_address and not (self.ray_directory and self.ray_directory.is_absolute()):
            raise ValueError("HEAL_LAUNCHER__RAY_DIRECTORY must be set: an absolute path on the cluster")
        return self

    @field_validator("pass_on", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("pass_on")
    @classmethod
    def _not_ours(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name.upper().startswith("HEAL_"):
                raise ValueError(f"{name} is the bot's own, and no run gets it")
        return value


class Notify(_Group):
    """Where people are told. heal.yml names these channels; their addresses are secrets."""

    channels: dict[str, SecretStr] = Field(
        {},
        description="name to address, as JSON: any of Apprise, or webhook+https://HOST/PATH?secret=whsec_… (signed)",
    )
    channels_file: Path | None = Field(None, description="a JSON file with the same")
    timeout_s: float = Field(10.0, gt=0, le=60)

    def addresses(self) -> dict[str, str]:
        """With those of the file. Raises OSError and ValueError."""
        told = {name: address.get_secret_value() for name, address in self.channels.items()}
        if self.channels_file is None:
            return told
        found = json.loads(self.channels_file.read_text())
        if not isinstance(found, dict) or not all(isinstance(address, str) for address in found.values()):
            raise ValueError(f"{self.channels_file} must be a JSON object of names and addresses")
        return {**told, **found}


class Resolver(_Group):
    index_url: str = "https://pypi.org/simple/"
    timeout_s: float = Field(60.0, gt=0)
    jail: Literal["auto", "require"] = Field("auto", description="require: resolve only inside bubblewrap")


class Advisories(_Group):
    """Known vulnerabilities, from OSV and from what is kept of it."""

    url: str = Field("https://api.osv.dev", description="OSV's API; empty: only what is kept is asked")
    cache: Path = Field(
        Path("var/advisories.db"), description="the file that keeps them; it may be deleted at any time"
    )
    fresh_s: float = Field(21_600.0, gt=0, description="after how long a version is looked up again, in seconds")
    timeout_s: float = Field(10.0, gt=0)


class Healing(_Group):
    """Cadence of the loop, in seconds."""

    look_every_s: float = Field(60.0, gt=0, description="how often a repair without proof is looked at")
    tick_every_s: float = Field(900.0, gt=0, description="how often the detectors look at what sends no events")


class Operations(_Group):
    """What the operator has the bot look at beside repositories. No repository can add to it."""

    repository: str = Field("", description="owner/name where endpoints and the bot's own troubles are told")
    endpoints: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="http(s) addresses that must answer, comma-separated; at most 50"
    )
    github_status_url: str = Field(
        "https://www.githubstatus.com/api/v2/summary.json", description="GitHub's own status; empty: not asked"
    )
    timeout_s: float = Field(10.0, gt=0, le=60)

    @field_validator("endpoints", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("endpoints")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not url.startswith(("https://", "http://")):
                raise ValueError(f"{url!r} is no http(s) address")
        return value


class Vault(_Group):
    """What seals the secrets that are kept in the database."""

    keys: SecretStr = Field(
        SecretStr(""), description="keys of 32 bytes in base64, comma-separated: the first seals, all of them open"
    )
    keys_file: Path | None = Field(None, description="a file with one key a line; made by itself beside SQLite")


class Remote(_Group):
    """The bot that `heal remote` speaks to."""

    url: str = Field("", description="the address under which its dashboard is reached")
    token: SecretStr = SecretStr("")
    token_file: Path | None = Field(None, description="a file with an API token")

    def secret(self) -> str:
        return self.token_file.read_text().strip() if self.token_file else self.token.get_secret_value()


class Log(_Group):
    format: Literal["json", "console"] = "json"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="HEAL_", env_nested_delimiter="__", frozen=True, extra="ignore", env_file=".env"
    )

    database: Database = Database()
    queue: Queue = Queue()
    github: GitHub = GitHub()
    web: Web = Web()
    api: Api = Api()
    prometheus: Prometheus = Prometheus()
    mlflow: Mlflow = Mlflow()
    launcher: Launcher = Launcher()
    notify: Notify = Notify()
    resolver: Resolver = Resolver()
    advisories: Advisories = Advisories()
    healing: Healing = Healing()
    operations: Operations = Operations()
    vault: Vault = Vault()
    remote: Remote = Remote()
    log: Log = Log()

    @property
    def embedded(self) -> bool:
        return not self.queue.broker_url

    def database_url(self) -> str:
        """With the password from its file, if there is one."""
        if self.database.password_file is None:
            return self.database.url
        password = self.database.password_file.read_text().strip()
        return make_url(self.database.url).set(password=password).render_as_string(hide_password=False)

    def private_key_pem(self) -> str:
        """Empty when none is configured."""
        path = self.github.private_key_file
        return path.read_text() if path else self.github.private_key.get_secret_value()

    def client_secret(self) -> str:
        path = self.github.client_secret_file
        return path.read_text().strip() if path else self.github.client_secret.get_secret_value()

    def mlflow_token(self) -> str:
        path = self.mlflow.token_file
        return path.read_text().strip() if path else self.mlflow.token.get_secret_value()

    def mlflow_password(self) -> str:
        path = self.mlflow.password_file
        return path.read_text().strip() if path else self.mlflow.password.get_secret_value()

    def webhook_secrets(self) -> tuple[bytes, ...]:
        """The active secrets, newest first. Empty: the webhook must not be served."""
        path = self.github.webhook_secrets_file
        lines = path.read_text().splitlines() if path else [s.get_secret_value() for s in self.github.webhook_secrets]
        return tuple(line.strip().encode() for line in lines if line.strip())


def problems(error: ValidationError) -> list[str]:
    """What is wrong, each with the name of its variable."""
    return [f"HEAL_{'__'.join(str(part) for part in e['loc']).upper()}: {e['msg']}" for e in error.errors()]


def misspelt(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Variables that begin with HEAL_ and that no setting reads (pydantic lets those of the top level pass)."""
    known = {
        f"HEAL_{group}__{name}".upper()
        for group, field in Settings.model_fields.items()
        for name in getattr(field.annotation, "model_fields", {})
    }
    return sorted(name for name in environ if name.startswith("HEAL_") and name.upper() not in known)
