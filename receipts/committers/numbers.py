"""Commit on Numbers Protocol: an asset for each job, a commit for each of its events.

The service knows no idempotency key. So each order is written down first, then looked for, then sent once, and looked
for again whenever its answer is missing:

    take    receipts that got their leaf -> orders, one for each receipt
    send    intended: look; what is there already has landed; else note the attempt, send, note the outcome
    follow  sent and taken: wait for the registration's work, then for its transaction
    again   unknown: look; what shows has landed; what doesn't show for NUMBERS_SETTLE_SECONDS is sent again
    check   landed: read the transaction and the asset tree back, and say whether they hold

An order is found by the digest of its statement, in the caption, the commit's message or the custom fields. A crash
between any two lines leaves an attempt without an outcome and an order that is `sent`; the next turn makes it
`unknown` and looks.
"""

import datetime as dt
import json
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from receipts.canonical import NotCanonical, decode, nid
from receipts.chain import abi
from receipts.chain.client import ChainError, Request, Rpc, RpcUnreachable, quantity
from receipts.chain.nonces import sole_sender
from receipts.chain.sender import intend_again, sender_signer
from receipts.committers import nit
from receipts.committers.base import FoundCommit
from receipts.committers.capture import (
    Asset,
    Capture,
    CaptureError,
    Endpoints,
    HistoryCommit,
    NoSuchAsset,
)
from receipts.committers.erc7053 import NotCalldata, commit_topics, decode_commit_data
from receipts.committers.evm import EvmCommitter
from receipts.events import About
from receipts.keys import KeyUnusable, Secp256k1Signer
from receipts.log import LogNotFounded, log_head
from receipts.models import Bundle, LogHead, NumbersAttempt, NumbersOrder, NumbersPlace, Receipt
from receipts.models.numbers import MOVES, UNFINISHED, NumbersState
from receipts.models.transactions import TransactionState
from receipts.record import idempotency_key

log = logging.getLogger(__name__)
PURPOSE: Final = NumbersOrder.Purpose
DOOR: Final = NumbersOrder.Door
VERDICT: Final = NumbersOrder.Verdict
ACT: Final = NumbersAttempt.Act

BUNDLES: Final = 8  # read from the log in one turn
ORDERS: Final = 25  # taken on in one turn: each may cost seconds of a slow service
_SHORTEST: Final = dt.timedelta(seconds=5)
_LONGEST: Final = dt.timedelta(hours=1)


class IllegalMove(Exception):
    """An order can't go from this state to that one."""


class NumbersOff(Exception):
    """Nothing is committed on Numbers Protocol here, and the message says why."""


@dataclass(slots=True)
class NumbersReport:
    """What one turn did. `waiting_reason` says why the queue waits, empty where it doesn't."""

    waiting_reason: str = ""
    busy: bool = False
    taken: int = 0
    interrupted: int = 0
    sent: int = 0
    landed: int = 0
    failed: int = 0
    unknown: int = 0
    checked: int = 0
    broken: int = 0

    def __str__(self) -> str:
        told = [f"{item.name} {getattr(self, item.name)}" for item in fields(self) if getattr(self, item.name)]
        return ", ".join(told) or "nothing to do"


@dataclass(frozen=True, slots=True)
class Shown:
    """An order as it shows: in the history, with its transaction, or so far only as an asset; ours, or a stranger's."""

    commit: HistoryCommit | None
    ours: bool = True

    def __str__(self) -> str:
        if not self.ours:
            return "stands in another's name"
        return f"shows, by {self.commit.tx_hash}" if self.commit else "shows, without a transaction yet"


def network() -> nit.Network:
    """Give the network that is turned on.

    Raises: NumbersOff.
    """
    found = nit.NETWORKS.get(settings.NUMBERS_NETWORK)
    if found is None:
        raise NumbersOff(f"NUMBERS_NETWORK is {settings.NUMBERS_NETWORK}")
    return found


