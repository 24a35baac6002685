"""Who signed what: the client's request, the provider's claims, the hub's promise. Pure."""

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any, Final

from jobs.claims import (
    COMPLETED,
    FAILED,
    MOMENTS,
    PROGRESS,
    PROMISE,
    REQUEST,
    SHAPES,
    STARTED,
    ClaimBroken,
    parse_claim,
)
from jobs.client.case import Case, Read
from jobs.client.shape import find_fault, fitting
from jobs.client.verdicts import Broken, Faults, NotClaimed, Unknown, reading, require_equal
from receipts.canonical import read_utc
from receipts.keys import SignatureBroken, verify_text

CLAIM_OF: Final = {
    "JobStarted": STARTED,
    "JobProgressUpdate": PROGRESS,
    "JobCompleted": COMPLETED,
    "JobFailed": FAILED,
    "JobRequeued": FAILED,
    "JobCancelled": FAILED,
}


def request_signed(case: Case) -> str:
    """Check that a client whom the checker believes signed exactly this request."""
    receipt = case.need("JobSubmitted")
    if "claim" not in receipt.data and "sig" not in receipt.data:
        raise NotClaimed("as told by the hub: the client signed nothing")
    told = claim_of(receipt, REQUEST)
    signer = _signer(receipt)
    require_equal(
        receipt.at("actor"), receipt.body["actor"], f"client:{signer}", "is not the client who signed the request"
    )
    for name in ("kind", "model", "inputs", "max_price"):
        require_equal(
            receipt.at(f"data.{name}"), receipt.data.get(name), told.get(name), "is not what the client signed"
        )
    require_equal(receipt.at("data.claim hub"), told["hub"], case.trust.origin, "was signed for another house")
    if not case.trust.clients:
        raise Unknown(f"signed by {signer}, and the trust file's own part names no client: add it with --client-key")
    if signer not in case.trust.clients:
        raise Broken(
            receipt.at("data.sig.key_id"),
            "is none of the clients that the trust file's own part believes: forged, or taken by a client since",
            expected=" or ".join(sorted(case.trust.clients)),
            found=signer,
        )
    case.require_key(receipt.at("data.sig.key_id"), "client", signer, receipt.leaf)
    return f"the client {signer[:12]}… asked for {told['kind']} by {told['model']}"


def work_signed(case: Case) -> str:
    """Check each claim about the work: by the provider that holds the lease, about this job, attempt and lease."""
    signed = [item for item in case.readable if item.type in CLAIM_OF and ("claim" in item.data or "sig" in item.data)]
    if not signed:
        case.need("JobStarted")
    faults, signers = Faults(), set()
    for receipt in signed:
        with faults.gathered():
            signers.add(_check_work(case, receipt))
    with faults.gathered():
        _require_progress(case)
    faults.settle()
    return f"{len(signed)} claims signed by {', '.join(f'{signer[:12]}…' for signer in sorted(signers))}"


def promise(case: Case) -> str:
    """Check the hub's word that the job's first receipt goes into the log."""
    given = case.tally.promise
    with reading("promise.sig", SignatureBroken):
        signer = verify_text(given.claim, given.sig)
    first = case.tally.receipts[0]
    case.require_key("promise.sig.key_id", "hub", signer, first.leaf)
    told = _read("promise.claim", given.claim, PROMISE)
    require_equal("promise.claim log", told["log"], case.trust.origin, "is about another log")
    require_equal("promise.claim nid", told["nid"], case.tally.job_nid, "is about another receipt")
    if read_utc(told["by"]) < read_utc(told["at"]):
        raise Broken("promise.claim by", "lies before the promise itself", expected=told["at"], found=told["by"])
    if first.leaf is None:
        raise Unknown(f"promised at {told['at']}: in the log by {told['by']}; it has no leaf yet")
    return f"at {told['at']} the hub promised a leaf by {told['by']}; it is leaf {first.leaf}"


