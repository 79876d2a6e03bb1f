"""Configuration and tokenizer of a base model, copied so that transformers 4 and 5 read them alike.

Transformers 5 writes some facts under other names than transformers 4 reads, which then goes on
with defaults: a model with another `rope_theta` computes something else. The old names are added.
Everything that already has them is copied unchanged.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Final

from training.identity import TOKENIZER_FILES

_NEW_CLASS: Final = "TokenizersBackend"  # transformers 5 writes it for any tokenizer.json
_OLD_CLASS: Final = "PreTrainedTokenizerFast"
_OF_ONE_LOAD: Final = ("backend", "is_local", "local_files_only")  # how it was loaded, not what


def copy_config(base: Path, target: Path, dtype: str) -> None:
    """Write config.json of `base`, for weights of `dtype`, and its generation_config.json."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    _write(target / "config.json", with_old_names({**config, "dtype": dtype, "torch_dtype": dtype}))
    generation = "generation_config.json"
    (target / generation).unlink(missing_ok=True)  # transformers makes one up
    if (base / generation).is_file():
        shutil.copyfile(base / generation, target / generation)


def with_old_names(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with what transformers 4 reads of rotary embeddings."""
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or "rope_theta" in config or "rope_theta" not in rope:
        return config
    added: dict[str, Any] = {"rope_theta": rope["rope_theta"]}
    if rope.get("rope_type", "default") != "default" and "rope_scaling" not in config:
        added["rope_scaling"] = {key: rope[key] for key in rope if key != "rope_theta"}
    return {**config, **added}


def copy_tokenizer(base: Path, target: Path) -> None:
    """Copy the files of the tokenizer and its chat template from the folder `base`."""
    for name in (*TOKENIZER_FILES, "chat_template.jinja"):
        if (base / name).is_file():
            shutil.copyfile(base / name, target / name)
    _name_old_class(target)


def make_portable(folder: Path) -> None:
    """Add the old names to a folder that transformers 5 wrote."""
    file = folder / "config.json"
    _write(file, with_old_names(json.loads(file.read_text(encoding="utf-8"))))
    _name_old_class(folder)


def _name_old_class(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if config.get("tokenizer_class") == _NEW_CLASS:
        kept = {key: value for key, value in config.items() if key not in _OF_ONE_LOAD}
        _write(file, {**kept, "tokenizer_class": _OLD_CLASS})


def _write(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
