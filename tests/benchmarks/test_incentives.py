"""The benchmark of incentives plays, screens and scores as a federation does."""

import json
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


def test_plays_add_up_to_one_table(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stage, "open", lambda *_: stage)

    def told(*arguments: str) -> list[tuple[str, str]]:
        monkeypatch.setattr("sys.argv", ["", "--quick", "--out", str(tmp_path), *arguments])
        incentives.main()
        summary = json.loads((tmp_path / "incentives-quick.json").read_text())["summary"]
        return [(row["cheat"], row["way"]) for row in summary]

    whole = [("none", "whole"), ("zero", "whole")]
    assert told("--cheats", "zero", "--ways", "whole") == whole
    both = ["--cheats", "noise", "--ways", "new", "--add"]
    assert sorted(told(*both)) == sorted([*whole, ("none", "new"), ("noise", "new")])
    assert sorted(told(*both)) == sorted([*whole, ("none", "new"), ("noise", "new")])
    assert told("--cheats", "zero", "--ways", "whole") == whole
    assert (tmp_path / "incentives-quick.png").stat().st_size > 1000


def test_the_cosine_that_check_12_saw_is_told(stage: Stage) -> None:
    def similar(cheat: str) -> tuple[float, float]:
        last = Play(stage, "whole", CHEATS[cheat]).run(2)["rounds"][-1]
        return last["similar"], max(last["honest_similar"])

    assert similar("last movement")[0] > 0.9
    assert similar("copy, cosine 0.6")[0] == pytest.approx(0.6, abs=0.05)
    assert similar("none")[0] == 0
    assert 0 < similar("none")[1] < 0.9


def test_runs_are_summed_up_beside_that_without_the_cheat() -> None:
    def run(cheat: str, loss: float, honest: list[list[float]]) -> dict[str, Any]:
        beside = {"similar": 0.3, "honest_similar": [0.1, 0.2]}
        rows = [{"sent": cheat != "none", "check": 0, "honest": each, **beside} for each in honest]
        return {"seed": 0, "cheat": cheat, "way": "equal", "pay": 1.0, "loss": loss, "rounds": rows}

    runs = [run("none", 2.0, [[1, 1], [1, 1]]), run("noise", 2.1, [[0.2, 0.6], [0.2, 1.0]])]
    rows = {row["cheat"]: row for row in summarise(runs)}
    assert rows["noise"]["worse"] == pytest.approx(0.05)
    assert rows["noise"]["checks"] == [0]
    assert rows["noise"]["similar"] == 0.3
    assert rows["noise"]["honest_similar"] == 0.2
    assert rows["noise"]["honest"] == pytest.approx(0.5)
    assert rows["noise"]["least"] == pytest.approx(0.25)
    assert rows["none"]["worse"] == 0
    assert rows["none"]["similar"] == 0
