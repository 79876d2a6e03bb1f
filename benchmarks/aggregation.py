"""Averaging side by side: ours, Flower's FedAvg and plain torch, on the same values in one run.

    python -m benchmarks.aggregation      (`make bench-aggregation`; QUICK=1 leaves 100 million out)

The same training reaches all of them, but not in the same bytes. An update of ours has one byte a
value, the difference that training made, and is averaged into the int32 model before, which is read
as well. Flower and torch average whole float32 models, four bytes a value. So two rates are told:
seconds of a round with as many values, which is what a federation waits for and where fewer bytes
help, and GB/s of update bytes, where they do not. "torch, one byte" does in memory what ours does,
to the bit: what is left of the difference to it is not owed to the smaller updates.

Each system runs in a process of its own. Ours reads layer files, which are in the page cache since
they were just written; the others start with every participant's arrays in memory, as after
receiving them, and that is not timed. Peak memory is what the process reached above what it held
after its imports. Results go to benchmarks/results/aggregation.json.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.files import GRID, square_spec, write_random
from protocol import speed
from protocol.differences import decode_differences
from protocol.encoding import FRACTION_BITS, decode_values
from protocol.spec import Spec
from protocol.types import RoundId
from rounds.average import MODEL_VALUE, Mode, Slab, average_layers, stream_moved
from storage.digests import block_digests, examine
from storage.layers import LayerFolder

RESULTS: Final = Path(__file__).parent / "results" / "aggregation.json"
PARTICIPANTS: Final = 8
SIDES: Final = {1: (16, 256), 25: (24, 1024), 100: (24, 2048)}  # million values: layers, their side
REPEATS: Final = 3  # in each process
THREADS: Final = len(os.sched_getaffinity(0))
ROUND: Final = RoundId(1)
WEIGHTS: Final = list(range(1, PARTICIPANTS + 1))


class Moved(NamedTuple):
    """The bytes that a system moves for each value of the model; updates count once each."""

    update: int
    model_read: int
    model_written: int


# The systems in the order in which they take turns: the first writes what the others are checked
# against.
SYSTEMS: Final = {
    "ours, average and tree": Moved(1, 4, 4),
    "ours, average alone": Moved(1, 4, 4),
    "ours, verification alone": Moved(1, 0, 0),
    "ours, verified": Moved(1, 4, 4),
    "ours, all at once": Moved(1, 4, 4),
    "torch, one byte": Moved(1, 4, 4),
    "torch": Moved(4, 0, 4),
    "Flower FedAvg": Moved(4, 0, 4),
}


def make_files(spec: Spec, folder: Path) -> None:
    """Write the model before the round and every participant's update."""
    for seed, each in enumerate([before(folder), *updates(folder)]):
        write_random(spec, each, seed)


def before(folder: Path) -> LayerFolder:
    return LayerFolder(folder / "before", "model")


def updates(folder: Path) -> list[LayerFolder]:
    return [LayerFolder(folder / f"update{i}", "update") for i in range(PARTICIPANTS)]


def after(folder: Path) -> LayerFolder:
    return LayerFolder(folder / "after", "model")


# ------------------------------------------------------------------------------------- the systems


def ours(spec: Spec, folder: Path, mode: Mode = "layerwise") -> Callable[[], str]:
    round_of = (before(folder), updates(folder), WEIGHTS, after(folder), ROUND)
    return lambda: average_layers(spec, *round_of, THREADS, mode).hex()


def ours_alone(spec: Spec, folder: Path) -> Callable[[], str]:
    target = LayerFolder(folder / "alone", "model")
    target.path.mkdir()

    def run() -> str:
        with ExitStack() as opened:
            # Not truncated: `average_layers` overwrites what is there, too.
            files = [os.open(path, os.O_WRONLY | os.O_CREAT) for path in target.paths(spec)]
            for file in files:
                opened.callback(os.close, file)

            def write(slab: Slab, values: NDArray[np.int32]) -> None:
                data = values.view(np.uint8).data
                written = os.pwrite(files[slab.layer], data, slab.start * MODEL_VALUE.itemsize)
                assert written == len(data)

            round_of = (before(folder), updates(folder), WEIGHTS, ROUND)
            deque(stream_moved(spec, *round_of, write, THREADS), maxlen=0)
        return ""

    return run


