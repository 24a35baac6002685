"""Keep what OpenAPI is to be told of a view beside the view, until somebody asks for the description.

drf-spectacular's own decorator loads the whole generator, and a test client with it, wherever a view is imported.
`jobs.api.schema` hands it what is kept here, when the description is made.
"""

from collections.abc import Callable
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])
_told: dict[Callable[..., Any], dict[str, Any]] = {}


def described(**words: Any) -> Callable[[Method], Method]:
    """Keep the words of `drf_spectacular.utils.extend_schema` for a view's method."""

    def keep(method: Method) -> Method:
        _told[method] = words
        return method

    return keep


def take_told() -> list[tuple[Callable[..., Any], dict[str, Any]]]:
    """Hand over what was kept since it was last asked for, each once."""
    told = list(_told.items())
    _told.clear()
    return told
