from typing import get_args

import pytest
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from tests.training.conftest import EXAMPLES, BuildModel, settings
from training.adapter import read_adapter
from training.chat import answer, base_answer
from training.data import tokenize
from training.evaluate import held_out_loss
from training.examples import Example
from training.templates import Template, answer_text, prompt_text
from training.train import Options, train, train_from


def test_vicuna(tokenizer: PreTrainedTokenizerBase) -> None:
    assert prompt_text(tokenizer, Example("Why {0}?", ""), "vicuna") == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. "
        "USER: Why {0}? ASSISTANT:"
    )
    assert answer_text(tokenizer, Example("Why?", "So. "), "vicuna") == " So.<|im_end|>"


def test_alpaca(tokenizer: PreTrainedTokenizerBase) -> None:
    assert prompt_text(tokenizer, Example("Why?", ""), "alpaca") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nWhy?\n\n### Response:\n"
    )
    assert answer_text(tokenizer, Example("Why?", "So."), "alpaca") == "So.<|im_end|>"


def test_a_tokenizer_that_begins_every_text_begins_ours(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tokenizer.bos_token_id
    plain = type(tokenizer).__call__

    def with_beginning(self: object, text: str, **named: object) -> dict[str, list[int]]:
        ids: list[int] = plain(self, text, **named)["input_ids"]
        return {"input_ids": ids if named.get("add_special_tokens") is False else [first, *ids]}

    monkeypatch.setattr(type(tokenizer), "__call__", with_beginning)
    assert prompt_text(tokenizer, Example("Why?", ""), "alpaca").startswith("<|im_start|>Below")
    (row,) = tokenize(tokenizer, [Example("Why?", "So.")], 500, "alpaca").rows
    assert row.token_ids.count(first) == 1


@pytest.mark.parametrize("template", get_args(Template))
def test_a_model_learns_and_answers_in_every_template(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase, template: Template
) -> None:
    tokenizer.chat_template, kept = (
        None if template != "chat" else tokenizer.chat_template,
        (tokenizer.chat_template),
    )
    try:
        model: PeftModel = build_model()
        before = held_out_loss(model, tokenizer, EXAMPLES, 400, template=template)
        steps = settings(steps=12, learning_rate=0.02, sequence_length=400)
        train(model, tokenizer, EXAMPLES, steps, options=Options(template))
        after = held_out_loss(model, tokenizer, EXAMPLES, 400, template=template)
        assert after.loss < before.loss - 1
        assert answer(model, tokenizer, "What?", 4, template) != base_answer(
            model, tokenizer, "What?", 4, template
        )
    finally:
        tokenizer.chat_template = kept


def test_the_template_is_part_of_what_is_learnt(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = build_model()
    start = read_adapter(model)
    reports = [
        train_from(
            model,
            tokenizer,
            start,
            EXAMPLES,
            settings(steps=1, sequence_length=400),
            options=Options(template),
        )[1]
        for template in get_args(Template)
    ]
    assert len({report.mean_loss for report in reports}) == 3
