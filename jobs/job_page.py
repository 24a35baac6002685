"""Collect what one job's page shows: its head, its picture, its story from request to mint, what is claimed of it.

Reads alone, and the same number of queries however long the story is.
"""

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from django.conf import settings

from jobs.client.verdicts import Verdict, Word
from jobs.models import Attempt, Job
from jobs.states import EvidenceState
from minting.models import MintState, Usage
from provenance.credentials import house_authority, house_store
from provenance.errors import ProvenanceError
from provenance.models import Artifact, Credential
from provenance.verify import CredentialReading, NotReadable, read_credential
from receipts.canonical import NotCanonical, decode, nid
from receipts.log import leaf_indices
from receipts.models import ChainTransaction, Checkpoint, Commit, Receipt
from receipts.models.transactions import TransactionState

INLINE: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
READ_AT_MOST: Final = 32 * 1024**2  # a larger file is not read for a page; the verifier reads it

# Which claims decide the chip of which entry; what no claim speaks of stands on its own bytes and link.
DECIDED_BY: Final[dict[str, tuple[str, ...]]] = {
    "JobSubmitted": ("request-signed", "promise"),
    "JobStarted": ("work-signed",),
    "JobProgressUpdate": ("work-signed",),
    "JobCompleted": ("work-signed", "artifact", "meter"),
    "CredentialIssued": ("credential",),
    "UsageReceipt": ("usage",),
    "UsageAttested": ("attestation",),
    "Checkpoint": ("inclusion", "checkpoint"),
    "Anchor": ("anchor", "anchor-on-chain"),
    "TokensMinted": ("mint", "mint-on-chain"),
}
TITLES: Final[dict[str, str]] = {
    "JobSubmitted": "Submitted",
    "JobScheduled": "Scheduled",
    "JobStarted": "Started",
    "JobProgressUpdate": "Progress",
    "JobCompleted": "Completed",
    "JobFailed": "Failed",
    "JobCancelled": "Cancelled",
    "JobRequeued": "Offered again",
    "CredentialIssued": "Credential issued",
    "UsageReceipt": "Usage claimed",
    "UsageAttested": "Usage attested",
    "TokensMinted": "Tokens minted",
    "Checkpoint": "In the log",
    "Anchor": "Anchored on the chain",
}


@dataclass(slots=True)
class Fact:
    """One line below an entry. `how` says how it is shown: text, hash, amount, receipt, checkpoint, transaction."""

    name: str
    value: Any
    how: str = "text"
    key: Any = None


@dataclass(slots=True)
class Entry:
    """One thing that happened to the job, with how far it is shown to be true."""

    type: str
    at: dt.datetime | None
    verdict: Word
    detail: str
    actor: str = ""
    receipt: Receipt | None = None
    leaf: int | None = None
    facts: list[Fact] = field(default_factory=list)
    claims: Sequence[Verdict] = ()
    folded: list["Entry"] = field(default_factory=list)  # progress, shown when asked for

    @property
    def title(self) -> str:
        return TITLES.get(self.type, self.type)

    @property
    def broken(self) -> list[Verdict]:
        return [claim for claim in self.claims if claim.verdict is Word.BROKEN]

    @property
    def tone(self) -> str:
        """The colour of its knot on the line: what ended badly is red, however true it is."""
        if self.verdict is Word.BROKEN or self.type == "JobFailed":
            return "bad"
        return {Word.HOLDS: "good", Word.UNKNOWN: "wait"}.get(self.verdict, "idle")


@dataclass(slots=True)
class Picture:
    """An artifact as the page shows it, and what was read from its credential just now."""

    artifact: Artifact
    shown: bool
    credential: Credential | None
    reading: CredentialReading | None
    verdict: Word
    detail: str


