"""The benchmark of privacy goes on where it was, shares no row, and measures what it says."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import privacy
from benchmarks.privacy import CONFIG, QUICK, Enough, Kept, Stage, line_of
from sponsor.config import Config
from training.examples import Example

pytestmark = pytest.mark.long

SIZE = replace(
    QUICK,
    rows=10,
    batch=4,
    steps=1,
    few=4,
    few_batch=2,
    few_steps=1,
    planted=((1, 2), (1, 1)),
    few_planted=((1, 1),),
    members=3,
    controls=4,
    held_out=3,
)
ROWS = [Example(f"What is {n}?", f"It is {n}, and no other.") for n in range(120)]


def stage(folder: Path, most: int | None) -> Stage:
    config = Config.load(CONFIG)
    model = config.model.model_copy(update={"source": "tiny-llama"})
    return Stage(config.model_copy(update={"model": model}), SIZE, Kept(folder, most), ROWS)


def test_an_interrupted_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(privacy, "_MANY", 5)
    monkeypatch.setattr(privacy, "_SPARE", 5)
    with pytest.raises(Enough):
        stage(tmp_path, 7).measure()
    rows = stage(tmp_path, None).measure()
    made = capsys.readouterr().out.splitlines()
    assert len(made) == len({line.split("s  ")[1] for line in made})  # nothing was made twice
    again = stage(tmp_path, 0)
    assert again.measure() == rows
    # Everybody's rows are their own, and canaries are as often there as it says.
    parts = again.parts
    few, alone = parts["few"], parts["alone"]
    real = [
        *parts["controls"],
        *parts["held out"],
        *few.real,
        *(row for rows_of_one in parts["others"] for row in rows_of_one),
        *alone.real,
    ]
    assert len(real) == len(set(real))
    assert len(alone.data) == SIZE.rows
    assert [alone.data.count(each) for each in alone.canaries] == alone.times == [2, 1]
    assert not set(again.canaries[:5]) & {*alone.data, *few.data}
    # One line each: a noised update has a loss, a sketch has none.
    names = [row["published"] for row in rows]
    assert names == [
        "a clear update",
        "a clear update, ε 8",
        "a clear update, short",
        "a mean of 4, short",
        "a mean of 5, short",
        "a clear update, short, ε 8",
        "the sketch of a masked update",
        "the sketch of a masked update, short",
    ]
    assert all(row["published"] in line_of(row) for row in rows)
    assert ["held_out" in row for row in rows] == [True] * 6 + [False] * 2
    assert rows[1]["noise"] > 0
