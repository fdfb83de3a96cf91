"""Deliver events to the App's webhook: signed, in order, once each. Like GitHub, never retry by itself."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import threading
import time
import uuid
from collections.abc import Callable
from urllib.parse import urlsplit

from sandbox.state import Delivery, Json, Repository, State, now

TIMEOUT_S = 10.0
OVERTAKE_S = 1.0
KEEP_RESPONSE_BYTES = 10_000
ALWAYS = ("ping", "installation", "installation_repositories")


def send(state: State, event: str, body: Json, repository: Repository | None = None) -> None:
    """Put one event into the outbox, if the App is sent it. It goes out after those that are already there, unless a
    fault says otherwise."""
    if state.app.events and event not in (*state.app.events, *ALWAYS):
        return
    installation = state.installation_of(repository) if repository else None
    number = installation.id if installation else body.get("installation", {}).get("id", 0)
    delivery = Delivery(
        next(state.ids),
        str(uuid.uuid4()),
        event,
        body.get("action"),
        json.dumps(body, separators=(",", ":")).encode(),
        number,
        repository.id if repository else None,
    )
    _enqueue(state, delivery)
    if state.faults.take("duplicate_delivery", event):
        _enqueue(state, _copy(state, delivery, redelivery=False))


def redeliver(state: State, delivery: Delivery) -> None:
    """Another attempt with the same GUID and the same bytes."""
    _enqueue(state, _copy(state, delivery, redelivery=True))


def work(state: State) -> None:
    """Deliver until a None comes; runs in its own thread."""
    held: Delivery | None = None
    while (delivery := state.outbox.get()) is not None and not state.closing.is_set():
        if held is None and state.faults.take("out_of_order_delivery", delivery.event):
            held = delivery
            # Nothing may follow; the one that waits to be overtaken goes out then.
            _later(OVERTAKE_S, state.outbox.put, held)
            continue
        if held is not None and delivery is not held:
            _attempt(state, delivery)
            continue
        late = state.faults.take("late_delivery", delivery.event) if delivery is not held else None
        if late:
            _later(late.seconds, _attempt, state, delivery)
            continue
        held = None
        _attempt(state, delivery)


def _later(seconds: float, what: Callable[..., None], *arguments: object) -> None:
    timer = threading.Timer(seconds, what, arguments)
    timer.daemon = True
    timer.start()


def _enqueue(state: State, delivery: Delivery) -> None:
    with state.lock:
        state.unsettled += 1
    state.outbox.put(delivery)


def _copy(state: State, delivery: Delivery, *, redelivery: bool) -> Delivery:
    return Delivery(
        next(state.ids),
        delivery.guid,
        delivery.event,
        delivery.action,
        delivery.raw,
        delivery.installation_id,
        delivery.repository_id,
        redelivery=redelivery,
    )


def _attempt(state: State, delivery: Delivery) -> None:
    delivery.request_headers = _headers(state, delivery)
    delivery.delivered_at = now()
    started = time.monotonic()
    lost = state.faults.take("lost_delivery", delivery.event) is not None
    if lost or not state.hook.url:
        delivery.status, delivery.status_code = "failed to connect to host", 502
    else:
        _post(state.hook.url, delivery)
    delivery.duration_s = round(time.monotonic() - started, 2)
    with state.lock:
        state.deliveries.append(delivery)
        state.unsettled -= 1


def _headers(state: State, delivery: Delivery) -> dict[str, str]:
    digest = hmac.new(state.hook.secret.encode(), delivery.raw, hashlib.sha256).hexdigest()
    return {
        "User-Agent": "GitHub-Hookshot/sandbox",
        "Accept": "*/*",
        "Content-Type": "application/json",
        "X-GitHub-Event": delivery.event,
        "X-GitHub-Delivery": delivery.guid,
        "X-GitHub-Hook-ID": str(state.hook_id),
        "X-GitHub-Hook-Installation-Target-ID": str(state.app.id),
        "X-GitHub-Hook-Installation-Target-Type": "integration",
        "X-Hub-Signature-256": f"sha256={digest}",
    }


def _post(url: str, delivery: Delivery) -> None:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body=delivery.raw, headers=delivery.request_headers)
        answer = connection.getresponse()
        delivery.response_payload = answer.read(KEEP_RESPONSE_BYTES).decode(errors="replace")
        delivery.response_headers = dict(answer.getheaders())
        delivery.status_code = answer.status
        delivery.status = "OK" if 200 <= answer.status < 300 else answer.reason or "Error"
    except TimeoutError:
        delivery.status, delivery.status_code = "timed out", 504
    except (OSError, http.client.HTTPException):
        delivery.status, delivery.status_code = "failed to connect to host", 502
    finally:
        connection.close()
