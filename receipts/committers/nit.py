"""Write and read what a commit on Numbers Protocol says: its assets, signatures, custom fields, trees. Pure.

What leaves the house by default is what the public log shows anyway: NIDs, types and places. Prompts, models,
tenants, times and people stay inside the receipts, which the NIDs name and don't reveal.

Source: Numbers Protocol (Capture API, nit), EIP-191 version 0x45, ERC-7053.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from receipts.canonical import encode, nesting, nid, nid_digest
from receipts.keys import Secp256k1Signer, SignatureBroken, keccak256, recover_address

MIME: Final = "application/json"
FILENAME: Final = "proof.json"
PROOF_FORMAT: Final = "tallystick-proof/1"
PROVIDER: Final = "tallystick"
ACTION: Final = "https://docs.numbersprotocol.io/applications/actions#commit"
# The moves of a job, in the order of its life.
JOB_MOVES: Final = (
    "JobSubmitted",
    "JobScheduled",
    "JobStarted",
    "JobProgressUpdate",
    "JobCompleted",
    "JobFailed",
    "JobCancelled",
    "JobRequeued",
)
_MARK: Final = "tallystick:"
_MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class Network:
    """One of the two networks of Numbers Protocol; `wallet` commits for who goes through the Capture API."""

    name: str
    chain_id: int
    rpc_url: str
    register: str
    wallet: str
    explorer: str

    def asset_page(self, asset: str) -> str:
        """Give the public page of an asset."""
        return f"https://verify.numbersprotocol.io/asset-profile?nid={asset}"

    def transaction_page(self, tx_hash: str) -> str:
        """Give the explorer's page of a transaction."""
        return f"{self.explorer}/tx/{tx_hash}"


