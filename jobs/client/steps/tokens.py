"""Do the tokens equal the work: usage claim, attestation, meter, mint? Pure but for asking a node."""

import datetime as dt
from typing import Any, Final

from jobs.claims import COMPLETED, STARTED, inputs_digest
from jobs.client.case import Case, Read
from jobs.client.steps.log import PRIVATE
from jobs.client.steps.signed import claim_of, provider_of
from jobs.client.verdicts import Broken, Faults, NotClaimed, Unknown, reading, require_equal
from minting.eip712 import Domain, MintAuthorization, digest, verify_authorization
from minting.usage import UsageClaim, UsageInvalid, parse_usage, receipt_hash
from receipts.canonical import read_utc, unb64url
from receipts.chain import abi
from receipts.committers.erc7053 import NotCalldata, NotRlp, RawTransaction, decode_raw_transaction
from receipts.keys import SignatureBroken, keccak256, verify_text

TOLERANCE_MS: Final = 1_000  # writing Started and Completed takes time that the worker's clock does not see
MOST_CORES: Final = 1_024
_MINT: Final = "mintWithReceipt(address,uint256,bytes32,uint256,address[],bytes[])"
_TRANSFER: Final = "0x" + keccak256(b"Transfer(address,address,uint256)").hex()
_NOBODY: Final = "0x" + "00" * 32
_BILLABLE: Final = "hosted"
_WALLET: Final = "ERC-1271"


def usage(case: Case) -> str:
    """Hold the provider's usage claim against the work: same job, output, times, price, and the meter's units."""
    receipt, completed, submitted = (case.need(name) for name in ("UsageReceipt", "JobCompleted", "JobSubmitted"))
    claim = _usage_claim(receipt)
    role, due = provider_of(case, completed)
    with reading(receipt.at("data.claim"), SignatureBroken):
        signer = verify_text(receipt.data["claim"], receipt.data["sig"], key_id=due)
    case.require_key(receipt.at("data.sig.key_id"), role, signer, receipt.leaf)
    told, started = claim_of(completed, COMPLETED), claim_of(_started(case, completed), STARTED)
    facts: dict[str, Any] = {
        "job_id": case.tally.job_id,
        "job_nid": case.tally.job_nid,
        "attempt": completed.body["attempt"],
        "provider": signer,
        "model": started["model"],
        "prompt_hash": inputs_digest(submitted.data["inputs"]),
        "started_at": told["started_at"],
        "finished_at": told["finished_at"],
        "artifact_sha256": told["outputs"][0]["sha256"],
        "hub_id": case.trust.origin,
    }
    if claim.model_digest is not None:
        facts["model_digest"] = started["model_digest"]
    if case.trust.chain is not None:
        facts["chain_id"] = case.trust.chain.chain_id
    for name, value in facts.items():
        require_equal(receipt.at(f"data.claim {name}"), getattr(claim, name), value, "is not what the receipts tell")
    if claim.shares is not None:
        raise Unknown("the claim is shared by several providers, which this verifier does not judge")
    _require_price(case, receipt, claim, completed, submitted)
    _require_units(receipt, claim, told["meter"])
    return f"{claim.units} {claim.unit_type} at {claim.price} each are {claim.amount}, says {signer[:12]}…"


def attestation(case: Case) -> str:
    """Check that enough attesters signed the mint of exactly this claim."""
    attested = case.find("UsageAttested")
    if attested is None:
        raise _nothing_minted(case, "the hub has not attested the usage claim")
    _require_billable(case, attested)
    chain = case.trust.chain
    if chain is None:
        raise Unknown("the trust file names no chain to hold the attestation against")
    receipt = case.need("UsageReceipt")
    claim, data = _usage_claim(receipt), attested.data
    facts: dict[str, Any] = {
        "receipt_hash": receipt.data["receipt_hash"],
        "provider": claim.payout,
        "units": claim.units,
        "unit_type": claim.unit_type,
        "price": str(claim.price),
        "amount": str(claim.amount),
        "chain_id": chain.chain_id,
        "minter": chain.minter,
        "shares": None,
    }
    for name, value in facts.items():
        require_equal(attested.at(f"data.{name}"), data.get(name), value, "is not what the provider claims")
    if data["acceptance"] == "signed":
        raise Broken(attested.at("data.acceptance"), "no client's signature is shown", expected="none", found="signed")
    _require_subject(attested)
    day = attested.body["occurredAt"][:10]
    require_equal(attested.at("data.epoch"), data["epoch"], day, "is not the day of the attestation")
    signers = require_attesters(case, attested)
    return (
        f"{len(signers)} of {case.trust.threshold} due attesters sign {claim.amount}; acceptance: {data['acceptance']}"
    )


