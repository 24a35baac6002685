"""Collect what one job's page shows: its head, its picture, its story from request to mint, what is claimed of it.

Reads alone, and the same number of queries however long the story is.
"""

import datetime as dt
import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from django.conf import settings

from jobs.audit import READ_AT_MOST, Audit, audit
from jobs.client.verdicts import Fault, Verdict, Word
from jobs.models import Attempt, Job
from jobs.states import EvidenceState
from jobs.tally import Evidence
from minting.models import MintState, Usage
from provenance.credentials import house_authority
from provenance.errors import ProvenanceError
from provenance.models import Artifact, Credential
from provenance.store import house_store
from provenance.verify import CredentialReading, NotReadable, read_credential
from receipts.canonical import NotCanonical, decode
from receipts.erase import BytesErased, erasure_of_file
from receipts.models import ChainTransaction, Checkpoint, Commit, LogHead, Pending, Receipt, Thread
from receipts.models.transactions import TransactionState

INLINE: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
_READINGS_KEPT: Final = 256
_UNDER_WAY: Final = (TransactionState.INTENDED, TransactionState.SENT, TransactionState.MINED)
_BY_ALARM: Final = (Word.BROKEN, Word.UNKNOWN, Word.HOLDS, Word.NOT_CLAIMED)

# Which claims decide the chip of which entry; what no claim speaks of stands on its own bytes and link.
DECIDED_BY: Final[dict[str, tuple[str, ...]]] = {
    "JobSubmitted": ("request-signed", "promise"),
    "JobStarted": ("work-signed",),
    "JobProgressUpdate": ("work-signed",),
    "JobCompleted": ("work-signed", "artifact", "meter"),
    "CredentialIssued": ("credential",),
    "UsageReceipt": ("usage",),
    "UsageAttested": ("attestation",),
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
    "Minting": "Minting",
    "MintRefused": "Mint refused",
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
    faults: Sequence[Fault] = ()
    folded: list["Entry"] = field(default_factory=list)  # progress, shown when asked for

    @property
    def title(self) -> str:
        return TITLES.get(self.type, self.type)

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

    @cached_property
    def audit(self) -> Audit:
        """The verifier's own verdicts, on the rows as they stand."""
        return audit(self.job)

    @property
    def evidence(self) -> Evidence:
        return self.audit.evidence

    @property
    def usage(self) -> Usage | None:
        return self.evidence.usage

    @cached_property
    def attempts(self) -> list[Attempt]:
        return list(self.job.attempts.select_related("provider"))

    @property
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

    @property
    def duration(self) -> dt.timedelta | None:
        if self.job.started_at is None or self.job.finished_at is None:
            return None
        return self.job.finished_at - self.job.started_at

    @property
    def percent(self) -> int:
        return min(100, 100 * self.job.step // self.job.steps) if self.job.steps else 0

    @property
    def prompt(self) -> str:
        """What was asked for in words, where the kind of work has such an input."""
        return str(self.job.inputs.get("prompt", "")) if isinstance(self.job.inputs, dict) else ""

    @property
    def inputs(self) -> list[tuple[str, Any]]:
        """The inputs, words first: the page's reader looks for those."""
        told = self.job.inputs if isinstance(self.job.inputs, dict) else {}
        return sorted(told.items(), key=lambda item: (item[0] not in ("prompt", "negative_prompt"), item[0]))

    @property
    def simulated(self) -> bool:
        return self.job.origin == "simulated"

    @property
    def counts(self) -> list[tuple[str, int]]:
        """How many claims end with which word, the most alarming first."""
        words = [verdict.verdict for verdict in self.audit.verdicts]
        return [(word.value, words.count(word)) for word in _BY_ALARM if word in words]

    @property
    def worst(self) -> str:
        """The word that stands over the whole page."""
        return self.counts[0][0] if self.counts else Word.UNKNOWN.value

    @property
    def takeable(self) -> bool:
        """Whether the tally can be taken away: every receipt is in a checkpoint."""
        return self.evidence.checkpoint is not None and not self.evidence.pending

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen here: then the page stops asking."""
        if not self.job.finished or self.job.evidence not in (EvidenceState.NONE, EvidenceState.COMPLETE):
            return False
        commit = self.evidence.commit
        anchored = commit is not None and commit.transaction.state == TransactionState.FINAL
        if any(sent.state in _UNDER_WAY for sent in self.commits.values()):
            return False
        return self.takeable and (anchored or not settings.CHAIN_RPC_URL)

    # --- the story -------------------------------------------------------------------------------

    @cached_property
    def story(self) -> list[Entry]:
        """Every receipt, and what the log and the chain add, from request to mint; progress is folded."""
        told: list[Entry] = []
        for receipt in self.evidence.receipts:
            entry = self._entry(receipt)
            if entry.type == "JobProgressUpdate" and told and told[-1].type == "JobProgressUpdate":
                _fold(told[-1], entry)
            else:
                told.append(entry)
        if told and told[-1].type == "TokensMinted":
            return [*told[:-1], *self._logged_before_the_mint(), told[-1], *self._logged()]
        return told + self._minting() + self._logged()

    def _entry(self, receipt: Receipt) -> Entry:
        body = _read(receipt)
        faults = self.audit.faults.get(receipt.pk, ())
        claims = self._deciding(receipt)
        verdict, detail = _decide(claims)
        if faults:
            verdict, detail = Word.BROKEN, f"Breaks {', '.join(dict.fromkeys(claim for claim, _ in faults))}."
        return Entry(
            type=receipt.event_type,
            at=receipt.occurred_at,
            verdict=verdict,
            detail=detail,
            actor=str(body.get("actor", "")),
            receipt=receipt,
            leaf=self.evidence.leaves.get(receipt.pk),
            facts=_FACTS.get(receipt.event_type, _no_facts)(self, body.get("data", {})) + self._committed(receipt),
            faults=tuple(fault for _, fault in faults),
        )

    @cached_property
    def commits(self) -> dict[int, ChainTransaction]:
        """The transactions that commit single receipts, where the job is committed so, by receipt id."""
        rows = Commit.objects.filter(receipt__in=self.evidence.receipts).select_related("transaction")
        return {row.receipt_id: row.transaction for row in rows if row.receipt_id is not None}

    def _committed(self, receipt: Receipt) -> list[Fact]:
        """Tell how a receipt's own commit stands, beside that receipt: commits may be confirmed in any order."""
        sent = self.commits.get(receipt.pk)
        if sent is None:
            return []
        if not sent.hash:
            return [Fact("Commit", f"waits: {sent.reason}" if sent.reason else "waits to be sent")]
        return [Fact("Commit", sent.hash, "transaction", sent.pk), Fact("Commit is", sent.state, "badge")]

    def _deciding(self, receipt: Receipt) -> list[Verdict]:
        """Give the claims that decide a receipt's chip; one that breaks at other receipts says nothing of this one."""
        blamed = {claim for faults in self.audit.faults.values() for claim, _ in faults}
        mine = {claim for claim, _ in self.audit.faults.get(receipt.pk, ())}
        due = DECIDED_BY.get(receipt.event_type, ())
        return [self.audit.of(claim) for claim in due if claim not in blamed or claim in mine]

    def _logged_before_the_mint(self) -> list[Entry]:
        """The first checkpoint and anchor over what came before the mint, where they are others than the tally's."""
        before = [leaf for pk, leaf in self.evidence.leaves.items() if pk != self.evidence.receipts[-1].pk]
        if not before:
            return []
        checkpoint = Checkpoint.objects.filter(size__gt=max(before)).order_by("size").first()
        sealing = self.evidence.checkpoint
        if checkpoint is None or sealing is None or checkpoint.size >= sealing.size:
            return []
        anchor = (
            Commit.objects.filter(checkpoint__size__gte=checkpoint.size, checkpoint__size__lt=sealing.size)
            .select_related("transaction", "checkpoint")
            .order_by("checkpoint__size")
            .first()
        )
        leads = Word.HOLDS if self.audit.of("checkpoint").verdict is Word.HOLDS else Word.UNKNOWN
        facts = [Fact("Leaves", _ranges(before)), Fact("Checkpoint", checkpoint.size, "checkpoint", checkpoint.pk)]
        logged = Entry(
            "Checkpoint", checkpoint.signed_at, leads, "The checkpoint below grew from it.", "hub", facts=facts
        )
        return [logged] + ([self._sent("Anchor", anchor.transaction, [])] if anchor else [])

    def _logged(self) -> list[Entry]:
        """The checkpoint that the tally leans on, and its anchor."""
        checkpoint, commit = self.evidence.checkpoint, self.evidence.commit
        verdict, detail = _decide([self.audit.of(claim) for claim in ("inclusion", "checkpoint")])
        if checkpoint is None:
            return [Entry("Checkpoint", None, Word.UNKNOWN, "Waits for the next checkpoint.", "hub")]
        facts = [
            Fact("Leaves", _ranges(self.evidence.leaves.values())),
            Fact("Checkpoint", checkpoint.size, "checkpoint", checkpoint.pk),
        ]
        if waiting := len(self.evidence.pending):
            facts.append(Fact("Waiting", f"{waiting} newer receipt{'s' if waiting > 1 else ''}"))
        entries = [Entry("Checkpoint", checkpoint.signed_at, verdict, detail, "hub", facts=facts)]
        if commit is not None:
            entries.append(self._sent("Anchor", commit.transaction, ["anchor", "anchor-on-chain"]))
        elif settings.CHAIN_RPC_URL:
            entries.append(Entry("Anchor", None, Word.UNKNOWN, "Waits for the next anchor.", "sender"))
        return entries

    def _sent(self, type_: str, sent: ChainTransaction, claims: Sequence[str]) -> Entry:
        """Tell of a transaction as far as it is."""
        verdict, detail = _decide([self.audit.of(claim) for claim in claims])
        if sent.state != TransactionState.FINAL and verdict is not Word.BROKEN:
            verdict, detail = Word.UNKNOWN, sent.reason or "On its way, not final yet."
        facts = [
            Fact("Transaction", sent.hash, "transaction", sent.pk),
            Fact("Block", sent.block_number if sent.block_number is not None else "not mined yet"),
            Fact("State", sent.state, "badge"),
        ]
        return Entry(type_, sent.mined_at or sent.sent_at, verdict, detail, "sender", facts=facts)

    def _minting(self) -> list[Entry]:
        """The mint while it is under way, or why it was refused."""
        usage = self.usage
        if usage is None or usage.state == MintState.WANTED:
            return []
        amount = Fact("Amount", usage.amount, "amount")
        if usage.state == MintState.REFUSED:
            entry = Entry("MintRefused", None, Word.BROKEN, usage.reason or "The chain refused it.", facts=[amount])
        elif usage.transaction is None:
            entry = Entry("Minting", None, Word.UNKNOWN, usage.reason or "Waits to be sent.", "sender", facts=[amount])
        else:
            entry = self._sent("Minting", usage.transaction, [])
            entry.facts.insert(0, amount)
        return [entry]

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


def version_of(job: Job) -> str:
    """Name how a job and its evidence stand, in a few cheap queries: an unchanged page need not be made again."""
    thread = Thread.objects.filter(pk=job.job_id).values_list("seq", flat=True).first()
    pending = Pending.objects.filter(receipt__subject=job.job_id).count()
    used = Usage.objects.filter(subject=job.job_id).values_list("state", "transaction__state").first()
    log = LogHead.objects.values_list("size", flat=True).first() if pending or not job.finished else 0
    anchor = (
        Commit.objects.filter(checkpoint__isnull=False).order_by("-id").values_list("transaction__state", "id").first()
    )
    commits = Commit.objects.filter(receipt__subject=job.job_id)
    committed = sorted(commits.values_list("receipt", "transaction__state", "transaction__hash"))
    told = (job.state, job.evidence, job.evidence_reason, job.step, thread, pending, used, log, anchor, committed)
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _read(receipt: Receipt) -> Mapping[str, Any]:
    """Read a receipt's bytes for showing; that they can't be read is the verifier's to say."""
    try:
        body = decode(bytes(receipt.body))
    except NotCanonical:
        return {}
    return body if isinstance(body, dict) else {}


def _fold(into: Entry, entry: Entry) -> None:
    """Show several progress receipts as one entry: the newest, with all of them to unfold."""
    if not into.folded:
        into.folded.append(replace(into, folded=[]))
    into.folded.append(entry)
    into.at, into.facts, into.receipt, into.leaf = entry.at, entry.facts, entry.receipt, entry.leaf
    if entry.verdict is Word.BROKEN:
        into.verdict, into.detail, into.faults = entry.verdict, entry.detail, entry.faults


def _decide(claims: Sequence[Verdict]) -> tuple[Word, str]:
    """Sum up claims in one word: the most alarming one, and what it says."""
    for word in (Word.BROKEN, Word.UNKNOWN, Word.HOLDS):
        for claim in claims:
            if claim.verdict is word:
                return word, claim.detail
    if claims:
        return Word.NOT_CLAIMED, claims[0].detail
    return Word.HOLDS, "Its bytes hash to its NID, and it links to the receipt before it."


def _ranges(numbers: Iterable[int]) -> str:
    """Write 3, 4, 5, 9 as 3–5, 9."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
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
            row, shown, credential, None, Word.UNKNOWN, "Too large for a page; `tallystick verify` reads it."
        )
    try:
        data = _bytes_of(row.blob_id)
        manifest = _bytes_of(credential.manifest_id) if credential.manifest_id else None
        reading = _reading_of(data, manifest, row.blob.mime, house_authority().root_pem)
    except (ProvenanceError, OSError) as error:
        gone = erasure_of_file(row.blob_id)
        return Picture(row, False, credential, None, Word.UNKNOWN, str(BytesErased(gone) if gone else error))
    if isinstance(reading, NotReadable):
        return Picture(row, shown, credential, None, Word.BROKEN, f"Its credential can't be read: {reading.reason}.")
    if reading.sha256 != credential.signed_id:
        detail = f"The file's digest is {reading.sha256}, the credential was issued for {credential.signed_id}."
        return Picture(row, shown, credential, reading, Word.BROKEN, detail)
    if not reading.trusted:
        return Picture(row, shown, credential, reading, Word.BROKEN, "; ".join(reading.failures) or reading.state)
    return Picture(row, shown, credential, reading, Word.HOLDS, "Trusted under this house's root, without a failure.")


def _bytes_of(sha256: str) -> bytes:
    with house_store().open_blob(sha256) as stream:
        return stream.read()


_readings: dict[tuple[str, ...], CredentialReading | NotReadable] = {}


def _reading_of(data: bytes, manifest: bytes | None, mime: str, root_pem: str) -> CredentialReading | NotReadable:
    """Read a credential in its bounded child, once an hour for the same bytes: certificates expire, bytes don't change.

    Kept in this process alone: a verdict from a shared cache would be somebody else's word.
    """
    parts = (data, manifest or b"", mime.encode(), root_pem.encode(), str(time.time() // 3600).encode())
    key = tuple(hashlib.sha256(part).hexdigest() for part in parts)
    if key not in _readings:
        while len(_readings) >= _READINGS_KEPT:
            _readings.pop(next(iter(_readings)), None)
        _readings[key] = read_credential(data, mime, root_pem=root_pem, manifest=manifest)
    return _readings[key]


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
        Fact("Price", data.get("price"), "amount", f"a {data.get('unit_type')}"),
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


def _ended(_: JobPage, data: Mapping[str, Any]) -> list[Fact]:
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
