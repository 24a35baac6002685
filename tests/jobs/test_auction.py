"""The auction's laws: bounds, determinism, and the edge cases of the market it comes from."""

from hypothesis import given
from hypothesis import strategies as st

from jobs.market.auction import PPM, UNKNOWN_REPUTATION_PPM, Ask, Record, award, reputation_ppm, score_ppm

prices = st.integers(min_value=0, max_value=10**30)
asks = st.builds(
    Ask, provider_id=st.integers(1, 1000), price=prices, reputation_ppm=st.integers(min_value=0, max_value=PPM)
)


@given(st.lists(asks, min_size=1, max_size=20, unique_by=lambda ask: ask.provider_id), st.randoms())
def test_the_winner_does_not_depend_on_the_order_of_asks(offers: list[Ask], random: object) -> None:
    shuffled = sorted(offers, key=lambda ask: hash((ask.provider_id, id(random))))
    assert award(offers) == award(shuffled)


@given(asks, prices)
def test_a_score_lies_between_nothing_and_one_whole(ask: Ask, more: int) -> None:
    assert 0 <= score_ppm(ask, ask.price + more) <= PPM


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**9), st.integers(min_value=0, max_value=10**12))
def test_a_reputation_lies_between_nothing_and_one_whole(won: int, lost: int, quality: int, took: int) -> None:
    assert 0 <= reputation_ppm(Record(won, lost, quality, took)) <= PPM


def test_an_unknown_provider_counts_half() -> None:
    assert reputation_ppm(Record()) == UNKNOWN_REPUTATION_PPM


def test_a_perfect_fast_provider_has_the_whole() -> None:
    assert reputation_ppm(Record(10, 0, 10 * PPM, 0)) == PPM


def test_the_formula_of_the_market_is_kept() -> None:
    # 0.7 x (1 - 25/100) + 0.3 x 0.5
    assert score_ppm(Ask(1, 25), 100) == 675_000
    # 0.5 x 8/10 + 0.3 x 0.9 + 0.2 x 10000/20000
    assert reputation_ppm(Record(8, 2, 10 * 900_000, 10 * 20_000)) == 770_000


def test_all_prices_zero_leave_reputation_to_decide() -> None:
    won = award([Ask(1, 0, 100_000), Ask(2, 0, 900_000)])
    assert won is not None and won.ask.provider_id == 2


def test_ties_go_to_the_lower_price_then_to_the_older_provider() -> None:
    won = award([Ask(7, 5), Ask(3, 5)])
    assert won is not None and won.ask.provider_id == 3


def test_nobody_wins_above_the_clients_price() -> None:
    assert award([Ask(1, 11)], max_price=10) is None
    assert award([], max_price=None) is None
