"""What Celery wakes the ledger for. Each task may run twice or never; the next tick does its work."""

import logging

from celery import shared_task
from django.conf import settings

from receipts import cosigners
from receipts import log as ledger
from receipts.anchor import anchor
from receipts.chain import sender
from receipts.commits import commit_receipts
from receipts.committers import numbers

log = logging.getLogger(__name__)


@shared_task(ignore_result=True)
def turn_log() -> None:
    """Sequence what is pending and publish a checkpoint."""
    try:
        turn = ledger.turn()
    except (ledger.LogNotFounded, ledger.SequencerFenced) as error:
        log.info("the log waits: %s", error)
        return
    except ledger.LogError:
        log.exception("the log stands still")
        return
    if turn.published is not None:
        log.info("checkpoint of %d leaves, %d new", turn.published, turn.sequenced)


@shared_task(ignore_result=True)
def turn_witnesses() -> None:
    """Have the newest checkpoint cosigned by whoever is due. One at a time: a slow witness holds up one process."""
    for told in cosigners.turn():
        level = logging.ERROR if told.alarms else logging.INFO if told.line else logging.WARNING
        log.log(level, "the witness %s: %s", told.witness.vkey.name, told.words)


@shared_task(ignore_result=True)
def turn_chain() -> None:
    """Anchor the newest checkpoint, wish for commits, send what is intended, follow what was sent."""
    try:
        anchor()
        commit_receipts()
    except ledger.LogNotFounded as error:
        log.info("nothing to anchor: %s", error)
        return
    report = sender.turn()
    if report.waiting_reason:
        log.warning("the chain's queue waits: %s", report.waiting_reason)


@shared_task(ignore_result=True)
def turn_numbers() -> None:
    """Commit on Numbers Protocol what is due, where a network is turned on."""
    if settings.NUMBERS_NETWORK == "off":
        return
    report = numbers.turn()
    if report.waiting_reason:
        log.warning("the orders on Numbers Protocol wait: %s", report.waiting_reason)
    if report.broken:
        log.error("on Numbers Protocol %d orders landed and say something else", report.broken)