def require_attesters(case: Case, attested: Read) -> list[str]:
    """Insist that enough attesters signed what this receipt says, each once, the one who speaks among them.

    Raises: Broken.
    """
    data = attested.data
    faults, signers = Faults(), []
    for index in range(len(data["attestations"])):
        with faults.gathered():
            signers.append(_attester(case, attested, index))
    faults.settle()
    role, _, speaker = attested.body["actor"].partition(":")
    if role == "attester" and speaker not in signers:
        raise Broken(
            attested.at("actor"),
            "is none of those who signed",
            expected=" or ".join(signers),
            found=attested.body["actor"],
        )
    if len(set(signers)) != len(signers):
        raise Broken(attested.at("data.attestations"), "one attester signed twice", found=", ".join(signers))
    if len(signers) < case.trust.threshold:
        raise Broken(
            attested.at("data.attestations"),
            "too few attesters signed",
            expected=case.trust.threshold,
            found=len(signers),
        )
    return signers


def meter(case: Case) -> str:
    """Compare what the worker measured with the time that the hub's own clock saw.

    The worker's clock may be wrong, so only durations are compared, never its times with the hub's.
    """
    completed = case.need("JobCompleted")
    started = _started(case, completed)
    told = claim_of(completed, COMPLETED)
    span = _ms(started.body["occurredAt"], completed.body["occurredAt"])
    claimed = _ms(told["started_at"], told["finished_at"])
    if claimed < 0:
        raise Broken(
            completed.at("data.claim finished_at"),
            "is before the start",
            expected=f"{told['started_at']} or later",
            found=told["finished_at"],
        )
    figures = {name: _figure(completed, name, item) for name, item in told["meter"].items()}
    wall = figures.get("wall_ms")
    if wall is None:
        raise Unknown("the worker measured no wall_ms")
    _at_most(completed, "data.claim finished_at", claimed, span + TOLERANCE_MS, "longer than the hub saw it run")
    _at_most(completed, "data.claim meter.wall_ms", wall, min(span, claimed) + TOLERANCE_MS, "longer than it ran")
    _at_most(
        completed,
        "data.claim meter.cpu_ms",
        figures.get("cpu_ms") or 0,
        wall * MOST_CORES + TOLERANCE_MS,
        f"more than {MOST_CORES} cores could do",
    )
    gpu = figures.get("gpu_ms")
    if gpu is not None:
        if claim_of(started, STARTED)["device"].upper().startswith("CPU"):
            raise Broken(completed.at("data.claim meter.gpu_ms"), "a CPU host has no GPU time", found=gpu)
        _at_most(completed, "data.claim meter.gpu_ms", gpu, wall * MOST_CORES, "more than the GPUs of a host could do")
    shown = ", ".join(f"{name} {value}" for name, value in sorted(figures.items()) if value is not None)
    return f"{shown}; the hub saw {span} ms (tolerance {TOLERANCE_MS} ms)"


def mint(case: Case) -> str:
    """Hold TokensMinted and the signed mint transaction against the attestation, field by field."""
    minted, attested, raw = _mint(case)
    chain = case.trust.chain
    assert chain is not None
    for name in ("receipt_hash", "provider", "amount", "chain_id", "minter", "shares"):
        require_equal(
            minted.at(f"data.{name}"), minted.data.get(name), attested.data.get(name), "is not what was attested"
        )
    _require_subject(minted)
    require_equal(minted.at("data.token"), minted.data["token"], chain.token, "is not the house's token")
    require_equal("mint.raw", raw.hash, minted.data["tx_hash"], "is not the transaction that TokensMinted names")
    require_equal("mint.raw chain_id", raw.chain_id, chain.chain_id, "is for another chain")
    require_equal("mint.raw to", raw.to, chain.minter, "is not the minter")
    require_equal("mint.raw value", raw.value, 0, "a mint moves no funds")
    _require_mint_call(raw, attested)
    return f"{minted.data['amount']} to {minted.data['provider']} in {raw.hash}"


