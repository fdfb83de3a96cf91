"""Is everything set and reachable?"""

from pydantic import ValidationError

from app.adapters.doorbells import CeleryBell, LocalBell
from app.db.engine import make_engine
from app.domain.errors import HealError
from app.settings import Settings, misspelt, problems
from app.web.health import Probe, probe
from app.wiring import registry, wire


def checks() -> list[Probe]:
    """Configuration, database, migrations, broker, GitHub, the model registry: each as far as those before it allow."""
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
    return [*probes, _github(settings), *_registry(settings)]


def _github(settings: Settings) -> Probe:
    try:
        slug = wire(settings).app.slug()
    except HealError as error:
        return Probe("GitHub", False, str(error), "check HEAL_GITHUB__API_URL, __APP_ID and __PRIVATE_KEY_FILE")
    return Probe("GitHub", True, f"{settings.github.api_url} answers {slug}")


def _registry(settings: Settings) -> list[Probe]:
    """Nothing where none is configured."""
    if not settings.mlflow.tracking_uri:
        return []
    try:
        registry(settings).version("heal-check", 1)
    except HealError as error:
        return [Probe("registry", False, str(error), "check HEAL_MLFLOW__TRACKING_URI and the credentials")]
    return [Probe("registry", True, f"{settings.mlflow.tracking_uri} answers")]
