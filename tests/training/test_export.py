from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from protocol.errors import Misconfigured
from tests.training.conftest import EXAMPLES, BuildModel, lora, make_spec, settings
from training import memory
from training.adapter import adapter_layers, read_adapter
from training.export import (
    describe_layers,
    initial_adapter,
    load_adapter_folder,
    save_adapter_folder,
    save_merged,
)
from training.model import load_tokenizer
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


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 2e-2)])
def test_plain_transformers_loads_a_merged_model(
    build_model: BuildModel,
    tokenizer: PreTrainedTokenizerBase,
    tiny: ModelSource,
    tmp_path: Path,
    precision: Literal["fp16", "fp32"],
    tolerance: float,
) -> None:
    model = build_model("none", "ffa")
    train(model, tokenizer, EXAMPLES, settings())
    spec = make_spec(tiny, adapter=lora(mode="ffa"), seed=1)
    folder = tmp_path / "merged"
    save_merged(read_adapter(model), folder, base=tiny.folder, spec=spec, precision=precision)
    plain = AutoModelForCausalLM.from_pretrained(folder)
    assert plain.dtype == (torch.float16 if precision == "fp16" else torch.float32)
    ids = torch.arange(30)[None]
    with torch.no_grad():
        expected = model.eval()(ids).logits
        assert torch.allclose(plain.float()(ids).logits, expected, atol=tolerance)
        with model.disable_adapter():
            assert not torch.allclose(model(ids).logits, expected, atol=0.1)
    assert load_tokenizer(folder).chat_template == tokenizer.chat_template


def test_merging_is_refused_where_memory_is_short(
    build_model: BuildModel, tiny: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = read_adapter(build_model("none", "ffa"))
    monkeypatch.setattr(memory, "free_memory", lambda: 1 << 20)
    spec = make_spec(tiny, adapter=lora(mode="ffa"))
    with pytest.raises(Misconfigured, match="as float32 and 0"):
        save_merged(arrays, tmp_path / "merged", base=tiny.folder, spec=spec, precision="fp32")


def test_an_exported_folder_is_loaded_with_its_template(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase, tiny: ModelSource, tmp_path: Path
) -> None:
    model = build_model()
    train(model, tokenizer, EXAMPLES, settings())
    folder = tmp_path / "adapter"
    save_adapter_folder(
        read_adapter(model),
        folder,
        base=tiny.folder,
        base_name="x",
        adapter=lora(),
        seed=1,
        template="vicuna",
    )
    loaded, _, template = load_adapter_folder(tiny.folder, folder)
    assert template == "vicuna"
    found = load_file(folder / "adapter_model.safetensors")
    assert all((found[name] == array).all() for name, array in read_adapter(model).items())
    ids = torch.arange(30)[None]
    with torch.no_grad():
        assert torch.equal(loaded.eval()(ids).logits, model.eval()(ids).logits)
    (folder / "template.txt").write_text("zephyr")
    with pytest.raises(Misconfigured, match="unknown template 'zephyr'"):
        load_adapter_folder(tiny.folder, folder)
    (folder / "adapter_config.json").unlink()
    (folder / "template.txt").unlink()
    with pytest.raises(Misconfigured, match="no peft adapter for this model"):
        load_adapter_folder(tiny.folder, folder)


def save(arrays: dict[str, np.ndarray], folder: Path, source: ModelSource, mode: str) -> None:
    save_adapter_folder(
        arrays, folder, base=source.folder, base_name=source.name, adapter=lora(mode=mode), seed=1
    )
