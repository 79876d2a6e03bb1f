"""How a question and its answer are written for a model: the tokenizer's own chat form, or another.

A base model that was never taught a chat form has none in its tokenizer; the spec then names one:

    chat     the tokenizer's chat template
    vicuna   "USER: … ASSISTANT: …" after Vicuna's opening sentence (arXiv:2306.05685)
    alpaca   "### Instruction: … ### Response: …" (github.com/tatsu-lab/stanford_alpaca)
"""

from collections.abc import Callable
from typing import Final, Literal, get_args

from transformers import PreTrainedTokenizerBase

from protocol.errors import Misconfigured

Template = Literal["chat", "vicuna", "alpaca"]
TEMPLATES: Final[tuple[Template, ...]] = get_args(Template)

_VICUNA: Final = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: {} ASSISTANT:"
)
_ALPACA: Final = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{}\n\n### Response:\n"
)
_PROMPTS: Final = {"vicuna": _VICUNA, "alpaca": _ALPACA}
# What stands between prompt and answer belongs to the answer: models write their own space.
_JOINTS: Final = {"vicuna": " ", "alpaca": ""}


def prompt_text(
    tokenizer: PreTrainedTokenizerBase, question: str, template: Template = "chat"
) -> str:
    """Return the text up to where the answer begins, special tokens included."""
    if template == "chat":
        text: str = _chat(tokenizer)(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        return text
    # Not str.format on the question's side: braces in a question are its own.
    return _beginning(tokenizer) + _PROMPTS[template].format(question)


def answer_text(
    tokenizer: PreTrainedTokenizerBase, question: str, answer: str, template: Template = "chat"
) -> str:
    """Return what follows `prompt_text`: the answer and the token that ends it.

    Misconfigured when the chat template does not continue its own prompt.
    """
    if template != "chat":
        return _JOINTS[template] + answer.strip() + (tokenizer.eos_token or "")
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    whole: str = _chat(tokenizer)(messages, tokenize=False)
    prompt = prompt_text(tokenizer, question)
    if not whole.startswith(prompt):
        raise Misconfigured("this model's chat template does not continue its own prompt")
    # Line breaks after the end-of-turn token teach nothing and would only flatter the loss.
    return whole[len(prompt) :].rstrip()


def _chat(tokenizer: PreTrainedTokenizerBase) -> Callable[..., str]:
    apply: Callable[..., str] = tokenizer.apply_chat_template
    return apply


def _beginning(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the token that this tokenizer puts before every text, or nothing."""
    ids = tokenizer("a")["input_ids"]
    begins = tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]
    return str(tokenizer.bos_token) if begins else ""
