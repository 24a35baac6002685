"""Is what the receipts tell one lawful story, in canonical bytes? Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobs.client.case import PUBLIC_IN_A_TALLY, Case, Gone, Read
from jobs.client.verdicts import Broken, Faults, Newer, require_equal
from receipts.canonical import NotCanonical, decode_canonical, nid_of_digest, read_utc
from receipts.events import EVENTS, About

UNFINISHED: Final = frozenset({"submitted", "scheduled", "running"})

# What each receipt does to its job: the states it may find, and the state it leaves. The verifier's own table:
# a test holds it against the one that the house moves jobs by.
LEGAL: Final[dict[str, tuple[frozenset[str], str]]] = {
    "JobSubmitted": (frozenset({"nothing"}), "submitted"),
    "JobScheduled": (frozenset({"submitted"}), "scheduled"),
    "JobStarted": (frozenset({"scheduled"}), "running"),
    "JobProgressUpdate": (frozenset({"running"}), "running"),
    "JobCompleted": (frozenset({"running"}), "completed"),
    "JobFailed": (UNFINISHED, "failed"),
    "JobCancelled": (UNFINISHED, "cancelled"),
    "JobRequeued": (frozenset({"scheduled", "running"}), "submitted"),
    "CredentialIssued": (frozenset({"completed"}), "completed"),
    "UsageReceipt": (frozenset({"completed"}), "settled"),
}
STARTS_UNSCHEDULED: Final = "reported"  # another cluster has a scheduler of its own

# Who may say what. The id behind the role is checked where there is a signature to check it by.
ACTORS: Final[dict[str, tuple[str, ...]]] = {
    "JobSubmitted": ("client", "api-key", "operator"),
    "JobScheduled": ("hub",),
    "JobStarted": ("provider", "reporter"),
    "JobProgressUpdate": ("provider", "reporter"),
    "JobCompleted": ("provider", "reporter"),
    "JobFailed": ("hub", "provider", "reporter"),
    "JobCancelled": ("hub", "client", "operator", "api-key"),
    "JobRequeued": ("hub", "provider", "reporter"),
    "CredentialIssued": ("hub",),
    "UsageReceipt": ("provider", "reporter", "hub"),
    "UsageAttested": ("attester", "hub"),
    "TokensMinted": ("hub", "sender"),
}
_NUMBERED: Final = frozenset({"JobProgressUpdate", "CredentialIssued"})


def receipts_canonical(case: Case) -> str:
    """Read every receipt: RFC 8785 bytes, at most 16 KiB, in the shape of its type."""
    faults = Faults()
    newer: list[Newer] = []
    for item in (*case.attempted, *case.erasures):
        with faults.gathered():
            if isinstance(item, Newer):
                newer.append(item)
            elif isinstance(item, Broken):
                raise item
    with faults.gathered():
        _require_acts(case)
    faults.settle()
    if newer:
        raise newer[0]
    gone = sum(isinstance(item, Gone) for item in case.attempted)
    erased = f"; {gone} erased, which {len(case.erasures)} logged acts say" if gone else ""
    return f"{len(case.attempted) - gone} receipts in canonical form, each in the shape of its type{erased}"


def _require_acts(case: Case) -> None:
    """Insist that what was erased was erased by an act, and that each act is about this job."""
    acts: set[str] = set()
    for index, act in enumerate(case.erasures):
        if isinstance(act, Gone) or (isinstance(act, Read) and act.type != "ReceiptErased"):
            raise Broken(f"erasures[{index}].bytes", "is no act of erasing", expected="a ReceiptErased")
        if isinstance(act, Read):
            acts.add(act.data["erased"])
    gone = [item for item in case.attempted if isinstance(item, Gone)]
    for item in gone:
        if item.type not in EVENTS:
            raise Broken(f"receipts[{item.index}].type", "is no type of receipt", found=item.type)
        if item.nid not in acts:
            raise Broken(
                f"receipts[{item.index}].erased",
                "its bytes are withheld, and no logged act says that they were erased",
                expected="a ReceiptErased among the erasures",
                found=str(item.nid),
            )
    if not case.erasures:
        return
    made = {str(item.nid) for item in gone} | set(_outputs(case))
    for index, act in enumerate(case.erasures):
        # Where JobCompleted itself was erased, nobody can say any more which files were the job's.
        if isinstance(act, Read) and act.data["erased"] not in made and not gone:
            raise Broken(
                f"erasures[{index}].bytes",
                "is about something else than this job's receipts and files",
                expected=" or ".join(sorted(made)) or "nothing",
                found=act.data["erased"],
            )


def _outputs(case: Case) -> list[str]:
    """Name the files that the job made, as made and as signed, by what an act of erasing calls them."""
    digests = [digest for item in case.all("CredentialIssued") for digest in _digests_in(item.data)]
    for item in case.all("JobCompleted"):
        try:
            claim: Any = decode_canonical(str(item.data.get("claim")).encode())
        except NotCanonical:
            continue  # what is wrong with it is for another step to say
        outputs = claim.get("outputs", []) if isinstance(claim, dict) else []
        digests += [digest for output in outputs if isinstance(output, dict) for digest in _digests_in(output)]
    return [str(nid_of_digest(bytes.fromhex(digest))) for digest in digests]


def _digests_in(facts: Mapping[str, Any]) -> list[str]:
    told = [value for name, value in facts.items() if name.endswith("sha256") and isinstance(value, str)]
    return [value for value in told if re.fullmatch("[0-9a-f]{64}", value)]


def receipts_chain(case: Case) -> str:
    """Walk the job's receipts: numbered without gap, linked by hash, one job's, in a legal order, in time."""
    job, public = case.of_the_job, case.public
    if not job:
        raise Broken("receipts", "none of them is a receipt of the job")
    faults = Faults()
    with faults.gathered():
        _require_order(case.receipts, len(job))
    for before, receipt in zip([None, *job], job, strict=False):
        with faults.gathered():
            _require_link(case, before, receipt, job[0])
        with faults.gathered():
            _require_actor(case, receipt)
    for place, receipt in enumerate(public):
        with faults.gathered():
            require_public_link(public[:place], receipt)
            _require_claimed(case, receipt)
            _require_actor(case, receipt)
    with faults.gathered():
        walk = _walk(job)
    faults.settle()
    tries = f", {walk.attempts} attempts" if walk.attempts > 1 else ""
    return f"{len(job)} receipts of one job linked without gap, {walk.state}{tries}; {len(public)} public ones"


def idempotency_keys(case: Case) -> str:
    """Derive each receipt's idempotency key from what it tells, and see that none stands twice."""
    faults = Faults()
    seen: dict[str, Read] = {}
    numbers: dict[tuple[str, int], int] = {}
    for receipt in case.receipts:
        key = receipt.body["idempotencyKey"]
        with faults.gathered():
            _require_key(receipt, key, numbers)
        with faults.gathered():
            if key in seen:
                raise Broken(receipt.at("idempotencyKey"), f"stands in receipts[{seen[key].index}] too", found=key)
        seen[key] = receipt
    faults.settle()
    return f"{len(seen)} keys, each derived from its receipt, none twice"


