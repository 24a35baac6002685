"""Jobs, their attempts and who serves them, in the console; and the people and programs that come in.

Evidence is read-only for everyone. What operators may change is three things: people, whether an API key
still opens the door, whether a provider is offered work. Each change is one deed of `jobs.desk`.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseNotModified
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from jobs import desk
from jobs.errors import NotYet
from jobs.market.liveness import Liveness, liveness_of
from jobs.models import ApiKey, Attempt, Job, Provider, User
from jobs.models.work import JobQuerySet
from jobs.states import EvidenceState, JobState
from jobs.tally import build_tally
from minting.models import Usage
from provenance.errors import BlobMissing
from provenance.models import Artifact, Credential
from provenance.store import house_store
from receipts.console import (
    HASH32,
    JOB_ID,
    NID,
    SHA256,
    EvidenceAdmin,
    KeysetChangeList,
)
from receipts.models import NumbersOrder, Receipt, TransactionHash
from receipts.pages import job_page
from receipts.templatetags.console import ago, badge, copyable, moment, pretty, span, tokens

if TYPE_CHECKING:
    from django.contrib.auth.admin import UserAdmin
    from django.contrib.auth.forms import AdminPasswordChangeForm, AdminUserCreationForm, UserChangeForm

    UserCreationForm = AdminUserCreationForm[User]
    PeopleAdmin = UserAdmin[User]
else:
    from django.contrib.auth.admin import UserAdmin
    from unfold.admin import ModelAdmin
    from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

    class PeopleAdmin(UserAdmin, ModelAdmin):
        """Django's page for people, in the console's clothes."""


DUE_AT_MOST: Final = 5_000


class JobChangeList(KeysetChangeList):
    """The job list, with its questions as one row of links."""

    @property
    def question_choices(self) -> list[Any]:
        for spec in self.filter_specs:
            if isinstance(spec, ByQuestion):
                return list(spec.choices(self))
        return []


class ByQuestion(admin.SimpleListFilter):
    """What an operator or auditor asks of the list."""

    title = "question"
    parameter_name = "q_job"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("unfinished", "Unfinished"),
            ("waiting", "Waiting for a provider"),
            ("lacking", "Lacking evidence"),
            ("unminted", "Completed but not minted"),
            ("failed", "Failed"),
            ("unsigned", "Not signed by their client"),
            ("simulated", "Simulated"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        assert isinstance(queryset, JobQuerySet)
        match self.value():
            case "unfinished":
                return queryset.unfinished()
            case "waiting":
                return queryset.filter(state=JobState.SUBMITTED)
            case "lacking":
                return queryset.filter(pk__in=_due_first())
            case "unminted":
                return queryset.filter(pk__in=_due_first(), state=JobState.COMPLETED)
            case "failed":
                return queryset.filter(state=JobState.FAILED)
            case "unsigned":
                return queryset.filter(client_key="")
            case "simulated":
                return queryset.filter(origin="simulated")
        return queryset


def _due_first() -> QuerySet[Job, Any]:
    """The jobs that lack evidence, read by their own small index; without the limit the planner walks all jobs."""
    return Job.objects.lacking_evidence().order_by("evidence_due_at").values("pk")[:DUE_AT_MOST]


@admin.register(Job)
class JobAdmin(EvidenceAdmin):
    """The job list and one job's page: its story from request to mint, each entry with its verdict."""

    keyset = ("created_at", "job_id")
    page_template = "console/job.html"
    questions = True
    list_display = ("job", "kind_of", "standing", "served_by", "evidence_state", "submitted", "took", "paid")
    list_display_links = None
    list_filter = (
        ByQuestion,
        ("state", admin.ChoicesFieldListFilter),
        ("evidence", admin.ChoicesFieldListFilter),
        ("kind", admin.ChoicesFieldListFilter),
    )
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("job_id",)
    search_help_text = "A whole job id, NID, digest or transaction hash"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return JobChangeList

    def find(self, rows: QuerySet[Job], term: str) -> QuerySet[Job]:
        """Find jobs by anything that names one: its id, the NID of a receipt, a digest, a hash on the chain."""
        if JOB_ID.fullmatch(term):
            return rows.filter(pk=term)
        if NID.fullmatch(term):
            return rows.filter(pk__in=Receipt.objects.filter(nid=term).values("subject"))
        if HASH32.fullmatch(term):
            sent = TransactionHash.objects.filter(hash=term).values("transaction_id")
            return rows.filter(
                pk__in=Usage.objects.filter(Q(receipt_hash=term) | Q(transaction__in=sent)).values("subject")
            )
        if SHA256.fullmatch(term):
            named = Artifact.objects.filter(blob=term).values("subject")
            signed = Credential.objects.filter(Q(unsigned_sha256=term) | Q(signed=term)).values("subject")
            return rows.filter(Q(pk__in=named) | Q(pk__in=signed))
        return rows.filter(idempotency_key=term)

    def attach(self, rows: list[Job]) -> None:
        ids = [row.pk for row in rows]
        served = {
            attempt.job_id: attempt
            for attempt in Attempt.objects.filter(job__in=ids).select_related("provider").order_by("id")
        }
        used = {usage.subject: usage for usage in Usage.objects.filter(subject__in=ids)}
        for row in rows:
            row.served = served.get(row.pk)  # type: ignore[attr-defined]
            row.used = used.get(row.pk)  # type: ignore[attr-defined]

    @admin.display(description="Job")
    def job(self, row: Job) -> SafeString:
        return copyable(row.job_id, job_page(row.pk), what="job id")

    @admin.display(description="Kind")
    def kind_of(self, row: Job) -> SafeString | str:
        if row.origin == "hosted":
            return row.get_kind_display()
        return format_html("{} {}", row.get_kind_display(), badge(row.origin))

    @admin.display(description="State")
    def standing(self, row: Job) -> SafeString:
        if row.state == JobState.RUNNING and row.steps:
            return badge(row.state, f"running {row.step}/{row.steps}")
        return badge(row.state)

    @admin.display(description="Provider", empty_value="–")
    def served_by(self, row: Job) -> str | None:
        served: Attempt | None = row.served  # type: ignore[attr-defined]
        return served.provider.name if served else None

    @admin.display(description="Evidence")
    def evidence_state(self, row: Job) -> SafeString | str:
        if row.evidence == EvidenceState.NONE:
            return "–"
        return badge(row.evidence, "complete" if row.evidence == EvidenceState.COMPLETE else f"{row.evidence} due")

    @admin.display(description="Submitted")
    def submitted(self, row: Job) -> SafeString:
        return moment(row.created_at)

    @admin.display(description="Duration")
    def took(self, row: Job) -> SafeString | str:
        return span(row.finished_at - row.started_at if row.started_at and row.finished_at else None)

    @admin.display(description="Amount")
    def paid(self, row: Job) -> SafeString:
        used: Usage | None = row.used  # type: ignore[attr-defined]
        return tokens(used.amount if used else None)

    # --- one job's page --------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        site = self.admin_site
        return [
            path("<str:object_id>/now/", site.admin_view(self.now_view), name="jobs_job_now"),
            path("<str:object_id>/tally/", site.admin_view(self.tally_view), name="jobs_job_tally"),
            path(
                "<str:object_id>/artifact/<int:artifact_id>/",
                site.admin_view(self.artifact_view),
                name="jobs_job_artifact",
            ),
            *super().get_urls(),
        ]

    def now_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Give the page's content anew, or 204 where it still shows how the job stands."""
        from jobs.job_page import version_of

        job = self.readable(request, object_id)
        if request.GET.get("seen") == version_of(job):
            return HttpResponse(status=204)
        return TemplateResponse(request, "console/job_now.html", self._told(job))

    def page_context(self, request: HttpRequest, row: Job) -> dict[str, Any]:
        return self._told(row)

    def _told(self, job: Job) -> dict[str, Any]:
        from jobs.job_page import JobPage, version_of  # here: it brings the whole verifier, which no other page needs

        # The version comes first: what changes while the page is made is asked for again.
        told = {"version": version_of(job), "page": JobPage(job), "job": job, "title": job.job_id}
        return told | {"numbers": NumbersOrder.objects.filter(subject=job.job_id).order_by("id")}

    def artifact_view(self, request: HttpRequest, object_id: str, artifact_id: int) -> HttpResponse | FileResponse:
        """Serve one artifact of a job that this person may read: pictures inline, everything else as a download."""
        from jobs.job_page import INLINE

        job = self.readable(request, object_id)
        artifact = (
            Artifact.objects.filter(pk=artifact_id, tenant_id=job.tenant_id, subject=job.job_id)
            .select_related("blob")
            .first()
        )
        if artifact is None:
            raise Http404("no such artifact of this job")
        etag = f'"{artifact.blob_id}"'
        if request.headers.get("If-None-Match") == etag:
            return HttpResponseNotModified()
        try:
            stream = house_store().open_blob(artifact.blob_id)
        except BlobMissing as error:
            raise Http404(str(error)) from None
        inline = artifact.blob.mime in INLINE and "download" not in request.GET
        response = FileResponse(
            stream,
            as_attachment=not inline,
            filename=artifact.name,
            content_type=artifact.blob.mime if artifact.blob.mime in INLINE else "application/octet-stream",
        )
        response["ETag"] = etag
        response["Cache-Control"] = "private, max-age=0"
        # Bytes from outside: whatever they are, they may do nothing here.
        response["Content-Security-Policy"] = "default-src 'none'; sandbox"
        return response

    def tally_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Give the tally as a download, or say what it waits for."""
        job = self.readable(request, object_id)
        try:
            tally = build_tally(job)
        except NotYet as error:
            self.message_user(request, f"No tally yet: {error.reason}.", messages.WARNING)
            return redirect(job_page(job.pk))
        response = HttpResponse(tally, content_type="application/json")
        response["Content-Disposition"] = f'attachment; filename="{job.job_id}.tally.json"'
        return response


@admin.register(Attempt)
class AttemptAdmin(EvidenceAdmin):
    """Every try of every job."""

    keyset = ("id",)
    tenant_path: ClassVar[str | None] = "job__tenant"
    list_display = ("fencing_number", "job_id_", "number", "standing", "provider", "worker", "leased", "took")
    list_display_links = ("fencing_number",)
    list_select_related = ("provider", "job")
    list_filter = (("state", admin.ChoicesFieldListFilter),)
    search_fields = ("job",)
    search_help_text = "A whole job id"
    fields = (
        "fencing_number", "job_id_", "number", "standing", "provider", "worker", "charged", "leased", "started",
        "heartbeat", "finished", "said",
    )  # fmt: skip
    readonly_fields = fields

    def find(self, rows: QuerySet[Attempt], term: str) -> QuerySet[Attempt]:
        return rows.filter(job_id=term)

    @admin.display(description="Fencing number")
    def fencing_number(self, row: Attempt) -> int:
        return row.fencing

    @admin.display(description="Job")
    def job_id_(self, row: Attempt) -> SafeString:
        return copyable(row.job_id, job_page(row.job_id), what="job id")

    @admin.display(description="State")
    def standing(self, row: Attempt) -> SafeString:
        return badge(row.state)

    @admin.display(description="Leased")
    def leased(self, row: Attempt) -> SafeString:
        return moment(row.leased_at)

    @admin.display(description="Price")
    def charged(self, row: Attempt) -> SafeString:
        return format_html("{} a {}", tokens(row.price), row.unit_type)

    @admin.display(description="Started")
    def started(self, row: Attempt) -> SafeString:
        return moment(row.started_at)

    @admin.display(description="Last heartbeat")
    def heartbeat(self, row: Attempt) -> SafeString:
        return moment(row.heartbeat_at)

    @admin.display(description="Finished")
    def finished(self, row: Attempt) -> SafeString:
        return moment(row.finished_at)

    @admin.display(description="What the provider signed", empty_value="nothing yet")
    def said(self, row: Attempt) -> SafeString | None:
        """Show the claims as they were signed, with their signatures behind them."""
        if not row.completion:
            return None
        return format_html_join(
            "",
            '<p>{}</p><pre class="ts-raw">{}</pre>',
            ((name, _as_text(told)) for name, told in row.completion.items()),
        )

    @admin.display(description="Ran for")
    def took(self, row: Attempt) -> SafeString | str:
        return span(row.finished_at - row.started_at if row.started_at and row.finished_at else None)


def _as_text(told: Any) -> str:
    return told if isinstance(told, str) else pretty(told)


# --- what operators may change -------------------------------------------------------------------


def is_operator(request: HttpRequest) -> bool:
    """Whether this person runs the house: an operator who belongs to no tenant."""
    user = request.user
    return (
        isinstance(user, User)
        and user.is_active
        and (user.is_superuser or (user.role == User.Role.OPERATOR and user.tenant_id is None))
    )


def _operator(request: HttpRequest) -> User:
    if not is_operator(request):
        raise PermissionDenied
    assert isinstance(request.user, User)
    return request.user


@admin.register(Provider)
class ProviderAdmin(EvidenceAdmin):
    """Who serves GPU time; operators may stop offering them work."""

    keyset = ("id",)
    list_display = ("name", "live", "serves", "charges", "record", "active", "seen")
    list_filter = (("active", admin.BooleanFieldListFilter), ("unit_type", admin.ChoicesFieldListFilter))
    search_fields = ("slug",)
    search_help_text = "A whole slug or key id"
    actions: Any = ("pause", "resume")
    fields = (
        "name", "slug", "tenant", "key", "payout_to", "serves", "charges", "capacity", "active", "live", "seen",
        "record", "registered",
    )  # fmt: skip
    readonly_fields = fields

    def attach(self, rows: list[Provider]) -> None:
        liveness = liveness_of(rows)
        for row in rows:
            row.liveness = liveness[row.pk]  # type: ignore[attr-defined]

    def find(self, rows: QuerySet[Provider], term: str) -> QuerySet[Provider]:
        return rows.filter(Q(slug=term) | Q(key_id=term))

    def has_steer_permission(self, request: HttpRequest) -> bool:
        return is_operator(request)

    @admin.action(description="Offer no more work to the chosen providers", permissions=["steer"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        self._set(request, queryset, active=False)

    @admin.action(description="Offer work to the chosen providers again", permissions=["steer"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        self._set(request, queryset, active=True)

    def _set(self, request: HttpRequest, queryset: QuerySet[Provider], *, active: bool) -> None:
        chosen = Provider.objects.filter(pk__in=queryset.values("pk"))
        changed = desk.set_providers_active(providers=chosen, active=active, by=_operator(request))
        told = "Work is offered again to" if active else "No more work is offered to"
        self.message_user(request, f"{told} {changed} provider{'' if changed == 1 else 's'}.", messages.SUCCESS)

    @admin.display(description="Live")
    def live(self, row: Provider) -> SafeString:
        found: Liveness = getattr(row, "liveness", None) or liveness_of([row])[row.pk]
        return badge(found.tone, found.word)

    @admin.display(description="Serves")
    def serves(self, row: Provider) -> str:
        return ", ".join(row.kinds)

    @admin.display(description="Price")
    def charges(self, row: Provider) -> SafeString:
        return format_html("{} a {}", tokens(row.price), row.get_unit_type_display()[:-1])

    @admin.display(description="Succeeded / failed")
    def record(self, row: Provider) -> str:
        return f"{row.successes:,} / {row.failures:,}"

    @admin.display(description="Last seen")
    def seen(self, row: Provider) -> SafeString:
        return ago(row.last_seen)

    @admin.display(description="Key id")
    def key(self, row: Provider) -> SafeString:
        return copyable(row.key_id, whole=True, what="key id")

    @admin.display(description="Paid to")
    def payout_to(self, row: Provider) -> SafeString:
        return copyable(row.payout, whole=True, what="address")

    @admin.display(description="Registered")
    def registered(self, row: Provider) -> SafeString:
        return moment(row.registered_at)


@admin.register(ApiKey)
class ApiKeyAdmin(EvidenceAdmin):
    """API keys by their prefixes; a revoked key never opens the door again."""

    keyset = ("id",)
    list_display = ("prefix", "tenant", "label", "created", "standing")
    list_select_related = ("tenant",)
    search_fields = ("prefix",)
    search_help_text = "A whole prefix"
    actions: Any = ("revoke",)
    fields = ("prefix", "tenant", "label", "created", "standing")
    readonly_fields = fields

    def find(self, rows: QuerySet[ApiKey], term: str) -> QuerySet[ApiKey]:
        return rows.filter(prefix=term[:11])

    def has_steer_permission(self, request: HttpRequest) -> bool:
        return is_operator(request)

    @admin.action(description="Revoke the chosen keys for good", permissions=["steer"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        chosen = ApiKey.objects.filter(pk__in=queryset.values("pk"))
        revoked = desk.revoke_api_keys(keys=chosen, by=_operator(request))
        self.message_user(request, f"{revoked} key{'' if revoked == 1 else 's'} revoked.", messages.SUCCESS)

    @admin.display(description="Made")
    def created(self, row: ApiKey) -> SafeString:
        return moment(row.created_at)

    @admin.display(description="State")
    def standing(self, row: ApiKey) -> SafeString:
        if row.revoked_at is None:
            return badge("completed", "open")
        return format_html("{} {}", badge("cancelled", "revoked"), ago(row.revoked_at))


@admin.register(User)
class PersonAdmin(PeopleAdmin):
    """The people who come into the console, and their roles."""

    add_form = UserCreationForm
    form: Any = UserChangeForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "role_word", "tenant", "is_active", "seen")
    list_filter = (("role", admin.ChoicesFieldListFilter), ("is_active", admin.BooleanFieldListFilter))
    list_select_related = ("tenant",)
    ordering = ("username",)
    search_fields = ("username__exact",)
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Who it is", {"fields": ("first_name", "last_name", "email")}),
        ("What they may", {"fields": ("role", "tenant", "is_active")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "usable_password", "password1", "password2", "role", "tenant")}),)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_operator(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return is_operator(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Who is above the roles is changed on the host, not here.
        return is_operator(request) and (obj is None or not obj.is_superuser or obj == request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # people are made inactive: what they did keeps its author

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        desk.save_person(person=obj, by=_operator(request), changed=form.changed_data if change else ())

    @admin.display(description="Role")
    def role_word(self, row: User) -> SafeString:
        return badge("running" if row.role == User.Role.OPERATOR else "idle", row.role)

    @admin.display(description="Last seen")
    def seen(self, row: User) -> SafeString:
        return ago(row.last_login)


admin.site.unregister(Group)  # roles are words of ours, not groups of permissions
