"""Every door of the house."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import include, path

from config.problem_page import ProblemTable
from receipts.api.urls import urlpatterns as ledger_urlpatterns

handler400 = "config.problems.handler400"
handler403 = "config.problems.handler403"
handler404 = "config.problems.handler404"
handler500 = "config.problems.handler500"


def home(request: HttpRequest) -> HttpResponse:
    """Lead visitors to the documentation, which leads everywhere else."""
    return redirect("docs")


_problems = ProblemTable.as_view()
urlpatterns = [
    path("", home, name="home"),
    path("admin/", admin.site.urls),
    path("docs/", include("config.docs")),
    path("api/v1/problems", _problems, name="problems"),
    path("api/v1/problems/", _problems),
    path("api/v1/", include("jobs.api.urls")),
    *ledger_urlpatterns,
]
