"""A tiny model, a handful of cards, and one thread: training tests take seconds."""

from collections.abc import Callable

import pytest
import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from protocol.spec import Adapter, Encoding, Layer, Quantization, Screening, Spec, Training
from training.examples import Example
from training.export import describe_layers
from training.model import attach_lora, load_base, load_tokenizer
from training.sources import ModelSource, describe_source, resolve_source

BuildModel = Callable[..., PeftModel]

EXAMPLES = [
    Example(f"What is {number} and {number}?", f"It is {number + number}, twice {number}.")
    for number in range(12)
]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return resolve_source("tiny-llama", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tokenizer(tiny: ModelSource) -> PreTrainedTokenizerBase:
    return load_tokenizer(tiny.folder)


@pytest.fixture(scope="session")
def build_model(tiny: ModelSource) -> BuildModel:
    def build(kind: str = "none", mode: str = "fedit", dropout: float = 0.0) -> PeftModel:
        base = load_base(tiny.folder, quantization(kind))
        return attach_lora(base, lora(mode=mode, dropout=dropout), seed=1)

    return build


def quantization(kind: str = "none") -> Quantization:
    return Quantization.model_validate(
        {"kind": kind, "double_quantization": True, "compute_dtype": "float32"}
    )


def lora(*, mode: str = "fedit", dropout: float = 0.0, targets: tuple[str, ...] = ()) -> Adapter:
    return Adapter.model_validate(
        {
            "rank": 4,
            "alpha": 8,
            "dropout": dropout,
            "targets": targets or ("q_proj", "k_proj", "v_proj", "o_proj"),
            "mode": mode,
        }
    )


def settings(**changes: object) -> Training:
    values: dict[str, object] = {
        "learning_rate": 0.01,
        "batch_size": 4,
        "steps": 4,
        "sequence_length": 128,
        "scheduler": "constant",
        "warmup_steps": 0,
        "seed": 3,
    }
    return Training.model_validate(values | changes)


def make_spec(
    source: ModelSource,
    *,
    adapter: Adapter | None = None,
    grid: int = 11,
    every: int = 0,
    **changes: object,
) -> Spec:
    """Return a spec of the tiny model; `changes` are those of its training settings."""
    adapter = adapter or lora()
    layers = describe_layers(source.folder, adapter)
    return Spec(
        base_model=describe_source(source),
        quantization=quantization(),
        adapter=adapter,
        encoding=Encoding(grid_bits=grid, grid_every=every),
        layers=tuple(Layer(name=name, shape=shape) for name, shape in layers),
        training=settings(**changes),
        evaluation_digest=64 * "0",
        screening=Screening(min_norm=1),
        libraries={},
    )


@pytest.fixture(scope="session")
def tiny_folder(tiny: ModelSource) -> str:
    return str(tiny.folder)
