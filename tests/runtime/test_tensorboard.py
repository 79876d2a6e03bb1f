"""Figures for TensorBoard: read back by TensorBoard itself, and never in a round's way."""

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from protocol.errors import Misconfigured
from protocol.types import RoundId, TokenUnits
from runtime import events
from runtime.events import Event
from runtime.logs import figures_reporter
from runtime.tensorboard import TensorBoard
from tests.runtime.test_events import KINDS, example

FIRST, SECOND = RoundId(1), RoundId(2)
HEARD: Sequence[Event] = (
    events.Training(round=FIRST, step=1, steps=2, loss=3.5),
    events.Training(round=FIRST, step=2, steps=2, loss=3.25),
    events.Trained(round=FIRST, loss=3.375, examples=10),
    events.Committed(round=FIRST, gas=62_664),
    events.RoundOver(round=FIRST, outcome="paid", paid=TokenUnits(15 * 10**17)),
    events.Training(round=SECOND, step=1, steps=2, loss=3.0),
    events.SeedFixed(round=SECOND, gas=58_952),
)


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard finds in a folder: step and value of each figure."""
    found = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(each.step, each.value) for each in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_tensorboard_reads_what_was_reported(tmp_path: Path) -> None:
    report = figures_reporter(tmp_path / "figures")
    for event in HEARD:
        report(event)
    assert read(tmp_path / "figures") == {
        "loss/step": [(1, 3.5), (2, 3.25), (3, 3.0)],
        "loss/training": [(1, 3.375)],
        "gas/committed": [(1, 62_664.0)],
        "paid": [(1, 1.5)],
        "gas/seed_fixed": [(2, 58_952.0)],
    }


def test_a_role_that_starts_again_adds_to_it(tmp_path: Path) -> None:
    figures_reporter(tmp_path)(HEARD[2])
    again = (
        "import sys; from pathlib import Path; from runtime.logs import figures_reporter;"
        " from tests.runtime.test_tensorboard import HEARD;"
        " figures_reporter(Path(sys.argv[1]))(HEARD[4])"
    )
    subprocess.run([sys.executable, "-c", again, str(tmp_path)], check=True, timeout=120)
    assert len(list(tmp_path.iterdir())) == 2
    found = [
        tag
        for file in tmp_path.iterdir()
        for tag in EventAccumulator(str(file)).Reload().Tags()["scalars"]
    ]
    assert sorted(found) == ["loss/training", "paid"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_has_a_number_and_a_plain_name(kind: type[Event]) -> None:
    for name, (step, value) in example(kind, whole=True).figures().items():
        assert isinstance(step, int)
        assert float(value) == value
        assert " " not in name


def test_without_a_folder_nothing_is_written_and_without_figures_no_file(tmp_path: Path) -> None:
    figures_reporter(None)(HEARD[0])
    figures_reporter(tmp_path / "figures")(events.Stopped())
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_one_line_and_the_end_of_figures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    board = TensorBoard(tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        for event in HEARD:
            board.report(event)
    (line,) = caplog.messages
    assert line.startswith(f"no more figures in {tmp_path / 'file'}: FileExistsError")


def test_where_it_is_not_installed_a_role_says_so_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "runtime.tensorboard")
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(Misconfigured, match=r"needs tensorboard.*: pip install 'commonweight"):
        figures_reporter(tmp_path)