def service(on: nit.Network) -> Capture:
    """Give the Capture API of the settings."""
    at = Endpoints(
        api=settings.CAPTURE_API_URL,
        commit=settings.CAPTURE_COMMIT_URL,
        history=settings.CAPTURE_HISTORY_URL,
        tree=settings.CAPTURE_TREE_URL,
    )
    return Capture(
        at, settings.CAPTURE_TOKEN, testnet=on.name == "testnet", timeout_seconds=settings.CAPTURE_TIMEOUT_SECONDS
    )


def turn(*, limit: int = ORDERS) -> NumbersReport:
    """Move every order that is due one step. Never raises for what a service, a chain or a network does.

    Must not be called inside a transaction: what is stored must be durable before anything is sent.
    """
    try:
        on = network()
        signer = sender_signer()
        if settings.NUMBERS_COMMIT == "api" and not settings.CAPTURE_TOKEN:
            raise NumbersOff("CAPTURE_TOKEN is not set")
        if settings.NUMBERS_COMMIT == "chain" and on.chain_id != settings.CHAIN_ID:
            raise NumbersOff(f"{on.name} is chain {on.chain_id}, the house sends to chain {settings.CHAIN_ID}")
        head = log_head()
    except (NumbersOff, KeyUnusable, LogNotFounded) as error:
        return NumbersReport(waiting_reason=str(error))
    report = NumbersReport()
    with sole_sender(sender=f"numbers {signer.address}", chain_id=on.chain_id) as alone:
        if not alone:
            report.busy = True
            return report
        Turn(on, signer, head, service(on), report).go(limit)
        NumbersPlace.objects.filter(network=on.name).update(
            waiting_reason=report.waiting_reason[:300], turned_at=timezone.now()
        )
    return report


