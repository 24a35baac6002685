"""Serve the ledger: receipts as bytes, the log's files, the keys that the house goes by."""

import json

from django.http import Http404, HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response, patch_vary_headers
from drf_spectacular.types import OpenApiTypes
from rest_framework.permissions import AllowAny
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from receipts.api.access import Access, access_of
from receipts.api.description import described
from receipts.api.negotiation import AsItIs
from receipts.api.tlog import published_checkpoint, published_tile
from receipts.erase import BytesErased, erasure_of
from receipts.events import EVENTS, About
from receipts.models import Receipt
from receipts.tiles import TilePathWrong, parse_tile_path
from receipts.wellknown import document

IMMUTABLE = "public, max-age=31536000, immutable"


class ReceiptBytes(APIView):
    """One receipt, as the exact bytes that were hashed: its NID is the CIDv1 of this very answer."""

    permission_classes = (AllowAny,)
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AsItIs

    @described(
        operation_id="receipt",
        tags=["evidence"],
        responses={(200, "application/json"): OpenApiTypes.OBJECT},
        description="Public receipts are shown to anyone, others to their tenant and to auditors.",
    )
    def get(self, request: Request, nid: str) -> HttpResponseBase:
        """Give the bytes."""
        receipt = Receipt.objects.filter(nid=nid).first()
        if receipt is None or not may_read(access_of(request), receipt):
            raise Http404(f"There is no receipt {nid} here.")
        if not receipt.body and (erasure := erasure_of(nid)):
            raise BytesErased(erasure)
        response = HttpResponse(bytes(receipt.body), content_type="application/json")
        response["ETag"] = f'"{nid}"'
        # Bytes under a NID never change, but they may be erased: caches ask again after an hour.
        response["Cache-Control"] = "max-age=3600, " + ("public" if is_public(receipt) else "private")
        patch_vary_headers(response, ("Authorization", "Cookie"))
        return get_conditional_response(request._request, etag=response["ETag"], response=response) or response


def is_public(receipt: Receipt) -> bool:
    """Tell whether anyone must be able to check this receipt; such ones name neither tenant nor job."""
    event = EVENTS.get(receipt.event_type)
    return event is not None and event.about is About.PUBLIC


def may_read(access: Access, receipt: Receipt) -> bool:
    """Tell whether a receipt is shown: public ones to anyone, others to their tenant and to who reads all."""
    return is_public(receipt) or access.sees(receipt.tenant_id)


class PublicFile(APIView):
    """A file that is the same for everyone: nobody is asked who they are."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AsItIs
    http_method_names = ["get", "head"]

    def answer(self, content: bytes, media_type: str, caching: str) -> HttpResponse:
        """Let auditors' pages on other sites read it too."""
        response = HttpResponse(content, content_type=media_type)
        response["Cache-Control"] = caching
        response["Access-Control-Allow-Origin"] = "*"
        return response


class CheckpointFile(PublicFile):
    """The newest signed size of the log. Source: C2SP tlog-tiles, "Checkpoints"."""

    @described(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        """Give the note as it was published."""
        note = published_checkpoint()
        if note is None:
            raise Http404("The log has no checkpoint yet.")
        return self.answer(note, "text/plain; charset=utf-8", "no-cache")


class TileFile(PublicFile):
    """A tile or entry bundle; whatever is no tile's path is not looked for. Source: C2SP tlog-tiles, "Tiles"."""

    @described(exclude=True)
    def get(self, request: Request, path: str) -> HttpResponse:
        """Give the tile's bytes."""
        try:
            data = published_tile(parse_tile_path(path))
        except TilePathWrong as error:
            raise Http404(str(error)) from None
        if data is None:
            raise Http404(f"The log has not grown to {path} yet.")
        return self.answer(data, "application/octet-stream", IMMUTABLE)


class WellKnown(PublicFile):
    """The keys, chain and policy of this house, signed by its root key."""

    @described(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        """Give the document. Raises: NotPublished."""
        text = json.dumps(document(), ensure_ascii=False, indent=1)
        return self.answer(text.encode(), "application/json", "public, max-age=60")