def ours_verifying(spec: Spec, folder: Path) -> Callable[[], str]:
    paths = [update.paths(spec) for update in updates(folder)]

    def run() -> str:
        examine(spec, "update", paths, THREADS)
        return ""

    return run


def ours_verified(spec: Spec, folder: Path) -> Callable[[], str]:
    verify, average = ours_verifying(spec, folder), ours(spec, folder)

    def run() -> str:
        verify()
        root = average()
        block_digests(after(folder).paths(spec), THREADS)
        return root

    return run


def trained(spec: Spec, folder: Path, number: int) -> dict[str, NDArray[np.float32]]:
    """Return the model that a participant's training led to, as float32 by layer name."""
    old, update, found = before(folder), updates(folder)[number], {}
    for layer, start, steps in zip(spec.layers, old.read(spec), update.read(spec), strict=True):
        exact = decode_values(start) + decode_differences(steps, GRID)
        found[layer.name] = exact.astype(np.float32)
    return found


def flower(spec: Spec, folder: Path) -> Callable[[], str]:
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.serverapp.strategy import FedAvg
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1

    def message(number: int) -> Message:
        arrays = trained(spec, folder, number)
        content = RecordDict(
            {
                "arrays": ArrayRecord({name: Array(value) for name, value in arrays.items()}),
                "metrics": MetricRecord({"num-examples": WEIGHTS[number]}),
            }
        )
        return Message(content, dst_node_id=number + 1, message_type="train")

    mark_baseline()
    replies = [message(number) for number in range(PARTICIPANTS)]

    def run() -> str:
        arrays, _ = FedAvg().aggregate_train(1, replies)
        assert arrays is not None
        return check(spec, folder, arrays["layer000"].numpy())

    return run


def torch(spec: Spec, folder: Path) -> Callable[[], str]:
    import torch

    torch.set_num_threads(THREADS)
    mark_baseline()
    models = [
        {name: torch.from_numpy(value) for name, value in trained(spec, folder, number).items()}
        for number in range(PARTICIPANTS)
    ]

    def run() -> str:
        mean = {name: torch.zeros_like(value) for name, value in models[0].items()}
        for model, weight in zip(models, WEIGHTS, strict=True):
            for name, value in model.items():
                mean[name].add_(value, alpha=weight / sum(WEIGHTS))
        return check(spec, folder, mean["layer000"].numpy())

    return run


def torch_one_byte(spec: Spec, folder: Path) -> Callable[[], str]:
    import torch

    torch.set_num_threads(THREADS)
    mark_baseline()
    old = [torch.from_numpy(each.astype(np.int32)) for each in before(folder).read(spec)]
    steps = [[torch.from_numpy(e) for e in update.read(spec)] for update in updates(folder)]
    total, shift = sum(WEIGHTS), FRACTION_BITS - GRID

    def run() -> str:
        moved = []
        for index, start in enumerate(old):
            sums = torch.zeros_like(start)
            for update, weight in zip(steps, WEIGHTS, strict=True):
                sums.add_(update[index], alpha=weight)
            # 2^(s+1) · S fits in 32 bits with these weights (docs/protocol.md §7): 127 · 36 · 2^12.
            sums.mul_(2 ** (shift + 1)).add_(total)
            moved.append(sums.div_(2 * total, rounding_mode="floor").add_(start))
        exact = np.fromfile(after(folder).layer_path(0), MODEL_VALUE, count=moved[0].numel())
        assert np.array_equal(exact, moved[0].numpy().ravel())
        return ""

    return run


def check(spec: Spec, folder: Path, mean: NDArray[np.float32]) -> str:
    """Compare a float mean of the first layer with the exact one, which ours left behind."""
    exact = np.fromfile(after(folder).layer_path(0), MODEL_VALUE, count=mean.size)
    assert np.abs(decode_values(exact).reshape(mean.shape) - mean).max() < 2**-22
    return ""


