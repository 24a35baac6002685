"""The ledger in the console: receipts, the log, what went to the chain, whose keys count. All of it read-only."""

import base64
import datetime as dt
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from receipts import admin_numbers  # noqa: F401  its pages register themselves
from receipts.canonical import NotCanonical, decode
from receipts.canonical import nid as nid_of
from receipts.checkpoint import (
    COSIGNATURE_V1,
    NoteBroken,
    SignedNote,
    Vkey,
    check_cosignature,
    check_note,
    parse_note,
)
from receipts.committers.erc7053 import COMMIT_SELECTOR, NotCalldata, decode_commit
from receipts.console import ADDRESS, HASH32, NID, EvidenceAdmin
from receipts.cosigners import is_final, witnesses
from receipts.events import EVENTS, About
from receipts.log import (
    LogNotFounded,
    RootDisagrees,
    inclusion,
    known_vkeys,
    leaf_entry,
    leaf_index,
    leaf_indices,
    log_head,
)
from receipts.merkle import ProofBroken, check_inclusion, leaf_hash
from receipts.models import (
    Bundle,
    ChainTransaction,
    Checkpoint,
    Commit,
    Erasure,
    Misbehaviour,
    PublicKey,
    Receipt,
    SenderStatus,
    Tenant,
    TransactionHash,
    WitnessAlarm,
    WitnessedLog,
    WitnessStatus,
)
from receipts.models.transactions import TransactionState
from receipts.models.witnesses import published_note
from receipts.pages import receipt_page
from receipts.templatetags.console import badge, copyable, ether, moment, transaction_link

PUBLIC_EVENTS = [name for name, event in EVENTS.items() if event.about is About.PUBLIC]


class ByEvent(admin.SimpleListFilter):
    """Choose receipts by what they tell, from the list of events: no DISTINCT over the table."""

    title = "event"
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in EVENTS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Receipt]) -> QuerySet[Receipt]:
        return queryset.filter(event_type=self.value()) if self.value() else queryset


class Unsequenced(admin.SimpleListFilter):
    """Receipts that wait for their leaf."""

    title = "place in the log"
    parameter_name = "leaf"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("pending", "Waiting for a leaf")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Receipt]) -> QuerySet[Receipt]:
        return queryset.filter(pending__isnull=False) if self.value() == "pending" else queryset


@admin.register(Receipt)
class ReceiptAdmin(EvidenceAdmin):
    """Receipts as the exact bytes that were hashed, each with its leaf and its neighbours."""

    keyset = ("id",)
    public: ClassVar[Q | None] = Q(event_type__in=PUBLIC_EVENTS)
    page_template = "console/receipt.html"
    list_display = ("event", "receipt", "about", "link", "leaf", "occurred")
    list_display_links = ("event",)
    list_filter = (ByEvent, Unsequenced)
    search_fields = ("nid",)
    search_help_text = "A whole NID, job id or subject"

    def find(self, rows: QuerySet[Receipt], term: str) -> QuerySet[Receipt]:
        return rows.filter(nid=term) if NID.fullmatch(term) else rows.filter(subject=term)

    def attach(self, rows: list[Receipt]) -> None:
        leaves = leaf_indices([row.pk for row in rows])
        for row in rows:
            row.leaf = leaves.get(row.pk)  # type: ignore[attr-defined]

    @admin.display(description="Event")
    def event(self, row: Receipt) -> str:
        return row.event_type

    @admin.display(description="NID")
    def receipt(self, row: Receipt) -> SafeString:
        return copyable(row.nid, receipt_page(row.pk), what="NID")

    @admin.display(description="Subject")
    def about(self, row: Receipt) -> SafeString:
        return copyable(row.subject)

    @admin.display(description="Link")
    def link(self, row: Receipt) -> str:
        return f"#{row.seq}"

    @admin.display(description="Leaf")
    def leaf(self, row: Receipt) -> SafeString | int:
        leaf: int | None = row.leaf  # type: ignore[attr-defined]
        return badge("wanted", "pending") if leaf is None else leaf

    @admin.display(description="Occurred")
    def occurred(self, row: Receipt) -> SafeString:
        return moment(row.occurred_at)

    def page_context(self, request: HttpRequest, row: Receipt) -> dict[str, Any]:
        body = bytes(row.body)
        try:
            content: Any = decode(body)
        except NotCanonical as error:
            content = {"can't be read": str(error)}
        links = {
            link.seq: link
            for link in Receipt.objects.filter(subject=row.subject, seq__in=[row.seq - 1, row.seq + 1]).only(
                "id", "nid", "seq", "event_type", "subject"
            )
        }
        return {
            "title": f"{row.event_type} #{row.seq}",
            "says": EVENTS[row.event_type].says if row.event_type in EVENTS else "A type that this house doesn't know.",
            "is_job": row.event_type in EVENTS and EVENTS[row.event_type].about is About.JOB,
            "content": content,
            "raw": body.decode(errors="replace"),
            "size": len(body),
            "nid_verdict": "holds" if nid_of(body) == row.nid else "broken",
            "found_nid": nid_of(body),
            "previous": links.get(row.seq - 1),
            "following": links.get(row.seq + 1),
            "place": place_in_log(row),
        }


