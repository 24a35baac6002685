"""One job travels the whole line for real: model, store, C2PA, log and chain; then anyone checks it."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests
from django.conf import settings

from jobs import lifecycle, pipeline, worker
from jobs.admission import JobRequest
from jobs.claims import REQUEST, claim_text
from jobs.models import Job
from jobs.states import EvidenceState, JobState
from minting.models import MintState, Usage
from provenance.models import Credential
from provenance.store import house_store
from receipts import log
from receipts.anchor import anchor
from receipts.canonical import decode_canonical, field_digest
from receipts.chain import sender
from receipts.committers.erc7053 import commit_topics
from receipts.keys import ed25519_signer, keccak256, sign_text
from receipts.models import Checkpoint, Commit, Receipt, Tenant
from receipts.models.transactions import TransactionState
from tests.flow import by_hand
from tests.flow.turns import turn_until

pytestmark = pytest.mark.chain
INPUTS = {"prompt": "a red circle", "steps": 15, "guidance": "3", "count": 1, "seed": 7}


def submit_signed(tenant: Tenant, *, key: str = "once", **changes: Any) -> str:
    """Ask as a client does: with her own key, over salted digests of her own making."""
    signer = ed25519_signer("client", settings.KEYS_DIR)
    inputs = INPUTS | changes
    salts = dict.fromkeys(inputs, "A" * 22)
    claim = claim_text(
        REQUEST,
        kind="text-to-image",
        model="tiny-shapes",
        inputs={name: field_digest(name, value, bytes(16)) for name, value in inputs.items()},
        hub=settings.LOG_ORIGIN,
        nonce="A" * 22,
        at="2026-11-21T07:00:52.310Z",
    )
    request = JobRequest(
        kind="text-to-image",
        model="tiny-shapes",
        inputs=inputs,
        salts=salts,
        claim=claim,
        signature=dict(sign_text(signer, claim)),
    )
    return lifecycle.submit(
        tenant_id=tenant.pk, request=request, idempotency_key=key, fingerprint="f" * 64, actor="api-key:ts_test"
    ).job_id


def call(method: str, *params: Any) -> Any:
    """Ask the node in raw JSON-RPC, past all of our own code."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    answer = requests.post(settings.CHAIN_RPC_URL, json=body, timeout=10).json()
    assert "error" not in answer, answer
    return answer["result"]


def test_one_job_from_request_to_mint(house: dict[str, Any], ada: Tenant, live_server: Any) -> None:
    job_id = submit_signed(ada)
    pipeline.advance(job_id)
    assert worker.work("bo") == 1
    turn_until(lambda: Job.objects.get(pk=job_id).evidence == EvidenceState.COMPLETE, advancing=job_id)
    last = Usage.objects.get().minted_receipt
    assert last is not None
    leaf = turn_until(lambda: log.leaf_index(last.pk))
    turn_until(
        lambda: Commit.objects.filter(checkpoint__size__gt=leaf, transaction__state=TransactionState.FINAL).exists()
    )

    job = Job.objects.get(pk=job_id)
    assert job.state == JobState.COMPLETED
    types = list(Receipt.objects.filter(subject=job_id).order_by("seq").values_list("event_type", flat=True))
    assert [one for one in types if one != "JobProgressUpdate"] == [
        "JobSubmitted",
        "JobScheduled",
        "JobStarted",
        "JobCompleted",
        "CredentialIssued",
        "UsageReceipt",
    ]
    assert "JobProgressUpdate" in types
    _the_chain_agrees()
    _a_verifier_of_other_make_accepts_the_picture(Credential.objects.get())
    _a_second_mint_is_refused_by_the_chain()
    _a_stranger_checks_it_by_hand(live_server.url)


def _the_chain_agrees() -> None:
    """The supply is the attested amount, and the newest final anchor's root is the log's."""
    usage = Usage.objects.get()
    assert usage.state == MintState.MINTED and usage.attested_receipt and int(usage.amount) > 0
    attested = decode_canonical(bytes(usage.attested_receipt.body))["data"]["amount"]
    supply = call(
        "eth_call", {"to": settings.TOKEN_ADDRESS, "data": "0x" + keccak256(b"totalSupply()")[:4].hex()}, "latest"
    )
    assert int(supply, 16) == int(attested) == int(usage.amount)

    commit = Commit.objects.filter(transaction__state=TransactionState.FINAL).latest("checkpoint_id")
    head = log.log_head()
    topics = commit_topics(asset_cid=head.nid, recorder=commit.transaction.sender)
    logs = call("eth_getLogs", {"address": settings.REGISTER_ADDRESS, "fromBlock": "0x0", "topics": topics})
    told = bytes.fromhex(logs[-1]["data"][2:])
    length = int.from_bytes(told[32:64])
    data = json.loads(told[64 : 64 + length])
    checkpoint = Checkpoint.objects.get(size=data["size"])
    assert data["log"] == head.nid
    assert data["root"] == checkpoint.note.split("\n")[2]
    assert logs[-1]["transactionHash"] == commit.transaction.hash


def _a_verifier_of_other_make_accepts_the_picture(credential: Credential) -> None:
    import encypher_c2pa

    def opinion(data: bytes) -> str:
        told = encypher_c2pa.verify(data, "image/png", trust_pem=root, no_default_trust=True, telemetry=False)
        return str(dict(told)["validation_state"])

    root = (Path(settings.KEYS_DIR) / "c2pa" / "root.pem").read_text()
    picture = house_store().path_of(credential.signed_id).read_bytes()
    assert opinion(picture) == "Trusted"
    spoilt = bytearray(picture)
    spoilt[-40] ^= 1  # in the picture's own data, behind the credential
    assert opinion(bytes(spoilt)) == "Invalid"


def _a_second_mint_is_refused_by_the_chain() -> None:
    usage = Usage.objects.get()
    assert usage.transaction is not None
    sent = usage.transaction
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "eth_call",
        "params": [{"from": sent.sender, "to": sent.to, "data": "0x" + bytes(sent.data).hex()}, "latest"],
    }
    answer = requests.post(settings.CHAIN_RPC_URL, json=body, timeout=10).json()
    assert answer["error"]["data"].startswith("0x" + keccak256(b"ReceiptAlreadyUsed(bytes32)")[:4].hex())


def _a_stranger_checks_it_by_hand(url: str) -> None:
    """Everything follows from the root key's fingerprint, without a line of our code."""
    fingerprint = sha256(ed25519_signer("root", settings.KEYS_DIR).public).hexdigest()
    found = by_hand.check(url, fingerprint=fingerprint, rpc_url=settings.CHAIN_RPC_URL)
    assert found.size == Checkpoint.objects.latest("size").size
    assert found.anchors >= Commit.objects.filter(transaction__state=TransactionState.FINAL).count() > 0
    assert found.supply == int(Usage.objects.get().amount)
    imported = re.findall(r"^(?:from|import) (\w+)", Path(by_hand.__file__).read_text(), re.MULTILINE)
    assert set(imported).isdisjoint({"config", "jobs", "minting", "provenance", "receipts", "django"})
    with pytest.raises(AssertionError):
        by_hand.check(url, fingerprint="0" * 64, rpc_url=settings.CHAIN_RPC_URL)


def test_turning_the_crank_again_changes_nothing(house: dict[str, Any], ada: Tenant) -> None:
    log.turn()
    anchor()
    sender.turn()
    size, receipts = log.log_head().size, Receipt.objects.count()
    for _ in range(3):
        log.turn()
        anchor()
        pipeline.sweep()
    assert (log.log_head().size, Receipt.objects.count()) == (size, receipts)
    assert Commit.objects.count() == 1
