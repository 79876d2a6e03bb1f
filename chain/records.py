"""What the federation contract stores and returns, with one type per quantity.

Fields stand in the order of the contract's structs (contracts/src/IFederation.sol); a
test compares their names with the ABI. Amounts are token units, times are Unix seconds.
"""

from dataclasses import astuple, dataclass
from typing import Any, Final, Self

from contracts.enums import Privacy, RequestState, Scoring, Stage, Status, SubmissionState
from protocol.reveal import Reveal
from protocol.types import Address, Digest, RoundId, TokenUnits, UnixTime

SEED_BLOCKS: Final = 256
"""The blocks after the opening in which the seed can be fixed: the EVM knows no older hashes."""


@dataclass(frozen=True)
class Identity:
    """What is trained, and how its bytes are read; the grid is that of docs/protocol.md §2."""

    spec_digest: Digest
    initial_model_root: Digest
    initial_model_manifest: Digest
    zero_root: Digest
    leaf_count: int
    tree_depth: int
    grid_bits: int
    grid_every: int


@dataclass(frozen=True)
class Seats:
    """Who may take part, and how many at once.

    When more than `round_target` are active, about so many are asked each round; `round_seats` is
    the largest number of commitments to a round.
    """

    max_participants: int
    min_participants: int
    round_target: int
    round_seats: int
    max_missed: int
    by_invitation: bool
    weight_cap: int
    rounds: int


@dataclass(frozen=True)
class Money:
    """Prices, stakes and penalties; `update_reward` is for an update of full weight and score."""

    token: Address
    update_reward: TokenUnits
    aggregator_fee: TokenUnits
    participant_stake: TokenUnits
    missed_reveal_penalty: TokenUnits
    aggregator_bond: TokenUnits
    availability_deposit: TokenUnits


@dataclass(frozen=True)
class Windows:
    """How long each step may take.

    `response_seconds` is 0 when no leaf can be requested; `seal_seconds`, `unmask_seconds` and
    `assist_seconds` are 0 where updates are clear.
    """

    commit_seconds: int
    reveal_seconds: int
    seal_seconds: int
    unmask_seconds: int
    assist_seconds: int
    propose_seconds: int
    challenge_seconds: int
    response_seconds: int
    unbonding_seconds: int
    closes_at: UnixTime

    @property
    def shortest_seconds(self) -> int:
        """The shortest time in which somebody must act: a phase, or to answer a leaf request."""
        phases = (self.commit_seconds, self.reveal_seconds, self.propose_seconds)
        return min(*phases, self.response_seconds or self.propose_seconds)


@dataclass(frozen=True)
class Rules:
    """What is open to be read, and what is paid for.

    `min_set` is the number of updates without which no sum is opened, 0 where they are clear.
    """

    privacy: Privacy
    scoring: Scoring
    min_set: int


@dataclass(frozen=True)
class Terms:
    """The terms that the sponsor fixed at the founding and nobody can change."""

    identity: Identity
    seats: Seats
    money: Money
    windows: Windows
    rules: Rules

    @classmethod
    def from_abi(cls, values: tuple[Any, ...]) -> Self:
        """Return the terms from the contract's values, in its order."""
        identity, seats, money, windows, (privacy, scoring, min_set) = values
        return cls(
            Identity(*identity),
            Seats(*seats),
            Money(*money),
            Windows(*windows),
            Rules(Privacy(privacy), Scoring(scoring), min_set),
        )

    def to_abi(self) -> tuple[Any, ...]:
        """Return the values in the contract's order."""
        return astuple(self)

    @property
    def round_cost(self) -> TokenUnits:
        """What the escrow must hold before a round opens: a full round of updates and the fee."""
        # In full, although most rounds cost less: the rest stays in the escrow.
        updates = self.seats.round_seats * self.money.update_reward
        return TokenUnits(updates + self.money.aggregator_fee)


