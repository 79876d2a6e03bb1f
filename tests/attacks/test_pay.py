"""Attacks on what the sponsor pays: a posted price leaves nobody else's money to take."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from chain.federation import Federation
from contracts.enums import Status
from contracts.reverts import Reverted
from protocol.checks import Check
from protocol.spec import Spec
from protocol.types import BasisPoints, TokenUnits
from rounds.screen import Screened
from sponsor.manage import refund
from tests.disputes.lies import judged, judging
from tests.world import TOKEN, SyntheticTrainer, World, small_spec

PRICE = 20 * TOKEN + 1  # of an update of full weight
FEE = 5 * TOKEN
WEIGHT_CAP = 25


class OneQuantum(SyntheticTrainer):
    """Sends the model with one value moved by one step, and claims 1,000 examples."""

    def __init__(self) -> None:
        super().__init__("lazy", 1_000)

    def steps(self, shape: tuple[int, ...], round_id: int, layer: int) -> NDArray[np.int8]:
        moved = np.zeros(shape, np.int8)
        moved.flat[0] = int(layer == 0)
        return moved


def spec_of(min_norm: int) -> Spec:
    return small_spec(screening={"min_norm": min_norm, "max_update_norm": 10.0})


def credits(world: World) -> dict[str, int]:
    return {name: world.client().credit_of(world.address_of(name)) for name in world.names}


@pytest.mark.parametrize("min_norm", [1, 2])
def test_the_model_plus_one_quantum_claiming_1000_examples(tmp_path: Path, min_norm: int) -> None:
    """It earns one posted price at most, nothing with a limit, and nobody else earns less."""
    with World(tmp_path, spec=spec_of(min_norm)) as world:
        world.participants["cem"].trainer = OneQuantum()
        assert world.play() is Status.FINALIZED
        honest = {"ann": PRICE * 10 // WEIGHT_CAP, "bob": PRICE * 20 // WEIGHT_CAP}
        is_accepted = min_norm == 1
        assert credits(world) == {**honest, "cem": PRICE if is_accepted else 0}
        checks = {name: check for name, (check, _) in world.rejections().items()}
        assert checks == ({} if is_accepted else {"cem": Check.WEAK})
        assert all(line.passed for line in world.audit())


def test_a_lead_that_rejects_everybody_but_its_friend(tmp_path: Path) -> None:
    """The friend gets one price, the lead a part of its fee; the sponsor closes, and has the rest.

    "Not reachable" is a rejection that no chain and no audit can call false.
    """
    with World(tmp_path) as world:
        friend = world.address_of("bob")

        def favour(decisions: list[Screened]) -> list[Screened]:
            nothing = {"weight": 0, "score": BasisPoints(0), "reason": Check.REACHABLE}
            return [
                d if d.reveal.participant == friend else judged(d, **nothing) for d in decisions
            ]

        round_id = judging(favour)(world)
        assert world.settle(round_id) is Status.FINALIZED
        assert credits(world) == {"ann": 0, "bob": PRICE * 20 // WEIGHT_CAP, "cem": 0}
        fee = FEE * 20 // (10 + 20 + WEIGHT_CAP)
        assert world.client().credit_of(world.aggregator_wallet.address) == fee
        # Neither passed nor failed: the auditor sees it differently, and says so.
        doubts = [line for line in world.audit() if not line.passed]
        assert [line.failed for line in doubts] == [False, False]
        assert all("seen differently from here" in line.line() for line in doubts)
        # The sponsor ends it.
        sponsor = Federation(world.w3, world.address, world.sponsor)
        escrow, held = sponsor.escrow(), world.token.balance_of(sponsor.sender.address)
        assert escrow == 3 * sponsor.terms().round_cost - fee - PRICE * 20 // WEIGHT_CAP
        sponsor.close()
        assert sponsor.is_over()
        with pytest.raises(Reverted, match="closed by the sponsor: yes"):
            world.client(world.aggregator_wallet).open_round()
        assert refund(sponsor) == escrow
        assert world.token.balance_of(sponsor.sender.address) == TokenUnits(held + escrow)
