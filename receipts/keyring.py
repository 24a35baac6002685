"""Bring keys into the house, rotate and revoke them: each act is a public receipt that the root key signs."""

import datetime as dt

from django.conf import settings
from django.db import transaction

from receipts.canonical import encode, utc
from receipts.keys import ed25519_signer, sign_text
from receipts.log import log_head
from receipts.models import PublicKey, Tenant
from receipts.record import database_now, record


def add_key(*, role: str, alg: str, key_id: str, tenant: Tenant | None = None, label: str = "") -> PublicKey:
    """Let a key count for a role from the log's present size on. The same key again changes nothing.

    Raises: KeyUnusable, when the root key is not on this machine.
    """
    known = PublicKey.objects.filter(role=role, key_id=key_id).first()
    if known is not None:
        return known
    root = ed25519_signer("root", settings.KEYS_DIR)
    with transaction.atomic():
        from_leaf = log_head().size
        now = database_now()
        claim = _claim("added", role, key_id, from_leaf, now)
        key = PublicKey.objects.create(
            role=role, alg=alg, key_id=key_id, tenant=tenant, label=label, since_leaf=from_leaf
        )
        record(
            event_type="KeyRotated",
            subject=f"key:{key_id}",
            tenant_id=None,
            actor=f"root:{root.key_id}",
            data={
                "role": role,
                "act": "added",
                "key_id": key_id,
                "from_leaf": from_leaf,
                "claim": claim,
                "signatures": [sign_text(root, claim)],
            },
            occurred_at=now,
        )
    return key


def _claim(act: str, role: str, key_id: str, from_leaf: int, now: dt.datetime) -> str:
    return encode(
        {"v": 1, "type": "KeyAct", "act": act, "role": role, "key_id": key_id, "from_leaf": from_leaf, "at": utc(now)}
    ).decode()
