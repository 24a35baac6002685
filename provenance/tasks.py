"""Keep the store tidy."""

from celery import shared_task
from django.conf import settings

from provenance.store import house_store


@shared_task(ignore_result=True)
def sweep_store() -> None:
    """Remove the drafts that crashed writes left, once they are too old to be anybody's work."""
    house_store().sweep(older_than_s=settings.STORE_SWEEP_AFTER_S)
