"""Seconds from an announcement to a verified update, by where its bytes are, beside curl.

    python -m benchmarks.stores      (`make bench-stores`; --repeats 7)

An update of the demo's size (SmolLM2-135M, rank 16: 240 layers, 1.84 MB) is put where its author
then announces that it is, on anvil. A reader that follows the chain learns it from there, and
fetches the manifest and every layer file, each block verified on arrival. Where the bytes are:

    own Kubo          in the reader's own daemon
    bitswap           in another Kubo, which the reader's own knows by the announced address alone
    gateway           behind a Kubo's gateway; the reader has no store of its own
    gateway, own Kubo the same; the reader's own Kubo, which lacks them, is asked first
    bucket            in a bucket of an S3 server, by its public address

Beside each, curl gets the same blocks from the same server, one after the other and eight at once,
and verifies nothing; for bitswap it has the daemon connect first. Every try has an update of its
own and, where a daemon fetches, a repository of its own, so that nothing is there already. All take
turns, and the median counts. Results go to benchmarks/results/stores.json, with the gas of each
announcement.
"""

import argparse
import hashlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.common import RESULTS, write_results
from benchmarks.files import Layers, spec_of, write_random
from protocol.cid import raw_cid
from protocol.errors import CommonweightError, Misconfigured
from protocol.types import Digest, RoundId
from rounds.whereabouts import learn_places
from storage.blocks import Store
from storage.bucket import BucketStore
from storage.dial import DialRules
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Published, Subject, build_manifest, fetch_update, pin
from storage.sources import Sources
from tests.real.kubo import Kubo
from tests.real.s3 import BUCKET, running_s3
from tests.world import World

LOCAL: Final = DialRules(allow_private=True)
AUTHOR: Final = "ann"
RANK: Final = 16
# SmolLM2-135M: what each projection of its 30 layers takes in and gives out.
PROJECTIONS: Final = {"q": (576, 576), "k": (576, 192), "v": (576, 192), "o": (576, 576)}
AT_ONCE: Final = 8  # as storage/layers.py has it for small blocks
CURL: Final = ("curl", "--disable", "--no-progress-meter", "--fail", "--noproxy", "*")


def adapter_layers() -> Layers:
    """Return the layers of the demo's adapter."""
    layers = []
    for number in range(30):
        for name, (taken, given) in PROJECTIONS.items():
            layers += [
                (f"layer{number:02d}.{name}.A", (RANK, taken)),
                (f"layer{number:02d}.{name}.B", (given, RANK)),
            ]
    return layers


