"""The log is served as files that any C2SP client can audit, and nothing else is."""

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from receipts import log
from receipts.checkpoint import open_checkpoint
from receipts.durable import write_durably
from receipts.merkle import HASH_SIZE
from receipts.models import Pending
from receipts.tiles import Tile, decode_bundle, encode_bundle, parse_tile_path
from tests.jobs.api.cast import Program


def grown(ada: Program, settings: Any) -> int:
    """Put the house's own receipts and one of Ada's into the log; give its size."""
    ada.submit()
    size = log.turn().published
    assert size
    return size


def test_the_checkpoint_is_signed_and_never_cached(ada: Program, settings: Any) -> None:
    size = grown(ada, settings)
    answer = Client().get("/tlog/checkpoint")
    assert answer.status_code == 200
    assert open_checkpoint(answer.content.decode(), log.current_vkey()).size == size
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["Cache-Control"] == "no-cache"
    assert answer["Access-Control-Allow-Origin"] == "*"


def test_before_the_first_checkpoint_there_is_none(house: None) -> None:
    assert Client().get("/tlog/checkpoint").status_code == 404


def test_tiles_and_bundles_are_served_for_good(ada: Program, settings: Any) -> None:
    size = grown(ada, settings)
    hashes = Client().get(f"/tlog/tile/0/000.p/{size}")
    bundle = Client().get(f"/tlog/tile/entries/000.p/{size}")
    assert len(hashes.content) == size * HASH_SIZE
    assert len(decode_bundle(bundle.content)) == size
    for answer in (hashes, bundle):
        assert answer["Content-Type"] == "application/octet-stream"
        assert answer["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer["Access-Control-Allow-Origin"] == "*"


def test_a_head_request_says_how_long_a_tile_is(ada: Program, settings: Any) -> None:
    size = grown(ada, settings)
    answer = Client().head(f"/tlog/tile/0/000.p/{size}")
    assert (answer.status_code, answer.content, answer["Content-Length"]) == (200, b"", str(size * HASH_SIZE))


def test_a_partial_tile_that_went_is_cut_from_its_full_tile(house: None) -> None:
    entries = [b"entry %d" % index for index in range(256)]
    write_durably(log.tile_path(Tile(0, 0)), bytes(range(256)) * HASH_SIZE)
    write_durably(log.tile_path(Tile(None, 0)), encode_bundle(entries))
    assert Client().get("/tlog/tile/0/000.p/7").content == (bytes(range(256)) * HASH_SIZE)[: 7 * HASH_SIZE]
    assert decode_bundle(Client().get("/tlog/tile/entries/000.p/7").content) == entries[:7]


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/000",
        "tile/0/../../checkpoint",
        "tile/../checkpoint",
        "tile/%2e%2e/checkpoint",
        "tile/0/%2e%2e%2f%2e%2e%2f%2e%2e%2fhouse.env",
        "tile/0//etc/passwd",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/07",
        "tile/64/000",
        "tile/0/x000/000",
        "tile/0/000\x00",
        "tile/entries/",
        "tile/",
        "tile",
        "",
        "house.env",
    ],
)
def test_what_is_no_tile_of_the_log_is_not_there(ada: Program, settings: Any, path: str) -> None:
    grown(ada, settings)
    (Path(settings.TLOG_DIR).parent / "house.env").write_text("SECRET_KEY=hunter2")
    answer = Client().get(f"/tlog/{path}")
    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"
    assert b"hunter2" not in answer.content


def test_the_log_is_read_only(ada: Program, settings: Any) -> None:
    size = grown(ada, settings)
    for address in ("/tlog/checkpoint", f"/tlog/tile/0/000.p/{size}", "/.well-known/tallystick.json"):
        for method in ("post", "put", "patch", "delete"):
            answer = getattr(Client(), method)(address)
            assert answer.status_code == 405
            assert {word.strip() for word in answer["Allow"].split(",")} == {"GET", "HEAD"}
            assert answer["Content-Type"] == "application/problem+json"
    assert not Pending.objects.exists()


def test_every_leaf_is_told_by_nid_and_type_alone(ada: Program, settings: Any) -> None:
    size = grown(ada, settings)
    bundle = Client().get(f"/tlog/tile/entries/000.p/{size}").content
    assert b"ada" not in bundle
    assert b"circle" not in bundle
    assert parse_tile_path(f"tile/entries/000.p/{size}").width == size
