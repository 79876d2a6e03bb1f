"""Adapters of other programs in `model chat`: they load whole, or are refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from commonweight.model.adapters import Place
from commonweight.model.chat import open_chat
from protocol.errors import Misconfigured
from tests.cases.adapters import adapter, base
from training.export import check_base, load_adapter_folder
from training.sources import ModelSource, resolve_source

Tensors = dict[str, torch.Tensor]
IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return resolve_source("tiny-llama", tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},  # of a model whose head is tied to its embedding
        {"layer_replication": [[0, 2], [1, 2]]},
    ],
)
def test_what_peft_loads_answers_alike(
    tmp_path: Path, tiny: ModelSource, settings: dict[str, Any], recwarn: pytest.WarningsRecorder
) -> None:
    folder = adapter(tiny, tmp_path / "adapter", 1, **settings)
    recwarn.clear()
    loaded, _, _ = load_adapter_folder(tiny.folder, folder)
    assert [each for each in recwarn if "tie" in str(each.message)] == []
    plain = PeftModel.from_pretrained(base(tiny), folder)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(IDS).logits, plain.eval()(IDS).logits)
        assert not torch.equal(loaded(IDS).logits, base(tiny)(IDS).logits)


def renamed(tensors: Tensors) -> Tensors:
    """As torch.compile names them."""
    prefix = "base_model.model."
    return {n.replace(prefix, f"{prefix}_orig_mod.", 1): t for n, t in tensors.items()}


def halved(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if ".layers.0." in name}


def one_too_many(tensors: Tensors) -> Tensors:
    return {
        **tensors,
        "base_model.model.model.layers.9.mlp.up_proj.lora_A.weight": torch.ones(4, 4),
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (renamed, r"has a layer \S+_orig_mod\S+ that this model has no place for"),
        (halved, r"lacks layer \S+layers\.1\S+, which its configuration asks for"),
        (one_too_many, r"has a layer \S+layers\.9\S+ that this model has no place for"),
        (lambda tensors: {}, "lacks layer"),
    ],
)
def test_what_loads_nothing_or_half_is_refused(
    tmp_path: Path, tiny: ModelSource, change: Callable[[Tensors], Tensors], words: str
) -> None:
    folder = adapter(tiny, tmp_path / "adapter", 1)
    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)
    with pytest.raises(Misconfigured, match=words) as caught:
        open_chat(str(folder), Place(source=str(tiny.folder)))
    assert str(caught.value).isprintable()


def test_an_adapter_to_a_larger_model_is_refused(tmp_path: Path, tiny: ModelSource) -> None:
    folder = adapter(tiny, tmp_path / "adapter", 1)
    file = folder / "adapter_model.safetensors"
    save_file({name: torch.cat([t, t], 1) for name, t in load_file(file).items()}, file)
    with pytest.raises(Misconfigured, match=r"is no peft adapter for this model: .*size mismatch"):
        load_adapter_folder(tiny.folder, folder)


@pytest.mark.parametrize(
    ("named", "is_refused"),
    [("other/model", True), ("owner/model", False), ("/home/ann/model", False), (None, False)],
)
def test_an_adapter_to_another_model_of_the_hub_is_refused(
    tmp_path: Path, tiny: ModelSource, named: str | None, is_refused: bool
) -> None:
    config = {"base_model_name_or_path": named}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    source = ModelSource("owner/model", "c0ffee", tiny.folder, tiny.folder)
    if not is_refused:
        check_base(tmp_path, source)
        return
    with pytest.raises(Misconfigured, match=r"is an adapter to other/model, and"):
        check_base(tmp_path, source)