def place_in_log(row: Receipt) -> dict[str, Any]:
    """Tell a receipt's leaf, the first checkpoint over it and whether the proof leads to its root."""
    leaf = leaf_index(row.pk)
    if leaf is None:
        return {"verdict": "unknown", "detail": "The sequencer has not given it a leaf yet."}
    checkpoint = Checkpoint.objects.filter(size__gt=leaf).order_by("size").first()
    if checkpoint is None:
        return {"leaf": leaf, "verdict": "unknown", "detail": "No checkpoint has been published over it yet."}
    found: dict[str, Any] = {
        "leaf": leaf,
        "checkpoint": checkpoint,
        "commit": Commit.objects.filter(checkpoint__size__gte=checkpoint.size)
        .select_related("transaction", "checkpoint")
        .order_by("checkpoint__size")
        .first(),
    }
    try:
        proof = inclusion(leaf, checkpoint.size)
        hashed = leaf_hash(leaf_entry(row.nid, row.event_type))
        check_inclusion(hashed, leaf, checkpoint.size, proof, bytes(checkpoint.root))
    except (ProofBroken, RootDisagrees) as error:
        return found | {"verdict": "broken", "detail": str(error)}
    return found | {
        "verdict": "holds",
        "detail": f"{len(proof)} hashes lead from leaf {leaf} to the root of {checkpoint.size} leaves.",
        "proof": [base64.b64encode(step).decode() for step in proof],
        "leaf_hash": hashed.hex(),
    }


@admin.register(Checkpoint)
class CheckpointAdmin(EvidenceAdmin):
    """The log's signed sizes and roots, as they were published."""

    keyset = ("size",)
    tenant_path: ClassVar[str | None] = None
    page_template = "console/checkpoint.html"
    list_display = ("log_size", "root_hash", "signed", "anchor")
    list_display_links = ("log_size",)
    search_fields = ("size",)
    search_help_text = "A size"

    def find(self, rows: QuerySet[Checkpoint], term: str) -> QuerySet[Checkpoint]:
        return rows.filter(size=int(term)) if term.isascii() and term.isdigit() and len(term) < 19 else rows.none()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Checkpoint]:
        return super().get_queryset(request).select_related("commit__transaction")

    @admin.display(description="Size")
    def log_size(self, row: Checkpoint) -> str:
        return f"{row.size:,} leaves"

    @admin.display(description="Root")
    def root_hash(self, row: Checkpoint) -> SafeString:
        return copyable(base64.b64encode(bytes(row.root)).decode(), what="root")

    @admin.display(description="Signed")
    def signed(self, row: Checkpoint) -> SafeString:
        return moment(row.signed_at)

    @admin.display(description="Anchor")
    def anchor(self, row: Checkpoint) -> SafeString:
        commit: Commit | None = getattr(row, "commit", None)
        return badge(commit.transaction.state) if commit else badge("none", "not anchored itself")

    def page_context(self, request: HttpRequest, row: Checkpoint) -> dict[str, Any]:
        nearest = (
            Commit.objects.filter(checkpoint__size__gte=row.size)
            .select_related("transaction", "checkpoint")
            .order_by("checkpoint__size")
            .first()
        )
        return {
            "title": f"Checkpoint of {row.size:,} leaves",
            "root": base64.b64encode(bytes(row.root)).decode(),
            "note": published_note(row),
            "signatures": signatures_of(published_note(row)),
            "quorum": settings.WITNESS_QUORUM,
            "final": is_final(row),
            "alarms": WitnessAlarm.objects.filter(checkpoint=row),
            "witnesses": WitnessStatus.objects.filter(vkey__in=[witness.key for witness in witnesses()]),
            "older": Checkpoint.objects.filter(size__lt=row.size).order_by("-size").first(),
            "newer": Checkpoint.objects.filter(size__gt=row.size).order_by("size").first(),
            "anchor": nearest,
            "bundles": Bundle.objects.filter(first_leaf__lt=row.size).order_by("-first_leaf")[:5],
        }


