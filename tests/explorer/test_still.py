"""Pages as files: the same that the server shows, each whole by itself, with links that lead on."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from commonweight.cli import main
from explorer.still import file_of
from tests.explorer.shown import HOSTILE_MODEL, Page
from tests.world import World


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("still") / "new" / "report"
    endpoints = ["--rpc", world.rpc_url, "--ipfs", world.daemon.url, "--no-cache"]
    arguments = ["audit", "run", world.address, *endpoints, "--report", str(folder)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert f"begin with {folder}/index.html" in done.stderr
    return folder


def test_every_page_is_there_and_leads_on(folder: Path, world: World) -> None:
    names = {path.name for path in folder.iterdir()}
    pages = {name for name in names if name.endswith(".html")}
    expected = {"index.html", "audit.html", "model-0.html", "model-2.html"}
    expected |= {f"round-{number}.html" for number in (1, 2, 3)}
    expected |= {f"participant-{world.address_of(name)}.html" for name in world.names}
    assert expected <= pages
    assert {name.replace(".html", ".json") for name in pages} == names - pages
    for name in pages:
        page = Page((folder / name).read_text())
        for link in page.links():
            assert link.startswith("#") or link in names, (name, link)
        # Nothing is loaded and nothing runs.
        tags = {tag for tag, _ in page.elements}
        assert not tags & {"script", "img", "link", "iframe", "form"}
        assert not [a for _, each in page.elements for a in each if a.startswith(("on", "data-ev"))]
        assert "ago<" not in page.source


def test_the_pages_say_what_the_audit_found(folder: Path) -> None:
    told = json.loads((folder / "audit.json").read_text())
    assert (told["failed"], told["unchecked"], told["audited_rounds"]) == (0, 0, 3)
    text = Page((folder / "audit.html").read_text()).text
    assert f"All {told['made']} checks passed" in text
    rows = json.loads((folder / "round-2.json").read_text())["timeline"]
    assert all(row["time"] for row in rows)
    assert json.loads((folder / "model-2.json").read_text())["is_in_store"] is True
    index = Page((folder / "index.html").read_text())
    assert r"\x1b[31m\u202e" in index.text
    assert HOSTILE_MODEL not in index.source
    assert "recomputed here" in index.text
    assert "--paper" in index.source  # the style sheet is inside


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "index.html"),
        ("/federations", "index.html"),
        ("/federations/0xAb", "index.html"),
        ("/federations/0xAb.json", "index.json"),
        ("/federations/0xAb/audit", "audit.html"),
        ("/federations/0xAb/rounds/12.json", "round-12.json"),
        ("/federations/0xAb/models/0", "model-0.html"),
        ("/federations/0xAb/participants/0xCd", "participant-0xCd.html"),
    ],
)
def test_paths_become_names(path: str, name: str) -> None:
    assert file_of(path) == name
