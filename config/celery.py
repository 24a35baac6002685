"""Celery wakes workers and owns devices. Every message is a hint: the queue of record is PostgreSQL."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("tallystick")
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_connection_timeout=5,
    broker_transport_options={
        "visibility_timeout": 3600,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": 30,
        "socket_connect_timeout": 3,
    },
    accept_content=["json"],
    task_serializer="json",
    task_ignore_result=True,
    task_default_queue="hub",
    task_publish_retry=False,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    timezone="UTC",
    beat_schedule={
        # A tick that waited longer than its interval is dropped: the next one does its work.
        "sequence": {"task": "receipts.tasks.turn_log", "schedule": 0.5, "options": {"expires": 2}},
        "chain": {"task": "receipts.tasks.turn_chain", "schedule": 1.0, "options": {"expires": 5}},
        "witnesses": {"task": "receipts.tasks.turn_witnesses", "schedule": 1.0, "options": {"expires": 2}},
        "numbers": {"task": "receipts.tasks.turn_numbers", "schedule": 5.0, "options": {"expires": 5}},
        "pipeline": {"task": "jobs.tasks.sweep", "schedule": 1.0, "options": {"expires": 5}},
        "tidy": {"task": "provenance.tasks.sweep_store", "schedule": 3600.0, "options": {"expires": 600}},
    },
)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
