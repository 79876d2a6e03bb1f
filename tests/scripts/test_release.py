"""`make release`, of a clone whose changelog has the version."""

import hashlib
import json
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from scripts.release import build_release, notes_of, repacked
from scripts.setup_environment import Failed

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this checkout, its changes committed as a release."""
    folder = tmp_path_factory.mktemp("clone") / "commonweight"
    git("clone", "-q", "--no-hardlinks", str(ROOT), str(folder), at=ROOT)
    changelog = folder / "CHANGELOG.md"
    changelog.write_text(f"# Changelog\n\n## {VERSION}\n\n- Everything.\n\n## 0.0.1\n\n- Less.\n")
    who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    git(*who, "commit", "-qam", "Release", at=folder)
    (folder / "protocol" / "left_about.py").write_text("not committed\n")
    return folder


def git(*arguments: str, at: Path) -> None:
    subprocess.run(["git", *arguments], cwd=at, check=True, capture_output=True)


@pytest.mark.slow
def test_a_commit_gives_the_same_bytes_each_time(clone: Path, tmp_path: Path) -> None:
    sums = [build_release(clone, tmp_path / name) for name in ("first", "second")]
    assert sums[0] == sums[1]
    names = {line.split()[1] for line in sums[0]}
    wheel, sdist = f"commonweight-{VERSION}-py3-none-any.whl", f"commonweight-{VERSION}.tar.gz"
    assert names == {wheel, sdist, "requirements.txt", "sbom.cdx.json", "NOTES.md"}
    folder = tmp_path / "first"
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert (folder / "NOTES.md").read_text() == "- Everything.\n"
    # What is in it: what was committed, and the contract as compiled.
    with zipfile.ZipFile(folder / wheel) as opened:
        inside = set(opened.namelist())
    assert "contracts/artifacts/Federation.json" in inside
    assert not any("left_about" in name for name in inside)
    with tarfile.open(folder / sdist) as packed:
        members = packed.getmembers()
    assert {each.uid for each in members} == {0}
    assert len({each.mtime for each in members}) == 1
    # Every dependency has a version and a hash, and the bill names them all.
    text = (folder / "requirements.txt").read_text()
    pinned = {line.split("==")[0] for line in text.splitlines() if "==" in line}
    assert text.count("--hash=sha256:") >= len(pinned) > 100
    bill = json.loads((folder / "sbom.cdx.json").read_text())
    assert {each["name"] for each in bill["components"]} == pinned
    assert bill["metadata"]["component"]["name"] == "commonweight"
    with pytest.raises(Failed, match="is not empty: move it away"):
        build_release(clone, folder)


def test_notes_are_those_of_the_version() -> None:
    text = "# Changelog\n\n## Unreleased\n\n- New.\n\n## 1.2.0 (2026-08-01)\n\n- Old.\n"
    assert notes_of("1.2.0", text) == "- Old.\n"
    for version in ("1.2", "1.2.1"):
        with pytest.raises(Failed, match=f"CHANGELOG.md says nothing of {version}: "):
            notes_of(version, text)
    with pytest.raises(Failed, match=r"says nothing of 1\.3\.0"):
        notes_of("1.3.0", "## 1.3.0\n\n## 1.2.0\n\n- Old.\n")


def test_a_source_archive_depends_on_its_files_alone(tmp_path: Path) -> None:
    def packed(mtime: int, owner: str, order: int) -> bytes:
        path = tmp_path / f"{owner}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name in ("b.py", "a.py")[::order]:
                (tmp_path / name).write_text(f"the text of {name}\n")
                member = archive.gettarinfo(tmp_path / name, f"project/{name}")
                member.mtime, member.uname, member.uid = mtime, owner, mtime
                with (tmp_path / name).open("rb") as content:
                    archive.addfile(member, content)
        return path.read_bytes()

    ann, bob = packed(1_000, "ann", 1), packed(2_000, "bob", -1)
    assert ann != bob
    assert repacked(ann, 5) == repacked(bob, 5)
    (tmp_path / "again.tar.gz").write_bytes(repacked(ann, 5))
    with tarfile.open(tmp_path / "again.tar.gz") as archive:
        assert archive.getnames() == ["project/a.py", "project/b.py"]
        content = archive.extractfile("project/a.py")
        assert content is not None
        assert content.read() == b"the text of a.py\n"
