"""The dev daemon as a process of its own: started, stopped, killed."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from devnet.ipfs.blocks import BlockRepo
from protocol.errors import Unavailable
from protocol.types import Digest
from storage.ipfs import ContentStore
from tests.storage.content import content, write

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "devnet.ipfs.daemon", "--port", "0", "--repo"]


@contextmanager
def running(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", ContentStore]]:
    with subprocess.Popen(
        [*COMMAND, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, ContentStore(process.stdout.readline().strip(), timeout_s=10)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path / "repo") as (process, store):
        store.put_block(b"x")
        process.send_signal(number)
        assert process.wait(10) == 0


def test_a_second_one_says_in_one_line_why_not(tmp_path: Path) -> None:
    with running(tmp_path / "repo"):
        second = subprocess.run(
            [*COMMAND, str(tmp_path / "repo")], cwd=ROOT, capture_output=True, text=True, timeout=20
        )
    assert second.returncode == 1
    assert re.fullmatch(r"\S+ is in use by another dev IPFS daemon\n", second.stderr)
    assert second.stdout == ""


def test_uploads_are_not_held_in_memory(tmp_path: Path) -> None:
    cid, digest = write(tmp_path / "big", 48_000_000)
    with running(tmp_path / "repo") as (process, store):
        before = peak_memory(process.pid)
        assert store.add_file(tmp_path / "big") == cid
        store.fetch_file(cid, 48_000_000, digest, tmp_path / "back")
        assert peak_memory(process.pid) - before < 20_000_000


def peak_memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_a_kill_amid_adds_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    added: dict[str, int] = {}  # CID → size
    put: dict[Digest, bytes] = {}

    def add_until_dead(store: ContentStore, start: int) -> None:
        path = tmp_path / f"file-{start}"
        for number in range(start, start + 10_000, 2):
            try:
                path.write_bytes(content(270_000 + number))
                added[store.add_file(path)] = 270_000 + number
                block = b"%d" % number
                put[store.put_block(block)] = block
            except Unavailable:
                return

    for start in (0, 10_000):
        with running(tmp_path / "repo") as (process, store):
            threads = [
                threading.Thread(target=add_until_dead, args=(store, start + offset))
                for offset in (0, 1)
            ]
            for thread in threads:
                thread.start()
            time.sleep(0.6)
            process.kill()
            for thread in threads:
                thread.join()
    assert len(added) > 4
    assert_all_there(tmp_path, added, put)


def assert_all_there(folder: Path, added: dict[str, int], put: dict[Digest, bytes]) -> None:
    with running(folder / "repo") as (_, store):
        for cid, size in added.items():
            digest = Digest(sha256(content(size)).digest())
            store.fetch_file(cid, size, digest, folder / "back")
            assert store.is_pinned(cid)
        for digest, block in put.items():
            assert store.get_block(digest) == block
    repo = BlockRepo(folder / "repo")
    assert list((folder / "repo" / "tmp").iterdir()) == []
    for pin in repo.pins():
        for each in (pin, *repo.descendants(pin)):
            assert repo.get(each) is not None  # raises if it is missing or damaged
    repo.close()
