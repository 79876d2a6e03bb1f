"""Any single bit that is wrong in a proposed model is found, and proved to the contract."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auditor.averaged import Averaged, Part, collect_averaged
from contracts.reverts import Reverted
from protocol.reveal import Reveal
from protocol.spec import Spec
from protocol.tree import is_proof_valid
from protocol.types import Address, Digest, RoundId
from rounds.average import average_layers
from rounds.compare import first_wrong_value
from storage.layers import LayerFolder
from tests.disputes.lies import auditing, propose
from tests.rounds.test_average import drawn, write
from tests.world import World, small_spec

pytestmark = pytest.mark.long

FAULTS = 1_000
ROUND = RoundId(1)
WEIGHTS = [3, 500, 12]


def flip(folder: LayerFolder, layer: int, place: int, bit: int) -> None:
    with folder.layer_path(layer).open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))


def test_each_of_a_thousand_wrong_bits_is_found_and_proved(tmp_path: Path) -> None:
    spec, rng = small_spec(), np.random.default_rng(11)
    before, updates = write(tmp_path, spec, *drawn(spec, len(WEIGHTS), 5, 2**24))
    model = LayerFolder(tmp_path / "after", "model")
    right = average_layers(spec, before, updates, WEIGHTS, model, ROUND)
    who = Address("0x" + 40 * "1")
    parts = tuple(
        Part(Reveal(who, update.root(spec), Digest(bytes(32)), weight), weight, update)
        for update, weight in zip(updates, WEIGHTS, strict=True)
    )
    starts = np.cumsum([0, *(spec.layer_bytes(index, "model") for index in range(3))])
    for _ in range(FAULTS):
        at, bit = int(rng.integers(starts[-1])), int(rng.integers(8))
        layer = int(np.searchsorted(starts, at, side="right")) - 1
        place = at - int(starts[layer])
        flip(model, layer, place, bit)
        # 1. Found where it is.
        wrong = first_wrong_value(spec, before, updates, WEIGHTS, model, ROUND, threads=1)
        assert wrong is not None
        assert (wrong.leaf, wrong.place) == (at // 1024, place // 4)
        # 2. Proved by §7 from leaves whose proofs hold.
        averaged = Averaged(spec, ROUND, model.root(spec), before, parts, model)
        opened, old, new = averaged.open(wrong.leaf)
        assert is_proof_valid(averaged.root, new.values, wrong.leaf, new.proof)
        assert not averaged.is_right(wrong.leaf, opened, old, new)
        flip(model, layer, place, bit)
    assert model.root(spec) == right


def test_the_contract_sees_a_wrong_bit_in_every_leaf(world: World) -> None:
    """One proposal with a wrong bit in each leaf but the last; the contract is asked about all."""
    leaves, rng = world.spec.leaf_count, np.random.default_rng(3)

    def bits_wrong(spec: Spec, *what: Any) -> Digest:
        average_layers(spec, *what)
        for leaf in range(leaves - 1):
            layer, start = spec.locate_leaf(leaf, "model")
            flip(what[3], layer, start + int(rng.integers(1024)), int(rng.integers(8)))
        return LayerFolder.root(what[3], spec)

    round_id = propose(world, average_layers=bits_wrong)
    audit = auditing(world)
    averaged = collect_averaged(audit, audit.context(round_id))
    assert averaged is not None
    verdicts, federation = world.proposal(round_id).verdicts, audit.federation
    for leaf in range(leaves - 1):
        # Nothing is raised: the contract would refute the proposal.
        federation.try_challenge_average(round_id, leaf, verdicts, *averaged.open(leaf))
    with pytest.raises(Reverted) as refused:
        federation.try_challenge_average(round_id, leaves - 1, verdicts, *averaged.open(leaves - 1))
    assert refused.value.name == "LeafIsRight"


def test_the_contract_sees_what_moved_too_far_and_nothing_else(world: World) -> None:
    """Without any update, and down to the quantum."""
    limit = 127 * 2 ** (24 - world.spec.encoding.grid_in(ROUND))

    def far(spec: Spec, *what: Any) -> Digest:
        average_layers(spec, *what)
        values = np.fromfile(what[3].layer_path(0), ">i4")
        values[0], values[256] = limit, -limit - 1  # the first model is all zeros
        values.tofile(what[3].layer_path(0))
        return LayerFolder.root(what[3], spec)

    round_id = propose(world, average_layers=far)
    audit = auditing(world)
    averaged = collect_averaged(audit, audit.context(round_id))
    assert averaged is not None
    assert averaged.first_leaf_too_far() == 1
    with pytest.raises(Reverted) as refused:
        audit.federation.challenge_move(round_id, 0, *averaged.open_models(0))
    assert refused.value.name == "MoveIsBounded"
    audit.federation.challenge_move(round_id, 1, *averaged.open_models(1))
    assert world.told(round_id).proposed is None