@dataclass(frozen=True)
class Reader:
    """Who knows nothing yet, and what curl asks in its place: `url_of` each CID, after `first`."""

    sources: Sources
    url_of: Callable[[str], str]
    first: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where an update is put, what is announced of that, and who reads it there."""

    store: Store
    line: str
    reader: Callable[[], Reader]
    method: str = "GET"  # curl's


class Bench:
    """One try of everything, with daemons of its own in `folder`."""

    def __init__(self, world: World, folder: Path, stack: ExitStack) -> None:
        self.world, self.folder, self.stack = world, folder, stack
        self.spec = spec_of(adapter_layers())
        self.readers = 0
        author = Kubo(folder / "author")
        self.web = author.open_gateway()
        self.author = stack.enter_context(author)
        self.s3 = stack.enter_context(running_s3(folder))
        # As a role that runs: it has read what is on chain by now.
        self.chain = world.client()
        self.chain.history()

    def places(self) -> dict[str, Place]:
        own, kubo = ContentStore(self.author.url), self.author.url
        peer = f"{self.author.peer.address}/p2p/{self.author.peer.id}"
        web, bucket = self.web, self.s3.gateway(AUTHOR).line
        in_bucket = BucketStore(f"s3://{BUCKET}/{AUTHOR}", allow_http=True)

        def by_bitswap() -> Reader:
            fresh = self._fresh()
            connect = f"{fresh}/api/v0/swarm/connect?arg={peer}"
            return Reader(over(fresh), by_rpc(fresh), (connect,))

        return {
            "own Kubo": Place(own, peer, lambda: Reader(over(kubo), by_rpc(kubo)), "POST"),
            "bitswap": Place(own, peer, by_bitswap, "POST"),
            "gateway": Place(own, web, lambda: Reader(over(None), at(web))),
            "gateway, own Kubo": Place(own, web, lambda: Reader(over(self._fresh()), at(web))),
            "bucket": Place(in_bucket, bucket, lambda: Reader(over(None), at(bucket))),
        }

    def _fresh(self) -> str:
        """Return the URL of a daemon that has nothing and knows nobody."""
        self.readers += 1
        return self.stack.enter_context(Kubo(self.folder / f"reader-{self.readers}")).url

    # ---------------------------------------------------------------- one try

    def publish(self, place: Place, seed: int) -> tuple[Published, list[Digest], int]:
        """Put a new update and announce the place; return it, its blocks, and the gas of that."""
        folder = LayerFolder(self.folder / f"update-{seed}", "update")
        write_random(self.spec, folder, seed)
        root = folder.root(self.spec)
        subject = Subject(self.chain.chain_id, self.chain.address, RoundId(1), "update")
        manifest = build_manifest(folder, self.spec, subject, root)
        update = Published(self.spec, subject, root, pin(place.store, folder, manifest))
        author = self.world.client(self.world.wallets[AUTHOR])
        gas = author.announce(place.line).gas_used
        blocks = [digest for layer in manifest.layers for digest in layer.digests]
        return update, [update.manifest, *blocks], gas

    def ours(self, place: Place, seed: int) -> tuple[float, int]:
        """Return the seconds of a reader that follows the chain, and the gas of announcing."""
        sources = place.reader().sources
        update, _, gas = self.publish(place, seed)
        target = LayerFolder(self.folder / f"fetched-{seed}", "update")
        began = time.perf_counter()
        learn_places(sources, self.chain)
        fetch_update(sources.of(self.world.address_of(AUTHOR)), update, target)
        seconds = time.perf_counter() - began
        assert target.holds(self.spec, update.root)
        return seconds, gas

    def curl(self, place: Place, seed: int, at_once: int) -> float:
        """Return the seconds of curl."""
        reader = place.reader()
        _, blocks, _ = self.publish(place, seed)
        target = self.folder / f"curled-{seed}"
        target.mkdir()
        wanted = target / "wanted"
        cids = [raw_cid(digest) for digest in blocks]
        wanted.write_text(
            "".join(f'url="{reader.url_of(c)}"\noutput="{target / c}"\n' for c in cids)
        )
        command = [*CURL, "--request", place.method]
        began = time.perf_counter()
        for url in reader.first:
            run([*command, url])
        several = ("--parallel", "--parallel-max", str(at_once)) if at_once > 1 else ()
        run([*command, *several, "--config", str(wanted)])
        seconds = time.perf_counter() - began
        for cid, digest in zip(cids, blocks, strict=True):
            assert hashlib.sha256((target / cid).read_bytes()).digest() == digest
        return seconds


def over(url: str | None) -> Sources:
    """Return what reads through the daemon at `url`, if any, and what is announced."""
    return Sources(None if url is None else ContentStore(url), LOCAL)


def at(line: str) -> Callable[[str], str]:
    """Return how a block is called at a gateway."""
    return lambda cid: f"{line}/ipfs/{cid}?format=raw"


def by_rpc(url: str) -> Callable[[str], str]:
    """Return how a block is called at a daemon's RPC."""
    return lambda cid: f"{url}/api/v0/block/get?arg={cid}"


def run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)


def measure(folder: Path, repeats: int) -> Iterator[dict[str, Any]]:
    """Yield the results so far after each round of tries."""
    tries: dict[str, dict[str, list[float]]] = {}
    announced: dict[str, dict[str, int]] = {}
    with World(folder / "world") as world:
        for number in range(repeats):
            with ExitStack() as stack:
                bench = Bench(world, folder / f"try-{number}", stack)
                for index, (name, place) in enumerate(bench.places().items()):
                    seed = 3 * (100 * number + index)
                    ours, gas = bench.ours(place, seed)
                    once = {
                        "ours": ours,
                        "curl": bench.curl(place, seed + 1, 1),
                        f"curl, {AT_ONCE} at once": bench.curl(place, seed + 2, AT_ONCE),
                    }
                    for way, seconds in once.items():
                        tries.setdefault(name, {}).setdefault(way, []).append(seconds)
                    announced[name] = {"bytes": len(place.line), "gas": gas}
            yield {
                "repeats": number + 1,
                "update_bytes": bench.spec.total_bytes("update"),
                "blocks": len(bench.spec.layers) + 1,
                "seconds": {name: summarise(each) for name, each in tries.items()},
                "announced": announced,
            }


def summarise(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Return the medians, the range of ours, and ours over the faster way of curl's."""
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    best = min(median for name, median in medians.items() if name != "ours")
    return {
        **{name: round(median, 4) for name, median in medians.items()},
        "ours, range": [round(min(seconds["ours"]), 4), round(max(seconds["ours"]), 4)],
        "ratio": round(medians["ours"] / best, 2),
    }


def main() -> None:
    """Measure and write the results; one line and exit code 1 on a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="once, to see that it works")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    try:
        if shutil.which("curl") is None:
            raise Misconfigured("there is no program curl on the PATH: install it")
        with tempfile.TemporaryDirectory(prefix="commonweight-bench-") as folder:
            for results in measure(Path(folder), 1 if options.quick else options.repeats):
                name = "stores-quick" if options.quick else "stores"
                path = write_results(options.out, name, results)
        print(path.read_text())
    except CommonweightError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
