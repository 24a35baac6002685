"""One usage receipt leads to one mint, and where things went wrong the chain's own record decides."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from django.db import transaction
from pytest_django import Settings
from web3 import Web3

from minting import mint as minting
from minting.attest import Facts, IllegalMintMove, attest, authorization, domain, move, receive_usage
from minting.calldata import encode_mint
from minting.eip712 import MintAuthorization, sign_authorization, verify_authorization
from minting.models import MOVES, MintState, Usage
from minting.usage import Share, parse_usage, usage_text
from receipts.canonical import decode, unb64url
from receipts.chain.client import Rpc
from receipts.keys import Ed25519Signer, Secp256k1Signer, sign_text
from receipts.models import ChainTransaction, Receipt, Tenant
from receipts.record import record
from tests.contracts.bench import MINTER, TOKEN, Bench, Deployed
from tests.minting.claims import BO, CY, claim
from tests.receipts.chain.conftest import House
from tests.receipts.chain.node import ETHER, Faults, lying_proxy

pytestmark = pytest.mark.chain
PROVIDER = Ed25519Signer(b"\x44" * 32)
ATTESTER = Secp256k1Signer(b"\x55" * 32)
ADMIN, MALLORY = "0x" + "ad" * 20, "0x" + "e1" * 20
JOB = "job_" + "0" * 26
ORIGIN = "tallystick.example/log"


def claimed(tenant: Tenant, job_nid: str, **changes: Any) -> Usage:
    """Note a signed claim of Bo's for Ada's job."""
    text = usage_text(claim(job_id=JOB, job_nid=job_nid, provider=PROVIDER.key_id, **changes))
    return receive_usage(
        tenant=tenant, subject=JOB, attempt=1, origin="hosted", text=text, signature=sign_text(PROVIDER, text)
    )


@dataclass
class Line:
    """Bo's usage on its way to tokens."""

    house: House
    tenant: Tenant
    job_nid: str
    token: Deployed

    def claimed(self, **changes: Any) -> Usage:
        """Note a claim of Bo's, signed."""
        return claimed(self.tenant, self.job_nid, **changes)

    def facts(self, **changes: Any) -> Facts:
        """Give what the hub saw, which fits."""
        told = claim()
        facts = Facts(
            job_id=JOB,
            job_nid=self.job_nid,
            attempt=1,
            provider=PROVIDER.key_id,
            payout=BO,
            price=told.price,
            unit_type="cpu_ms",
            units_measured=told.units,
            artifact_sha256s=frozenset({told.artifact_sha256}),
            span_ms=2000,
            max_price=None,
        )
        return replace(facts, **changes)

    def sent(self, **changes: Any) -> Usage:
        """Bring a claim as far as the queue to the chain."""
        usage = attest(usage=self.claimed(**changes), facts=self.facts())
        return minting.mint(usage=usage)

    def settled(self, usage: Usage) -> Usage:
        """Settle as the pipeline does, from fresh rows."""
        with transaction.atomic():
            return minting.settle(usage=Usage.objects.get(pk=usage.pk), rpc=self.house.rpc)

    def followed(self, usage: Usage, *, turns: int = 20) -> Usage:
        """Take turns until the mint is over."""
        for _ in range(turns):
            usage = self.settled(usage)
            if usage.state in (MintState.MINTED, MintState.REFUSED):
                return usage
            self.house.turn(blocks=1)
        raise AssertionError(f"{usage.state} after {turns} turns: {usage.reason}")

    def supply(self) -> int:
        return int(self.token.ask("totalSupply"))

    def balance(self, who: str) -> int:
        return int(self.token.ask("balanceOf", Web3.to_checksum_address(who)))

    def stranger_sends(self, to: str, data: bytes, who: str = MALLORY) -> str:
        """Let another account send a call, and mine it."""
        self.house.node.fund(who, ETHER)
        self.house.node.ask("anvil_impersonateAccount", who)
        sent = {"from": who, "to": to, "data": "0x" + data.hex(), "gas": hex(1_000_000)}
        name = str(self.house.node.ask("eth_sendTransaction", sent))
        self.house.node.mine()
        return name


