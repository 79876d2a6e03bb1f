"""Whatever an aggregator lies about a score, an audit says it, with the figure."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from aggregator import aggregator as module
from aggregator.scorer import score as honest_score
from auditor.check_result import CheckResult
from auditor.disputes import judge
from auditor.replay import Audit
from chain.events import Proposed
from contracts.enums import AggregatorState, Status
from protocol.checks import Check
from protocol.manifest import Losses
from protocol.types import BasisPoints, RoundId
from rounds.score import apply_scores
from rounds.screen import Screened
from storage.ipfs import ContentStore
from tests.disputes.lies import TERMS, WINDOW, judged
from tests.rounds.test_rebuild import Garbage, NothingThere
from tests.scored import TOLERANCE, scored_world
from tests.world import World

Decisions = list[Screened]
Lie = Callable[[Decisions, Losses], tuple[Decisions, Losses | None]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with scored_world(tmp_path, "ann", "bob", "cem") as world:
        yield world


def propose(world: World, lie: Lie, **patches: Any) -> RoundId:
    """Play a round up to a proposal whose scores and losses went through `lie`."""

    def bent(*what: Any) -> tuple[Decisions, Losses | None]:
        decisions, losses = honest_score(*what)
        assert losses is not None
        return lie(decisions, losses)

    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"score": bent, **patches}.items():
            patch.setattr(module, name, value)
        world.aggregator.propose(round_id)
    return round_id


def faults(world: World) -> list[CheckResult]:
    """Return what an audit with the base model does not pass, nothing unchecked."""
    lines = [line for line in world.audit() if not line.passed]
    assert all(line.failed for line in lines), [line.line() for line in lines]
    return lines


def rescored(decisions: Decisions, scores: Sequence[int]) -> Decisions:
    pairs = zip(decisions, scores, strict=True)
    return [judged(each, score=BasisPoints(value)) for each, value in pairs]


def without(losses: Losses, place: int, change: int) -> Losses:
    rows = list(losses.without)
    rows[place] = rows[place].model_copy(update={"loss": rows[place].loss + change})
    return losses.model_copy(update={"without": tuple(rows)})


# ------------------------------------------------------------------------------- the scores


def test_a_friend_gets_one_basis_point_too_many(world: World) -> None:
    def favour(decisions: Decisions, losses: Losses) -> tuple[Decisions, Losses]:
        lowest = min(decisions, key=lambda each: each.verdict.score)
        return [
            judged(each, score=each.verdict.score + 1) if each is lowest else each
            for each in decisions
        ], losses

    round_id = propose(world, favour)
    (fault,) = faults(world)
    lowest = min(world.proposal(round_id).verdicts, key=lambda each: each.score)
    assert fault.section == "§6"
    assert lowest.participant in fault.claim
    assert f"should have been accepted with weight 25 and score {lowest.score - 1}" in fault.detail
    assert "it lowers the loss by" in fault.detail


def test_everybody_is_said_to_have_helped_nothing(world: World) -> None:
    """Which would save the sponsor the whole price."""
    propose(world, lambda decisions, losses: (rescored(decisions, [0, 0, 0]), losses))
    assert len(faults(world)) == 3
    # It stands on chain all the same: scores are reported, not settled.
    assert world.settle(RoundId(1)) is Status.FINALIZED
    assert all(world.client().credit_of(world.address_of(name)) == 0 for name in world.names)


def test_an_honest_update_is_called_harm(world: World) -> None:
    def harm(decisions: Decisions, losses: Losses) -> tuple[Decisions, Losses]:
        nothing = {"weight": 0, "score": BasisPoints(0), "reason": Check.HARM}
        return [judged(decisions[0], **nothing), *decisions[1:]], losses

    propose(world, harm)
    (fault,) = faults(world)
    assert "was rightly rejected by check 13" in fault.claim
    assert "should have been accepted with weight 25" in fault.detail


# ------------------------------------------------------------------------------- the losses


def test_a_loss_is_made_up_to_pay_a_friend_more(world: World) -> None:
    """The scores follow from the losses; the loss does not follow from its model."""

    def shade(decisions: Decisions, losses: Losses) -> tuple[Decisions, Losses]:
        bent = without(losses, 1, TOLERANCE + 1)
        plain = [judged(each, score=BasisPoints(10_000)) for each in decisions]
        return apply_scores(plain, bent), bent

    round_id = propose(world, shade)
    (fault,) = faults(world)
    friend = world.proposal(round_id).verdicts[1].participant
    assert fault.section == "§9"
    assert f"the loss without {friend} is said to be" in fault.detail
    assert ", here it is " in fault.detail


def test_a_difference_of_machines_is_no_lie(world: World) -> None:
    def other_machine(decisions: Decisions, losses: Losses) -> tuple[Decisions, Losses]:
        bent = without(losses, 0, TOLERANCE)
        bent = bent.model_copy(update={"average": bent.average - TOLERANCE})
        plain = [judged(each, score=BasisPoints(10_000)) for each in decisions]
        return apply_scores(plain, bent), bent

    propose(world, other_machine)
    assert faults(world) == []


def test_losses_that_pay_less_are_left_out(world: World) -> None:
    propose(world, lambda decisions, losses: (rescored(decisions, [10_000, 0, 10_000]), None))
    (fault,) = faults(world)
    assert "lists the held-out losses" in fault.claim
    assert fault.detail == "it lists none"


def test_losses_of_some_only(world: World) -> None:
    def one_left_out(decisions: Decisions, losses: Losses) -> tuple[Decisions, Losses]:
        return decisions, losses.model_copy(update={"without": losses.without[1:]})

    propose(world, one_left_out)
    (fault,) = faults(world)
    assert fault.detail == "its losses are not those of the updates that passed"


def test_garbage_in_place_of_the_losses(world: World) -> None:
    propose(world, lambda decisions, losses: (decisions, losses), Pinning=Garbage)
    assert ["lists the held-out losses" in line.claim for line in faults(world)] == [True]


def test_a_manifest_that_nobody_can_get_says_nothing_of_the_scores(world: World) -> None:
    propose(world, lambda decisions, losses: (decisions, losses), Pinning=NothingThere)
    doubts = [line for line in world.audit() if not line.passed]
    assert [line.unchecked for line in doubts if line.section == "§9"] == [True]
    assert not any(line.failed for line in doubts if line.section != "§7")


def test_without_a_base_model_the_scores_are_checked_and_their_losses_not(world: World) -> None:
    assert world.play() is Status.FINALIZED
    store = ContentStore(world.daemon.url)
    lines = list(Audit(world.client(), store, world.folder / "audit").run())
    (doubt,) = [line for line in lines if not line.passed]
    assert doubt.unchecked
    assert "could not check: no base model here" in doubt.line()


# ------------------------------------------------------------- what the contract settles


def weight_of_a_friend(decisions: Decisions) -> Decisions:
    return [judged(decisions[0], weight=24), *decisions[1:]]


def original_called_a_copy(decisions: Decisions) -> Decisions:
    nothing = {"weight": 0, "score": BasisPoints(0), "reason": Check.DUPLICATE}
    return [judged(decisions[0], **nothing), *decisions[1:]]


def called_zero(decisions: Decisions) -> Decisions:
    nothing = {"weight": 0, "score": BasisPoints(0), "reason": Check.ZERO}
    return [judged(decisions[0], **nothing), *decisions[1:]]


@pytest.mark.parametrize("lie", [weight_of_a_friend, original_called_a_copy, called_zero])
def test_weights_and_reasons_of_the_chain_cost_the_bond(
    lie: Callable[[Decisions], Decisions], tmp_path: Path
) -> None:
    with scored_world(tmp_path, "ann", "bob", "cem", **TERMS) as world:
        world.stand_by()
        round_id = propose(world, lambda decisions, losses: (lie(decisions), losses))
        standing: Proposed = world.proposal(round_id)
        audit = Audit(
            world.client(world.auditor), ContentStore(world.daemon.url), world.folder / "auditor"
        )
        ((line, is_final),) = judge(audit, audit.context(round_id))
        assert is_final
        assert "was refuted" in line
        state = world.client().aggregator_state(standing.aggregator)
        assert state is AggregatorState.SLASHED
        # The standby measures the round itself.
        standby = world.stand_by()
        standby.propose(round_id)
        assert any(each.score > 0 for each in world.proposal(round_id).verdicts)
        world.travel(WINDOW)
        standby.settle(round_id)
        assert world.client().status(round_id) is Status.FINALIZED
        assert all(line.passed for line in world.audit() if line.section == "§9")
