"""Name, cut and read the tiles of the log. Pure.

Source: C2SP tlog-tiles (https://c2sp.org/tlog-tiles): tiles 256 hashes wide, 8 levels high, entry bundles.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from receipts.merkle import HASH_SIZE, Frontier, Hash, ReadHash, node_hash, root_of

WIDTH: Final = 256
HEIGHT: Final = 8
_PATH: Final = re.compile(
    r"\Atile/(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?\Z"
)


class TilePathWrong(ValueError):
    """This is no path of a tile."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: `level` 0 holds leaf hashes, None entry bundles; `width` < 256 is a partial tile."""

    level: int | None
    index: int
    width: int = WIDTH

    def path(self) -> str:
        """The tile's path below the log's prefix: `tile/<level>/<index>[.p/<width>]`."""
        parts = [f"{self.index % 1000:03d}"]
        rest = self.index // 1000
        while rest:
            parts.append(f"x{rest % 1000:03d}")
            rest //= 1000
        level = "entries" if self.level is None else str(self.level)
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(reversed(parts))}{partial}"


def parse_tile_path(path: str) -> Tile:
    """Read a tile path in its one spelling. Raises: TilePathWrong."""
    match = _PATH.match(path)
    if match is None:
        raise TilePathWrong(f"no tile path: {path[:80]!r}")
    level, index, width = match.groups()
    tile = Tile(
        None if level == "entries" else int(level),
        int(index.replace("x", "").replace("/", "")),
        int(width) if width else WIDTH,
    )
    if tile.path() != path:
        raise TilePathWrong(f"not the shortest spelling: {path[:80]!r}")
    return tile


def tiles_between(old: int, new: int) -> list[Tile]:
    """List the hash tiles and entry bundles to write when the log grows from `old` to `new` leaves."""
    found: list[Tile] = []
    level, before, after = 0, old, new
    while after:
        for index in range(before // WIDTH, -(-after // WIDTH)):
            width = min(WIDTH, after - index * WIDTH)
            if index * WIDTH + width > before:
                found.append(Tile(level, index, width))
                if level == 0:
                    found.append(Tile(None, index, width))
        level += 1
        before >>= HEIGHT
        after >>= HEIGHT
    return found


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Write an entry bundle: each entry behind its length as a big-endian uint16."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > 0xFFFF:
            raise TilePathWrong(f"an entry has {len(entry)} bytes, a bundle carries at most 65,535")
        parts += (len(entry).to_bytes(2), entry)
    return b"".join(parts)


def decode_bundle(data: bytes) -> list[bytes]:
    """Read an entry bundle. Raises: TilePathWrong, when it ends inside an entry."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2])
        if at + 2 + size > len(data):
            raise TilePathWrong(f"the bundle ends inside entry {len(entries)}")
        entries.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return entries


def tile_hashes(data: bytes) -> list[Hash]:
    """Split a tile into its hashes. Raises: TilePathWrong, for a broken length."""
    if len(data) % HASH_SIZE or len(data) > WIDTH * HASH_SIZE:
        raise TilePathWrong(f"a tile has 1 to {WIDTH} hashes of {HASH_SIZE} bytes, not {len(data)} bytes")
    return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]


def reader(fetch: Callable[[Tile], bytes], size: int) -> ReadHash:
    """Read any full subtree of the tree of `size` leaves through its tiles, fetched once each.

    `fetch` gives a tile's bytes; it may give more hashes than a partial tile's width.
    """
    kept: dict[tuple[int, int], list[list[Hash]]] = {}  # of each tile its rows: 2^height leaves of the tile a hash

    def read(level: int, index: int) -> Hash:
        tile_level, height = divmod(level, HEIGHT)
        first = index << height
        tile_index, offset = divmod(first, WIDTH)
        known = (tile_level, tile_index)
        rows = kept.get(known)
        if rows is None:
            width = min(WIDTH, (size >> (HEIGHT * tile_level)) - tile_index * WIDTH)
            hashes = tile_hashes(fetch(Tile(tile_level, tile_index, width)))
            if len(hashes) < width:
                raise TilePathWrong(f"{Tile(tile_level, tile_index, width).path()} holds {len(hashes)} hashes")
            rows = kept[known] = [hashes[:width]]
        while len(rows) <= height:
            row = rows[-1]
            rows.append([node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)])
        return rows[height][offset >> height]

    return read


class Growing:
    """A tree that grows leaf by leaf: its frontier, and on each level the one tile that is being filled.

    A tile's rows are its hashes, or the entries of a bundle, where None is an entry that nobody knows.
    """

    def __init__(self) -> None:
        self.frontier = Frontier()
        self._rows: list[list[Hash]] = [[]]
        self._entries: list[bytes | None] = []
        self._full: list[int] = [0]  # full tiles a level

    def begin(self, leaf: int, fetch: Callable[[Tile], bytes]) -> None:
        """Stand at a leaf that begins a tile; `fetch` gives the hashes of the tiles on the way there.

        Raises: TilePathWrong, for a tile that is cut short.
        """
        size, level, rows = leaf, 0, list[list[Hash]]()
        while size:
            full, rest = divmod(size, WIDTH)
            row = tile_hashes(fetch(Tile(level, full, rest))[: rest * HASH_SIZE]) if rest else []
            if len(row) != rest:
                raise TilePathWrong(f"{Tile(level, full, rest).path()} holds {len(row)} hashes")
            rows.append(row)
            self._full[level:] = [full]
            size, level = full, level + 1
        self._rows = rows or [[]]
        peaks: list[Hash] = []
        for row in reversed(self._rows):
            at = 0
            for bit in reversed(range(HEIGHT)):
                if len(row) >> bit & 1:
                    peaks.append(root_of(row[at : at + (1 << bit)]))
                    at += 1 << bit
        self.frontier = Frontier(leaf, peaks)

    def add(self, entry: bytes | None, leaf: Hash) -> list[tuple[Tile, Sequence[bytes | None]]]:
        """Add a leaf; give the tiles that it fills, lower levels first."""
        self.frontier.append(leaf)
        self._entries.append(entry)
        filled: list[tuple[Tile, Sequence[bytes | None]]] = []
        level, carried = 0, leaf
        while True:
            rows = self._rows[level]
            rows.append(carried)
            if len(rows) < WIDTH:
                return filled
            filled += self._tiles(level)
            carried = root_of(rows)
            self._rows[level] = []
            self._full[level] += 1
            level += 1
            if level == len(self._rows):
                self._rows.append([])
                self._full.append(0)

    def rest(self) -> list[tuple[Tile, Sequence[bytes | None]]]:
        """Give the tiles of the right edge, as far as they are filled."""
        return [tile for level, rows in enumerate(self._rows) if rows for tile in self._tiles(level)]

    def _tiles(self, level: int) -> list[tuple[Tile, Sequence[bytes | None]]]:
        index, rows = self._full[level], self._rows[level]
        found: list[tuple[Tile, Sequence[bytes | None]]] = [(Tile(level, index, len(rows)), rows)]
        if level == 0:
            found.append((Tile(None, index, len(rows)), self._entries))
            self._entries = []
        return found