@pytest.fixture
def line(house: House, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Line:
    """Put the tokens on the chain, by an admin of their own, and open a job's thread."""
    monkeypatch.setenv("TALLYSTICK_KEY_ATTESTER", "secp256k1:0x" + "55" * 32)
    house.node.fund(ADMIN)
    house.node.ask("anvil_impersonateAccount", ADMIN)
    bench, admin = Bench(house.node), Web3.to_checksum_address(ADMIN)
    token = bench.deploy(TOKEN, admin, who=ADMIN)
    named = Web3.to_checksum_address(token.address)
    minter = bench.deploy(MINTER, named, admin, [Web3.to_checksum_address(ATTESTER.address)], 1, who=ADMIN)
    token.send(ADMIN, "grantRole", token.ask("MINTER_ROLE"), Web3.to_checksum_address(minter.address))
    settings.LOG_ORIGIN, settings.TOKEN_ADDRESS, settings.MINTER_ADDRESS = ORIGIN, token.address, minter.address
    return Line(house, *opened_job(), token)


def opened_job() -> tuple[Tenant, str]:
    """Open the thread of Ada's job and give its NID."""
    tenant = Tenant.objects.create(id="ada", name="Ada")
    first = record(
        event_type="JobSubmitted",
        subject=JOB,
        tenant_id="ada",
        actor="api-key:ada",
        data={
            "kind": "text-to-image",
            "model": "tiny-shapes",
            "inputs": {"prompt": "p" * 43},
            "priority": 0,
            "expires_at": "2026-11-22T07:00:00.000Z",
        },
        first=True,
    )
    return tenant, first.nid


def told(receipt: Receipt | None) -> dict[str, Any]:
    """Read a receipt's data."""
    assert receipt is not None
    data: dict[str, Any] = decode(bytes(receipt.body))["data"]
    return data


def test_a_claim_that_fits_is_attested_and_minted_once(line: Line) -> None:
    usage = attest(usage=line.claimed(), facts=line.facts())
    assert usage.state == MintState.ATTESTED
    usage = line.followed(minting.mint(usage=usage))
    assert usage.state == MintState.MINTED
    assert line.supply() == line.balance(BO) == 1830 * 10**15
    assert usage.transaction is not None
    minted = told(usage.minted_receipt)
    assert (minted["tx_hash"], minted["amount"]) == (usage.transaction.hash, "1830000000000000000")
    attested = told(usage.attested_receipt)
    assert attested["receipt_hash"] == usage.receipt_hash == minted["receipt_hash"]
    granted = authorization(parse_usage(usage.text), usage.receipt_hash, attested["deadline"])
    assert verify_authorization(domain(), granted, attested["attestations"][0]) == ATTESTER.address
    public = bytes(usage.attested_receipt.body) if usage.attested_receipt else b""
    assert JOB.encode() not in public and b"ada" not in public


def test_the_chain_refuses_a_second_mint_of_the_same_receipt(line: Line, settings: Settings) -> None:
    usage = line.followed(line.sent())
    calldata = minting.mint_calldata(usage)
    sent = line.stranger_sends(settings.MINTER_ADDRESS, calldata)
    assert line.house.node.ask("eth_getTransactionReceipt", sent)["status"] == "0x0"
    assert line.supply() == 1830 * 10**15


def test_a_mint_that_a_stranger_carried_is_found_and_not_repeated(line: Line, settings: Settings) -> None:
    """Anyone who sees our transaction waiting may send the same call first; the provider is paid all the same."""
    usage = line.sent()
    carried = line.stranger_sends(settings.MINTER_ADDRESS, minting.mint_calldata(usage))
    usage = line.followed(usage)
    assert usage.state == MintState.MINTED
    assert told(usage.minted_receipt)["tx_hash"] == carried
    assert line.supply() == 1830 * 10**15


def test_a_strangers_mint_counts_only_when_it_is_deep(line: Line, settings: Settings) -> None:
    usage = line.sent()
    line.stranger_sends(settings.MINTER_ADDRESS, minting.mint_calldata(usage))
    line.house.turn()
    assert ChainTransaction.objects.get(purpose="mint").state == "failed"
    assert line.settled(usage).state == MintState.SENT
    line.house.node.mine(2)
    assert line.settled(usage).state == MintState.MINTED


def test_other_tokens_for_our_receipt_are_an_alarm_and_no_mint(line: Line, settings: Settings) -> None:
    """Whoever has an attester's key can mint something else for a receipt; then nothing is called minted."""
    usage = line.sent()
    forged = MintAuthorization(MALLORY, 1830 * 10**15, usage.receipt_hash, 2**40)
    raw = unb64url(sign_authorization(ATTESTER, domain(), forged)["sig"])
    line.stranger_sends(settings.MINTER_ADDRESS, encode_mint(forged, [(ATTESTER.address, raw)]))
    for _ in range(5):
        line.house.turn(blocks=1)
        usage = line.settled(usage)
    assert usage.state == MintState.SENT
    assert MALLORY in usage.reason and "was attested" in usage.reason


def test_a_mint_whose_nonce_a_stranger_took_is_sent_anew(line: Line) -> None:
    usage = line.sent()
    nonce = line.house.node.nonce(line.house.sender.address)

    def full(method: str, params: list[Any]) -> Any:
        return {"error": {"code": -32000, "message": "txpool is full"}} if method == "eth_sendRawTransaction" else None

    with lying_proxy(line.house.node, Faults(deny=full)) as rpc:
        line.house.turn(rpc)
    line.stranger_sends("0x" + "99" * 20, b"", who=line.house.sender.address)
    assert line.house.node.nonce(line.house.sender.address) == nonce + 1
    usage = line.followed(usage)
    assert usage.state == MintState.MINTED
    assert list(ChainTransaction.objects.filter(purpose="mint").order_by("id").values_list("state", flat=True)) == [
        "replaced",
        "final",
    ]
    assert line.supply() == 1830 * 10**15


def test_a_mint_waits_while_the_token_is_paused(line: Line) -> None:
    usage = line.sent()
    line.token.send(ADMIN, "pause")
    for _ in range(3):
        line.house.turn(blocks=1)
    assert ChainTransaction.objects.get(purpose="mint").reason == "the contract is paused"
    line.token.send(ADMIN, "unpause")
    assert line.followed(usage).state == MintState.MINTED


def test_an_authorization_that_ran_out_is_refused_with_the_reason(line: Line, settings: Settings) -> None:
    settings.MINT_DEADLINE_DAYS = -1
    usage = line.followed(line.sent())
    assert usage.state == MintState.REFUSED
    assert "would revert" in usage.reason
    assert line.supply() == 0


def test_while_the_chain_is_silent_a_failed_mint_stays_undecided(line: Line, settings: Settings) -> None:
    settings.MINT_DEADLINE_DAYS = -1
    usage = line.sent()
    line.house.turn()
    with transaction.atomic():
        usage = minting.settle(
            usage=Usage.objects.get(pk=usage.pk), rpc=Rpc("http://127.0.0.1:9", sleep=lambda _: None)
        )
    assert usage.state == MintState.SENT
    assert "can't see" in usage.reason


def test_a_free_job_uses_its_receipt_and_mints_nothing(line: Line) -> None:
    usage = attest(usage=line.claimed(price=0, amount=0), facts=line.facts(price=0))
    assert line.followed(minting.mint(usage=usage)).state == MintState.MINTED
    assert line.supply() == 0
    assert line.token.ask("usedReceipt", usage.receipt_hash) is True


def test_shares_are_minted_to_each_provider(line: Line) -> None:
    shares = (Share(PROVIDER.key_id, BO, 1000, 10**18), Share("C" * 43, CY, 830, 83 * 10**16))
    usage = line.followed(line.sent(shares=shares))
    assert usage.state == MintState.MINTED
    assert (line.balance(BO), line.balance(CY)) == (10**18, 83 * 10**16)
    assert told(usage.minted_receipt)["shares"][1] == {"provider": CY, "units": 830, "amount": str(83 * 10**16)}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"payout": MALLORY}, "payout"),
        ({"units": 1831, "amount": 1831 * 10**15}, "units"),
        ({"price": 10**16, "amount": 1830 * 10**16}, "price"),
        ({"unit_type": "gpu_ms"}, "unit_type"),
        ({"attempt": 2}, "attempt"),
        ({"artifact_sha256": "ee" * 32}, "artifact_sha256"),
        ({"chain_id": 1}, "chain_id"),
        ({"hub_id": "other.example/log"}, "hub_id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_claim_that_does_not_fit_is_refused_by_field(line: Line, changes: dict[str, Any], field: str) -> None:
    usage = attest(usage=line.claimed(**changes), facts=line.facts())
    assert usage.state == MintState.REFUSED
    assert usage.reason.startswith(field)
    assert usage.attestation is None
    assert not Receipt.objects.filter(event_type="UsageAttested").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"max_price": 10**14}, "above the client's"), ({"span_ms": 1, "cores": 2}, "in a span of 1 ms")],
)
def test_a_claim_beyond_what_was_agreed_or_possible_is_refused(line: Line, changes: dict[str, Any], words: str) -> None:
    usage = attest(usage=line.claimed(), facts=line.facts(**changes))
    assert usage.state == MintState.REFUSED
    assert words in usage.reason


@pytest.mark.parametrize("here", MintState)
@pytest.mark.parametrize("there", MintState)
def test_every_move_that_is_not_drawn_is_refused(db: None, here: MintState, there: MintState) -> None:
    usage = claimed(*opened_job())
    Usage.objects.update(state=here)
    usage.refresh_from_db()
    if there in MOVES[here]:
        assert move(usage, there).state == there
        return
    with pytest.raises(IllegalMintMove):
        move(usage, there)
