"""Send what was promised to a chain: written down first, sent at least once, landing at most once.

`intend` writes the wish into the caller's transaction. `turn`, run by one process at a time for each key, moves
everything one step:

1. Look at the chain: is it ours, does it answer, what does it ask for.
2. Follow what was sent: mined, deep enough, reversed, or taken over by a stranger.
3. Sign the next intents: nonce, bytes and hash are stored before anything leaves.
4. Broadcast what the chain does not know; pay more where it is stuck.

A crash between any two lines leaves rows from which the next turn goes on: signed bytes are sent again as they are,
and a hash that was mined meanwhile is found.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from receipts.chain import abi, rlp
from receipts.chain.budget import Budget
from receipts.chain.client import (
    AlreadyKnown,
    CallReverted,
    ChainError,
    FeeBelowBase,
    NeverValid,
    NoFunds,
    NonceTooLow,
    Request,
    Rpc,
    RpcRefused,
    Underpriced,
    WrongChain,
    quantity,
)
from receipts.chain.confirmations import Block, Inclusion, Sight, judge, judge_kept, read_block, read_inclusion
from receipts.chain.nonces import next_nonce, sole_sender, take_nonces, used_by, who_took
from receipts.keys import KeyUnusable, Secp256k1Signer, secp256k1_signer
from receipts.models import ChainTransaction, SenderStatus, TransactionHash
from receipts.models.transactions import MOVES, TransactionState, Waiting
from receipts.record import record

IN_FLIGHT: Final = 16  # nodes keep that many transactions of one account without doubt
FOLLOWED: Final = 256  # open transactions looked at in one turn
REVISITED: Final = 128  # blocks of final ones that are looked at again in one turn
REVISIT_BLOCKS: Final = 64  # how far behind the head a reversal is still noticed
BUMP_PERCENT: Final = 13  # nodes ask for 10 on both fees; 13 leaves room for rounding
BUMP_LIMIT: Final = 5  # times the first fee; beyond that somebody has to look
GAS_SLACK_PERCENT: Final = 25  # estimates are made on a state that is not yet the one of the block
TRANSFER_GAS: Final = 21_000
FILLED_AT_MOST: Final = 1_000  # nonces of one gap; a larger one is no accident, and somebody has to look
GWEI: Final = 10**9
MIN_TIP_WEI: Final = GWEI
# A contract that is paused will be resumed: such an intent waits. OpenZeppelin's Pausable.
PAUSED: Final = "0x" + abi.selector("EnforcedPause()").hex()

_OF_A_TENANT: Final = Q(purpose=ChainTransaction.Purpose.COMMIT, tenant__isnull=False)


class IntentDiffers(Exception):
    """The same key was intended before, with other content."""


class IllegalMove(Exception):
    """A transaction can't go from this state to that one."""


@dataclass(slots=True)
class SenderReport:
    """What one turn did. `waiting_for` and `waiting_reason` say why the queue waits, empty where it doesn't.

    `reversed` names the transactions that were final and are not any more: each is an alarm.
    """

    sender: str = ""
    busy: bool = False
    waiting_for: str = ""
    waiting_reason: str = ""
    signed: int = 0
    broadcast: int = 0
    bumped: int = 0
    mined: int = 0
    final: int = 0
    failed: int = 0
    replaced: int = 0
    reorged: int = 0
    filled: int = 0
    in_flight: int = 0
    queued: int = 0
    reversed: list[int] = field(default_factory=list)

    @property
    def moved(self) -> bool:
        """Whether anything changed, so that another turn is worth it."""
        counts = ("signed", "broadcast", "bumped", "mined", "final", "failed", "replaced", "reorged", "filled")
        return bool(self.reversed) or any(getattr(self, name) for name in counts)

    def __str__(self) -> str:
        told = [f"{item.name} {getattr(self, item.name)}" for item in fields(self) if getattr(self, item.name)]
        return ", ".join(told) or "nothing to do"


