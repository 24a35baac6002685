"""Give bytes as they are, whatever form a caller says it would like."""

from collections.abc import Iterable

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class AsItIs(BaseContentNegotiation):
    """Ignore `Accept`: a receipt, a tally and a picture have one form each; only errors are rendered."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        """Take the first parser: these addresses read no body."""
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Take the first renderer."""
        renderer = next(iter(renderers))
        return renderer, renderer.media_type
