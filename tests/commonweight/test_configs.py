"""Every configuration that comes with the project can be used as it is."""

from pathlib import Path

import pytest

from protocol.average import MAX_TOTAL_WEIGHT
from protocol.errors import Misconfigured
from sponsor.config import Config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
NEED_DATA = {"flowertune-small.toml", "medical-small.toml"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_loads(path: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("")
    config = Config.load(path, str(data) if path.name in NEED_DATA else None)
    seats = config.seats
    assert seats.round_seats * config.weight_cap <= MAX_TOTAL_WEIGHT
    assert len(config.data.names) <= seats.max_participants
    assert config.weight_cap == config.training.steps * config.training.batch_size


@pytest.mark.parametrize("name", sorted(NEED_DATA))
def test_says_that_it_needs_data(name: str) -> None:
    with pytest.raises(Misconfigured, match="--data"):
        Config.load(next(path for path in CONFIGS if path.name == name))
