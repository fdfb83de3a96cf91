"""Three ways to tell a worker that a row is due. All may fail silently: the poll finds the row as well."""

import queue
import threading
from collections.abc import Callable

import structlog
from celery import Celery
from kombu.exceptions import KombuError

from app.ports.queue import Work

log = structlog.get_logger()

TASKS = {Work.DELIVERY: "healing.process", Work.REPAIR: "healing.repair", Work.EFFECT: "healing.report"}

# What a doorbell needs and no more: short timeouts, so that a silent broker is noticed within seconds.
TRANSPORT = {
    "visibility_timeout": 300,
    "unacked_restore_interval": 5,
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 5,
}


class Silence:
    """Rings nothing."""

    def ring(self, work: Work, row_id: int) -> None:
        """Nobody hears it."""

    def reachable(self) -> bool:
        return True


class LocalBell:
    """Wakes a thread of this process. `answer` is set once the workers exist."""

    def __init__(self) -> None:
        self._answer: Callable[[], None] | None = None

    def connect(self, answer: Callable[[], None]) -> None:
        self._answer = answer

    def ring(self, work: Work, row_id: int) -> None:  # noqa: ARG002 - any worker takes whatever is due
        if self._answer is not None:
            self._answer()

    def reachable(self) -> bool:
        return True


def celery_app(broker_url: str) -> Celery:
    """A Celery that carries ids and nothing else: no results, no events, no remote control."""
    app = Celery("heal", broker=broker_url, set_as_current=False)
    app.conf.update(
        broker_transport_options=dict(TRANSPORT),
        broker_connection_retry_on_startup=True,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=False,  # the row is the truth, not the message
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_max_tasks_per_child=2_000,
        worker_max_memory_per_child=512_000,
        task_time_limit=300,
        task_soft_time_limit=240,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,  # what our own logger prints would be swallowed on its way
    )
    return app


class CeleryBell:
    """Sends the id as a Celery task, from a thread of its own: whoever rings never waits for the broker."""

    def __init__(self, broker_url: str, *, most_waiting: int = 10_000) -> None:
        self._celery = celery_app(broker_url)
        self._waiting: queue.Queue[tuple[Work, int]] = queue.Queue(most_waiting)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def ring(self, work: Work, row_id: int) -> None:
        self._start()
        try:
            self._waiting.put_nowait((work, row_id))
        except queue.Full:
            log.debug("ring_dropped", work=work, row=row_id)

    def reachable(self) -> bool:
        try:
            with self._celery.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=2)
        except (KombuError, OSError):
            return False
        return True

    def _start(self) -> None:
        """Lazily and once per process: threads do not survive a fork."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._send, name="doorbell", daemon=True)
                self._thread.start()

    def _send(self) -> None:
        while True:
            work, row_id = self._waiting.get()
            try:
                self._celery.send_task(TASKS[work], args=[row_id], retry=False, ignore_result=True)
            except (KombuError, OSError) as error:
                log.warning("ring_not_heard", work=work, row=row_id, error=str(error))