@dataclass(frozen=True, slots=True)
class View:
    """The chain as one turn sees it, all from one request."""

    head: Block
    nonce: int
    balance: int
    tip: int

    def fees(self) -> tuple[int, int]:
        """Give max fee and tip (wei): enough for six full blocks in a row."""
        return 2 * self.head.base_fee + self.tip, self.tip


def intend(
    *,
    purpose: str,
    key: str,
    to: str,
    data: bytes,
    value: int = 0,
    gas_limit: int | None = None,
    tenant: str | None = None,
) -> ChainTransaction:
    """Write down a transaction to be sent, inside the caller's database transaction. `to` is empty for a deployment.

    The same key again gives the same row.

    Raises: IntentDiffers, when the key stands for something else already.
    """
    wish, _ = ChainTransaction.objects.get_or_create(
        key=key,
        defaults={
            "purpose": purpose,
            "tenant_id": tenant,
            "chain_id": settings.CHAIN_ID,
            "to": to.lower(),
            "data": data,
            "value": value,
            "gas_limit": gas_limit,
        },
    )
    if (wish.to, bytes(wish.data), int(wish.value)) != (to.lower(), data, value):
        raise IntentDiffers(f"{key} was intended with other content")
    return wish


def intend_again(gone: ChainTransaction) -> ChainTransaction:
    """Write down anew what can't land any more: a stranger took its nonce, or the chain refused it.

    Only a row that has come to its end may be repeated, so the same wish never stands twice in the queue.
    """
    if gone.state not in (TransactionState.REPLACED, TransactionState.FAILED):
        raise IllegalMove(f"{gone.key} is {gone.state} and may still land")
    stem, _, count = gone.key.partition("#")
    return intend(
        purpose=gone.purpose,
        key=f"{stem}#{int(count or 1) + 1}",
        to=gone.to,
        data=bytes(gone.data),
        value=int(gone.value),
        gas_limit=gone.gas_limit,
        tenant=gone.tenant_id,
    )


def sender_signer() -> Secp256k1Signer:
    """Load the key that pays. Raises: KeyUnusable."""
    return secp256k1_signer("sender", settings.KEYS_DIR)


def node() -> Rpc:
    """Give the node of the settings."""
    return Rpc(settings.CHAIN_RPC_URL, timeout_seconds=settings.CHAIN_TIMEOUT_SECONDS)


def turn(*, limit: int = IN_FLIGHT, rpc: Rpc | None = None) -> SenderReport:
    """Move every transaction of the house's key one step. Never raises for what a chain or node does.

    Must not be called inside a transaction: what is stored must be durable before anything is sent.
    """
    if not settings.CHAIN_RPC_URL and rpc is None:
        return SenderReport(waiting_reason="no chain is set: CHAIN_RPC_URL is empty")
    try:
        signer = sender_signer()
    except KeyUnusable as error:
        # Which key it would be is not known: it is said of all that ever sent on this chain.
        SenderStatus.objects.filter(chain_id=settings.CHAIN_ID).update(
            waiting_for=Waiting.NO_KEY, waiting_reason=str(error)[:300]
        )
        return SenderReport(waiting_for=Waiting.NO_KEY, waiting_reason=str(error))
    report = SenderReport(sender=signer.address)
    with sole_sender(sender=signer.address, chain_id=settings.CHAIN_ID) as alone:
        if not alone:
            report.busy = True
            return report
        status, _ = SenderStatus.objects.get_or_create(sender=signer.address, chain_id=settings.CHAIN_ID)
        try:
            Turn(rpc or node(), signer, status, report, limit).go()
        except WrongChain as error:
            _wait(report, Waiting.WRONG_CHAIN, f"wrong chain: {error}")
        except ChainError as error:
            _wait(report, Waiting.NODE, str(error))
        status.waiting_for = report.waiting_for
        status.waiting_reason = report.waiting_reason[:300]
        status.checked_at = timezone.now()
        status.save(update_fields=["waiting_for", "waiting_reason", "balance_wei", "checked_at"])
    return report


