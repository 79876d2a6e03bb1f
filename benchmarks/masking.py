"""What masks cost beside clear updates: masking, summing, taking the masks off, sketches.

    python -m benchmarks.masking      (`make bench-masking`; QUICK=1 plays four participants only)

The adapter of the demo (1.84 million values) for 4, 16 and 32 participants, and one update of 70
million values. Each step reads layer files from the page cache, by slabs of 65,536 values on all
cores, and writes one; each runs in a process of its own, whose peak memory is what it reached above
what it held after its imports. What is left of the masked sum is compared with the clear one, to
the bit. Where compiled loops are off, hashlib makes the streams, and the results say so.
Results go to benchmarks/results/masking.json.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.aggregation import mark_baseline, memory_above_baseline
from benchmarks.common import RESULTS, write_results
from benchmarks.files import spec_of, square_spec, write_random
from protocol import speed
from protocol.average import sum_into
from protocol.encoding import LEAF_VALUES
from protocol.masking import (
    MASKED_VALUE,
    Mask,
    add_masked,
    mask,
    masks_of,
    pair_masks,
    remove_masks,
    signed_sum,
    stream,
)
from protocol.sketches import adds_up, sketch
from protocol.spec import Spec
from protocol.types import Address
from storage.layers import LayerFolder
from tests.protocol.reference import address

THREADS: Final = len(os.sched_getaffinity(0))
PARTICIPANTS: Final = (4, 16, 32)
REPEATS: Final = 3
SLAB: Final = 65_536  # values
SUM_VALUE: Final = np.dtype(">i4")
Z: Final = sha256(b"sketches").digest()


def demo_adapter() -> Spec:
    """The adapter of the demo: rank 16 on the attention of SmolLM2-135M's 30 layers."""
    wide = {"q": 576, "k": 192, "v": 192, "o": 576}
    layers = [
        layer
        for number in range(30)
        for target, rows in wide.items()
        for layer in (
            (f"{number:02d}.{target}.A", (16, 576)),
            (f"{number:02d}.{target}.B", (rows, 16)),
        )
    ]
    return spec_of(layers)


SPECS: Final[dict[str, Callable[[], Spec]]] = {
    "adapter": demo_adapter,
    "70M": lambda: square_spec(67, 1024),
}


class Slab(NamedTuple):
    """A part of a layer."""

    layer: int
    start: int
    size: int
    leaf: int


