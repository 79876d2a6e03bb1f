"""Whole rounds with real chain, real store and real files; each test bends one fact."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aggregator import aggregator as module
from contracts.enums import Status, SubmissionState
from contracts.reverts import Reverted
from node.participant import TrainedUpdate
from protocol.canonical import canonical_json, sha256
from protocol.checks import Check
from protocol.cid import raw_cid
from protocol.differences import encode_differences
from protocol.errors import CommonweightError, Misconfigured, Rejected
from protocol.manifest import Manifest
from protocol.spec import Spec
from protocol.types import BasisPoints, RoundId, parse_digest
from rounds.average import average_layers
from rounds.screen import Screened, screen
from storage.files import read_json, write_json
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Subject, build_manifest
from tests.protocol import reference
from tests.storage.lying_proxy import LyingProxy
from tests.world import GRID, TOKEN, SyntheticTrainer, World


class Killed(BaseException):
    """The process ends here."""


def killed(*_: object) -> None:
    raise Killed


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    with World(tmp_path, chain=getattr(request, "param", "anvil")) as world:
        yield world


both_chains = pytest.mark.parametrize("world", ["anvil", "eth-tester"], indirect=True)
"""Both chains are held to the same."""


def assert_others_are_paid(world: World, rejected: str, check: Check, words: str) -> None:
    """The round went on without `rejected`, the reason is on record, and the audit agrees."""
    number, reason = world.rejections()[rejected]
    assert number == check
    assert words in reason
    assert set(world.rejections()) == {rejected}
    federation = world.client()
    for name in world.names:
        credit = federation.credit_of(world.address_of(name))
        assert (credit > 0) == (name != rejected)
    assert all(line.passed for line in world.audit())


# ------------------------------------------------------------------------------------- honest


@both_chains
def test_an_honest_round_pays_by_weight_and_passes_the_audit(world: World) -> None:
    assert world.play() is Status.FINALIZED
    federation = world.client()
    # 10, 20 and 30 examples, of which 25 count: the price is that of 25.
    price = 20 * TOKEN + 1
    for name, weight in zip(world.names, (10, 20, 25), strict=True):
        assert federation.credit_of(world.address_of(name)) == price * weight // 25
    assert federation.credit_of(world.aggregator_wallet.address) == 5 * TOKEN
    lines = world.audit()
    assert all(line.passed for line in lines)
    assert {line.section for line in lines} == {"§4", "§5", "§6", "§7", "§8", "§9", "§10"}


def test_balances_grow_by_what_the_contract_says(world: World) -> None:
    world.play()
    for name, participant in world.participants.items():
        before = world.token.balance_of(world.address_of(name))
        amount = participant.withdraw()
        assert amount > 0
        assert world.token.balance_of(world.address_of(name)) == before + amount
        assert participant.withdraw() == 0


def test_three_rounds_build_on_one_another_and_then_it_is_over(world: World) -> None:
    roots = set()
    for _ in range(3):
        assert world.play() is Status.FINALIZED
        roots.add(world.client().current_model().root)
    assert len(roots) == 3
    assert world.aggregator.next_round() is None
    assert all(line.passed for line in world.audit())


def test_the_root_depends_on_neither_order_nor_threads(world: World, tmp_path: Path) -> None:
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    decisions = world.aggregator.propose(round_id)
    folders = [d.folder for d in decisions]
    weights = [d.verdict.weight for d in decisions]
    root = world.client().get_round(round_id).model_root
    for order in itertools.permutations(range(3)):
        for threads in (1, 2):
            target = LayerFolder(tmp_path / "again", "model")
            mixed = [folders[i] for i in order], [weights[i] for i in order]
            place = (world.spec, world.initial, *mixed, target, round_id)
            assert average_layers(*place, threads) == root


# ------------------------------------------------------------------------- updates that are wrong


def test_a_layer_changed_after_pinning_is_unavailable(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        round_id = world.open_round()
        world.commit_and_reveal(round_id)
        cid = block_of(world, "bob", round_id)
        with LyingProxy(world.daemon.url) as proxy:
            proxy.flip(cid)
            world.store = ContentStore(proxy.url)
            world.restart_aggregator()
            assert world.settle(round_id) is Status.FINALIZED
        number, reason = world.rejections()["bob"]
        assert number == Check.REACHABLE
        assert cid in reason
        assert world.client().credit_of(world.address_of("bob")) == 0
        assert world.client().credit_of(world.address_of("ann")) > 0


def test_a_changed_manifest_is_unavailable(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        round_id = world.open_round()
        world.commit_and_reveal(round_id)
        prepared = read_json(round_folder(world, "bob", round_id) / "prepared.json")
        cid = raw_cid(parse_digest(prepared["manifest"]))
        with LyingProxy(world.daemon.url) as proxy:
            proxy.flip(cid)
            world.store = ContentStore(proxy.url)
            world.restart_aggregator()
            assert world.settle(round_id) is Status.FINALIZED
        assert world.rejections()["bob"][0] == Check.REACHABLE


def test_a_manifest_with_blocks_of_another_size_is_rejected_by_digest(world: World) -> None:
    def lie(manifest: dict[str, Any], layers: list[dict[str, Any]]) -> None:
        layers[2]["blocks"] = layers[0]["blocks"]

    play_with_manifest(world, "bob", lie)
    assert_others_are_paid(world, "bob", Check.DIGESTS, "")


def test_another_rounds_manifest_is_rejected(world: World) -> None:
    play_with_manifest(world, "bob", lambda manifest, layers: manifest.update(round=7))
    assert_others_are_paid(world, "bob", Check.ROUND_AND_SPEC, "round is 7, 1 was expected")


def test_a_wrong_shape_is_rejected(world: World) -> None:
    def lie(manifest: dict[str, Any], layers: list[dict[str, Any]]) -> None:
        layers[0]["shape"] = [8, 256]

    play_with_manifest(world, "bob", lie)
    assert_others_are_paid(world, "bob", Check.LAYERS, "has shape (8, 256), the spec asks for")


def test_a_wrong_rank_is_rejected(world: World) -> None:
    def lie(manifest: dict[str, Any], layers: list[dict[str, Any]]) -> None:
        layers[0]["shape"] = [8, 128]

    play_with_manifest(world, "bob", lie)
    assert_others_are_paid(world, "bob", Check.LAYERS, "has shape (8, 128)")


def test_a_missing_layer_is_rejected(world: World) -> None:
    play_with_manifest(world, "bob", lambda manifest, layers: layers.pop())
    assert_others_are_paid(world, "bob", Check.LAYERS, "2 layers, the spec asks for 3")


def test_somebody_elses_root_is_rejected(world: World) -> None:
    """Bob commits to Ann's root with a manifest of his own layers."""
    round_id = world.open_round()
    world.participants["ann"].commit(round_id)
    root = read_json(round_folder(world, "ann", round_id) / "prepared.json")["root"]
    play_with_manifest(
        world, "bob", lambda manifest, layers: manifest.update(root=root), round_id, root=root
    )
    assert_others_are_paid(world, "bob", Check.ROOT, "the layers hash to")