def signatures_of(note: str) -> list[dict[str, str]]:
    """Check every signature line of a note against the keys that this house knows."""
    try:
        parsed = parse_note(note)
        vkeys = _known_vkeys()
    except (NoteBroken, LogNotFounded) as error:
        return [{"name": "", "key": "", "verdict": "broken", "detail": str(error)}]
    found = []
    for signature in parsed.signatures:
        vkey = vkeys.get((signature.name, signature.key_hash))
        told = {"name": signature.name, "key": signature.key_hash.hex()}
        if vkey is None:
            found.append({**told, "verdict": "unknown", "detail": "A key that this house doesn't know."})
            continue
        try:
            found.append({**told, "verdict": "holds", "detail": _checked(parsed, vkey)})
        except NoteBroken as error:
            found.append({**told, "verdict": "broken", "detail": str(error)})
    return found


def _checked(note: SignedNote, vkey: Vkey) -> str:
    """Check one signature, and say what it tells. Raises: NoteBroken."""
    if vkey.kind == COSIGNATURE_V1:
        cosigned_at = dt.datetime.fromtimestamp(check_cosignature(note, vkey), dt.UTC)
        return f"cosigned at {cosigned_at:%Y-%m-%d %H:%M:%S} UTC, by the witness's clock; {vkey}"
    check_note(note, vkey)
    return str(vkey)


def _known_vkeys() -> dict[tuple[str, bytes], Vkey]:
    found = [*known_vkeys(log_head()), *(witness.vkey for witness in witnesses())]
    return {(vkey.name, vkey.key_hash): vkey for vkey in found}


@admin.register(Bundle)
class BundleAdmin(EvidenceAdmin):
    """Batches of leaves, as the sequencer stored them."""

    keyset = ("first_leaf",)
    tenant_path: ClassVar[str | None] = None
    list_display = ("leaves", "count", "sequenced")
    list_display_links = ("leaves",)
    fields = ("leaves", "count", "sequenced", "receipts")
    readonly_fields = fields

    @admin.display(description="Leaves")
    def leaves(self, row: Bundle) -> str:
        return f"{row.first_leaf:,} to {row.first_leaf + row.count - 1:,}"

    @admin.display(description="Sequenced")
    def sequenced(self, row: Bundle) -> SafeString:
        return moment(row.sequenced_at)

    @admin.display(description="Receipts, in the order of their leaves")
    def receipts(self, row: Bundle) -> SafeString:
        found = {receipt.pk: receipt for receipt in Receipt.objects.filter(pk__in=row.receipt_ids).only("nid")}
        return format_html_join(
            "",
            '<div class="ts-row"><span class="ts-num">{}</span>{}</div>',
            (
                (row.first_leaf + offset, copyable(found[pk].nid, receipt_page(pk)) if pk in found else "erased")
                for offset, pk in enumerate(row.receipt_ids)
            ),
        )


class ByQuestion(admin.SimpleListFilter):
    """Questions about transactions."""

    title = "question"
    parameter_name = "q_tx"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("open", "On their way"),
            ("reversed", "Reversed by the chain"),
            ("failed", "Failed or replaced"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ChainTransaction]) -> QuerySet[ChainTransaction]:
        if self.value() == "open":
            return queryset.filter(state__in=["intended", "sent", "mined"])
        if self.value() == "reversed":
            return queryset.filter(reorgs__gt=0)
        if self.value() == "failed":
            return queryset.filter(state__in=["failed", "replaced"])
        return queryset


