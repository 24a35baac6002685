"""The API's doors: parse, call one deed, render."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import status
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from jobs import lifecycle
from jobs.admission import fingerprint_of
from jobs.api.health import health
from jobs.api.pagination import BySlug, Newest
from jobs.api.parsing import plain
from jobs.api.permissions import MayChange, tenant_of, visible_job, visible_jobs
from jobs.api.renderers import ApiPage
from jobs.api.request_schema import JOB_REQUEST
from jobs.api.requests import read_idempotency_key, read_job_request
from jobs.api.serializers import (
    BASE,
    JobDetailSerializer,
    JobSerializer,
    ProblemSerializer,
    ProviderSerializer,
    ReceiptSerializer,
    SubmittedSerializer,
    links_of,
)
from jobs.errors import BadRequest, NotYet
from jobs.models import Job, Provider
from jobs.models.work import JobQuerySet, Kind
from jobs.states import EvidenceState, JobState
from jobs.tally import build_tally
from minting.models import Usage
from provenance.errors import BlobMissing
from provenance.models import Artifact
from provenance.store import house_store
from receipts.api.access import access_of
from receipts.api.description import described
from receipts.api.negotiation import AsItIs
from receipts.erase import BytesErased, erasure_of_file
from receipts.log import leaf_indices
from receipts.models import Receipt

SO_FAR = "?incomplete=true asks for what there is so far."
PROBLEM = OpenApiResponse(ProblemSerializer, description="A problem, as application/problem+json (RFC 9457).")
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="1 to 120 visible ASCII characters. The same key with the same body gives the first answer again.",
)


class Door(APIView):
    """What all doors of this API share."""

    renderer_classes: Sequence[type[BaseRenderer]] = (JSONRenderer, ApiPage)
    permission_classes: Sequence[Any] = (IsAuthenticated, MayChange)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Keep answers out of caches: what one caller sees is not for the next."""
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers.setdefault("Cache-Control", "private, no-store")
        return response


class Start(Door):
    """Submit GPU work, follow it, and take away the evidence."""

    permission_classes = (AllowAny,)

    @described(exclude=True)
    def get(self, request: Request) -> Response:
        """Say where to go on."""
        here = request.build_absolute_uri
        return Response(
            {
                "jobs": here(f"{BASE}/jobs"),
                "providers": here(f"{BASE}/providers"),
                "health": here(f"{BASE}/health"),
                "problems": here(f"{BASE}/problems"),
                "documentation": here(f"{BASE}/docs"),
                "openapi": here(f"{BASE}/openapi.json"),
                "log": here("/tlog/checkpoint"),
                "keys": here("/.well-known/tallystick.json"),
            }
        )

    def get_view_name(self) -> str:
        """Name the page."""
        return "Tallystick API"


class Jobs(Door):
    """Jobs, newest first. Post one to have it done; its answer carries the hub's signed promise."""

    example: ClassVar[Any] = {"kind": "text-to-image", "inputs": {"prompt": "a red circle", "steps": 15, "seed": 7}}

    @described(
        operation_id="jobs_list",
        tags=["jobs"],
        parameters=[
            OpenApiParameter("state", OpenApiTypes.STR, enum=JobState.values),
            OpenApiParameter("kind", OpenApiTypes.STR, enum=Kind.values),
            OpenApiParameter("limit", OpenApiTypes.INT, description="1 to 200, 50 if left out"),
            OpenApiParameter("cursor", OpenApiTypes.STR, description="from `next` or `previous`"),
        ],
        responses={200: JobSerializer(many=True), 401: PROBLEM, 422: PROBLEM, 429: PROBLEM},
        filters=True,
    )
    def get(self, request: Request) -> Response:
        """List the jobs that you see."""
        self.paginator = Newest()
        rows = self.paginator.paginate_queryset(asked_jobs(request), request, self)
        shown = JobSerializer(rows, many=True, context={"request": request})
        return self.paginator.get_paginated_response(shown.data)

    @described(
        operation_id="jobs_create",
        tags=["jobs"],
        parameters=[IDEMPOTENCY_KEY],
        request={"application/json": JOB_REQUEST},
        responses={
            201: SubmittedSerializer,
            200: OpenApiResponse(SubmittedSerializer, description="The first answer again (Idempotent-Replayed: true)"),
            **dict.fromkeys((400, 401, 403, 409, 413, 415, 422, 429), PROBLEM),
        },
    )
    def post(self, request: Request) -> Response:
        """Submit a job."""
        body = request.data
        assert isinstance(body, dict)  # the parser refuses whatever else JSON may be
        done = lifecycle.submit(
            tenant_id=tenant_of(request),
            idempotency_key=read_idempotency_key(request.headers.get("Idempotency-Key")),
            request=read_job_request(body),
            fingerprint=fingerprint_of(plain(body)),
            actor=access_of(request).actor,
            now=getattr(request.user, "asked_at", None),
        )
        links = links_of(done.job_id, request)
        return Response(
            done.answer | {"links": links},
            status=status.HTTP_201_CREATED if done.created else status.HTTP_200_OK,
            headers={"Location": links["self"]} if done.created else {"Idempotent-Replayed": "true"},
        )


