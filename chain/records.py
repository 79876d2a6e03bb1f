"""What the federation contract stores and returns, with one type per quantity.

Fields stand in the order of the contract's structs (contracts/src/IFederation.sol); a
test compares their names with the ABI. Amounts are token units, times are Unix seconds.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, Final, Self

from contracts.enums import Privacy, RequestState, Scoring, Stage, Status, SubmissionState
from protocol.commitment import bind_secrets, pack_members
from protocol.errors import Misconfigured
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


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How long each step may take; `response_seconds` is 0 when no leaf can be requested.

    Where updates are clear, nothing is sealed, unmasked or assisted, and these three are 0.
    """

    commit_seconds: int
    reveal_seconds: int
    seal_seconds: int = 0
    unmask_seconds: int = 0
    assist_seconds: int = 0
    propose_seconds: int
    challenge_seconds: int
    response_seconds: int
    unbonding_seconds: int
    closes_at: UnixTime

    @property
    def shortest_seconds(self) -> int:
        """The shortest time in which somebody must act: a phase, or to answer a leaf request."""
        masked = (self.seal_seconds, self.unmask_seconds, self.assist_seconds)
        phases = (self.commit_seconds, self.reveal_seconds, *masked, self.response_seconds)
        return min(self.propose_seconds, *(each for each in phases if each))


_WINDOWS: Final = tuple(field.name for field in fields(Windows))


@dataclass(frozen=True)
class Rules:
    """What is open to be read, and what is paid for."""

    privacy: Privacy
    scoring: Scoring
    min_set: int = 0
    """Masked updates without which no sum is opened; 0 where updates are clear."""


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
            Windows(**dict(zip(_WINDOWS, windows, strict=True))),
            Rules(Privacy(privacy), Scoring(scoring), min_set),
        )

    def to_abi(self) -> tuple[Any, ...]:
        """Return the values in the contract's order."""
        return astuple(self)

    @property
    def is_masked(self) -> bool:
        """Whether only the sum of a round's updates can be read."""
        return self.rules.privacy is Privacy.MASKED

    @property
    def round_cost(self) -> TokenUnits:
        """What the escrow must hold before a round opens: a full round of updates and the fee."""
        # In full, although most rounds cost less: the rest stays in the escrow.
        updates = self.seats.round_seats * self.money.update_reward
        return TokenUnits(updates + self.money.aggregator_fee)


