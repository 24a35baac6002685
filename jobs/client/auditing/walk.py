"""Compute a log anew from its entries: every leaf's hash, every tile, the root. Pure but for its source.

What is kept in memory is the open tile of each level, 255 hashes each: neither the leaves nor their hashes.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from jobs.client.auditing.source import Source, read_tile
from jobs.client.verdicts import Broken, Faults, Unknown
from receipts.canonical import is_nid
from receipts.merkle import EMPTY_ROOT, HASH_SIZE, Frontier, Hash, leaf_hash, node_hash, root_of
from receipts.tiles import WIDTH, Tile, TilePathWrong, decode_bundle

# The one spelling of an entry; another version of it is for another verifier.
_ENTRY: Final = re.compile(rb'\{"eventType":"([A-Za-z][A-Za-z0-9]{0,39})","nid":"([a-z2-7]{59})","v":1\}')
_NEWER: Final = re.compile(rb'\{.*"v":([2-9]|[1-9][0-9]{1,8})\}', re.DOTALL)
MOST_FAULTS: Final = 50

Entries = Sequence[bytes]


@dataclass(slots=True)
class Walk:
    """How far a log was computed: `size` leaves in full bundles, and of each level the open tile."""

    size: int = 0
    levels: list[list[Hash]] = field(default_factory=list)  # from level 1 on: full tiles of level 0 have one hash there

    def root(self, leaves: Sequence[Hash] = ()) -> Hash:
        """Give the tree head after `leaves` more, fewer than a bundle."""
        peaks: list[Hash] = []
        for hashes in (*reversed(self.levels), leaves):
            edge = Frontier()
            for item in hashes:
                edge.append(item)
            peaks += edge.hashes
        if not peaks:
            return EMPTY_ROOT
        carried = peaks[-1]
        for left in reversed(peaks[:-1]):
            carried = node_hash(left, carried)
        return carried


@dataclass(slots=True)
class Walked:
    """What was found on the way: faults by theme, what is missing, the root at the end and at an earlier size."""

    entries: Faults = field(default_factory=Faults)
    tiles: Faults = field(default_factory=Faults)
    bundles: int = 0
    hash_tiles: int = 0
    newer: int = 0
    root: Hash | None = None
    earlier_root: Hash | None = None
    stopped: str | None = None  # why it could not go on

    @property
    def clean(self) -> bool:
        """Tell whether nothing was found so far."""
        return not (self.entries.found or self.tiles.found or self.stopped)


def walk_log(
    source: Source,
    size: int,
    walk: Walk,
    *,
    earlier: int | None,
    on_bundle: Callable[[int, Entries], None],
    after_bundle: Callable[[Walk, Walked], None],
) -> Walked:
    """Compute the log up to `size` leaves from where `walk` stands.

    `earlier` is a size whose root is to be told too. `on_bundle` gets the index of the first leaf and the entries,
    `after_bundle` is called behind every full bundle.
    """
    found = Walked()
    if earlier is not None and earlier == walk.size:
        found.earlier_root = walk.root()
    try:
        hashes: list[Hash] = []
        while walk.size < size:
            first, width = walk.size, min(WIDTH, size - walk.size)
            entries = _read_entries(source, first, width, found)
            hashes = [leaf_hash(entry) for entry in entries]
            _compare(source, Tile(0, first // WIDTH, width), hashes, found)
            if earlier is not None and first < earlier <= first + width:
                found.earlier_root = walk.root(hashes[: earlier - first])
            on_bundle(first, entries)
            if width < WIDTH:
                break
            hashes = _integrate(source, walk, hashes, found)
            after_bundle(walk, found)
        _compare_open(source, walk, found)
        found.root = walk.root(hashes)
    except Unknown as error:
        found.stopped = str(error)
    return found


def _read_entries(source: Source, first: int, width: int, found: Walked) -> list[bytes]:
    tile = Tile(None, first // WIDTH, width)
    try:
        entries = decode_bundle(read_tile(source, tile))[:width]
    except TilePathWrong as error:
        found.entries.found.append(Broken(tile.path(), str(error)).fault)
        raise Unknown(f"{tile.path()} can't be read") from None
    found.bundles += 1
    if len(entries) < width:
        found.entries.found.append(
            Broken(tile.path(), "holds too few entries", expected=width, found=len(entries)).fault
        )
        raise Unknown(f"leaf {first + len(entries)} has no entry")
    for offset, entry in enumerate(entries):
        if not _is_entry(entry):
            if _NEWER.fullmatch(entry):
                found.newer += 1
            elif len(found.entries.found) < MOST_FAULTS:
                found.entries.found.append(
                    Broken(
                        f"leaf {first + offset}",
                        "is no entry of this log",
                        expected='{"eventType":…,"nid":…,"v":1}',
                        found=entry.decode("ascii", "backslashreplace"),
                    ).fault
                )
    return entries


def _is_entry(entry: bytes) -> bool:
    match = _ENTRY.fullmatch(entry)
    return match is not None and is_nid(match[2].decode())


def _integrate(source: Source, walk: Walk, hashes: list[Hash], found: Walked) -> list[Hash]:
    """Carry a full tile's hash up, and compare every tile that this fills. Nothing of the level stays open."""
    level, carried = 1, root_of(hashes)
    walk.size += WIDTH
    while True:
        if len(walk.levels) < level:
            walk.levels.append([])
        row = walk.levels[level - 1]
        row.append(carried)
        if len(row) < WIDTH:
            return []
        index = (walk.size >> (8 * level)) // WIDTH - 1
        _compare(source, Tile(level, index), row, found)
        carried = root_of(row)
        row.clear()
        level += 1


def _compare_open(source: Source, walk: Walk, found: Walked) -> None:
    """Compare the partial tile at the end of each level."""
    for level, row in enumerate(walk.levels, start=1):
        if row:
            _compare(source, Tile(level, (walk.size >> (8 * level)) // WIDTH, len(row)), row, found)


def _compare(source: Source, tile: Tile, hashes: list[Hash], found: Walked) -> None:
    """Hold a published tile against the hashes that the entries give. A missing one is unknown, not broken."""
    try:
        data = read_tile(source, tile)
    except Unknown as error:
        if len(found.tiles.missing) < MOST_FAULTS:
            found.tiles.missing.append(str(error))
        return
    found.hash_tiles += 1
    due = b"".join(hashes)
    if data[: len(due)] == due and len(data) % HASH_SIZE == 0:
        return
    if len(found.tiles.found) >= MOST_FAULTS:
        return
    offset = next((i for i, item in enumerate(hashes) if data[i * HASH_SIZE :][:HASH_SIZE] != item), 0)
    span = WIDTH ** (tile.level or 0)
    first = (tile.index * WIDTH + offset) * span
    where = f"leaf {first}" if span == 1 else f"leaves {first} to {first + span - 1}"
    stated = data[offset * HASH_SIZE :][:HASH_SIZE]
    found.tiles.found.append(
        Broken(
            f"{tile.path()} hash {offset} ({where})",
            "is not what the entries give",
            expected=hashes[offset].hex(),
            found=stated.hex() or "nothing",
        ).fault
    )
