"""Contradictions between settings, each with a hint."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from jobs.runners.catalogue import models
from receipts.committers.nit import JOB_MOVES, NETWORKS
from receipts.cosigners import WitnessesWrong, witnesses


@register()
def settings_fit_together(**_: Any) -> list[CheckMessage]:
    """Refuse settings that contradict each other or leave production open."""
    found: list[CheckMessage] = []

    def wrong(number: int, what: str, hint: str) -> None:
        found.append(Error(what, hint=hint, id=f"tallystick.E{number:03d}"))

    if settings.COMMIT_POLICY not in ("batch", "each"):
        wrong(
            1,
            f"COMMIT_POLICY is {settings.COMMIT_POLICY!r}",
            "Use batch (anchors alone), or each (besides, every receipt of a job).",
        )
    if settings.COMMIT_POLICY == "each" and not settings.EMBEDDED and not settings.CHAIN_RPC_URL:
        wrong(9, "COMMIT_POLICY is 'each' without a chain", "Set CHAIN_RPC_URL and REGISTER_ADDRESS, or use batch.")
    if 0 < len(settings.METRICS_TOKEN) < 16:
        wrong(11, "METRICS_TOKEN can be guessed", "Use at least 16 random characters, or leave it unset.")
    if settings.COMMIT_GAS_DAILY < 0:
        wrong(
            10, f"COMMIT_GAS_DAILY is {settings.COMMIT_GAS_DAILY}", "Give units of gas a day; 0 means without a bound."
        )
    if settings.DEFAULT_MODEL not in models():
        wrong(8, f"DEFAULT_MODEL is {settings.DEFAULT_MODEL!r}", f"Name one of {', '.join(sorted(models()))}.")
    if settings.CHAIN_RPC_URL and settings.CHAIN_ID == 10507 and settings.EMBEDDED:
        wrong(
            2,
            "an embedded chain has the chain id of a public network",
            "Transactions signed for 10507 are valid there: choose a private CHAIN_ID, such as 31337.",
        )
    if not settings.EMBEDDED:
        if not settings.SECRET_KEY:
            wrong(3, "SECRET_KEY is not set", "Set SECRET_KEY or SECRET_KEY_FILE to 50 random characters.")
        if settings.DEBUG:
            wrong(4, "DEBUG is on in production", "Unset DEBUG: error pages would show settings to strangers.")
        if not settings.LOG_ORIGIN:
            wrong(5, "LOG_ORIGIN is not set", "Name the log once and for good, such as log.example.org/tally.")
        if not settings.ALLOWED_HOSTS or "*" in settings.ALLOWED_HOSTS:
            wrong(6, "ALLOWED_HOSTS is empty or open", "Name the hosts that this house answers to.")
    if settings.LEASE_SECONDS < 3:
        wrong(7, f"LEASE_SECONDS is {settings.LEASE_SECONDS}", "A lease below 3 s is lost between two heartbeats.")
    try:
        named = len(witnesses())
    except WitnessesWrong as error:
        wrong(20, f"WITNESSES: {error}", "Name each as <vkey>@<url>, as its house prints it: manage.py witness vkey.")
    else:
        if not 0 <= settings.WITNESS_QUORUM <= named:
            wrong(
                21,
                f"WITNESS_QUORUM is {settings.WITNESS_QUORUM}, and WITNESSES names {named}",
                "Ask for as many cosignatures as there are witnesses, or fewer: else no checkpoint is ever final.",
            )
    numbers_fit_together(wrong)
    return found


def numbers_fit_together(wrong: Callable[[int, str, str], None]) -> None:
    """Refuse what would send to the wrong network of Numbers Protocol, show its token, or send nothing at all."""
    name, way = settings.NUMBERS_NETWORK, settings.NUMBERS_COMMIT
    if name not in ("off", *NETWORKS):
        wrong(30, f"NUMBERS_NETWORK is {name!r}", "Use off, testnet or mainnet.")
    if way not in ("api", "chain"):
        wrong(31, f"NUMBERS_COMMIT is {way!r}", "Use api (through Capture) or chain (by our own transactions).")
    if settings.NUMBERS_ASSET not in ("proof", "receipt"):
        wrong(32, f"NUMBERS_ASSET is {settings.NUMBERS_ASSET!r}", "Use proof, or receipt to make JobSubmitted public.")
    if strangers := sorted(set(settings.NUMBERS_EVENTS) - set(JOB_MOVES)):
        wrong(33, f"NUMBERS_EVENTS names {strangers[0]!r}", f"Name some of {', '.join(JOB_MOVES)}, or none for all.")
    if settings.CHAIN_RPC_URL and NETWORKS["mainnet"].chain_id == settings.CHAIN_ID and name != "mainnet":
        wrong(
            34,
            "the house sends to the main network of Numbers Protocol without being told to",
            "Set NUMBERS_NETWORK=mainnet if that is meant; else CHAIN_ID and CHAIN_RPC_URL name the wrong chain.",
        )
    if name not in NETWORKS:
        return
    if way == "api" and not settings.CAPTURE_TOKEN:
        wrong(35, "NUMBERS_NETWORK is on without CAPTURE_TOKEN", "Set CAPTURE_TOKEN_FILE, or NUMBERS_NETWORK=off.")
    if way == "chain" and (NETWORKS[name].chain_id != settings.CHAIN_ID or not settings.CHAIN_RPC_URL):
        wrong(
            36,
            f"NUMBERS_COMMIT is 'chain' and the house sends to chain {settings.CHAIN_ID}",
            f"Set CHAIN_ID={NETWORKS[name].chain_id} and CHAIN_RPC_URL={NETWORKS[name].rpc_url}, or use api.",
        )
    for setting in ("CAPTURE_API_URL", "CAPTURE_COMMIT_URL", "CAPTURE_HISTORY_URL", "CAPTURE_TREE_URL"):
        address = urlsplit(getattr(settings, setting))
        if address.scheme != "https" and address.hostname not in ("127.0.0.1", "::1", "localhost"):
            wrong(37, f"{setting} is not https", "The token goes there: it would cross the network in the clear.")
