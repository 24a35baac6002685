"""The door of the benchmark's server: the house's own, with the bare view beside it."""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from config.wsgi import application as house


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """Serve a request."""
    return house(environ, start_response)


def _with_the_bare_view() -> None:
    from django.conf import settings
    from django.urls import clear_url_caches

    settings.ROOT_URLCONF = "tests.benchmarks.bare"
    clear_url_caches()


_with_the_bare_view()
