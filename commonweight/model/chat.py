"""Ask a fine-tuned model, and the base model beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from commonweight.model.adapters import Place, federated_adapter
from protocol.errors import Misconfigured
from runtime.home import cache_folder


class Ask(Protocol):
    """Answers `question` in at most `tokens`; `on_text` is called with each piece of the answer."""

    def __call__(
        self, question: str, tokens: int, on_text: Callable[[str], None] | None = None, /
    ) -> str:
        """Return the answer."""


@dataclass(frozen=True)
class Chat:
    """A fine-tuned model to ask, and the base model beside it.

    Each question stands by itself, like the examples that such a model is trained on.
    """

    name: str
    fine_tuned: Ask
    base: Ask


def open_chat(adapter: str | None, place: Place) -> Chat:
    """Return the chat with an adapter by its CID or peft folder; None: the current model."""
    # A wrong CID or endpoint is reported before torch, an optional extra, is imported: that takes
    # seconds, and an install without it can still find the mistake.
    if adapter is None or not Path(adapter).is_dir():
        if adapter is not None and not adapter.startswith("bafk"):
            raise Misconfigured(f"no adapter {adapter!r}: it is no folder, and no CID (bafk…)")
        found = federated_adapter(adapter, place)
        from training.session import open_session

        session = open_session(found.spec, place.base_source(), cache_folder())
        return Chat(
            found.name, partial(session.answer, found.layers), partial(session.answer, None)
        )

    from training.chat import answer, base_answer
    from training.export import check_base, load_adapter_folder
    from training.sources import resolve_source

    # A peft folder names its base model by hub name; the copy on this machine is used instead.
    source = resolve_source(place.base_source(), cache_folder())
    check_base(Path(adapter), source)
    model, tokenizer, template = load_adapter_folder(source.folder, Path(adapter))
    return Chat(
        str(Path(adapter)),
        lambda asked, most, on_text=None: answer(model, tokenizer, asked, most, template, on_text),
        lambda asked, most, on_text=None: base_answer(
            model, tokenizer, asked, most, template, on_text
        ),
    )
