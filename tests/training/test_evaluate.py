import math
from typing import Any, Final

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase

from protocol.errors import Misconfigured
from tests.training.conftest import EXAMPLES, BuildModel, settings
from training import evaluate as module
from training.adapter import read_adapter, write_adapter
from training.chat import answer, base_answer
from training.data import tokenize
from training.evaluate import held_out_loss, held_out_losses
from training.train import train

_FEW_LAYERS: Final[dict[str, dict[str, Any]]] = {
    "mamba": {"num_hidden_layers": 2, "state_size": 8},
    "lfm2": {
        "num_hidden_layers": 3,
        "layer_types": ["conv", "full_attention", "conv"],
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
    },
}


def test_loss_is_the_mean_over_answer_tokens(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = build_model()
    total, tokens = 0.0, 0
    for row in tokenize(tokenizer, EXAMPLES, 128).rows:
        with torch.no_grad():
            logits = model(torch.tensor([row.token_ids])).logits[0]
        for position in range(row.prompt_tokens, len(row.token_ids)):
            chances = torch.log_softmax(logits[position - 1], dim=-1)
            total -= float(chances[row.token_ids[position]])
            tokens += 1
    evaluation = held_out_loss(model, tokenizer, EXAMPLES, 128)
    assert evaluation.tokens == tokens
    assert evaluation.loss == pytest.approx(total / tokens, rel=1e-5)
    assert evaluation.perplexity == pytest.approx(math.exp(total / tokens), rel=1e-4)


@pytest.mark.parametrize("batch_tokens", [1, 200, 10**6])
def test_batches_change_the_loss_by_rounding_only(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase, batch_tokens: int
) -> None:
    model = build_model("nf4")
    expected = held_out_loss(model, tokenizer, EXAMPLES, 128)
    found = held_out_loss(model, tokenizer, EXAMPLES[::-1], 128, batch_tokens)
    assert found.tokens == expected.tokens
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)


@pytest.mark.parametrize("batch_tokens", [200, 10**6])
def test_one_pass_gives_the_loss_of_each_example(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase, batch_tokens: int
) -> None:
    model = build_model("nf4")
    one_by_one = [held_out_loss(model, tokenizer, [example], 128) for example in EXAMPLES]
    found = held_out_losses(model, tokenizer, EXAMPLES, 128, batch_tokens)
    assert [row.tokens for row in found] == [row.tokens for row in one_by_one]
    losses = [row.loss for row in one_by_one]
    assert [row.loss for row in found] == pytest.approx(losses, rel=1e-5)
    assert len({round(loss, 3) for loss in losses}) > 1  # an order that was lost would show


def test_the_head_computes_at_answers_alone_and_is_left_as_it_was(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = build_model()
    positions: list[int] = []
    head = model.get_output_embeddings()
    hook = head.register_forward_hook(
        lambda module, given, logits: positions.append(logits.shape[:-1].numel())
    )
    evaluation = held_out_loss(model, tokenizer, EXAMPLES, 128, batch_tokens=200)
    hook.remove()
    # One position beside the answers: that of what all rows begin with.
    assert sum(positions) == evaluation.tokens + 1
    assert len(positions) > 2
    assert not head._forward_pre_hooks


def test_what_all_rows_begin_with_is_computed_once(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = tokenize(tokenizer, EXAMPLES, 128).rows
    prefix = module._shared_prefix(rows)
    assert 0 < len(prefix) < min(row.prompt_tokens for row in rows)
    assert {row.token_ids[: len(prefix)] for row in rows} == {prefix}
    assert len({row.token_ids[: len(prefix) + 1] for row in rows}) > 1
    # Of one row all but what predicts its answer is shared.
    assert module._shared_prefix(rows[:1]) == rows[0].token_ids[: rows[0].prompt_tokens - 1]
    model = build_model("nf4")
    columns: list[int] = []
    hook = model.get_input_embeddings().register_forward_pre_hook(
        lambda module, given: columns.append(given[0].numel())
    )
    held_out_loss(model, tokenizer, EXAMPLES, 128, batch_tokens=1)
    hook.remove()
    lengths = [len(row.token_ids) - len(prefix) - 1 for row in rows]
    assert sorted(columns) == sorted([len(prefix), *lengths])


def test_a_model_whose_states_cannot_be_repeated_computes_it_in_every_row(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_model()
    shared = held_out_loss(model, tokenizer, EXAMPLES, 128)
    monkeypatch.setattr(module, "_compute_prefix", lambda model, prefix: None)
    each = held_out_loss(model, tokenizer, EXAMPLES, 128)
    assert each.loss == pytest.approx(shared.loss, rel=1e-5)
    assert each.tokens == shared.tokens


def test_dropout_is_off_and_the_model_left_as_it_was(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = build_model("none", dropout=0.9)
    write_adapter(model, {name: array + 0.1 for name, array in read_adapter(model).items()})
    plain = build_model("none")
    write_adapter(plain, read_adapter(model))
    model.train()
    found = held_out_loss(model, tokenizer, EXAMPLES, 128)
    assert found == held_out_loss(plain, tokenizer, EXAMPLES, 128)
    assert model.training


def test_training_lowers_the_held_out_loss(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = build_model("nf4")
    before = held_out_loss(model, tokenizer, EXAMPLES[8:], 128)
    train(model, tokenizer, EXAMPLES[:8], settings(steps=8, learning_rate=0.02))
    after = held_out_loss(model, tokenizer, EXAMPLES[8:], 128)
    assert after.loss < 0.7 * before.loss


def test_a_sequence_longer_than_the_model_is_refused(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(Misconfigured, match="2000 is more than the 1024"):
        held_out_loss(build_model(), tokenizer, EXAMPLES, 2000)


def test_answers_with_and_without_the_adapter(
    build_model: BuildModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = build_model("nf4", dropout=0.5)
    question = EXAMPLES[0].question
    untrained = answer(model, tokenizer, question, max_new_tokens=12)
    train(model, tokenizer, EXAMPLES, settings(steps=6, learning_rate=0.05))
    model.train()
    trained = answer(model, tokenizer, question, max_new_tokens=12)
    assert trained != untrained
    assert base_answer(model, tokenizer, question, max_new_tokens=12) == untrained
    assert answer(model, tokenizer, question, max_new_tokens=12) == trained
    assert model.training


@pytest.mark.parametrize("kind", ["mamba", "lfm2"])
def test_a_model_whose_state_is_no_attention_is_evaluated_alike(
    tokenizer: PreTrainedTokenizerBase, kind: str
) -> None:
    """What rows begin with cannot be computed once for these: their state is not repeated."""
    sizes = {"hidden_size": 32, "vocab_size": len(tokenizer)}
    config = AutoConfig.for_model(kind, **sizes, **_FEW_LAYERS[kind])
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config).eval()
    total, tokens = 0.0, 0
    for row in tokenize(tokenizer, EXAMPLES, 128).rows:
        with torch.no_grad():
            logits = model(torch.tensor([row.token_ids])).logits[0]
        chances = torch.log_softmax(logits[row.prompt_tokens - 1 : -1], dim=-1)
        answers = torch.tensor(row.token_ids[row.prompt_tokens :])
        total -= float(chances.gather(1, answers[:, None]).sum())
        tokens += len(answers)
    evaluation = held_out_loss(model, tokenizer, EXAMPLES, 128, batch_tokens=200)
    assert evaluation.tokens == tokens
    assert evaluation.loss == pytest.approx(total / tokens, rel=1e-4)
