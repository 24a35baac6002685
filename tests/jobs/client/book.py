"""A log of many jobs on disk, and the export of all its receipts: what an auditor is given.

Each job is told by the verifier's own `House`; the jobs are told at once, so that their receipts lie between each
other in the log.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path

from jobs.client.trust import add_own
from receipts.canonical import decode, encode, nid
from receipts.checkpoint import Checkpoint, sign_note
from receipts.exported import Line, write_line
from receipts.merkle import leaf_hash, root_of
from receipts.tiles import Tile, encode_bundle, tiles_between
from tests.jobs.client import house as told
from tests.jobs.client.house import ORIGIN, House, Keys

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def tell_jobs(folder: Path, count: int, *, first: int = 1) -> list[bytes]:
    """Tell so many jobs; give their receipts, three jobs at a time between each other."""
    before, stories = told.JOB_ID, []
    try:
        for number in range(first, first + count):
            name = "".join(ALPHABET[number >> 5 * place & 31] for place in range(3, -1, -1))
            told.JOB_ID = "job_" + name.rjust(26, "0")
            stories.append([item.body for item in House(folder).tally.receipts])
    finally:
        told.JOB_ID = before
    groups = [stories[at : at + 3] for at in range(0, len(stories), 3)]
    mixed: Iterator[bytes | None] = chain.from_iterable(row for group in groups for row in zip_longest(*group))
    return [body for body in mixed if body is not None]


def entry_of(body: bytes) -> bytes:
    return encode({"eventType": decode(body)["eventType"], "nid": nid(body), "v": 1})


@dataclass
class Book:
    """A published log in a folder, and what an auditor needs beside it."""

    folder: Path
    bodies: list[bytes] = field(repr=False)
    keys: Keys = field(default_factory=Keys)

    @property
    def export(self) -> Path:
        return self.folder / "receipts.jsonl"

    @property
    def trust(self) -> Path:
        return self.folder / "trust.json"

    def publish(self, size: int | None = None) -> "Book":
        """Write the log, up to a size, as the house publishes it."""
        entries = [entry_of(body) for body in self.bodies[:size]]
        write_log(self.folder / "log", entries, self.keys)
        return self

    def export_all(self, size: int | None = None) -> "Book":
        """Write the export, and Cy's trust file."""
        with self.export.open("wb") as out:
            for leaf, body in enumerate(self.bodies[:size]):
                out.write(write_line(Line(leaf, nid(body), body)))
        house = House(self.folder.parent, keys=self.keys)
        self.trust.write_text(json.dumps(add_own(house.document(), clients=[self.keys.client.key_id])))
        return self


def write_log(folder: Path, entries: Sequence[bytes], keys: Keys) -> None:
    """Write tiles, bundles and checkpoint."""
    rows = [[leaf_hash(entry) for entry in entries]]
    while len(rows[-1]) >= 256:
        below = rows[-1]
        rows.append([root_of(below[at : at + 256]) for at in range(0, len(below) // 256 * 256, 256)])
    for tile in tiles_between(0, len(entries)):
        span = slice(tile.index * 256, tile.index * 256 + tile.width)
        data = encode_bundle(entries[span]) if tile.level is None else b"".join(rows[tile.level][span])
        path = folder / tile.path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    stated = Checkpoint(ORIGIN, len(entries), root_of(rows[0]))
    (folder / "checkpoint").write_text(sign_note(stated.text(), ORIGIN, keys.log, keys.log.public))


def tile_at(folder: Path, tile: Tile) -> Path:
    return folder / "log" / tile.path()