STEPS = (TransactionState.INTENDED, TransactionState.SENT, TransactionState.MINED, TransactionState.FINAL)


@admin.register(ChainTransaction)
class ChainTransactionAdmin(EvidenceAdmin):
    """What was sent to the chain: the intent, every hash, the block, the outcome."""

    keyset = ("id",)
    public: ClassVar[Q | None] = Q(tenant=None)
    page_template = "console/transaction.html"
    list_display = ("what", "standing", "transaction", "block", "nonce", "gas", "intended")
    list_display_links = ("what",)
    list_filter = (ByQuestion, ("state", admin.ChoicesFieldListFilter), ("purpose", admin.ChoicesFieldListFilter))
    search_fields = ("hash",)
    search_help_text = "A whole transaction hash, of any attempt"

    def find(self, rows: QuerySet[ChainTransaction], term: str) -> QuerySet[ChainTransaction]:
        if HASH32.fullmatch(term):
            return rows.filter(pk__in=TransactionHash.objects.filter(hash=term).values("transaction_id"))
        return rows.filter(key=term)

    @admin.display(description="Purpose")
    def what(self, row: ChainTransaction) -> str:
        return row.get_purpose_display()

    @admin.display(description="State")
    def standing(self, row: ChainTransaction) -> SafeString:
        return badge(row.state)

    @admin.display(description="Hash")
    def transaction(self, row: ChainTransaction) -> SafeString:
        return transaction_link(row.hash, row.pk)

    @admin.display(description="Block")
    def block(self, row: ChainTransaction) -> str:
        return f"{row.block_number:,}" if row.block_number is not None else "–"

    @admin.display(description="Gas used")
    def gas(self, row: ChainTransaction) -> str:
        return f"{row.gas_used:,}" if row.gas_used is not None else "–"

    @admin.display(description="Intended")
    def intended(self, row: ChainTransaction) -> SafeString:
        return moment(row.intended_at)

    def page_context(self, request: HttpRequest, row: ChainTransaction) -> dict[str, Any]:
        commit = Commit.objects.filter(transaction=row).select_related("checkpoint", "receipt").first()
        head = ChainTransaction.objects.filter(chain_id=row.chain_id, block_number__isnull=False)
        newest = head.order_by("-id").values_list("block_number", flat=True).first()
        confirmations = newest - row.block_number + 1 if newest and row.block_number is not None else None
        return {
            "title": f"{row.get_purpose_display()} transaction",
            "steps": _position(row),
            "hashes": row.hashes.all(),
            "commit": commit,
            "call": self.call_of(row),
            "confirmations": max(0, confirmations) if confirmations is not None else None,
            "asked": settings.CONFIRMATIONS,
            "calldata": "0x" + bytes(row.data).hex(),
            "sender_status": SenderStatus.objects.filter(sender=row.sender, chain_id=row.chain_id).first(),
            "lost": row.state in (TransactionState.FAILED, TransactionState.REPLACED),
        }

    def call_of(self, row: ChainTransaction) -> dict[str, Any]:
        """Read what the transaction calls. Rooms above know more functions, and say so in a class of their own."""
        return call_of(row)


def _position(row: ChainTransaction) -> list[dict[str, Any]]:
    """Lay out the state machine as the steps of the page: what is done, where it stands, what is ahead."""
    times = (row.intended_at, row.sent_at, row.mined_at, row.final_at)
    here = STEPS.index(TransactionState(row.state)) if row.state in STEPS else -1
    steps = [
        {"name": step.value, "says": step.label.partition(": ")[2], "at": at, "done": index <= here or bool(at)}
        for index, (step, at) in enumerate(zip(STEPS, times, strict=True))
    ]
    if here >= 0:
        for index, step in enumerate(steps):
            step["done"] = index <= here
            step["here"] = index == here
        return steps
    ended = TransactionState(row.state)
    told = [step for step in steps if step["at"]]
    return [
        *told,
        {"name": ended.value, "says": ended.label.partition(": ")[2], "done": True, "here": True, "bad": True},
    ]