def test_a_copy_is_rejected_and_the_first_holder_is_paid(world: World) -> None:
    world.participants["cem"].trainer = SyntheticTrainer("ann", 30)
    world.play()
    assert_others_are_paid(world, "cem", Check.DUPLICATE, world.address_of("ann"))


def test_an_update_too_long_is_rejected(world: World) -> None:
    world.participants["bob"].trainer = Constant(127)
    world.play()
    assert_others_are_paid(world, "bob", Check.NORM, "the limit is 10")


def test_the_zero_update_is_rejected(world: World) -> None:
    world.participants["bob"].trainer = Constant(0)
    world.play()
    assert_others_are_paid(world, "bob", Check.ZERO, "every value of the update is 0")


def test_a_weak_update_is_rejected(world: World) -> None:
    world.participants["bob"].trainer = Weak()
    world.play()
    assert_others_are_paid(world, "bob", Check.WEAK, "9 steps, 10 are asked for")


def test_what_was_fetched_of_a_rejected_update_leaves_the_store(world: World) -> None:
    """An aggregator with a store of its own keeps what was accepted, and a copy's original."""
    world.participants["bob"].trainer = Weak()
    world.participants["cem"].trainer = SyntheticTrainer("ann", 30)
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    revealed = {reveal.participant: reveal for reveal in world.told(round_id).reveals}
    blocks = {}
    for name in world.names:
        manifest = Manifest.parse(world.store.get_block(revealed[world.address_of(name)].manifest))
        blocks[name] = {digest for entry in manifest.layers for digest in entry.digests}
        # As where they were only fetched: the authors' pins are in another store.
        world.store._unpin([raw_cid(digest) for digest in blocks[name]])
    assert world.settle(round_id) is Status.FINALIZED
    assert {number for number, _ in world.rejections().values()} == {Check.WEAK, Check.DUPLICATE}
    initial = Manifest.parse(
        world.store.get_block(world.aggregator.terms.identity.initial_model_manifest)
    )
    zeros = {digest for entry in initial.layers for digest in entry.digests}
    # Bob moved one value: a layer of zeros is a block of the first model as well, and stays.
    assert blocks["bob"] & zeros
    assert all(world.store.has(digest) for digest in zeros)
    assert not any(world.store.has(digest) for digest in blocks["bob"] - zeros)
    assert all(world.store.has(digest) for digest in blocks["ann"] | blocks["cem"])