class Turn:
    """One turn of one network: the steps of the module's page, in order."""

    def __init__(
        self, on: nit.Network, signer: Secp256k1Signer, head: LogHead, capture: Capture, report: NumbersReport
    ) -> None:
        self.on = on
        self.signer = signer
        self.head = head
        self.capture = capture
        self.report = report
        self.mine = NumbersOrder.objects.filter(network=on.name)

    def go(self, limit: int) -> None:
        """Take, find what was interrupted, then step through what is due."""
        self.take()
        self.pick_up_interrupted()
        for order in self.due(limit):
            try:
                self.step(order)
            except CaptureError as error:
                self.wait(order, str(error))
                if error.stops_all:
                    self.report.waiting_reason = str(error)
            except Exception:
                # One order's trouble must not keep the others waiting; it is tried again later.
                log.exception("order %d can't be taken on", order.pk)
                self.wait(order, "the house failed; what went wrong is in its log")
            if self.report.waiting_reason:
                return

    # --- take: receipts that got their leaf -> orders -----------------------------------------------

    def take(self) -> None:
        """Write down an order for each new receipt of a job. The log's order has no gaps; receipt ids do."""
        with transaction.atomic():
            place, _ = NumbersPlace.objects.select_for_update().get_or_create(
                network=self.on.name, defaults={"next_leaf": self.head.size}
            )
            bundles = list(Bundle.objects.filter(first_leaf__gte=place.next_leaf).order_by("first_leaf")[:BUNDLES])
            for bundle in bundles:
                self._take_bundle(bundle)
                place.next_leaf = bundle.first_leaf + bundle.count
            if bundles:
                place.save(update_fields=["next_leaf"])

    def _take_bundle(self, bundle: Bundle) -> None:
        wanted = set(settings.NUMBERS_EVENTS or nit.JOB_MOVES) | {"JobSubmitted"}
        rows = Receipt.objects.filter(pk__in=bundle.receipt_ids, event_type__in=wanted)
        leaves = {pk: bundle.first_leaf + offset for offset, pk in enumerate(bundle.receipt_ids)}
        for receipt in sorted(rows, key=lambda row: leaves[row.pk]):
            # What was only simulated is never paid for, and never stands among what was done.
            if receipt.origin == "simulated" and self.on.name == "mainnet":
                continue
            if receipt.event_type == "JobSubmitted":
                self._intend_register(receipt, leaves[receipt.pk])
            else:
                self._intend_commit(receipt, leaves[receipt.pk])

    def _told(self, receipt: Receipt, job: str, leaf: int) -> nit.Told:
        key = idempotency_key(receipt.event_type, job, receipt.attempt, receipt.n, About.JOB)
        return nit.Told(receipt.event_type, receipt.nid, job, self.head.origin, self.head.nid, leaf, key)

    def _intend_register(self, receipt: Receipt, leaf: int) -> None:
        told = self._told(receipt, receipt.nid, leaf)
        shown = settings.NUMBERS_ASSET == "receipt"
        file = bytes(receipt.body) if shown else told.proof()
        asset = nid(file)
        statement = nit.make_statement(self.signer, told, asset=asset, network=self.on.name)
        now = _milliseconds()
        payload: Mapping[str, Any]
        # The assets' door knows no testnet: what goes through it stands on the main network. So the testnet, and we
        # ourselves, register by the first commit.
        if settings.NUMBERS_COMMIT == "api" and self.on.name == "mainnet":
            door = DOOR.ASSETS
            payload = nit.register_fields(
                self.signer, told, statement, file=file, created_ms=now, shown=_shown(receipt) if shown else None
            )
        else:
            door = DOOR.COMMITS
            payload = nit.commit_body(told, statement, asset=asset, created_ms=now)
        self._intend(receipt, PURPOSE.REGISTER, door, asset, statement, payload, file, now)

    def _intend_commit(self, receipt: Receipt, leaf: int) -> None:
        register = self.mine.filter(subject=receipt.subject, purpose=PURPOSE.REGISTER).select_related("receipt").first()
        if register is None:
            return  # the job began before the network was turned on: it has no asset there
        told = self._told(receipt, register.receipt.nid, leaf)
        statement = nit.make_statement(self.signer, told, asset=register.asset, network=self.on.name)
        now = _milliseconds()
        payload = nit.commit_body(told, statement, asset=register.asset, created_ms=now)
        self._intend(receipt, PURPOSE.COMMIT, DOOR.COMMITS, register.asset, statement, payload, b"", now)

    def _intend(
        self,
        receipt: Receipt,
        purpose: NumbersOrder.Purpose,
        door: NumbersOrder.Door,
        asset: str,
        statement: nit.Statement,
        payload: Mapping[str, Any],
        file: bytes,
        created_ms: int,
    ) -> None:
        told = json.dumps(payload, separators=(",", ":"))
        if settings.NUMBERS_COMMIT == "chain":
            door, file = DOOR.CHAIN, nit.asset_tree(payload)
            told = nit.commit_data(self.signer, file, message=payload["commitMessage"], created_ms=created_ms)
        self.mine.get_or_create(
            network=self.on.name,
            receipt=receipt,
            defaults={
                "purpose": purpose,
                "door": door,
                "tenant_id": receipt.tenant_id,
                "subject": receipt.subject,
                "asset": asset,
                "statement": statement.text,
                "digest": statement.digest,
                "author": statement.author,
                "file": file,
                "payload": told,
                "due_at": timezone.now(),
            },
        )
        self.report.taken += 1

    # --- what is due -----------------------------------------------------------------------------------

    def pick_up_interrupted(self) -> None:
        """Find what a process had under way when it died: we alone send, so nobody has it in hand."""
        gone = self.mine.filter(state=NumbersState.SENT, accepted_at=None).exclude(door=DOOR.CHAIN)
        for order in gone:
            move(order, NumbersState.UNKNOWN, reason="the process ended before the answer was kept", due_at=_now())
            self.report.interrupted += 1

    def due(self, limit: int) -> list[NumbersOrder]:
        """Choose what to look at: the longest due first, on one asset one after the other.

        Our own transactions keep their order by their nonces, so those need not wait for each other.
        """
        earlier = NumbersOrder.objects.filter(
            network=OuterRef("network"), asset=OuterRef("asset"), id__lt=OuterRef("id"), state__in=UNFINISHED
        ).exclude(door=DOOR.CHAIN, state=NumbersState.SENT)
        return list(unsettled(self.mine).filter(~Exists(earlier), due_at__lte=_now()).order_by("due_at", "id")[:limit])

    def step(self, order: NumbersOrder) -> None:
        """Take an order one step on.

        Raises: CaptureError, with which it waits as it stands.
        """
        if order.state == NumbersState.LANDED:
            self.check(order)
        elif order.door == DOOR.CHAIN:
            self.send_ourselves(order)
        elif order.state == NumbersState.INTENDED:
            self.send(order)
        elif order.state == NumbersState.SENT:
            self.follow(order)
        else:
            self.look_again(order)

    # --- send -------------------------------------------------------------------------------------------

    def send(self, order: NumbersOrder) -> None:
        """Look, then send what does not stand there yet."""
        if (shown := self.look(order)) is not None:
            if shown.ours:
                self.note_shown(order, shown)
            else:
                self._fail(order, "the asset stands there in another's name")
            return
        if not self._may_send(order):
            return
        with transaction.atomic():
            move(order, NumbersState.SENT, sent_at=_now(), reason="")
            attempt = NumbersAttempt.objects.create(order=order, act=ACT.SEND)
        # Point of no return: the request may take effect from here on. A crash leaves an attempt without an outcome.
        try:
            outcome = self._request(order)
        except CaptureError as error:
            self._note_refusal(order, attempt, error)
            return
        self.report.sent += 1
        with transaction.atomic():
            _end(attempt, str(outcome.pop("told")))
            if order.door == DOOR.ASSETS:
                # Taken, not landed: its transaction is made by work that goes on after the answer.
                _save(order, accepted_at=_now(), due_at=_now(), tries=0, **outcome)
                return
            self._land(order, **outcome)

    def _may_send(self, order: NumbersOrder) -> bool:
        if order.purpose == PURPOSE.COMMIT and self._register_of(order).state == NumbersState.FAILED:
            self._fail(order, "its asset could not be registered")
            return False
        today = _now().replace(hour=0, minute=0, second=0, microsecond=0)
        spent = NumbersAttempt.objects.filter(act=ACT.SEND, begun_at__gte=today, order__tenant=order.tenant_id).count()
        if settings.NUMBERS_DAILY_LIMIT and spent >= settings.NUMBERS_DAILY_LIMIT:
            self.wait(order, f"the day's {settings.NUMBERS_DAILY_LIMIT} requests of this tenant are used up")
            return False
        return True

    def _register_of(self, order: NumbersOrder) -> NumbersOrder:
        return self.mine.get(subject=order.subject, purpose=PURPOSE.REGISTER)

    def _request(self, order: NumbersOrder) -> dict[str, Any]:
        """Send the order's request, as it was written down; give what to note of the answer."""
        payload = json.loads(order.payload)
        if order.door == DOOR.ASSETS:
            taken = self.capture.register(file=bytes(order.file), filename=nit.FILENAME, mime=nit.MIME, fields=payload)
            told = f"taken as {taken.nid}"
            if taken.nid != order.asset:
                told += f", though its bytes are {order.asset}"
            return {"told": told, "workflow_id": taken.workflow_id}
        done = self.capture.commit(payload)
        return {
            "told": f"committed by {done.tx_hash}",
            "tx_hash": done.tx_hash,
            "asset_tree_cid": done.asset_tree_cid,
            "service_order": done.order_id,
        }

    def _note_refusal(self, order: NumbersOrder, attempt: NumbersAttempt, error: CaptureError) -> None:
        """Say where a request that was not answered with yes leaves its order."""
        if error.stops_all:
            self.report.waiting_reason = str(error)
        with transaction.atomic():
            _end(attempt, f"{type(error).__name__}: {error}")
            if not error.changed_nothing:
                move(order, NumbersState.UNKNOWN, **_later(order, str(error)))
                self.report.unknown += 1
            elif error.may_retry:
                move(order, NumbersState.INTENDED, **_later(order, str(error)))
            else:
                self._fail(order, str(error))

    # --- look ---------------------------------------------------------------------------------------------

    def look(self, order: NumbersOrder) -> Shown | None:
        """Find out whether an order stands there already; None where it does not show.

        Raises: CaptureError, where that can't be told.
        """
        attempt = NumbersAttempt.objects.create(order=order, act=ACT.LOOK)
        try:
            shown = self._look(order)
        except CaptureError as error:
            _end(attempt, f"{type(error).__name__}: {error}")
            raise
        _end(attempt, str(shown or "does not show"))
        return shown

    def _look(self, order: NumbersOrder) -> Shown | None:
        mark = _mark(order)
        asset: Asset | None = None
        if order.door == DOOR.ASSETS:
            try:
                asset = self.capture.asset(order.asset)
            except NoSuchAsset:
                return None
        history = self.capture.history(order.asset)
        others = set(self.mine.filter(asset=order.asset).exclude(pk=order.pk).values_list("tx_hash", flat=True))
        for commit in history:
            if commit.tx_hash not in others and (mark in commit.said or self._in_tree(commit, order)):
                return Shown(commit)
        if asset is not None and asset.names(mark):
            # Ours by its caption. Its first commit is the registration's, whatever its tree says: `check` reads that.
            return Shown(next((commit for commit in history if commit.tx_hash and commit.tx_hash not in others), None))
        return Shown(None, ours=False) if asset is not None else None

    def _in_tree(self, commit: HistoryCommit, order: NumbersOrder) -> bool:
        statement = nit.custom_of(self.capture.tree([commit])).get("tallystick")
        return isinstance(statement, dict) and statement.get("digest") == order.digest

    def note_shown(self, order: NumbersOrder, shown: Shown) -> None:
        """Land what shows with its transaction; what shows without one was taken, and is waited for."""
        if shown.commit is not None and shown.commit.tx_hash:
            self._land(order, tx_hash=shown.commit.tx_hash, asset_tree_cid=shown.commit.asset_tree_cid)
            return
        later = _later(order, "taken; its transaction does not show yet")
        if order.state == NumbersState.SENT:
            _save(order, **later)
        else:
            move(order, NumbersState.SENT, accepted_at=order.accepted_at or _now(), **later)

    def _land(self, order: NumbersOrder, **facts: Any) -> None:
        now = _now()
        accepted = order.accepted_at or now
        move(order, NumbersState.LANDED, landed_at=now, accepted_at=accepted, due_at=now, tries=0, reason="", **facts)
        self.report.landed += 1

    def _fail(self, order: NumbersOrder, reason: str) -> None:
        move(order, NumbersState.FAILED, reason=reason[:300])
        self.report.failed += 1

    # --- follow, look again ----------------------------------------------------------------------------------

    def follow(self, order: NumbersOrder) -> None:
        """Wait for what the service has taken: its transaction, or its word that the work behind it failed."""
        shown = self.look(order)
        if shown is not None and shown.commit is not None:
            self.note_shown(order, shown)
            return
        standing = self.capture.workflow(order.workflow_id) if order.workflow_id else "running"
        if standing == "failed":
            self._fail(order, f"the service's workflow {order.workflow_id} failed")
            return
        self.wait(order, f"taken, its work is {standing}; its transaction does not show yet")

    def look_again(self, order: NumbersOrder) -> None:
        """Look for what may have taken effect. What does not show in all the time that it may need was not taken."""
        if (shown := self.look(order)) is not None and shown.ours:
            self.note_shown(order, shown)
            return
        assert order.sent_at is not None
        patience = dt.timedelta(seconds=settings.NUMBERS_SETTLE_SECONDS)
        if _now() - order.sent_at < patience:
            self.wait(order, f"does not show; it is sent again when it has not shown for {patience}")
            return
        move(order, NumbersState.INTENDED, reason=f"did not show within {patience}", due_at=_now(), tries=0)

    # --- by our own transaction -----------------------------------------------------------------------------

    def send_ourselves(self, order: NumbersOrder) -> None:
        """Wish for the commit, then follow its transaction: the house's own sender does the rest."""
        sent = order.transaction
        if sent is None:
            if not self._may_send(order):
                return
            with transaction.atomic():
                wish = EvmCommitter(register_address(self.on)).commit(
                    asset_cid=order.asset,
                    commit_data=order.payload,
                    key=f"numbers:{order.network}:{order.digest}",
                    tenant=order.tenant_id,
                )
                NumbersAttempt.objects.create(
                    order=order, act=ACT.SEND, ended_at=_now(), outcome=f"wished for as {wish.key}"[:300]
                )
                move(order, NumbersState.SENT, transaction=wish, sent_at=_now(), **_later(order, ""))
            self.report.sent += 1
            return
        match sent.state:
            case TransactionState.FINAL:
                self._land(order, tx_hash=sent.hash, asset_tree_cid=nid(bytes(order.file)))
            case TransactionState.FAILED:
                self._fail(order, f"transaction {sent.hash}: {sent.reason}")
            case TransactionState.REPLACED:
                with transaction.atomic():
                    _save(order, transaction=intend_again(sent), **_later(order, "a stranger took its nonce"))
            case _:
                self.wait(order, f"its transaction is {sent.state}")

    # --- check -----------------------------------------------------------------------------------------------

    def check(self, order: NumbersOrder) -> None:
        """Read an order back, from the chain and as its tree, and say whether what stands there is what was said.

        Steps: 1 the register holds the commit; 2 by who may have recorded it; 3 it points to the tree that the
        service named, and somebody it names signed the tree's digest; 4 the tree holds our statement with the author's
        signature.
        """
        attempt = NumbersAttempt.objects.create(order=order, act=ACT.CHECK)
        try:
            verdict, detail = self._check(order)
        except (CaptureError, ChainError) as error:
            verdict, detail = VERDICT.UNKNOWN, str(error)
        later = _later(order, "") if verdict == VERDICT.UNKNOWN else {}
        with transaction.atomic():
            _end(attempt, f"{verdict}: {detail}")
            _save(order, **{**later, "verdict": verdict, "verdict_detail": detail[:300], "checked_at": _now()})
        self.report.checked += 1
        self.report.broken += verdict == VERDICT.BROKEN

    def _check(self, order: NumbersOrder) -> tuple[NumbersOrder.Verdict, str]:
        # 1
        found = next((item for item in commits_on(self.on, order.asset) if item.tx_hash == order.tx_hash), None)
        if found is None:
            return VERDICT.UNKNOWN, f"the register does not show a commit by {order.tx_hash}"
        # 2
        recorders = {self.on.wallet, order.author}
        if found.recorder not in recorders:
            return VERDICT.BROKEN, f"recorded by {found.recorder}, neither the service nor the author"
        try:
            # 3
            own = bytes(order.file) if order.door == DOOR.CHAIN else None
            nit.check_commit_data(found.commit_data, asset_tree_cid=order.asset_tree_cid, tree=own)
            # 4
            tree = json.loads(own) if own is not None else self._tree_of(order)
            nit.check_statement(tree, text=order.statement, author=order.author)
        except nit.NotOurStatement as broken:
            return VERDICT.BROKEN, broken.rule
        return VERDICT.HOLDS, f"recorded by {found.recorder} in block {found.block_number}, signed by {order.author}"

    def _tree_of(self, order: NumbersOrder) -> dict[str, Any]:
        at = int((order.landed_at or order.intended_at).timestamp())
        return self.capture.tree([HistoryCommit(order.asset_tree_cid, order.tx_hash, "", "", at, "", "")])

    def wait(self, order: NumbersOrder, reason: str) -> None:
        """Leave an order where it stands, for longer each time."""
        _save(order, **_later(order, reason))


