"""A federation on a dev chain with everybody in it, for tests that play through the client."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from web3 import Web3

from chain.deploy import deploy_token
from chain.federation import Federation, OpenedRound
from chain.records import Identity, Leaf, Money, Opening, Rules, Seats, Terms, Windows
from chain.token import Erc20
from contracts.enums import AggregatorState, Privacy, Scoring
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from protocol.commitment import PREFIX_BYTES, compute_commitment, compute_update_digest
from protocol.tree import compute_proof, compute_root, leaf_digests
from protocol.types import Address, Digest, RoundId, TokenUnits, UnixTime
from protocol.verdict import FULL_SCORE, Verdict
from tests.terms import changed, found_federation

PURSE = TokenUnits(1_000_000)
ESCROW = TokenUnits(100_000)
SALT = b"\x55" * 32


def digest(seed: int) -> Digest:
    """Return 32 bytes that are never zero."""
    return Digest(bytes([seed + 1]) * 32)


def ask(w3: Web3, method: str, *params: Any) -> Any:
    """Return what the node answers to a request that web3 has no method for."""
    answer = w3.provider.make_request(method, list(params))  # type: ignore[arg-type]
    assert "error" not in answer, answer
    return answer["result"]


def now(w3: Web3) -> UnixTime:
    """Return the latest block's time."""
    return UnixTime(w3.eth.get_block("latest")["timestamp"])


def advance_to(w3: Web3, timestamp: int) -> None:
    """Mine a block at `timestamp`, or do nothing when it is past."""
    if now(w3) < timestamp:
        ask(w3, "evm_setNextBlockTimestamp", timestamp)
        ask(w3, "evm_mine")


def mine(w3: Web3, blocks: int) -> None:
    """Mine so many blocks without transactions."""
    for _ in range(blocks):
        ask(w3, "evm_mine")


@contextmanager
def undone(w3: Web3) -> Iterator[None]:
    """Take back, at the end, what was mined meanwhile."""
    snapshot = ask(w3, "evm_snapshot")
    try:
        yield
    finally:
        ask(w3, "evm_revert", snapshot)


def make_terms(w3: Web3, token: Address, **changes: Any) -> Terms:
    """Return terms that suit a test: three seats, ten minutes for each phase."""
    terms = Terms(
        Identity(
            spec_digest=digest(0),
            initial_model_root=digest(1),
            initial_model_manifest=digest(2),
            zero_root=digest(3),
            leaf_count=10,
            tree_depth=4,
            grid_bits=13,
            grid_every=0,
        ),
        Seats(
            max_participants=3,
            min_participants=1,
            round_target=40,
            round_seats=3,
            max_missed=2,
            by_invitation=False,
            weight_cap=100,
            rounds=3,
        ),
        Money(
            token=token,
            update_reward=TokenUnits(300),
            aggregator_fee=TokenUnits(50),
            participant_stake=TokenUnits(1_000),
            missed_reveal_penalty=TokenUnits(300),
            aggregator_bond=TokenUnits(5_000),
            availability_deposit=TokenUnits(70),
        ),
        Windows(
            commit_seconds=600,
            reveal_seconds=600,
            propose_seconds=600,
            challenge_seconds=600,
            response_seconds=200,
            unbonding_seconds=1_800,
            closes_at=UnixTime(now(w3) + 1_000_000),
        ),
        Rules(Privacy.CLEAR, Scoring.EQUAL),
    )
    return changed(terms, **changes)


def model_leaves() -> list[bytes]:
    """Return the leaves of a model that suits the terms."""
    return [bytes([1 + index]) * 1_024 for index in range(10)]


def model_root() -> Digest:
    """Return the root over `model_leaves`."""
    return compute_root(model_leaves(), 1_024)


def model_leaf(index: int) -> Leaf:
    """Return a leaf of `model_leaves` with its proof."""
    leaves = model_leaves()
    return Leaf(leaves[index], tuple(compute_proof(leaf_digests(leaves, 1_024), index)))


def reveal_values(participant: Federation) -> tuple[Digest, Digest, int, bytes]:
    """Return root, manifest, examples and salt of the update that `participant` always sends."""
    seed = int(participant.sender.address[-2:], 16) // 2
    return digest(seed), digest(seed + 1), 10 + seed, SALT


