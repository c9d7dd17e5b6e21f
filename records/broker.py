"""The broker: messages that wake workers. They carry no state, so that losing one costs only time."""

from celery import Celery
from kombu.exceptions import OperationalError

WAKE_TASK = "noisemark.wake"
QUEUE = "noisemark"


def make_celery(redis_url: str) -> Celery:
    """The Celery application that API and worker share."""
    app = Celery("noisemark", broker=redis_url, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,  # results are rows and blobs
        task_acks_late=False,  # a message is done with once it has woken somebody
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker outlives any outage: meanwhile it polls the database
        broker_transport_options={
            "socket_connect_timeout": 2,  # seconds; it is a local hop
            "socket_timeout": 5,
            "max_retries": 0,  # whoever sends a message does not wait for a broker that is gone
        },
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    return app


def wake_workers(app: Celery) -> bool:
    """Tell workers that something waits. False where the broker is gone: then they find it by polling."""
    try:
        app.send_task(WAKE_TASK, retry=False)
    except OperationalError:
        return False
    return True


def broker_answers(app: Celery) -> bool:
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=0)
    except (OperationalError, OSError):
        return False
    return True
