"""A federation in one process with trainers of one's own, and the notebook that shows it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from commonweight.local import LocalFederation
from node.array_trainer import Array, TrainArrays, TrainedArrays
from protocol.errors import Misconfigured

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(5)
TRUTH = RNG.normal(size=(64, 4))


def learner(rows: int) -> TrainArrays:
    """Return a function that fits a linear model to rows of its own; fewer than weights."""
    own = np.random.default_rng(rows)

    def train(model: dict[str, Array]) -> TrainedArrays:
        # Drawn anew: who goes on in the direction of the last round is taken for a copy of it.
        given = own.normal(size=(rows, 64))
        wanted = given @ TRUTH
        weights = model["weights"].astype(np.float64)
        for _ in range(20):
            weights -= 0.02 * given.T @ (given @ weights - wanted) / rows
        loss = float(np.mean(np.square(given @ weights - wanted)))
        return TrainedArrays({**model, "weights": weights}, examples=rows, loss=loss)

    return train


@pytest.fixture(scope="module")
def local() -> Iterator[LocalFederation]:
    initial = {"weights": np.zeros((64, 4)), "bias": np.zeros(4)}
    trainers = {"ann": learner(20), "bob": learner(40)}
    with LocalFederation(initial, trainers, rounds=3, weight_cap=40) as local:
        yield local


def distance(weights: NDArray[Any]) -> float:
    return float(np.linalg.norm(weights - TRUTH))


def test_functions_train_one_model_and_are_paid(local: LocalFederation) -> None:
    distances = [distance(local.model()["weights"])]
    for played in local.play(2):
        assert played.outcome == "finalized"
        assert played.paid == {"ann": 5.0, "bob": 10.0}
        assert played.reasons["ann"] == "accepted and paid for 20 of 40 examples"
        assert set(played.losses) == {"ann", "bob"}
        distances.append(distance(local.model()["weights"]))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.9 * distances[0]
    checks = local.audit()
    assert [check.line() for check in checks if not check.passed] == []
    assert local.federation.round_count() == 2


@pytest.mark.long
def test_masked_updates_lead_to_the_same_model() -> None:
    initial = {"weights": np.zeros((64, 4)), "bias": np.zeros(4)}
    models = []
    for privacy in ("clear", "masked"):
        trainers = {"ann": learner(20), "bob": learner(40), "cem": learner(30)}
        about: Any = {"weight_cap": 40, "grid_bits": 14, "privacy": privacy}
        with LocalFederation(initial, trainers, **about) as local:
            outcomes = [played.outcome for played in local.play(2)]
            checks = local.audit()
            models.append(local.model())
        assert outcomes == ["finalized", "finalized"]
        assert [check.line() for check in checks if not check.passed] == []
    for name in initial:
        np.testing.assert_array_equal(models[0][name], models[1][name])


def test_two_cannot_hide_one_another() -> None:
    trainers = {"ann": learner(20), "bob": learner(40)}
    with pytest.raises(Misconfigured, match="masks take 3 participants, not 2"):
        LocalFederation({"weights": np.zeros((64, 4))}, trainers, grid_bits=14, privacy="masked")


def test_who_fails_in_one_round_is_paid_in_the_next(local: LocalFederation) -> None:
    participant = local._participants["bob"]
    honest, participant.trainer = participant.trainer, Failing()
    with pytest.raises(Misconfigured, match="no array 'bias'"):
        list(local.play())
    participant.trainer = honest
    (played,) = local.play()
    assert played.round == 3
    assert set(played.paid) == {"ann", "bob"}
    assert list(local.play()) == []  # it is over


class Failing:
    """Forgets an array."""

    def train(self, *given: Any) -> Any:
        raise Misconfigured("the trainer returned no array 'bias'")


@pytest.mark.parametrize("grid_bits", [None, 6])
@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"weights": np.ones((2, 3))}, "returned no array 'bias'"),
        ({"weights": np.ones((3, 2)), "bias": np.ones(3)}, r"of shape \(2, 3\), found float64 of"),
        ({"weights": np.ones((2, 3), int), "bias": np.ones(3)}, "expected floating-point values"),
        (
            {"weights": np.ones((2, 3)), "bias": np.ones(3), "more": np.ones(1)},
            "'more', which is not in the model",
        ),
        (
            {"weights": np.full((2, 3), np.nan), "bias": np.ones(3)},
            "training diverged|not numbers|that are not",
        ),
    ],
)
def test_other_arrays_than_the_models_are_one_line(
    arrays: dict[str, NDArray[Any]], words: str, grid_bits: int | None
) -> None:
    initial = {"weights": np.zeros((2, 3)), "bias": np.zeros(3)}
    trainers = {"ann": lambda model: TrainedArrays(arrays, examples=1, loss=0.0)}
    with (
        pytest.raises(Misconfigured, match=words),
        LocalFederation(initial, trainers, grid_bits=grid_bits) as local,
    ):
        list(local.play())


def test_what_cannot_be_a_federation_is_refused_before_a_chain_is_started() -> None:
    train = learner(5)
    with pytest.raises(Misconfigured, match="one array at least"):
        LocalFederation({}, {"ann": train})
    many = {f"participant {number}": train for number in range(9)}
    with pytest.raises(Misconfigured, match="expected 1 to 8 participants, not 9"):
        LocalFederation({"weights": np.zeros((64, 4))}, many)
    idle = {"ann": lambda model: TrainedArrays(model, examples=1, loss=0.0)}
    with pytest.raises(Misconfigured, match="training changed nothing"):
        LocalFederation({"weights": np.zeros((64, 4))}, idle)


def test_the_notebook_runs_as_it_stands() -> None:
    notebook = json.loads((ROOT / "docs" / "custom_trainer.ipynb").read_text())
    cells = ["".join(each["source"]) for each in notebook["cells"] if each["cell_type"] == "code"]
    names: dict[str, Any] = {}
    for cell in cells:
        exec(compile(cell, "custom_trainer.ipynb", "exec"), names)
    assert names["checks"]
    assert all(check.passed for check in names["checks"])
    assert names["errors"][-1] < names["errors"][0] / 2
