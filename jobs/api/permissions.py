"""Decide on objects: what a caller can't see isn't there for it, and who only reads changes nothing."""

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from jobs.models import Job
from jobs.models.work import JobQuerySet
from receipts.api.access import access_of


class MayChange(BasePermission):
    """Reading is for all who see; changing for API keys and for people of a tenant."""

    message = "Auditors and operators read here; they change nothing."

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Let reads through, and changes by those who may."""
        return request.method in SAFE_METHODS or access_of(request).may_change


def tenant_of(request: Request) -> str:
    """Give the tenant that a change is made for; `MayChange` has seen to it that there is one."""
    tenant_id = access_of(request).tenant_id
    if tenant_id is None:
        raise PermissionDenied(MayChange.message)
    return tenant_id


def visible_jobs(request: Request) -> JobQuerySet:
    """Give the jobs that this caller sees."""
    access = access_of(request)
    jobs = Job.objects.all()
    return jobs if access.reads_all else jobs.of(access.tenant_id or "")


def visible_job(request: Request, job_id: str) -> Job:
    """Find one job. Raises: Http404, for another tenant's as for none: what is hidden doesn't exist."""
    job = visible_jobs(request).filter(pk=job_id).first()
    if job is None:
        raise Http404(f"There is no job {job_id} here.")
    return job