def test_a_value_out_of_range_is_rejected(world: World) -> None:
    world.participants["bob"].trainer = Smallest()
    world.play()
    assert_others_are_paid(world, "bob", Check.RANGE, "-128")


def test_an_update_similar_to_an_earlier_one_is_rejected(world: World) -> None:
    world.participants["cem"].trainer = Noisy("ann")
    world.play()
    words = f"its similarity to the update of {world.address_of('ann')} in this round is 9,"
    assert_others_are_paid(world, "cem", Check.SIMILAR, words)


class Resent(SyntheticTrainer):
    """From the second round on, sends another's update of the round before, with noise."""

    def steps(self, shape: tuple[int, ...], round_id: int, layer: int) -> NDArray[np.int8]:
        if round_id == 1:
            return super().steps(shape, round_id, layer)
        return Noisy("bob").steps(shape, round_id - 1, layer)


def test_an_update_similar_to_one_of_the_rounds_before_is_rejected(world: World) -> None:
    world.participants["cem"].trainer = Resent("cem", 30)
    for _ in range(2):
        world.play()
    number, reason = world.rejections()["cem"]
    assert number == Check.SIMILAR
    assert f"to the update of {world.address_of('bob')} in round 1" in reason
    assert all(line.passed for line in world.audit())


class Mover(SyntheticTrainer):
    """From the second round on, sends on the last movement of the model."""

    def train(self, spec: Spec, model: LayerFolder, *rest: Any) -> TrainedUpdate:
        round_id, update, _ = rest
        if round_id == 1:
            return super().train(spec, model, *rest)
        # The first model is all zeros, so the second one is the movement.
        quanta = 2 ** (24 - spec.encoding.grid_in(round_id))
        update.write(spec, [np.rint(v / quanta).astype(np.int8) for v in model.read(spec)])
        return TrainedUpdate(self.examples, 1.0)


def test_the_last_movement_sent_again_is_rejected(world: World) -> None:
    world.participants["cem"].trainer = Mover("cem", 30)
    for _ in range(2):
        world.play()
    number, reason = world.rejections()["cem"]
    assert number == Check.SIMILAR
    assert "its similarity to the last movement of the model is 9," in reason
    assert all(line.passed for line in world.audit())


def test_what_check_12_cannot_compare_is_reported_and_stays_unchecked(world: World) -> None:
    world.play()
    (reveal,) = [r for r in world.told(RoundId(1)).reveals if r.examples == 20]
    world.withhold(reveal.manifest)
    world.play()
    lines = [line for line in world.audit() if not line.passed]
    assert not [line for line in lines if line.failed]
    of_round = {(line.section, line.round_id) for line in lines}
    assert of_round == {("§6", 1), ("§7", 1), ("§6", 2)}
    words = f"check 12 cannot compare it with round 1: the update of {reveal.participant}"
    assert sum(words in line.detail for line in lines) == 3