@dataclass(frozen=True, slots=True)
class Walk:
    """Where the walk through a job's receipts ends."""

    state: str
    attempts: int


def _require_order(receipts: Sequence[Read], of_the_job: int) -> None:
    for receipt in receipts[:of_the_job]:
        if EVENTS[receipt.type].about is not About.JOB:
            raise Broken(f"receipts[{receipt.index}]", "the job's own receipts stand before the public ones")
    types = [receipt.type for receipt in receipts[of_the_job:]]
    if types != [name for name in PUBLIC_IN_A_TALLY if name in types]:
        raise Broken(
            f"receipts[{of_the_job}]",
            "after the job's receipts stand UsageAttested and TokensMinted, once each and in this order",
            expected=", ".join(PUBLIC_IN_A_TALLY),
            found=", ".join(types),
        )


def _require_link(case: Case, before: Read | None, receipt: Read, first: Read) -> None:
    body = receipt.body
    require_equal(receipt.at("jobId"), body["jobId"], case.tally.job_id, "is not the tally's job_id")
    if before is None:
        require_equal(receipt.at("eventType"), receipt.type, "JobSubmitted", "a job begins with another receipt")
        require_equal("job_nid", case.tally.job_nid, str(receipt.nid), "is not the NID of the first receipt")
        require_equal(receipt.at("seq"), body["seq"], 1, "is not the first in its chain")
        return
    require_equal(receipt.at("seq"), body["seq"], before.body["seq"] + 1, "leaves a gap in the job's receipts")
    # The NID is computed from the bytes of the receipt before: whichever of the two was changed, this breaks.
    require_equal(receipt.at("prev"), body["prev"], str(before.nid), f"does not name receipts[{before.index}].bytes")
    require_equal(receipt.at("nid"), body.get("nid"), str(first.nid), "is not the job's NID")
    for name in ("tenant", "origin"):
        require_equal(receipt.at(name), body[name], first.body[name], "differs from the first receipt's")
    _require_later(before, receipt)


