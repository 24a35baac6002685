"""Show evidence in the console: read-only, found by exact keys, paged by key, never counted in full.

The admin classes of every app build on these. Who may come in at all is the site's decision
(`config.admin_site`); here everyone who is in may read, people of one tenant only what is that tenant's.
"""

import datetime as dt
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList as DjangoChangeList
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import connection, models
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin, TabularInline

    Admin = ModelAdmin[Any]
    Inline = TabularInline[Any, Any]
    ChangeList = DjangoChangeList
else:
    from unfold.admin import ModelAdmin as Admin
    from unfold.admin import TabularInline as Inline
    from unfold.views import ChangeList

AFTER: Final = "after"
BEFORE: Final = "before"
PAGE: Final = 50
_JOINT: Final = "~"

NID: Final = re.compile(r"bafkrei[a-z2-7]{52}")
HASH32: Final = re.compile(r"0x[0-9a-f]{64}")
SHA256: Final = re.compile(r"[0-9a-f]{64}")
ADDRESS: Final = re.compile(r"0x[0-9a-f]{40}")
JOB_ID: Final = re.compile(r"job_[0-9a-hjkmnp-tv-z]{26}")


def tenant_of(request: HttpRequest) -> str | None:
    """Name the tenant that a person is confined to; None for the people of the house."""
    tenant_id: str | None = getattr(request.user, "tenant_id", None)
    return tenant_id


def estimated_rows(model: type[models.Model]) -> int:
    """Guess a table's size from the planner's statistics: a full count would read it all."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [model._meta.db_table])
        return max(0, int(cursor.fetchone()[0]))


class KeysetChangeList(ChangeList):
    """A list whose deep pages cost what the first one does: they go on from a key instead of skipping rows.

    The admin class names the keys, newest first, as `keyset`.
    """

    has_older = False
    has_newer = False
    older_url = newer_url = newest_url = ""
    estimate: int | None = None

    def get_filters_params(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        found = super().get_filters_params(params)
        return {name: value for name, value in found.items() if name not in (AFTER, BEFORE)}

    def get_query_string(
        self, new_params: dict[str, Any] | None = None, remove: Iterable[str] | None = None
    ) -> str:  # another filter starts on its own first page
        return super().get_query_string(new_params, [*(remove or []), AFTER, BEFORE])

    def get_results(self, request: HttpRequest) -> None:
        """Read one page and the row behind it, which says whether another page follows."""
        size = self.list_per_page
        console = self.model_admin
        assert isinstance(console, EvidenceAdmin)
        keys = console.keyset
        rows = self.queryset.order_by(*(f"-{key}" for key in keys))
        after, before = request.GET.get(AFTER), request.GET.get(BEFORE)
        if before:
            found = list(rows.filter(self._beyond(keys, before, "gt")).reverse()[: size + 1])
            self.has_newer, self.has_older = len(found) > size, True
            page = found[:size][::-1]
        else:
            found = list((rows.filter(self._beyond(keys, after, "lt")) if after else rows)[: size + 1])
            self.has_newer, self.has_older = bool(after), len(found) > size
            page = found[:size]
        console.attach(page)
        self.result_list = page
        self.result_count = len(page)
        self.full_result_count = self.result_count  # else the heading would tell of a page as of all
        self.show_full_result_count = False
        self.show_admin_actions = bool(page)
        self.can_show_all = self.multi_page = False
        self.paginator = console.paginator(page, max(1, size))
        self._link(keys, page)
        if not self.get_filters_params() and not self.query and not tenant_of(request):
            self.estimate = estimated_rows(self.model)

    def _beyond(self, keys: tuple[str, ...], cursor: str, side: str) -> Q:
        """Say "past this row" so that the index on the first key is used; later keys break ties."""
        parts = cursor.split(_JOINT)
        if len(parts) != len(keys):
            raise IncorrectLookupParameters(cursor)
        try:
            values = [_field(self.model, key).to_python(part) for key, part in zip(keys, parts, strict=True)]
        except ValidationError as error:
            raise IncorrectLookupParameters(error) from error
        past, same = Q(pk__in=[]), Q()
        for key, value in zip(keys, values, strict=True):
            past |= same & Q(**{f"{key}__{side}": value})
            same &= Q(**{key: value})
        return Q(**{f"{keys[0]}__{side}e": values[0]}) & past

    def _link(self, keys: tuple[str, ...], page: list[Any]) -> None:
        self.newest_url = self.get_query_string()
        if page:
            self.older_url = super().get_query_string({AFTER: _cursor(page[-1], keys)}, [BEFORE])
            self.newer_url = super().get_query_string({BEFORE: _cursor(page[0], keys)}, [AFTER])


def _field(model: type[models.Model], name: str) -> "models.Field[Any, Any]":
    field = model._meta.get_field(name)
    assert isinstance(field, models.Field)
    return field


def _cursor(row: Any, keys: tuple[str, ...]) -> str:
    values = (getattr(row, key) for key in keys)
    return _JOINT.join(value.isoformat() if isinstance(value, dt.datetime) else str(value) for value in values)


class EvidenceAdmin(Admin):
    """A read-only view of rows that nobody may add, change or delete, whoever they are."""

    keyset: ClassVar[tuple[str, ...]] = ("pk",)
    tenant_path: ClassVar[str | None] = "tenant"
    public: ClassVar[Q | None] = None  # rows that everyone in the console may read, whosever they are
    page_template: ClassVar[str] = ""  # a page of its own instead of Django's form

    actions: Any = None
    list_per_page = PAGE
    show_full_result_count = False
    sortable_by: ClassVar[Any] = ()
    list_filter_sheet = True
    list_fullwidth = True
    change_list_template = "console/list.html"
    show_add_link = False

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.admin_site.has_permission(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.admin_site.has_permission(request)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return KeysetChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        tenant_id = tenant_of(request)
        if tenant_id is None or self.tenant_path is None:
            return rows
        mine = Q(**{self.tenant_path: tenant_id})
        return rows.filter(mine | self.public if self.public is not None else mine)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip().lstrip("=").strip()
        return (self.find(queryset, term) if term else queryset), False

    def find(self, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Find rows by a whole key, so that an index answers; anything else finds nothing."""
        return rows.none()

    def attach(self, rows: list[Any]) -> None:
        """Give a page of rows what its columns show, in a constant number of queries."""

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.page_template:
            return super().change_view(request, object_id, form_url, extra_context)
        row = self.readable(request, object_id)
        return self.page(request, row, self.page_template, self.page_context(request, row) | (extra_context or {}))

    def readable(self, request: HttpRequest, object_id: str) -> Any:
        """Get a row that this person may read. Raises: PermissionDenied, Http404."""
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404(f"no {self.opts.verbose_name} {object_id[:80]}")
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        return row

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Collect what the row's own page shows."""
        return {}

    def page(self, request: HttpRequest, row: Any, template: str, context: dict[str, Any]) -> TemplateResponse:
        """Render a page of the console about one row."""
        request.current_app = self.admin_site.name
        full = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": row,
            "title": str(row),
            "has_view_permission": True,
            "media": self.media,
            **context,
        }
        return TemplateResponse(request, template, full)


class EvidenceInline(Inline):
    """Rows that belong to another row's page, as read-only as it is."""

    extra = 0
    can_delete = False
    show_change_link = False

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True