def mint_on_chain(case: Case) -> str:
    """Ask a node whether the mint is mined where TokensMinted says, for that amount, and is deep enough."""
    if case.trust.chain is None:
        raise NotClaimed("the trust file names no chain")
    (minted, _, raw), url = _mint(case), case.node_url
    from jobs.client.onchain import Node, find_log  # brings requests, which nobody offline needs

    node = Node.at(url, case.trust.chain)
    mined = node.mined("mint.raw", raw)
    for name, value in (("block_number", mined.block_number), ("block_hash", mined.block_hash)):
        require_equal(minted.at(f"data.{name}"), minted.data[name], value, "is not where the chain has it")
    to = "0x" + abi.address(minted.data["provider"]).hex()
    data = find_log(mined, case.trust.chain.token, [_TRANSFER, _NOBODY, to])
    if data is None:
        raise Broken(minted.at("data.amount"), "the chain minted nothing to this address here")
    require_equal(
        minted.at("data.amount"), minted.data["amount"], str(int.from_bytes(data)), "is not what the chain minted"
    )
    return f"in block {mined.block_number}, {node.confirmed(mined)}{PRIVATE if case.trust.embedded else ''}"


def _usage_claim(receipt: Read) -> UsageClaim:
    text = receipt.data["claim"]
    with reading(receipt.at("data.claim"), UsageInvalid):
        claim = parse_usage(text)
    require_equal(
        receipt.at("data.receipt_hash"),
        receipt.data["receipt_hash"],
        str(receipt_hash(text)),
        "does not name the claim",
    )
    return claim


def _started(case: Case, completed: Read) -> Read:
    same = [item for item in case.all("JobStarted") if item.body["attempt"] == completed.body["attempt"]]
    if not same:
        raise Unknown("the tally holds no JobStarted of this attempt")
    return same[0]


def _require_price(case: Case, receipt: Read, claim: UsageClaim, completed: Read, submitted: Read) -> None:
    scheduled = case.scheduled_for(completed)
    if scheduled is not None:
        sold = (scheduled.data["price"], scheduled.data["unit_type"])
        require_equal(receipt.at("data.claim price"), str(claim.price), sold[0], "is not the price of the auction")
        require_equal(receipt.at("data.claim unit_type"), claim.unit_type, sold[1], "is not the unit that was sold")
    highest = submitted.data.get("max_price")
    if highest is not None and claim.price > int(highest):
        raise Broken(
            receipt.at("data.claim price"),
            "is above what the client would pay",
            expected=f"at most {highest}",
            found=claim.price,
        )


def _require_units(receipt: Read, claim: UsageClaim, figures: dict[str, Any]) -> None:
    figure = figures.get(claim.unit_type, {})
    measured = figure.get("value", 0) if figure.get("quality") == "measured" else 0
    require_equal(receipt.at("data.claim units"), claim.units, measured, "is not what the meter measured")


def _require_billable(case: Case, receipt: Read) -> None:
    if case.origin == "simulated":
        raise Broken(receipt.at("eventType"), "a simulated job earns no tokens", found=receipt.type)


def _require_subject(receipt: Read) -> None:
    """A public receipt's subject names the usage claim, and neither tenant nor job."""
    due = f"usage:{receipt.data['receipt_hash']}"
    require_equal(receipt.at("subject"), receipt.body["subject"], due, "is not the usage claim that it is about")


def _nothing_minted(case: Case, reason: str) -> Exception:
    """Say whether tokens are missing, or were never due."""
    if case.trust.chain is None:
        return NotClaimed("the trust file names no chain: this house mints nothing")
    if case.find("JobSubmitted") is not None and case.origin != _BILLABLE:
        return NotClaimed(f"a {case.origin} job earns no tokens")
    return Unknown(reason)


