"""Give bytes as they are, whatever form a caller says it would like."""

from collections.abc import Sequence
from typing import Any

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class AsItIs(BaseContentNegotiation):
    """Ignore `Accept`: a receipt, a tally and a picture have one form each; only errors are rendered."""

    def select_parser(self, request: Request, parsers: Sequence[Any]) -> Any:
        """Take the first parser: these addresses read no body."""
        return parsers[0]

    def select_renderer(
        self, request: Request, renderers: Sequence[Any], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Take the first renderer."""
        return renderers[0], renderers[0].media_type
