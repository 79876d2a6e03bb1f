"""What is said when geth or Kubo is missing, or is not one that a devnet can be made of."""

import json
from pathlib import Path

import pytest

from devnet import built
from devnet.geth import geth
from devnet.kubo import kubo
from protocol.errors import Misconfigured


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of the PATH, and what `make daemons` built is not there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(built, "_BUILT", tmp_path / "nothing built")
    return tmp_path


def put(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(("make", "name"), [(geth, "geth"), (kubo, "ipfs")])
def test_a_program_that_is_missing_is_named(programs: Path, make: object, name: str) -> None:
    assert callable(make)
    with pytest.raises(Misconfigured, match=f"there is no program {name} on the PATH"):
        make(programs / "net", 1234)


def test_what_was_built_comes_before_the_path(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = programs / "own"
    own.mkdir()
    monkeypatch.setattr(built, "_BUILT", own)
    for folder in (programs, own):
        put(folder / "geth", "")
    assert built.find_built("geth") == str(own / "geth")
    (own / "geth").unlink()
    assert built.find_built("geth") == str(programs / "geth")


def test_a_geth_without_osaka_is_refused(programs: Path) -> None:
    genesis = json.dumps({"config": {"chainId": 1337, "pragueTime": 0}, "alloc": {}})
    put(programs / "geth", f"echo '{genesis}'")
    with pytest.raises(Misconfigured, match="does not know the fork Osaka: a newer geth"):
        geth(programs / "net", 1234)


@pytest.mark.parametrize(("make", "name"), [(geth, "geth"), (kubo, "ipfs")])
def test_a_program_that_fails_is_quoted(programs: Path, make: object, name: str) -> None:
    assert callable(make)
    put(programs / name, "echo 'Fatal: no room' >&2; exit 1")
    with pytest.raises(Misconfigured, match=r"Fatal: no room$"):
        make(programs / "net", 1234)