def call_of(row: ChainTransaction) -> dict[str, Any]:
    """Read a transaction's calldata: the function and its arguments, as far as this house knows them."""
    data = bytes(row.data)
    if not row.to:
        return {"name": "deployment", "arguments": [("bytecode", f"{len(data):,} bytes")]}
    if data[:4] == COMMIT_SELECTOR:
        try:
            commit = decode_commit(data)
        except NotCalldata as error:
            return {"name": "commit(string,string)", "broken": str(error), "arguments": []}
        return {
            "name": "commit(string assetCid, string commitData)",
            "arguments": [("assetCid", commit.asset_cid), ("commitData", commit.commit_data)],
        }
    return {"name": "0x" + data[:4].hex() if data else "transfer", "arguments": []}


@admin.register(Commit)
class CommitAdmin(EvidenceAdmin):
    """ERC-7053 commits: anchors of checkpoints, or of single receipts."""

    keyset = ("id",)
    tenant_path: ClassVar[str | None] = "transaction__tenant"
    public: ClassVar[Q | None] = Q(transaction__tenant=None)
    list_display = ("of", "asset", "standing", "in_transaction", "created")
    list_display_links = ("of",)
    list_select_related = ("transaction", "checkpoint")
    fields = ("of", "asset", "commit_data", "standing", "in_transaction", "created")
    readonly_fields = fields

    @admin.display(description="Commit of")
    def of(self, row: Commit) -> str:
        return f"checkpoint {row.checkpoint_id:,}" if row.checkpoint_id is not None else f"receipt {row.receipt_id}"

    @admin.display(description="Asset CID")
    def asset(self, row: Commit) -> SafeString:
        return copyable(row.asset_cid, what="asset CID")

    @admin.display(description="State")
    def standing(self, row: Commit) -> SafeString:
        return badge(row.transaction.state)

    @admin.display(description="Transaction")
    def in_transaction(self, row: Commit) -> SafeString:
        return transaction_link(row.transaction.hash, row.transaction_id)

    @admin.display(description="Wished")
    def created(self, row: Commit) -> SafeString:
        return moment(row.created_at)


@admin.register(PublicKey)
class PublicKeyAdmin(EvidenceAdmin):
    """Public keys, each with its one role and the leaves that it counts for."""

    keyset = ("id",)
    public: ClassVar[Q | None] = Q(tenant=None)
    list_display = ("role", "key", "alg", "label", "tenant", "counts", "added")
    list_filter = (("role", admin.ChoicesFieldListFilter),)
    list_select_related = ("tenant",)
    search_fields = ("key_id",)
    search_help_text = "A whole key id"
    fields = ("role", "key", "alg", "label", "tenant", "counts", "added")
    readonly_fields = fields

    def find(self, rows: QuerySet[PublicKey], term: str) -> QuerySet[PublicKey]:
        return rows.filter(key_id=term.lower() if ADDRESS.fullmatch(term.lower()) else term)

    @admin.display(description="Key id")
    def key(self, row: PublicKey) -> SafeString:
        return copyable(row.key_id, what="key id")

    @admin.display(description="Counts for")
    def counts(self, row: PublicKey) -> str:
        return f"leaves from {row.since_leaf:,}" + (f" to {row.until_leaf - 1:,}" if row.until_leaf is not None else "")

    @admin.display(description="Added")
    def added(self, row: PublicKey) -> SafeString:
        return moment(row.added_at)


@admin.register(SenderStatus)
class SenderStatusAdmin(EvidenceAdmin):
    """How the keys fare that pay for transactions."""

    keyset = ("id",)
    tenant_path: ClassVar[str | None] = None
    list_display = ("address", "chain_id", "next_nonce", "balance", "waiting_for", "waiting_reason", "checked")
    fields = list_display
    readonly_fields = fields

    @admin.display(description="Sender")
    def address(self, row: SenderStatus) -> SafeString:
        return copyable(row.sender, what="address")

    @admin.display(description="Balance")
    def balance(self, row: SenderStatus) -> SafeString:
        return ether(row.balance_wei)

    @admin.display(description="Checked")
    def checked(self, row: SenderStatus) -> SafeString:
        return moment(row.checked_at)


