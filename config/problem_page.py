"""The page that a problem's `type` leads to."""

from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from config.problems import table_rows
from jobs.api.views import Door
from receipts.api.description import described


class ProblemTable(Door):
    """Every error that the API answers with: its name, its status, and whether trying again may help."""

    permission_classes = (AllowAny,)

    @described(exclude=True)
    def get(self, request: Request) -> Response:
        """List the problems."""
        return Response(table_rows())

    def get_view_name(self) -> str:
        """Name the page."""
        return "Problems"