# --- orders ----------------------------------------------------------------------------------------------


def move(order: NumbersOrder, to: NumbersState, **facts: Any) -> None:
    """Move an order by compare-and-swap.

    Raises: IllegalMove, where its state does not allow it or another process moved it first.
    """
    here = NumbersState(order.state)
    if to not in MOVES[here]:
        raise IllegalMove(f"order {order.pk}: {here} does not lead to {to}")
    if not NumbersOrder.objects.filter(pk=order.pk, state=here).update(state=to, **facts):
        raise IllegalMove(f"order {order.pk} was moved by another process")
    order.state = to
    for name, value in facts.items():
        setattr(order, name, value)


def unsettled(orders: QuerySet[NumbersOrder]) -> QuerySet[NumbersOrder]:
    """Choose the orders that anything is left to do for."""
    return orders.filter(Q(state__in=UNFINISHED) | Q(state=NumbersState.LANDED, verdict=VERDICT.UNKNOWN))


def _save(order: NumbersOrder, **facts: Any) -> None:
    for name, value in facts.items():
        setattr(order, name, value)
    order.save(update_fields=list(facts))


def _end(attempt: NumbersAttempt, outcome: str) -> None:
    attempt.outcome = outcome[:300]
    attempt.ended_at = _now()
    attempt.save(update_fields=["outcome", "ended_at"])


