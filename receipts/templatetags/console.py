"""The small pieces that every page of the console is made of: hashes, badges, verdicts, times, amounts."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any, Final

from django import template
from django.conf import settings
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from receipts.pages import checkpoint_page, provider_page, receipt_page, transaction_page, usage_page

register = template.Library()

SYMBOL: Final = "TALLY"
_DECIMALS: Final = 18
_DASH: Final = mark_safe('<span class="ts-none">–</span>')

_COPY: Final = mark_safe(
    '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M5.500 2h6A1.500 1.500 0 0 1 13 3.500v7M3.500 5h5A1.500 '
    '1.500 0 0 1 10 6.500v6A1.500 1.500 0 0 1 8.500 14h-5A1.500 1.500 0 0 1 2 12.500v-6A1.500 1.500 0 0 1 3.500 5z" '
    'fill="none" stroke="currentColor" stroke-width="1.300" stroke-linecap="round"/></svg>'
)

TONES: Final[dict[str, str]] = {
    # jobs and attempts
    "submitted": "wait",
    "scheduled": "run",
    "leased": "wait",
    "running": "run",
    "completed": "good",
    "succeeded": "good",
    "failed": "bad",
    "lost": "bad",
    "cancelled": "idle",
    # evidence
    "none": "idle",
    "credential": "wait",
    "usage": "wait",
    "attestation": "wait",
    "mint": "wait",
    "complete": "good",
    # transactions and mints
    "intended": "wait",
    "wanted": "wait",
    "attested": "run",
    "sent": "run",
    "mined": "run",
    "final": "good",
    "minted": "good",
    "replaced": "idle",
    "refused": "bad",
    "landed": "good",
    # verdicts
    "holds": "good",
    "broken": "bad",
    "unknown": "wait",
    "not claimed": "idle",
    # origins
    "hosted": "idle",
    "reported": "idle",
    "simulated": "wait",
}
_VERDICT_SIGNS: Final = {"holds": "✓", "broken": "✗", "unknown": "?", "not claimed": "–"}


@register.filter
def short(text: object) -> str:
    """Shorten a hash to its two ends; the page keeps the whole beside it."""
    whole = str(text)
    return whole if len(whole) <= 20 else f"{whole[:10]}…{whole[-6:]}"


@register.simple_tag
def copyable(text: object, href: str = "", whole: bool = False, what: str = "") -> SafeString:
    """Show a hash or an id, linked where `href` leads on, with a button that copies all of it."""
    if text in (None, ""):
        return _DASH
    shown = str(text) if whole else short(text)
    code = format_html('<code title="{}">{}</code>', text, shown)
    if href:
        code = format_html('<a href="{}">{}</a>', href, code)
    return format_html(
        '<span class="ts-hash{}">{}<button type="button" class="ts-copy" data-copy="{}" title="Copy" '
        'aria-label="Copy {}">{}</button></span>',
        " ts-hash-whole" if whole else "",
        code,
        text,
        what or short(text),
        _COPY,
    )


@register.simple_tag
def badge(state: object, text: str = "") -> SafeString:
    """Show a state as a small coloured word."""
    word = str(getattr(state, "value", state))
    if not word:
        return _DASH
    return format_html('<span class="ts-badge ts-{}">{}</span>', TONES.get(word, "idle"), text or word)


@register.filter
def tone(word: object) -> str:
    """Give the colour of a state or verdict."""
    return TONES.get(str(getattr(word, "value", word)), "idle")


@register.simple_tag
def verdict(word: object) -> SafeString:
    """Show a verdict as a chip: holds, broken, unknown or not claimed."""
    text = str(getattr(word, "value", word))
    return format_html(
        '<span class="ts-chip ts-{}" data-verdict="{}"><i aria-hidden="true">{}</i>{}</span>',
        TONES.get(text, "wait"),
        text,
        _VERDICT_SIGNS.get(text, "?"),
        text,
    )


@register.filter
def moment(value: dt.datetime | None) -> SafeString:
    """Show a time to the second, with the exact one and its distance on hovering."""
    if value is None:
        return _DASH
    at = value.astimezone(dt.UTC)
    return format_html(
        '<time datetime="{0}" title="{0}">{1}</time>', at.isoformat(timespec="milliseconds"), f"{at:%d %b %Y %H:%M:%S}"
    )


@register.filter
def clock(value: dt.datetime | None) -> SafeString:
    """Show a time of day to the millisecond; the day is on hovering."""
    if value is None:
        return _DASH
    at = value.astimezone(dt.UTC)
    return format_html('<time datetime="{0}" title="{0}">{1}</time>', at.isoformat(timespec="milliseconds"), _clock(at))


def _clock(at: dt.datetime) -> str:
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"


@register.filter
def ago(value: dt.datetime | None) -> SafeString:
    """Show how long ago something was, in its largest unit."""
    if value is None:
        return _DASH
    passed = dt.timedelta(seconds=max(1, round((timezone.now() - value).total_seconds())))
    return format_html(
        '<time datetime="{0}" title="{0}">{1} ago</time>',
        value.astimezone(dt.UTC).isoformat(timespec="seconds"),
        span(passed),
    )


@register.filter
def span(value: dt.timedelta | None) -> str | SafeString:
    """Show a length of time with the precision that matters at its size."""
    if value is None:
        return _DASH
    seconds = max(0.0, value.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds % 1 else f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    if seconds < 86_400:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"
    return f"{seconds // 86_400:.0f} d {seconds % 86_400 // 3600:.0f} h"


@register.filter
def tokens(amount: object) -> SafeString:
    """Show an amount of the token's smallest unit in whole tokens, the exact integer on hovering."""
    if amount is None or amount == "":
        return _DASH
    exact = Decimal(int(Decimal(str(amount))))
    text = f"{exact.scaleb(-_DECIMALS):f}".rstrip("0").rstrip(".") if exact else "0"
    return format_html('<span class="ts-amount" title="{} of the smallest unit">{} {}</span>', exact, text, SYMBOL)


