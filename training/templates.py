"""Prompt templates: the form in which a model reads a question and writes its answer.

A base model that was not trained to chat has no template in its tokenizer; the spec then names one:

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
# The text between prompt and answer belongs to the answer: models generate their own space.
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
    # A chat template writes the token that begins a text; here it is added where this tokenizer
    # puts one before every text. Braces in the question are safe: only the template is parsed.
    begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    start = str(tokenizer.bos_token) if begins else ""
    return start + _PROMPTS[template].format(question)


def answer_text(
    tokenizer: PreTrainedTokenizerBase, question: str, answer: str, template: Template = "chat"
) -> str:
    """Return the text after `prompt_text`: the answer and the token that ends it.

    Raises Misconfigured when the chat template does not continue its own prompt.
    """
    if template != "chat":
        return _JOINTS[template] + answer.strip() + (tokenizer.eos_token or "")
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    # The template only formats whole conversations: the answer is what it adds to the prompt.
    whole: str = _chat(tokenizer)(messages, tokenize=False)
    prompt = prompt_text(tokenizer, question)
    if not whole.startswith(prompt):
        raise Misconfigured("this model's chat template does not continue its own prompt")
    # Line breaks after the end-of-turn token teach nothing and would only flatter the loss.
    return whole[len(prompt) :].rstrip()


def _chat(tokenizer: PreTrainedTokenizerBase) -> Callable[..., str]:
    apply: Callable[..., str] = tokenizer.apply_chat_template
    return apply
