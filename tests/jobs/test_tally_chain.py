"""One tally of a real line: minted on a real node, anchored there, and checked with and without asking it."""

import json
import secrets
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests
from django.conf import settings
from django.utils import timezone

from jobs import lifecycle
from jobs.audit import audit, house_trust
from jobs.claims import inputs_digest
from jobs.client.trust import Trust
from jobs.client.verdicts import Word
from jobs.client.verify import EXIT_BROKEN, EXIT_HOLDS, Report, verify_tally
from jobs.models import Job
from jobs.states import EvidenceState
from jobs.tally import build_tally, collect
from minting.usage import UsageClaim, usage_text
from provenance.models import Credential
from provenance.store import house_store
from receipts.canonical import b64url, utc
from receipts.keys import sign_text
from receipts.models import Tenant
from receipts.models.transactions import TransactionState
from tests.flow.conftest import ada, house
from tests.flow.turns import turn_until
from tests.jobs.cast import Bo, leased
from tests.jobs.test_tally import ask

__all__ = ["ada", "house"]
pytestmark = pytest.mark.chain
UNITS = 5
METER = {
    "wall_ms": {"value": UNITS, "quality": "measured", "source": "monotonic-clock"},
    "cpu_ms": {"value": UNITS, "quality": "measured", "source": "process-clock"},
}


def completed(bo: Bo) -> str:
    """Take a job to its output, with a few units to pay."""
    attempt = leased(ask())
    bo.start(attempt)
    now = utc(timezone.now())
    told = bo.completion(attempt, meter=METER, started_at=now, finished_at=now)
    price = int(attempt.price)
    usage = usage_text(
        UsageClaim(
            job_id=attempt.job_id,
            job_nid=attempt.job.nid,
            attempt=attempt.number,
            provider=bo.signer.key_id,
            payout=attempt.provider.payout,
            client="client",
            units=UNITS,
            unit_type="cpu_ms",
            price=price,
            amount=UNITS * price,
            model="tiny-shapes",
            prompt_hash=inputs_digest(attempt.job.answer["inputs"]),
            started_at=now,
            finished_at=now,
            artifact_sha256=json.loads(told["claim"])["outputs"][0]["sha256"],
            nonce=b64url(secrets.token_bytes(16)),
            hub_id=settings.LOG_ORIGIN,
            chain_id=settings.CHAIN_ID,
        )
    )
    told |= {"usage": usage, "usage_signature": sign_text(bo.signer, usage)}
    lifecycle.complete(fencing=attempt.fencing, **told)
    return attempt.job_id


class LyingNode(HTTPServer):
    """A node between us and the real one, that changes answers by method."""

    lies: dict[str, Callable[[Any], Any]]


class _Relay(BaseHTTPRequestHandler):
    server: LyingNode

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answers = requests.post(settings.CHAIN_RPC_URL, json=asked, timeout=10).json()
        methods = {item["id"]: item["method"] for item in asked}
        for answer in answers:
            if lie := self.server.lies.get(methods[answer["id"]]):
                answer["result"] = lie(answer.get("result"))
        body = json.dumps(answers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def lying_node() -> Iterator[LyingNode]:
    server = LyingNode(("127.0.0.1", 0), _Relay)
    server.lies = {}
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_real_tally_holds_and_a_node_confirms_it(house: dict[str, Any], ada: Tenant, lying_node: LyingNode) -> None:
    job_id = completed(Bo(Tenant.objects.get(pk="house")))
    turn_until(lambda: Job.objects.get(pk=job_id).evidence == EvidenceState.COMPLETE, advancing=job_id)
    job = Job.objects.get(pk=job_id)

    def is_final() -> bool:
        commit = collect(job).commit
        return commit is not None and commit.transaction.state == TransactionState.FINAL

    turn_until(is_final)
    data, trust = build_tally(job), house_trust(job)
    picture = house_store().path_of(Credential.objects.get().signed_id).read_bytes()

    offline = verify_tally(data, trust, artifact=picture)
    assert offline.exit_code == EXIT_HOLDS, [item for item in offline.verdicts if item.verdict is not Word.HOLDS]
    asked = verify_tally(data, trust, artifact=picture, rpc=settings.CHAIN_RPC_URL)
    assert asked.exit_code == EXIT_HOLDS
    for claim in ("anchor-on-chain", "mint-on-chain"):
        assert asked.of(claim).verdict is Word.HOLDS, asked.of(claim)
        assert "confirmations" in asked.of(claim).detail
    told = audit(job)
    assert not told.broken
    assert {item.claim for item in told.verdicts if item.verdict is not Word.HOLDS} == {"witnesses", "disclosure"}

    _a_lying_or_dead_node_is_told_apart(data, trust, lying_node)


def _a_lying_or_dead_node_is_told_apart(data: bytes, trust: Trust, node: LyingNode) -> None:
    url = f"http://127.0.0.1:{node.server_address[1]}"

    def ask_it(**lies: Callable[[Any], Any]) -> Report:
        node.lies = lies
        return verify_tally(data, trust, rpc=url)

    def words(report: Report) -> set[Word]:
        return {report.of("anchor-on-chain").verdict, report.of("mint-on-chain").verdict}

    assert words(ask_it()) == {Word.HOLDS}
    reverted = ask_it(eth_getTransactionReceipt=lambda found: {**found, "status": "0x0"})
    assert words(reverted) == {Word.BROKEN} and reverted.exit_code == EXIT_BROKEN
    assert words(ask_it(eth_getTransactionReceipt=lambda found: {**found, "logs": []})) == {Word.BROKEN}
    gone = ask_it(eth_getTransactionReceipt=lambda _: None, eth_getTransactionByHash=lambda _: None)
    assert words(gone) == {Word.BROKEN}
    assert "knows no such transaction" in gone.of("anchor-on-chain").detail
    # A node that is behind, elsewhere, malformed or dead proves nothing either way.
    assert words(ask_it(eth_getTransactionReceipt=lambda _: None)) == {Word.UNKNOWN}
    assert words(ask_it(eth_chainId=lambda _: "0x1")) == {Word.UNKNOWN}
    assert words(ask_it(eth_chainId=lambda _: "no number")) == {Word.UNKNOWN}
    assert words(ask_it(eth_blockNumber=lambda _: "0x0")) == {Word.UNKNOWN}
    assert words(ask_it(eth_getBlockByNumber=lambda found: {**found, "hash": "0x00"})) == {Word.UNKNOWN}
    assert words(ask_it(eth_getTransactionReceipt=lambda _: {"status": "0x1"})) == {Word.UNKNOWN}
    assert words(ask_it(eth_getTransactionReceipt=lambda found: {**found, "logs": [7]})) == {Word.UNKNOWN}
    moved = ask_it(eth_getTransactionReceipt=lambda found: {**found, "blockNumber": "0x1"})
    assert moved.of("mint-on-chain").field == "receipts[7] TokensMinted data.block_number"
    for dead in ("http://127.0.0.1:9", "not a url", "http://"):
        assert words(verify_tally(data, trust, rpc=dead)) == {Word.UNKNOWN}, dead
