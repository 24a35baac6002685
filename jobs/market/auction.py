"""Score asks and choose a provider. Pure; integers in parts per million, so that every host agrees.

Source: the score 0.7·(1 - price/max_price) + 0.3·reputation and the reputation 0.5·successes/total +
0.3·mean quality + 0.2·speed of the DPGN market, with its edge cases settled here:
all prices zero -> the price term is 1; reputation unknown -> 0.5; ties -> the lower price, then the older provider.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

PPM: Final = 1_000_000
PRICE_WEIGHT_PPM: Final = 700_000
REPUTATION_WEIGHT_PPM: Final = 300_000
UNKNOWN_REPUTATION_PPM: Final = 500_000
FAST_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Record:
    """How a provider has fared; failures count in both means."""

    successes: int = 0
    failures: int = 0
    quality_ppm_total: int = 0
    duration_ms_total: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """A provider's offer: `price` in smallest token units for each unit served."""

    provider_id: int
    price: int
    reputation_ppm: int = UNKNOWN_REPUTATION_PPM


@dataclass(frozen=True, slots=True)
class Award:
    """The ask that won, its score and how many stood against each other."""

    ask: Ask
    score_ppm: int
    asks: int


def reputation_ppm(record: Record) -> int:
    """Weigh success, quality and speed into 0 … 1,000,000; half when nothing is known."""
    total = record.successes + record.failures
    if total == 0:
        return UNKNOWN_REPUTATION_PPM
    success = record.successes * PPM // total
    quality = min(PPM, max(0, record.quality_ppm_total // total))
    mean_ms = record.duration_ms_total // total
    speed = PPM if mean_ms == 0 else min(PPM, FAST_MS * PPM // mean_ms)
    return (5 * success + 3 * quality + 2 * speed) // 10


def score_ppm(ask: Ask, highest_price: int) -> int:
    """Score one ask against the highest price in the round."""
    price_term = PPM if highest_price == 0 else PPM - ask.price * PPM // highest_price
    return (PRICE_WEIGHT_PPM * price_term + REPUTATION_WEIGHT_PPM * ask.reputation_ppm) // PPM


def award(asks: Iterable[Ask], max_price: int | None = None) -> Award | None:
    """Choose the ask with the highest score among those that the client can afford; None when there is none.

    The client's `max_price` is the reference where it gave one, else the highest ask of the round.
    """
    affordable = [ask for ask in asks if max_price is None or ask.price <= max_price]
    if not affordable:
        return None
    highest = max_price if max_price is not None else max(ask.price for ask in affordable)
    best = min(affordable, key=lambda ask: (-score_ppm(ask, highest), ask.price, ask.provider_id))
    return Award(best, score_ppm(best, highest), len(affordable))
