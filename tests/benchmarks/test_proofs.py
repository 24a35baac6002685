"""Proofs and their checks beside pymerkle's: the same leaves, in turns, in one run. Judges no time.

Ours are made from tiles in memory, as the house makes them from tiles on disk. A million leaves in the full campaign,
a hundred thousand otherwise. Wanted: proofs at least 3 times as fast, checks at least 1.4 times.
"""

import os
import random
import statistics
import time
from collections.abc import Callable

import pytest
from pymerkle import InmemoryTree, verify_consistency, verify_inclusion

from receipts.merkle import (
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    subtree_root,
)
from receipts.tiles import Growing, Tile, reader

LEAVES = 1_000_000 if os.environ.get("TALLYSTICK_TEST_FULL") else 100_000
ROUNDS = 9
PROOFS = 200
SEED = 20261121


def rate(deed: Callable[[int], object], numbers: list[int]) -> float:
    began = time.perf_counter()
    for number in numbers:
        deed(number)
    return len(numbers) / (time.perf_counter() - began)


def told(what: str, pairs: list[tuple[float, float]], wanted: float) -> str:
    ours, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    return f"  {what}: {ours:,.0f}/s, pymerkle {theirs:,.0f}/s: {ratio:.2f}x (wanted >= {wanted}x)"


def test_proofs_beside_pymerkle(capsys: pytest.CaptureFixture[str]) -> None:
    growing, theirs = Growing(), InmemoryTree(algorithm="sha256")
    tiles: dict[tuple[int | None, int], bytes] = {}
    for number in range(LEAVES):
        entry = b"entry %d" % number
        for tile, rows in growing.add(entry, leaf_hash(entry)):
            if tile.level is not None:
                tiles[tile.level, tile.index] = b"".join(row for row in rows if row is not None)
        theirs.append_entry(entry)
    for tile, rows in growing.rest():
        if tile.level is not None:
            tiles[tile.level, tile.index] = b"".join(row for row in rows if row is not None)

    def fetch(tile: Tile) -> bytes:
        return tiles[tile.level, tile.index]

    read = reader(fetch, LEAVES)
    root = growing.frontier.root()
    assert subtree_root(read, 0, LEAVES) == root == theirs.get_root()
    dice = random.Random(SEED)
    leaves = {number: leaf_hash(b"entry %d" % number) for number in dice.sample(range(LEAVES), ROUNDS * PROOFS)}
    numbers = list(leaves)
    in_, in_theirs = {}, {}
    con, con_theirs = {}, {}
    roots = {number: (subtree_root(read, 0, number), theirs.get_root(number)) for number in numbers if number}
    assert all(ours == other for ours, other in roots.values())
    results: dict[str, list[tuple[float, float]]] = {}

    def ours_proves(number: int) -> None:
        in_[number] = inclusion_proof(read, number, LEAVES)

    def theirs_proves(number: int) -> None:
        in_theirs[number] = theirs.prove_inclusion(number + 1, LEAVES)

    def ours_links(number: int) -> None:
        con[number] = consistency_proof(read, number, LEAVES)

    def theirs_links(number: int) -> None:
        con_theirs[number] = theirs.prove_consistency(number, LEAVES)

    deeds: dict[str, tuple[float, Callable[[int], object], Callable[[int], object]]] = {
        "inclusion, prove": (3.0, ours_proves, theirs_proves),
        "inclusion, check": (
            1.4,
            lambda number: check_inclusion(leaves[number], number, LEAVES, in_[number], root),
            lambda number: verify_inclusion(leaves[number], root, in_theirs[number]),
        ),
        "consistency, prove": (3.0, ours_links, theirs_links),
        "consistency, check": (
            1.4,
            lambda number: check_consistency(number, roots[number][0], LEAVES, root, con[number]),
            lambda number: verify_consistency(roots[number][0], root, con_theirs[number]),
        ),
    }
    for turn in range(ROUNDS):
        part = [number for number in numbers[turn * PROOFS : (turn + 1) * PROOFS] if number]
        for what, (_, ours, other) in deeds.items():
            results.setdefault(what, []).append((rate(ours, part), rate(other, part)))
    with capsys.disabled():
        print(f"\nproofs at {LEAVES:,} leaves, {ROUNDS} rounds of {PROOFS}:")
        for what, (wanted, _, _) in deeds.items():
            print(told(what, results[what], wanted))
    assert all(len(pairs) == ROUNDS for pairs in results.values())
