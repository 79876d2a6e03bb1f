"""Seconds to put, pin and get an update: one block a request, one file a request, many blocks.

    python -m benchmarks.storage --ipfs http://127.0.0.1:5001
    python -m benchmarks.storage                                  # a dev daemon of its own

The two other ways are ipfshttpclient's: `block.put` with a pin for each block, and `add` and `cat`
of files, which the dev daemon does not serve. All run in turns, on random bytes that no way has
stored before, and the median counts. Results go to stdout, as JSON.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ipfshttpclient.client import Client
from ipfshttpclient.exceptions import Error

from protocol.encoding import BLOCK_BYTES
from storage.ipfs import ContentStore
from storage.rpc import ApiAddress

SIZES: Final = {"1.84 MB": 1_843_200, "100 MB": 100_000_000}
AT_ONCE: Final = 4

Way = Callable[[list[bytes]], tuple[float, float]]
"""Stores new blocks and reads them again; returns the seconds of each."""


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def in_threads(read: Callable[[Any], bytes], names: list[Any]) -> list[bytes]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(read, names))


def ways(url: str) -> dict[str, Way]:
    store, client = ContentStore(url), Client(ApiAddress.parse(url).multiaddr)

    def many_blocks(blocks: list[bytes]) -> tuple[float, float]:
        put, digests = timed(lambda: store.put_blocks(blocks))
        got, read = timed(lambda: in_threads(lambda d: store.get_block(d, BLOCK_BYTES), digests))
        assert read == blocks
        return put, got

    def a_block_a_request(blocks: list[bytes]) -> tuple[float, float]:
        options = {"cid-codec": "raw", "pin": "true"}

        def put_all() -> list[Any]:
            return [client.block.put(io.BytesIO(each), opts=options)["Key"] for each in blocks]

        put, cids = timed(put_all)
        got, read = timed(lambda: in_threads(client.block.get, cids))
        assert read == blocks
        return put, got

    def a_file_a_request(blocks: list[bytes]) -> tuple[float, float]:
        options = {"cid-version": "1", "raw-leaves": "true", "pin": "true"}
        put, cids = timed(lambda: [client.add_bytes(each, opts=options) for each in blocks])
        got, read = timed(lambda: in_threads(client.cat, cids))
        assert read == blocks
        return put, got

    return {
        "many blocks": many_blocks,
        "a block a request": a_block_a_request,
        "a file a request": a_file_a_request,
    }


def measure(url: str, repeats: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name, size in SIZES.items():
        seconds: dict[str, list[tuple[float, float]]] = {}
        for _ in range(repeats):
            for way, run in ways(url).items():
                blocks = [os.urandom(BLOCK_BYTES) for _ in range(round(size / BLOCK_BYTES))]
                try:
                    seconds.setdefault(way, []).append(run(blocks))
                except Error:  # the dev daemon has no files
                    seconds.pop(way)
        results[name] = {
            way: {
                "put_and_pin_s": round(statistics.median(put for put, _ in each), 4),
                "get_s": round(statistics.median(got for _, got in each), 4),
            }
            for way, each in seconds.items()
        }
    return results


@contextmanager
def dev_daemon() -> Iterator[str]:
    """Yield the URL of a dev IPFS daemon in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="commonweight-bench-") as folder:
        command = [sys.executable, "-m", "devnet.ipfs.daemon", "--port", "0", "--repo"]
        process = subprocess.Popen(
            [*command, str(Path(folder) / "ipfs")], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait(timeout=30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ipfs", metavar="URL", help="a daemon that runs already")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.ipfs:
        print(json.dumps(measure(options.ipfs, options.repeats), indent=2))
        return
    with dev_daemon() as url:
        print(json.dumps(measure(url, options.repeats), indent=2))


if __name__ == "__main__":
    main()
