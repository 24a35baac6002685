"""Tell OpenAPI what it can't see for itself. Imported when the description is made, by the hook in the settings."""

from collections.abc import Sequence
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension


def documented(endpoints: Sequence[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Keep one spelling of each address: those with a trailing slash work too, and are not told twice."""
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
