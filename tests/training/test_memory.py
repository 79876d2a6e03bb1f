"""The formula beside what autograd really keeps, on the tiny model."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from protocol.errors import Misconfigured
from tests.training.conftest import lora, make_spec, quantization, settings
from training import memory
from training.memory import check_room, estimate_memory, free_memory
from training.model import attach_lora, load_base
from training.sources import ModelSource

BATCH, LENGTH = 4, 256
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.mark.parametrize("targets", [("q_proj",), ALL[:4], ALL])
@pytest.mark.parametrize("kind", ["none", "nf4", "int8", "bf16"])
def test_activations_are_what_autograd_keeps(
    tiny: ModelSource, kind: str, targets: tuple[str, ...]
) -> None:
    adapter = lora(targets=targets)
    model = attach_lora(load_base(tiny.folder, quantization(kind)), adapter, seed=1)
    step = settings(batch_size=BATCH, sequence_length=LENGTH)
    estimate = estimate_memory(tiny.folder, quantization(kind), adapter, step)
    assert 0.95 < estimate.activations / kept_by_autograd(model) < 1.2
    held = model.get_memory_footprint() - 4 * sum(
        each.numel() for each in model.parameters() if each.requires_grad
    )
    assert 0.95 < estimate.weights / held < 1.1
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    assert estimate.adapter == 16 * trained


def test_checkpointing_keeps_one_layer_and_the_inputs_of_the_others(tiny: ModelSource) -> None:
    plain, saving = (
        estimate_memory(
            tiny.folder,
            quantization("nf4"),
            lora(),
            settings(batch_size=BATCH, sequence_length=LENGTH, gradient_checkpointing=on),
        )
        for on in (False, True)
    )
    inputs = 2 * BATCH * LENGTH * 128 * 4
    assert saving.activations == plain.activations // 2 + inputs
    assert saving.total < plain.total


def test_too_little_memory_is_one_line(tiny: ModelSource, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(tiny, adapter=lora(mode="ffa", targets=("q_proj",)))
    needed = check_room(tiny.folder, spec).total
    monkeypatch.setattr(memory, "free_memory", lambda: needed - 1)
    with pytest.raises(Misconfigured, match=r"needs about 0\.0 GiB .* nf4$") as caught:
        check_room(tiny.folder, spec)
    assert "\n" not in str(caught.value)


def test_free_memory_is_a_plausible_number() -> None:
    assert 2**26 < free_memory() < 2**44


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU's memory counts where there is one")
def test_free_memory_stays_within_the_containers_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert free_memory() > 2**26  # not in a container: no such files
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() > 2**26
    (tmp_path / "memory.max").write_text("10000\n")
    assert free_memory() == 7000


def kept_by_autograd(model: PeftModel) -> int:
    """Bytes of the tensors that the forward pass keeps for the backward pass, logits apart."""
    kept: dict[int, int] = {}
    parameters = {each.data_ptr() for each in model.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters and model.config.vocab_size not in tensor.shape:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(0, 250, (BATCH, LENGTH))
    model.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = model(input_ids=ids, labels=ids, use_cache=False)
    assert output.loss.requires_grad  # the graph, and with it the tensors, still lives
    return sum(kept.values())
