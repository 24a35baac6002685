"""Read the published log from disk: only what a tile path can name, and nothing that is being written."""

from pathlib import Path
from typing import Final

from django.conf import settings

from receipts.log import tile_path
from receipts.merkle import HASH_SIZE
from receipts.tiles import WIDTH, Tile, decode_bundle, encode_bundle

CHECKPOINT: Final = "checkpoint"


def published_checkpoint() -> bytes | None:
    """Give the checkpoint as it was published; None while there is none."""
    return _read(Path(settings.TLOG_DIR) / CHECKPOINT)


def published_tile(tile: Tile) -> bytes | None:
    """Give a tile. A partial one that went when its full tile came is cut from that: the bytes are the same."""
    data = _read(tile_path(tile))
    if data is not None or tile.width == WIDTH:
        return data
    full = _read(tile_path(Tile(tile.level, tile.index)))
    if full is None:
        return None
    if tile.level is None:
        return encode_bundle(decode_bundle(full)[: tile.width])
    return full[: tile.width * HASH_SIZE]


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