MAKERS: Final[dict[str, Callable[[Spec, Path], Callable[[], str]]]] = {
    "ours, average and tree": ours,
    "ours, average alone": ours_alone,
    "ours, verification alone": ours_verifying,
    "ours, verified": ours_verified,
    "ours, all at once": lambda spec, folder: ours(spec, folder, "all_at_once"),
    "torch, one byte": torch_one_byte,
    "torch": torch,
    "Flower FedAvg": flower,
}


# --------------------------------------------------------------------------------------- measuring

_baseline = 0


def mark_baseline() -> None:
    """Count memory from here on."""
    global _baseline
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    _baseline = memory("VmRSS")


def memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:"))) * 1024


def memory_above_baseline() -> int:
    """Return the peak since `mark_baseline`, in bytes, above what the process held then."""
    return memory("VmHWM") - _baseline


def measure(system: str, folder: Path, layers: int, side: int, repeats: int) -> dict[str, Any]:
    spec = square_spec(layers, side)
    if system.startswith("ours"):
        warm_up()
    mark_baseline()
    run = MAKERS[system](spec, folder)
    seconds, cpu_seconds = [], []
    root = ""
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        root = run()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": memory_above_baseline(),
        "root": root,
    }


def warm_up() -> None:
    """Load the compiled loops, as a long-running aggregator has them."""
    speed.load()
    with tempfile.TemporaryDirectory() as name:
        spec, folder = square_spec(2 * THREADS, 64), Path(name)  # enough files to fill all lanes
        make_files(spec, folder)
        ours_verified(spec, folder)()