def test_a_check_of_another_place_is_seen_differently_from_here(world: World) -> None:
    """The aggregator could not reach an update that everybody else has."""
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    with LyingProxy(world.daemon.url) as proxy:
        proxy.flip(block_of(world, "bob", round_id))
        world.store = ContentStore(proxy.url)
        world.restart_aggregator()
        assert world.settle(round_id) is Status.FINALIZED
    assert world.rejections()["bob"][0] == Check.REACHABLE
    (line,) = [line for line in world.audit() if not line.passed]
    assert line.unchecked
    assert line.seen_differently
    assert "seen differently from here: the bytes are available" in line.line()


def test_nan_never_leaves_the_participant(world: World) -> None:
    world.participants["bob"].trainer = Diverged()
    round_id = world.open_round()
    with pytest.raises(Rejected, match="value 3 is nan after training"):
        world.participants["bob"].commit(round_id)
    submission = world.client().get_submission(round_id, world.address_of("bob"))
    assert submission.state is SubmissionState.NONE
    assert not (round_folder(world, "bob", round_id) / "prepared.json").exists()


# ------------------------------------------------------------------------------ room and patience


def test_all_at_once_proposes_the_same_model(world: World, tmp_path: Path) -> None:
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    world.aggregator.mode = "all_at_once"
    decisions = world.aggregator.propose(round_id)
    folders, weights = [d.folder for d in decisions], [d.verdict.weight for d in decisions]
    target = LayerFolder(tmp_path / "again", "model")
    layerwise = average_layers(world.spec, world.initial, folders, weights, target, round_id)
    assert world.client().get_round(round_id).model_root == layerwise
    assert world.settle(round_id) is Status.FINALIZED
    assert all(line.passed for line in world.audit())


@pytest.mark.parametrize(
    ("what", "line"), [("check_disk", "bytes of disk"), ("check_memory", "bytes of memory")]
)
def test_too_little_room_is_told_before_anything_is_fetched(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str, line: str
) -> None:
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    real = getattr(module, what)

    def small(*arguments: Any) -> object:
        *folder, needed, purpose = arguments
        return real(*folder, needed + 2**60, purpose)

    monkeypatch.setattr(module, what, small)
    with pytest.raises(Misconfigured, match=line):
        world.aggregator.propose(round_id)
    assert not list((world.folder / "aggregator").rglob("*.layer"))
    monkeypatch.undo()
    assert world.settle(round_id) is Status.FINALIZED
    announced = [r for r in world.reports if r["phase"] == "announcing"]
    model, update = (world.spec.total_bytes(kind) for kind in ("model", "update"))
    assert announced[-1]["disk_bytes"] == 2 * model + 3 * update


@pytest.mark.parametrize("trick", ["endless", "huge_chunk", "drip"])
def test_an_update_too_long_or_too_slow_does_not_hold_the_others(
    tmp_path: Path, trick: str
) -> None:
    with World(tmp_path) as world:
        round_id = world.open_round()
        world.commit_and_reveal(round_id)
        cid = block_of(world, "bob", round_id)
        with LyingProxy(world.daemon.url) as proxy:
            getattr(proxy, trick)(cid)
            world.store = ContentStore(proxy.url, timeout_s=1.0, slowest_bytes_per_s=10**6)
            world.restart_aggregator()
            assert world.settle(round_id) is Status.FINALIZED
        assert {name: number for name, (number, _) in world.rejections().items()} == {
            "bob": Check.REACHABLE
        }
        assert world.client().credit_of(world.address_of("ann")) > 0


# --------------------------------------------------------------------------- steps out of turn


def test_a_second_reveal_is_refused_and_loses_nothing(world: World) -> None:
    round_id = world.open_round()
    world.ask("commit", round_id)
    world.participants["ann"].reveal(round_id)
    prepared = read_json(round_folder(world, "ann", round_id) / "prepared.json")
    with pytest.raises(Reverted, match=r"(?i)revealed.*committed|committed.*revealed"):
        world.client(world.wallets["ann"]).reveal(
            round_id,
            bytes.fromhex(prepared["root"]),  # type: ignore[arg-type]
            bytes.fromhex(prepared["manifest"]),  # type: ignore[arg-type]
            prepared["examples"],
            bytes.fromhex(prepared["salt"]),
        )
    for name in ("bob", "cem"):
        world.participants[name].reveal(round_id)
    assert world.settle(round_id) is Status.FINALIZED
    assert not world.rejections()


