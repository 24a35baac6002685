"""A house made of keys and pure modules alone: it tells one job's whole story and hands out its tally.

Ada asks, Bo provides, the house attests, logs, anchors and mints. No database, no chain, no model: what
is signed here is signed as the real house signs it. `alter` changes what a receipt says before it is
hashed and logged, so that a lie is consistent: found by what it says, not by its hash.
"""

import base64
import hashlib
import struct
import zlib
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from jobs.claims import COMPLETED, PROGRESS, PROMISE, REQUEST, STARTED, claim_text, inputs_digest
from jobs.client.tally_format import Disclosed, LoggedReceipt, Promise, Tally, write_tally
from jobs.client.trust import Trust, add_own, trust_of
from minting.calldata import encode_mint
from minting.eip712 import Domain, MintAuthorization, sign_authorization
from minting.usage import UsageClaim, receipt_hash, usage_text
from provenance.authority import Authority, make_authority
from provenance.manifest import CredentialFacts
from provenance.sign import SignedFile, sign_file
from provenance.signers.file import FileSigner
from receipts.canonical import b64url, decode, encode, field_digest, nid, unb64url
from receipts.chain.rlp import sign_transaction, transaction_hash
from receipts.checkpoint import Checkpoint, log_nid, make_vkey, sign_note
from receipts.committers.erc7053 import encode_commit
from receipts.keys import Ed25519Signer, Secp256k1Signer, Signature, sign_text
from receipts.merkle import ReadHash, inclusion_proof, leaf_hash, root_of

JOB_ID = "job_0000000000000000000000000a"
ORIGIN = "tallystick.test/log"
CHAIN_ID = 31337
REGISTER, TOKEN, MINTER = ("0x" + byte * 20 for byte in ("7e", "70", "71"))
INPUTS: dict[str, Any] = {"prompt": "a red circle", "steps": 3, "guidance": "3", "count": 1}
PRICE = 10**12
CPU_MS = 1_790
ROUNDS = ((1, 3), (2, 3))
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

Alter = Callable[[dict[str, Any]], None]


def seed(name: str) -> bytes:
    """Give a secret that is the same in every run."""
    return hashlib.sha256(f"tallystick test {name}".encode()).digest()


