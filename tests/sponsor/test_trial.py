"""The trial of `federation create`, on the tiny model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.differences import choose_grid
from protocol.encoding import encode_values
from protocol.errors import Misconfigured
from protocol.spec import RoundSchedule, Spec
from sponsor import trial as module
from sponsor.trial import Trial, run_trial
from storage.layers import LayerFolder
from tests.training.conftest import EXAMPLES, make_spec
from training.adapter import initial_array
from training.session import open_session
from training.sources import ModelSource, resolve_source
from training.update import encode_update, exact_difference


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return resolve_source("tiny-llama", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "held_out.jsonl"
    rows = [{"question": each.question, "answer": each.answer} for each in EXAMPLES]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def try_out(
    spec: Spec, tiny: ModelSource, held_out: Path, grid_bits: int | None = None, rounds: int = 1
) -> Trial:
    folder = LayerFolder(tiny.folder.parent / "start", "model")
    start = [initial_array(layer.name, layer.shape, 3) for layer in spec.layers]
    folder.write(spec, [encode_values(values) for values in start])
    source, cache = str(tiny.folder), tiny.folder.parent
    return run_trial(spec, folder, held_out, source, cache, rounds=rounds, grid_bits=grid_bits)


def test_the_grid_is_the_finest_that_fits_and_the_loss_falls(
    tiny: ModelSource, held_out: Path
) -> None:
    spec = make_spec(tiny)
    trial = try_out(spec, tiny, held_out)
    session = open_session(spec, str(tiny.folder), tiny.folder.parent)
    before = [encode_values(initial_array(each.name, each.shape, 3)) for each in spec.layers]
    # The same rows in the same order: the trial draws them by the seed.
    rows = module._draw(EXAMPLES, 3)
    assert sorted(rows, key=repr) == sorted(EXAMPLES, key=repr)
    trained, _ = session.train_arrays(session.decode(before), rows, 3)
    after = [trained[layer.name] for layer in spec.layers]
    differences = [exact_difference(old, new) for old, new in zip(before, after, strict=True)]
    assert trial.evaluation_seconds > 0
    values = np.concatenate([layer.ravel() for layer in differences])
    assert trial.grid_bits == choose_grid(differences)
    assert trial.rms == pytest.approx(float(np.sqrt(np.mean(values**2))))
    reach = 127 * 2.0**-trial.grid_bits
    assert reach >= 3 * trial.rms
    assert trial.clipped_share <= 0.001
    assert trial.relative_error < 0.05
    update = encode_update(before, after, None, trial.grid_bits)
    assert trial.min_norm == int(update.norm() / 10) > 1
    assert trial.loss_before == session.evaluate(before, rows).loss
    assert trial.loss_after == session.evaluate(update.applied_to(before), rows).loss
    assert trial.loss_after < trial.loss_before - 0.1


def test_the_least_norm_is_that_of_the_shortest_round(tiny: ModelSource, held_out: Path) -> None:
    schedule = RoundSchedule(scheduler="cosine", rounds=4, final_learning_rate=0.0002)
    falling = make_spec(tiny, over_rounds=schedule, every=2)
    first, fifth = (try_out(falling, tiny, held_out, rounds=rounds) for rounds in (1, 5))
    assert fifth.grid_bits == first.grid_bits
    # In round 5 the rate is a fiftieth, and the steps are four times finer.
    assert fifth.min_norm == pytest.approx(first.min_norm * 4 / 50, abs=1)
    ending = RoundSchedule(scheduler="cosine", rounds=4, final_learning_rate=0.0)
    assert try_out(make_spec(tiny, over_rounds=ending), tiny, held_out, rounds=5).min_norm == 1


def test_a_grid_of_ones_own_replaces_the_choice(tiny: ModelSource, held_out: Path) -> None:
    chosen = try_out(make_spec(tiny), tiny, held_out)
    coarser = try_out(make_spec(tiny), tiny, held_out, grid_bits=chosen.grid_bits - 2)
    assert coarser.grid_bits == chosen.grid_bits - 2
    assert coarser.relative_error > 2 * chosen.relative_error
    assert coarser.rms == chosen.rms


@pytest.mark.parametrize(
    ("changes", "grid_bits", "told"),
    [
        ({}, 0, "does not lower the loss on the public rows: .* before, .* after"),
        ({"learning_rate": 1e-12}, None, "changed nothing|does not lower the loss"),
        ({"learning_rate": 3e4}, None, "does not lower|no grid can hold|diverged"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_does_not_train_is_refused_in_one_line(
    tiny: ModelSource,
    held_out: Path,
    changes: dict[str, Any],
    grid_bits: int | None,
    told: str,
) -> None:
    with pytest.raises(Misconfigured, match=told) as caught:
        try_out(make_spec(tiny, **changes), tiny, held_out, grid_bits)
    assert "\n" not in str(caught.value)
