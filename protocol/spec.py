"""The spec: what must be identical for everybody in a federation (docs/protocol.md §5).

The contract fixes its digest. Library versions are recorded, not enforced.
Golden vectors: tests/vectors/spec.json, tests/vectors/spec_options.json.
"""

from itertools import pairwise
from math import cos, pi, prod
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from protocol.canonical import Count, Document, HexDigest, Name, Part, PositiveCount, Shape
from protocol.differences import MAX_GRID
from protocol.encoding import (
    BLOCK_BYTES,
    LEAF_VALUES,
    Kind,
    PublishedKind,
    leaf_bytes,
    padded_bytes,
)
from protocol.errors import Misconfigured
from protocol.scoring import MILLION
from protocol.tree import tree_depth, zero_root
from protocol.types import Digest, Unit

PositiveFloat = Annotated[float, Field(gt=0)]

MOST_MASKED_LEAVES = 2**24
"""A masked federation has fewer: the numbers of its sketches fit 64 bits (docs/protocol.md §13)."""


class BaseModelIdentity(Part):
    """The frozen model under the adapters, by the SHA-256 of its source files."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    revision: Annotated[str, Field(min_length=1, max_length=256)]
    weights_digest: HexDigest
    tokenizer_digest: HexDigest
    chat_template_digest: HexDigest


class Quantization(Part):
    """The form of the base model in memory during training."""

    kind: Literal["nf4", "int8", "bf16", "none"]
    """Memory against fidelity: 4, 8, 16 or as many bits a weight as were published."""
    double_quantization: bool
    """Quantise the constants of `nf4` too, which saves 0.4 bits a weight."""
    compute_dtype: Literal["float32", "bfloat16", "float16"]
    """Of the arithmetic during training; `bfloat16` is faster on a GPU."""


class Adapter(Part):
    """What is trained; `ffa` freezes A, which makes the average exact (arXiv:2403.12313)."""

    kind: Literal["lora"] = "lora"
    """The only kind there is."""
    rank: Annotated[PositiveCount, Unit("ranks")]
    """Of each A and B; the bytes of an update grow with it."""
    alpha: PositiveCount
    """The adapter is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1), Unit("share")]
    """Of the adapter's inputs left out at random in each step of training."""
    targets: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    """The linear modules that get an adapter, or `"all-linear"`: all but the output layer."""
    mode: Literal["fedit", "ffa"]
    """`fedit` averages A and B, which is not the average of BA; `ffa` freezes A, which makes it
    exact, and halves the bytes."""


