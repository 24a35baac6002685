"""Judge one job with the verifier that everyone else has, on the house's own evidence.

Its page and its tally must never tell two stories, so the steps are those of `jobs.client.verify`, under
the trust document that the house publishes. A house can say more than a file can: the state of its
transactions stands in for the question to a node, and the artifact comes from its store. A job that still
runs is judged as far as it is; a row that was tampered with is named, never an exception.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from jobs.client.case import Case
from jobs.client.trust import NotATrustFile, Trust, add_own, trust_of
from jobs.client.verdicts import Fault, Verdict, Word
from jobs.client.verify import STEPS, judge
from jobs.models import Job
from jobs.tally import Evidence, collect, tally_of
from provenance.errors import ProvenanceError
from provenance.models import Artifact
from provenance.store import house_store
from receipts.erase import BytesErased, erasure_of_file
from receipts.keys import KeyUnusable
from receipts.log import LogError
from receipts.models import ChainTransaction, PublicKey
from receipts.models.transactions import TransactionState
from receipts.wellknown import NotPublished, document

log = logging.getLogger(__name__)

READ_AT_MOST: Final = 64 * 1024**2  # a larger file is for `tallystick verify`, not for a page
_RECEIPT: Final = re.compile(r"receipts\[([0-9]+)\]")
_FALSE_ONLY_IF: Final = "the node lied to this house, or its database was changed"


@dataclass(frozen=True, slots=True)
class Audit:
    """All verdicts on a job, and which of its receipts break which claim."""

    verdicts: tuple[Verdict, ...]
    evidence: Evidence
    faults: Mapping[int, tuple[tuple[str, Fault], ...]] = field(default_factory=dict)  # by receipt id: claim, fault

    def of(self, claim: str) -> Verdict:
        """Give the verdict on one claim."""
        return next(item for item in self.verdicts if item.claim == claim)

    @property
    def broken(self) -> tuple[Verdict, ...]:
        """Give the verdicts that found something broken."""
        return tuple(item for item in self.verdicts if item.verdict is Word.BROKEN)


def audit(job: Job) -> Audit:
    """Judge a job as it stands now. A constant number of queries; reading a credential costs most."""
    evidence = collect(job)
    try:
        trust = house_trust(job)
    except (NotPublished, KeyUnusable, NotATrustFile, LogError) as error:
        verdicts = tuple(
            Verdict(claim=step.claim, verdict=Word.UNKNOWN, detail=str(error), false_only_if=step.false_only_if)
            for step in STEPS
        )
        return Audit(verdicts, evidence)
    artifact, why_not = _artifact(job)
    case = Case(tally_of(evidence, lenient=True), trust, artifact)
    judged = {step.claim: judge(step, case) for step in STEPS}
    if why_not and judged["artifact"].verdict is Word.UNKNOWN:
        for claim in ("artifact", "credential"):
            judged[claim] = replace(judged[claim], detail=why_not)
    anchored = evidence.commit.transaction if evidence.commit else None
    minted = evidence.usage.transaction if evidence.usage else None
    for claim, sent in (("anchor-on-chain", anchored), ("mint-on-chain", minted)):
        if sent is not None:
            judged[claim] = _as_the_house_saw(judged[claim], sent)
    verdicts = tuple(judged.values())
    return Audit(verdicts, evidence, _faults_by_receipt(evidence, verdicts))


def house_trust(job: Job) -> Trust:
    """Believe what the house publishes, and the client keys that the job's own tenant registered.

    Raises: NotPublished, KeyUnusable, LogNotFounded, NotATrustFile.
    """
    clients = PublicKey.objects.filter(role=PublicKey.Role.CLIENT, tenant_id=job.tenant_id).order_by("id")
    told = [
        {"key_id": key.key_id, "since_leaf": key.since_leaf}
        | ({"until_leaf": key.until_leaf} if key.until_leaf is not None else {})
        for key in clients
    ]
    return trust_of(add_own(document(), clients=[key.key_id for key in clients], client_keys=told))


def _artifact(job: Job) -> tuple[bytes | None, str]:
    """Read the signed output from the store, or say why not."""
    row = (
        Artifact.objects.filter(tenant_id=job.tenant_id, subject=job.job_id, role=Artifact.Role.SIGNED)
        .select_related("blob")
        .first()
    )
    if row is None:
        return None, "no output was signed yet"
    if row.blob.size > READ_AT_MOST:
        return None, "too large to be read for a page; `tallystick verify` reads it"
    try:
        with house_store().open_blob(row.blob_id) as stream:
            return stream.read(READ_AT_MOST), ""
    except (ProvenanceError, OSError) as error:
        if erasure := erasure_of_file(row.blob_id):
            return None, str(BytesErased(erasure))
        log.warning("the output of %s can't be read: %s", job.job_id, error)
        return None, f"the store can't give it: {error}"


def _as_the_house_saw(verdict: Verdict, sent: ChainTransaction) -> Verdict:
    """Say what became of a transaction by the house's own rows, where a checker would ask a node."""
    state = TransactionState(sent.state)
    where = f"{sent.hash} in block {sent.block_number}" if sent.block_number is not None else sent.hash
    known = replace(verdict, false_only_if=_FALSE_ONLY_IF, field=None, expected=None, found=None, also=())
    if state is TransactionState.FINAL:
        return replace(known, verdict=Word.HOLDS, detail=f"{where}, final by this house's own node")
    if state in (TransactionState.FAILED, TransactionState.REPLACED):
        return replace(
            known,
            verdict=Word.BROKEN,
            detail=f"its transaction is {state.value}: {sent.reason or 'no reason known'}",
            field=f"transaction {sent.hash or sent.key}",
            expected=TransactionState.FINAL.value,
            found=state.value,
        )
    waits = f": {sent.reason}" if sent.reason else ""
    return replace(
        known, verdict=Word.UNKNOWN, detail=f"{where or 'its transaction'} is {state.value}, not final{waits}"
    )


def _faults_by_receipt(evidence: Evidence, verdicts: tuple[Verdict, ...]) -> dict[int, tuple[tuple[str, Fault], ...]]:
    """Sort what broke by the receipt that it is about, so that a page can point at the row."""
    found: dict[int, tuple[tuple[str, Fault], ...]] = {}
    for verdict in verdicts:
        if verdict.field is None:
            continue
        first = Fault(verdict.field, verdict.detail, verdict.expected, verdict.found)
        for fault in (first, *verdict.also):
            place = _RECEIPT.search(fault.field)
            if place and int(place[1]) < len(evidence.receipts):
                receipt_id = evidence.receipts[int(place[1])].pk
                found[receipt_id] = (*found.get(receipt_id, ()), (verdict.claim, fault))
    return found