def claim_of(receipt: Read, type_: str) -> dict[str, Any]:
    """Read the claim inside a receipt, strictly. Raises: Broken."""
    for name in ("claim", "sig"):
        if name not in receipt.data:
            raise Broken(receipt.at(f"data.{name}"), "is missing: a claim comes with its signature")
    return _read(receipt.at("data.claim"), receipt.data["claim"], type_)


def _read(where: str, text: str, type_: str) -> dict[str, Any]:
    with reading(where, ClaimBroken):
        told = _parsed(text, type_)
    shape, fits = _shape_of(type_)
    if not fits(told) and (fault := find_fault(shape, told)):
        raise Broken(f"{where} {fault.where}", fault.rule, found=fault.found)
    for name in MOMENTS & told.keys():
        with reading(f"{where} {name}"):
            read_utc(told[name])
    return told


@lru_cache(maxsize=64)
def _parsed(text: str, type_: str) -> dict[str, Any]:
    """Read a claim once for all the steps that look into it; none of them changes it."""
    return parse_claim(text, type_)


@cache
def _shape_of(type_: str) -> tuple[dict[str, Any], Callable[[Any], bool]]:
    shape = {"type": "object", "properties": SHAPES[type_], "additionalProperties": False}
    return shape, fitting(shape)


def _signer(receipt: Read, key_id: str | None = None) -> str:
    with reading(receipt.at("data.claim"), SignatureBroken):
        return str(verify_text(receipt.data["claim"], receipt.data["sig"], key_id=key_id))


def provider_of(case: Case, receipt: Read) -> tuple[str, str]:
    """Say who may speak for a receipt's attempt: a role and a key id. Raises: Unknown, Broken."""
    scheduled = case.scheduled_for(receipt)
    if scheduled is not None:
        return "provider", scheduled.data["provider"]
    if receipt.body["origin"] == "reported":
        return "reporter", receipt.body["actor"].partition(":")[2]
    raise Broken(receipt.at("attempt"), "no provider was given this attempt", found=receipt.body["attempt"])


def _check_work(case: Case, receipt: Read) -> str:
    told = claim_of(receipt, CLAIM_OF[receipt.type])
    role, due = provider_of(case, receipt)
    signer = _signer(receipt, due)
    case.require_key(receipt.at("data.sig.key_id"), role, signer, receipt.leaf)
    require_equal(receipt.at("actor"), receipt.body["actor"], f"{role}:{signer}", "is not who signed the claim")
    about: Mapping[str, Any] = {
        "job_id": case.tally.job_id,
        "job_nid": case.tally.job_nid,
        "attempt": receipt.body["attempt"],
        "fencing": receipt.data.get("fencing"),
    }
    for name, value in about.items():
        require_equal(receipt.at(f"data.claim {name}"), told[name], value, "is not what the receipt is about")
    if "provider" in told:
        require_equal(receipt.at("data.claim provider"), told["provider"], signer, "is not who signed")
    for name in ("step", "steps", "meter", "detail"):
        if name in receipt.data:
            require_equal(receipt.at(f"data.{name}"), receipt.data[name], told.get(name), "is not what was signed")
    # A job that failed once too often is `poison`, whatever its last attempt died of.
    if receipt.data.get("class", "poison") != "poison":
        require_equal(receipt.at("data.class"), receipt.data["class"], told["class"], "is not what was signed")
    return signer


def _require_progress(case: Case) -> None:
    newest: dict[int, Read] = {}
    for receipt in case.all("JobProgressUpdate"):
        step, steps = receipt.data["step"], receipt.data["steps"]
        before = newest.get(receipt.body["attempt"])
        if step > steps or (before is not None and step <= before.data["step"]):
            least = 0 if before is None else before.data["step"] + 1
            raise Broken(receipt.at("data.step"), "progress goes forward", expected=f"{least} to {steps}", found=step)
        newest[receipt.body["attempt"]] = receipt
