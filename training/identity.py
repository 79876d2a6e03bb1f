"""The digests that identify a base model in the spec: always those of its source files.

Quantised weights are never hashed: their bytes depend on the compute dtype and on the processor.
Several files are identified by the SHA-256 of what `sha256sum FILES` prints with the files sorted
by name, so that anyone can check one by hand: `sha256sum config.json *.safetensors | sha256sum`.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from protocol.errors import Misconfigured
from protocol.spec import BaseModelIdentity

TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


def folder_identity(
    folder: Path, name: str, revision: str, *, needs_chat: bool = True
) -> BaseModelIdentity:
    """Return the identity of a model in transformers' folder layout.

    `weights_digest` covers config.json and every .safetensors file (without any, every
    pytorch_model*.bin), `tokenizer_digest` the TOKENIZER_FILES that exist, `chat_template_digest`
    the template's text as UTF-8. Raises Misconfigured when weights or tokenizer are missing, or the
    chat template while `needs_chat`; otherwise a missing template counts as an empty text.
    """
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    config = folder / "config.json"
    if not config.is_file() or not weights:
        raise Misconfigured(
            f"{folder} is not a model: expected config.json and *.safetensors in it"
        )
    # The names that transformers' tokenizers use: any other file (a README) is free to change.
    tokenizer = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not tokenizer:
        raise Misconfigured(f"{folder} has no tokenizer: expected tokenizer.json in it")
    try:
        template = read_chat_template(folder)
    except Misconfigured:
        if needs_chat:
            raise
        template = ""
    return BaseModelIdentity(
        name=name,
        revision=revision,
        weights_digest=files_digest([config, *weights]),
        tokenizer_digest=files_digest(tokenizer),
        chat_template_digest=hashlib.sha256(template.encode()).hexdigest(),
    )


def files_digest(paths: Iterable[Path]) -> str:
    """Return the hex SHA-256 of the lines `<hex sha256>  <file name>`, sorted by file name."""
    listing = "".join(
        f"{file_digest(path)}  {path.name}\n" for path in sorted(paths, key=lambda path: path.name)
    )
    return hashlib.sha256(listing.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the hex SHA-256 of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_chat_template(folder: Path) -> str:
    """Return the chat template of a model folder; raise Misconfigured when there is none."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    # Models saved before transformers gave the template a file of its own have it in here.
    config = folder / "tokenizer_config.json"
    settings = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    template = settings.get("chat_template")
    if isinstance(template, list):  # older files name several; the one in use is "default"
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("default")
    if not isinstance(template, str):
        raise Misconfigured(
            f"{folder} has no chat template: set template to vicuna or alpaca, or choose an "
            "instruction-tuned model"
        )
    return template
