"""Describe the API, and tell OpenAPI what it can't see for itself. Imported when somebody asks for the description."""

from collections.abc import Sequence
from threading import Lock
from typing import Any, Final

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from receipts.api.description import take_told

_telling: Final = Lock()  # a second request waits until the views are told, or it would describe half of them

openapi = SpectacularAPIView.as_view(renderer_classes=[OpenApiJsonRenderer])
# Its script comes from an address of its own, so that the page needs no script in it.
page = SpectacularSwaggerSplitView.as_view(url_name="openapi")


def documented(endpoints: Sequence[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Tell the views, and keep one spelling of each address: that with a trailing slash works too."""
    with _telling:
        for method, words in take_told():
            extend_schema(**words)(method)
    return [endpoint for endpoint in endpoints if not endpoint[0].endswith("/")]


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # drf-spectacular is untyped
    """`Authorization: Bearer <key>` as OpenAPI says it."""

    target_class = "jobs.api.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Describe the header."""
        return {"type": "http", "scheme": "bearer", "description": "An API key, ts_…, shown once when it was made."}


class ConsoleSessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # as above
    """The console's session cookie as OpenAPI says it."""

    target_class = "jobs.api.authentication.ConsoleSession"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Describe the cookie."""
        return {"type": "apiKey", "in": "cookie", "name": "sessionid", "description": "For people in a browser."}
