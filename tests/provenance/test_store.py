"""The store keeps bytes under their digest: whole or not at all, whatever goes wrong in between."""

import errno
import io
import multiprocessing
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provenance.digests import digest_bytes
from provenance.errors import BlobCorrupt, BlobMissing, NotADigest, StoreFull, TooLarge
from provenance.store import INCOMING, Store

DATA = b"a red circle" * 1000
NAME = digest_bytes(DATA)


def drafts(store: Store) -> list[Path]:
    return sorted((store.root / INCOMING).glob("*"))


def blobs(store: Store) -> list[Path]:
    return sorted(path for path in store.root.glob("??/*"))


def test_what_was_put_comes_back_under_its_digest(store: Store) -> None:
    stored = store.put(io.BytesIO(DATA))
    assert stored == (NAME, len(DATA))
    assert store.path_of(NAME) == store.root / NAME[:2] / NAME
    with store.open_blob(NAME) as blob:
        assert blob.read() == DATA
    assert store.exists(NAME)
    assert store.verify(NAME) == stored
    assert drafts(store) == []


def test_a_file_is_put_as_well_as_a_stream_and_stays_where_it_is(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(DATA)
    assert store.put(tmp_path / "out.png").sha256 == NAME
    assert (tmp_path / "out.png").read_bytes() == DATA


def test_the_same_bytes_twice_are_one_file(store: Store) -> None:
    assert store.put(io.BytesIO(DATA)) == store.put(io.BytesIO(DATA))
    assert blobs(store) == [store.path_of(NAME)]


def test_a_blob_is_read_only_and_not_the_worlds(store: Store) -> None:
    store.put(io.BytesIO(DATA))
    mode = stat.S_IMODE(store.path_of(NAME).stat().st_mode)
    assert mode & 0o222 == 0
    assert mode & 0o007 == 0


def test_nothing_stays_of_a_blob_above_the_limit(store: Store) -> None:
    with pytest.raises(TooLarge):
        store.put(io.BytesIO(DATA), max_bytes=len(DATA) - 1)
    assert blobs(store) == drafts(store) == []
    assert store.put(io.BytesIO(DATA), max_bytes=len(DATA)).size == len(DATA)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a" * 63, "A" * 64, "", "a/" + "b" * 62])
def test_no_name_leads_out_of_the_store(store: Store, name: str) -> None:
    for ask in (store.path_of, store.exists, store.open_blob, store.verify):
        with pytest.raises(NotADigest):
            ask(name)


def test_a_blob_that_was_never_put_is_missing(store: Store) -> None:
    assert not store.exists(NAME)
    for ask in (store.open_blob, store.verify):
        with pytest.raises(BlobMissing):
            ask(NAME)


def test_a_symbolic_link_is_no_blob(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(DATA)
    store.path_of(NAME).parent.mkdir(parents=True)
    store.path_of(NAME).symlink_to(tmp_path / "secret")
    assert not store.exists(NAME)
    with pytest.raises(BlobMissing):
        store.open_blob(NAME)


def test_a_changed_blob_betrays_itself_and_a_second_put_heals_it(store: Store) -> None:
    store.put(io.BytesIO(DATA))
    store.path_of(NAME).chmod(0o600)
    store.path_of(NAME).write_bytes(b"B" + DATA[1:])
    with pytest.raises(BlobCorrupt) as corrupt:
        store.verify(NAME)
    assert (corrupt.value.sha256, corrupt.value.found) == (NAME, digest_bytes(b"B" + DATA[1:]))
    store.put(io.BytesIO(DATA))
    assert store.verify(NAME).size == len(DATA)


class Breaks(io.BytesIO):
    """A client that goes away in the middle of an upload."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise ConnectionResetError
        return super().read(5)


def test_an_upload_that_breaks_off_leaves_nothing(store: Store) -> None:
    with pytest.raises(ConnectionResetError):
        store.put(Breaks(DATA))
    assert blobs(store) == drafts(store) == []


def fail_on_fsync(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fsync(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)


def fail_on_mkdir(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def mkdir(_: Path, *args: Any, **options: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "mkdir", mkdir)


def fail_on_rename(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def replace(_: Path, target: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "replace", replace)


@pytest.mark.parametrize("step", [fail_on_fsync, fail_on_mkdir, fail_on_rename])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_at_any_step_is_said_and_leaves_nothing_visible(
    store: Store, monkeypatch: pytest.MonkeyPatch, step: Callable[[pytest.MonkeyPatch, int], None], code: int
) -> None:
    with monkeypatch.context() as broken:
        step(broken, code)
        with pytest.raises(StoreFull) as full:
            store.put(io.BytesIO(DATA))
    assert full.value.may_retry
    assert not store.exists(NAME)
    assert drafts(store) == []
    assert store.put(io.BytesIO(DATA)).sha256 == NAME  # there is space again


def test_another_disk_error_is_not_called_a_full_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_on_fsync(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        store.put(io.BytesIO(DATA))


def test_the_bytes_are_on_disk_before_their_name_is_and_the_name_before_put_returns(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(io.BytesIO(b"make the folders"))
    order: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        order.append(f"folder {Path(f'/proc/self/fd/{handle}').readlink()}" if is_folder else "file")
        real_fsync(handle)

    def replace(draft: Path, target: Path) -> Path:
        order.append("rename")
        return real_replace(draft, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    store.put(io.BytesIO(DATA))
    assert order == ["file", "rename", f"folder {store.path_of(NAME).parent}", f"folder {store.root}"]


def _put_and_die(root: Path) -> None:
    """Be killed with the bytes written and the name not yet given."""

    def die(_: Store, draft: Path, sha256: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(Store, "_make_visible", die)  # noqa: B010, a method is exchanged on purpose
    Store(root).put(io.BytesIO(DATA))


def test_a_writer_that_is_killed_leaves_only_a_draft_which_sweep_removes_by_age(store: Store) -> None:
    killed = multiprocessing.get_context("fork").Process(target=_put_and_die, args=(store.root,))
    killed.start()
    killed.join(30)
    assert killed.exitcode == -signal.SIGKILL
    assert blobs(store) == []
    (left,) = drafts(store)
    assert left.read_bytes() == DATA
    assert store.sweep(older_than_s=3600) == 0
    os.utime(left, (0, 0))
    assert store.sweep(older_than_s=3600) == 1
    assert drafts(store) == []


def test_sweep_takes_no_blob_and_no_fresh_draft(store: Store) -> None:
    store.put(io.BytesIO(DATA))
    os.utime(store.path_of(NAME), (0, 0))
    with store.draft() as draft, store.draft_folder() as folder:
        assert store.sweep(older_than_s=3600) == 0
        assert draft.exists()
        assert folder.is_dir()
    assert store.exists(NAME)
    assert Store(store.root / "never used").sweep(older_than_s=0) == 0


def _put_many(root: Path, start: Any, results: Any) -> None:
    start.wait()
    results.put([Store(root).put(io.BytesIO(DATA + bytes([n % 5]))).sha256 for n in range(50)])


def test_four_processes_that_put_the_same_bytes_at_once_leave_whole_blobs_and_no_drafts(store: Store) -> None:
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    writers = [context.Process(target=_put_many, args=(store.root, start, results)) for _ in range(4)]
    for writer in writers:
        writer.start()
    start.set()
    answers = [results.get(timeout=60) for _ in writers]
    for writer in writers:
        writer.join(60)
    assert all(answer == answers[0] for answer in answers)
    assert len(blobs(store)) == 5
    for name in set(answers[0]):
        store.verify(name)
    assert drafts(store) == []
