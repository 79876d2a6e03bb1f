"""Help is measured exactly as docs/protocol.md §9 says, and no proposal is late because of it."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aggregator import scorer
from contracts.enums import AggregatorState, Status
from node.results import Outcome, round_results
from protocol.checks import Check
from protocol.errors import Misconfigured, Unavailable
from protocol.manifest import Losses, Manifest
from protocol.scoring import HIGHEST_LOSS, to_millionths
from protocol.spec import Spec
from protocol.types import Digest, RoundId
from rounds import score as score_module
from rounds.budget import UNLIMITED
from rounds.context import RoundContext
from rounds.rebuild import Fetcher, obtain_model
from rounds.score import HeldOut, OutOfTime
from rounds.screen import screen
from runtime.events import Event
from storage.files import read_json
from storage.layers import LayerFolder
from tests.protocol import reference
from tests.scored import Bowl, Learner, scored_spec, scored_world
from tests.world import TOKEN, World

PRICE = 20 * TOKEN + 1
NAMES = ("ann", "bob", "cem")


class Backwards(Learner):
    """Sends an honest update with its sign turned: it can only do harm."""

    def steps(self, spec: Spec, model: LayerFolder, round_id: RoundId) -> list[NDArray[np.int8]]:
        return [-each for each in super().steps(spec, model, round_id)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with scored_world(tmp_path, *NAMES) as world:
        yield world


def losses_of(world: World, round_id: RoundId) -> Losses | None:
    raw = world.store.get_block(world.proposal(round_id).manifest)
    return Manifest.parse(raw).losses


def credits(world: World) -> dict[str, int]:
    return {name: world.client().credit_of(world.address_of(name)) for name in world.names}


def scored(world: World) -> dict[str, tuple[int, str]]:
    """Return score and reason of every update that was reported as scored, by name."""
    names = {wallet.address: name for name, wallet in world.wallets.items()}
    told = (r for r in world.reports if r["phase"] == "scored")
    return {names[r["participant"]]: (r["score"], r["reason"]) for r in told}


# ---------------------------------------------------------------------------------- exact


def flat(folder: LayerFolder, spec: Spec) -> list[int]:
    return [int(x) for layer in folder.read(spec) for x in layer.ravel()]


def loss_of(values: list[int], spec: Spec, folder: Path) -> int:
    sizes = [int(np.prod(layer.shape)) for layer in spec.layers]
    parts = np.split(np.array(values, np.int32), np.cumsum(sizes)[:-1])
    model = LayerFolder(folder / "naive", "model")
    shapes = [layer.shape for layer in spec.layers]
    model.write(spec, [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)])
    return to_millionths(Bowl(spec)(model))


def naive_losses(world: World, context: RoundContext) -> list[int]:
    """The losses of §9 by plain integers: before, of the average, without each."""
    spec, grid = world.spec, world.spec.encoding.grid_in(context.round_id)
    who = sorted((r.participant for r in context.reveals), key=lambda each: int(each, 16))
    updates = [flat(context.update_folder(each), spec) for each in who]
    weights, old = [25] * len(updates), flat(obtain_model(context), spec)
    older: list[list[int]] = []
    assert spec.held_out is not None
    if spec.held_out.gain == "new" and (finalized := list(context.finalized_before())):
        for each in finalized[:2]:
            older += [flat(each.update_folder(r.participant), spec) for r, _ in each.averaged]
        then = flat(obtain_model(finalized[0]), spec)
        older.append([new - was for new, was in zip(old, then, strict=True)])
    models = [old, reference.move(old, updates, weights, grid)]
    for place, update in enumerate(updates):
        part = [0] * len(update)
        if older:
            # Another way to the same: fractions of so many values would take minutes.
            factors = np.linalg.lstsq(np.array(older, float).T, np.array(update, float))[0]
            part = reference.repeated_part(older, factors.tolist())
        others = [part if place == k else each for k, each in enumerate(updates)]
        models.append(reference.move(old, others, weights, grid))
    return [loss_of(values, spec, world.folder) for values in models]


@pytest.mark.parametrize("gain", ["whole", "new"])
def test_losses_and_scores_are_those_of_plain_integers(gain: str, tmp_path: Path) -> None:
    with scored_world(tmp_path, *NAMES, spec=scored_spec(gain)) as world:
        world.participants["cem"].trainer = Learner("cem", pace=1 / 3)
        for number in (1, 2):
            assert world.play() is Status.FINALIZED
            losses = losses_of(world, RoundId(number))
            assert losses is not None
            found = [losses.before, losses.average, *(each.loss for each in losses.without)]
            context = world.aggregator._context(world.client(), RoundId(number))
            assert found == naive_losses(world, context)
            earned, harm = reference.scores(found[0], found[1], found[2:])
            assert [v.score for v in world.proposal(RoundId(number)).verdicts] == earned
            assert not any(harm)
            # Who goes a third of the way helps less, and is paid less.
            assert 0 < scored(world)["cem"][0] < 7_000 < scored(world)["ann"][0]
        paid = {
            v.participant: PRICE * v.score // 10_000 for v in world.proposal(RoundId(1)).verdicts
        }
        paid2 = {
            v.participant: PRICE * v.score // 10_000 for v in world.proposal(RoundId(2)).verdicts
        }
        for name, credit in credits(world).items():
            assert credit == paid[world.address_of(name)] + paid2[world.address_of(name)]
        assert all(line.passed for line in world.audit())


def test_a_single_update_is_measured_against_the_model_before(tmp_path: Path) -> None:
    with scored_world(tmp_path, "ann") as world:
        assert world.play() is Status.FINALIZED
        assert credits(world) == {"ann": PRICE}
        losses = losses_of(world, RoundId(1))
        assert losses is not None
        assert losses.without[0].loss == losses.before
        assert all(line.passed for line in world.audit())


def test_what_does_harm_is_left_out_of_the_average_and_unpaid(world: World) -> None:
    world.participants["cem"].trainer = Backwards("cem", pace=1.5)
    assert world.play() is Status.FINALIZED
    check, reason = world.rejections()["cem"]
    assert check == Check.HARM
    assert "is harm" in reason
    paid = credits(world)
    assert paid["cem"] == 0
    assert min(paid["ann"], paid["bob"]) > PRICE // 2
    # The model is the average of the other two, by the rule that the contract knows.
    context = world.aggregator._context(world.client(), RoundId(1))
    assert [r.participant for r, _ in context.averaged] == sorted(
        map(world.address_of, ("ann", "bob")), key=lambda each: int(each, 16)
    )
    updates = [flat(context.update_folder(r.participant), world.spec) for r, _ in context.averaged]
    old, new = (flat(folder, world.spec) for folder in (obtain_model(context), context.new_model))
    assert new == reference.move(old, updates, [25, 25], 8)
    assert all(line.passed for line in world.audit())


def test_nobody_is_paid_where_the_average_does_not_help(world: World) -> None:
    for name in NAMES:
        world.participants[name].trainer = Backwards(name)
    assert world.play() is Status.FINALIZED
    assert credits(world) == dict.fromkeys(NAMES, 0)
    reasons = {reason for _, reason in scored(world).values()}
    assert all("does not lower the held-out loss" in reason for reason in reasons)
    # They moved the model all the same: nothing says who of them does harm.
    assert len(world.aggregator._context(world.client(), RoundId(1)).averaged) == 3
    assert all(line.passed for line in world.audit())


def test_a_participant_is_told_why_it_was_paid_what_it_was(world: World) -> None:
    world.participants["bob"].trainer = Learner("bob", pace=1 / 3)
    world.participants["cem"].trainer = Backwards("cem", pace=1 / 3)
    assert world.play() is Status.FINALIZED
    told = {}
    for name in NAMES:
        (told[name],) = round_results(world.client(), world.address_of(name))
    full, less, none = (told[name].reason for name in NAMES)
    assert full.endswith(
        "paid for 25 of 25 examples, 100.00% by how much the update lowers the held-out loss"
    )
    score = scored(world)["bob"][0]
    assert f"25 of 25 examples, {score / 100:.2f}% by how much" in less
    assert 0 < score < 10_000
    assert told["cem"].outcome is Outcome.UNPAID
    assert none.startswith("accepted, but not paid: the held-out loss is no lower")
    # The aggregator's log has the figures.
    assert "it lowers the loss by 0.0" in scored(world)["bob"][1]
    assert scored(world)["cem"][1].endswith("it does not lower the loss, so it earns nothing")


# --------------------------------------------------------------------- each evaluated once


def test_a_model_is_evaluated_once_and_over_restarts(world: World, tmp_path: Path) -> None:
    bowl, file = Bowl(world.spec), tmp_path / "losses.json"
    root = world.initial.root(world.spec)
    first = HeldOut(world.spec, bowl, file)
    loss = first.loss(world.initial, root)
    assert first.loss(world.initial, root) == loss
    assert HeldOut(world.spec, bowl, file).loss(world.initial, root) == loss
    assert bowl.calls == 1
    # Another set has other losses, and a damaged file none.
    other = world.spec.model_copy(update={"evaluation_digest": "ab" * 32})
    HeldOut(other, bowl, file).loss(world.initial, root)
    file.write_text("[]")
    HeldOut(world.spec, bowl, file).loss(world.initial, root)
    assert bowl.calls == 3


def test_the_newest_losses_alone_are_kept(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rounds.score._MOST_KNOWN", 2)
    bowl, file = Bowl(world.spec), tmp_path / "losses.json"
    roots = [Digest(bytes([number]) * 32) for number in range(3)]
    held_out = HeldOut(world.spec, bowl, file)
    for root in roots:
        held_out.loss(world.initial, root)
    assert list(read_json(file)["losses"]) == [root.hex() for root in roots[1:]]
    held_out.loss(world.initial, roots[2])
    assert bowl.calls == 3


def test_a_round_takes_one_evaluation_more_than_it_has_updates(world: World) -> None:
    bowl = world.evaluate
    assert isinstance(bowl, Bowl)
    assert bowl.calls == 1  # the model before the first round, when the aggregator began
    assert world.play() is Status.FINALIZED
    assert bowl.calls == 1 + 4
    assert world.play() is Status.FINALIZED
    assert bowl.calls == 1 + 4 + 4
    lines = (world.folder / "aggregator" / "profile.jsonl").read_text().splitlines()
    phases = [json.loads(line) for line in lines if '"score"' in line]
    assert [(each["round"], each["evaluations"]) for each in phases] == [(1, 4), (2, 4)]


def test_an_aggregator_that_was_killed_evaluates_only_what_is_left(world: World) -> None:
    class Killed(BaseException):
        pass

    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    bowl = Bowl(world.spec)

    def until_the_third(model: LayerFolder) -> float:
        if bowl.calls == 3:
            raise Killed
        return bowl(model)

    world.aggregator.try_evaluator(until_the_third)
    with pytest.raises(Killed):
        world.aggregator.propose(round_id)
    world.evaluate = again = Bowl(world.spec)
    world.restart_aggregator()
    assert world.settle(round_id) is Status.FINALIZED
    # Both tried themselves on the model before, and four more were needed.
    assert (bowl.calls, again.calls) == (1 + 2, 1 + 2)
    assert len(scored(world)) == 3


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, 1e30])
def test_a_loss_that_is_no_number_is_the_highest(loss: float, world: World) -> None:
    held_out = HeldOut(world.spec, lambda model: loss)
    assert held_out.loss(world.initial, Digest(bytes(32))) == HIGHEST_LOSS


def test_no_evaluation_begins_that_might_end_too_late(world: World) -> None:
    held_out = HeldOut(world.spec, Bowl(world.spec))
    held_out.slowest = 100.0
    with pytest.raises(OutOfTime):
        held_out.loss(world.initial, Digest(bytes(32)), give_up_at=50.0)


# -------------------------------------------------------------------- never late, never stuck


def raising(model: LayerFolder) -> float:
    raise RuntimeError("CUDA out of memory")


def missing(model: LayerFolder) -> float:
    raise Misconfigured("the base model is gone")


def test_a_disk_that_is_full_while_measuring_stops_no_proposal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*what: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(score_module, "write_sums", full)
    assert world.play() is Status.FINALIZED
    (told,) = [r for r in world.reports if r["phase"] == "not scored"]
    assert "No space left" in told["reason"]
    assert credits(world) == dict.fromkeys(NAMES, PRICE)


@pytest.mark.parametrize(
    ("evaluate", "words"),
    [(raising, "RuntimeError: CUDA out of memory"), (missing, "is gone"), (None, "set `model`")],
)
def test_without_a_measurement_everybody_is_paid_and_the_audit_says_so(
    evaluate: Callable[[LayerFolder], float] | None, words: str, world: World
) -> None:
    world.aggregator.held_out = None if evaluate is None else HeldOut(world.spec, evaluate)
    assert world.play() is Status.FINALIZED
    assert credits(world) == dict.fromkeys(NAMES, PRICE)
    (told,) = [r for r in world.reports if r["phase"] == "not scored"]
    assert words in told["reason"]
    assert losses_of(world, RoundId(1)) is None
    (doubt,) = [line for line in world.audit() if not line.passed]
    assert doubt.unchecked
    assert "measured nothing, and gave everybody the full score" in doubt.line()
    lead = world.client(world.aggregator_wallet)
    assert lead.aggregator_state(lead.sender.address) is AggregatorState.BONDED


def test_an_evaluation_that_hangs_is_given_up(world: World) -> None:
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    released, told = threading.Event(), list[Event]()

    def hanging(model: LayerFolder) -> float:
        released.wait(60)
        return 1.0

    context = world.aggregator._context(world.client(), round_id)
    decisions = screen(context)
    before, held_out = obtain_model(context), HeldOut(world.spec, hanging)
    place = context, before, decisions, held_out, Fetcher(UNLIMITED)
    try:
        assert scorer.score(*place, 0.2, told.append) == (decisions, None)
    finally:
        released.set()
    assert [each.phase for each in told] == ["scoring", "not scored"]
    assert "did not end within" in str(told[-1].facts()["reason"])


def test_downloads_leave_the_time_for_evaluations(world: World, tmp_path: Path) -> None:
    """Three quarters of the phase where a fourth is enough otherwise."""
    with World(tmp_path / "equal") as equal:
        for each, kept in ((equal, 150), (world, 450)):
            assert each.aggregator._reserve() == kept
            round_id = each.open_round()
            each.commit_and_reveal(round_id)
            deadline = each.client().get_round(round_id).propose_deadline
            assert deadline - each.aggregator._screen_until(round_id) == max(kept, 300)


def test_what_a_killed_aggregator_left_is_removed(world: World) -> None:
    folder = world.folder / "aggregator" / world.address / "round-0001"
    left = folder / "score-killed" / "model" / "00000.layer"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"a model's layer")
    world.restart_aggregator()
    assert folder.exists()
    assert not (folder / "score-killed").exists()


def test_a_machine_that_is_too_slow_says_so_before_it_bonds(world: World) -> None:
    held_out = HeldOut(world.spec, Bowl(world.spec))
    held_out.slowest = 17.0
    with pytest.raises(
        Misconfigured, match=r"takes 17.0 s .* those of 17 updates 306 s: half .* 300"
    ):
        scorer.check_pace(held_out, 17, 600)
    scorer.check_pace(held_out, 16, 600)


def test_an_aggregator_tries_its_evaluator_at_once_whatever_is_known(world: World) -> None:
    with pytest.raises(Unavailable, match="CUDA out of memory"):
        world.aggregator.try_evaluator(raising)


def test_a_spec_of_other_scoring_than_the_contracts_is_refused(tmp_path: Path) -> None:
    spec: Any = scored_spec()
    world = World(tmp_path, spec=spec)
    with pytest.raises(Misconfigured, match="scoring: equal in the contract, heldOut by the spec"):
        world.__enter__()
    world.daemon.stop()