@dataclass(frozen=True)
class Round:
    """The facts of a round, all zero when it was not opened.

    `next_deadline` is that of the proposal at stage OPEN (of the seal, until there is one, where
    updates are masked), and that of challenges to it at stage PROPOSED. `active` counts the seats
    that were active at the opening and had joined in an earlier block. `open_requests` counts the
    requested leaves of the standing proposal that are not posted yet, `proposals` the proposals so
    far: all but the last were refuted.
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

    def status_at(
        self, time: UnixTime, block: int, terms: Terms, masked: "Sum | None" = None
    ) -> Status:
        """Return the round's status in a block of that time and number, as the contract does.

        `masked` is what is stored of its sum, where updates are masked.
        """
        # In the contract's order, case by case; a test compares the two for every kind of round.
        if self.opened_block == 0:
            return Status.NONE
        if self.is_ended:
            return Status.FINALIZED if self.stage is Stage.FINALIZED else Status.ABANDONED
        if not self.is_seeded:
            return Status.SEED if block <= self.opened_block + SEED_BLOCKS else Status.UNSEEDED
        # The earlier deadlines no longer matter. Open leaf requests hold the round until somebody
        # settles them, even after the challenge deadline.
        seats = terms.seats
        if self.stage is Stage.PROPOSED:
            if masked is not None and masked.is_refused:
                return Status.VOID
            is_open = time < self.next_deadline or self.open_requests != 0
            return Status.CHALLENGE if is_open else Status.SETTLEABLE
        # A phase ends early once nobody is left to act.
        if self.committed < self.expected(seats) and time < self.commit_deadline:
            return Status.COMMIT
        is_enough = self.committed >= terms.rules.min_set
        if is_enough and self.revealed < self.committed and time < self.reveal_deadline:
            return Status.REVEAL
        if masked is not None and (waiting := masked.waits_at(time)) is not None:
            return (
                waiting
                if waiting is not Status.SEAL or time < self.next_deadline
                else Status.EXPIRED
            )
        return Status.PROPOSE if time < self.next_deadline else Status.EXPIRED


@dataclass(frozen=True)
class Sum:
    """What is stored of a round's masked sum; all zero until a set is sealed.

    `size` updates are in the set, the secrets of `unmasked` of them are known. Bit k of `by_order`
    stands for commitment number k, of `by_rank` for the k-th lowest address that committed.
    """

    sealed_block: int
    unmask_deadline: UnixTime
    assist_deadline: UnixTime
    size: int
    unmasked: int
    objections: int
    by_order: int
    by_rank: int
    members_hash: Digest
    sketch_seed: Digest

    @classmethod
    def from_abi(cls, values: tuple[Any, ...]) -> Self:
        """Return the sum from the contract's values, in its order."""
        return cls(*values)

    @property
    def is_refused(self) -> bool:
        """Whether two thirds of the set object to the sum."""
        return self.size != 0 and 3 * self.objections >= 2 * self.size

    def waits_at(self, time: UnixTime) -> Status | None:
        """Return the phase that comes between reveals and proposal at a time; None after all."""
        if not self.sealed_block:
            return Status.SEAL
        if self.unmasked == self.size:
            return None
        if time < self.unmask_deadline:
            return Status.UNMASK
        return Status.ASSIST if time < self.assist_deadline else Status.VOID


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
    """What a participant revealed: root, manifest and examples of its update.

    `manifest` is `Reveal.bound_manifest`: of a masked update more than the manifest's digest.
    """

    root: Digest
    manifest: Digest
    examples: int

    @classmethod
    def of(cls, reveal: Reveal) -> Self:
        """Return what `reveal` revealed."""
        return cls(reveal.root, reveal.bound_manifest, reveal.examples)

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
    """What an accepted participant revealed, with one leaf of it.

    Of a masked update it takes the `reveal` with the seeds that were opened.
    """

    opening: Opening
    leaf: Leaf
    reveal: Reveal | None = None

    def packed(self) -> bytes:
        """Return the bytes of a masked update for `challengeSum` (contracts/src/IFederation.sol).

        Raises Misconfigured without its reveal.
        """
        reveal = self.reveal
        if reveal is None or reveal.secrets is None:
            raise Misconfigured("a clear update is not disputed as a masked one")
        return b"".join(
            [
                self.leaf.values,
                *self.leaf.proof,
                bind_secrets(reveal.manifest, reveal.secrets),
                reveal.examples.to_bytes(4),
                *reveal.seeds,
            ]
        )

    def to_abi(self) -> tuple[Any, ...]:
        """Return the values in the contract's order."""
        return self.opening.to_abi(), self.leaf.to_abi()


@dataclass(frozen=True)
class Secrets:
    """The secrets of a member of a sealed set, with what the contract holds them against.

    `members` are all that committed, ascending; `commitments` those of the member's bundle; `seeds`
    its own and those with each member outside the set, ascending.
    """

    reveal: Reveal
    members: Sequence[Address]
    commitments: Sequence[Digest]
    seeds: Sequence[bytes]

    def to_abi(self) -> tuple[Any, ...]:
        """Return the values in the contract's order."""
        opening = (self.reveal.root, self.reveal.manifest, self.reveal.examples)
        place = self.members.index(self.reveal.participant), pack_members(self.members)
        own, *others = self.seeds
        return (opening, *place, list(self.commitments), own, others)


@dataclass(frozen=True)
class LeafAnswer:
    """The answer to a leaf request: leaf `index` of the update or model with this root."""

    root: Digest
    index: int
    leaf: Leaf

    def to_abi(self) -> tuple[Any, ...]:
        """Return the values in the contract's order."""
        return self.root, self.index, self.leaf.to_abi()
