"""Differences of one byte beside FedAvg in float32, on a model that has learnt something."""

import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import differences
from benchmarks.common import DATA_VARIABLE
from benchmarks.stories import MODEL_FILE, convert_stories
from training.session import close_session, open_session


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Path(os.environ.get(DATA_VARIABLE, "none")) / "stories260k"
    if not (source / MODEL_FILE).is_file():
        pytest.skip(f"set {DATA_VARIABLE} to a folder with stories260k/{MODEL_FILE}")
    folder = tmp_path_factory.mktemp("stories") / "model"
    convert_stories(source, folder)
    return folder


def test_the_converted_model_tells_its_story(stories: Path) -> None:
    """The greedy sample that llama2.c prints for this model."""
    tokenizer = AutoTokenizer.from_pretrained(stories)
    model = AutoModelForCausalLM.from_pretrained(stories)
    start = [1, *tokenizer(" Once upon a time", add_special_tokens=False)["input_ids"]]
    told = model.generate(torch.tensor([start]), max_new_tokens=40, do_sample=False)[0]
    text = tokenizer.decode(told, skip_special_tokens=True)
    assert text.strip().startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the"
    )


@pytest.mark.slow
def test_ten_rounds_with_a_falling_rate_end_where_fedavg_does(stories: Path) -> None:
    spec = differences.make_spec(stories, 0)
    assert spec.training.learning_rate_in(11) == pytest.approx(spec.training.learning_rate / 50)
    session = open_session(spec, str(stories), stories.parent)
    data = differences.read_data()
    exact = differences.play_exactly(session, data)
    grid = differences.trial_grid(session, data)
    rounds = differences.play(differences.with_grid(session, grid, 4), data)
    again = differences.play(differences.with_grid(session, grid, 4), data)
    close_session()
    assert rounds == again  # the same seed, the same losses and figures to the last bit
    assert exact[-1] < 0.8 * exact[0]
    found = differences.compared(exact, rounds)
    assert abs(found["over_exact"]) < 0.02
    assert found["last_zeros"] < 0.2
    assert [each["grid"] for each in rounds] == [grid + (number // 4) for number in range(10)]
    assert max(each["clipped"] for each in rounds) < 0.001


def test_the_summary_is_of_the_last_round() -> None:
    def run(seed: int, every: int, last: float, clipped: float) -> dict[str, object]:
        rounds = [
            {"round": 1, "loss": 3.0, "zeros": 0.0, "clipped": clipped},
            {"round": 2, "loss": last, "zeros": 0.1, "clipped": 0.0},
        ]
        return {"seed": seed, "grid_every": every, **differences.compared([4.0, 3.0, 2.0], rounds)}

    runs = [run(0, 0, 2.2, 0.0), run(1, 0, 2.4, 0.02), run(0, 4, 2.0, 0.0)]
    summary = differences.summarise(runs)
    assert list(summary) == ["0", "4"]
    assert summary["0"]["over_exact"]["mean"] == pytest.approx(0.15)
    assert summary["0"]["most_clipped"] == 0.02
    assert summary["4"]["over_exact"] == {"mean": 0.0, "deviation": 0.0}
    assert summary["4"]["last_zeros"]["mean"] == pytest.approx(0.1)
