"""What the documents say is what the program does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from scripts.make_settings_docs import FILES, settings_reference, settings_tables, without_unit
from sponsor.config import Config

ROOT = Path(__file__).parents[1]


def test_the_command_reference_is_the_programs_own_help(tmp_path: Path) -> None:
    made = tmp_path / "cli.md"
    # In a process of its own: click's help depends on what was asked of it before.
    command = [sys.executable, "-m", "scripts.make_cli_docs", str(made)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert (ROOT / "docs" / "cli.md").read_text() == made.read_text(), "run `make docs`"


def test_the_settings_reference_is_the_models_own() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page == settings_reference(), "run `make docs`"


def test_every_number_that_people_set_has_a_unit() -> None:
    assert not [key for _, model, _ in FILES for key in without_unit(model)]


class Undescribed(BaseModel):
    told: int = 1
    """What it does."""
    untold: int = 2


def test_a_setting_without_a_text_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Undescribed\.untold has no text"):
        list(settings_tables(Undescribed, "some.toml"))


def test_every_configuration_key_is_explained() -> None:
    """configs/demo.toml is the reference of the keys: it has all of them and no other."""
    tables: dict[str, list[str]] = {}
    for line in (ROOT / "configs" / "demo.toml").read_text().splitlines():
        if match := re.match(r"\[([\w.]+)\]", line):
            tables[match.group(1)] = []
        elif match := re.match(r"(?:# )?(\w+) = ", line):
            tables[list(tables)[-1]].append(match.group(1))
    for name, field in Config.model_fields.items():
        keys = set(getattr(field.annotation, "model_fields", {})) - {"participants", "value_bytes"}
        assert keys == set(tables[name]), name