def require_public_link(earlier: Sequence[Read], receipt: Read) -> None:
    """Link public receipts within their own subject."""
    same = [item for item in earlier if item.body["subject"] == receipt.body["subject"]]
    if not same:
        require_equal(receipt.at("seq"), receipt.body["seq"], 1, "is not the first in its chain")
        require_equal(receipt.at("prev"), receipt.body.get("prev"), None, "links to a receipt that is not here")
        return
    require_equal(receipt.at("seq"), receipt.body["seq"], same[-1].body["seq"] + 1, "leaves a gap in its chain")
    require_equal(
        receipt.at("prev"),
        receipt.body.get("prev"),
        str(same[-1].nid),
        f"does not name receipts[{same[-1].index}].bytes",
    )
    _require_later(same[-1], receipt)


def _require_claimed(case: Case, receipt: Read) -> None:
    claimed = [item.data["receipt_hash"] for item in case.all("UsageReceipt")]
    if receipt.data["receipt_hash"] not in claimed:
        raise Broken(
            receipt.at("data.receipt_hash"),
            "names a usage claim that no receipt of this job holds",
            expected=" or ".join(claimed) or "a UsageReceipt",
            found=receipt.data["receipt_hash"],
        )


def _require_later(before: Read, receipt: Read) -> None:
    moments = [read_utc(item.body["occurredAt"]) for item in (before, receipt)]
    if moments[1] < moments[0]:
        raise Broken(
            receipt.at("occurredAt"),
            f"is before receipts[{before.index}]",
            expected=f"{before.body['occurredAt']} or later",
            found=receipt.body["occurredAt"],
        )


def _require_actor(case: Case, receipt: Read) -> None:
    role, _, name = receipt.body["actor"].partition(":")
    if role not in ACTORS[receipt.type]:
        raise Broken(
            receipt.at("actor"),
            "has no say in this",
            expected=" or ".join(ACTORS[receipt.type]),
            found=receipt.body["actor"],
        )
    if role == "hub":
        case.require_key(receipt.at("actor"), "hub", name, receipt.leaf)


def _walk(job: Sequence[Read]) -> Walk:
    """Replay the job's life: each receipt must find the state that its move starts from.

    Raises: Broken.
    """
    state, attempt, fencing = "nothing", 0, 0
    for receipt in job:
        allowed, after = LEGAL[receipt.type]
        if receipt.type == "JobStarted" and receipt.body["origin"] == STARTS_UNSCHEDULED and state == "submitted":
            state, attempt = "scheduled", attempt + 1
        if state not in allowed:
            raise Broken(
                receipt.at("eventType"),
                f"no such move leads on from {state}",
                expected=" or ".join(sorted(allowed)),
                found=state,
            )
        if receipt.type == "JobScheduled":
            attempt += 1
            if receipt.data["fencing"] <= fencing:
                raise Broken(
                    receipt.at("data.fencing"),
                    "does not rise from lease to lease",
                    expected=f"more than {fencing}",
                    found=receipt.data["fencing"],
                )
            fencing = receipt.data["fencing"]
        require_equal(receipt.at("attempt"), receipt.body["attempt"], attempt, "is not the attempt that is due")
        if "fencing" in receipt.data and receipt.body["origin"] != STARTS_UNSCHEDULED:
            require_equal(receipt.at("data.fencing"), receipt.data["fencing"], fencing, "is not the lease's number")
        state = after
    return Walk("completed" if state == "settled" else state, attempt)


def _require_key(receipt: Read, key: str, numbers: dict[tuple[str, int], int]) -> None:
    body = receipt.body
    if EVENTS[receipt.type].about is not About.JOB:
        expected = f"{body['subject']}-{receipt.type}"
        require_equal(receipt.at("idempotencyKey"), key, expected, "is not the key of this receipt")
        return
    attempt = body["attempt"]
    plain = f"gpu-job-{body['jobId']}-{receipt.type}"
    expected = f"{plain}-{attempt}" if attempt > 1 else plain
    if receipt.type not in _NUMBERED or (receipt.type == "CredentialIssued" and key == expected):
        require_equal(receipt.at("idempotencyKey"), key, expected, "is not the key of this receipt")
        return
    numbered = re.fullmatch(re.escape(f"{plain}-{max(attempt, 1)}-") + "([1-9][0-9]{0,8})", key)
    if not numbered:
        raise Broken(
            receipt.at("idempotencyKey"),
            "is not the key of this receipt",
            expected=f"{plain}-{max(attempt, 1)}-<n>",
            found=key,
        )
    # The worker may fail to write one and count on: numbers rise, not always by one.
    newest = numbers.get((receipt.type, attempt), 0)
    if int(numbered[1]) <= newest:
        raise Broken(receipt.at("idempotencyKey"), "its number does not rise", expected=f"> {newest}", found=key)
    numbers[receipt.type, attempt] = int(numbered[1])
