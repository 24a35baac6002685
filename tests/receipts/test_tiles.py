"""Tiles: the paths and trees of C2SP's specification, and a reader that equals a tree computed otherwise."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipts.merkle import Hash, consistency_proof, inclusion_proof, leaf_hash, root_of, subtree_root
from receipts.tiles import (
    WIDTH,
    Tile,
    TilePathWrong,
    decode_bundle,
    encode_bundle,
    parse_tile_path,
    reader,
    tile_hashes,
    tiles_between,
)
from tests.receipts.test_merkle import plain_root, reading
from tests.vectors import vectors

TILES = vectors("tiles")


@pytest.mark.parametrize("vector", TILES["paths"], ids=lambda vector: vector["path"])
def test_a_tile_has_its_published_path(vector: dict[str, Any]) -> None:
    tile = Tile(vector["level"], vector["index"], vector["width"])
    assert tile.path() == vector["path"]
    assert parse_tile_path(vector["path"]) == tile


@pytest.mark.parametrize("path", TILES["refused"])
def test_other_paths_are_no_tiles(path: str) -> None:
    with pytest.raises(TilePathWrong):
        parse_tile_path(path)


@given(st.one_of(st.none(), st.integers(0, 63)), st.integers(0, 10**13), st.integers(1, 256))
def test_a_path_leads_back_to_its_tile(level: int | None, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert parse_tile_path(tile.path()) == tile


@given(st.text(alphabet="tile/entries0123456789x.p", max_size=30))
def test_a_path_has_one_spelling(path: str) -> None:
    with contextlib.suppress(TilePathWrong):
        assert parse_tile_path(path).path() == path


@pytest.mark.parametrize("tree", TILES["trees"], ids=lambda tree: str(tree["size"]))
def test_a_tree_of_a_published_size_has_the_published_tiles(tree: dict[str, Any]) -> None:
    found = tiles_between(0, tree["size"])
    for level, counts in tree["tiles"].items():
        row = [tile for tile in found if tile.level == int(level)]
        assert sum(tile.width == WIDTH for tile in row) == counts["full"]
        assert sum(tile.width for tile in row if tile.width < WIDTH) == counts["partial"]
    assert {tile.level for tile in found} - {None} == {int(level) for level in tree["tiles"]}
    entries = [(tile.index, tile.width) for tile in found if tile.level is None]
    assert entries == [(tile.index, tile.width) for tile in found if tile.level == 0]


@given(st.integers(0, 200_000), st.integers(0, 2_000))
def test_growing_in_steps_writes_every_tile_that_growing_at_once_writes(old: int, more: int) -> None:
    new = old + more
    needed = set(tiles_between(0, new))
    assert needed <= set(tiles_between(0, old)) | set(tiles_between(old, new))


@given(st.integers(0, 100_000), st.integers(0, 2_000))
def test_no_tile_is_empty_and_none_is_written_twice(old: int, more: int) -> None:
    found = tiles_between(old, old + more)
    assert len(found) == len(set(found))
    assert all(1 <= tile.width <= WIDTH for tile in found)
    assert bool(found) is bool(more)


def test_a_full_tile_comes_before_the_tile_above_it() -> None:
    found = tiles_between(0, 70_000)
    for at, tile in enumerate(found):
        if tile.level:
            below = {Tile(tile.level - 1, i) for i in range(tile.index * WIDTH, tile.index * WIDTH + tile.width)}
            assert below <= set(found[:at])


@given(st.lists(st.binary(max_size=300), max_size=12))
def test_a_bundle_is_read_back_as_it_was_written(entries: list[bytes]) -> None:
    assert decode_bundle(encode_bundle(entries)) == entries


def test_a_bundle_carries_at_most_65535_bytes_an_entry() -> None:
    assert decode_bundle(encode_bundle([b"x" * 65_535])) == [b"x" * 65_535]
    with pytest.raises(TilePathWrong):
        encode_bundle([b"x" * 65_536])


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=5), st.data())
def test_a_bundle_cut_inside_an_entry_is_refused(entries: list[bytes], data: st.DataObject) -> None:
    whole = encode_bundle(entries)
    ends = [len(encode_bundle(entries[:count])) for count in range(len(entries) + 1)]
    cut = data.draw(st.integers(1, len(whole) - 1).filter(lambda at: at not in ends))
    with pytest.raises(TilePathWrong):
        decode_bundle(whole[:cut])


@pytest.mark.parametrize("size", [1, 31, 33, WIDTH * 32 + 32, WIDTH * 32 + 1])
def test_a_tile_of_a_broken_length_is_refused(size: int) -> None:
    with pytest.raises(TilePathWrong):
        tile_hashes(bytes(size))


class Disk:
    """Tiles computed from the leaves by definition, counting what is fetched."""

    def __init__(self, leaves: list[Hash]) -> None:
        self.leaves = leaves
        self.fetched: list[Tile] = []

    def __call__(self, tile: Tile) -> bytes:
        assert tile.level is not None
        self.fetched.append(tile)
        span = WIDTH**tile.level
        first = tile.index * WIDTH
        return b"".join(plain_root(self.leaves[i * span : (i + 1) * span]) for i in range(first, first + tile.width))


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 513, 1_000])
def test_the_root_and_every_proof_are_read_from_tiles(size: int) -> None:
    leaves = [leaf_hash(b"%d" % index) for index in range(size)]
    disk = Disk(leaves)
    read = reader(disk, size)
    assert subtree_root(read, 0, size) == root_of(leaves)
    for index in {0, size // 3, size - 1}:
        assert inclusion_proof(read, index, size) == inclusion_proof(reading(leaves), index, size)
    for old in {1, size // 2 or 1, size}:
        assert consistency_proof(read, old, size) == consistency_proof(reading(leaves), old, size)
    assert len(disk.fetched) == len(set(disk.fetched)), "each tile is fetched once"
    assert set(disk.fetched) <= {tile for tile in tiles_between(0, size) if tile.level is not None}


def test_a_tree_of_70000_leaves_is_read_through_three_levels() -> None:
    leaves = [leaf_hash(b"%d" % index) for index in range(70_000)]
    disk = Disk(leaves)
    assert subtree_root(reader(disk, 70_000), 0, 70_000) == root_of(leaves)
    assert {tile.level for tile in disk.fetched} == {0, 1, 2}


def test_a_fuller_tile_than_asked_for_serves_as_well() -> None:
    leaves = [leaf_hash(b"%d" % index) for index in range(300)]
    read = reader(
        lambda tile: b"".join(leaves[tile.index * WIDTH :][:WIDTH]) if tile.level == 0 else root_of(leaves[:256]), 270
    )
    assert subtree_root(read, 0, 270) == root_of(leaves[:270])


def test_a_tile_with_too_few_hashes_is_refused() -> None:
    leaves = [leaf_hash(b"%d" % index) for index in range(10)]
    with pytest.raises(TilePathWrong, match=r"tile/0/000\.p/10 holds 9 hashes"):
        subtree_root(reader(lambda tile: b"".join(leaves[:9]), 10), 0, 10)
