"""Pages of lists: newest first, by cursor, so that deep pages cost what the first one does."""

from rest_framework.pagination import CursorPagination


class Newest(CursorPagination):
    """Newest first."""

    ordering = "-created_at"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
