"""Pages of lists: newest first, by cursor, so that deep pages cost what the first one does."""

from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

from jobs.errors import BadRequest


class Newest(CursorPagination):
    """Newest first."""

    ordering = "-created_at"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        """Read `limit`. Raises: BadRequest, where others would silently give another number."""
        text = request.query_params.get("limit")
        if text is None:
            return self.page_size
        if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= self.max_page_size):
            raise BadRequest("limit", text, f"must be a whole number from 1 to {self.max_page_size}")
        return int(text)


class BySlug(Newest):
    """In the order of names."""

    ordering = "slug"