def slabs(spec: Spec) -> Iterator[Slab]:
    leaf = 0
    for layer in range(len(spec.layers)):
        size = spec.layer_leaves(layer) * LEAF_VALUES
        for start in range(0, size, SLAB):
            count = min(SLAB, size - start)
            yield Slab(layer, start, count, leaf + start // LEAF_VALUES)
        leaf += size // LEAF_VALUES


class Round:
    """The participants of one round, in ascending order of address, with made-up seeds."""

    def __init__(self, size: int) -> None:
        rng = random.Random(size)
        found = [Address(address(i)) for i in range(size)]
        self.who = sorted(found, key=lambda each: int(each, 16))
        self.weights = [rng.randint(1, 80) for _ in self.who]
        self.own = [rng.randbytes(32) for _ in self.who]
        self.pairs = {frozenset((i, j)): rng.randbytes(32) for i in range(size) for j in range(i)}

    def seeds(self, i: int, peers: range) -> dict[Address, bytes]:
        return {self.who[j]: self.pairs[frozenset((i, j))] for j in peers if j != i}

    def masks(self, i: int) -> list[Mask]:
        return masks_of(self.who[i], self.own[i], self.seeds(i, range(len(self.who))))

    def opened(self, accepted: int) -> list[Mask]:
        """What the first `accepted` open: the others are gone."""
        outside = range(accepted, len(self.who))
        found = []
        for i in range(accepted):
            found += [Mask(self.own[i], 1), *pair_masks(self.who[i], self.seeds(i, outside))]
        return found


class Files:
    """The layer files of a benchmark."""

    def __init__(self, folder: Path, spec: Spec) -> None:
        self.folder, self.spec = folder, spec

    def update(self, i: int) -> LayerFolder:
        return LayerFolder(self.folder / f"update{i}", "update")

    def read(self, name: str, slab: Slab, stored: np.dtype[Any]) -> NDArray[Any]:
        path = self.folder / name / f"{slab.layer:05d}"
        return np.fromfile(path, stored, slab.size, offset=slab.start * stored.itemsize)

    def read_update(self, i: int, slab: Slab) -> NDArray[np.int8]:
        path = self.update(i).layer_path(slab.layer)
        return np.fromfile(path, np.int8, slab.size, offset=slab.start)

    def write(self, name: str, work: Callable[[Slab], NDArray[Any]]) -> None:
        """Write what `work` returns for each slab, in the order of its bytes, on all cores."""
        (self.folder / name).mkdir(exist_ok=True)
        with ExitStack() as opened, ThreadPoolExecutor(THREADS) as pool:
            files = []
            for layer in range(len(self.spec.layers)):
                path = self.folder / name / f"{layer:05d}"
                files.append(os.open(path, os.O_WRONLY | os.O_CREAT))
                opened.callback(os.close, files[-1])

            def run(slab: Slab) -> None:
                values = work(slab)
                data = values.view(np.uint8).data
                written = os.pwrite(files[slab.layer], data, slab.start * values.itemsize)
                assert written == len(data)

            for _ in pool.map(run, slabs(self.spec)):
                pass

    def total(self, work: Callable[[Slab], list[int]]) -> list[int]:
        """Return what `work` returns for each slab, added up, on all cores."""
        with ThreadPoolExecutor(THREADS) as pool:
            parts = list(pool.map(work, slabs(self.spec)))
        return [sum(column) for column in zip(*parts, strict=True)]


# --------------------------------------------------------------------------------------- the steps


def masking(files: Files, of: Round, i: int) -> None:
    masks = of.masks(i)
    files.write(
        f"masked{i}",
        lambda slab: mask(files.read_update(i, slab), of.weights[i], masks, slab.leaf).astype(
            MASKED_VALUE
        ),
    )


def clear_sum(files: Files, of: Round, accepted: int) -> None:
    def work(slab: Slab) -> NDArray[Any]:
        sums = np.empty(slab.size, SUM_VALUE)
        updates = [files.read_update(i, slab) for i in range(accepted)]
        sum_into(sums, updates, of.weights[:accepted])
        return sums

    files.write("clear", work)


def masked_sum(files: Files, accepted: int) -> None:
    def work(slab: Slab) -> NDArray[Any]:
        sums = np.zeros(slab.size, np.uint32)
        for i in range(accepted):
            add_masked(sums, files.read(f"masked{i}", slab, MASKED_VALUE))
        return sums.astype(MASKED_VALUE)

    files.write("sum", work)


def removing(files: Files, of: Round, accepted: int) -> None:
    masks = of.opened(accepted)

    def work(slab: Slab) -> NDArray[Any]:
        sums = files.read("sum", slab, MASKED_VALUE).astype(np.uint32)
        remove_masks(sums, masks, slab.leaf)
        return signed_sum(sums).astype(SUM_VALUE)

    files.write("left", work)


def check(files: Files, of: Round, accepted: int) -> None:
    """Compare what the masks left with the clear sum, and the sketches with that of the sum."""
    for slab in slabs(files.spec):
        left = files.read("left", slab, SUM_VALUE)
        assert np.array_equal(left, files.read("clear", slab, SUM_VALUE))
    first = next(slabs(files.spec))
    posted = [
        [weight * number for number in sketch(files.read_update(i, first), Z, first.leaf)]
        for i, weight in zip(range(accepted), of.weights, strict=False)
    ]
    assert adds_up(posted, sketch(files.read("left", first, SUM_VALUE), Z, first.leaf))


def sketching(files: Files) -> None:
    files.total(lambda slab: sketch(files.read_update(0, slab), Z, slab.leaf))


STEPS: Final[dict[str, Callable[[Files, Round, int], None]]] = {
    "mask": lambda files, of, accepted: masking(files, of, 0),
    "clear sum": clear_sum,
    "masked sum": lambda files, of, accepted: masked_sum(files, accepted),
    "remove masks": removing,
    "sketch": lambda files, of, accepted: sketching(files),
}


def measure(step: str, folder: Path, which: str, participants: int, accepted: int) -> Any:
    files, of = Files(folder, SPECS[which]()), Round(participants)
    speed.load()
    stream(bytes(32), 0, 1)
    mark_baseline()
    seconds, cpu_seconds = [], []
    for _ in range(REPEATS):
        start, cpu_start = time.perf_counter(), time.process_time()
        STEPS[step](files, of, accepted)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    return {
        "seconds": min(seconds),
        "all_seconds": seconds,
        "cpu_seconds": min(cpu_seconds),
        "peak_bytes": memory_above_baseline(),
    }


# --------------------------------------------------------------------------------------------- run


def in_a_process(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.masking", "--child", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(folder: Path, which: str, participants: int, present: int) -> list[dict[str, Any]]:
    """Measure every step; `present` of the participants have files, the others are only peers."""
    spec, of = SPECS[which](), Round(participants)
    files = Files(folder, spec)
    values = sum(slab.size for slab in slabs(spec))
    for i in range(present):
        if not files.update(i).path.exists():
            write_random(spec, files.update(i), i)
        masking(files, of, i)
    rows = []

    def row(step: str, accepted: int, streams: int, moved: int) -> None:
        found = in_a_process(step, str(folder), which, str(participants), str(accepted))
        sizes = {"values": values, "streams": streams, "bytes": moved * values}
        about = {"which": which, "participants": participants, "accepted": accepted, "step": step}
        rows.append({**about, **sizes, **found})
        print(f"{which}, {participants}: {step}: {found['seconds']:.3f} s", file=sys.stderr)

    row("mask", present, participants, 1 + 4)
    row("sketch", present, 1, 1)
    # Nobody gone, and a third.
    for accepted in dict.fromkeys((present, present - present // 3)):
        row("clear sum", accepted, 0, accepted + 4)
        row("masked sum", accepted, 0, 4 * accepted + 4)
        if present == participants:
            row("remove masks", accepted, len(of.opened(accepted)), 4 + 4)
            check(files, of, accepted)
    return rows


def told(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{'values':>11s} {'of':>3s} {'in sum':>6s}  {'step':13s} {'streams':>7s} {'MB':>7s}"
        f" {'seconds':>8s} {'of one core':>11s} {'peak MB':>8s}"
    ]
    lines += [
        f"{row['values']:11,d} {row['participants']:3d} {row['accepted']:6d}  {row['step']:13s}"
        f" {row['streams']:7d} {row['bytes'] / 1e6:7.1f} {row['seconds']:8.3f}"
        f" {row['cpu_seconds']:11.3f} {row['peak_bytes'] / 1e6:8.1f}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="four participants, no 70 million")
    parser.add_argument("--scratch", type=Path, help="where the files are written: 1 GB")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        step, folder, which, participants, accepted = options.child
        print(json.dumps(measure(step, Path(folder), which, int(participants), int(accepted))))
        return
    if shutil.disk_usage(options.scratch or tempfile.gettempdir()).free < 1.5e9:
        sys.exit("too little disk: 1.5 GB are needed")
    rows, load = [], [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="commonweight-bench-") as name:
        for participants in PARTICIPANTS[:1] if options.quick else PARTICIPANTS:
            rows += compare(Path(name), "adapter", participants, participants)
    if not options.quick:
        with tempfile.TemporaryDirectory(dir=options.scratch, prefix="commonweight-bench-") as name:
            rows += compare(Path(name), "70M", 16, 1)
    load.append(os.getloadavg()[0])
    facts = {
        "threads": THREADS,
        "load_average": load,
        "compiled": speed.load() is not None,
        "results": rows,
    }
    if not options.quick:
        write_results(options.out, "masking", {"command": "make bench-masking", **facts})
    print(told(rows))


if __name__ == "__main__":
    main()