def test_a_reveal_without_commitment_is_refused(world: World) -> None:
    round_id = world.open_round()
    for name in ("ann", "bob"):
        world.participants[name].commit(round_id)
    world.travel(600)
    word = b"\x01" * 32
    with pytest.raises(Reverted) as refused:
        world.client(world.wallets["cem"]).reveal(round_id, word, word, 1, word)  # type: ignore[arg-type]
    assert refused.value.name == "WrongSubmissionState"
    for name in ("ann", "bob"):
        world.participants[name].reveal(round_id)
    assert world.settle(round_id) is Status.FINALIZED
    assert all(line.passed for line in world.audit())


@both_chains
def test_a_commitment_after_the_deadline_is_refused(world: World) -> None:
    round_id = world.open_round()
    world.participants["ann"].commit(round_id)
    world.travel(600)
    with pytest.raises(Reverted) as refused:
        world.participants["bob"].commit(round_id)
    assert refused.value.name == "WrongStatus"
    assert "Reveal" in str(refused.value)
    assert "Commit" in str(refused.value)
    world.participants["ann"].reveal(round_id)
    assert world.settle(round_id) is Status.FINALIZED


@both_chains
def test_a_commitment_never_revealed_costs_the_penalty(world: World) -> None:
    round_id = world.open_round()
    world.ask("commit", round_id)
    for name in ("ann", "bob"):
        world.participants[name].reveal(round_id)
    world.travel(1200)
    assert world.settle(round_id) is Status.FINALIZED
    standing = world.client().get_participant(world.address_of("cem"))
    assert standing.stake == 40 * TOKEN
    assert not standing.active
    assert all(line.passed for line in world.audit())


@pytest.mark.parametrize(("seconds", "end"), [(0, Status.FINALIZED), (600, Status.ABANDONED)])
def test_a_penalty_is_taken_though_the_aggregator_was_killed_before(
    world: World, monkeypatch: pytest.MonkeyPatch, seconds: int, end: Status
) -> None:
    round_id = world.open_round()
    world.ask("commit", round_id)
    for name in ("ann", "bob"):
        world.participants[name].reveal(round_id)
    world.travel(1200)
    if end is Status.FINALIZED:
        monkeypatch.setattr(world.aggregator, "_penalize", killed)
        with pytest.raises(Killed):
            world.aggregator.propose(round_id)
    world.travel(seconds)
    world.restart_aggregator()
    assert world.settle(round_id) is end
    assert world.client().get_participant(world.address_of("cem")).stake == 40 * TOKEN
    assert all(line.passed for line in world.audit())


def test_a_round_without_updates_leaves_the_model_and_pays_nobody(world: World) -> None:
    before = world.client().current_model()
    round_id = world.open_round()
    world.travel(1200)
    assert world.settle(round_id) is Status.FINALIZED
    assert world.client().current_model() == before
    assert world.client().credit_of(world.aggregator_wallet.address) == 0
    assert world.play() is Status.FINALIZED
    assert world.client().current_model() != before
    assert all(line.passed for line in world.audit())


@both_chains
def test_an_aggregator_that_is_too_late_ends_the_round_without_pay(world: World) -> None:
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    world.travel(1800)
    assert world.aggregator.play(round_id, world.ask) is Status.ABANDONED
    assert world.client().credit_of(world.address_of("ann")) == 0
    assert all(line.passed for line in world.audit())


# -------------------------------------------------------------------------------- interruptions


def test_everybody_may_restart_between_any_two_steps(world: World) -> None:
    trainings = []
    round_id = world.open_round()
    for action in ("commit", "commit", "reveal", "reveal"):
        for name in world.names:
            participant = world.participant(name)
            getattr(participant, action)(round_id)
            assert isinstance(participant.trainer, SyntheticTrainer)
            trainings.append(participant.trainer.calls)
    assert sum(trainings) == 3
    assert world.restart_aggregator().next_round() == round_id
    world.restart_aggregator().propose(round_id)
    assert world.restart_aggregator().next_round() == round_id
    world.restart_aggregator()
    assert world.settle(round_id) is Status.FINALIZED
    assert world.restart_aggregator().next_round() == round_id + 1
    assert all(line.passed for line in world.audit())


