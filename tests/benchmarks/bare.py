"""The house's addresses and one more: a bare DRF view with one INSERT, the honest limit of a create-job request."""

import secrets
from typing import Any

from django.urls import include, path
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from receipts.models import Tenant


class Bare(APIView):
    """Read JSON, write a row, answer: no key, no rate, no evidence."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    parser_classes = (JSONParser,)
    renderer_classes = (JSONRenderer,)

    def post(self, request: Request) -> Response:
        asked: Any = request.data
        row = Tenant.objects.create(id=f"bare-{secrets.token_hex(12)}", name=asked["inputs"]["prompt"])
        return Response({"id": row.id}, status=201)


urlpatterns = [path("bare", Bare.as_view()), path("", include("config.urls"))]
handler404 = "config.problems.handler404"
