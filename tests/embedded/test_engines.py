"""PostgreSQL, Valkey and the EVM node: closed to others, alive again after kill -9 with what they knew."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from config.embedded import anvil, chain, postgres, process, redis
from config.embedded.process import HouseProblem

ADDRESS = "0x00000000000000000000000000000000000000a1"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(process.socket_dir(tmp_path))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


class TestPostgres:
    def test_it_keeps_a_committed_row_over_kill_9_of_everything(self, folder: Path) -> None:
        first = postgres.start(folder)
        with psycopg.connect(first.owner_url) as connection:
            connection.execute("CREATE TABLE kept (n int)")
            connection.execute("INSERT INTO kept VALUES (7)")
        kill(first.pid)
        first.running.bury()
        second = postgres.start(folder)
        with psycopg.connect(second.owner_url) as connection:
            assert connection.execute("SELECT n FROM kept").fetchall() == [(7,)]
        second.stop()

    def test_the_applications_role_may_make_nothing(self, folder: Path) -> None:
        server = postgres.start(folder, durable=False)
        with psycopg.connect(server.url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE sly (n int)")
        server.stop()

    def test_it_listens_on_no_port_and_in_a_private_folder(self, folder: Path) -> None:
        server = postgres.start(folder, durable=False)
        with psycopg.connect(server.superuser_url) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert server.sockets.stat().st_mode & 0o077 == 0
        assert server.sockets.parent.stat().st_mode & 0o077 == 0
        server.stop()

    def test_starting_twice_makes_the_roles_once(self, folder: Path) -> None:
        server = postgres.start(folder, durable=False)
        postgres.make_roles(server.sockets)
        server.stop()

    def test_a_stale_lock_that_names_a_stranger_is_removed_and_the_stranger_left_alone(self, folder: Path) -> None:
        postgres.start(folder, durable=False).stop()
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
            (folder / "pg" / "postmaster.pid").write_text(f"{stranger.pid}\n{folder}/pg\n")
            postgres.start(folder, durable=False).stop()
            assert stranger.poll() is None
            stranger.kill()

    def test_an_orphan_that_nobody_recorded_is_stopped_first(self, folder: Path) -> None:
        orphan = postgres.start(folder, durable=False)
        (folder / "run" / "postgres.pid").unlink()  # as if the crash had come before the record
        server = postgres.start(folder, durable=False)
        assert orphan.running.exited()
        server.stop()
        orphan.running.bury()

    def test_a_folder_of_another_major_version_is_refused_in_one_line(self, folder: Path) -> None:
        postgres.start(folder, durable=False).stop()
        (folder / "pg" / "PG_VERSION").write_text("9\n")
        with pytest.raises(HouseProblem, match="was made by PostgreSQL 9, and this is 18"):
            postgres.start(folder)

    def test_a_half_made_cluster_is_thrown_away(self, folder: Path) -> None:
        half = folder / "pg-making-interrupted"
        half.mkdir()
        (half / "PG_VERSION").write_text("18\n")
        postgres.start(folder, durable=False).stop()
        assert not half.exists()


class TestRedis:
    def test_it_keeps_what_it_answered_over_kill_9(self, folder: Path) -> None:
        first = redis.start(folder)
        assert speak(first.path, b"SET kept 7\r\n") == b"+OK\r\n"
        kill(first.pid)
        first.running.bury()
        second = redis.start(folder)
        assert speak(second.path, b"GET kept\r\n") == b"$1\r\n7\r\n"
        second.stop()

    def test_nobody_else_may_open_its_socket(self, folder: Path) -> None:
        server = redis.start(folder)
        assert server.path.stat().st_mode & 0o077 == 0
        assert speak(server.path, b"CONFIG GET port\r\n").endswith(b"$1\r\n0\r\n")
        server.stop()


@pytest.mark.chain
class TestChain:
    def test_it_has_our_chain_id_and_no_well_known_account(self, chain_url: str) -> None:
        assert chain.call(chain_url, "eth_chainId") == "0x7a69"
        assert chain.call(chain_url, "eth_accounts") == []

    def test_a_page_in_a_browser_may_not_speak_to_it(self, chain_url: str) -> None:
        host, port = chain_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as asking:
            asking.sendall(
                b"OPTIONS / HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.invalid\r\n"
                b"Access-Control-Request-Method: POST\r\nConnection: close\r\n\r\n"
            )
            assert b"access-control-allow-origin" not in asking.recv(4096).lower()

    def test_it_knows_its_balances_again_after_an_orderly_stop(self, folder: Path) -> None:
        first = chain.start(folder)
        chain.fund(first.url, ADDRESS, 5)
        first.stop()
        second = chain.start(folder)
        assert chain.call(second.url, "eth_getBalance", ADDRESS, "latest") == "0x5"
        second.stop()

    def test_a_state_cut_off_by_a_kill_falls_back_to_the_last_whole_one(self, folder: Path) -> None:
        first = chain.start(folder)
        chain.fund(first.url, ADDRESS, 5)
        first.stop()
        chain.start(folder).stop()  # its start keeps a copy of the whole state
        state = folder / "chain" / "state.json"
        state.write_bytes(state.read_bytes()[:-100])
        second = chain.start(folder)
        assert chain.call(second.url, "eth_getBalance", ADDRESS, "latest") == "0x5"
        second.stop()

    def test_a_cut_off_state_without_a_copy_is_refused_in_one_line(self, folder: Path) -> None:
        (folder / "chain").mkdir()
        (folder / "chain" / "state.json").write_text('{"block":{"number"')
        with pytest.raises(HouseProblem, match="cut off and has no whole copy"):
            chain.start(folder)

    def test_a_copy_is_kept_of_a_state_that_stands_still_and_is_whole(self, folder: Path) -> None:
        state, copy = folder / "state.json", folder / "state.copy.json"
        keeper = chain.Keeper(state, copy)
        state.write_text(json.dumps({"block": 1}))
        keeper.tend()
        assert not copy.exists()  # it may still be written
        keeper.tend()
        assert copy.read_text() == state.read_text()
        state.write_text('{"block": 2, "acc')
        keeper.tend()
        keeper.tend()
        assert json.loads(copy.read_text()) == {"block": 1}

    def test_a_refusal_of_the_node_is_told_in_its_words(self, chain_url: str) -> None:
        with pytest.raises(HouseProblem, match="the chain refused no_such"):
            chain.call(chain_url, "no_such")


class TestAnvil:
    def test_bytes_that_are_not_the_pinned_ones_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forged = tmp_path / "forged.tgz"
        forged.write_bytes(b"not the node")
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        monkeypatch.setattr(anvil, "fetch", lambda _wanted, _folder: forged)
        with pytest.raises(HouseProblem, match="not what was pinned"):
            anvil.binary()
        assert list((tmp_path / "share" / "tallystick").iterdir()) == []

    def test_a_system_without_a_known_node_is_told_what_to_set(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        monkeypatch.setattr("platform.machine", lambda: "pdp11")
        with pytest.raises(HouseProblem, match="set CHAIN_RPC_URL"):
            anvil.binary()

    def test_no_registry_is_told_in_one_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
        monkeypatch.setenv("npm_config_fetch_retries", "0")
        monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
        with pytest.raises(HouseProblem, match="no registry answers"):
            anvil.binary()


def speak(path: Path, words: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(path))
        asking.sendall(words)
        return asking.recv(1024)
