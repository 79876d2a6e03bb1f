"""GPU memory of FlowerTune's set-ups: the estimate, and on a machine with a GPU what it takes.

    python -m benchmarks.vram            (a GPU with 24 GB and 30 GB of disk, or the estimate alone)

The models have the real configurations of OpenLLaMA 3B v2 and 7B v2 and random weights: what they
say does not matter here. Rows are all of full length, so this is the most that training takes.
Beside it stands Flower's own table (examples/flowertune-llm, "VRAM consumption"), whose machine and
versions are not told. Results: benchmarks/results/vram.json.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks.common import RESULTS, write_results
from protocol.spec import Adapter, Quantization, Training
from sponsor.config import Config
from training.memory import estimate_memory
from training.model import attach_lora, load_base

CONFIGS: Final = Path(__file__).parents[1] / "configs"
# hidden, inner, layers; all have 32 heads, 32,000 tokens and 2,048 positions.
SHAPES: Final = {"3b": (3200, 8640, 26), "7b": (4096, 11008, 32)}
FLOWER_GB: Final = {"3b nf4": 10.6, "3b int8": 13.5, "7b nf4": 16.5, "7b int8": 22.0}
Kind = Literal["nf4", "int8"]
KINDS: Final[tuple[Kind, ...]] = ("nf4", "int8")


def main() -> None:
    """Estimate, and measure where there is a GPU; write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = {}
    for name in SHAPES:
        for kind in KINDS:
            rows[f"{name} {kind}"] = {"flower_gb": FLOWER_GB[f"{name} {kind}"], **row(name, kind)}
            print(json.dumps({f"{name} {kind}": rows[f"{name} {kind}"]}), flush=True)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    print(write_results(options.out, "vram", {"gpu": gpu, "rows": rows}))


def row(name: str, kind: Kind) -> dict[str, Any]:
    """Return the estimate in GB, and what was measured if this machine has a GPU."""
    hidden, inner, layers = SHAPES[name]
    shape = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=32,
        vocab_size=32_000,
        max_position_embeddings=2048,
    )
    config = Config.load(CONFIGS / f"flowertune-{name}.toml")
    quantization = config.quantization.model_copy(update={"kind": kind})
    training = Training(**config.training.model_dump(), seed=0)
    with tempfile.TemporaryDirectory() as folder:
        shape.save_pretrained(folder)
        found = estimate_memory(Path(folder), quantization, config.adapter, training)
        parts = {part: round(size / 1e9, 2) for part, size in asdict(found).items()}
        result: dict[str, Any] = {"estimate_gb": round(found.total / 1e9, 1), "parts_gb": parts}
        if torch.cuda.is_available():
            write_random_weights(shape, Path(folder))
            result |= measure(Path(folder), quantization, config.adapter, training)
    return result


def write_random_weights(shape: LlamaConfig, folder: Path) -> None:
    """Write a bfloat16 model of this configuration; its norm keeps values in range."""
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    del model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def measure(
    folder: Path, quantization: Quantization, adapter: Adapter, training: Training
) -> dict[str, float]:
    """Return tokens a second of steps on full rows, and on a GPU its peak memory in GB."""
    base = load_base(folder, quantization, gradient_checkpointing=training.gradient_checkpointing)
    model = attach_lora(base, adapter, seed=0).train()
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=training.learning_rate)
    size = (training.batch_size, training.sequence_length)
    rows = torch.randint(0, model.config.vocab_size, size, device=model.device)
    for step in range(training.steps):
        if step == 1:  # the first one warms up
            started = time.perf_counter()
        model(input_ids=rows, labels=rows).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    found = {"tokens_a_second": (training.steps - 1) * rows.numel() / seconds}
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_reserved()
        free, total = torch.cuda.mem_get_info()
        # What the driver and other programs take beside torch's reserve counts too.
        beside = total - free - torch.cuda.memory_reserved()
        found |= {"peak_gb": (peak + beside) / 1e9, "allocated_gb": _allocated() / 1e9}
        torch.cuda.reset_peak_memory_stats()
    return found


def _allocated() -> int:
    return int(torch.cuda.max_memory_allocated())


if __name__ == "__main__":
    main()
