"""A round's training on the tiny model: the update it gives, what it carries, what others use."""

from pathlib import Path

import numpy as np
import pytest

from protocol.encoding import encode_values
from protocol.errors import Misconfigured
from protocol.spec import Spec
from tests.training.conftest import EXAMPLES, lora, make_spec
from training.adapter import initial_array, rank_part
from training.session import Session, close_session, open_session
from training.sources import ModelSource
from training.update import IntegerLayers, Update


def first_model(spec: Spec) -> IntegerLayers:
    return [encode_values(initial_array(each.name, each.shape, 3)) for each in spec.layers]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def session_of(spec: Spec, tiny: ModelSource, cache: Path) -> Session:
    return open_session(spec, str(tiny.folder), cache)


def same(one: Update, other: Update) -> bool:
    steps = zip(one.steps, other.steps, strict=True)
    carried = zip(one.carried, other.carried, strict=True)
    return all(np.array_equal(a, b) for a, b in steps) and all(
        np.array_equal(a, b) for a, b in carried
    )


def test_the_update_is_what_training_moved(tiny: ModelSource, cache: Path) -> None:
    spec = make_spec(tiny, grid=11)
    session, before = session_of(spec, tiny, cache), first_model(spec)
    update, report = session.train(before, EXAMPLES, 5)
    trained, _ = session.train_arrays(session.decode(before), EXAMPLES, 5)
    for layer, steps, left, old in zip(
        spec.layers, update.steps, update.carried, before, strict=True
    ):
        moved = trained[layer.name].astype(np.float64) - old * 2.0**-24
        assert (steps * 2.0**-11 + left == moved).all(), layer.name  # exact: nothing was clipped
        assert np.abs(left).max() <= 2.0**-12
    assert update.clipped_share == 0 < update.relative_error < 0.1
    assert report.examples == 12
    assert same(session.train(before, EXAMPLES, 5)[0], update)
    # What others use of it lowers the loss as training did.
    losses = [
        session.evaluate(layers, EXAMPLES).loss for layers in (before, update.applied_to(before))
    ]
    exact = [encode_values(trained[layer.name]) for layer in spec.layers]
    assert losses[1] < losses[0] - 0.1
    assert losses[1] == pytest.approx(session.evaluate(exact, EXAMPLES).loss, rel=1e-3)


def test_what_was_carried_goes_into_the_next_update(tiny: ModelSource, cache: Path) -> None:
    spec = make_spec(tiny, grid=6, learning_rate=0.001)
    session, before = session_of(spec, tiny, cache), first_model(spec)
    # Each value moves by less than half a step: alone it rounds to nothing.
    first, _ = session.train(before, EXAMPLES, 5)
    assert first.norm() == 0 < max(float(np.abs(layer).max()) for layer in first.carried)
    sent, carried = 0.0, first.carried
    for _ in range(4):
        update, _ = session.train(before, EXAMPLES, 5, carried=carried)
        carried, sent = update.carried, sent + update.norm()
    assert sent > 0


def test_the_grid_is_that_of_the_round(tiny: ModelSource, cache: Path) -> None:
    spec = make_spec(tiny, grid=9, every=2)
    session, before = session_of(spec, tiny, cache), first_model(spec)
    grids = [session.train(before, EXAMPLES, 5, round_id=number)[0].grid for number in (1, 2, 3)]
    assert grids == [9, 9, 10]


@pytest.mark.parametrize("mode", ["fedit", "ffa"])
def test_fewer_ranks_leave_zeros(tiny: ModelSource, cache: Path, mode: str) -> None:
    spec = make_spec(tiny, adapter=lora(mode=mode))
    session, before = session_of(spec, tiny, cache), first_model(spec)
    assert {".lora_A." in layer.name for layer in spec.layers} == {mode == "fedit", False}
    update, _ = session.train(before, EXAMPLES, 5, rank=2)
    for layer, steps in zip(spec.layers, update.steps, strict=True):
        part = rank_part(layer.name, 2)
        assert steps[part].any(), layer.name
        rest = steps.copy()
        rest[part] = 0
        assert not rest.any(), layer.name
    with pytest.raises(Misconfigured, match="rank 5 is not one of 1 to 4"):
        session.train(before, EXAMPLES, 5, rank=5)


def test_fedprox_makes_shorter_updates(tiny: ModelSource, cache: Path) -> None:
    norms = []
    for mu in (0.0, 100.0):
        spec = make_spec(tiny, proximal_mu=mu)
        session = session_of(spec, tiny, cache)
        norms.append(session.train(first_model(spec), EXAMPLES, 5)[0].norm())
    assert norms[0] > 1.2 * norms[1] > 0


def test_a_closed_session_is_loaded_anew(tiny: ModelSource, cache: Path) -> None:
    spec = make_spec(tiny)
    session = session_of(spec, tiny, cache)
    assert session_of(spec, tiny, cache) is session
    close_session()
    assert session_of(spec, tiny, cache) is not session
