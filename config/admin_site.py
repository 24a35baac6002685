"""The console: who may come in, what it looks like, and what it shows at nine in the morning."""

from typing import TYPE_CHECKING, Any

from csp.constants import SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.decorators import csp_replace
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite
    from django.contrib.admin.forms import AdminAuthenticationForm
else:
    from unfold.forms import AuthenticationForm as AdminAuthenticationForm
    from unfold.sites import UnfoldAdminSite as AdminSite

# The console's components (Alpine) evaluate their expressions in the browser: without this no button works. No other
# page of the house allows it.
_loosened = csp_replace({"script-src": [SELF, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE]})


def may_enter(user: Any) -> bool:
    """Auditors and operators come in, and whoever is above the roles; clients have the API."""
    from jobs.models import User

    if not isinstance(user, User) or not user.is_active:
        return False
    return user.is_superuser or user.role in (User.Role.AUDITOR, User.Role.OPERATOR)


class ConsoleLogin(AdminAuthenticationForm):
    """Let in by role."""

    def confirm_login_allowed(self, user: Any) -> None:
        if not may_enter(user):
            raise ValidationError(
                self.error_messages["invalid_login"],
                code="invalid_login",
                params={"username": self.username_field.verbose_name},
            )


class TallystickAdminSite(AdminSite):
    """The auditor's and operator's console."""

    login_form = ConsoleLogin
    index_title = "This morning"
    enable_nav_sidebar = True

    def has_permission(self, request: HttpRequest) -> bool:
        return may_enter(request.user)

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        return _loosened(super().admin_view(view, cacheable))

    @method_decorator(_loosened)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().login(request, extra_context)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        from config.dashboard import morning

        told = {"morning": morning(request), **(extra_context or {})}
        return super().index(request, told)

    def get_sidebar_list(self, request: HttpRequest) -> list[dict[str, Any]]:
        """Leave out what this person has no business with, so that nobody runs into a refusal."""
        from jobs.admin import is_operator

        groups: list[dict[str, Any]] = super().get_sidebar_list(request)  # type: ignore[misc]
        for group in groups:
            group["items"] = [item for item in group["items"] if not item.get("operators") or is_operator(request)]
        return groups
