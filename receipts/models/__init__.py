"""The ledger's rows. Evidence (receipts, bundles, checkpoints) is only ever added; the database refuses the rest."""

from receipts.models.erasure import Erasure
from receipts.models.keys import PublicKey
from receipts.models.ledger import Bundle, Checkpoint, LogHead, Pending, Receipt, Thread, Uncommitted
from receipts.models.numbers import NumbersAttempt, NumbersOrder, NumbersPlace
from receipts.models.tenants import Tenant
from receipts.models.transactions import ChainTransaction, Commit, SenderStatus, TransactionHash
from receipts.models.witnesses import (
    Cosignature,
    Misbehaviour,
    WitnessAlarm,
    WitnessedCheckpoint,
    WitnessedLog,
    WitnessStatus,
)

__all__ = [
    "Bundle",
    "ChainTransaction",
    "Checkpoint",
    "Commit",
    "Cosignature",
    "Erasure",
    "LogHead",
    "Misbehaviour",
    "NumbersAttempt",
    "NumbersOrder",
    "NumbersPlace",
    "Pending",
    "PublicKey",
    "Receipt",
    "SenderStatus",
    "Tenant",
    "Thread",
    "TransactionHash",
    "Uncommitted",
    "WitnessAlarm",
    "WitnessStatus",
    "WitnessedCheckpoint",
    "WitnessedLog",
]
