"""Is everything set and reachable?"""

from pydantic import ValidationError

from app.adapters.doorbells import CeleryBell, LocalBell
from app.db.engine import make_engine
from app.domain.errors import HealError
from app.settings import Settings, misspelt, problems
from app.web.health import Probe, probe
from app.web.origin import links_are_given
from app.wiring import Unregistered, Wired, registry, vault, wire


def checks() -> list[Probe]:
    """Configuration, database, migrations, broker, vault, GitHub, sign-in, the model registry: each as far as those
    before it allow."""
    try:
        settings = Settings()
    except ValidationError as error:
        return [Probe("configuration", False, told, "see docs/reference/settings.md") for told in problems(error)]
    unknown = misspelt()
    probes = [
        Probe(
            "configuration",
            not unknown,
            f"no setting of heal: {', '.join(unknown)}" if unknown else "read",
            "correct the names; see docs/reference/settings.md" if unknown else "",
        )
    ]
    bell = LocalBell() if settings.embedded else CeleryBell(settings.queue.broker_url)
    probes += [p for p in probe(make_engine(settings.database_url()), bell, lambda: True) if p.name != "workers"]
    return [*probes, _vault(settings), *_app(settings), *_registry(settings)]


def _vault(settings: Settings) -> Probe:
    try:
        usable = vault(settings).usable
    except HealError as error:
        return Probe("vault", False, str(error), "make a key with `openssl rand -base64 32`")
    if usable:
        return Probe("vault", True, "has a key")
    return Probe("vault", True, "has no key: the setup and people's sign-in need one in HEAL_VAULT__KEYS_FILE")


def _app(settings: Settings) -> list[Probe]:
    """GitHub takes the App's key; people can sign in with it."""
    try:
        wired = wire(settings)
    except Unregistered as error:
        return [Probe("GitHub", False, str(error), "run `heal serve` and open the address that it prints")]
    except HealError as error:
        return [Probe("GitHub", False, str(error), "set what is missing; see docs/how-to/install.md")]
    try:
        return [_github(wired), _sign_in(wired)]
    finally:
        wired.engine.dispose()


def _github(wired: Wired) -> Probe:
    try:
        slug = wired.app.slug()
    except HealError as error:
        return Probe("GitHub", False, str(error), "check HEAL_GITHUB__API_URL, __APP_ID and __PRIVATE_KEY_FILE")
    return Probe("GitHub", True, f"{wired.settings.github.api_url} answers {slug}")


def _sign_in(wired: Wired) -> Probe:
    if wired.oauth is not None:
        return Probe("sign-in", True, "with GitHub")
    if links_are_given(wired.settings):
        return Probe("sign-in", True, "by one-time links, on this machine alone")
    return Probe("sign-in", True, "nobody can; set HEAL_GITHUB__CLIENT_ID and HEAL_GITHUB__CLIENT_SECRET_FILE")


def _registry(settings: Settings) -> list[Probe]:
    """Nothing where none is configured."""
    if not settings.mlflow.tracking_uri:
        return []
    try:
        registry(settings).version("heal-check", 1)
    except HealError as error:
        return [Probe("registry", False, str(error), "check HEAL_MLFLOW__TRACKING_URI and the credentials")]
    return [Probe("registry", True, f"{settings.mlflow.tracking_uri} answers")]
