"""Say whose keys, chain and policy this house goes by: the document that trust files are made from.

The root key signs it. In the embedded house that key is a file beside the others; in production it
lives off the server, and the signed document is put in its place by the operator.
"""

import json
from pathlib import Path
from typing import Any

from django.conf import settings

from receipts.canonical import encode
from receipts.checkpoint import make_vkey
from receipts.durable import write_durably
from receipts.keys import KeyUnusable, ed25519_signer, load_signer, sign_text
from receipts.log import log_head
from receipts.models import PublicKey

FORMAT = "tallystick-trust/1"
REQUIRED = [
    "receipts-canonical",
    "receipts-chain",
    "idempotency-keys",
    "request-signed",
    "work-signed",
    "promise",
    "inclusion",
    "checkpoint",
    "anchor",
    "usage",
    "attestation",
    "meter",
    "artifact",
    "credential",
    "mint",
]
CHAINLESS = [claim for claim in REQUIRED if claim not in ("anchor", "mint", "attestation")]
_PUBLISHED = ("root", "log", "hub", "attester", "provider")


class NotPublished(LookupError):
    """The root key is not on this machine and no signed document was put in its place."""


def unsigned_document() -> dict[str, Any]:
    """Collect what the root key is to sign, from settings and the table of keys."""
    head = log_head()
    signer = ed25519_signer("log", settings.KEYS_DIR)
    keys = [
        {"role": key.role, "alg": key.alg, "key_id": key.key_id, "since_leaf": key.since_leaf}
        | ({"until_leaf": key.until_leaf} if key.until_leaf is not None else {})
        for key in PublicKey.objects.filter(role__in=_PUBLISHED).order_by("role", "id")
    ]
    attesters = [key["key_id"] for key in keys if key["role"] == "attester" and "until_leaf" not in key]
    chain: dict[str, Any] | None = None
    if settings.CHAIN_RPC_URL:
        chain = {
            "chain_id": settings.CHAIN_ID,
            "register": settings.REGISTER_ADDRESS,
            "token": settings.TOKEN_ADDRESS,
            "minter": settings.MINTER_ADDRESS,
            "committer": load_signer("sender", settings.KEYS_DIR).key_id,
            "confirmations": settings.CONFIRMATIONS,
        }
    root_pem = Path(settings.KEYS_DIR) / "c2pa" / "root.pem"
    document: dict[str, Any] = {
        "format": FORMAT,
        "log": {
            "origin": head.origin,
            "vkey": str(make_vkey(head.origin, signer.public)),
            "nid": head.nid,
            "url": f"{settings.PUBLIC_URL}/tlog/",
        },
        "keys": keys,
        "attesters": {"addresses": attesters, "threshold": 1},
        "c2pa": {"root_pem": root_pem.read_text() if root_pem.exists() else ""},
        "witnesses": [],
        "policy": {"embedded": settings.EMBEDDED, "require": REQUIRED if chain else CHAINLESS},
    }
    return document | ({"chain": chain} if chain else {})


def sign_document(document: dict[str, Any]) -> dict[str, Any]:
    """Sign a collected document with the root key. Raises: KeyUnusable."""
    root = ed25519_signer("root", settings.KEYS_DIR)
    return document | {"signature": sign_text(root, encode(document).decode())}


def document() -> dict[str, Any]:
    """Give the signed document as it is published.

    A root key on this machine signs what holds now; without it the file `wellknown.json`, made where the
    root key lives, is published as it stands. Raises: NotPublished.
    """
    try:
        return sign_document(unsigned_document())
    except KeyUnusable:
        path = published_path()
        if not path.exists():
            raise NotPublished(
                f"no root key here and no {path}: run `manage.py sign_wellknown` where it lives"
            ) from None
        signed: dict[str, Any] = json.loads(path.read_bytes())
        return signed


def keep(document: dict[str, Any]) -> None:
    """Put a signed document in the place that a house without the root key publishes from."""
    write_durably(published_path(), encode(document))


def published_path() -> Path:
    """Where a document signed elsewhere is kept."""
    return Path(settings.DATA_DIR) / "wellknown.json"
