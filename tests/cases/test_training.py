"""Training that raises: one line, another try where that helps, and a round left in order."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from contracts.enums import Status, SubmissionState
from node.participant import TrainedUpdate, TrainingFailed, training_failures
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import RoundId
from runtime.service import ran_out_of_memory
from storage.layers import LayerFolder
from tests.rounds.test_roles import Ledger
from tests.world import SyntheticTrainer, World
from training.update import Carried

ROUND = RoundId(1)
NO_MEMORY = (
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("can't start new thread"),
)
NOT_OURS = (KeyError("label"), ValueError("row 7 is bad\nhere"), RuntimeError("mat1 and mat2"))


class Raises(SyntheticTrainer):
    """Raises `errors` in turn, and then trains."""

    def __init__(self, name: str, errors: list[Exception]) -> None:
        super().__init__(name, 10)
        self.errors = errors

    def train(
        self,
        spec: Spec,
        model: LayerFolder,
        round_id: RoundId,
        update: LayerFolder,
        carried: Carried | None,
    ) -> TrainedUpdate:
        if self.errors:
            self.calls += 1
            raise self.errors.pop(0)
        return super().train(spec, model, round_id, update, carried)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with World(tmp_path) as world:
        yield Ledger(world)


def begin(ledger: Ledger, errors: list[Exception]) -> Raises:
    """Open a round in which ann's training raises `errors`; return her trainer."""
    ledger.world.open_round()
    trainer = Raises("ann", errors)
    ledger.followers["ann"].participant.trainer = trainer
    return trainer


@pytest.mark.parametrize("error", NO_MEMORY, ids=str)
def test_after_memory_ran_out_it_trains_again(ledger: Ledger, error: Exception) -> None:
    trainer = begin(ledger, [error, error])
    for _ in range(2):
        with pytest.raises(TrainingFailed, match=r"memory ran out .*set `rank`") as caught:
            ledger.followers["ann"].step()
        assert caught.value.service == "training"
    ledger.followers["ann"].step()
    assert trainer.calls == 3
    assert len(ledger.told("ann", "committed")) == 1


@pytest.mark.parametrize("error", [*NOT_OURS, 3 * [MemoryError()]], ids=str)
def test_what_does_not_pass_costs_the_round_and_nothing_else(
    ledger: Ledger, error: Exception | list[Exception]
) -> None:
    errors = list(error) if isinstance(error, list) else [error]
    tries = len(errors)
    trainer = begin(ledger, [*errors, *errors])
    for _ in range(tries - 1):
        with pytest.raises(TrainingFailed):
            ledger.followers["ann"].step()
    assert ledger.followers["ann"].step()
    assert ledger.followers["ann"].step()
    assert trainer.calls == tries  # not again in this round
    (line,) = ledger.told("ann", "training given up")
    assert line["round"] == ROUND
    assert line["reason"].isprintable()
    # The round goes on without her, no stake is touched, and the next one finds her.
    world, ann = ledger.world, ledger.world.address_of("ann")
    stake = world.client().get_participant(ann).stake
    for name in ("bob", "cem"):
        ledger.followers[name].step()
    world.travel(700)  # past the commit phase
    for name in ("bob", "cem"):
        ledger.followers[name].step()
    assert world.client().get_submission(ROUND, ann).state is SubmissionState.NONE
    assert world.settle(ROUND) is Status.FINALIZED
    assert world.client().get_participant(ann).stake == stake
    trainer.errors.clear()
    world.open_round()
    ledger.followers["ann"].step()
    assert [line["round"] for line in ledger.told("ann", "committed")] == [2]


def test_errors_of_ours_pass_as_they_are() -> None:
    with pytest.raises(Misconfigured, match="row 7"), training_failures():
        raise Misconfigured("row 7")
    with pytest.raises(OSError, match="full"), training_failures():
        raise OSError("full")


class Tensor:
    """Something large."""


def test_nothing_holds_the_memory_that_ran_out() -> None:
    held: list[weakref.ref[Tensor]] = []

    def train() -> None:
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        raise MemoryError

    with pytest.raises(TrainingFailed) as caught, training_failures():
        train()
    gc.collect()
    assert held[0]() is None, caught.value


def test_other_faults_are_not_taken_for_a_lack_of_memory() -> None:
    assert all(map(ran_out_of_memory, NO_MEMORY))
    assert not any(map(ran_out_of_memory, NOT_OURS))
