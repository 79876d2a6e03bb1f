"""Base models as people have them: the tiny Llama's folder with something else in it."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def copied(tiny: Path, folder: Path) -> Path:
    """Return a copy of the tiny Llama, for a test to change."""
    shutil.copytree(tiny, folder)
    return folder


def configured(folder: Path, file: str = "config.json", **changes: Any) -> Path:
    """Change some keys of one of the folder's JSON files."""
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def with_template(folder: Path, template: str) -> Path:
    (folder / "chat_template.jinja").write_text(template)
    return folder


def with_token(folder: Path, token: str, number: int) -> Path:
    """Add a special token to the tokenizer alone, without a row in the embedding."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["added_tokens"].append(
        {**tokenizer["added_tokens"][0], "id": number, "content": token}
    )
    path.write_text(json.dumps(tokenizer))
    return folder


def without_file(folder: Path, name: str) -> Path:
    (folder / name).unlink()
    return folder


def cut(folder: Path) -> Path:
    """Leave the second half of the weights away."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return folder


def without_weight(folder: Path, name: str) -> Path:
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights[name]
    save_file(weights, path, metadata={"format": "pt"})
    return folder


def sharded(folder: Path) -> Path:
    """Put the weights into two files and an index."""
    whole = folder / "model.safetensors"
    names, weights = sorted(load_file(whole)), load_file(whole)
    where = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for shard in set(where.values()):
        part = {name: weights[name] for name in names if where[name] == shard}
        save_file(part, folder / shard, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 0}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    whole.unlink()
    return folder


def of_family(family: str, tiny: Path, folder: Path, **settings: Any) -> Path:
    """Return a random model of another architecture, with the tiny Llama's tokenizer."""
    torch.manual_seed(7)
    config = AutoConfig.for_model(
        family, vocab_size=259, pad_token_id=256, bos_token_id=257, eos_token_id=258, **settings
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(tiny / name, folder / name)
    return folder
