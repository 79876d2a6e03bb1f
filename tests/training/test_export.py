from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from protocol.errors import Misconfigured
from tests.training.conftest import EXAMPLES, BuildModel, lora, settings
from training.adapter import adapter_layers, read_adapter
from training.export import describe_layers, initial_adapter, save_adapter_folder
from training.sources import ModelSource
from training.train import train


@pytest.mark.parametrize("mode", ["fedit", "ffa"])
def test_layers_and_first_adapter_need_no_weights(
    build_model: BuildModel, tiny: ModelSource, mode: str
) -> None:
    model = build_model("nf4", mode)
    assert describe_layers(tiny.folder, lora(mode=mode)) == adapter_layers(model)
    first = initial_adapter(tiny.folder, lora(mode=mode), seed=1)
    loaded = read_adapter(model)
    assert list(first) == list(loaded)
    for name, array in first.items():
        assert (array == loaded[name]).all()


@pytest.mark.parametrize("mode", ["fedit", "ffa"])
def test_plain_peft_loads_an_exported_adapter(
    build_model: BuildModel,
    tokenizer: PreTrainedTokenizerBase,
    tiny: ModelSource,
    tmp_path: Path,
    mode: str,
) -> None:
    model = build_model("none", mode)
    train(model, tokenizer, EXAMPLES, settings())
    folder = tmp_path / "adapter"
    save(read_adapter(model), folder, tiny, mode)
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny.folder), folder)
    assert plain.peft_config["default"].base_model_name_or_path == "tiny-llama"
    ids = torch.arange(30)[None]
    with torch.no_grad():
        expected = model.eval()(ids).logits
        assert torch.equal(plain(ids).logits, expected)
        with plain.disable_adapter():
            assert not torch.equal(plain(ids).logits, expected)
    names = set(load_file(folder / "adapter_model.safetensors"))
    assert len(names) == (1 if mode == "fedit" else 2) * len(adapter_layers(model))


def test_an_adapter_for_another_model_is_refused(
    build_model: BuildModel, tiny: ModelSource, tmp_path: Path
) -> None:
    arrays = read_adapter(build_model())
    name = next(iter(arrays))
    arrays[name] = np.zeros((1, 1), dtype=np.float32)
    with pytest.raises(Misconfigured, match="has shape"):
        save(arrays, tmp_path / "adapter", tiny, "fedit")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept(
    build_model: BuildModel, tiny: ModelSource, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match="exists: choose another place"):
        save(read_adapter(build_model()), tmp_path, tiny, "fedit")
    assert list(tmp_path.iterdir()) == []


def save(arrays: dict[str, np.ndarray], folder: Path, source: ModelSource, mode: str) -> None:
    save_adapter_folder(
        arrays, folder, base=source.folder, base_name=source.name, lora=lora(mode=mode), seed=1
    )