@dataclass
class JobPage:
    """Everything that one job's page needs, each part read once."""

    job: Job
    audit: Sequence[Verdict] = ()

    @cached_property
    def attempts(self) -> list[Attempt]:
        return list(self.job.attempts.select_related("provider"))

    @cached_property
    def attempt(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None

    @cached_property
    def names(self) -> dict[str, str]:
        """The names behind the keys of those who served it."""
        return {attempt.provider.key_id: attempt.provider.name for attempt in self.attempts}

    @cached_property
    def meter(self) -> Mapping[str, Any]:
        """The figures of the attempt that succeeded."""
        kept = next((attempt.completion for attempt in self.attempts if attempt.completion), None)
        figures = _claim_of(kept).get("meter", {}) if kept else {}
        return figures if isinstance(figures, dict) else {}

    @cached_property
    def usage(self) -> Usage | None:
        return (
            Usage.objects.filter(subject=self.job.job_id)
            .select_related("usage_receipt", "attested_receipt", "minted_receipt", "transaction")
            .first()
        )

    @cached_property
    def receipts(self) -> list[Receipt]:
        """The job's own receipts by their links, then the public ones about it."""
        own = list(Receipt.objects.filter(subject=self.job.job_id).order_by("seq"))
        public = [self.usage.attested_receipt, self.usage.minted_receipt] if self.usage else []
        return own + [receipt for receipt in public if receipt is not None]

    @cached_property
    def leaves(self) -> dict[int, int]:
        return leaf_indices([receipt.pk for receipt in self.receipts])

    @cached_property
    def checkpoint(self) -> Checkpoint | None:
        """The first checkpoint over all receipts that have a leaf."""
        if not self.leaves:
            return None
        return Checkpoint.objects.filter(size__gt=max(self.leaves.values())).order_by("size").first()

    @cached_property
    def anchor(self) -> Commit | None:
        """The first anchor of a checkpoint that covers them."""
        if self.checkpoint is None:
            return None
        return (
            Commit.objects.filter(checkpoint__size__gte=self.checkpoint.size)
            .select_related("transaction", "checkpoint")
            .order_by("checkpoint__size")
            .first()
        )

    @cached_property
    def duration(self) -> dt.timedelta | None:
        if self.job.started_at is None or self.job.finished_at is None:
            return None
        return self.job.finished_at - self.job.started_at

    @property
    def percent(self) -> int:
        return min(100, 100 * self.job.step // self.job.steps) if self.job.steps else 0

    @property
    def simulated(self) -> bool:
        return self.job.origin == "simulated"

    @cached_property
    def claims(self) -> dict[str, Verdict]:
        return {verdict.claim: verdict for verdict in self.audit}

    @property
    def broken(self) -> list[Verdict]:
        return [verdict for verdict in self.audit if verdict.verdict is Word.BROKEN]

    @property
    def counts(self) -> dict[str, int]:
        """How many claims end with which word, in the order of alarm."""
        order = (Word.BROKEN, Word.UNKNOWN, Word.HOLDS, Word.NOT_CLAIMED)
        found = {word.value: sum(verdict.verdict is word for verdict in self.audit) for word in order}
        return {word: count for word, count in found.items() if count}

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen here: then the page stops asking."""
        if not self.job.finished or self.job.evidence not in (EvidenceState.NONE, EvidenceState.COMPLETE):
            return False
        if len(self.leaves) < len(self.receipts) or self.checkpoint is None:
            return False
        return not settings.CHAIN_RPC_URL or (
            self.anchor is not None and self.anchor.transaction.state == TransactionState.FINAL
        )

    @property
    def version(self) -> str:
        """Name what the page shows, so that an unchanged one need not be sent again."""
        told = [
            self.job.state,
            self.job.evidence,
            self.job.evidence_reason,
            self.job.step,
            len(self.receipts),
            len(self.leaves),
            self.checkpoint.size if self.checkpoint else 0,
            self.anchor.transaction.state if self.anchor else "",
            self.usage.state if self.usage else "",
            self.usage.transaction.state if self.usage and self.usage.transaction else "",
        ]
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]

    # --- the story -------------------------------------------------------------------------------

    @cached_property
    def story(self) -> list[Entry]:
        """Every receipt, and what the log and the chain add, from request to mint; progress is folded."""
        told: list[Entry] = []
        before: Receipt | None = None
        for receipt in self.receipts:
            entry = self._entry(receipt, before)
            if receipt.subject == self.job.job_id:
                before = receipt
            if receipt.event_type == "JobProgressUpdate" and told and told[-1].type == "JobProgressUpdate":
                self._fold(told[-1], entry)
            else:
                told.append(entry)
        return self._with_log(told)

    def _entry(self, receipt: Receipt, before: Receipt | None) -> Entry:
        body, fault = _read(receipt, before if receipt.subject == self.job.job_id else None)
        claims = [self.claims[name] for name in DECIDED_BY.get(receipt.event_type, ()) if name in self.claims]
        verdict, detail = _decide(claims)
        if fault:
            verdict, detail = Word.BROKEN, fault
        return Entry(
            type=receipt.event_type,
            at=receipt.occurred_at,
            verdict=verdict,
            detail=detail,
            actor=str(body.get("actor", "")),
            receipt=receipt,
            leaf=self.leaves.get(receipt.pk),
            claims=claims,
            facts=_FACTS.get(receipt.event_type, _no_facts)(self, body.get("data", {})),
        )

    def _fold(self, into: Entry, entry: Entry) -> None:
        if not into.folded:
            into.folded.append(
                Entry(into.type, into.at, into.verdict, into.detail, into.actor, into.receipt, into.leaf, into.facts)
            )
        into.folded.append(entry)
        into.at, into.facts, into.receipt, into.leaf = entry.at, entry.facts, entry.receipt, entry.leaf
        if entry.verdict is Word.BROKEN:
            into.verdict, into.detail = entry.verdict, entry.detail

    def _with_log(self, told: list[Entry]) -> list[Entry]:
        """Put the log's and the chain's entries where they belong: before the mint, which ends the story."""
        added = [entry for entry in (self._logged(), self._anchored()) if entry]
        minted = next((place for place, entry in enumerate(told) if entry.type == "TokensMinted"), len(told))
        if self.usage and self.usage.state in (MintState.ATTESTED, MintState.SENT, MintState.REFUSED):
            added.append(self._minting(self.usage))
        return told[:minted] + added + told[minted:]

    def _logged(self) -> Entry | None:
        claims = [self.claims[name] for name in DECIDED_BY["Checkpoint"] if name in self.claims]
        verdict, detail = _decide(claims)
        waiting = len(self.receipts) - len(self.leaves)
        if self.checkpoint is None:
            return Entry("Checkpoint", None, Word.UNKNOWN, "Waits for the next checkpoint.", "hub", claims=claims)
        facts = [
            Fact("Leaves", _ranges(sorted(self.leaves.values()))),
            Fact("Checkpoint", self.checkpoint.size, "checkpoint", self.checkpoint.pk),
        ]
        if waiting:
            facts.append(Fact("Waiting", f"{waiting} newer receipt{'s' if waiting > 1 else ''} without a leaf"))
        return Entry("Checkpoint", self.checkpoint.signed_at, verdict, detail, "hub", facts=facts, claims=claims)

    def _anchored(self) -> Entry | None:
        claims = [self.claims[name] for name in DECIDED_BY["Anchor"] if name in self.claims]
        verdict, detail = _decide(claims)
        if not settings.CHAIN_RPC_URL and self.anchor is None:
            return None
        if self.anchor is None:
            return Entry("Anchor", None, Word.UNKNOWN, "Waits for the next anchor.", "sender", claims=claims)
        sent: ChainTransaction = self.anchor.transaction
        facts = [
            Fact("Transaction", sent.hash, "transaction", sent.pk),
            Fact("Block", sent.block_number if sent.block_number is not None else "not mined yet"),
            Fact("State", sent.state, "badge"),
        ]
        if sent.state != TransactionState.FINAL and verdict is not Word.BROKEN:
            verdict, detail = Word.UNKNOWN, sent.reason or "On its way; not final yet."
        return Entry("Anchor", sent.mined_at or sent.sent_at, verdict, detail, "sender", facts=facts, claims=claims)

    def _minting(self, usage: Usage) -> Entry:
        claims = [self.claims[name] for name in DECIDED_BY["TokensMinted"] if name in self.claims]
        facts = [Fact("Amount", usage.amount, "amount"), Fact("State", usage.state, "badge")]
        at = None
        if usage.transaction:
            facts.append(Fact("Transaction", usage.transaction.hash, "transaction", usage.transaction_id))
            at = usage.transaction.sent_at
        if usage.state == MintState.REFUSED:
            return Entry("Mint refused", at, Word.BROKEN, usage.reason or "The mint was refused.", facts=facts)
        detail = usage.reason or "On its way; not final yet."
        return Entry("TokensMinted", at, Word.UNKNOWN, detail, "sender", facts=facts, claims=claims)

    # --- the picture -----------------------------------------------------------------------------

    @cached_property
    def pictures(self) -> list[Picture]:
        """The outputs, each as signed where it is signed already, and each credential read again."""
        rows = list(
            Artifact.objects.filter(tenant_id=self.job.tenant_id, subject=self.job.job_id).select_related("blob")
        )
        credentials = {
            row.signed_id: row
            for row in Credential.objects.filter(tenant_id=self.job.tenant_id, subject=self.job.job_id)
        }
        signed = [row for row in rows if row.role == Artifact.Role.SIGNED]
        names = {row.name for row in signed}
        outputs = [row for row in rows if row.role == Artifact.Role.OUTPUT and row.name not in names]
        return [_picture(row, credentials.get(row.blob_id)) for row in signed + outputs]


def _read(receipt: Receipt, before: Receipt | None) -> tuple[Mapping[str, Any], str]:
    """Read a receipt's bytes again, and say what about them or their link is wrong, if anything is."""
    raw = bytes(receipt.body)
    try:
        body = decode(raw)
    except NotCanonical as error:
        return {}, f"Its bytes can't be read: {error}"
    if (found := nid(raw)) != receipt.nid:
        return body, f"Its bytes hash to {found}, the row says {receipt.nid}."
    if before is not None and body.get("prev") != before.nid:
        return body, f"It links to {body.get('prev')}, the receipt before it is {before.nid}."
    return body, ""


def _decide(claims: Sequence[Verdict]) -> tuple[Word, str]:
    """Sum up claims in one word: the most alarming one, and what it says."""
    for word in (Word.BROKEN, Word.UNKNOWN, Word.HOLDS):
        for claim in claims:
            if claim.verdict is word:
                return word, claim.detail
    if claims:
        return Word.NOT_CLAIMED, claims[0].detail
    return Word.HOLDS, "Its bytes hash to its NID, and it links to the receipt before it."


def _ranges(numbers: Sequence[int]) -> str:
    """Write 3, 4, 5, 9 as 3–5, 9."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)


def _picture(row: Artifact, credential: Credential | None) -> Picture:
    shown = row.blob.mime in INLINE
    if credential is None:
        return Picture(row, shown, None, None, Word.UNKNOWN, "Not signed yet.")
    if row.blob.size > READ_AT_MOST:
        return Picture(
            row, shown, credential, None, Word.UNKNOWN, "Too large to be read for a page; `verify` reads it."
        )
    store = house_store()
    try:
        with store.open_blob(row.blob_id) as stream:
            data = stream.read()
        manifest = None
        if credential.manifest_id:
            with store.open_blob(credential.manifest_id) as stream:
                manifest = stream.read()
        root_pem = house_authority().root_pem
    except ProvenanceError as error:
        return Picture(row, shown, credential, None, Word.UNKNOWN, str(error))
    reading = read_credential(data, row.blob.mime, root_pem=root_pem, manifest=manifest)
    if isinstance(reading, NotReadable):
        return Picture(row, shown, credential, None, Word.BROKEN, f"Its credential can't be read: {reading.reason}.")
    if reading.sha256 != credential.signed_id:
        detail = f"The file's digest is {reading.sha256}, the credential was issued for {credential.signed_id}."
        return Picture(row, shown, credential, reading, Word.BROKEN, detail)
    if not reading.trusted:
        return Picture(row, shown, credential, reading, Word.BROKEN, "; ".join(reading.failures) or reading.state)
    return Picture(row, shown, credential, reading, Word.HOLDS, "Trusted under this house's root, without a failure.")


# --- what each type of receipt shows below its title ---------------------------------------------


def _no_facts(_: JobPage, __: Mapping[str, Any]) -> list[Fact]:
    return []


def _claim_of(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the signed claim inside a receipt, for showing; its signature is the verifier's business."""
    try:
        told = decode(str(data.get("claim", "{}")).encode())
    except NotCanonical:
        return {}
    return told if isinstance(told, dict) else {}


def _submitted(page: JobPage, data: Mapping[str, Any]) -> list[Fact]:
    signed = "claim" in data
    facts = [
        Fact("Asked by", page.job.client_key, "hash") if signed else Fact("Asked by", "as told by the hub, unsigned"),
        Fact("Inputs", f"{len(data.get('inputs', {}))} salted digests"),
    ]
    if "max_price" in data:
        facts.append(Fact("At most", data["max_price"], "amount"))
    return facts


def _scheduled(page: JobPage, data: Mapping[str, Any]) -> list[Fact]:
    provider = next((attempt.provider for attempt in page.attempts if attempt.pk == data.get("fencing")), None)
    return [
        Fact(
            "Provider",
            provider.name if provider else data.get("provider"),
            "provider",
            provider.pk if provider else None,
        ),
        Fact("Price", f"{data.get('price')} a {data.get('unit_type')}"),
        Fact("Auction", f"won with a score of {data.get('score_ppm', 0) / 1_000_000:.3f} among {data.get('asks')}"),
        Fact("Fencing number", data.get("fencing")),
    ]


def _started(_: JobPage, data: Mapping[str, Any]) -> list[Fact]:
    told = _claim_of(data)
    device = told.get("device")
    shown = device.get("name") if isinstance(device, dict) else device
    return [Fact("Device", shown), Fact("Weights", told.get("model_digest"), "hash")]


def _progress(_: JobPage, data: Mapping[str, Any]) -> list[Fact]:
    return [Fact("Step", f"{data.get('step')} of {data.get('steps')}")]


def _completed(_: JobPage, data: Mapping[str, Any]) -> list[Fact]:
    told = _claim_of(data)
    outputs = told.get("outputs") or []
    facts = [Fact(str(output.get("name", "Output")), output.get("sha256"), "hash") for output in outputs]
    meter = told.get("meter") or {}
    billed = [
        f"{figure['value']:,} {name}"
        for name, figure in meter.items()
        if name in ("cpu_ms", "gpu_ms") and "value" in figure
    ]
    return facts + ([Fact("Measured", ", ".join(billed))] if billed else [])


def _ended(page: JobPage, data: Mapping[str, Any]) -> list[Fact]:
    facts = [Fact("Class", data["class"])] if "class" in data else [Fact("By", data.get("by"))]
    if "billed" in data:
        facts.append(Fact("Billed", data["billed"]))
    if "last_heartbeat" in data:
        facts.append(Fact("Last heartbeat", data["last_heartbeat"]))
    return facts


def _requeued(_: JobPage, data: Mapping[str, Any]) -> list[Fact]:
    return [Fact("Cause", data.get("cause")), Fact("Attempts left", data.get("attempts_left"))]


def _credential(_: JobPage, data: Mapping[str, Any]) -> list[Fact]:
    return [
        Fact("Signed file", data.get("signed_sha256"), "hash"),
        Fact("Certificate", data.get("certificate_sha256"), "hash"),
    ]


def _usage(page: JobPage, data: Mapping[str, Any]) -> list[Fact]:
    told = _claim_of(data)
    return [
        Fact("Receipt hash", data.get("receipt_hash"), "usage", page.usage.pk if page.usage else None),
        Fact("Units", f"{told.get('units', 0):,} {told.get('unit_type', '')}"),
        Fact("Amount", told.get("amount"), "amount"),
    ]


def _attested(_: JobPage, data: Mapping[str, Any]) -> list[Fact]:
    signers = data.get("attestations") or []
    return [
        *(Fact("Attester", signature.get("key_id"), "hash") for signature in signers),
        Fact("Acceptance", data.get("acceptance")),
    ]


def _minted(page: JobPage, data: Mapping[str, Any]) -> list[Fact]:
    return [
        Fact("Amount", data.get("amount"), "amount"),
        Fact("To", data.get("provider"), "hash"),
        Fact("Transaction", data.get("tx_hash"), "transaction", page.usage.transaction_id if page.usage else None),
        Fact("Block", data.get("block_number")),
    ]


_FACTS: Final = {
    "JobSubmitted": _submitted,
    "JobScheduled": _scheduled,
    "JobStarted": _started,
    "JobProgressUpdate": _progress,
    "JobCompleted": _completed,
    "JobFailed": _ended,
    "JobCancelled": _ended,
    "JobRequeued": _requeued,
    "CredentialIssued": _credential,
    "UsageReceipt": _usage,
    "UsageAttested": _attested,
    "TokensMinted": _minted,
}
