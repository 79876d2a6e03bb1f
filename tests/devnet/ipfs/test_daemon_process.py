"""The dev daemon as a process of its own: started, stopped, killed."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devnet.ipfs.blocks import BlockRepo
from protocol.errors import Unavailable
from protocol.types import Digest
from storage.blocks import MAX_BLOCK_BYTES
from storage.ipfs import ContentStore
from tests.storage.content import content

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
    blocks = [content(MAX_BLOCK_BYTES - number) for number in range(48)]
    with running(tmp_path / "repo") as (process, store):
        before = peak_memory(process.pid)
        for digest, block in zip(store.put_blocks(blocks), blocks, strict=True):
            assert store.get_block(digest, len(block)) == block
        assert peak_memory(process.pid) - before < 20_000_000


def peak_memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_a_kill_amid_uploads_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    stored: dict[Digest, bytes] = {}

    def upload_until_dead(store: ContentStore, start: int) -> None:
        for number in range(start, start + 10_000, 2):
            blocks = [content(270_000 + number), b"%d" % number]
            try:
                stored.update(zip(store.put_blocks(blocks), blocks, strict=True))
            except Unavailable:
                return

    for start in (0, 10_000):
        with running(tmp_path / "repo") as (process, store):
            threads = [
                threading.Thread(target=upload_until_dead, args=(store, start + offset))
                for offset in (0, 1)
            ]
            for thread in threads:
                thread.start()
            time.sleep(0.6)
            process.kill()
            for thread in threads:
                thread.join()
    assert len(stored) > 8
    assert_all_there(tmp_path, stored)


def assert_all_there(folder: Path, stored: dict[Digest, bytes]) -> None:
    with running(folder / "repo") as (_, store):
        for digest, block in stored.items():
            assert store.get_block(digest, len(block)) == block
    repo = BlockRepo(folder / "repo")
    assert list((folder / "repo" / "tmp").iterdir()) == []
    assert stored.keys() <= repo.pins().keys()
    for digest in repo.pins():
        assert repo.get(digest) is not None  # raises if it is missing or damaged
    repo.close()
