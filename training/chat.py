"""Answers of a model, with its adapter and without."""

from collections.abc import Sequence

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.examples import Example
from training.model import inference
from training.quiet import quiet
from training.templates import Template, encode, prompt_text


def answer(
    model: PeftModel | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    max_new_tokens: int = 64,
    template: Template = "chat",
) -> str:
    """Return the answer of greedy decoding: each token the most likely one."""
    return answers(model, tokenizer, [question], max_new_tokens, template)[0]


def answers(
    model: PeftModel | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    max_new_tokens: int = 64,
    template: Template = "chat",
) -> list[str]:
    """Return the answer to each question, generated in one batch.

    Padding changes the rounding, so that a near tie may differ from what `answer` returns.
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
) -> str:
    """Return the base model's answer; the adapter is only disabled meanwhile."""
    with model.disable_adapter():
        return answer(model, tokenizer, question, max_new_tokens, template)
