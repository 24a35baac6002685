"""Prove from the published files: that a leaf is in the log, and that the log only grew.

Nothing is asked of the database: what is proven is what anyone can read under `/tlog/`. Between sizes that are
published a proof never changes, so every cache may keep it.
"""

import base64
from typing import Any, Final

from django.http import Http404, HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from receipts.api.description import described
from receipts.api.tlog import published_checkpoint
from receipts.api.views import IMMUTABLE, PublicFile
from receipts.canonical import encode
from receipts.checkpoint import parse_checkpoint, parse_note
from receipts.log import leaf_index, read_tile
from receipts.merkle import Hash, consistency_proof, inclusion_proof, subtree_root
from receipts.models import Receipt
from receipts.tiles import reader

TLOG_PROOF: Final = "c2sp.org/tlog-proof@v1"
_DIGITS: Final = 18


class QueryWrong(ValidationError):
    """A field of the query breaks `rule`."""

    def __init__(self, field: str, value: str | None, rule: str) -> None:
        super().__init__(f"{field} {rule}")
        self.field = field
        self.value = value
        self.rule = rule


class LogProof(PublicFile):
    """The audit path of a leaf, nearest first. Source: RFC 6962 §2.1.1."""

    @described(
        operation_id="log_proof",
        tags=["log"],
        parameters=[
            OpenApiParameter("leaf", OpenApiTypes.INT64, required=True, description="from 0"),
            OpenApiParameter("size", OpenApiTypes.INT64, description="of the log, the newest published if left out"),
        ],
        responses={(200, "application/json"): OpenApiTypes.OBJECT},
        description="`leaf`, `size`, `root` and `proof`, hashes as base64. With a size the answer never changes.",
    )
    def get(self, request: Request) -> HttpResponse:
        """Prove that the leaf is in the log of that size. Raises: QueryWrong."""
        newest, _ = _published()
        size = _number(request, "size", 1, newest, default=newest)
        leaf = _number(request, "leaf", 0, size - 1)
        read = reader(read_tile, size)
        told = {"leaf": leaf, "size": size, "root": _coded(subtree_root(read, 0, size))}
        return self._answer(told, inclusion_proof(read, leaf, size), kept="size" in request.query_params)

    def _answer(self, told: dict[str, Any], proof: list[Hash], *, kept: bool) -> HttpResponse:
        body = encode({**told, "proof": [_coded(item) for item in proof]})
        return self.answer(body, "application/json", IMMUTABLE if kept else "no-cache")


class LogConsistency(LogProof):
    """The proof that a log only appended to an older one. Source: RFC 6962 §2.1.2."""

    @described(
        operation_id="log_consistency",
        tags=["log"],
        parameters=[
            OpenApiParameter("from", OpenApiTypes.INT64, required=True, description="the older size"),
            OpenApiParameter("to", OpenApiTypes.INT64, description="the newer size, the newest published if left out"),
        ],
        responses={(200, "application/json"): OpenApiTypes.OBJECT},
        description="Both sizes, `from_root`, `to_root` and `proof`, hashes as base64. With both the answer never "
        "changes.",
    )
    def get(self, request: Request) -> HttpResponse:
        """Prove that the log of the one size begins with that of the other. Raises: QueryWrong."""
        newest, _ = _published()
        to = _number(request, "to", 1, newest, default=newest)
        from_ = _number(request, "from", 0, to)
        read = reader(read_tile, to)
        roots = {"from_root": _coded(_root(from_)), "to_root": _coded(subtree_root(read, 0, to))}
        told = {"from": from_, "to": to, **roots}
        return self._answer(told, consistency_proof(read, from_, to), kept="to" in request.query_params)


class ReceiptProof(PublicFile):
    """A receipt's leaf, path and checkpoint in one file for any checker. Source: C2SP tlog-proof."""

    @described(
        operation_id="receipt_proof",
        tags=["log"],
        responses={(200, "text/plain"): OpenApiTypes.STR},
        description="The receipt's C2SP tlog-proof under the newest published checkpoint. The log shows NIDs and types "
        "of all receipts, so everyone may have it; the leaf's entry is the canonical "
        '`{"eventType":…,"nid":…,"v":1}`.',
    )
    def get(self, request: Request, nid: str) -> HttpResponse:
        """Give the file; 404 for a receipt that the published log does not hold yet."""
        receipt_id = Receipt.objects.filter(nid=nid).values_list("id", flat=True).first()
        leaf = leaf_index(receipt_id) if receipt_id is not None else None
        size, note = _published()
        if leaf is None or leaf >= size:
            raise Http404(f"The published log holds no receipt {nid}.")
        text = tlog_proof(leaf, inclusion_proof(reader(read_tile, size), leaf, size), note)
        return self.answer(text.encode(), "text/plain; charset=utf-8", "no-cache")


def tlog_proof(leaf: int, proof: list[Hash], note: str) -> str:
    """Write a leaf's proof as any C2SP client reads it: header, index, path, blank line, signed checkpoint."""
    return "".join(f"{line}\n" for line in (TLOG_PROOF, f"index {leaf}", *map(_coded, proof), "")) + note


def _published() -> tuple[int, str]:
    note = published_checkpoint()
    if note is None:
        raise Http404("The log has no checkpoint yet.")
    text = note.decode()
    return parse_checkpoint(parse_note(text).text).size, text


def _number(request: Request, field: str, least: int, most: int, *, default: int | None = None) -> int:
    """Read one number of the query, in its one spelling."""
    unknown = request.query_params.keys() - _KNOWN
    if unknown:
        raise QueryWrong(min(unknown), request.query_params[min(unknown)], "is no field of this address")
    values = request.query_params.getlist(field)
    if not values and default is not None:
        return default
    if len(values) != 1:
        raise QueryWrong(field, None, f"must be given {'once' if values else ''}".strip())
    text = values[0]
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS and text == str(int(text))):
        raise QueryWrong(field, text, "must be a whole number in decimal digits")
    if not least <= int(text) <= most:
        raise QueryWrong(field, text, f"must be from {least} to {most}")
    return int(text)


_KNOWN: Final = frozenset({"leaf", "size", "from", "to"})


def _root(size: int) -> Hash:
    return subtree_root(reader(read_tile, size), 0, size)


def _coded(data: bytes) -> str:
    return base64.b64encode(data).decode()