_WALLET: Final = "0x51130db91b91377a24d6ebeb2a5fc02748b53ce1"
NETWORKS: Final[Mapping[str, Network]] = {
    network.name: network
    for network in (
        Network(
            name="mainnet",
            chain_id=10507,
            rpc_url="https://mainnetrpc.num.network",
            register="0x7ec2f14abe8b0ea2f657bbb62b6fefde161c9001",
            wallet=_WALLET,
            explorer="https://mainnet.num.network",
        ),
        Network(
            name="testnet",
            chain_id=10508,
            rpc_url="https://testnetrpc.num.network",
            register="0x02efa51b583d03342687b585417e5a62cd8273a4",
            wallet=_WALLET,
            explorer="https://testnet.num.network",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Told:
    """What one order tells the public: this receipt is that leaf of that log."""

    event_type: str
    receipt: str
    job: str
    log: str
    log_nid: str
    leaf: int
    key: str  # the receipt's idempotency key, with the job's NID in the place of its id

    def proof(self) -> bytes:
        """Write the small public file that stands for a job: everything in it is in the public log."""
        return encode(
            {
                "eventType": self.event_type,
                "format": PROOF_FORMAT,
                "leaf": self.leaf,
                "log": self.log,
                "logNid": self.log_nid,
                "nid": self.receipt,
            }
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """What the house says on an asset, once: the exact text, its digest, and the author's signature over its hex."""

    text: str
    digest: str
    author: str
    signature: str

    @property
    def mark(self) -> str:
        """The words by which this statement is found again."""
        return _MARK + self.digest

    def as_custom(self) -> dict[str, str]:
        """Give it as it stands in the custom fields."""
        return {"author": self.author, "digest": self.digest, "signature": self.signature, "statement": self.text}


class NotOurStatement(ValueError):
    """A tree holds no statement, or another than the one that is looked for: `rule`."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


def read_json(text: str) -> Any:
    """Read JSON of others, or give None. Depth is bounded before the parser recurses: depth alone ends a process."""
    try:
        return json.loads(text) if nesting(text) <= _MAX_DEPTH else None
    except ValueError:
        return None


# --- signatures ------------------------------------------------------------------------------------


def personal_digest(text: str) -> bytes:
    """Hash a text as wallets do before they sign it. Source: EIP-191, version 0x45."""
    raw = text.encode()
    return keccak256(b"\x19Ethereum Signed Message:\n" + str(len(raw)).encode() + raw)


def sign_personal(signer: Secp256k1Signer, text: str) -> str:
    """Sign a text: `0x` and 65 bytes in hex."""
    return "0x" + signer.sign_digest(personal_digest(text)).hex()


def recover_personal(text: str, signature: str) -> str:
    """Recover who signed a text.

    Raises: receipts.keys.SignatureBroken.
    """
    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
    except ValueError:
        raise SignatureBroken("the signature is not hexadecimal") from None
    if len(raw) == 65 and raw[64] in (0, 1):  # some wallets count v from 0
        raw = raw[:64] + bytes([raw[64] + 27])
    return recover_address(personal_digest(text), raw)


def signed_metadata(file: bytes, *, created_ms: int) -> str:
    """Write the integrity proof of a file, compact: its SHA-256 is what the author signs."""
    proof = {"proof_hash": hashlib.sha256(file).hexdigest(), "asset_mime_type": MIME, "created_at": created_ms}
    return json.dumps(proof, separators=(",", ":"))


def signature_list(signer: Secp256k1Signer, *, file: bytes, metadata: str) -> str:
    """Sign an integrity proof, as the API takes signatures: a JSON list."""
    integrity = hashlib.sha256(metadata.encode()).hexdigest()
    signed = {
        "proofHash": hashlib.sha256(file).hexdigest(),
        "provider": PROVIDER,
        "signature": sign_personal(signer, integrity),
        "publicKey": signer.address,
        "integritySha": integrity,
    }
    return json.dumps([signed], separators=(",", ":"))


# --- statements ------------------------------------------------------------------------------------


def make_statement(signer: Secp256k1Signer, told: Told, *, asset: str, network: str) -> Statement:
    """Say on an asset that a receipt is a leaf of the log, and sign it as the author."""
    text = encode(
        {
            "asset": asset,
            "eventType": told.event_type,
            "leaf": told.leaf,
            "log": told.log,
            "logNid": told.log_nid,
            "network": network,
            "receipt": told.receipt,
        }
    ).decode()
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Statement(text, digest, signer.address, sign_personal(signer, digest))


def check_statement(tree: Mapping[str, Any], *, text: str, author: str) -> None:
    """Check that an asset tree holds this statement, signed by this author.

    Steps: 1 the tree has one; 2 its text is the one expected; 3 its digest is the text's; 4 its author signed it.

    Raises: NotOurStatement.
    """
    # 1
    found = custom_of(tree).get("tallystick")
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise NotOurStatement("the asset tree has no statement of ours")
    # 2
    if found.get("statement") != text:
        raise NotOurStatement("the asset tree holds another statement")
    # 3
    digest = hashlib.sha256(text.encode()).hexdigest()
    if found.get("digest") != digest:
        raise NotOurStatement("the statement's digest is not that of its text")
    # 4
    try:
        signed_by = recover_personal(digest, found.get("signature", ""))
    except SignatureBroken as broken:
        raise NotOurStatement(f"the author's signature: {broken}") from None
    if not signed_by == author == found.get("author"):
        raise NotOurStatement(f"signed by {signed_by}, the author is {author}")


def custom_of(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find the custom fields of a tree: some readers lay them beside the others, some keep them together."""
    custom = tree.get("custom", tree.get("nit_commit_custom", tree))
    if isinstance(custom, str):
        custom = read_json(custom)
    return custom if isinstance(custom, Mapping) else {}


# --- what is sent ------------------------------------------------------------------------------------


def custom_fields(told: Told, statement: Statement, shown: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Fill the custom fields with what is public; `shown` adds what the house's policy shows besides."""
    job = {"eventType": told.event_type, "idempotencyKey": told.key, "jobId": told.job}
    return {
        "jobDetails": job | dict(shown or {}),
        "gpuJobMetadata": {"jobId": told.job, "receipt": told.receipt, **(shown or {})},
        "tallystick": statement.as_custom(),
    }


def caption(told: Told, statement: Statement, kind: str = "") -> str:
    """Write an asset's caption, with the mark by which it is found again."""
    named = f"GPU Job {told.event_type}: {kind}" if kind else f"GPU Job {told.event_type}"
    return f"{named} | JobID: {told.job} | Log: {told.log} | {statement.mark}"


def headline(told: Told) -> str:
    """Write a headline: 25 characters for the longest of our types, and no type is longer."""
    return f"GPU Job {told.event_type}"[:25]


def register_fields(
    signer: Secp256k1Signer,
    told: Told,
    statement: Statement,
    *,
    file: bytes,
    created_ms: int,
    shown: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Write the form that registers a job's asset."""
    metadata = signed_metadata(file, created_ms=created_ms)
    return {
        "caption": caption(told, statement, str((shown or {}).get("taskType", ""))),
        "headline": headline(told),
        "nit_commit_custom": json.dumps(custom_fields(told, statement, shown), separators=(",", ":")),
        "signed_metadata": metadata,
        "signature": signature_list(signer, file=file, metadata=metadata),
        "public_access": "true",
    }


def commit_body(told: Told, statement: Statement, *, asset: str, created_ms: int) -> dict[str, Any]:
    """Write the body of a commit on an asset."""
    return {
        "encodingFormat": MIME,
        "assetCid": asset,
        "assetTimestampCreated": created_ms // 1000,
        "assetCreator": told.log,
        "assetSha256": nid_digest(asset).hex(),
        "abstract": caption(told, statement),
        "headline": headline(told),
        "commitMessage": f"{told.event_type} {statement.mark}",
        "custom": custom_fields(told, statement),
    }


# --- straight to the chain ----------------------------------------------------------------------------


def asset_tree(body: Mapping[str, Any]) -> bytes:
    """Write the asset tree that a commit of our own sending points to: JSON with an indent of two."""
    tree = {name: value for name, value in body.items() if name not in ("commitMessage", "custom")}
    return json.dumps(tree | {"custom": body["custom"]}, indent=2, sort_keys=True).encode()


def commit_data(signer: Secp256k1Signer, tree: bytes, *, message: str, created_ms: int) -> str:
    """Write what a commit of our own sending says on the chain, signed as author and as committer."""
    digest = hashlib.sha256(tree).hexdigest()
    return json.dumps(
        {
            "assetTreeCid": nid(tree),
            "assetTreeSha256": digest,
            "assetTreeSignature": sign_personal(signer, digest),
            "author": signer.address,
            "committer": signer.address,
            "provider": PROVIDER,
            "timestampCreated": created_ms // 1000,
            "action": ACTION,
            "actionResult": "",
            "abstract": message,
        },
        separators=(",", ":"),
    )


def check_commit_data(text: str, *, asset_tree_cid: str, tree: bytes | None = None) -> None:
    """Check that a commit on the chain points to this tree, and that who it names signed the tree's digest.

    Raises: NotOurStatement.
    """
    said = read_json(text)
    if not isinstance(said, dict):
        raise NotOurStatement("commitData is not a JSON object")
    if said.get("assetTreeCid") != asset_tree_cid:
        raise NotOurStatement(f"commitData points to {str(said.get('assetTreeCid'))[:100]}, {asset_tree_cid} is due")
    digest = str(said.get("assetTreeSha256", ""))
    if tree is not None and hashlib.sha256(tree).hexdigest() != digest:
        raise NotOurStatement("assetTreeSha256 is not the digest of the tree")
    try:
        signed_by = recover_personal(digest, str(said.get("assetTreeSignature", "")))
    except SignatureBroken as broken:
        raise NotOurStatement(f"assetTreeSignature: {broken}") from None
    if signed_by not in {str(said.get(name, "")).lower() for name in ("author", "committer")}:
        raise NotOurStatement(f"assetTreeSignature is {signed_by}'s, who is neither author nor committer")