@admin.register(Tenant)
class TenantAdmin(EvidenceAdmin):
    """Whose data it is."""

    keyset = ("id",)
    tenant_path: ClassVar[str | None] = "pk"
    list_display = ("name", "id", "created")
    fields = ("name", "id", "created")
    readonly_fields = fields

    @admin.display(description="Since")
    def created(self, row: Tenant) -> SafeString:
        return moment(row.created_at)


@admin.register(WitnessAlarm)
class WitnessAlarmAdmin(EvidenceAdmin):
    """What witnesses said that they should never have said: another history of this log, or of their own memory."""

    keyset = ("id",)
    tenant_path: ClassVar[str | None] = None
    list_display = ("witness", "about", "what", "seen")
    list_display_links = ("witness",)
    fields = ("witness", "about", "what", "status", "answer", "seen")
    readonly_fields = fields

    @admin.display(description="Witness")
    def witness(self, row: WitnessAlarm) -> str:
        return row.vkey.partition("+")[0]

    @admin.display(description="Checkpoint")
    def about(self, row: WitnessAlarm) -> str:
        return f"{row.checkpoint_id:,} leaves"

    @admin.display(description="What it means")
    def what(self, row: WitnessAlarm) -> str:
        return row.get_kind_display()

    @admin.display(description="Seen")
    def seen(self, row: WitnessAlarm) -> SafeString:
        return moment(row.seen_at)


@admin.register(WitnessedLog)
class WitnessedLogAdmin(EvidenceAdmin):
    """Other houses' logs that this house watches, and how far it cosigned them."""

    keyset = ("id",)
    tenant_path: ClassVar[str | None] = None
    list_display = ("origin", "watched", "size", "root_hash", "url")
    list_display_links = ("origin",)
    fields = ("origin", "vkeys", "url", "watched", "size", "root_hash")
    readonly_fields = fields

    @admin.display(description="Root")
    def root_hash(self, row: WitnessedLog) -> SafeString:
        return copyable(base64.b64encode(bytes(row.root)).decode(), what="root")


@admin.register(Misbehaviour)
class MisbehaviourAdmin(EvidenceAdmin):
    """Evidence against others' logs: both signed notes, and the proof that does not lead from one to the other."""

    keyset = ("id",)
    tenant_path: ClassVar[str | None] = None
    list_display = ("watched_log", "what", "size", "seen")
    list_display_links = ("watched_log",)
    fields = ("watched_log", "what", "size", "note", "cosigned_note", "old_size", "proof_hashes", "reason", "seen")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Misbehaviour]:
        return super().get_queryset(request).select_related("log")

    @admin.display(description="Log")
    def watched_log(self, row: Misbehaviour) -> str:
        return row.log.origin

    @admin.display(description="What it shows")
    def what(self, row: Misbehaviour) -> str:
        return row.get_kind_display()

    @admin.display(description="Proof that came")
    def proof_hashes(self, row: Misbehaviour) -> str:
        return "\n".join(base64.b64encode(bytes(item)).decode() for item in row.proof) or "none"

    @admin.display(description="Seen")
    def seen(self, row: Misbehaviour) -> SafeString:
        return moment(row.seen_at)


@admin.register(Erasure)
class ErasureAdmin(EvidenceAdmin):
    """What was erased by a logged act. The NID stays, and every check says why the bytes are gone."""

    keyset = ("erased_at", "nid")
    tenant_path: ClassVar[str | None] = None
    list_display = ("name", "reason", "what", "by_act", "erased")
    list_display_links = ("name",)
    list_filter = ("reason",)
    fields = ("name", "reason", "what", "by_act", "erased")
    readonly_fields = fields
    search_fields = ("nid",)
    search_help_text = "A whole NID"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Erasure]:
        return super().get_queryset(request).select_related("act", "receipt")

    @admin.display(description="Erased")
    def name(self, row: Erasure) -> SafeString:
        return copyable(row.nid, what="NID")

    @admin.display(description="What it was")
    def what(self, row: Erasure) -> str:
        return row.receipt.event_type if row.receipt else "a file"

    @admin.display(description="By the act")
    def by_act(self, row: Erasure) -> SafeString:
        return copyable(row.act.nid, what="NID")

    @admin.display(description="When")
    def erased(self, row: Erasure) -> SafeString:
        return moment(row.erased_at)