def picture(side: int = 8) -> bytes:
    """Draw a red PNG."""
    rows = b"".join(b"\0" + b"\xff\x10\x10" * side for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Keys:
    """One key for each role; another `name` gives another house's keys."""

    def __init__(self, name: str = "house") -> None:
        self.root, self.log, self.hub, self.provider, self.client = (
            Ed25519Signer(seed(f"{name} {role}")) for role in ("root", "log", "hub", "provider", "client")
        )
        self.attester, self.sender = (Secp256k1Signer(seed(f"{name} {role}")) for role in ("attester", "sender"))


@dataclass
class House:
    """A house and the knobs of the story that it tells."""

    folder: Path
    keys: Keys = field(default_factory=Keys)
    alter: dict[str, Alter] = field(default_factory=dict)  # event type -> change of the receipt's body
    alter_claim: dict[str, Alter] = field(default_factory=dict)  # claim type -> change of the fields
    origin: str = "hosted"
    unsigned_request: bool = False
    disclosed: tuple[str, ...] = ()
    strangers_before: int = 5
    requeued_first: bool = False
    anchor_changes: Mapping[str, Any] = field(default_factory=dict)
    mint_changes: Mapping[str, Any] = field(default_factory=dict)
    shown_anchor: Mapping[str, Any] = field(default_factory=dict)
    credential_changes: Mapping[str, Any] = field(default_factory=dict)  # what the credential says wrongly
    logged_backwards: bool = False
    first_log_key: Ed25519Signer | None = None  # where the log's key was rotated since
    after: dict[str, Callable[["Teller"], None]] = field(default_factory=dict)  # event type -> what else is told then

    # --- what the house publishes ----------------------------------------------------------------

    @cached_property
    def authority(self) -> Authority:
        return make_authority(self.folder / "c2pa", "Test house")

    @property
    def log_nid(self) -> str:
        """The log's name for good: by its first key, whichever it signs with now."""
        return log_nid(ORIGIN, str(make_vkey(ORIGIN, (self.first_log_key or self.keys.log).public)))

    def published_keys(self) -> list[dict[str, Any]]:
        """List the house's keys as its trust document does."""
        keys = self.keys
        ed25519 = {"root": keys.root, "log": keys.log, "hub": keys.hub, "provider": keys.provider}
        secp256k1 = {"attester": keys.attester, "sender": keys.sender}
        return [
            *({"role": r, "alg": "Ed25519", "key_id": k.key_id, "since_leaf": 0} for r, k in ed25519.items()),
            *({"role": r, "alg": "secp256k1", "key_id": k.key_id, "since_leaf": 0} for r, k in secp256k1.items()),
        ]

    def keys_after(self, role: str, leaf: int, *, by: "Keys", overlap: int = 0) -> list[dict[str, Any]]:
        """List the keys after one role's was rotated at a leaf to that of `by`."""
        before = self.published_keys()
        ends = [{**key, "until_leaf": leaf + overlap} if key["role"] == role else key for key in before]
        [old] = [key for key in before if key["role"] == role]
        return [*ends, {**old, "key_id": getattr(by, role).key_id, "since_leaf": leaf}]

    def document(self, **changes: Any) -> dict[str, Any]:
        """Publish the signed trust document."""
        keys = self.keys
        body: dict[str, Any] = {
            "format": "tallystick-trust/1",
            "log": {
                "origin": ORIGIN,
                "vkey": str(make_vkey(ORIGIN, keys.log.public)),
                "nid": self.log_nid,
                "url": "http://127.0.0.1:8000/tlog/",
            },
            "keys": self.published_keys(),
            "attesters": {"addresses": [keys.attester.key_id], "threshold": 1},
            "c2pa": {"root_pem": self.authority.root_pem},
            "chain": {
                "chain_id": CHAIN_ID,
                "register": REGISTER,
                "token": TOKEN,
                "minter": MINTER,
                "committer": keys.sender.key_id,
                "confirmations": 2,
            },
            "witnesses": [],
            "policy": {"require": REQUIRED, "embedded": True},
        }
        body |= changes
        body = {name: item for name, item in body.items() if item is not None}
        return body | {"signature": sign_text(keys.root, encode(body).decode())}

    def trust(self, **changes: Any) -> Trust:
        """Keep a trust file as Cy does who believes Ada's key."""
        return trust_of(add_own(self.document(**changes), clients=[self.keys.client.key_id]))

    # --- the story -------------------------------------------------------------------------------

    @cached_property
    def told(self) -> "Story":
        return tell(self)

    @property
    def tally(self) -> Tally:
        return self.told.tally

    @property
    def file(self) -> bytes:
        return write_tally(self.told.tally)

    @property
    def artifact(self) -> bytes:
        return self.told.artifact


@dataclass
class Story:
    """What came of the story."""

    tally: Tally
    artifact: bytes
    unsigned: bytes
    salts: dict[str, bytes]


@dataclass
class Teller:
    """Tells the story, receipt by receipt."""

    house: House
    bodies: list[bytes] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    job_nid: str = ""
    clock_ms: int = 0

    def claim(self, type_: str, signer: Ed25519Signer, **fields: Any) -> dict[str, Any]:
        """Write and sign a claim."""
        if change := self.house.alter_claim.get(type_):
            fields = deepcopy(fields)  # what is signed wrongly must not reach the receipt by sharing
            change(fields)
        text = claim_text(type_, **fields)
        return {"claim": text, "sig": dict(sign_text(signer, text))}

    def add(
        self, type_: str, actor: str, data: dict[str, Any], *, attempt: int = 1, n: int = 0, subject: str = ""
    ) -> str:
        """Write a receipt and link it."""
        public = bool(subject)
        thread = subject or JOB_ID
        seq, prev = self.heads.get(thread, (0, ""))
        key = f"{subject}-{type_}" if public else f"gpu-job-{JOB_ID}-{type_}"
        if n:
            key += f"-{max(attempt, 1)}-{n}"
        elif attempt > 1 and not public:
            key += f"-{attempt}"
        body: dict[str, Any] = {
            "v": 1,
            "eventType": type_,
            "seq": seq + 1,
            "occurredAt": self.at(),
            "actor": actor,
            "idempotencyKey": key,
            "salt": b64url(seed(f"{type_} {seq}")[:16]),
            "data": data,
        }
        body |= {"prev": prev} if prev else {}
        if public:
            body["subject"] = subject
        else:
            body |= {"tenant": "ada", "jobId": JOB_ID, "attempt": attempt, "origin": self.house.origin}
            body |= {"nid": self.job_nid} if self.job_nid else {}
        if change := self.house.alter.get(type_):
            change(body)
        raw = encode(body)
        name = nid(raw)
        self.bodies.append(raw)
        self.types.append(type_)
        self.heads[thread] = (seq + 1, name)
        self.job_nid = self.job_nid or name
        if tells := self.house.after.get(type_):
            tells(self)
        return name

    def at(self, later_ms: int = 0) -> str:
        """Tell the hub's time, and let 10 ms pass."""
        self.clock_ms += later_ms
        moment = self.clock_ms
        self.clock_ms += 10
        return f"2026-11-21T07:00:{moment // 1000:02d}.{moment % 1000:03d}Z"


def tell(house: House) -> Story:
    """Tell the whole story, from request to mint."""
    keys, say = house.keys, Teller(house)
    hub, bo = f"hub:{keys.hub.key_id}", f"provider:{keys.provider.key_id}"
    salts = {name: seed(f"salt {name}")[:16] for name in INPUTS}
    digests = {name: field_digest(name, value, salts[name]) for name, value in INPUTS.items()}

    # submitted, with the hub's promise
    asked = {"kind": "text-to-image", "model": "tiny-shapes", "inputs": digests}
    request = say.claim(
        REQUEST, keys.client, **asked, hub=ORIGIN, nonce=b64url(seed("nonce")[:16]), at=say.at(),
        max_price=str(2 * PRICE),
    )  # fmt: skip
    submitted: dict[str, Any] = {**asked, "priority": 0, "expires_at": "2026-11-22T07:00:00.000Z"}
    submitted |= {"max_price": str(2 * PRICE)}
    actor = "api-key:ab12" if house.unsigned_request else f"client:{keys.client.key_id}"
    job_nid = say.add("JobSubmitted", actor, submitted | ({} if house.unsigned_request else request), attempt=0)
    promise = say.claim(PROMISE, keys.hub, log=ORIGIN, nid=job_nid, at=say.at(), by="2026-11-21T08:00:00.000Z")

    attempt, fencing = 1, 41
    if house.requeued_first:
        say.add("JobScheduled", hub, _lease(keys, 40), attempt=1)
        say.add("JobRequeued", hub, {"cause": "not-started", "fencing": 40, "attempts_left": 2}, attempt=1)
        attempt = 2
    about = {"job_id": JOB_ID, "job_nid": job_nid, "attempt": attempt, "fencing": fencing}

    # scheduled, started, progress, completed
    say.add("JobScheduled", hub, _lease(keys, fencing), attempt=attempt)
    started = say.claim(
        STARTED, keys.provider, **about, provider=keys.provider.key_id, model="tiny-shapes", model_digest="7" * 64,
        device="CPU x86_64", runner="tallystick/0.1.0", at=say.at(),
    )  # fmt: skip
    say.add("JobStarted", bo, {"fencing": fencing, **started}, attempt=attempt)
    started_at = say.at()
    for n, (step, steps) in enumerate(ROUNDS, start=1):
        signed = say.claim(PROGRESS, keys.provider, **about, step=step, steps=steps, at=say.at(500))
        data = {"fencing": fencing, "step": step, "steps": steps, **signed}
        say.add("JobProgressUpdate", bo, data, attempt=attempt, n=n)
    unsigned = picture()
    finished_at = say.at(500)
    meter = {
        "wall_ms": {"value": 1_500, "quality": "measured", "source": "monotonic-clock"},
        "cpu_ms": {"value": CPU_MS, "quality": "measured", "source": "process-clock"},
        "gpu_ms": {"quality": "unavailable", "source": "no-cuda-device"},
    }
    output = {
        "name": "picture.png",
        "sha256": hashlib.sha256(unsigned).hexdigest(),
        "size": len(unsigned),
        "mime": "image/png",
    }
    facts = {"seed": 7, "steps": 3, "model_digest": "7" * 64, "diffusers": "0.42.1"}
    completed_claim = say.claim(
        COMPLETED, keys.provider, **about, provider=keys.provider.key_id, outputs=[output], facts=facts, meter=meter,
        started_at=started_at, finished_at=finished_at,
    )  # fmt: skip
    completed_nid = say.add("JobCompleted", bo, {"fencing": fencing, **completed_claim}, attempt=attempt)

    # credential
    signed_file = sign_picture(
        house,
        unsigned,
        replace(
            CredentialFacts(
                job_id=JOB_ID,
                job_nid=job_nid,
                completed_nid=completed_nid,
                unsigned_sha256=output["sha256"],  # type: ignore[arg-type]
                kind="text-to-image",
                model="tiny-shapes",
                model_digest="7" * 64,
                provider=keys.provider.key_id,
                origin=house.origin,  # type: ignore[arg-type]
                hub=ORIGIN,
                software="diffusers",
                software_version="0.42.1",
                prompt_digests={"prompt": digests["prompt"]},
                meter=meter,
            ),
            **house.credential_changes,
        ),
    )
    issued = {
        "name": "picture.png",
        "unsigned_sha256": output["sha256"],
        "signed_sha256": signed_file.sha256,
        "size": signed_file.size,
        "mime": "image/png",
        "embedded": True,
        "manifest_label": signed_file.manifest_label,
        "certificate_sha256": house.authority.leaf_sha256,
    }
    say.add("CredentialIssued", hub, issued, attempt=attempt)

    # usage, attestation
    usage = usage_text(
        UsageClaim(
            job_id=JOB_ID,
            job_nid=job_nid,
            attempt=attempt,
            provider=keys.provider.key_id,
            payout="0x" + "b0" * 20,
            client=field_digest("client", keys.client.key_id, seed("pseudonym")[:16]),
            units=CPU_MS,
            unit_type="cpu_ms",
            price=PRICE,
            amount=CPU_MS * PRICE,
            model="tiny-shapes",
            model_digest="7" * 64,
            prompt_hash=inputs_digest(digests),
            started_at=started_at,
            finished_at=finished_at,
            artifact_sha256=str(output["sha256"]),
            nonce=b64url(seed("usage")[:16]),
            hub_id=ORIGIN,
            chain_id=CHAIN_ID,
        )
    )
    if change := house.alter_claim.get("UsageClaim"):
        value = decode(usage.encode())
        change(value)
        usage = encode(value).decode()
    hash_ = receipt_hash(usage)
    signed_usage = {"receipt_hash": hash_, "claim": usage, "sig": dict(sign_text(keys.provider, usage))}
    say.add("UsageReceipt", bo, signed_usage, attempt=attempt)
    amount, deadline = CPU_MS * PRICE, 1_900_000_000
    authorization = MintAuthorization("0x" + "b0" * 20, amount, hash_, deadline)
    attestation = sign_authorization(keys.attester, Domain(CHAIN_ID, MINTER), authorization)
    attested = {
        "receipt_hash": hash_,
        "provider": "0x" + "b0" * 20,
        "units": CPU_MS,
        "unit_type": "cpu_ms",
        "price": str(PRICE),
        "amount": str(amount),
        "acceptance": "none",
        "epoch": "2026-11-21",
        "chain_id": CHAIN_ID,
        "minter": MINTER,
        "deadline": deadline,
        "attestations": [dict(attestation)],
    }
    say.add("UsageAttested", f"attester:{keys.attester.key_id}", attested, attempt=0, subject=f"usage:{hash_}")

    # mint
    changes = dict(house.mint_changes)
    paid = replace(authorization, **changes.pop("authorization", {}))
    signatures = changes.pop("signatures", [(attestation["key_id"], unb64url(attestation["sig"]))])
    call: dict[str, Any] = {
        "chain_id": CHAIN_ID,
        "nonce": 3,
        "max_priority_fee": 1,
        "max_fee": 2_000_000_000,
        "gas_limit": 200_000,
        "to": MINTER,
        "value": 0,
        "data": encode_mint(paid, signatures),
    }
    mint = sign_transaction(keys.sender, **(call | changes))
    minted = {
        "receipt_hash": hash_,
        "provider": "0x" + "b0" * 20,
        "amount": str(amount),
        "chain_id": CHAIN_ID,
        "token": TOKEN,
        "minter": MINTER,
        "tx_hash": transaction_hash(mint),
        "block_number": 12,
        "block_hash": "0x" + "12" * 32,
    }
    say.add("TokensMinted", f"sender:{keys.sender.key_id}", minted, attempt=0, subject=f"usage:{hash_}")
    tally = _log_and_anchor(house, say, job_nid, promise, mint)
    shown = tuple(Disclosed(name, INPUTS[name], salts[name]) for name in house.disclosed)
    return Story(
        Tally(
            job_id=JOB_ID,
            job_nid=job_nid,
            receipts=tally.receipts,
            checkpoint=tally.checkpoint,
            promise=tally.promise,
            anchor=tally.anchor,
            mint=mint,
            disclosed=shown,
        ),
        signed_file.path.read_bytes(),
        unsigned,
        salts,
    )


def _lease(keys: Keys, fencing: int) -> dict[str, Any]:
    return {
        "provider": keys.provider.key_id,
        "fencing": fencing,
        "lease_until": "2026-11-21T07:01:00.000Z",
        "unit_type": "cpu_ms",
        "price": str(PRICE),
        "score_ppm": 850_000,
        "asks": 1,
    }


def sign_picture(house: House, unsigned: bytes, facts: CredentialFacts) -> SignedFile:
    """Sign a picture with the house's certificates."""
    source = house.folder / f"{facts.unsigned_sha256[:16]}.png"
    source.write_bytes(unsigned)
    drafts = house.folder / f"signed-{facts.completed_nid[-8:]}"
    drafts.mkdir(exist_ok=True)
    return sign_file(
        source=source,
        mime="image/png",
        facts=facts,
        signer=FileSigner(house.authority),
        destination_dir=drafts,
        max_bytes=2**20,
        version="0.1.0",
    )


def _log_and_anchor(house: House, say: Teller, job_nid: str, promise: dict[str, Any], mint: bytes) -> Tally:
    """Put the receipts among other people's, sign the log, anchor it."""
    entries = [encode({"eventType": "JobSubmitted", "nid": nid(seed(f"other {n}")), "v": 1}) for n in range(40)]
    leaves: list[bytes] = [leaf_hash(entry) for entry in entries[: house.strangers_before]]
    places: dict[int, int] = {}
    told_in = list(enumerate(zip(say.bodies, say.types, strict=True)))
    for n, (raw, type_) in reversed(told_in) if house.logged_backwards else told_in:
        places[n] = len(leaves)
        leaves.append(leaf_hash(encode({"eventType": type_, "nid": nid(raw), "v": 1})))
        leaves += [leaf_hash(entry) for entry in entries[20 + n : 20 + n + n % 3]]
    stated = Checkpoint(ORIGIN, len(leaves), root_of(leaves))
    note = sign_note(stated.text(), ORIGIN, house.keys.log, house.keys.log.public)
    told = {
        "checkpoint": nid(stated.text().encode()),
        "log": house.log_nid,
        "root": base64.b64encode(stated.root).decode(),
        "size": stated.size,
    } | dict(house.shown_anchor)
    call: dict[str, Any] = {
        "chain_id": CHAIN_ID,
        "nonce": 2,
        "max_priority_fee": 1,
        "max_fee": 2_000_000_000,
        "gas_limit": 100_000,
        "to": REGISTER,
        "value": 0,
        "data": encode_commit(house.log_nid, encode(told).decode()),
    }
    signature: Signature = promise["sig"]
    return Tally(
        job_id=JOB_ID,
        job_nid=job_nid,
        receipts=tuple(
            LoggedReceipt(raw, places[n], tuple(inclusion_proof(_reader(leaves), places[n], len(leaves))))
            for n, raw in enumerate(say.bodies)
        ),
        checkpoint=note,
        promise=Promise(promise["claim"], signature),
        anchor=sign_transaction(house.keys.sender, **(call | dict(house.anchor_changes))),
        mint=mint,
    )


def _reader(leaves: list[bytes]) -> ReadHash:
    def read(level: int, index: int) -> bytes:
        return root_of(leaves[index << level : (index + 1) << level])

    return read