class Turn:
    """One turn of one key: the steps of the module's page, in order."""

    def __init__(
        self, rpc: Rpc, signer: Secp256k1Signer, status: SenderStatus, report: SenderReport, limit: int
    ) -> None:
        self.rpc = rpc
        self.signer = signer
        self.status = status
        self.report = report
        self.limit = limit
        self.mine = ChainTransaction.objects.filter(chain_id=status.chain_id, sender=status.sender)

    def go(self) -> None:
        """Look, follow, sign, broadcast."""
        view = self.look()
        self.follow(view)
        self.revisit(view)
        self.fill_gap(view)
        self.sign_next(view)
        self.broadcast(view)
        self.report.in_flight = self.mine.filter(state=TransactionState.SENT).count()
        self.report.queued = self._queue().count()

    # 1. Look at the chain.

    def look(self) -> View:
        """Ask for head, nonce, balance and tip at once, and insist on the chain id."""
        me = self.signer.address
        chain, head, nonce, balance, tip = self.rpc.try_many(
            [
                Request("eth_chainId"),
                Request("eth_getBlockByNumber", ["latest", False]),
                Request("eth_getTransactionCount", [me, "latest"]),
                Request("eth_getBalance", [me, "latest"]),
                Request("eth_maxPriorityFeePerGas"),
            ]
        )
        for answer in (chain, head, nonce, balance):
            if isinstance(answer, RpcRefused):
                raise answer
        if quantity(chain) != self.status.chain_id:
            raise WrongChain(self.status.chain_id, quantity(chain))
        block = read_block(head)
        if block is None:
            raise ChainError("the node has no newest block")
        self.status.balance_wei = quantity(balance)
        asked = MIN_TIP_WEI if isinstance(tip, RpcRefused) else quantity(tip)
        return View(block, quantity(nonce), quantity(balance), max(asked, MIN_TIP_WEI))

    # 2. Follow what was sent.

    def follow(self, view: View) -> None:
        """Hold every open transaction against the chain, by all the hashes it was ever sent under."""
        rows = list(
            self.mine.filter(state__in=[TransactionState.SENT, TransactionState.MINED])
            .order_by("nonce")
            .prefetch_related("hashes")[:FOLLOWED]
        )
        inclusions = self._inclusions(rows)
        blocks = self._blocks(
            {row.block_number for row in rows if row.block_number is not None}
            | {found.block_number for found in inclusions.values()}
        )
        for row in rows:
            found = inclusions.get(row.pk)
            if row.state == TransactionState.MINED:
                self._follow_mined(row, found, blocks, view)
            elif found is not None:
                self._follow_sent(row, found, blocks, view)
            elif row.nonce is not None and view.nonce > row.nonce:
                self._find_taker(row, view)

    def _inclusions(self, rows: Sequence[ChainTransaction]) -> dict[int, Inclusion]:
        hashes = [(row.pk, form.hash) for row in rows for form in row.hashes.all()]
        answers = self.rpc.read_many([Request("eth_getTransactionReceipt", [name]) for _, name in hashes])
        found: dict[int, Inclusion] = {}
        for (pk, name), answer in zip(hashes, answers, strict=True):
            inclusion = read_inclusion(answer)
            if inclusion is not None and inclusion.tx_hash.lower() == name:
                found[pk] = inclusion
        return found

    def _blocks(self, numbers: Iterable[int]) -> dict[int, Block]:
        wanted = sorted(numbers)
        answers = self.rpc.read_many([Request("eth_getBlockByNumber", [hex(number), False]) for number in wanted])
        blocks = (read_block(answer) for answer in answers)
        return {
            number: block
            for number, block in zip(wanted, blocks, strict=True)
            if block is not None and block.number == number
        }

    def _follow_sent(self, row: ChainTransaction, found: Inclusion, blocks: dict[int, Block], view: View) -> None:
        block = blocks.get(found.block_number)
        if block is None or judge(found, block, head=view.head.number, confirmations=1) is Sight.NOTHING:
            return
        move(
            row,
            TransactionState.MINED,
            hash=found.tx_hash.lower(),
            block_number=found.block_number,
            block_hash=found.block_hash,
            block_time=dt.datetime.fromtimestamp(block.time, dt.UTC),
            gas_used=found.gas_used,
            mined_at=timezone.now(),
        )
        self.report.mined += 1

    def _follow_mined(
        self, row: ChainTransaction, found: Inclusion | None, blocks: dict[int, Block], view: View
    ) -> None:
        assert row.block_number is not None
        block = blocks.get(row.block_number)
        if judge_kept(row.block_hash, block) is Sight.REVERSED:
            self._put_back(row)
            self.report.reorged += 1
            return
        if found is None or found.block_hash != row.block_hash:
            return
        if judge(found, block, head=view.head.number, confirmations=settings.CONFIRMATIONS) is not Sight.DEEP:
            return
        self._end(row, found)

    def _end(self, row: ChainTransaction, found: Inclusion) -> None:
        filler = _is_filler(row, found.tx_hash.lower())
        if found.succeeded and not filler:
            move(row, TransactionState.FINAL, final_at=timezone.now(), reason="")
            self.report.final += 1
            return
        reason = row.reason if filler else f"reverted on the chain in block {found.block_number}"
        move(row, TransactionState.FAILED, final_at=timezone.now(), reason=reason)
        self.report.failed += 1

    def _put_back(self, row: ChainTransaction) -> None:
        """Send it again as it is: the same bytes, the same nonce."""
        move(
            row,
            TransactionState.SENT,
            block_number=None,
            block_hash="",
            block_time=None,
            gas_used=None,
            mined_at=None,
            final_at=None,
            reorgs=row.reorgs + 1,
        )

    def _find_taker(self, row: ChainTransaction, view: View) -> None:
        """Find what used the nonce: one of ours whose receipt does not show yet, or a stranger's."""
        assert row.nonce is not None
        try:
            taker = who_took(
                self.rpc,
                sender=self.signer.address,
                nonce=row.nonce,
                deepest=view.head.number - settings.CONFIRMATIONS + 1,
            )
        except RpcRefused as error:
            _wait(self.report, Waiting.NONCE, f"who took nonce {row.nonce}? The node can't tell: {error}")
            return
        if taker is None or taker in {form.hash for form in row.hashes.all()}:
            return
        move(row, TransactionState.REPLACED, reason=f"nonce {row.nonce} was used by {taker}, which is not ours")
        self.report.replaced += 1

    def revisit(self, view: View) -> None:
        """Look again at what was final lately: a reversal that deep is an alarm and a receipt of its own."""
        final = self.mine.filter(state=TransactionState.FINAL)
        # By blocks, not by transactions: a block may hold many of ours, and none may be left out for it.
        kept = (
            final.filter(block_number__gt=view.head.number - REVISIT_BLOCKS)
            .order_by("block_number")
            .values_list("block_number", "block_hash")
            .distinct()[:REVISITED]
        )
        told = [(number, name) for number, name in kept if number is not None]
        blocks = self._blocks({number for number, _ in told})
        for number, name in told:
            if judge_kept(name, blocks.get(number)) is Sight.REVERSED:
                for row in final.filter(block_number=number, block_hash=name).order_by("nonce")[:FOLLOWED]:
                    self._reverse(row)
            elif number > view.head.number:
                reason = f"the node is behind: block {number} was final, its newest is older"
                _wait(self.report, Waiting.NODE, reason)

    def _reverse(self, row: ChainTransaction) -> None:
        with transaction.atomic():
            record(
                event_type="ChainReversed",
                subject=f"transaction-{row.pk}",
                tenant_id=None,
                actor=f"sender:{self.signer.address}",
                n=row.reorgs + 1,
                data={
                    "tx_hash": row.hash,
                    "chain_id": row.chain_id,
                    "block_number": row.block_number,
                    "block_hash": row.block_hash,
                    "purpose": row.purpose,
                },
            )
            self._put_back(row)
        self.report.reversed.append(row.pk)

    # 3. Sign the next intents.

    def _queue(self) -> Any:
        # What is only intended has no sender: so the index of open transactions gives it in its order.
        return ChainTransaction.objects.filter(
            chain_id=self.status.chain_id, state=TransactionState.INTENDED, sender=""
        )

    def sign_next(self, view: View) -> None:
        """Give nonces to the next intents and store what will be sent: commits of receipts last, the oldest first."""
        room = self.limit - self.mine.filter(state=TransactionState.SENT).count()
        if room <= 0 or self.report.waiting_reason or not self._queue().exists():
            return
        max_fee, tip = view.fees()
        cap = settings.CHAIN_FEE_CAP_GWEI * GWEI
        if view.head.base_fee + tip > cap:
            asked = view.head.base_fee + tip
            _wait(self.report, Waiting.FEE_CAP, f"the chain asks for {asked} wei a gas, the cap is {cap}")
            return
        if not self._count_is_believed(view):
            return
        max_fee = min(max_fee, cap)
        ready = self._affordable(self._next(room), view, max_fee)
        if ready:
            self._store_signed(ready, view, max_fee, tip)

    def _next(self, room: int) -> list[ChainTransaction]:
        """Choose what is signed now. What waits for a reason of its own keeps back nothing else."""
        chosen = self._estimated(self._of_the_house())[:room]
        commits = self._queue().filter(_OF_A_TENANT).order_by("id")
        budget = Budget.of_today(chain_id=self.status.chain_id)
        over = -1
        while len(chosen) < room and over < len(budget.over):  # again only where a budget ended: others stand behind
            over = len(budget.over)
            batch = list(commits.exclude(tenant_id__in=budget.over)[: room * 2])
            commits = commits.exclude(pk__in=[row.pk for row in batch])
            for row in self._estimated(batch):
                if len(chosen) < room and budget.allows(row):
                    chosen.append(row)
        if budget.note_waiting(self._queue()):
            names = ", ".join(sorted(budget.over))
            _wait(self.report, Waiting.GAS_BUDGET, f"commits of {names} wait: {budget.reason}")
        return chosen

    def _of_the_house(self) -> list[ChainTransaction]:
        """List what knows no budget: anchors first, as they hold for every receipt, then the oldest.

        What waited already and what is new are looked at in equal parts: a paused contract's intents keep back no
        others, however many there are, and others never keep those back when it goes on.
        """
        others = self._queue().exclude(_OF_A_TENANT).order_by("id")
        anchors = others.filter(purpose=ChainTransaction.Purpose.ANCHOR)[: self.limit]
        rest = others.exclude(purpose=ChainTransaction.Purpose.ANCHOR)
        waited, fresh = rest.exclude(reason="")[: self.limit * 2], rest.filter(reason="")[: self.limit * 2]
        return [*anchors, *sorted([*waited, *fresh], key=lambda row: row.pk)]

    def _count_is_believed(self, view: View) -> bool:
        """Follow a node that counts more of our transactions than we do only where an older block says so too.

        A node that lies once, or is another chain's for a moment, must not leave a gap that everything waits behind.
        """
        ours = next_nonce(self.status)
        if view.nonce <= ours:
            return True
        deep = view.head.number - settings.CONFIRMATIONS + 1
        try:
            told = used_by(self.rpc, sender=self.signer.address, block=deep) if deep >= 0 else 0
        except RpcRefused as error:
            _wait(self.report, Waiting.NONCE, f"the node counts {view.nonce} transactions, we {ours}: {error}")
            return False
        if told < view.nonce:
            reason = (
                f"the node counts {view.nonce} of our transactions, we {ours}: believed at {settings.CONFIRMATIONS}"
            )
            _wait(self.report, Waiting.NONCE, f"{reason} confirmations")
            return False
        return True

    def fill_gap(self, view: View) -> None:
        """Use up nonces that were skipped: a node once lied with a count too high, and what we sent since waits.

        No row of ours holds them, so nothing that was promised is replaced. What somebody else may have sent with
        them gets as long to show as a stuck transaction of ours; what comes later is refused by the chain.
        """
        first = self.mine.filter(state=TransactionState.SENT, nonce__gt=view.nonce).order_by("nonce").first()
        if first is None or first.nonce is None or first.sent_at is None:
            return
        if self.mine.filter(nonce__gte=view.nonce, nonce__lt=first.nonce).exists():
            return
        if timezone.now() - first.sent_at < dt.timedelta(seconds=settings.CHAIN_FEE_BUMP_SECONDS):
            return
        if first.nonce - view.nonce > FILLED_AT_MOST:
            reason = f"nonces {view.nonce} to {first.nonce - 1} were skipped: too many to fill, somebody has to look"
            _wait(self.report, Waiting.NONCE, reason)
            return
        max_fee, tip = view.fees()
        max_fee = min(max_fee, settings.CHAIN_FEE_CAP_GWEI * GWEI)
        for nonce in range(view.nonce, min(first.nonce, view.nonce + self.limit)):
            self._store_filler(nonce, max_fee, tip)

    def _store_filler(self, nonce: int, max_fee: int, tip: int) -> None:
        """Store an empty transfer to ourselves that uses up a nonce."""
        me = self.signer.address
        with transaction.atomic():
            row = intend(
                purpose=ChainTransaction.Purpose.ADMIN,
                key=f"fill:{self.status.chain_id}:{me}:{nonce}",
                to=me,
                data=b"",
                gas_limit=TRANSFER_GAS,
            )
            if row.state != TransactionState.INTENDED:
                return
            row.nonce = nonce
            form = self._sign(row, max_fee, tip)
            reason = "fills a nonce that was skipped"
            facts = {"sender": me, "nonce": nonce, "hash": form.hash, "sent_at": timezone.now(), "reason": reason}
            move(row, TransactionState.SENT, **facts)
            form.save()
        self.report.filled += 1

    def _estimated(self, queue: list[ChainTransaction]) -> list[ChainTransaction]:
        """Give each its gas limit. What would revert fails here, before it costs a nonce; what is paused waits."""
        unknown = [row for row in queue if row.gas_limit is None]
        answers = self.rpc.try_many([Request("eth_estimateGas", [self._call_of(row), "pending"]) for row in unknown])
        held: set[int] = set()
        for row, answer in zip(unknown, answers, strict=True):
            if not isinstance(answer, RpcRefused):
                row.gas_limit = quantity(answer) * (100 + GAS_SLACK_PERCENT) // 100
                continue
            held.add(row.pk)
            if isinstance(answer, CallReverted) and not answer.data.startswith(PAUSED):
                move(row, TransactionState.FAILED, reason=f"would revert: {answer.data or answer.message}"[:300])
                self.report.failed += 1
                continue
            paused = isinstance(answer, CallReverted)
            reason = "the contract is paused" if paused else str(answer)
            ChainTransaction.objects.filter(pk=row.pk).update(reason=reason[:300])
            kind = Waiting.PAUSED if paused else Waiting.NO_FUNDS if isinstance(answer, NoFunds) else Waiting.NODE
            _wait(self.report, kind, f"{row.get_purpose_display()} to {row.to}: {reason}")
        return [row for row in queue if row.pk not in held]

    def _call_of(self, row: ChainTransaction) -> dict[str, str]:
        call = {"from": self.signer.address, "data": "0x" + bytes(row.data).hex(), "value": hex(int(row.value))}
        return call | ({"to": row.to} if row.to else {})

    def _affordable(self, rows: list[ChainTransaction], view: View, max_fee: int) -> list[ChainTransaction]:
        """Keep what the balance pays for, in order, counting what is under way at its highest price."""
        left = view.balance
        for row in self.mine.filter(state=TransactionState.SENT).prefetch_related("hashes"):
            newest = _newest(row)
            left -= int(row.value) + (row.gas_limit or 0) * int(newest.max_fee_wei)
        kept = []
        for row in rows:
            left -= int(row.value) + (row.gas_limit or 0) * max_fee
            if left < 0:
                reason = f"no funds: {self.signer.address} has {view.balance} wei, {-left} more are due"
                _wait(self.report, Waiting.NO_FUNDS, reason)
                break
            kept.append(row)
        return kept

    def _store_signed(self, rows: list[ChainTransaction], view: View, max_fee: int, tip: int) -> None:
        with transaction.atomic():
            nonces = take_nonces(self.status, count=len(rows), chain_nonce=view.nonce)
            for row, nonce in zip(rows, nonces, strict=True):
                row.nonce = nonce
                form = self._sign(row, max_fee, tip)
                move(
                    row,
                    TransactionState.SENT,
                    sender=self.signer.address,
                    nonce=nonce,
                    gas_limit=row.gas_limit,
                    hash=form.hash,
                    sent_at=timezone.now(),
                    reason="",
                    contract_address="" if row.to else rlp.created_address(self.signer.address, nonce),
                )
                form.save()
        # Point of no return: nonces are spent and the bytes are kept. A crash here leaves signed transactions that
        # were never sent; the next turn's broadcast finds that the chain does not know them.
        self.report.signed += len(rows)

    def _sign(self, row: ChainTransaction, max_fee: int, tip: int, *, filler: bool = False) -> TransactionHash:
        assert row.nonce is not None
        raw = rlp.sign_transaction(
            self.signer,
            chain_id=row.chain_id,
            nonce=row.nonce,
            max_priority_fee=min(tip, max_fee),
            max_fee=max_fee,
            gas_limit=TRANSFER_GAS if filler else (row.gas_limit or 0),
            to=self.signer.address if filler else row.to,
            value=0 if filler else int(row.value),
            data=b"" if filler else bytes(row.data),
        )
        return TransactionHash(
            hash=rlp.transaction_hash(raw),
            transaction=row,
            raw=raw,
            max_fee_wei=max_fee,
            max_priority_fee_wei=min(tip, max_fee),
        )

    # 4. Broadcast.

    def broadcast(self, view: View) -> None:
        """Send what the node does not know, in the order of nonces, and pay more where that is what it waits for."""
        rows = list(
            self.mine.filter(state=TransactionState.SENT, nonce__gte=view.nonce)
            .order_by("nonce")
            .prefetch_related("hashes")[:FOLLOWED]
        )
        forms = [self._perhaps_bumped(row, view) for row in rows]
        known = self.rpc.read_many([Request("eth_getTransactionByHash", [form.hash]) for form in forms])
        missing = [(row, form) for row, form, there in zip(rows, forms, known, strict=True) if there is None]
        if not missing:
            return
        answers = self.rpc.send_raw([bytes(form.raw) for _, form in missing])
        for (row, form), answer in zip(missing, answers, strict=True):
            self._note_answer(row, form, answer, view)

    def _note_answer(self, row: ChainTransaction, form: TransactionHash, answer: str | RpcRefused, view: View) -> None:
        accepted = not isinstance(answer, RpcRefused) or isinstance(answer, AlreadyKnown)
        form.answer = "accepted" if accepted else str(answer)[:300]
        form.last_sent_at = timezone.now()
        form.save(update_fields=["answer", "last_sent_at"])
        if accepted:
            self.report.broadcast += 1
        elif isinstance(answer, NeverValid):
            self._give_up(row, form, answer)
        elif isinstance(answer, FeeBelowBase):
            self._bump(row, form, view)
        elif not isinstance(answer, NonceTooLow | Underpriced):
            # Nonce too low: one of its hashes was mined, or a stranger's; the next turn finds out which.
            # Underpriced: an earlier form of it is pending, and pays nearly as much.
            kind = Waiting.NO_FUNDS if isinstance(answer, NoFunds) else Waiting.NODE
            _wait(self.report, kind, f"nonce {row.nonce}: {answer}")

    def _perhaps_bumped(self, row: ChainTransaction, view: View) -> TransactionHash:
        """Give the newest form of a transaction, made dearer first if it has been next for too long."""
        form = _newest(row)
        patience = dt.timedelta(seconds=settings.CHAIN_FEE_BUMP_SECONDS)
        if row.nonce != view.nonce or form.last_sent_at is None or timezone.now() - form.signed_at < patience:
            return form
        return self._bump(row, form, view) or form

    def _bump(self, row: ChainTransaction, form: TransactionHash, view: View) -> TransactionHash | None:
        """Sign the same transaction with at least 10 % more of both fees; None where the cap forbids it."""
        cheapest = min(int(each.max_fee_wei) for each in row.hashes.all())
        cap = min(settings.CHAIN_FEE_CAP_GWEI * GWEI, cheapest * BUMP_LIMIT)
        max_fee, tip = view.fees()
        max_fee = max(_raised(int(form.max_fee_wei)), min(max_fee, cap))
        tip = max(_raised(int(form.max_priority_fee_wei)), tip)
        if max_fee > cap:
            reason = f"nonce {row.nonce} is stuck: it would have to pay {max_fee} wei a gas, the cap is {cap}"
            _wait(self.report, Waiting.FEE_CAP, reason)
            return None
        dearer = self._sign(row, max_fee, tip, filler=_is_filler(row, form.hash))
        with transaction.atomic():
            dearer.save()
            ChainTransaction.objects.filter(pk=row.pk, state=TransactionState.SENT).update(hash=dearer.hash)
        self.report.bumped += 1
        return dearer

    def _give_up(self, row: ChainTransaction, form: TransactionHash, answer: NeverValid) -> None:
        """Use up the nonce of what no node will ever take, so that the ones behind it can land."""
        if _is_filler(row, form.hash):
            _wait(self.report, Waiting.NONCE, f"nonce {row.nonce} can't be filled: {answer}")
            return
        filler = self._sign(row, _raised(int(form.max_fee_wei)), _raised(int(form.max_priority_fee_wei)), filler=True)
        with transaction.atomic():
            filler.save()
            ChainTransaction.objects.filter(pk=row.pk, state=TransactionState.SENT).update(
                hash=filler.hash, reason=f"refused for good: {answer}"[:300], contract_address=""
            )
        self.report.bumped += 1


