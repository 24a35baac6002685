"""The API's addresses, each with and without a trailing slash."""

from collections.abc import Callable
from typing import Any

from django.urls import URLPattern, include, path, register_converter
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

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
    *_both(
        "openapi.json",
        SpectacularAPIView.as_view(renderer_classes=[OpenApiJsonRenderer]),
        "openapi",
    ),
    *_both("docs", SpectacularSwaggerView.as_view(url_name="openapi"), "api-docs"),
    path("session/", include("rest_framework.urls")),
]
