"""What the documents say is what the program does."""

import re
import subprocess
import sys
from pathlib import Path

from sponsor.config import Config

ROOT = Path(__file__).parents[1]


def test_the_command_reference_is_the_programs_own_help(tmp_path: Path) -> None:
    made = tmp_path / "cli.md"
    # In a process of its own: click's help depends on what was asked of it before.
    command = [sys.executable, "-m", "scripts.make_cli_docs", str(made)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert (ROOT / "docs" / "cli.md").read_text() == made.read_text(), "run `make docs`"


def test_links_between_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


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