def _later(order: NumbersOrder, reason: str) -> dict[str, Any]:
    """Back off: twice as long each time, up to an hour, with jitter."""
    pause = min(_LONGEST, _SHORTEST * 2 ** min(order.tries, 12)) * random.uniform(0.8, 1.2)  # noqa: S311
    return {"due_at": _now() + pause, "tries": order.tries + 1, "reason": reason[:300]}


def _mark(order: NumbersOrder) -> str:
    return nit.Statement(order.statement, order.digest, order.author, "").mark


def _now() -> dt.datetime:
    return timezone.now()


def _milliseconds() -> int:
    return int(_now().timestamp() * 1000)


def _shown(receipt: Receipt) -> dict[str, Any]:
    """Give what the receipt itself, made public by policy, tells of the job."""
    try:
        body = decode(bytes(receipt.body))
    except NotCanonical:
        return {}
    data = body["data"]
    return {
        "executor": body["actor"],
        "model": data["model"],
        "occurredAt": body["occurredAt"],
        "status": "submitted",
        "taskType": data["kind"],
    }


# --- the chain of Numbers Protocol ---------------------------------------------------------------------------


def register_address(on: nit.Network) -> str:
    """Give the register's address: the settings', else the network's own."""
    return settings.NUMBERS_REGISTER_ADDRESS or on.register