def test_killed_between_training_and_commitment_it_does_not_train_again(world: World) -> None:
    round_id = world.open_round()
    participant = world.participants["ann"]
    real = participant.federation.commit
    participant.federation.commit = killed  # type: ignore[method-assign,assignment]
    with pytest.raises(Killed):
        participant.commit(round_id)
    participant.federation.commit = real  # type: ignore[method-assign]
    again = world.participant("ann")
    again.commit(round_id)
    assert isinstance(again.trainer, SyntheticTrainer)
    assert again.trainer.calls == 0
    world.ask("commit", round_id)
    assert again.reveal(round_id) is not None
    submission = world.client().get_submission(round_id, world.address_of("ann"))
    assert submission.state is SubmissionState.REVEALED


def test_a_transaction_mined_just_after_the_look_is_no_failure(world: World) -> None:
    """What an instance that is being killed still sends, arrives between our look and our send."""
    round_id = world.open_round()
    world.ask("commit", round_id)
    late = world.participant("ann")
    looks = iter([SubmissionState.COMMITTED])
    real = late._submission_state
    late._submission_state = lambda number: next(looks, None) or real(number)  # type: ignore[method-assign,assignment]
    world.participants["ann"].reveal(round_id)
    late.reveal(round_id)
    late._submission_state = real  # type: ignore[method-assign]
    for name in ("bob", "cem"):
        world.participants[name].reveal(round_id)
    assert world.settle(round_id) is Status.FINALIZED


def test_an_update_lost_from_disk_is_told_plainly(world: World) -> None:
    round_id = world.open_round()
    world.ask("commit", round_id)
    (round_folder(world, "ann", round_id) / "prepared.json").unlink()
    with pytest.raises(CommonweightError, match="has no update"):
        world.participant("ann").reveal(round_id)


# ---------------------------------------------------------------------------------------- auditor


def test_the_audit_finds_one_value_off_by_one(world: World) -> None:
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    real = average_layers

    # Without `on_layer`: a layer said to be complete is pinned, and is not to be changed any more.
    def off_by_one(spec: Spec, *what: Any, **_: Any) -> object:
        real(spec, *what)
        target = what[3]
        path = target.layer_path(1)
        values = np.fromfile(path, ">i4")
        values[70] += 1
        values.tofile(path)
        return target.root(spec)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "average_layers", off_by_one)
        world.aggregator.propose(round_id)
    world.settle(round_id)
    failed = [line for line in world.audit() if not line.passed]
    assert [(line.section, line.round_id) for line in failed] == [("§7", round_id)]
    # Layer 0 has 8 leaves of 256 values; value 70 of layer 1 is in its first.
    assert failed[0].detail.startswith("leaf 8 differs: value 70 of layer a.lora_B.weight is ")
    wrong = failed[0].wrong_value
    assert wrong is not None
    assert wrong.found == wrong.expected + 1
    assert wrong.weights == (25, 10, 20)  # in ascending order of participant
    steps = [[each] for each in wrong.differences]
    assert [wrong.expected] == reference.move([wrong.before], steps, list(wrong.weights), GRID)


def test_the_audit_finds_an_update_wrongly_rejected(world: World) -> None:
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    real = screen

    def unfair(*arguments: Any, **options: Any) -> list[Screened]:
        decisions = real(*arguments, **options)
        bent = dataclasses.replace(
            decisions[0].verdict, weight=0, score=BasisPoints(0), reason=Check.NORM
        )
        return [dataclasses.replace(decisions[0], verdict=bent), *decisions[1:]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "screen", unfair)
        world.aggregator.propose(round_id)
    world.settle(round_id)
    failed = [line for line in world.audit() if not line.passed]
    assert "§6" in {line.section for line in failed}
    assert any("it should have been accepted" in line.detail for line in failed)


# ---------------------------------------------------------------------------------------- helpers


