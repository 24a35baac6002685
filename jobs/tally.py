"""Collect all the evidence of one job into its tally, from the rows that hold it.

Receipts' bytes go out as they were hashed, the checkpoint with the cosignatures that it has by now. Of the
checkpoints that cover them all, the smallest whose anchor is final is taken, else one whose anchor is on its
way, else the newest that is final, else the newest: a tally is good for as long as it lasts, so it should lean
on the chain and on witnesses as soon as it can.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from django.db.models import Case, IntegerField, Q, Value, When

from jobs.client.tally_format import Disclosed, ErasedName, LoggedReceipt, Promise, Tally, write_tally
from jobs.errors import BadRequest, NotYet
from jobs.models import Job
from minting.models import Usage
from provenance.models import Artifact
from receipts.canonical import unb64url
from receipts.cosigners import newest_final
from receipts.keys import Signature
from receipts.log import LogError, inclusion, leaf_indices
from receipts.merkle import ProofBroken
from receipts.models import Checkpoint, Commit, Erasure, Receipt, TransactionHash
from receipts.models.transactions import TransactionState
from receipts.models.witnesses import published_note

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The rows that a job's tally is made of, as far as they are there."""

    job: Job
    receipts: tuple[Receipt, ...]  # the job's own by seq, then UsageAttested, TokensMinted
    leaves: dict[int, int]  # by receipt id; a pending one has none
    checkpoint: Checkpoint | None
    commit: Commit | None  # the anchor of that checkpoint
    usage: Usage | None
    raws: dict[str, bytes]  # signed transactions by their hash
    acts: tuple[Receipt, ...] = ()  # by which some of it was erased

    @property
    def pending(self) -> tuple[Receipt, ...]:
        """The receipts that are in no checkpoint yet."""
        size = self.checkpoint.size if self.checkpoint else 0
        return tuple(receipt for receipt in (*self.receipts, *self.acts) if self.leaves.get(receipt.pk, size) >= size)


_ANCHORS = Case(
    When(transaction__state=TransactionState.FINAL, then=Value(0)),
    When(transaction__state=TransactionState.MINED, then=Value(1)),
    default=Value(2),
    output_field=IntegerField(),
)
_UNDER_WAY = (TransactionState.FINAL, TransactionState.MINED, TransactionState.SENT)


def build_tally(job: Job, *, disclose: Iterable[str] = (), anchored: bool = False) -> bytes:
    """Build a job's tally; `disclose` names the inputs that its owner chose to show. A constant number of queries.

    `anchored` waits for an anchor over all of its receipts to be on its way.
    Raises: NotYet, while a receipt is in no checkpoint; BadRequest, for what is no input.
    """
    evidence = collect(job)
    if evidence.pending:
        raise NotYet(f"{len(evidence.pending)} of {len(evidence.receipts)} receipts wait for the next checkpoint")
    if anchored and evidence.commit is None:
        raise NotYet("its checkpoint waits for the next anchor")
    return write_tally(tally_of(evidence, disclosed=_disclosed(job, disclose)))


def collect(job: Job) -> Evidence:
    """Read all rows that speak of a job, in seven queries at most."""
    own = list(Receipt.objects.filter(tenant_id=job.tenant_id, subject=job.job_id).order_by("seq"))
    usage = (
        Usage.objects.filter(subject=job.job_id)
        .select_related("attested_receipt", "minted_receipt", "transaction")
        .first()
    )
    public = [usage.attested_receipt, usage.minted_receipt] if usage else []
    receipts = (*own, *(receipt for receipt in public if receipt is not None))
    acts = _acts(job)
    leaves = leaf_indices([receipt.pk for receipt in (*receipts, *acts)])
    commit = _anchor_over(max(leaves.values())) if leaves else None
    checkpoint = commit.checkpoint if commit else _newest_over(max(leaves.values())) if leaves else None
    sent = [commit.transaction.hash] if commit else []
    if usage and usage.transaction and usage.minted_receipt:
        sent.append(usage.transaction.hash)
    raws = {row.hash: bytes(row.raw) for row in TransactionHash.objects.filter(hash__in=sent)} if sent else {}
    return Evidence(job, receipts, leaves, checkpoint, commit, usage, raws, acts)


