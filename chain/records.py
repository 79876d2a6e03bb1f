"""What the federation contract stores and returns, with one type per quantity.

Fields stand in the order of the contract's structs (contracts/src/IFederation.sol); a test compares
their names with the ABI. Amounts are token units, times are Unix seconds.
"""

from dataclasses import astuple, dataclass
from typing import Any, Self

from contracts.enums import Outcome, RequestState, Status, SubmissionState
from protocol.reveal import Reveal
from protocol.types import Address, BasisPoints, Digest, RoundId, TokenUnits, UnixTime


@dataclass(frozen=True)
class Terms:
    """The terms that the sponsor fixed at deployment and nobody can change.

    `response_seconds` is 0 when no leaf can be requested.
    """

    token: Address
    spec_digest: Digest
    initial_model_root: Digest
    initial_model_manifest: Digest
    leaf_count: int
    tree_depth: int
    leaf_values: int
    max_participants: int
    weight_cap: int
    rounds: int
    sampling_fraction: BasisPoints
    round_reward: TokenUnits
    aggregator_fee: TokenUnits
    participant_stake: TokenUnits
    missed_reveal_penalty: TokenUnits
    aggregator_bond: TokenUnits
    availability_deposit: TokenUnits
    commit_seconds: int
    reveal_seconds: int
    propose_seconds: int
    challenge_seconds: int
    response_seconds: int
    unbonding_seconds: int
    closes_at: UnixTime

    @property
    def round_cost(self) -> TokenUnits:
        """What the escrow must hold before a round opens: its reward and the aggregator's fee."""
        # In full, although shares are rounded down and an empty round earns no fee.
        return TokenUnits(self.round_reward + self.aggregator_fee)

    def to_abi(self) -> tuple[Any, ...]:
        """Return the values in the contract's order."""
        return astuple(self)


@dataclass(frozen=True)
class Round:
    """The facts of a round, all zero when it was not opened.

    `challenge_deadline` is 0 until a model is proposed; `expected` counts the participants that
    were active when the round opened. `open_requests` counts the requested leaves of the standing
    proposal that are not posted yet, `proposals` the proposals so far: all but the last were
    refuted.
    """

    commit_deadline: UnixTime
    reveal_deadline: UnixTime
    propose_deadline: UnixTime
    challenge_deadline: UnixTime
    expected: int
    committed: int
    revealed: int
    outcome: Outcome
    open_requests: int
    proposals: int
    seed: Digest
    model_root: Digest
    model_manifest: Digest
    verdicts_hash: Digest

    @classmethod
    def from_abi(cls, values: tuple[Any, ...]) -> Self:
        """Return the round from the contract's values, in its order."""
        facts = list(values)
        facts[7] = Outcome(facts[7])
        return cls(*facts)

    @property
    def is_ended(self) -> bool:
        """Whether the round was finalized or abandoned."""
        return self.outcome is not Outcome.OPEN

    def status_at(self, time: UnixTime) -> Status:
        """Return the round's status in a block of that time, as the contract's `status` does."""
        # In the contract's order, case by case; a test compares the two for every kind of round.
        if self.commit_deadline == 0:
            return Status.NONE
        if self.is_ended:
            return Status.FINALIZED if self.outcome is Outcome.FINALIZED else Status.ABANDONED
        # The earlier deadlines no longer matter. Open leaf requests hold the round until somebody
        # settles them, even after the challenge deadline.
        if self.challenge_deadline != 0:
            is_open = time < self.challenge_deadline or self.open_requests != 0
            return Status.CHALLENGE if is_open else Status.SETTLEABLE
        # A phase ends early once everybody has acted; with nobody expected it never begins.
        if self.committed < self.expected and time < self.commit_deadline:
            return Status.COMMIT
        if self.revealed < self.committed and time < self.reveal_deadline:
            return Status.REVEAL
        return Status.PROPOSE if time < self.propose_deadline else Status.EXPIRED


@dataclass(frozen=True)
class Submission:
    """The first 31 bytes of a participant's commitment or, after the reveal, its update digest.

    `digest` is 31 zero bytes when there is none. See `protocol.commitment`.
    """

    # 31 bytes and a state fit into one storage slot (docs/decisions/0002-submission-in-one-
    # slot.md).

    digest: bytes
    state: SubmissionState

    @classmethod
    def from_abi(cls, values: tuple[Any, ...]) -> Self:
        """Return the submission from the contract's values, in its order."""
        return cls(values[0], SubmissionState(values[1]))


@dataclass(frozen=True)
class Participant:
    """A participant's standing; `unlock_at` is 0 when it is not leaving.

    It may commit to rounds later than `joined_after_round`, while `active`.
    """

    stake: TokenUnits
    unlock_at: UnixTime
    joined_after_round: int
    active: bool

    @classmethod
    def from_abi(cls, values: tuple[Any, ...]) -> Self:
        """Return the standing from the contract's values, in its order."""
        return cls(*values)


@dataclass(frozen=True)
class AvailabilityRequest:
    """A leaf request, all zero when there is none.

    It is about proposal number `proposal` of its round, counted from 1, and void once that was
    refuted. The leaf can be posted before `deadline`.
    """

    challenger: Address
    deadline: UnixTime
    round: RoundId
    proposal: int
    state: RequestState

    @classmethod
    def from_abi(cls, values: tuple[Any, ...]) -> Self:
        """Return the request from the contract's values, in its order."""
        challenger, deadline, round_id, proposal, state = values
        return cls(challenger, deadline, round_id, proposal, RequestState(state))


@dataclass(frozen=True)
class Model:
    """A model as the chain knows it: its tree root, and the SHA-256 of its manifest."""

    root: Digest
    manifest: Digest


@dataclass(frozen=True)
class Leaf:
    """A leaf's bytes and its proof: the siblings up to the root, the lowest first."""

    values: bytes
    proof: tuple[Digest, ...]

    def to_abi(self) -> tuple[bytes, list[Digest]]:
        """Return the values in the contract's order."""
        return self.values, list(self.proof)


@dataclass(frozen=True)
class OpenedUpdate:
    """An accepted participant's reveal, with one leaf of its update."""

    reveal: Reveal
    leaf: Leaf
