"""Turn every error into a problem that a program can act on and a person can read. One table, no trace.

Source: RFC 9457. `type` leads to the table itself, at /api/v1/problems.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Final

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

log = logging.getLogger(__name__)
MEDIA_TYPE: Final = "application/problem+json"
TABLE_URL: Final = "/api/v1/problems"
OURS: Final = ("/api/", "/tlog/", "/.well-known/")  # where errors are problems; elsewhere they are pages
_SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of problem. `may_retry`: the same request may succeed later."""

    status: int
    slug: str
    title: str
    may_retry: bool = False

    @property
    def type(self) -> str:
        """The URI that names it."""
        return f"{TABLE_URL}#{self.slug}"


MALFORMED: Final = Problem(400, "malformed", "The request can't be read")
NO_SUCH: Final = Problem(404, "no-such-thing", "There is nothing here that you may see")
NOT_ALLOWED: Final = Problem(403, "not-allowed", "You may not do this")
WRONG_METHOD: Final = Problem(405, "wrong-method", "This address does not take this method")
OUR_FAULT: Final = Problem(500, "our-fault", "The house failed; what went wrong is in its log", may_retry=True)


@cache
def table() -> tuple[tuple[type[Exception], Problem], ...]:
    """List which exception is which problem. The first class that fits counts."""
    # Not at the top: settings name this module, and models can't be imported before the apps are.
    from jobs import errors
    from jobs.api.parsing import BadBody, BodyEncoded, BodyTooLarge
    from jobs.runners.base import BadInput
    from receipts.erase import BytesErased
    from receipts.wellknown import NotPublished
    from receipts.witness import LogUnknown, NotSignedByTheLog, ProofDoesNotHold
    from receipts.witness_request import RequestMalformed

    bad_field = Problem(422, "bad-field", "A field breaks its rule")
    away = Problem(503, "database-away", "The database does not answer", may_retry=True)
    return (
        (BadBody, MALFORMED),
        (BodyTooLarge, Problem(413, "too-large", "The body is too large")),
        (BodyEncoded, Problem(415, "wrong-media-type", "The body is not plain JSON")),
        (BadInput, bad_field),
        (errors.BadRequest, bad_field),
        (
            errors.IdempotencyConflict,
            Problem(422, "idempotency-conflict", "This Idempotency-Key came with another body"),
        ),
        (errors.StillRunning, Problem(409, "still-running", "The first request is being worked on", may_retry=True)),
        (errors.QueueFull, Problem(429, "queue-full", "Too many unfinished jobs", may_retry=True)),
        (errors.IllegalMove, Problem(409, "illegal-move", "The job can't be moved there from where it stands")),
        (errors.NotYet, Problem(409, "not-yet", "The evidence is not complete yet", may_retry=True)),
        (BytesErased, Problem(410, "erased", "The bytes were erased, by law, by policy or by their owner's wish")),
        (RequestMalformed, MALFORMED),
        (LogUnknown, Problem(404, "log-unknown", "This house does not witness that log")),
        (NotSignedByTheLog, Problem(403, "not-signed-by-the-log", "No known key of the log signed the checkpoint")),
        (ProofDoesNotHold, Problem(422, "proof-does-not-hold", "The checkpoint does not go on from the last one")),
        (NotPublished, Problem(503, "not-published", "The house has published no keys yet", may_retry=True)),
        (exceptions.NotAuthenticated, Problem(401, "who-are-you", "No API key came")),
        (exceptions.AuthenticationFailed, Problem(401, "unknown-key", "The API key is not valid")),
        (exceptions.PermissionDenied, NOT_ALLOWED),
        (exceptions.NotFound, NO_SUCH),
        (exceptions.MethodNotAllowed, WRONG_METHOD),
        (exceptions.NotAcceptable, Problem(406, "not-acceptable", "The answer has no such form")),
        (exceptions.UnsupportedMediaType, Problem(415, "wrong-media-type", "The body is not plain JSON")),
        (exceptions.Throttled, Problem(429, "too-many-requests", "Too many requests", may_retry=True)),
        (exceptions.ValidationError, bad_field),
        (exceptions.ParseError, MALFORMED),
        (RequestDataTooBig, Problem(413, "too-large", "The body is too large")),
        (SuspiciousOperation, MALFORMED),
        (OperationalError, away),
        (InterfaceError, away),
    )