@dataclass(frozen=True)
class Round:
    """The facts of a round, all zero when it was not opened.

    `next_deadline` is that of the proposal at stage OPEN, and that of challenges to it at stage
    PROPOSED. `active` counts the seats that were active at the opening and had joined in an earlier
    block. `open_requests` counts the requested leaves of the standing proposal that are not posted
    yet, `proposals` the proposals so far: all but the last were refuted.
    """

    commit_deadline: UnixTime
    reveal_deadline: UnixTime
    next_deadline: UnixTime
    opened_block: int
    active: int
    committed: int
    revealed: int
    revealed_weight: int
    stage: Stage
    proposals: int
    open_requests: int
    seed: Digest
    model_root: Digest
    model_manifest: Digest
    verdicts_hash: Digest

    @classmethod
    def from_abi(cls, values: tuple[Any, ...]) -> Self:
        """Return the round from the contract's values, in its order."""
        facts = list(values)
        facts[8] = Stage(facts[8])
        return cls(*facts)

    @property
    def is_seeded(self) -> bool:
        """Whether the seed was fixed."""
        return self.commit_deadline != 0

    @property
    def propose_deadline(self) -> UnixTime:
        """The deadline of the next proposal; 0 when none is awaited."""
        return self.next_deadline if self.stage is Stage.OPEN else UnixTime(0)

    @property
    def challenge_deadline(self) -> UnixTime:
        """The end of the challenge window; 0 when no proposal stands."""
        return self.next_deadline if self.stage is Stage.PROPOSED else UnixTime(0)

    @property
    def is_ended(self) -> bool:
        """Whether the round was finalized or abandoned."""
        return self.stage in (Stage.FINALIZED, Stage.ABANDONED)

    def expected(self, seats: Seats) -> int:
        """Return the number of commitments that end the commit phase early."""
        return min(self.active, seats.round_seats)

    def status_at(self, time: UnixTime, block: int, seats: Seats) -> Status:
        """Return the round's status in a block of that time and number, as the contract does."""
        # In the contract's order, case by case; a test compares the two for every kind of round.
        if self.opened_block == 0:
            return Status.NONE
        if self.is_ended:
            return Status.FINALIZED if self.stage is Stage.FINALIZED else Status.ABANDONED
        if not self.is_seeded:
            return Status.SEED if block <= self.opened_block + SEED_BLOCKS else Status.UNSEEDED
        # The earlier deadlines no longer matter. Open leaf requests hold the round until somebody
        # settles them, even after the challenge deadline.
        if self.stage is Stage.PROPOSED:
            is_open = time < self.next_deadline or self.open_requests != 0
            return Status.CHALLENGE if is_open else Status.SETTLEABLE
        # A phase ends early once nobody is left to act.
        if self.committed < self.expected(seats) and time < self.commit_deadline:
            return Status.COMMIT
        if self.revealed < self.committed and time < self.reveal_deadline:
            return Status.REVEAL
        return Status.PROPOSE if time < self.next_deadline else Status.EXPIRED


@dataclass(frozen=True)
class Submission:
    """The first 30 bytes of a participant's commitment or, after the reveal, its update digest.

    `digest` is 30 zero bytes when there is none; see `protocol.commitment`. `order` is the number
    of the commitment in its round, counted from 0.
    """

    digest: bytes
    order: int
    state: SubmissionState

    @classmethod
    def from_abi(cls, values: tuple[Any, ...]) -> Self:
        """Return the submission from the contract's values, in its order."""
        return cls(values[0], values[1], SubmissionState(values[2]))


@dataclass(frozen=True)
class Participant:
    """A participant's seat; `unlock_at` is 0 when it is not leaving.

    While `active`, it may commit to rounds opened in blocks after `joined_block`. The last round
    that it committed to is `last_committed`, 0 for none.
    """

    stake: TokenUnits
    unlock_at: UnixTime
    joined_block: int
    last_committed: RoundId
    active: bool

    @classmethod
    def from_abi(cls, values: tuple[Any, ...]) -> Self:
        """Return the seat from the contract's values, in its order."""
        return cls(*values)


@dataclass(frozen=True)
class LeafRequest:
    """A leaf request, all zero when there is none.

    It is about proposal number `proposal` of its round, counted from 1, and void once that was
    refuted. The leaf, of a model (1,024 bytes) or of an update (256), can be posted before
    `deadline`.
    """

    challenger: Address
    deadline: UnixTime
    round: RoundId
    proposal: int
    state: RequestState
    is_model: bool

    @classmethod
    def from_abi(cls, values: tuple[Any, ...]) -> Self:
        """Return the request from the contract's values, in its order."""
        challenger, deadline, round_id, proposal, state, is_model = values
        return cls(challenger, deadline, round_id, proposal, RequestState(state), is_model)


@dataclass(frozen=True)
class Model:
    """A model as the chain knows it: its tree root, and the SHA-256 of its manifest."""

    root: Digest
    manifest: Digest


@dataclass(frozen=True)
class Opening:
    """What a participant revealed: root, manifest and examples of its update."""

    root: Digest
    manifest: Digest
    examples: int

    @classmethod
    def of(cls, reveal: Reveal) -> Self:
        """Return what `reveal` revealed."""
        return cls(reveal.root, reveal.manifest, reveal.examples)

    def to_abi(self) -> tuple[Digest, Digest, int]:
        """Return the values in the contract's order."""
        return self.root, self.manifest, self.examples


@dataclass(frozen=True)
class Leaf:
    """A leaf's bytes and its proof: the siblings up to the root, the lowest first."""

    values: bytes
    proof: tuple[Digest, ...]

    def to_abi(self) -> tuple[bytes, list[Digest]]:
        """Return the values in the contract's order."""
        return self.values, list(self.proof)


@dataclass(frozen=True)
class OpenedLeaf:
    """What an accepted participant revealed, with one leaf of it."""

    opening: Opening
    leaf: Leaf

    def to_abi(self) -> tuple[Any, ...]:
        """Return the values in the contract's order."""
        return self.opening.to_abi(), self.leaf.to_abi()


@dataclass(frozen=True)
class LeafAnswer:
    """The answer to a leaf request: leaf `index` of the update or model with this root."""

    root: Digest
    index: int
    leaf: Leaf

    def to_abi(self) -> tuple[Any, ...]:
        """Return the values in the contract's order."""
        return self.root, self.index, self.leaf.to_abi()
