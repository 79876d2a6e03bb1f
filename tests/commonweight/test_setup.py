"""What `participant init` makes of the place of the examples."""

from pathlib import Path

import pytest

from commonweight.cli.setup import Setup
from node.settings import ParticipantSettings


def test_a_name_on_the_hub_is_kept_and_remembered(tmp_path: Path) -> None:
    setup = Setup(tmp_path, "participant", {"data": "hub:OWNER/NAME"}, ask=False)
    data = setup.data("Examples", "data.jsonl")
    assert data == setup.relative(data) == "hub:OWNER/NAME"
    setup.file.write_text('data = "hub:OWNER/NAME"\n')
    again = Setup(tmp_path, "participant", {}, ask=False)
    assert again.data("Examples", "data.jsonl") == "hub:OWNER/NAME"


def test_a_file_is_named_relative_to_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    setup = Setup(tmp_path, "participant", {"data": "cards.csv"}, ask=False)
    data = setup.data("Examples", "data.jsonl")
    assert data == tmp_path / "cards.csv"
    assert setup.relative(data) == "cards.csv"


@pytest.mark.parametrize(("named", "found"), [("hub:a/b", "hub:a/b"), ("cards.jsonl", None)])
def test_settings_tell_a_name_from_a_path(tmp_path: Path, named: str, found: str | None) -> None:
    file = tmp_path / "participant.toml"
    file.write_text(
        'federation = "federation.json"\nkeystore = "w.json"\nmodel = "tiny-llama"\n'
        f'data = "{named}"\n'
    )
    assert ParticipantSettings.load(file).data == (found or tmp_path / named)
