"""Say whose keys, chain and policy this house goes by: the document that trust files are made from.

The root key signs it. In the embedded house that key is a file beside the others; in production it
lives off the server, and the signed document is put in its place by the operator.
"""

import json
from pathlib import Path
from typing import Any

from django.conf import settings

from receipts.canonical import encode, unb64url
from receipts.checkpoint import make_vkey
from receipts.cosigners import witnesses
from receipts.durable import write_durably
from receipts.keyring import successions
from receipts.keys import KeyUnusable, Role, ed25519_signer, load_signer, sign_text
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
_PUBLISHED = ("root", "log", "hub", "attester", "provider", "reporter", "sender")


class NotPublished(LookupError):
    """The root key is not on this machine and no signed document was put in its place."""


def unsigned_document() -> dict[str, Any]:
    """Collect what the root key is to sign, from settings and the table of keys."""
    head = log_head()
    keys = [
        {"role": key.role, "alg": key.alg, "key_id": key.key_id, "since_leaf": key.since_leaf}
        | ({"until_leaf": key.until_leaf} if key.until_leaf is not None else {})
        for key in PublicKey.objects.filter(role__in=_PUBLISHED).order_by("role", "id")
    ]
    attesters = [key["key_id"] for key in keys if key["role"] == "attester" and _counts(key, head.size)]
    chain: dict[str, Any] | None = None
    if settings.CHAIN_RPC_URL:
        chain = {
            "chain_id": settings.CHAIN_ID,
            "register": settings.REGISTER_ADDRESS,
            "token": settings.TOKEN_ADDRESS,
            "minter": settings.MINTER_ADDRESS,
            "committer": _newest(keys, "sender"),
            "confirmations": settings.CONFIRMATIONS,
        }
    root_pem = Path(settings.KEYS_DIR) / "c2pa" / "root.pem"
    document: dict[str, Any] = {
        "format": FORMAT,
        "log": {
            "origin": head.origin,
            "vkey": str(make_vkey(head.origin, unb64url(_newest(keys, "log"), size=32))),
            "nid": head.nid,
            "url": f"{settings.PUBLIC_URL}/tlog/",
        },
        "keys": keys,
        "attesters": {"addresses": attesters, "threshold": 1},
        "c2pa": {"root_pem": root_pem.read_text() if root_pem.exists() else ""},
        "witnesses": [witness.key for witness in witnesses()],
        "policy": _policy(with_chain=chain is not None),
    }
    document |= {"chain": chain} if chain else {}
    # Whoever keeps the fingerprint of an earlier root key follows these to the one that signs now.
    roots = [str(key["key_id"]) for key in keys if key["role"] == "root"]
    return document | ({"successors": successions(roots)} if len(roots) > 1 else {})


def _counts(key: dict[str, Any], size: int) -> bool:
    return "until_leaf" not in key or key["until_leaf"] > size


def _newest(keys: list[dict[str, Any]], role: Role) -> str:
    """The key that the house signs with in a role: the newest that counts, whether its private half is here or not."""
    counts = [key for key in keys if key["role"] == role and "until_leaf" not in key]
    if counts:
        return str(max(counts, key=lambda key: int(key["since_leaf"]))["key_id"])
    # A house that is being founded has the key before its row.
    return str(load_signer(role, settings.KEYS_DIR).key_id)


def _policy(*, with_chain: bool) -> dict[str, Any]:
    require = REQUIRED if with_chain else CHAINLESS
    if not settings.WITNESS_QUORUM:
        return {"embedded": settings.EMBEDDED, "require": require}
    return {
        "embedded": settings.EMBEDDED,
        "require": [*require, "witnesses"],
        "witness_quorum": settings.WITNESS_QUORUM,
    }


def sign_document(document: dict[str, Any]) -> dict[str, Any]:
    """Sign a collected document with the root key. Raises: KeyUnusable, also for a root key that it says has ended."""
    root = ed25519_signer("root", settings.KEYS_DIR)
    if any(key["key_id"] == root.key_id and "until_leaf" in key for key in document["keys"]):
        raise KeyUnusable(f"the root key at hand, {root.key_id}, has ended: run `manage.py keys settle`")
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
