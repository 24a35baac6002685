"""The API's addresses, each with and without a trailing slash."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.urls import URLPattern, include, path, register_converter

from jobs.api import views
from receipts.api.urls import api_urlpatterns as receipts_urlpatterns


class JobIdConverter:
    """`job_` and 26 characters of Crockford's base32."""

    regex = "job_[0-9a-hjkmnp-tv-z]{26}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(JobIdConverter, "job")


def openapi(request: HttpRequest) -> HttpResponseBase:
    """Give the description. It takes long to import what makes it: no other request, and no command, pays for it."""
    from jobs.api import schema

    return schema.openapi(request)


def described_page(request: HttpRequest) -> HttpResponseBase:
    """Show the description to people; late, as above."""
    from jobs.api import schema

    return schema.page(request)


def _both(route: str, view: Callable[..., Any], name: str) -> list[URLPattern]:
    return [path(route, view, name=name), path(f"{route}/", view)]


urlpatterns = [
    path("", views.Start.as_view(), name="api"),
    *_both("jobs", views.Jobs.as_view(), "jobs"),
    *_both("jobs/<job:job_id>", views.OneJob.as_view(), "job"),
    *_both("jobs/<job:job_id>/receipts", views.JobReceipts.as_view(), "job-receipts"),
    *_both("jobs/<job:job_id>/tally", views.JobTally.as_view(), "job-tally"),
    *_both("jobs/<job:job_id>/artifact", views.JobArtifact.as_view(), "job-artifact"),
    *_both("jobs/<job:job_id>/cancel", views.CancelJob.as_view(), "job-cancel"),
    *_both("providers", views.Providers.as_view(), "providers"),
    *_both("health", views.HealthCheck.as_view(), "health"),
    *receipts_urlpatterns,
    *_both("openapi.json", openapi, "openapi"),
    *_both("docs", described_page, "api-docs"),
    path("session/", include("rest_framework.urls")),
]
