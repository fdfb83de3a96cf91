"""The addresses under /api/v1."""

from starlette.routing import BaseRoute, Route

from app.db.reads import Reads
from app.web.api.door import Door, Endpoint, Handler
from app.web.api.observations import Deliveries, Observations
from app.web.api.signals import CloudEvents, MLflow, Posted


def routes(door: Door, reads: Reads) -> list[BaseRoute]:
    posts: dict[str, Handler] = {
        "/models/{name}/observations": Observations(door),
        "/signals/alertmanager": Posted(door, "alertmanager", daily=True),
        "/signals/samples": Posted(door, "samples"),
        "/signals/cloudevents": CloudEvents(door),
        "/signals/mlflow/{token}": MLflow(door),
    }
    return [
        *(Route(f"/api/v1{path}", Endpoint("POST", handle)) for path, handle in posts.items()),
        Route("/api/v1/sent/{delivery}", Endpoint("GET", Deliveries(door, reads))),
    ]