def opening(participant: Federation) -> Opening:
    """Return what `participant` always reveals."""
    return Opening(*reveal_values(participant)[:3])


@dataclass(frozen=True)
class Stage:
    """Clients of one federation, each with its own wallet. Nobody has joined or bonded yet."""

    w3: Web3
    token: Erc20
    terms: Terms
    sponsor: Federation
    lead: Federation
    standby: Federation
    participants: tuple[Federation, ...]
    outsider: Federation

    def open(self) -> OpenedRound:
        """Fund, bond and join where that is still missing, open a round and fix its seed."""
        if self.sponsor.escrow() == 0:
            self.sponsor.fund(ESCROW)
        if self.lead.aggregator_state(self.lead.sender.address) == AggregatorState.LISTED:
            self.lead.bond()
        for participant in self.participants:
            if not participant.get_participant(participant.sender.address).active:
                participant.join()
        opened = self.lead.open_round()
        self.outsider.fix_seed(opened.round_id)
        return opened

    def commit(self, participant: Federation, round_id: RoundId) -> Digest:
        """Commit `participant` to its update and return the commitment."""
        who = participant.sender.address
        made = compute_commitment(participant.address, round_id, who, *reveal_values(participant))
        participant.commit(round_id, made)
        return made

    def submit(self, round_id: RoundId) -> None:
        """Let everybody commit and reveal."""
        for participant in self.participants:
            self.commit(participant, round_id)
        for participant in self.participants:
            participant.reveal(round_id, *reveal_values(participant))

    def verdicts(self) -> list[Verdict]:
        """Return verdicts that accept everybody as the contract asks, in its order."""
        cap = self.terms.seats.weight_cap
        made = []
        for each in sorted(self.participants, key=lambda each: each.sender.address.lower()):
            shown = opening(each)
            revealed = compute_update_digest(shown.root, shown.manifest, shown.examples)
            weight = min(shown.examples, cap)
            participant = each.sender.address
            made.append(Verdict(participant, revealed[:PREFIX_BYTES], weight, FULL_SCORE, 0))
        return made

    def propose(self, root: Digest | None = None) -> tuple[RoundId, list[Verdict]]:
        """Play a round up to its proposal, of `root` when one is given."""
        round_id = self.open().round_id
        self.submit(round_id)
        verdicts = self.verdicts()
        self.lead.propose(round_id, root or digest(20), digest(21), verdicts)
        return round_id, verdicts

    def finalize(self) -> tuple[RoundId, list[Verdict]]:
        """Play a whole round."""
        round_id, verdicts = self.propose()
        advance_to(self.w3, self.sponsor.get_round(round_id).challenge_deadline)
        self.outsider.finalize(round_id, verdicts)
        return round_id, verdicts

    def pass_the_end(self) -> None:
        """Pass the time after which no round is opened."""
        advance_to(self.w3, self.terms.windows.closes_at)


def make_stage(w3: Web3, wallets: Sequence[Wallet]) -> Stage:
    """Deploy a token and a federation and give each of seven wallets `PURSE` token units.

    All but the outsider's are approved already.
    """
    token = deploy_token(Sender(w3, wallets[0]), TokenUnits(10 * PURSE))
    for wallet in wallets[1:7]:
        token.transfer(wallet.address, PURSE)
    stage = with_terms(token, wallets)
    for client in (stage.sponsor, stage.lead, stage.standby, *stage.participants):
        client.approve_exactly(PURSE)  # spares each test a transaction a payment
    return stage


def with_terms(token: Erc20, wallets: Sequence[Wallet], **changes: Any) -> Stage:
    """Deploy a federation with other terms; nothing is approved."""
    w3 = token.w3
    terms = make_terms(w3, token.address, **changes)
    listed = [wallets[1].address, wallets[2].address]
    deployed = found_federation(Sender(w3, wallets[0]), terms, listed)
    sponsor, lead, standby, *people, outsider = [
        Federation(w3, deployed.address, each, deployment_block=deployed.deployment_block)
        for each in wallets[:7]
    ]
    return Stage(w3, token, terms, sponsor, lead, standby, tuple(people), outsider)
