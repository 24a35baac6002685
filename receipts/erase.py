"""Erase bytes by a logged act: what they were named by stays in the log, and every check says "erased", not "broken".

Receipts are evidence, and the database lets nobody change them, with this one exception: the table's owner may empty a
receipt's bytes once the act that says so is recorded. The application's role may not.
"""

from django.conf import settings
from django.db import connection, transaction

from receipts.canonical import Nid, NotCanonical, nid_digest, utc
from receipts.keys import ed25519_signer
from receipts.models import Erasure, Receipt
from receipts.record import database_now, record


class BytesErased(Exception):
    """The bytes that were asked for are gone, by a logged act."""

    def __init__(self, erasure: Erasure) -> None:
        super().__init__(
            f"{erasure.nid} was erased {erasure.get_reason_display()} on {utc(erasure.erased_at)}; "
            f"the receipt of it is {erasure.act.nid}"
        )


class NotErasable(Exception):
    """These bytes can't be erased: the message names them and the rule."""


def erase_receipt(name: str, *, reason: str) -> Erasure:
    """Erase the bytes of the receipt that is called `name`. Doing so again gives the first act.

    Raises: NotErasable, also for an act of erasing: what says that bytes are gone must stay.
    """
    with transaction.atomic():
        receipt = Receipt.objects.filter(nid=name).first()
        if receipt is None:
            raise NotErasable(f"there is no receipt {name} here")
        if receipt.event_type in ("ReceiptErased", "KeyRotated"):
            raise NotErasable(f"{name} is a {receipt.event_type}: without it, what others say could not be judged")
        if (known := erasure_of(receipt.nid)) is not None:
            return known
        made = record_erasure(receipt.nid, reason=reason, receipt=receipt)
        with connection.cursor() as cursor:
            # The guard on the table lets this pass for a receipt that has its act, and for nothing else.
            cursor.execute("UPDATE receipts_receipt SET body = '' WHERE id = %s", [receipt.pk])
    return made


def record_erasure(name: str, *, reason: str, receipt: Receipt | None = None) -> Erasure:
    """Record that the bytes called `name` are to go, inside the caller's transaction, which makes them go.

    Raises: NotErasable.
    """
    try:
        sha256 = nid_digest(name).hex()
    except NotCanonical as error:
        raise NotErasable(f"{name[:80]!r} names no bytes: {error.rule}") from None
    now = database_now()
    act = record(
        event_type="ReceiptErased",
        subject=f"erased:{name}",
        tenant_id=None,
        actor=f"hub:{ed25519_signer('hub', settings.KEYS_DIR).key_id}",
        data={"erased": name, "reason": reason},
        occurred_at=now,
    )
    return Erasure.objects.create(
        nid=name,
        sha256=sha256,
        receipt=receipt,
        reason=reason,
        act=Receipt.objects.get(nid=act.nid),
        erased_at=now,
    )


def erasure_of(name: Nid | str) -> Erasure | None:
    """Find the act that erased these bytes."""
    return Erasure.objects.select_related("act").filter(nid=name).first()


def erasure_of_file(sha256: str) -> Erasure | None:
    """Find the act that erased the file of this digest."""
    return Erasure.objects.select_related("act").filter(sha256=sha256).first()
