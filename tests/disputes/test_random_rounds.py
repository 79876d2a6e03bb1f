"""Random rounds against the real contract: no right leaf can be challenged, every wrong one can.

Each round is played on anvil from its opening to two proposals, an honest one and one with a single
bit flipped in the model, through the contract's own functions. Accounts are unlocked, so nothing is
signed; challenges are sent as eth_call, since a real one would end the round; and the chain is set
back to where the round began. What Python, the contract and the naive reference compute must agree.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from auditor.averaged import Averaged, Part
from chain.authentic import IMPLEMENTATION
from chain.deploy import deploy_token
from chain.federation import Federation
from chain.records import Identity, Money, Rules, Seats, Terms, Windows
from contracts.compiler import load_artifact
from contracts.enums import Privacy, Scoring, Status
from contracts.reverts import Reverted
from devnet.accounts import dev_account
from ethereum.rpc import connect
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from protocol.commitment import compute_commitment
from protocol.encoding import leaf_bytes
from protocol.reveal import Reveal
from protocol.spec import Spec
from protocol.types import Address, BasisPoints, Digest, RoundId, TokenUnits, UnixTime
from protocol.verdict import FULL_SCORE, Verdict, compute_weight
from rounds.average import average_layers
from rounds.screen import revealed_digest
from storage.layers import LayerFolder
from tests.ethereum.anvil import needs_anvil
from tests.protocol import reference
from tests.terms import found_federation
from tests.world import small_spec

ROUNDS, FEW_ROUNDS = 20, 5  # in one federation, of one shape
FEW_SHAPES, ALL_SHAPES = 4, 50
SEATS = 8
EXTREME = 2**31 - 1
SALT = bytes(range(32))

pytestmark = needs_anvil


@dataclass(frozen=True)
class Submitted:
    """What one participant revealed, and the verdict on it."""

    reveal: Reveal
    verdict: Verdict
    layers: list[list[int]]
    folder: LayerFolder


class Arena:
    """A federation of one random shape with everybody in it, on anvil."""

    def __init__(self, url: str, chance: random.Random, folder: Path) -> None:
        self.chance = chance
        self.folder = folder
        self.w3 = connect(url)
        self.people = [Address(dev_account(index).address) for index in range(2, 2 + SEATS)]
        self.lead = Address(dev_account(1).address)
        self.spec = random_spec(chance)
        self.weight_cap = chance.choice([1, 25, 1_000, (2**24 - 1) // SEATS])
        self._contract = self.w3.eth.contract(abi=load_artifact(IMPLEMENTATION)["abi"])
        # The model before: its bytes are here, its root in the terms.
        self.before = [random_values(chance, layer.shape) for layer in self.spec.layers]
        self.model = LayerFolder(folder / "before", "model")
        self.root = Digest(reference.root(write(self.model, self.spec, self.before), 1024))
        self.client = self._deploy()

    def send(self, sender: Address, name: str, *values: object) -> None:
        """Send a call of an unlocked account to the federation, and see it mined."""
        self._send(sender, self.client.address, self._contract.encode_abi(name, args=values))

    def _send(self, sender: Address, to: Address, data: str) -> None:
        call = {"from": sender, "to": to, "data": data, "gas": hex(5_000_000)}
        sent = self.ask("eth_sendTransaction", call)
        while (receipt := self.ask("eth_getTransactionReceipt", sent)) is None:
            pass  # the hash is told before the block is made
        assert receipt["status"] == "0x1", data[:10]

    def ask(self, method: str, *values: object) -> Any:
        answer = self.w3.provider.make_request(method, list(values))  # type: ignore[arg-type]
        assert "error" not in answer, answer
        return answer["result"]

    def submit(self, round_id: RoundId) -> list[Submitted]:
        """Let one to all participants commit and reveal; return their updates in verdict order."""
        chosen = self.chance.sample(self.people, self.chance.randint(1, SEATS))
        updates = [self._update(who) for who in sorted(chosen, key=lambda who: int(who, 16))]
        if not any(update.verdict.is_accepted for update in updates):
            return self.submit(round_id)
        for each in updates:
            revealed = (each.reveal.root, each.reveal.manifest, each.reveal.examples, SALT)
            who = each.reveal.participant
            commitment = compute_commitment(self.client.address, round_id, who, *revealed)
            self.send(who, "commit", round_id, commitment)
        if len(updates) < SEATS:
            self.ask("evm_increaseTime", 660)  # past the commit deadline
        for each in updates:
            revealed = (each.reveal.root, each.reveal.manifest, each.reveal.examples, SALT)
            self.send(each.reveal.participant, "reveal", round_id, *revealed)
        return updates

    def propose(self, round_id: RoundId, root: Digest, verdicts: Sequence[Verdict]) -> None:
        rows = [(v.participant, v.revealed, v.weight, v.score, v.reason) for v in verdicts]
        self.send(self.lead, "propose", round_id, root, b"\x05" * 32, rows)
        assert self.client.status(round_id) is Status.CHALLENGE

    def _update(self, who: Address) -> Submitted:
        folder = LayerFolder(self.folder / who, "update")
        layers = [random_steps(self.chance, layer.shape) for layer in self.spec.layers]
        data = write(folder, self.spec, layers)
        root = Digest(reference.root(data, 256))
        examples = self.chance.choice([1, 10, self.chance.randint(1, 2**32 - 1)])
        reveal = Reveal(who, root, Digest(b"\x07" * 32), examples)
        weight = compute_weight(examples, self.weight_cap)
        revealed = revealed_digest(reveal)
        verdict = Verdict(who, revealed, weight, FULL_SCORE, 0)
        if self.chance.random() < 0.1:
            verdict = Verdict(who, revealed, 0, BasisPoints(0), self.chance.randint(1, 12))
        return Submitted(reveal, verdict, layers, folder)

    def _deploy(self) -> Federation:
        sponsor = Sender(self.w3, Wallet.from_key(bytes(dev_account(0).key)))
        token = deploy_token(sponsor, TokenUnits(10**6))
        terms = self._terms(token.address)
        client = found_federation(sponsor, terms, [self.lead])
        client.fund(TokenUnits(terms.round_cost))
        approve = self.w3.eth.contract(abi=load_artifact("DevToken")["abi"]).encode_abi(
            "approve", args=(client.address, 100)
        )
        for who in (self.lead, *self.people):
            token.transfer(who, TokenUnits(100))
            self._send(who, token.address, approve)
        self.client = client
        self.send(self.lead, "bond")
        for who in self.people:
            self.send(who, "join", 0, b"")
        assert client.active_count() == SEATS
        return client

    def _terms(self, token: Address) -> Terms:
        identity = Identity(
            spec_digest=self.spec.digest(),
            initial_model_root=self.root,
            initial_model_manifest=Digest(b"\x02" * 32),
            zero_root=self.spec.zero_root,
            leaf_count=self.spec.leaf_count,
            tree_depth=self.spec.tree_depth,
            grid_bits=self.spec.encoding.grid_bits,
            grid_every=0,
        )
        seats = Seats(
            max_participants=SEATS,
            min_participants=1,
            round_target=SEATS,
            round_seats=SEATS,
            max_missed=1,
            by_invitation=False,
            weight_cap=self.weight_cap,
            rounds=1,
        )
        money = Money(
            token=token,
            update_reward=TokenUnits(50),
            aggregator_fee=TokenUnits(5),
            participant_stake=TokenUnits(100),
            missed_reveal_penalty=TokenUnits(10),
            aggregator_bond=TokenUnits(100),
            availability_deposit=TokenUnits(0),
        )
        windows = Windows(
            commit_seconds=600,
            reveal_seconds=600,
            propose_seconds=600,
            challenge_seconds=600,
            response_seconds=0,
            unbonding_seconds=3_600,
            closes_at=UnixTime(self.w3.eth.get_block("latest")["timestamp"] + 10**7),
        )
        return Terms(identity, seats, money, windows, Rules(Privacy.CLEAR, Scoring.EQUAL))


def random_spec(chance: random.Random) -> Spec:
    """Return a spec of one to four small layers on any grid."""
    shapes = [(chance.randint(1, 20), chance.randint(1, 40)) for _ in range(chance.randint(1, 4))]
    layers = [{"name": f"l{index}", "shape": list(shape)} for index, shape in enumerate(shapes)]
    encoding = {"grid_bits": chance.choice([0, 24, chance.randint(0, 24)]), "grid_every": 0}
    return small_spec(layers=layers, encoding=encoding)


def random_values(chance: random.Random, shape: Sequence[int]) -> list[int]:
    """Return values of a layer of the model: usual ones, or extreme ones."""
    count = shape[0] * shape[1]
    if chance.random() < 0.5:
        return [round(chance.gauss(0, 2**20)) for _ in range(count)]
    ends = [-EXTREME, -EXTREME + 1, -1, 0, 1, EXTREME]
    return [chance.choice(ends) for _ in range(count)]


def random_steps(chance: random.Random, shape: Sequence[int]) -> list[int]:
    """Return differences of a layer: usual ones, extreme ones, or few that differ by one."""
    count = shape[0] * shape[1]
    least, most = chance.choice([(-40, 40), (-127, 127), (126, 127), (-127, -127), (-1, 1)])
    return [chance.randint(least, most) for _ in range(count)]


def write(folder: LayerFolder, spec: Spec, layers: Sequence[Sequence[int]]) -> bytes:
    """Write the layer files by the reference and return them joined."""
    folder.path.mkdir(parents=True, exist_ok=True)
    files = [reference.layer_file(list(layer), folder.kind) for layer in layers]
    for index, data in enumerate(files):
        folder.layer_path(index).write_bytes(data)
    return b"".join(files)


def flip(folder: LayerFolder, spec: Spec, leaf: int, bit: int) -> None:
    """Flip one bit of one leaf."""
    layer, start = spec.locate_leaf(leaf, folder.kind)
    data = bytearray(folder.layer_path(layer).read_bytes())
    data[start + bit // 8] ^= 1 << bit % 8
    folder.layer_path(layer).write_bytes(data)


def play(arena: Arena) -> None:
    """Play one round; assert what is right of its honest and of its faulty proposal."""
    spec, before = arena.spec, arena.ask("evm_snapshot")
    arena.send(arena.lead, "openRound")
    round_id = RoundId(1)
    arena.ask("evm_mine")
    arena.send(arena.lead, "fixSeed", round_id)
    submitted = arena.submit(round_id)
    verdicts = [each.verdict for each in submitted]
    revealed = arena.ask("evm_snapshot")
    averaged = average(arena, submitted)
    arena.propose(round_id, averaged.root, verdicts)
    assert averaged.first_wrong_leaf() is None
    for leaf in range(spec.leaf_count):
        assert refusal(arena, averaged, verdicts, leaf) == "LeafIsRight"

    arena.ask("evm_revert", revealed)
    wrong = arena.chance.randrange(spec.leaf_count)
    assert averaged.model is not None
    flip(averaged.model, spec, wrong, arena.chance.randrange(8 * leaf_bytes("model")))
    faulty = replace(averaged, root=averaged.model.root(spec))
    arena.propose(round_id, faulty.root, verdicts)
    assert faulty.first_wrong_leaf() == wrong
    assert refusal(arena, faulty, verdicts, wrong) is None
    if spec.leaf_count > 1:
        other = (wrong + arena.chance.randrange(1, spec.leaf_count)) % spec.leaf_count
        assert refusal(arena, faulty, verdicts, other) == "LeafIsRight"
    arena.ask("evm_revert", before)


def average(arena: Arena, submitted: Sequence[Submitted]) -> Averaged:
    """Return the honest average, after comparing it with the reference's, proofs included."""
    accepted = [each for each in submitted if each.verdict.is_accepted]
    weights = [each.verdict.weight for each in accepted]
    model, spec = LayerFolder(arena.folder / "model", "model"), arena.spec
    folders, round_id = [each.folder for each in accepted], RoundId(1)
    root = average_layers(spec, arena.model, folders, weights, model, round_id)
    columns = zip(*(each.layers for each in accepted), strict=True)
    grid = spec.encoding.grid_in(round_id)
    moved = [
        reference.move(before, list(column), weights, grid)
        for before, column in zip(arena.before, columns, strict=True)
    ]
    expected = b"".join(reference.layer_file(layer, "model") for layer in moved)
    found = b"".join(model.layer_path(i).read_bytes() for i in range(len(spec.layers)))
    assert found == expected
    assert root == reference.root(expected, 1024)
    leaf = arena.chance.randrange(spec.leaf_count)
    values, proof = model.prove(spec, leaf)
    assert values == expected[leaf * 1024 : (leaf + 1) * 1024]
    assert list(proof) == reference.proof(expected, 1024, leaf)
    parts = tuple(Part(each.reveal, each.verdict.weight, each.folder) for each in accepted)
    return Averaged(spec, round_id, root, arena.model, parts, model)


def refusal(arena: Arena, averaged: Averaged, verdicts: Sequence[Verdict], leaf: int) -> str | None:
    """Return the error that a challenge of this leaf ends in, None when it succeeds."""
    try:
        arena.client.try_challenge_average(RoundId(1), leaf, verdicts, *averaged.open(leaf))
    except Reverted as error:
        return error.name
    return None


def play_shape(url: str, folder: Path, seed: int, rounds: int) -> None:
    chance = random.Random(seed)
    arena = Arena(url, chance, folder)
    for number in range(rounds):
        try:
            play(arena)
        except AssertionError as error:
            raise AssertionError(f"shape {seed}, round {number}, {arena.spec.layers}") from error


@pytest.mark.parametrize("seed", range(FEW_SHAPES))
def test_random_rounds(anvil: str, tmp_path: Path, seed: int) -> None:
    play_shape(anvil, tmp_path, seed, FEW_ROUNDS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ALL_SHAPES))
def test_a_thousand_random_rounds(anvil: str, tmp_path: Path, seed: int) -> None:
    play_shape(anvil, tmp_path, seed, ROUNDS)
