"""The audit's measures on a tiny model: what was trained on is found, and what was not is not."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from commonweight.cli import main
from node.canaries import Canaries
from node.privacy_audit import Material, Round, describe_audit, gather, look_for, ways_to_look
from node.settings import Privacy
from node.trainer import LocalTrainer
from protocol.encoding import encode_values
from protocol.errors import Misconfigured
from protocol.spec import Spec, Training
from protocol.types import RoundId
from runtime.events import Event
from storage.files import write_json
from storage.layers import LayerFolder
from tests.training.conftest import make_spec
from training.accountant import Mechanism
from training.adapter import initial_array
from training.examples import Example
from training.session import Session, open_session
from training.sources import resolve_source

CONTROLS = [Example(f"What is {n} less {n}?", f"It is 0, and not {n}.") for n in range(20, 40)]
LETTERS = "qjxzkvbpygfwmucldhrsniotae"[:24]
ROWS = [Example(f"What is {n} less {n}?", f"It is 0, and not {n}.") for n in range(20)]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def spec(cache: Path) -> Spec:
    source = resolve_source("tiny-llama", cache)
    return make_spec(source, grid=8, steps=40, learning_rate=0.02, batch_size=8)


@pytest.fixture(scope="module")
def session(spec: Spec, cache: Path) -> Session:
    return open_session(spec, "tiny-llama", cache)


def train(session: Session, spec: Spec, rows: list[Example], privacy: str) -> Round:
    """Return a round whose one update was trained on `rows`, from the initial model."""
    before = [encode_values(initial_array(each.name, each.shape, 3)) for each in spec.layers]
    update, _ = session.train(before, rows, 5)
    context = SimpleNamespace(
        spec=spec.model_copy(update={"privacy": privacy}),
        round_id=RoundId(1),
        told=SimpleNamespace(masking=SimpleNamespace(sketch_seed=None)),
    )
    return Round(context, before, update.steps, update.applied_to(before))  # type: ignore[arg-type]


class NotedBudget:
    """Plans as a budget does, and notes what is spent."""

    def __init__(self, noted: list[object]) -> None:
        self.noted = noted

    def plan(self, records: int, training: Training) -> Mechanism:
        self.noted.append(records)
        return Mechanism(training.batch_size / records, 0.5, training.steps)

    def spend(self, round_id: RoundId, mechanism: Mechanism) -> None:
        self.noted.append(mechanism)


def test_a_protected_round_spends_before_its_first_step(
    spec: Spec, cache: Path, tmp_path: Path
) -> None:
    few = spec.model_copy(update={"training": spec.training.model_copy(update={"steps": 2})})
    model = LayerFolder(tmp_path / "model", "model")
    model.write(
        few, [encode_values(initial_array(each.name, each.shape, 3)) for each in few.layers]
    )
    noted: list[object] = []

    def report(event: Event) -> None:
        if event.phase == "training":
            noted.append(event.phase)

    budget = NotedBudget(noted)
    trainer = trainer_of(
        tmp_path,
        cache,
        report=report,
        privacy=Privacy(epsilon=8.0, clip=0.5),
        budget=budget,
    )
    updates = []
    for number in (1, 2):
        update = LayerFolder(tmp_path / f"update-{number}", "update")
        trained = trainer.train(few, model, RoundId(1), update, None)
        assert trained.examples == 2 * few.training.batch_size
        updates.append(update.root(few))
    assert noted == 2 * [20, Mechanism(0.4, 0.5, 2), "training", "training"]
    assert updates[0] != updates[1]  # the same round from the same data: noise of its own


@pytest.mark.long
@pytest.mark.parametrize("is_read", [True, False], ids=["read", "not read"])
def test_what_was_trained_on_is_found(spec: Spec, session: Session, is_read: bool) -> None:
    # Not digits, which so small a model does not learn by heart: a letter each, many times.
    letters = [Example(f"Which letter is {letter}?", 20 * letter) for letter in LETTERS]
    planted, kept = letters[::2], letters[1::2]
    rows = [*planted, *ROWS] if is_read else CONTROLS[:10]
    privacy = "masked" if is_read else "clear"
    material = Material(planted, 10.0, kept, ROWS, CONTROLS[10:], are_alike=True)
    found = look_for(material, ways_to_look(session, train(session, spec, rows, privacy)))
    by_name = {each["published"]: each for each in found}
    assert list(by_name) == ["update", "model", "sketch"][: 3 if is_read else 2]
    # One update alone: the model is what it makes.
    assert by_name["update"]["canaries"] == by_name["model"]["canaries"]
    told = by_name["update"]["canaries"]
    assert (told["members"], told["others"]) == (12, 12)
    assert told["low"] <= told["auc"] <= told["high"]
    assert 0 <= told["exposure"] <= told["most"]
    if is_read:
        assert told["in_words"] == "not at chance"
        assert told["exposure"] > told["chance"] + 1
        assert by_name["sketch"]["canaries"]["auc"] > 0.6
    else:
        assert told["in_words"] == "at chance"


def trainer_of(tmp_path: Path, cache: Path, **changes: object) -> LocalTrainer:
    data = tmp_path / "data.jsonl"
    lines = [f'{{"question": "{row.question}", "answer": "{row.answer}"}}' for row in ROWS]
    data.write_text("\n".join(lines))
    return LocalTrainer(data, "tiny-llama", cache, **changes)  # type: ignore[arg-type]


def test_only_rows_that_the_round_read_are_members(spec: Spec, cache: Path, tmp_path: Path) -> None:
    few = spec.model_copy(update={"training": spec.training.model_copy(update={"steps": 1})})
    Canaries.make(4, 1).write(tmp_path / "canaries.json")
    canaries = Canaries.load(tmp_path / "canaries.json")
    privacy = Privacy(canaries=tmp_path / "canaries.json")
    trainer = trainer_of(tmp_path, cache, privacy=privacy, validation=0.3)
    _, validation = trainer.divided(few)
    found = gather(trainer, few, None, RoundId(1), 50, None)  # type: ignore[arg-type]
    assert len(found.members) + len(found.planted) == few.training.batch_size
    assert set(found.planted) <= set(canaries.planted)
    assert list(found.kept) == list(canaries.kept)
    assert set(found.controls) == set(validation)
    assert found.are_alike
    # All of them where nobody knows which were read, and no more than asked for.
    noised = Privacy(canaries=privacy.canaries, epsilon=1.0)
    trainer = trainer_of(tmp_path, cache, privacy=noised, validation=0.3)
    found = gather(trainer, few, None, RoundId(1), 3, None)  # type: ignore[arg-type]
    assert (len(found.members), len(found.planted), len(found.controls)) == (3, 3, 3)


def test_without_controls_and_canaries_there_is_nothing_to_look_for(
    spec: Spec, cache: Path, tmp_path: Path
) -> None:
    controls = tmp_path / "controls.jsonl"
    controls.write_text(f'{{"question": "{ROWS[0].question}", "answer": "{ROWS[0].answer}"}}')
    trainer = trainer_of(tmp_path, cache)
    with pytest.raises(Misconfigured, match="nothing to look for"):
        gather(trainer, spec, None, RoundId(1), 50, controls)  # type: ignore[arg-type]


def test_planted_canaries_are_records_of_their_own_and_never_kept_back(
    spec: Spec, tmp_path: Path, cache: Path
) -> None:
    out = tmp_path / "canaries.json"
    canaries = Canaries.make(8, 4)
    canaries.write(out)
    bare = trainer_of(tmp_path, cache, validation=0.4)
    trainer = trainer_of(tmp_path, cache, validation=0.4, privacy=Privacy(canaries=out))
    training, validation = trainer.divided(spec)
    before, kept_back = bare.divided(spec)
    assert validation == kept_back
    assert training == before + canaries.rows
    records = trainer.records(spec)
    assert len(records) == len(set(records)) == len(training)
    assert bare.records(spec) == records[: len(before)]


@pytest.mark.parametrize(
    "content", [[], {}, {"planted": [], "kept": [], "times": 1}, {"planted": 3}]
)
def test_other_files_are_no_canaries(tmp_path: Path, content: object) -> None:
    write_json(tmp_path / "canaries.json", content)
    with pytest.raises(Misconfigured):
        Canaries.load(tmp_path / "canaries.json")


def test_planting_writes_a_private_file_once(tmp_path: Path) -> None:
    out = tmp_path / "canaries.json"
    arguments = ["privacy", "plant", "--out", str(out), "--canaries", "5", "--times", "2"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert out.stat().st_mode & 0o777 == 0o600
    found = Canaries.load(out)
    assert (len(found.planted), len(found.kept), found.times) == (5, 5, 2)
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert Canaries.load(out) == found


def test_the_result_is_told_in_words() -> None:
    row = {"auc": 0.81, "low": 0.75, "high": 0.86, "members": 80, "others": 40}
    canary = {"exposure": 4.02, "chance": 1.2, "most": 4.09, "in_words": "not at chance"}
    audit = {
        "federation": "0x1",
        "round": 3,
        "privacy": "masked",
        "in_the_model": 4,
        "epsilon_spent": None,
        "delta": None,
        "times": 4.0,
        "controls_alike": False,
        "found": [
            {
                "published": "update",
                "canaries": {**row, **canary},
                "rows": {**row, "in_words": "not at chance"},
            },
            {"published": "model", "canaries": None, "rows": {**row, "in_words": "at chance"}},
        ],
    }
    lines = describe_audit(audit)
    text = "\n".join(lines)
    assert "your update, which masks hide" in text
    assert "not at chance: 4.02 of 4.09 bits, 1.20 by chance" in text
    assert "a mean of 4" in text
    assert "AUC 0.81, 95% interval 0.75 to 0.86" in text
    assert "held-out set" in text
    assert "no proof" in lines[-1]
    noised = describe_audit({**audit, "epsilon_spent": 2.1, "delta": 1e-5, "privacy": "clear"})
    assert "ε 2.10" in noised[0]
    assert "which is public" in noised[1]
