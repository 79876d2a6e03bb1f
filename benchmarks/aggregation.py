"""Averaging side by side: ours, Flower's FedAvg and plain torch, on the same tensors in one run.

    python -m benchmarks.aggregation      (`make bench-aggregation`; QUICK=1 leaves 400 MB out)

Each system runs in a process of its own. Ours reads layer files, which are in the page cache since
they were just written; Flower and torch start with every participant's arrays in memory, as after
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
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocol import speed
from protocol.encoding import STORED, decode_values
from protocol.spec import Spec
from rounds import average as layerwise
from storage.digests import examine, file_digests
from storage.layers import LayerFolder

RESULTS: Final = Path(__file__).parent / "results" / "aggregation.json"
PARTICIPANTS: Final = 8
SIDES: Final = {4: (16, 256), 100: (24, 1024), 400: (24, 2048)}  # MB: layers, their side
SYSTEMS: Final = (
    "ours, average alone",
    "ours, average and tree",
    "ours, verification alone",
    "ours, verified",
    "ours, all at once",
    "Flower FedAvg",
    "torch",
)
REPEATS: Final = 3  # in each process
THREADS: Final = len(os.sched_getaffinity(0))


def make_spec(layers: int, side: int) -> Spec:
    return spec_of([(f"layer{i:03d}", (side, side)) for i in range(layers)])


def spec_of(layers: list[tuple[str, tuple[int, ...]]]) -> Spec:
    digest = "0" * 64
    base = {"name": "bench", "revision": "1", "weights_digest": digest}
    return Spec.model_validate(
        {
            "base_model": {**base, "tokenizer_digest": digest, "chat_template_digest": digest},
            "quantization": {
                "kind": "none",
                "double_quantization": False,
                "compute_dtype": "float32",
            },
            "lora": {"rank": 1, "alpha": 1, "dropout": 0.0, "targets": ["all"], "mode": "fedit"},
            "layers": [{"name": name, "shape": shape} for name, shape in sorted(layers)],
            "training": {
                "learning_rate": 1.0,
                "batch_size": 1,
                "steps": 1,
                "sequence_length": 1,
                "scheduler": "constant",
                "warmup_steps": 0,
                "seed": 0,
            },
            "evaluation_digest": digest,
            "screening": {"max_update_norm": 1e9},
            "libraries": {},
        }
    )


def make_updates(spec: Spec, folder: Path) -> None:
    """Write every participant's layer files: values within ±1/16, as an adapter's are."""
    for participant in range(PARTICIPANTS):
        update = folders(folder)[participant]
        update.path.mkdir(parents=True)
        rng = np.random.default_rng(participant)
        for index in range(len(spec.layers)):
            count = spec.layer_bytes(index) // STORED.itemsize
            values = rng.integers(-(2**20), 2**20, count, dtype=np.int32)
            values.astype(STORED).tofile(update.layer_path(index))


def folders(folder: Path) -> list[LayerFolder]:
    return [LayerFolder(folder / f"update{i}") for i in range(PARTICIPANTS)]


WEIGHTS: Final = list(range(1, PARTICIPANTS + 1))


# ------------------------------------------------------------------------------------- the systems


def ours_alone(spec: Spec, folder: Path) -> Callable[[], str]:
    target = LayerFolder(folder / "mean")

    def run() -> str:
        target.path.mkdir(exist_ok=True)
        sources = [layerwise.Stored(update) for update in folders(folder)]
        layout = layerwise.Layout.of(spec)

        def write(slab: layerwise.Slab, mean: NDArray[np.int32]) -> None:
            layerwise.write_slab(layout, target, slab, mean.view(np.uint8).data)

        deque(layerwise.stream_mean(layout, sources, WEIGHTS, write, THREADS), maxlen=0)
        return ""

    return run


def ours(spec: Spec, folder: Path, mode: layerwise.Mode = "layerwise") -> Callable[[], str]:
    target = LayerFolder(folder / "mean")
    return lambda: layerwise.average_layers(
        spec, folders(folder), WEIGHTS, target, THREADS, mode
    ).hex()


def ours_verifying(spec: Spec, folder: Path) -> Callable[[], str]:
    paths = [update.paths(spec) for update in folders(folder)]

    def run() -> str:
        examine(spec, paths, THREADS)
        return ""

    return run


def ours_verified(spec: Spec, folder: Path) -> Callable[[], str]:
    verify, average = ours_verifying(spec, folder), ours(spec, folder)
    mean = LayerFolder(folder / "mean").paths(spec)

    def run() -> str:
        verify()
        root = average()
        file_digests(mean, THREADS)
        return root

    return run


def decoded(spec: Spec, update: LayerFolder) -> dict[str, Any]:
    return {
        layer.name: decode_values(np.fromfile(update.layer_path(i), STORED).reshape(layer.shape))
        for i, layer in enumerate(spec.layers)
    }


def flower(spec: Spec, folder: Path) -> Callable[[], str]:
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.serverapp.strategy import FedAvg
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1

    def message(number: int) -> Message:
        arrays = decoded(spec, folders(folder)[number])
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
    updates = [
        {name: torch.from_numpy(value) for name, value in decoded(spec, update).items()}
        for update in folders(folder)
    ]

    def run() -> str:
        mean = {name: torch.zeros_like(value) for name, value in updates[0].items()}
        for update, weight in zip(updates, WEIGHTS, strict=True):
            for name, value in update.items():
                mean[name].add_(value, alpha=weight / sum(WEIGHTS))
        return check(spec, folder, mean["layer000"].numpy())

    return run


def check(spec: Spec, folder: Path, mean: Any) -> str:
    """Compare a float mean of the first layer with the exact one, which ours left behind."""
    exact = np.fromfile(folder / "mean" / "00000.layer", STORED, count=mean.size)
    assert np.abs(decode_values(exact).reshape(mean.shape) - mean).max() < 2**-22
    return ""


MAKERS: Final[dict[str, Callable[[Spec, Path], Callable[[], str]]]] = {
    "ours, average alone": ours_alone,
    "ours, average and tree": ours,
    "ours, verification alone": ours_verifying,
    "ours, verified": ours_verified,
    "ours, all at once": lambda spec, folder: ours(spec, folder, "all_at_once"),
    "Flower FedAvg": flower,
    "torch": torch,
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


def measure(system: str, folder: Path, layers: int, side: int, repeats: int) -> dict[str, Any]:
    spec = make_spec(layers, side)
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
        "peak_bytes": memory("VmHWM") - _baseline,
        "root": root,
    }


def warm_up() -> None:
    """Load the compiled loops, as a long-running aggregator has them."""
    speed.load()
    with tempfile.TemporaryDirectory() as name:
        spec, folder = make_spec(2 * THREADS, 64), Path(name)  # enough files to fill all lanes
        make_updates(spec, folder)
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
            make_updates(make_spec(*SIDES[size]), Path(name))
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
        "targets": targets(rows, fastest),
    }


def compare(size: int, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Run every system `rounds` times in turn, so that a busy spell does not hit one alone."""
    runs: dict[str, list[dict[str, Any]]] = {system: [] for system in SYSTEMS}
    shape = [str(number) for number in (*SIDES[size], REPEATS)]
    for _ in range(rounds):
        for system in SYSTEMS:
            runs[system].append(in_a_process("--child", system, str(folder), *shape))
    rows = [summary(size, system, found) for system, found in runs.items()]
    assert len({row["root"] for row in rows if row["root"]}) == 1, "the modes disagree"
    for row in rows:
        print(
            f"{size:4d} MB  {row['system']:24s} {row['input_mb_per_s']:8.0f} MB/s "
            f"{row['peak_bytes'] / 1e6:8.1f} MB peak",
            file=sys.stderr,
        )
    return rows


