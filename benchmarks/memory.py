"""Peak memory of verifying and averaging against the size of the model; it should be a flat line.

    python -m benchmarks.memory                 (up to 3 billion values, two participants)

A participant sends one byte a value; the model, before and after, has four. Layer files are sparse,
so they take no disk, but every byte of them is read, hashed and averaged; the new model is written
in full and hashed again. Each size runs in a process of its own and its files are deleted. The last
part is Llama-3.1-70B with every weight: one of its 80 decoder layers runs for real, and the whole
is extrapolated from it and marked so. Writes results/memory.json and .png.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import aggregation
from benchmarks.files import spec_of, square_spec
from protocol.encoding import value_type
from rounds.average import average_layers
from storage.digests import block_digests, examine
from storage.layers import LayerFolder

RESULTS: Final = Path(__file__).parent / "results"
PARTICIPANTS: Final = 2
# Million values: layers, their side.
SIZES: Final = {2: (16, 400), 25: (24, 1024), 250: (60, 2048), 3000: (45, 8192)}
LLAMA_LAYER: Final = 856  # million values
MODEL_BYTES: Final = value_type("model").itemsize

Layers = list[tuple[str, tuple[int, ...]]]


def llama_decoder_layer() -> Layers:
    """One decoder layer of Llama-3.1-70B: hidden 8192, 64 heads, 8 key-value heads, 28672 wide."""
    hidden, wide, heads, kv_heads = 8192, 28672, 64, 8
    kv = hidden // heads * kv_heads
    return [
        ("input_layernorm", (hidden,)),
        ("mlp.down_proj", (hidden, wide)),
        ("mlp.gate_proj", (wide, hidden)),
        ("mlp.up_proj", (wide, hidden)),
        ("post_attention_layernorm", (hidden,)),
        ("self_attn.k_proj", (kv, hidden)),
        ("self_attn.o_proj", (hidden, hidden)),
        ("self_attn.q_proj", (hidden, hidden)),
        ("self_attn.v_proj", (kv, hidden)),
    ]


def llama_70b() -> Layers:
    """Every tensor of Llama-3.1-70B: 80 such layers, embedding and head of 128,256 tokens."""
    layers = [
        (f"model.layers.{i}.{name}", shape)
        for i in range(80)
        for name, shape in llama_decoder_layer()
    ]
    ends = {"model.embed_tokens": (128_256, 8192), "lm_head": (128_256, 8192)}
    return [*layers, *ends.items(), ("model.norm", (8192,))]


def measure(layers: Layers, scratch: Path) -> dict[str, Any]:
    """Verify two sparse updates, move a sparse model by their mean, hash the new one's blocks."""
    spec = spec_of(layers)
    aggregation.warm_up()
    before = LayerFolder(scratch / "before", "model")
    updates = [LayerFolder(scratch / f"update{i}", "update") for i in range(PARTICIPANTS)]
    for folder in (before, *updates):
        folder.path.mkdir()
        for index, path in enumerate(folder.paths(spec)):
            with path.open("wb") as file:
                file.truncate(spec.layer_bytes(index, folder.kind))
    aggregation.mark_baseline()
    start = time.perf_counter()
    examine(spec, "update", [u.paths(spec) for u in updates], aggregation.THREADS)
    verified = time.perf_counter()
    target = LayerFolder(scratch / "after", "model")
    round_of = (before, updates, [1, 2], target, aggregation.ROUND)
    average_layers(spec, *round_of, aggregation.THREADS)
    averaged = time.perf_counter()
    block_digests(target.paths(spec), aggregation.THREADS)
    return {
        "values": sum(prod(shape) for _, shape in layers),
        "update_bytes": spec.total_bytes("update"),
        "model_bytes": spec.total_bytes("model"),
        "verify_seconds": verified - start,
        "average_seconds": averaged - verified,
        "rehash_seconds": time.perf_counter() - averaged,
        "peak_bytes": aggregation.memory_above_baseline(),
    }


def in_a_process(which: str, scratch: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=scratch, prefix="commonweight-bench-") as folder:
        command = [sys.executable, "-m", "benchmarks.memory", "--child", which, folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{which:>6s}: {row['values'] / 1e6:,.0f} million values, peak "
        f"{row['peak_bytes'] / 1e6:.1f} MB, {_seconds(row):.1f} s",
        file=sys.stderr,
    )
    return row


def _seconds(row: dict[str, Any]) -> float:
    total: float = row["verify_seconds"] + row["average_seconds"] + row["rehash_seconds"]
    return total


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    sizes = [row["values"] / 1e6 for row in rows]
    axes.plot(sizes, [row["peak_bytes"] / 1e6 for row in rows], "o-")
    axes.set(xscale="log", xlabel="million values", ylabel="peak memory above start, MB")
    axes.set_ylim(bottom=0)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--up-to", type=int, default=3000, help="largest size, million values")
    parser.add_argument("--scratch", type=Path, help="where files are written: the largest model")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        which, folder = options.child
        spec = square_spec(*SIZES[int(which)]) if which.isdigit() else None
        layers = [(e.name, e.shape) for e in spec.layers] if spec else llama_decoder_layer()
        print(json.dumps(measure(layers, Path(folder))))
        return
    needed = 1.1e6 * MODEL_BYTES * max(options.up_to, LLAMA_LAYER)
    free = shutil.disk_usage(options.scratch or tempfile.gettempdir()).free
    if free < needed:
        sys.exit(f"too little disk: {needed:,.0f} bytes are needed, {free:,} are free")
    rows = [in_a_process(str(s), options.scratch) for s in SIZES if s <= options.up_to]
    part = in_a_process("llama", options.scratch)
    result = results_of(rows, part)
    (RESULTS / "memory.json").write_text(json.dumps(result, indent=2) + "\n")
    plot(rows, RESULTS / "memory.png")
    slope = result["slope_bytes_of_memory_a_value"]
    print(json.dumps({"slope": slope, "llama": result["llama_3_1_70b"]}, indent=2))


def results_of(rows: list[dict[str, Any]], part: dict[str, Any]) -> dict[str, Any]:
    """Return everything measured, with what the `part` of Llama-3.1-70B says of the whole."""
    whole = sum(prod(shape) for _, shape in llama_70b())
    times = whole / part["values"]
    sizes, peaks = [row["values"] for row in rows], [row["peak_bytes"] for row in rows]
    return {
        "command": "python -m benchmarks.memory",
        "participants": PARTICIPANTS,
        "results": rows,
        "slope_bytes_of_memory_a_value": float(np.polyfit(sizes, peaks, 1)[0]),
        "llama_3_1_70b": {
            "parameters": whole,
            "tensors": len(llama_70b()),
            "update_bytes": whole,
            "model_bytes": MODEL_BYTES * whole,
            "one_decoder_layer_measured": part,
            "whole_extrapolated": {"seconds": _seconds(part) * times, "from_times": times},
        },
    }


if __name__ == "__main__":
    main()
