"""The door of the witness: what a log may ask of this house."""

from django.http import HttpResponse
from rest_framework.permissions import AllowAny
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from receipts import witness
from receipts.api.description import described
from receipts.api.negotiation import AsItIs
from receipts.witness_request import MAX_BYTES, SIZE_TYPE, RequestMalformed


class AddCheckpoint(APIView):
    """Cosign a checkpoint. Nobody is asked who they are: the log's signature says it. Source: C2SP tlog-witness."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AsItIs
    http_method_names = ["post"]

    @described(exclude=True)
    def post(self, request: Request) -> HttpResponse:
        """Give the signature line. Raises: RequestMalformed, WitnessRefuses."""
        try:
            line = witness.add_checkpoint(_body(request))
        except witness.SizeDiffers as error:
            # Not a problem document: the protocol wants the size, which the log goes on from.
            return _plain(f"{error.size}\n", 409, SIZE_TYPE)
        return _plain(line, 200, "text/plain; charset=utf-8")


def _body(request: Request) -> bytes:
    """Read no more than a request may have. One that does not say how long it is has no body, as Django counts."""
    told = str(request.META.get("CONTENT_LENGTH") or "0")
    if not told.isdecimal() or int(told) > MAX_BYTES:
        raise RequestMalformed(f"a request has at most {MAX_BYTES} bytes")
    body: bytes = request._request.body
    return body


def _plain(text: str, status: int, media_type: str) -> HttpResponse:
    response = HttpResponse(text, status=status, content_type=media_type)
    response["Cache-Control"] = "no-store"
    return response
