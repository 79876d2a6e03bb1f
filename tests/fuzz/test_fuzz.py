"""A few of the malformed inputs of `make test-fuzz`: each is a value, or an error of ours."""

import random
from collections.abc import Iterator

import pytest

from protocol.text import parse_json
from tests.fuzz.mutate import mutate_bytes, mutate_value
from tests.fuzz.play import Target, counts_of, play_all, targets

SEED = 1


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    with targets(tmp_path_factory.mktemp("fuzz")) as found:
        yield found


def test_every_input_is_a_value_or_an_error_of_ours(found: dict[str, Target]) -> None:
    answers = {name for name, target in found.items() if hasattr(target, "recorded")}
    counts = counts_of(list(found), answers, 3_000)
    outcomes, faults = play_all(found, SEED, counts)
    assert faults == []
    assert outcomes.keys() == found.keys()
    assert all(counter.total() for counter in outcomes.values())


class Wrong:
    def play(self, random: random.Random) -> None:
        raise KeyError("not ours")


def test_what_is_not_ours_is_a_fault() -> None:
    _, faults = play_all({"wrong": Wrong()}, SEED, {"wrong": 10})
    assert len(faults) == 3
    assert "KeyError" in faults[0]
    assert f"--seed {SEED} --only 'wrong' --number 0" in faults[0]


class Small:
    def play(self, random: random.Random) -> None:
        pass


def test_what_takes_more_memory_than_its_size_explains_is_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peaks = iter((10**9, 10**9 + 100 * 2**20, 10**9, 10**9 + 200 * 2**20))
    monkeypatch.setattr("tests.fuzz.play._peak", lambda: next(peaks))
    _, (fault,) = play_all({"a": Small(), "b": Small()}, SEED, {"a": 1, "b": 1})
    assert fault == "b: memory grew by 209,715,200 bytes"


def test_inputs_follow_from_the_seed() -> None:
    good = {"a": [1, "0x10", {"b": None}], "c": "text"}
    made = [mutate_value(random.Random(n), good) for n in range(200)]
    assert made == [mutate_value(random.Random(n), good) for n in range(200)]
    assert sum(each != good for each in made) > 190
    assert mutate_bytes(random.Random(3), b"good") == mutate_bytes(random.Random(3), b"good")
    assert good == {"a": [1, "0x10", {"b": None}], "c": "text"}


def test_deep_json_is_refused_before_it_is_parsed() -> None:
    assert parse_json(b"[" * 100 + b"]" * 100)
    with pytest.raises(ValueError, match="nested deeper than 100 levels"):
        parse_json(b"[" * 200_000)
