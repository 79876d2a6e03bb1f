"""Asking a fine-tuned model, and the base model beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from commonweight.model.adapters import Place, federated_adapter
from runtime.home import cache_folder


@dataclass(frozen=True)
class Chat:
    """A model to ask: `ask(question, tokens)` returns (fine-tuned answer, base model's answer).

    Each question stands by itself, as the examples do that such a model is trained on.
    """

    name: str
    ask: Callable[[str, int], tuple[str, str]]


def open_chat(adapter: str | None, place: Place) -> Chat:
    """Return the chat with an adapter by its CID or peft folder; None: the current model."""
    if adapter is not None and Path(adapter).is_dir():
        return _open_folder(Path(adapter), place)
    found = federated_adapter(adapter, place)
    # After what can go wrong without it: torch takes seconds to import.
    from training.session import open_session

    session = open_session(found.spec, place.base_source(), cache_folder())
    return Chat(found.name, lambda question, tokens: session.answer(found.layers, question, tokens))


def _open_folder(adapter: Path, place: Place) -> Chat:
    from training.chat import answer, base_answer
    from training.export import load_adapter_folder
    from training.sources import resolve_source

    source = resolve_source(place.base_source(), cache_folder())
    model, tokenizer, template = load_adapter_folder(source.folder, adapter)

    def ask(question: str, tokens: int) -> tuple[str, str]:
        asked = (model, tokenizer, question, tokens, template)
        return answer(*asked), base_answer(*asked)

    return Chat(str(adapter), ask)
