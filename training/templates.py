"""Prompt templates: the form in which a model reads a question and writes its answer.

A base model that was not trained to chat has no template in its tokenizer; the spec then names one:

    chat     the tokenizer's chat template
    vicuna   "USER: … ASSISTANT: …" after Vicuna's opening sentence (arXiv:2306.05685)
    alpaca   "### Instruction: … ### Response: …" (github.com/tatsu-lab/stanford_alpaca)

Everybody must get the same tokens from the same example, on every day: a chat template that writes
today's date gets DATE.
"""

import re
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final, Literal, get_args

from transformers import PreTrainedTokenizerBase

from protocol.errors import Misconfigured
from training.conversations import Exchange
from training.examples import Example

Template = Literal["chat", "vicuna", "alpaca"]
TEMPLATES: Final[tuple[Template, ...]] = get_args(Template)
DATE: Final = date(2024, 7, 26)
"""What `strftime_now` gives: the date that Llama 3.2's template falls back to without a clock."""

_VICUNA: Final = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
_ALPACA: Final = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request."
)
_OPENINGS: Final = {"vicuna": _VICUNA, "alpaca": _ALPACA}
_QUESTIONS: Final = {
    "vicuna": " USER: {} ASSISTANT:",
    "alpaca": "\n\n### Instruction:\n{}\n\n### Response:\n",
}
# The text between prompt and answer belongs to the answer: models generate their own space.
_JOINTS: Final = {"vicuna": " ", "alpaca": ""}
_BREAK: Final = "\ufdd0"  # not a character, for a program's own use (Unicode, section 23.7)
_PROBE: Final = "Commonweight"  # a text that is in no template


def prompt_text(
    tokenizer: PreTrainedTokenizerBase, example: Example, template: Template = "chat"
) -> str:
    """Return the text up to where the answer begins, special tokens included.

    To be turned into tokens by `encode`: special tokens in what the example says are marked.
    """
    said = _as_text(tokenizer, example)
    if template == "chat":
        form = _form(tokenizer, str(tokenizer.chat_template))
        prompt = _chat(tokenizer, _messages(said, form), add_generation_prompt=True)
        return prompt.removesuffix(form.opening)
    # A chat template writes the token that begins a text; here it is added where this tokenizer
    # puts one before every text. Braces in the question are safe: only the template is parsed.
    begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    text = (str(tokenizer.bos_token) if begins else "") + (said.system or _OPENINGS[template])
    asks = _QUESTIONS[template]
    for each in said.history:
        text += asks.format(each.question) + _plain_answer(tokenizer, each.answer, template)
    return text + asks.format(said.question)


def answer_text(
    tokenizer: PreTrainedTokenizerBase, example: Example, template: Template = "chat"
) -> str:
    """Return the text after `prompt_text`: the answer and the token that ends it.

    Raises Misconfigured when the chat template does not continue its own prompt.
    """
    said = _as_text(tokenizer, example)
    if template != "chat":
        return _plain_answer(tokenizer, said.answer, template)
    messages = _messages(said, _form(tokenizer, str(tokenizer.chat_template)))
    # The template only formats whole conversations: the answer is what it adds to the prompt.
    whole = _chat(tokenizer, [*messages, {"role": "assistant", "content": said.answer}])
    prompt = prompt_text(tokenizer, example)
    if not whole.startswith(prompt):
        raise Misconfigured("this model's chat template does not continue its own prompt")
    # Line breaks after the end-of-turn token teach nothing and would only flatter the loss.
    return whole[len(prompt) :].rstrip()


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the token ids of a text made here; what an example says gives no special token."""
    ids: list[int] = []
    for piece in text.split(_BREAK):
        # Not verbose: what is longer than the model can read is cut, and counted, elsewhere.
        ids += tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


@dataclass(frozen=True)
class _Form:
    """How a chat template differs from others: whether it writes system texts, and its opening.

    The opening is what it writes before an answer to come and not before one that is there, such as
    `<think>`. Prompts leave it out, so that training and answering begin at the same place.
    """

    takes_system: bool
    opening: str


@lru_cache(maxsize=8)
def _form(tokenizer: PreTrainedTokenizerBase, template: str) -> _Form:
    # The template is a key of the cache: a tokenizer's can be replaced.
    system = {"role": "system", "content": _PROBE}
    asked = {"role": "user", "content": "Why?"}
    try:
        takes_system = _PROBE in _chat(tokenizer, [system, asked], add_generation_prompt=True)
    except Misconfigured:  # as Gemma's, which says so
        takes_system = False
    prompt = _chat(tokenizer, [asked], add_generation_prompt=True)
    whole = _chat(tokenizer, [asked, {"role": "assistant", "content": _PROBE}])
    if whole.startswith(prompt):
        return _Form(takes_system, "")
    start = whole.partition(_PROBE)[0]
    if start == whole or not prompt.startswith(start):
        raise Misconfigured("this model's chat template does not continue its own prompt")
    return _Form(takes_system, prompt[len(start) :])


def _messages(example: Example, form: _Form) -> list[dict[str, str]]:
    """Return everything said before the answer."""
    system = [{"role": "system", "content": example.system}] if example.system else []
    turns = []
    for each in example.history:
        turns.append({"role": "user", "content": each.question})
        turns.append({"role": "assistant", "content": each.answer})
    turns.append({"role": "user", "content": example.question})
    if system and not form.takes_system:
        turns[0]["content"] = f"{example.system}\n\n{turns[0]['content']}"
        system = []
    return [*system, *turns]


def _chat(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], **options: bool
) -> str:
    try:
        template = tokenizer.get_chat_template()
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, chat_template=_dated(template), **options
        )
    except Exception as error:  # a template is a program of its author's, which may raise anything
        reason = " ".join(str(error).split())[:200]
        raise Misconfigured(f"this model's chat template cannot be used: {reason}") from error
    return text


def _dated(template: str) -> str:
    """Return a chat template in which `strftime_now` gives DATE."""
    if "strftime_now" not in template:
        return template
    # A macro in front of it, since transformers passes no function to a template. The line break
    # behind is removed, and the first line stays one.
    steps = [f".replace('%{each}', '{DATE.strftime(f'%{each}')}')" for each in "aAbBdmyYHIMSpj"]
    macro = "{% macro strftime_now(format) %}{{ format" + "".join(steps) + " }}{% endmacro %}"
    return f"{macro}\n{template}"


def _plain_answer(tokenizer: PreTrainedTokenizerBase, answer: str, template: Template) -> str:
    return _JOINTS[template] + answer.strip() + (tokenizer.eos_token or "")


def _as_text(tokenizer: PreTrainedTokenizerBase, example: Example) -> Example:
    """Return the example with a break in every special token, so that `encode` finds none."""
    special = _special_tokens(tokenizer)

    def marked(text: str) -> str:
        return special.sub(rf"\g<0>{_BREAK}", text.replace(_BREAK, ""))

    question, answer, system = map(marked, (example.question, example.answer, example.system))
    history = [Exchange(marked(each.question), marked(each.answer)) for each in example.history]
    return Example(question, answer, system, tuple(history))


@lru_cache(maxsize=8)
def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Return what finds the first character of each special token in a text."""
    added = tokenizer.added_tokens_decoder.values()
    special = {*tokenizer.all_special_tokens, *(each.content for each in added if each.special)}
    # One character cannot be broken, and no control token is a single one.
    longer = sorted(re.escape(each) for each in special if len(each) > 1)
    return re.compile(f"(?=(?:{'|'.join(longer)}))(?s:.)" if longer else "(?!)")
