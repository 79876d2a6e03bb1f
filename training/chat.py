"""Answers of a model, with its adapter and without."""

from collections.abc import Callable, Sequence

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TextStreamer

from training.examples import Example
from training.model import inference
from training.quiet import quiet
from training.templates import Template, encode, prompt_text

OnText = Callable[[str], None]


def answer(
    model: PeftModel | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    max_new_tokens: int = 64,
    template: Template = "chat",
    on_text: OnText | None = None,
) -> str:
    """Return the answer of greedy decoding: each token the most likely one.

    `on_text` is called with every piece of it as it is made.
    """
    return answers(model, tokenizer, [question], max_new_tokens, template, on_text)[0]


def answers(
    model: PeftModel | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    max_new_tokens: int = 64,
    template: Template = "chat",
    on_text: OnText | None = None,
) -> list[str]:
    """Return the answer to each question, generated in one batch.

    Padding changes the rounding, so that a near tie may differ from what `answer` returns.
    `on_text`, of one question only, is called with every piece of the answer as it is made.
    """
    asked = [Example(question, "") for question in questions]
    ids = [encode(tokenizer, prompt_text(tokenizer, each, template)) for each in asked]
    # Padded on the left, since generation continues each row at its right end.
    encoded = tokenizer.pad(
        {"input_ids": ids}, padding=True, padding_side="left", return_tensors="pt"
    ).to(model.device)
    with quiet(), inference(model):
        output = model.generate(
            **encoded,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=tokenizer.pad_token_id,
            streamer=None if on_text is None else _Streamer(tokenizer, on_text),
        )
    # generate returns the prompts too.
    written = output[:, encoded["input_ids"].shape[1] :]
    texts: list[str] = tokenizer.batch_decode(written, skip_special_tokens=True)
    return [text.strip() for text in texts]


def base_answer(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    max_new_tokens: int = 64,
    template: Template = "chat",
    on_text: OnText | None = None,
) -> str:
    """Return the base model's answer; the adapter is only disabled meanwhile."""
    with model.disable_adapter():
        return answer(model, tokenizer, question, max_new_tokens, template, on_text)


class _Streamer(TextStreamer):  # type: ignore[misc]
    """Passes on what is generated word by word, since a token may be part of a character."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, on_text: OnText) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._on_text = on_text

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Pass on the next words."""
        if text:
            self._on_text(text)