def move(row: ChainTransaction, to: TransactionState, **facts: Any) -> None:
    """Move a transaction by compare-and-swap.

    Raises: IllegalMove, where its state does not allow it or another process moved it first.
    """
    here = TransactionState(row.state)
    if to not in MOVES[here]:
        raise IllegalMove(f"{row.key}: {here} does not lead to {to}")
    if not ChainTransaction.objects.filter(pk=row.pk, state=here).update(state=to, **facts):
        raise IllegalMove(f"{row.key} was moved by another process")
    row.state = to
    for name, value in facts.items():
        setattr(row, name, value)


def _newest(row: ChainTransaction) -> TransactionHash:
    return max(row.hashes.all(), key=lambda form: form.max_fee_wei)


def _raised(fee: int) -> int:
    return fee * (100 + BUMP_PERCENT) // 100 + 1


def _is_filler(row: ChainTransaction, tx_hash: str) -> bool:
    """Tell whether this hash is the empty transfer that fills the nonce of a refused transaction."""
    form = next((each for each in row.hashes.all() if each.hash == tx_hash), None)
    if form is None:
        return False
    sent = rlp.decode_raw_transaction(bytes(form.raw))
    return (sent.to, sent.data) != (row.to, bytes(row.data))


def _wait(report: SenderReport, kind: Waiting, reason: str) -> None:
    """Note why the queue waits; the first reason is the one that counts."""
    if not report.waiting_reason:
        report.waiting_for, report.waiting_reason = kind.value, reason