@register.filter
def ether(wei: object) -> SafeString:
    """Show a balance of the chain's own coin."""
    if wei is None or wei == "":
        return _DASH
    exact = Decimal(str(wei))
    return format_html('<span class="ts-amount" title="{} wei">{} ETH</span>', exact, f"{exact.scaleb(-18):.4f}")


@register.filter
def gwei(wei: object) -> SafeString:
    """Show a fee in gwei."""
    if wei is None or wei == "":
        return _DASH
    exact = Decimal(str(wei))
    text = f"{exact.scaleb(-9):f}".rstrip("0").rstrip(".") if exact else "0"
    return format_html('<span class="ts-amount" title="{} wei">{} gwei</span>', exact, text)


@register.filter
def grouped(number: object) -> str:
    """Group a whole number's digits by threes."""
    return f"{int(Decimal(str(number))):,}".replace(",", "\u202f") if number not in (None, "") else "–"


@register.filter
def size(number: int | None) -> str | SafeString:
    """Show a size in bytes."""
    return _DASH if number is None else filesizeformat(number)


@register.filter
def pretty(value: Any) -> str:
    """Indent JSON for reading. What was hashed is the receipt's bytes, never this."""
    return json.dumps(value, indent=2, ensure_ascii=False)


@register.simple_tag
def transaction_link(hash_: str, pk: object = None) -> SafeString:
    """Show a transaction's hash, linked to our own page of it, and to the explorer where one is set."""
    shown = copyable(hash_, transaction_page(pk) if pk is not None else "", what="transaction hash")
    if not hash_ or not settings.EXPLORER_URL:
        return shown
    return format_html(
        '{} <a class="ts-out" href="{}/tx/{}" rel="noreferrer noopener" target="_blank">explorer ↗</a>',
        shown,
        settings.EXPLORER_URL,
        hash_,
    )


@register.simple_tag
def receipt_link(pk: object, nid: str) -> SafeString:
    """Show a receipt's NID, linked to its page."""
    return copyable(nid, receipt_page(pk) if pk is not None else "", what="NID")


@register.filter
def codes(text: str) -> SafeString:
    """Show what stands between backticks as code."""
    parts = text.split("`")
    return format_html_join(
        "", "{}", ((format_html("<code>{}</code>", part) if n % 2 else part,) for n, part in enumerate(parts))
    )


@register.filter
def source_type(iri: str | None) -> str:
    """Name a digital source type by its last word: the vocabulary's own."""
    return (iri or "not said").rstrip("/").rpartition("/")[2]


@register.simple_tag
def fact_value(fact: Any) -> SafeString | str:
    """Show one fact of a story's entry in the way that it asks for."""
    value, key = fact.value, fact.key
    if value in (None, ""):
        return _DASH
    match fact.how:
        case "hash":
            return copyable(value)
        case "amount":
            return format_html("{} {}", tokens(value), key) if key else tokens(value)
        case "badge":
            return badge(value)
        case "transaction":
            return transaction_link(value, key)
        case "checkpoint":
            return format_html('<a href="{}">{} leaves</a>', checkpoint_page(key), grouped(value))
        case "usage":
            return copyable(value, usage_page(key) if key else "", what="receipt hash")
        case "provider":
            return format_html('<a href="{}">{}</a>', provider_page(key), value) if key else str(value)
    return str(value)


@register.simple_tag
def actor(who: str, page: Any = None) -> SafeString | str:
    """Show who did it: the role, then the key, by the name that this house knows it by."""
    role, _, key = who.partition(":")
    name = page.names.get(key) if page is not None else None
    if not key:
        return role
    return format_html("{}{} {}", role, f" {name}" if name else "", copyable(key, what=f"{role} key"))
