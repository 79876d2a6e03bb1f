"""The benchmark of incentives plays, screens and scores as a federation does."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import incentives
from benchmarks.incentives import CHEATS, Play, Stage, summarise
from protocol.checks import Check
from protocol.spec import Spec
from protocol.types import Address, RoundId
from storage.layers import LayerFolder
from tests.scored import Bowl, Learner, scored_spec
from training.examples import Example

HONEST = [Address(f"0x{number:040x}") for number in range(1, 5)]


@dataclass
class SmallSession:
    """Evaluates and trains in the bowl; the first example names the participant."""

    spec: Spec
    folder: Path
    trainings: int = 0

    def with_spec(self, spec: Spec) -> "SmallSession":
        return SmallSession(spec, self.folder)

    def evaluate_each(self, layers: Any, examples: Any) -> Any:
        loss = Bowl(self.spec)(self._write(layers))
        return [SimpleNamespace(loss=loss, tokens=1) for _ in examples]

    def train(self, layers: Any, examples: Any, seed: int, *, round_id: int) -> Any:
        self.trainings += 1
        learner = Learner(f"{examples[0].question}{seed // 1000}")
        return SimpleNamespace(
            steps=learner.steps(self.spec, self._write(layers), RoundId(round_id))
        ), None

    def _write(self, layers: Any) -> LayerFolder:
        folder = LayerFolder(self.folder / "session", "model")
        folder.write(self.spec, layers)
        return folder


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    spec = scored_spec()
    initial = LayerFolder(tmp_path / "initial", "model")
    initial.write(spec, [np.zeros(layer.shape, np.int32) for layer in spec.layers])
    data = {who: [Example(who, "yes")] for who in HONEST}
    session: Any = SmallSession(spec, tmp_path)
    held_out = [Example("is it", "so")] * 16
    return Stage(spec, session, initial, data, held_out, tmp_path / "memory", 25, 0)


def test_each_way_pays_and_rejects_as_a_federation_does(stage: Stage) -> None:
    def checks(cheat: str, way: incentives.Way = "whole") -> tuple[list[int], float]:
        played = Play(stage, way, CHEATS[cheat]).run(2)
        return [row["check"] for row in played["rounds"] if row["sent"]], played["pay"]

    assert checks("zero") == ([Check.ZERO] * 2, 0.0)
    assert checks("copy") == ([Check.DUPLICATE] * 2, 0.0)
    assert checks("last movement") == ([Check.SIMILAR], 0.0)
    assert checks("own last update") == ([Check.SIMILAR], 0.0)
    assert checks("noise", "equal") == ([0, 0], 1.0)
    found, pay = checks("noise")
    assert found == [0, 0]
    assert pay < 0.05
    assert checks("movement, cosine 0.6", "new")[1] < 0.05
    assert checks("movement, cosine 0.6", "whole")[1] > 0.5
    assert 0.7 < checks("honest")[1] < 1.4


def test_what_was_trained_and_evaluated_is_not_done_again(stage: Stage) -> None:
    session: Any = stage.session
    Play(stage, "whole", CHEATS["none"]).run(2)
    trainings, evaluations = session.trainings, stage.losses.evaluations
    assert trainings == 2 * len(HONEST)
    again = Stage(
        stage.spec, session, stage.initial, stage.data, stage.held_out, stage.memory, 25, 0
    )
    # A rejected cheat leaves the same models behind.
    Play(again, "whole", CHEATS["zero"]).run(2)
    assert session.trainings == trainings
    assert again.losses.evaluations == 0 < evaluations


def test_a_loss_is_compared_with_the_run_without_the_cheat() -> None:
    def run(cheat: str, loss: float) -> dict[str, Any]:
        rows = [{"sent": cheat != "none", "check": 0}]
        return {"seed": 0, "cheat": cheat, "way": "equal", "pay": 1.0, "loss": loss, "rounds": rows}

    rows = {row["cheat"]: row for row in summarise([run("none", 2.0), run("noise", 2.1)])}
    assert rows["noise"]["worse"] == pytest.approx(0.05)
    assert rows["noise"]["checks"] == [0]
    assert rows["none"]["worse"] == 0