class OneJob(Door):
    """A job: where it stands, what was asked, and where its evidence is."""

    @described(operation_id="job", tags=["jobs"], responses={200: JobDetailSerializer, 401: PROBLEM, 404: PROBLEM})
    def get(self, request: Request, job_id: str) -> Response:
        """Show one job."""
        return Response(JobDetailSerializer(visible_job(request, job_id), context={"request": request}).data)

    def get_view_name(self) -> str:
        """Name the page."""
        return "Job"


class CancelJob(Door):
    """Call an unfinished job off. Nothing is billed, and a receipt says so."""

    example: ClassVar[Any] = {}

    @described(
        operation_id="job_cancel",
        tags=["jobs"],
        request=None,
        responses={200: JobDetailSerializer, 401: PROBLEM, 403: PROBLEM, 404: PROBLEM, 409: PROBLEM},
    )
    def post(self, request: Request, job_id: str) -> Response:
        """Cancel a job."""
        if unknown := list(request.data):
            raise BadRequest(unknown[0][:80], None, "is not known here: cancelling takes no fields")
        job = lifecycle.cancel(job_id=visible_job(request, job_id).pk, by="client")
        return Response(JobDetailSerializer(job, context={"request": request}).data)


class JobReceipts(Door):
    """All receipts of a job: those that carry its id, by `seq`, then the public ones about it."""

    @described(
        operation_id="job_receipts",
        tags=["evidence"],
        responses={200: ReceiptSerializer(many=True), 401: PROBLEM, 404: PROBLEM},
    )
    def get(self, request: Request, job_id: str) -> Response:
        """List a job's receipts, in one answer."""
        receipts = receipts_of(visible_job(request, job_id))
        leaves = leaf_indices([receipt.pk for receipt in receipts])
        return Response([shown_receipt(receipt, leaves.get(receipt.pk)) for receipt in receipts])


class JobTally(Door):
    """The tally: one file with all the evidence of a job, to be checked offline by `tallystick verify`."""

    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AsItIs

    @described(
        operation_id="job_tally",
        tags=["evidence"],
        parameters=[
            OpenApiParameter("disclose", OpenApiTypes.STR, many=True, description="inputs to show in it, by name"),
            OpenApiParameter("incomplete", OpenApiTypes.BOOL, description="true: what evidence there is so far"),
        ],
        responses={(200, "application/json"): OpenApiTypes.OBJECT, **dict.fromkeys((401, 403, 404, 409, 422), PROBLEM)},
    )
    def get(self, request: Request, job_id: str) -> HttpResponseBase:
        """Take the tally away."""
        job = visible_job(request, job_id)
        disclose = request.query_params.getlist("disclose")
        if disclose and access_of(request).tenant_id != job.tenant_id:
            raise PermissionDenied("Only its owner shows what was asked.")
        complete = request.query_params.get("incomplete") != "true"
        if complete:
            require_all_evidence(job)
        try:
            tally = build_tally(job, disclose=disclose, anchored=complete and bool(settings.CHAIN_RPC_URL))
        except NotYet as problem:
            if not complete:
                raise
            raise NotYet(f"{problem.reason}; {SO_FAR}") from None
        return private_file(HttpResponse(tally, content_type="application/json"), f"{job_id}.tally.json")


class JobArtifact(Door):
    """The signed output of a job, with its Content Credentials inside."""

    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AsItIs

    @described(
        operation_id="job_artifact",
        tags=["evidence"],
        parameters=[OpenApiParameter("name", OpenApiTypes.STR, description="which one, where a job made several")],
        responses={(200, "image/png"): OpenApiTypes.BINARY, 401: PROBLEM, 404: PROBLEM, 409: PROBLEM},
    )
    def get(self, request: Request, job_id: str) -> HttpResponseBase:
        """Take the signed file away."""
        artifact = signed_artifact(visible_job(request, job_id), request.query_params.get("name"))
        etag = f'"{artifact.blob_id}"'
        if (same := get_conditional_response(request._request, etag=etag)) is not None:
            return same
        try:
            blob = house_store().open_blob(artifact.blob_id)
        except BlobMissing:
            if erasure := erasure_of_file(artifact.blob_id):
                raise BytesErased(erasure) from None
            raise
        response = FileResponse(blob, content_type=artifact.blob.mime)
        response["ETag"] = etag
        # It comes from a model and may be any kind of file: a browser keeps it and runs nothing in it.
        response["Content-Security-Policy"] = "sandbox; default-src 'none'"
        return private_file(response, f"{job_id}-{artifact.name}")


