"""A Celery application as a newcomer would write it; the broker's address comes from the environment."""

import os
import time

from celery import Celery

app = Celery("tasks", broker=os.environ["CELERY_BROKER"], backend="rpc://")
app.conf.update(
    task_default_queue=os.environ["CELERY_QUEUE"],
    task_default_delivery_mode="persistent",
    result_expires=600,
    broker_connection_retry_on_startup=True,
)


@app.task
def add(x, y):
    return x + y


@app.task(bind=True, max_retries=5)
def third_time_lucky(self, value):
    """Fails twice, each time asking to be tried again a little later."""
    if self.request.retries < 2:
        raise self.retry(countdown=0.3)
    return value, self.request.retries


@app.task(acks_late=True)
def acked_late(value):
    return value


@app.task(acks_late=True)
def slow(value):
    time.sleep(0.15)
    return value


@app.task
def boom():
    raise ValueError("as asked")
