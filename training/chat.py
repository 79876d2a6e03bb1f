"""Asking a model: what it says with the adapter, and what the base model said."""

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.model import inference
from training.quiet import quiet
from training.templates import Template, prompt_text


def answer(
    model: PeftModel | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    max_new_tokens: int = 64,
    template: Template = "chat",
) -> str:
    """Return the most likely answer, token by token, so the same each time."""
    prompt = tokenizer(
        prompt_text(tokenizer, question, template), add_special_tokens=False, return_tensors="pt"
    ).to(model.device)
    with quiet(), inference(model):
        output = model.generate(
            **prompt,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=tokenizer.pad_token_id,
        )
    new_tokens = output[0, prompt["input_ids"].shape[1] :]
    text: str = tokenizer.decode(new_tokens, skip_special_tokens=True)
    return text.strip()


def base_answer(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    max_new_tokens: int = 64,
    template: Template = "chat",
) -> str:
    """Return what `answer` would without the adapter; the adapter is back afterwards."""
    with model.disable_adapter():
        return answer(model, tokenizer, question, max_new_tokens, template)