class Constant(SyntheticTrainer):
    """Moves every value by the same steps."""

    def __init__(self, amount: int) -> None:
        super().__init__("constant", 10)
        self.amount = amount

    def steps(self, shape: tuple[int, ...], round_id: int, layer: int) -> NDArray[np.int8]:
        return np.full(shape, self.amount, np.int8)


class Weak(SyntheticTrainer):
    """Moves one value, by 9 steps."""

    def __init__(self) -> None:
        super().__init__("weak", 10)

    def steps(self, shape: tuple[int, ...], round_id: int, layer: int) -> NDArray[np.int8]:
        moved = np.zeros(shape, np.int8)
        moved.flat[0] = 9 if layer == 0 else 0
        return moved


class Noisy(SyntheticTrainer):
    """Sends another's update, each value off by a step or two."""

    def __init__(self, name: str) -> None:
        super().__init__(name, 30)

    def steps(self, shape: tuple[int, ...], round_id: int, layer: int) -> NDArray[np.int8]:
        copied = super().steps(shape, round_id, layer)
        noise = np.random.default_rng(layer).integers(-2, 3, shape)
        bounded: NDArray[np.int8] = np.clip(copied + noise, -127, 127).astype(np.int8)
        return bounded


class Smallest(SyntheticTrainer):
    """Writes -128, which encoding never does, straight into a layer file."""

    def __init__(self) -> None:
        super().__init__("smallest", 10)

    def train(self, spec: Spec, model: LayerFolder, *rest: Any) -> TrainedUpdate:
        trained = super().train(spec, model, *rest)
        path = rest[1].layer_path(0)
        path.write_bytes(b"\x80" + path.read_bytes()[1:])
        return trained


class Diverged(SyntheticTrainer):
    """Produces NaN."""

    def __init__(self) -> None:
        super().__init__("diverged", 10)

    def steps(self, shape: tuple[int, ...], round_id: int, layer: int) -> NDArray[np.int8]:
        after = np.zeros(shape)
        after.flat[3] = np.nan
        return encode_differences(np.zeros(shape, np.int32), after, None, GRID).steps


def round_folder(world: World, name: str, round_id: RoundId) -> Path:
    return world.folder / name / world.address / f"round-{round_id:04d}"


def manifest_of(world: World, name: str, round_id: RoundId) -> dict[str, Any]:
    prepared = read_json(round_folder(world, name, round_id) / "prepared.json")
    manifest: dict[str, Any] = json.loads(world.store.get_block(parse_digest(prepared["manifest"])))
    return manifest


def block_of(world: World, name: str, round_id: RoundId) -> str:
    """The CID of the first block of an update."""
    return raw_cid(parse_digest(manifest_of(world, name, round_id)["layers"][0]["blocks"][0]))


def play_with_manifest(
    world: World,
    name: str,
    lie: Callable[[dict[str, Any], list[dict[str, Any]]], object],
    round_id: RoundId | None = None,
    root: str | None = None,
) -> None:
    """Play a round in which `name` commits to, and reveals, a manifest that `lie` has bent."""
    round_id = round_id or world.open_round()
    liar = world.participants[name]
    prepared = dataclasses.asdict(liar._prepare(round_id))
    folder = LayerFolder(round_folder(world, name, round_id) / "update", "update")
    subject = Subject(liar.federation.chain_id, world.address, round_id, "update")
    honest = build_manifest(folder, world.spec, subject, parse_digest(prepared["root"]))
    bent = honest.model_dump(mode="json")
    lie(bent, bent["layers"])
    raw = canonical_json(bent)
    prepared |= {"manifest": sha256(raw).hex(), "root": root or prepared["root"]}
    write_json(round_folder(world, name, round_id) / "prepared.json", prepared)
    world.ask("commit", round_id)
    for index in range(len(world.spec.layers)):
        liar.store.put_blocks(folder.blocks(index))
    liar.store.put_block(raw)
    liar.federation.reveal(
        round_id,
        root=parse_digest(prepared["root"]),
        manifest=parse_digest(prepared["manifest"]),
        examples=prepared["examples"],
        salt=bytes.fromhex(prepared["salt"]),
    )
    for other in set(world.names) - {name}:
        world.participants[other].reveal(round_id)
    world.settle(round_id)