def problems() -> list[Problem]:
    """List every kind of problem once, by status."""
    known = {problem.slug: problem for _, problem in table()} | {OUR_FAULT.slug: OUR_FAULT}
    return sorted(known.values(), key=lambda problem: (problem.status, problem.slug))


def problem_of(error: Exception) -> Problem:
    """Find what kind of problem an exception is; what the table doesn't know is our fault."""
    return next((problem for kind, problem in table() if isinstance(error, kind)), OUR_FAULT)


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response:
    """Answer an exception of an API view. Nothing that we did not write ourselves reaches the caller."""
    if isinstance(error, Http404):
        error = exceptions.NotFound(*error.args)
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied(*error.args)
    problem = problem_of(error)
    if problem.status >= 500:
        log.error("%s on %s", type(error).__name__, context["request"].path, exc_info=error)
    set_rollback()
    headers: dict[str, str] = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if problem.may_retry:
        headers["Retry-After"] = str(max(1, round(getattr(error, "wait", None) or 2)))
    renderer = getattr(context["request"], "accepted_renderer", None)
    return Response(
        body_of(problem, _detail(error, problem), _errors(error)),
        status=problem.status,
        headers=headers,
        # In a browser the problem stands on the page beside the form, which is then HTML.
        content_type=None if getattr(renderer, "format", "json") == "api" else MEDIA_TYPE,
    )


def body_of(problem: Problem, detail: str, errors: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Write a problem's members; `errors` names field, value and rule."""
    body = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "may_retry": problem.may_retry,
    }
    return body | ({"errors": errors} if errors else {})


def problem_response(problem: Problem, detail: str) -> HttpResponse:
    """Answer with a problem from a view that is not of the REST framework."""
    return JsonResponse(body_of(problem, detail), status=problem.status, content_type=MEDIA_TYPE)


def table_rows() -> list[dict[str, Any]]:
    """Give the table for the page that `type` leads to."""
    return [asdict(problem) | {"type": problem.type} for problem in problems()]


# --- errors that no API view raises ----------------------------------------------------------------


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what Django itself could not read."""
    return _page_or(request, problem_of(exception), "Django refused the request.", defaults.bad_request, exception)


def handler403(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what is forbidden outside of API views."""
    return _page_or(request, NOT_ALLOWED, "This is not for you.", defaults.permission_denied, exception)


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer an address that leads nowhere."""
    return _page_or(request, NO_SUCH, "This address leads nowhere.", defaults.page_not_found, exception)


def handler500(request: HttpRequest) -> HttpResponse:
    """Answer a failure outside of API views."""
    if request.path.startswith(OURS):
        return problem_response(OUR_FAULT, "Something failed that should not.")
    return defaults.server_error(request)


def _page_or(
    request: HttpRequest, problem: Problem, detail: str, page: Callable[..., HttpResponse], exception: Exception
) -> HttpResponse:
    if request.path.startswith(OURS):
        return problem_response(problem, detail)
    return page(request, exception)


# --- what is said ------------------------------------------------------------------------------------


def _detail(error: Exception, problem: Problem) -> str:
    if problem.status >= 500:
        return "Something failed that should not."  # an exception's own text may name hosts, paths and queries
    if isinstance(error, exceptions.ValidationError):
        return problem.title
    if isinstance(error, exceptions.APIException):
        return str(error.detail)
    if rule := getattr(error, "rule", None):
        return f"{getattr(error, 'field', '')} {rule}".strip()
    return str(error)


def _errors(error: Exception) -> list[dict[str, Any]]:
    rule = getattr(error, "rule", None)
    if not isinstance(rule, str):
        return []
    return [{"field": getattr(error, "field", ""), "value": cut(getattr(error, "value", None)), "rule": rule}]


def cut(value: Any) -> Any:
    """Show the caller its own value, short enough to read."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Decimal):
        return f"{value:f}"[:_SHOWN]
    text = value if isinstance(value, str) else repr(value)[: _SHOWN + 1]
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