class Encoding(Part):
    """The grid of the updates (docs/protocol.md §2): a step is 2^-grid of the model's units."""

    grid_bits: Annotated[int, Field(ge=0, le=MAX_GRID)]
    grid_every: Count
    """The grid gets finer by one bit after so many rounds; 0: never."""

    def grid_in(self, round_id: int) -> int:
        """Return the grid of round `round_id`, counted from 1."""
        if not self.grid_every:
            return self.grid_bits
        return min(MAX_GRID, self.grid_bits + (round_id - 1) // self.grid_every)


class Layer(Part):
    """A tensor of the adapter: its key in peft's state dict and its shape."""

    name: Name
    shape: Shape


class RoundSchedule(Part):
    """The decay of the learning rate over the rounds: half a cosine to `final_learning_rate`."""

    scheduler: Literal["cosine"]
    """The only one there is."""
    rounds: Annotated[PositiveCount, Unit("rounds")]
    """Until the rate is at its lowest, where it stays."""
    final_learning_rate: Annotated[float, Field(ge=0)]
    """The rate that it falls to."""


class Training(Part):
    """A participant's training in one round.

    `proximal_mu` is FedProx's μ (arXiv:1812.06127). `padding_side` and `gradient_checkpointing`
    affect only memory and rounding.
    """

    OPTIONAL: ClassVar = frozenset(
        {"over_rounds", "proximal_mu", "padding_side", "gradient_checkpointing"}
    )
    learning_rate: PositiveFloat
    batch_size: PositiveCount
    steps: PositiveCount
    sequence_length: PositiveCount
    scheduler: Literal["constant", "cosine", "linear"]
    warmup_steps: Count
    seed: Count
    over_rounds: RoundSchedule | None = None
    proximal_mu: Annotated[float, Field(ge=0)] = 0.0
    padding_side: Literal["right", "left"] = "right"
    gradient_checkpointing: bool = False

    def learning_rate_in(self, round_id: int) -> float:
        """Return the initial learning rate of round `round_id`, counted from 1."""
        schedule = self.over_rounds
        if schedule is None:
            return self.learning_rate
        # Rounds past the schedule keep the final rate: the cosine would rise again.
        progress = min((round_id - 1) / schedule.rounds, 1.0)
        span = self.learning_rate - schedule.final_learning_rate
        return schedule.final_learning_rate + span * (1 + cos(pi * progress)) / 2


class Screening(Part):
    """The limits of an update (docs/protocol.md §6)."""

    OPTIONAL: ClassVar = frozenset({"max_update_norm"})
    min_norm: PositiveCount
    """In steps of the round's grid."""
    max_update_norm: PositiveFloat | None = None
    """In the model's units; None: no limit."""


class HeldOutScoring(Part):
    """How help is measured under `scoring = heldOut` (docs/protocol.md §9)."""

    gain: Literal["whole", "new"]
    """Of the whole update, or of what it adds to the accepted updates of the two rounds before."""
    tolerance: Annotated[int, Field(ge=0, le=MILLION)]
    """How far a loss may differ from an auditor's, in millionths of a nat per answer token."""


class Spec(Document):
    """Everything a federation fixes before its first round, and the sizes that follow from it."""

    OPTIONAL: ClassVar = frozenset({"template", "held_out"})

    version: Literal[2] = 2
    base_model: BaseModelIdentity
    quantization: Quantization
    adapter: Adapter
    encoding: Encoding
    layers: Annotated[tuple[Layer, ...], Field(min_length=1, strict=False)]
    training: Training
    evaluation_digest: HexDigest
    screening: Screening
    scoring: Literal["equal", "heldOut"] = "equal"
    held_out: HeldOutScoring | None = None
    privacy: Literal["clear", "masked"] = "clear"
    libraries: dict[str, str]
    template: Literal["chat", "vicuna", "alpaca"] = "chat"

    @model_validator(mode="after")
    def _layers_are_sorted_and_few_enough(self) -> Self:
        # One order for all: leaves are numbered across the layers.
        for first, second in pairwise(self.layers):
            if first.name >= second.name:
                raise ValueError(f"layers must be sorted by name: {second.name} after {first.name}")
        if self.leaf_count >= 2**32:  # the contract counts leaves in 32 bits
            raise ValueError(f"layers have {self.leaf_count:,} leaves, fewer than 2^32 are allowed")
        return self

    @model_validator(mode="after")
    def _says_how_help_is_measured(self) -> Self:
        if (self.scoring == "heldOut") != (self.held_out is not None):
            raise ValueError("held_out belongs to a spec with scoring heldOut, and to no other")
        return self

    @model_validator(mode="after")
    def _can_be_masked(self) -> Self:
        if self.privacy == "clear":
            return self
        if self.scoring != "equal":
            raise ValueError("masked updates cannot be scored by measured help: scoring is equal")
        if self.screening.max_update_norm is None:
            raise ValueError("masked updates take a max_update_norm: nothing else bounds them")
        if self.leaf_count >= MOST_MASKED_LEAVES:
            raise ValueError(f"layers have {self.leaf_count:,} leaves, masked ones fewer than 2^24")
        return self

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Return the spec in canonical JSON bytes; a one-line Misconfigured otherwise."""
        try:
            return cls._parse(raw)
        except (ValueError, Misconfigured) as error:
            # Not Rejected: the spec is the sponsor's, no participant is to blame for it.
            raise Misconfigured(f"this is not a spec: {error}") from error

    @property
    def update_kind(self) -> PublishedKind:
        """The kind of the updates that participants reveal."""
        return "masked" if self.privacy == "masked" else "update"

    def layer_values(self, index: int) -> int:
        """The number of values in layer `index`, without padding."""
        return prod(self.layers[index].shape)

    def layer_bytes(self, index: int, kind: Kind) -> int:
        """The size in bytes of layer `index`'s file, with padding."""
        return padded_bytes(self.layers[index].shape, kind)

    def block_sizes(self, index: int, kind: Kind) -> list[int]:
        """The sizes in bytes of the blocks that layer `index`'s file is stored in."""
        size = self.layer_bytes(index, kind)
        return [min(BLOCK_BYTES, size - start) for start in range(0, size, BLOCK_BYTES)]

    def layer_leaves(self, index: int) -> int:
        """The number of leaves in layer `index`."""
        return -(-self.layer_values(index) // LEAF_VALUES)

    def total_bytes(self, kind: Kind) -> int:
        """The size in bytes of all layer files together."""
        return self.leaf_count * leaf_bytes(kind)

    @property
    def leaf_count(self) -> int:
        """The number of leaves over all layers."""
        return sum(self.layer_leaves(index) for index in range(len(self.layers)))

    @property
    def tree_depth(self) -> int:
        """The number of levels above the leaves."""
        return tree_depth(self.leaf_count)

    @property
    def zero_root(self) -> Digest:
        """The root of the update in which every value is 0."""
        return zero_root(self.leaf_count)

    def locate_leaf(self, leaf: int, kind: Kind) -> tuple[int, int]:
        """Return the layer index of `leaf` and its byte offset in that layer's file.

        Raises Misconfigured when there is no such leaf.
        """
        first = 0
        for index in range(len(self.layers)):
            leaves = self.layer_leaves(index)
            if first <= leaf < first + leaves:
                return index, (leaf - first) * leaf_bytes(kind)
            first += leaves
        raise Misconfigured(f"leaf {leaf} does not exist: there are {first}")