class Providers(Door):
    """Who serves, at which price, and how it has fared."""

    @described(
        operation_id="providers_list",
        tags=["providers"],
        responses={200: ProviderSerializer(many=True), 401: PROBLEM},
        filters=True,
    )
    def get(self, request: Request) -> Response:
        """List the providers."""
        self.paginator = BySlug()
        rows = self.paginator.paginate_queryset(Provider.objects.all(), request, self)
        return self.paginator.get_paginated_response(ProviderSerializer(rows, many=True).data)


class HealthCheck(Door):
    """How the engines are: database, broker, chain, and the log's lag."""

    permission_classes = (AllowAny,)
    authentication_classes = ()
    throttle_classes = ()  # it asks the cache, which may be what is dead; answers are kept for a second instead

    @described(
        operation_id="health",
        tags=["house"],
        auth=[],
        responses={(code, "application/json"): OpenApiTypes.OBJECT for code in (200, 503)},
    )
    def get(self, request: Request) -> Response:
        """Ask all engines, within two seconds."""
        answers = health.ask()
        well = all(answer["ok"] for answer in answers.values())
        return Response(
            {"status": "ok" if well else "degraded", "checks": answers},
            status=status.HTTP_200_OK if well else status.HTTP_503_SERVICE_UNAVAILABLE,
            headers={"Cache-Control": "no-store"} | ({} if well else {"Retry-After": "5"}),
        )

    def get_view_name(self) -> str:
        """Name the page."""
        return "Health"


# --- what is asked for ------------------------------------------------------------------------------


def asked_jobs(request: Request) -> JobQuerySet:
    """Read which jobs a list is to show. Raises: BadRequest, for a filter that doesn't exist."""
    jobs = visible_jobs(request)
    choices = {"state": JobState.values, "kind": Kind.values}
    for name, value in request.query_params.items():
        if name in choices:
            if value not in choices[name]:
                raise BadRequest(name, value, f"must be one of {', '.join(choices[name])}")
            jobs = jobs.filter(**{name: value})
        elif name not in ("limit", "cursor", "format"):
            raise BadRequest(name[:80], value, "is no filter here; use state, kind, limit or cursor")
    return jobs


def receipts_of(job: Job) -> list[Receipt]:
    """Collect a job's own receipts by their place in its chain, then the public ones about it."""
    own = list(Receipt.objects.filter(subject=job.pk, tenant_id=job.tenant_id).order_by("seq"))
    usage = Usage.objects.select_related("attested_receipt", "minted_receipt").filter(subject=job.pk).first()
    public = [usage.attested_receipt, usage.minted_receipt] if usage else []
    return own + [receipt for receipt in public if receipt is not None]


def shown_receipt(receipt: Receipt, leaf: int | None) -> dict[str, Any]:
    """Show a receipt: its bytes as text, and what a reader looks for first."""
    text = bytes(receipt.body).decode()
    body = json.loads(text)
    return {
        "nid": receipt.nid,
        "eventType": body["eventType"],
        "jobId": body.get("jobId"),
        "seq": body["seq"],
        "prev": body.get("prev"),
        "leaf": leaf,
        "receipt": body,
        "bytes": text,
    }


def signed_artifact(job: Job, name: str | None) -> Artifact:
    """Find a job's signed file. Raises: NotYet, while it may still come; Http404, when it never will."""
    signed = Artifact.objects.select_related("blob").filter(
        tenant_id=job.tenant_id, subject=job.pk, role=Artifact.Role.SIGNED
    )
    artifact = signed.first() if name is None else signed.filter(name=name).first()
    if artifact is not None:
        return artifact
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        raise Http404(f"Job {job.pk} is {job.state}: it has no output.")
    if signed.exists():
        raise Http404(f"Job {job.pk} has no signed file of this name.")
    raise NotYet(f"Job {job.pk} is {job.state}; its signed output will be here once its credential is issued.")


def require_all_evidence(job: Job) -> None:
    """Insist that nothing more is to come. Raises: NotYet."""
    if not job.finished:
        raise NotYet(f"Job {job.pk} is {job.state}; its tally is complete once it is over; {SO_FAR}")
    if job.state == JobState.COMPLETED and job.evidence != EvidenceState.COMPLETE:
        raise NotYet(f"Job {job.pk} is completed; its evidence waits for: {job.evidence}; {SO_FAR}")


def private_file(response: HttpResponseBase, filename: str) -> HttpResponseBase:
    """Send a file to keep: its owner's alone, whatever caches lie between."""
    response["Content-Disposition"] = content_disposition_header(True, filename) or "attachment"
    response["Cache-Control"] = "private, no-cache"
    response["X-Content-Type-Options"] = "nosniff"
    response["Vary"] = "Authorization, Cookie"
    return response
