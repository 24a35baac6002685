"""Check a tally: bytes and a trust file in, one verdict a claim out. No Django, no network unless a node is named.

The steps, in the order in which they are told; `STEPS` below is this list, and the functions are tagged:

     1 receipts-canonical  every receipt is canonical JSON in the shape of its type
     2 receipts-chain      one job's receipts, linked without gap, in a legal order, in time
     3 idempotency-keys    each key is derived from its receipt, none stands twice
     4 request-signed      a client whom the checker believes signed this request
     5 work-signed         the provider that held the lease signed every claim about the work
     6 promise             the hub promised a place in the log
     7 inclusion           every receipt's hash leads to the checkpoint's root
     8 checkpoint          the log signed that size and root
     9 witnesses           others cosigned it
    10 anchor              the house's committer signed a transaction that commits it
    11 anchor-on-chain     a node has that transaction, deep enough            (only with a node)
    12 usage               the provider's usage claim fits the work, the price and the meter
    13 attestation         enough attesters signed exactly that claim
    14 meter               what was measured fits into the time that the hub saw
    15 artifact            the file at hand is the job's output                (only with the file)
    16 credential          its Content Credentials hold and name these receipts (only with the file)
    17 mint                the mint's signed transaction pays what was attested
    18 mint-on-chain       a node has that transaction, deep enough            (only with a node)
    19 disclosure          disclosed inputs fit their salted digests

Whose keys count is told by the trust file alone, each from its first leaf to its last.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from jobs.client.case import Case
from jobs.client.steps import artifact as file_steps
from jobs.client.steps import log, signed, story, tokens
from jobs.client.tally_format import NewerTally, Tally, read_tally
from jobs.client.trust import CLAIMS, Trust
from jobs.client.verdicts import Broken, ManyBroken, Newer, NotClaimed, Unknown, Verdict, Word

EXIT_HOLDS: Final = 0
EXIT_BROKEN: Final = 1
EXIT_NOT_A_TALLY: Final = 2
EXIT_UNKNOWN: Final = 3
EXIT_NEWER: Final = 4


@dataclass(frozen=True, slots=True)
class Step:
    """One claim, how it is checked, and who would have to lie for a `holds` to be false."""

    claim: str
    check: Callable[[Case], str]
    false_only_if: str


@dataclass(frozen=True, slots=True)
class Report:
    """All verdicts, and what a shell is told: 0 holds, 1 broken, 3 a required one is unknown, 4 from a newer house."""

    verdicts: tuple[Verdict, ...]
    exit_code: int
    simulated: bool = False
    job_id: str | None = None
    job_nid: str | None = None

    def of(self, claim: str) -> Verdict:
        """Give the verdict on a claim."""
        return next(item for item in self.verdicts if item.claim == claim)


STEPS: Final[tuple[Step, ...]] = (
    Step("receipts-canonical", story.receipts_canonical, "this verifier errs: only the bytes are needed"),
    Step("receipts-chain", story.receipts_chain, "the hub told another story from the start, and this one to all"),
    Step("idempotency-keys", story.idempotency_keys, "this verifier errs: only the bytes are needed"),
    Step("request-signed", signed.request_signed, "the client's key is stolen"),
    Step("work-signed", signed.work_signed, "the provider lies, or its key is stolen"),
    Step("promise", signed.promise, "the hub's key is stolen"),
    Step("inclusion", log.inclusion, "SHA-256 is broken"),
    Step("checkpoint", log.checkpoint, "the log's key is stolen"),
    Step("witnesses", log.witnesses, "all witnesses collude with the hub"),
    Step("anchor", log.anchor, "the committer's key is stolen, or signed and never sent (ask a node)"),
    Step("anchor-on-chain", log.anchor_on_chain, "the node lies, or who runs the chain rewrites it"),
    Step("usage", tokens.usage, "the provider lies about its meter"),
    Step("attestation", tokens.attestation, "the attesters collude with the provider"),
    Step("meter", tokens.meter, "the provider lies within the time that the hub saw"),
    Step("artifact", file_steps.artifact, "SHA-256 is broken"),
    Step("credential", file_steps.credential, "the house's C2PA key is stolen"),
    Step("mint", tokens.mint, "the sender's key is stolen, or signed and never sent (ask a node)"),
    Step("mint-on-chain", tokens.mint_on_chain, "the node lies, or who runs the chain rewrites it"),
    Step("disclosure", file_steps.disclosure, "SHA-256 is broken"),
)
assert tuple(step.claim for step in STEPS) == CLAIMS


def verify_tally(tally_bytes: bytes, trust: Trust, *, artifact: bytes | None = None, rpc: str | None = None) -> Report:
    """Check a tally file.

    Raises: jobs.client.tally_format.NotATally, for bytes that are none.
    """
    try:
        tally = read_tally(tally_bytes)
    except NewerTally as error:
        return _unjudged(str(error))
    return verify(tally, trust, artifact=artifact, rpc=rpc)


def verify(tally: Tally, trust: Trust, *, artifact: bytes | None = None, rpc: str | None = None) -> Report:
    """Check a tally that is read already."""
    case = Case(tally, trust, artifact, rpc)
    verdicts = tuple(judge(step, case) for step in STEPS)
    newer = any(isinstance(item, Newer) for item in case.attempted)
    submitted = case.find("JobSubmitted")
    simulated = submitted is not None and submitted.body["origin"] == "simulated"
    exit_code = EXIT_NEWER if newer else _exit_code(verdicts, trust.require)
    return Report(verdicts, exit_code, simulated, tally.job_id, tally.job_nid)


def judge(step: Step, case: Case) -> Verdict:
    """Take one step and say how it ended."""
    try:
        return _verdict(step, Word.HOLDS, step.check(case))
    except ManyBroken as error:
        return _broken(step, error)
    except Broken as error:
        return _broken(step, ManyBroken((error.fault,)))
    except Unknown as error:
        return _verdict(step, Word.UNKNOWN, str(error))
    except NotClaimed as error:
        return _verdict(step, Word.NOT_CLAIMED, str(error))


def _verdict(step: Step, word: Word, detail: str) -> Verdict:
    return Verdict(claim=step.claim, verdict=word, detail=detail, false_only_if=step.false_only_if)


def _broken(step: Step, error: ManyBroken) -> Verdict:
    first, *others = error.faults
    more = f" (and {len(others)} more)" if others else ""
    return Verdict(
        claim=step.claim,
        verdict=Word.BROKEN,
        detail=f"{first.field}: {first.rule}{more}",
        false_only_if=step.false_only_if,
        field=first.field,
        expected=first.expected,
        found=first.found,
        also=tuple(others),
    )


def _exit_code(verdicts: tuple[Verdict, ...], required: tuple[str, ...]) -> int:
    if any(item.verdict is Word.BROKEN for item in verdicts):
        return EXIT_BROKEN
    if any(item.claim in required and item.verdict is not Word.HOLDS for item in verdicts):
        return EXIT_UNKNOWN
    return EXIT_HOLDS


def _unjudged(reason: str) -> Report:
    return Report(tuple(_verdict(step, Word.UNKNOWN, reason) for step in STEPS), EXIT_NEWER)