def machine() -> dict[str, float]:
    """Return this machine's copy bandwidth (read + written) and SHA-256 rates, in MB/s."""
    size = 256 << 20
    source = np.ones(size // 8)
    target = np.empty_like(source)
    data = source.view(np.uint8).data[: 64 << 20]

    def copy(part: slice) -> None:
        np.copyto(target[part], source[part])

    half = len(source) // THREADS
    slices = [slice(i * half, (i + 1) * half) for i in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        return {
            "copy_1_thread": best(lambda: copy(slice(None))) * 2 * size / 1e6,
            "copy": best(lambda: list(pool.map(copy, slices))) * 2 * size / 1e6,
            "sha256_1_thread": best(lambda: hashlib.sha256(data)) * len(data) / 1e6,
            "sha256": best(lambda: list(pool.map(hashlib.sha256, [data] * THREADS)))
            * len(data)
            * THREADS
            / 1e6,
        }


def best(work: Callable[[], Any]) -> float:
    """Return the highest rate, in calls a second, of five."""
    rates = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        rates.append(1 / (time.perf_counter() - start))
    return max(rates)


# --------------------------------------------------------------------------------------------- run


def in_a_process(*arguments: str) -> Any:
    command = [sys.executable, "-m", "benchmarks.aggregation", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_all(sizes: list[int], scratch: Path, rounds: int) -> dict[str, Any]:
    rows = []
    load = [os.getloadavg()[0]]
    rates = [in_a_process("--child", "machine")]
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=scratch, prefix="commonweight-bench-") as name:
            make_files(square_spec(*SIDES[size]), Path(name))
            rows += compare(size, Path(name), rounds)
        rates.append(in_a_process("--child", "machine"))
        load.append(os.getloadavg()[0])
    fastest = {name: max(each[name] for each in rates) for name in rates[0]}
    return {
        "command": "python -m benchmarks.aggregation",
        "participants": PARTICIPANTS,
        "threads": THREADS,
        "load_average": load,
        "machine": {"cpu": platform.processor() or platform.machine(), "mb_per_s": fastest},
        "compiled": speed.load() is not None,
        "results": rows,
        "shares_of_machine_rates": shares(rows, fastest),
    }


def compare(size: int, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Run every system `rounds` times in turn, so that a busy spell does not hit one alone."""
    runs: dict[str, list[dict[str, Any]]] = {system: [] for system in SYSTEMS}
    shape = [str(number) for number in (*SIDES[size], REPEATS)]
    for turn in range(rounds):
        for system in SYSTEMS:
            # What it writes is made anew each time, as in a round.
            shutil.rmtree(folder / "alone", ignore_errors=True)
            runs[system].append(in_a_process("--child", system, str(folder), *shape))
        print(f"{size} million values: turn {turn + 1} of {rounds}", file=sys.stderr)
    rows = [summary(size, system, found) for system, found in runs.items()]
    assert len({row["root"] for row in rows if row["root"]}) == 1, "the modes disagree"
    return rows


def summary(size: int, system: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a system's figures at one size: the best of its turns, and all of them."""
    seconds = [value for run in runs for value in run["seconds"]]
    layers, side = SIDES[size]
    values, each = layers * side * side, SYSTEMS[system]
    update_bytes = PARTICIPANTS * values * each.update
    return {
        "million_values": size,
        "system": system,
        "values": values,
        "update_bytes": update_bytes,
        "model_bytes_read": values * each.model_read,
        "model_bytes_written": values * each.model_written,
        "seconds": min(seconds),
        "median_seconds": statistics.median(seconds),
        "all_seconds": seconds,
        "cpu_seconds": min(value for run in runs for value in run["cpu_seconds"]),
        "update_gb_per_s": update_bytes / min(seconds) / 1e9,
        "peak_bytes": max(run["peak_bytes"] for run in runs),
        "root": runs[-1]["root"],
    }


def shares(rows: list[dict[str, Any]], rates: dict[str, float]) -> list[dict[str, Any]]:
    """Return, for every size, what share of this machine's own rates ours reaches."""
    found = []
    for size in sorted({row["million_values"] for row in rows}):
        by = {row["system"]: row for row in rows if row["million_values"] == size}
        alone, verification = by["ours, average alone"], by["ours, verification alone"]
        moved = alone["update_bytes"] + alone["model_bytes_read"] + alone["model_bytes_written"]
        found.append(
            {
                "million_values": size,
                "average_of_copy_bandwidth": moved / alone["seconds"] / 1e6 / rates["copy"],
                # Every byte goes into its block's digest and into its leaf's.
                "verification_of_sha256_rate": 2e3
                * verification["update_gb_per_s"]
                / rates["sha256"],
            }
        )
    return found


def told(result: dict[str, Any]) -> str:
    """Return the results as a table: what each side moves, how long it takes, at what rate."""
    lines = [
        f"{result['participants']} participants, {result['threads']} threads",
        f"{'million':>7s}  {'system':24s} {'update MB':>9s} {'model MB':>8s} {'seconds':>8s}"
        f" {'update GB/s':>11s} {'peak MB':>8s}",
    ]
    for row in result["results"]:
        model = row["model_bytes_read"] + row["model_bytes_written"]
        lines.append(
            f"{row['million_values']:7d}  {row['system']:24s} {row['update_bytes'] / 1e6:9.0f}"
            f" {model / 1e6:8.0f} {row['seconds']:8.3f} {row['update_gb_per_s']:11.2f}"
            f" {row['peak_bytes'] / 1e6:8.1f}"
        )
    lines.append("Seconds are of a round with as many values; update bytes a value differ.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1,25,100", help="million values, of 1, 25, 100")
    parser.add_argument("--scratch", type=Path, help="where the files are written: 2 GB")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each system")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == ["machine"]:
        print(json.dumps(machine()))
        return
    if options.child:
        system, folder, *numbers = options.child
        print(json.dumps(measure(system, Path(folder), *map(int, numbers))))
        return
    sizes = [int(size) for size in options.sizes.split(",")]
    free = shutil.disk_usage(options.scratch or tempfile.gettempdir()).free
    if free < max(sizes) * 1e6 * (PARTICIPANTS + 3 * MODEL_VALUE.itemsize):
        sys.exit(f"too little disk: {free:,} bytes free")
    result = run_all(sizes, options.scratch, options.rounds)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(told(result))


if __name__ == "__main__":
    main()
