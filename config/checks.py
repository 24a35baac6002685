"""Contradictions between settings, each with a hint."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from jobs.runners.catalogue import models
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
    return found