def _attester(case: Case, attested: Read, index: int) -> str:
    data, signature = attested.data, attested.data["attestations"][index]
    where = attested.at(f"data.attestations[{index}]")
    authorization = MintAuthorization(
        provider=data["provider"],
        units=int(data["amount"]),
        receipt_hash=data["receipt_hash"],
        deadline=data["deadline"],
    )
    domain = Domain(data["chain_id"], data["minter"])
    if signature["alg"] == _WALLET:
        case.require_key(where, "attester", signature["key_id"], attested.leaf)
        with reading(where, NotCalldata):
            _require_wallet(case, where, signature, digest(domain, authorization))
        return str(signature["key_id"])
    with reading(where, SignatureBroken):
        signer = str(verify_authorization(domain, authorization, signature))
    case.require_key(where, "attester", signer, attested.leaf)
    return signer


def _require_wallet(case: Case, where: str, signature: dict[str, str], signed: bytes) -> None:
    """Ask the contract wallet that attests, at the mint's block where there is one: only the chain knows its owners."""
    if case.rpc_url is None or case.trust.chain is None:
        raise Unknown(f"{where}: {signature['key_id']} is a contract wallet: name a node of the chain with --rpc")
    from jobs.client.onchain import Node  # brings requests, which nobody offline needs

    minted = case.find("TokensMinted")
    Node.at(case.rpc_url, case.trust.chain).require_signed(
        where,
        signature["key_id"],
        signed,
        unb64url(signature["sig"]),
        block=minted.data["block_number"] if minted else None,
    )


def _figure(receipt: Read, name: str, item: dict[str, Any]) -> int | None:
    """Insist that a figure is there exactly where it was measured or estimated."""
    value: int | None = item.get("value")
    if (value is None) != (item["quality"] == "unavailable"):
        raise Broken(
            receipt.at(f"data.claim meter.{name}"),
            "a figure stands exactly where its quality is not `unavailable`",
            expected=item["quality"],
            found=value,
        )
    return value


def _at_most(receipt: Read, path: str, value: int, most: int, rule: str) -> None:
    if value > most:
        raise Broken(receipt.at(path), rule, expected=f"at most {most} ms", found=f"{value} ms")


def _ms(start: str, end: str) -> int:
    return (read_utc(end) - read_utc(start)) // dt.timedelta(milliseconds=1)


def _mint(case: Case) -> tuple[Read, Read, RawTransaction]:
    minted = case.find("TokensMinted")
    if minted is None:
        if case.tally.mint is not None:
            raise Broken("mint.raw", "no TokensMinted names it")
        raise _nothing_minted(case, "the tokens are not minted yet")
    _require_billable(case, minted)
    if case.trust.chain is None:
        raise Unknown("the trust file names no chain to hold the mint against")
    attested = case.need("UsageAttested")
    if case.tally.mint is None:
        raise Unknown("the tally lacks the mint's signed transaction")
    with reading("mint.raw", NotRlp):
        return minted, attested, decode_raw_transaction(case.tally.mint)


def _require_mint_call(raw: RawTransaction, attested: Read) -> None:
    """Hold the calldata against the attestation: read for the sake of names, then compared as a whole."""
    data = attested.data
    body = raw.data[4:]
    if raw.data[:4] != abi.selector(_MINT):
        raise Broken("mint.raw data", "calls another function", expected=_MINT, found=raw.data[:4].hex())
    with reading("mint.raw data", NotCalldata):
        found = {
            "provider": abi.address_at(body, 0),
            "amount": str(abi.uint_at(body, 32)),
            "receipt_hash": "0x" + abi.word_at(body, 64).hex(),
            "deadline": abi.uint_at(body, 96),
        }
    for name, value in found.items():
        require_equal(f"mint.raw {name}", value, data[name], "is not what was attested")
    signed = sorted(data["attestations"], key=lambda item: str(item["key_id"]))
    with reading(attested.at("data.attestations"), NotCalldata):
        due = _mint_call(data, signed)
    if raw.data != due:
        raise Broken("mint.raw attesterSigs", "are not the attestations, by ascending address")


def _mint_call(data: Any, signed: list[dict[str, str]]) -> bytes:
    return abi.call(
        _MINT,
        abi.address(data["provider"]),
        abi.uint(int(data["amount"])),
        abi.bytes32(data["receipt_hash"]),
        abi.uint(data["deadline"]),
        abi.array([abi.address(item["key_id"]) for item in signed]),
        abi.array([abi.dynamic_bytes(unb64url(item["sig"])) for item in signed]),
    )