def tally_of(evidence: Evidence, *, disclosed: tuple[Disclosed, ...] = (), lenient: bool = False) -> Tally:
    """Put the evidence in the tally's order. What is in no checkpoint yet has neither leaf nor proof there.

    `lenient` puts an empty proof where the tiles give none, for who judges and names it.
    Raises: receipts.log.LogError, ProofBroken, unless lenient.
    """
    checkpoint, usage = evidence.checkpoint, evidence.usage
    anchored = evidence.raws.get(evidence.commit.transaction.hash) if evidence.commit else None
    minted = evidence.raws.get(usage.transaction.hash) if usage and usage.transaction else None
    return Tally(
        job_id=evidence.job.job_id,
        job_nid=evidence.job.nid,
        receipts=tuple(_logged(evidence, receipt, lenient) for receipt in evidence.receipts),
        checkpoint=published_note(checkpoint) if checkpoint else None,
        promise=_promise(evidence.job.promise),
        anchor=anchored,
        mint=minted,
        disclosed=disclosed,
        erasures=tuple(_logged(evidence, act, lenient) for act in evidence.acts),
    )


def _newest_over(leaf: int) -> Checkpoint | None:
    """Find the newest checkpoint that enough witnesses cosigned and that covers a leaf; without one, the newest."""
    return newest_final(at_least=leaf + 1) or Checkpoint.objects.order_by("-size").first()


def _acts(job: Job) -> tuple[Receipt, ...]:
    """Find the acts by which receipts or files of this job were erased."""
    files = Artifact.objects.filter(tenant_id=job.tenant_id, subject=job.job_id).values("blob_id")
    of_the_job = Q(receipt__subject=job.job_id) | Q(sha256__in=files)
    return tuple(erasure.act for erasure in Erasure.objects.filter(of_the_job).select_related("act").order_by("act_id"))


def _anchor_over(leaf: int) -> Commit | None:
    """Find the best anchor of a checkpoint that covers a leaf: final before mined before sent, then the smallest."""
    return (
        Commit.objects.filter(checkpoint__size__gt=leaf, transaction__state__in=_UNDER_WAY)
        .select_related("checkpoint", "transaction")
        .annotate(standing=_ANCHORS)
        .order_by("standing", "checkpoint__size")
        .first()
    )


def _logged(evidence: Evidence, receipt: Receipt, lenient: bool) -> LoggedReceipt:
    leaf, checkpoint = evidence.leaves.get(receipt.pk), evidence.checkpoint
    proof: tuple[bytes, ...] | None = None
    if leaf is not None and checkpoint is not None and leaf < checkpoint.size:
        try:
            proof = tuple(inclusion(leaf, checkpoint.size))
        except (LogError, ProofBroken, ValueError) as error:
            if not lenient:
                raise
            log.warning("no proof for leaf %d at %d: %s", leaf, checkpoint.size, error)
            proof = ()
    gone = None if receipt.body else ErasedName(receipt.nid, receipt.event_type)
    return LoggedReceipt(bytes(receipt.body), leaf, proof, gone)


def _promise(value: Any) -> Promise:
    """Read the promise's row; what somebody made of it otherwise is for the verifier to name."""
    told: dict[str, Any] = value if isinstance(value, dict) else {}
    claim, sig = told.get("claim"), told.get("sig")
    kept: dict[str, Any] = sig if isinstance(sig, dict) else {}
    return Promise(claim if isinstance(claim, str) else "", cast("Signature", kept))


def _disclosed(job: Job, names: Iterable[str]) -> tuple[Disclosed, ...]:
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if name not in job.inputs:
            raise BadRequest("disclose", name, f"must be an input of this job: {', '.join(sorted(job.inputs))}")
    return tuple(Disclosed(name, job.inputs[name], unb64url(job.salts[name], size=16)) for name in chosen)
