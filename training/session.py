"""A federation's model in this process, loaded once and then given one adapter after another."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from protocol.encoding import decode_values
from protocol.errors import Misconfigured
from protocol.spec import Spec
from training.adapter import (
    Arrays,
    adapter_layers,
    initial_array,
    rank_part,
    read_adapter,
    write_adapter,
)
from training.chat import OnText, answer, answers, base_answer
from training.data import TokenizedExamples, collate, tokenize
from training.evaluate import Evaluation, held_out_loss, held_out_losses
from training.examples import Example
from training.memory import check_room
from training.model import attach_lora, load_base, load_tokenizer
from training.private import ExampleGradients, Protection, train_privately
from training.quiet import quiet
from training.sources import ModelSource, check_identity, describe_source, resolve_source
from training.train import OnStep, Options, TrainingReport, train_from
from training.update import Carried, IntegerLayers, Update, encode_update

_GRADIENTS_AT_ONCE: Final = 8


class Session:
    """The base model that a spec names, with its adapter attached.

    Models are passed as the spec's layers: int32 arrays, in the order of the spec.
    """

    def __init__(self, spec: Spec, model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.spec = spec
        self._model = model
        self._tokenizer = tokenizer

    def with_spec(self, spec: Spec) -> "Session":
        """Return a session with the same model in memory and another spec of the same layers."""
        return Session(spec, self._model, self._tokenizer)

    @property
    def base_weights(self) -> int:
        """The number of weights of the base model, excluding its adapter."""
        # Not the sum of numel(): bitsandbytes packs two 4-bit weights into a byte, and peft's count
        # knows it.
        _, total = self._model.get_nb_trainable_parameters()
        named = self._model.named_parameters()
        adapter = sum(values.numel() for name, values in named if "lora_" in name)
        return int(total - adapter)

    def train(
        self,
        layers: IntegerLayers,
        examples: Sequence[Example],
        seed: int,
        on_step: OnStep = lambda step, steps, loss: None,
        *,
        round_id: int = 1,
        rank: int | None = None,
        carried: Carried | None = None,
        protection: Protection | None = None,
    ) -> tuple[Update, TrainingReport]:
        """Return the update that training from `layers` in round `round_id` gives, and a report.

        `carried` is what rounding took from the participant's last update. With a `rank` below the
        federation's only the first ranks train; the update is zero elsewhere. With a `protection`
        the examples' records are protected (training/private.py), and `seed` is not used. Raises
        Misconfigured when `rank` is above the federation's, or when training diverges.
        """
        trained, report = self.train_arrays(
            self.decode(layers),
            examples,
            seed,
            on_step,
            round_id=round_id,
            rank=rank,
            protection=protection,
        )
        names = [layer.name for layer in self.spec.layers]
        update = encode_update(
            layers,
            [trained[name] for name in names],
            carried,
            self.spec.encoding.grid_in(round_id),
            [rank_part(name, rank) for name in names],
        )
        return update, report

    def train_arrays(
        self,
        arrays: Arrays,
        examples: Sequence[Example],
        seed: int,
        on_step: OnStep = lambda step, steps, loss: None,
        *,
        round_id: int = 1,
        rank: int | None = None,
        protection: Protection | None = None,
    ) -> tuple[Arrays, TrainingReport]:
        """Train as `train` does, from and to float32 arrays by layer name."""
        if rank is not None and not 1 <= rank <= self.spec.adapter.rank:
            raise Misconfigured(
                f"rank {rank} is not one of 1 to {self.spec.adapter.rank}, the federation's rank"
            )
        settings = self.spec.training
        options = Options(self.spec.template, settings.learning_rate_in(round_id), rank)
        given = (self._model, self._tokenizer)
        if protection is None:
            return train_from(
                *given, arrays, examples, settings, seed=seed, options=options, on_step=on_step
            )
        write_adapter(self._model, arrays)
        report = train_privately(
            *given, examples, settings, protection, options=options, on_step=on_step
        )
        return read_adapter(self._model), report

    def measure(self, examples: Sequence[Example]) -> TokenizedExamples:
        """Return the examples as tokens, and how many of them the sequence length cuts."""
        length = self.spec.training.sequence_length
        return tokenize(self._tokenizer, examples, length, self.spec.template)

    def evaluate(self, layers: IntegerLayers | None, examples: Sequence[Example]) -> Evaluation:
        """Return the loss of the model with these layers, or of the base model without any."""
        if layers is not None:
            write_adapter(self._model, self.decode(layers))
        length = self.spec.training.sequence_length
        with self._model.disable_adapter() if layers is None else nullcontext():
            return held_out_loss(
                self._model, self._tokenizer, examples, length, template=self.spec.template
            )

    def evaluate_each(self, layers: IntegerLayers, examples: Sequence[Example]) -> list[Evaluation]:
        """Return the loss on each of `examples` that has room for an answer, from one pass."""
        write_adapter(self._model, self.decode(layers))
        length = self.spec.training.sequence_length
        return held_out_losses(
            self._model, self._tokenizer, examples, length, template=self.spec.template
        )

    def gradients(
        self, layers: IntegerLayers, examples: Sequence[Example]
    ) -> Iterator[list[NDArray[np.float32]]]:
        """Yield the gradient of the loss on each of `examples` at these layers, a layer an array.

        Raises Misconfigured when one has no room for an answer.
        """
        write_adapter(self._model, self.decode(layers))
        tokenized = self.measure(examples)
        if tokenized.left_out:
            raise Misconfigured(f"{tokenized.left_out} of {len(examples)} examples have no answer")
        with quiet(), ExampleGradients(self._model) as gradients:
            self._model.eval()
            at_once = gradients.at_once(_GRADIENTS_AT_ONCE)
            for start in range(0, len(examples), at_once):
                rows = tokenized.rows[start : start + at_once]
                found, _ = gradients.of(collate(rows, self._tokenizer.pad_token_id))
                for index in range(len(rows)):
                    yield [each[index].cpu().numpy() for each in found]

    def answer(
        self,
        layers: IntegerLayers | None,
        question: str,
        max_new_tokens: int,
        on_text: OnText | None = None,
    ) -> str:
        """Return the answer of the model with these layers, or of the base model without any.

        `on_text` is called with every piece of it as it is made.
        """
        ask = base_answer
        if layers is not None:
            write_adapter(self._model, self.decode(layers))
            ask = answer
        template = self.spec.template
        return ask(self._model, self._tokenizer, question, max_new_tokens, template, on_text)

    def answers(
        self, layers: IntegerLayers, questions: Sequence[str], max_new_tokens: int
    ) -> list[str]:
        """Return the answer of the model with these layers to each question."""
        write_adapter(self._model, self.decode(layers))
        asked = (self._model, self._tokenizer, questions, max_new_tokens, self.spec.template)
        return answers(*asked)

    def decode(self, layers: IntegerLayers) -> Arrays:
        """Return the layers by name, as the float32 arrays that training starts from."""
        return {
            layer.name: decode_values(values)
            for layer, values in zip(self.spec.layers, layers, strict=True)
        }


def open_session(spec: Spec, source: str, cache: Path) -> Session:
    """Return this process's session, which a further call with the same arguments reuses.

    `source` is where this machine finds the base model (training/sources.py). Raises Misconfigured
    unless it is the one that the spec pins, byte for byte.
    """
    # As bytes, since a spec is not hashable and the cache below is keyed by its arguments.
    return _open_session(spec.to_bytes(), source, cache)


def try_step(
    spec: Spec, source: str, cache: Path, examples: Sequence[Example], rank: int | None = None
) -> TrainingReport:
    """Return the report of one step of training by `spec` from the initial adapter."""
    session = open_session(spec, source, cache)
    one = spec.model_copy(update={"training": spec.training.model_copy(update={"steps": 1})})
    seed = spec.training.seed
    start = {layer.name: initial_array(layer.name, layer.shape, seed) for layer in spec.layers}
    _, report = session.with_spec(one).train_arrays(start, examples, seed, rank=rank)
    return report


def find_base(spec: Spec, source: str, cache: Path) -> ModelSource:
    """Return the base model found at `source`; raise Misconfigured unless the spec pins it."""
    found = resolve_source(source, cache)
    identity = describe_source(found, needs_chat=spec.template == "chat")
    check_identity(identity, spec.base_model, source)
    return found


def close_session() -> None:
    """Forget this process's session, so that the memory of its model is free."""
    _open_session.cache_clear()


# One session only: a second model beside the first may not fit in memory.
@lru_cache(maxsize=1)
def _open_session(raw_spec: bytes, source: str, cache: Path) -> Session:
    spec = Spec.parse(raw_spec)
    # The model's digests and the free memory are checked before its weights are loaded.
    found = find_base(spec, source, cache)
    tokenizer = load_tokenizer(found.folder, spec.template)
    check_room(found.folder, spec)
    checkpointing = spec.training.gradient_checkpointing
    base = load_base(found.folder, spec.quantization, gradient_checkpointing=checkpointing)
    model = attach_lora(base, spec.adapter, seed=spec.training.seed)
    shapes = [(layer.name, layer.shape) for layer in spec.layers]
    # peft, not the spec, decides which modules get an adapter: versions may differ in that.
    if adapter_layers(model) != shapes:
        raise Misconfigured("this version of peft gives the adapter other layers than the spec's")
    return Session(spec, model, tokenizer)
