"""Say where the console shows a row. Knows addresses alone, so that templates can use it while the console loads."""

from collections.abc import Callable
from typing import Any

from django.urls import reverse


def page_of(name: str) -> Callable[[Any], str]:
    """Make a function that gives the console page of a row of this model, `app_model`."""
    return lambda key: reverse(f"admin:{name}_change", args=[key])


receipt_page = page_of("receipts_receipt")
checkpoint_page = page_of("receipts_checkpoint")
transaction_page = page_of("receipts_chaintransaction")
usage_page = page_of("minting_usage")
provider_page = page_of("jobs_provider")
job_page = page_of("jobs_job")