def commits_on(on: nit.Network, asset: str) -> list[FoundCommit]:
    """Read an asset's commits from the register: it names the blocks, and their events tell what was said.

    Raises: ChainError, also where the node serves another chain.
    """
    rpc = Rpc(settings.NUMBERS_RPC_URL or on.rpc_url, timeout_seconds=settings.CHAIN_TIMEOUT_SECONDS)
    rpc.require_chain(on.chain_id)
    register = register_address(on)
    call = {"to": register, "data": "0x" + abi.call("getCommits(string)", abi.string(asset)).hex()}
    blocks = sorted(set(_numbers(rpc.read("eth_call", call, "latest"))))
    topics = commit_topics(asset_cid=asset)
    wanted = [
        Request("eth_getLogs", [{"address": register, "fromBlock": hex(at), "toBlock": hex(at), "topics": topics}])
        for at in blocks
    ]
    return [_read_log(log, asset) for logs in rpc.read_many(wanted) for log in logs]


def _numbers(answer: Any) -> list[int]:
    try:
        data = bytes.fromhex(str(answer).removeprefix("0x"))
        return [abi.uint_at(data, place) for place in abi.words_at(data, 0)] if data else []
    except ValueError:
        raise RpcUnreachable("the register's answer can't be read: is a register there?") from None


def _read_log(log: Any, asset: str) -> FoundCommit:
    try:
        return FoundCommit(
            asset_cid=asset,
            recorder="0x" + str(log["topics"][1])[-40:].lower(),
            commit_data=decode_commit_data(bytes.fromhex(log["data"].removeprefix("0x"))),
            tx_hash=str(log["transactionHash"]).lower(),
            block_number=quantity(log["blockNumber"]),
            block_hash=str(log["blockHash"]).lower(),
        )
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, NotCalldata):
        raise RpcUnreachable("the node gave a log that can't be read") from None