def summary(size: int, system: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = [value for run in runs for value in run["seconds"]]
    input_bytes = PARTICIPANTS * make_spec(*SIDES[size]).total_bytes
    return {
        "mb_a_participant": size,
        "system": system,
        "input_bytes": input_bytes,
        "seconds": min(seconds),
        "median_seconds": statistics.median(seconds),
        "all_seconds": seconds,
        "cpu_seconds": min(value for run in runs for value in run["cpu_seconds"]),
        "input_mb_per_s": input_bytes / min(seconds) / 1e6,
        "peak_bytes": max(run["peak_bytes"] for run in runs),
        "root": runs[-1]["root"],
    }


def targets(rows: list[dict[str, Any]], rates: dict[str, float]) -> list[dict[str, Any]]:
    """Return what was to reach and what was reached, for every size."""
    found = []
    for size in sorted({row["mb_a_participant"] for row in rows}):
        by = {row["system"]: row for row in rows if row["mb_a_participant"] == size}
        mbs = {system: row["input_mb_per_s"] for system, row in by.items()}
        alone, verified = mbs["ours, average alone"], mbs["ours, verified"]
        # Each byte of the updates and of the mean goes into its file's digest and into its leaf's.
        hashlib_bound = rates["sha256"] / (2 * (1 + 1 / PARTICIPANTS))
        found.append(
            {
                "mb_a_participant": size,
                "times_flower_without_verification": alone / mbs["Flower FedAvg"],
                "times_flower_verified": verified / mbs["Flower FedAvg"],
                "memory_of_flowers": by["ours, verified"]["peak_bytes"]
                / by["Flower FedAvg"]["peak_bytes"],
                "of_copy_bandwidth": alone * (1 + 1 / PARTICIPANTS) / rates["copy"],
                "verification_of_sha256_rate": 2
                * mbs["ours, verification alone"]
                / rates["sha256"],
                "hashlib_bound_mb_per_s": hashlib_bound,
                "verified_of_hashlib_bound": verified / hashlib_bound,
                "flower_of_hashlib_bound": mbs["Flower FedAvg"] / hashlib_bound,
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="4,100,400", help="MB a participant, of 4, 100, 400")
    parser.add_argument("--scratch", type=Path, help="where the updates are written: 3.6 GB")
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
    if free < max(sizes) * 1e6 * (PARTICIPANTS + 2):
        sys.exit(f"too little disk: {free:,} bytes free")
    result = run_all(sizes, options.scratch, options.rounds)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["targets"], indent=2))


if __name__ == "__main__":
    main()
