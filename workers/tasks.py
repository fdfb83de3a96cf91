"""The Celery application: three tasks, each carrying the id of a row that is due."""

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

from app.adapters.doorbells import TASKS, celery_app
from app.db.processes import WORKER, Heart
from app.healing.work import perform
from app.ports.queue import Work
from app.settings import Settings
from app.wiring import Wired, logs, wire

_settings = Settings()
celery: Celery = celery_app(_settings.queue.broker_url)
_wired: list[Wired] = []
_hearts: list[Heart] = []


@worker_process_init.connect
def connect(**_: object) -> None:
    """Each worker process has connections of its own: they do not survive a fork."""
    logs(_settings)
    _wired[:] = [wire(_settings)]
    _hearts[:] = [Heart(_wired[0].engine, WORKER, {"role": "celery"})]
    _hearts[0].start()


@worker_process_shutdown.connect
def leave(**_: object) -> None:
    for heart in _hearts:
        heart.stop()


def _task(work: Work) -> None:
    @celery.task(name=TASKS[work])
    def task(row_id: int) -> None:
        """Perform that row, unless another worker was faster."""
        perform(_wired[0].kit, work, row_id)


for _work in Work:
    _task(_work)
