"""Build a release from what is committed: `make release`.

    python -m scripts.release [FOLDER]          (by default dist/)

    commonweight-VERSION.tar.gz, ….whl    the same bytes each time that a commit is built
    requirements.txt                      every dependency at the tested version, with hashes
    sbom.cdx.json                         the same as a bill of materials (CycloneDX 1.6)
    NOTES.md                              what CHANGELOG.md says of the version
    SHA256SUMS                            of all of these

docs/releasing.md has the steps around it.
"""

import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scripts.setup_environment import Failed, Wanted, find_uv, pip_settings, uv_environment

ROOT: Final = Path(__file__).parents[1]
_SBOM: Final = "cyclonedx-bom==7.5.0"


def main() -> None:
    """Build a release; one line and exit code 1 when something is missing."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"
    try:
        for line in build_release(ROOT, folder.absolute()):
            print(line)
    except Failed as error:
        sys.exit(f"error: {error}")


def build_release(repository: Path, folder: Path) -> list[str]:
    """Write the files of a release of the newest commit to `folder`; return their sums.

    Raises Failed when `folder` is not empty, when CHANGELOG.md says nothing of the version, or
    without uv.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Failed(f"{folder} is not empty: move it away")
    uv = find_uv(Wanted(repository / ".venv", ()))
    if uv is None:
        raise Failed("uv is not available")
    with tempfile.TemporaryDirectory(prefix="commonweight-release-") as name:
        source, made = Path(name) / "source", Path(name) / "made"
        # 1. The files as committed: what lies about beside them must not get in.
        archive = _run("git", "archive", "HEAD", at=repository)
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(source, filter="data")
        seconds = int(_run("git", "log", "-1", "--format=%ct", at=repository))
        version = tomllib.loads((source / "pyproject.toml").read_text())["project"]["version"]
        notes = notes_of(version, (source / "CHANGELOG.md").read_text())
        # 2. Wheel and sdist, dated by the commit.
        environment = uv_environment(os.environ, pip_settings(os.environ))
        environment["SOURCE_DATE_EPOCH"] = str(seconds)
        building = ["build", "-q", "-b", "constraints.txt", "-o", str(made), "."]
        _run(uv, *building, at=source, environment=environment)
        (made / ".gitignore").unlink(missing_ok=True)
        for sdist in made.glob("*.tar.gz"):
            sdist.write_bytes(repacked(sdist.read_bytes(), seconds))
        # 3. What it was tested with.
        wanted = made / "requirements.txt"
        compiling = ["pip", "compile", "-q", "pyproject.toml", "--all-extras", "--generate-hashes"]
        compiling += ["-c", "constraints.txt", "--no-header", "--no-annotate", "-o", str(wanted)]
        _run(uv, *compiling, at=source, environment=environment)
        tool = ["tool", "run", "-q", "--from", _SBOM, "cyclonedx-py", "requirements"]
        tool += ["--output-reproducible", "--sv", "1.6", "--pyproject", "pyproject.toml"]
        bill = ["-o", str(made / "sbom.cdx.json"), str(wanted)]
        _run(uv, *tool, *bill, at=source, environment=environment)
        # 4. What is new, and the sums.
        (made / "NOTES.md").write_text(notes)
        files = sorted(made.iterdir())
        sums = [f"{hashlib.sha256(each.read_bytes()).hexdigest()}  {each.name}" for each in files]
        folder.mkdir(parents=True, exist_ok=True)
        for each in files:
            (folder / each.name).write_bytes(each.read_bytes())
        (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n")
        return sums


def notes_of(version: str, changelog: str) -> str:
    """Return what a changelog says of a version, without its heading; raises Failed if nothing."""
    sections = re.split(r"^## (.+)$", changelog, flags=re.MULTILINE)
    found = dict(zip(sections[1::2], sections[2::2], strict=True))
    for title, text in found.items():
        if title.split()[0] == version and text.strip():
            return text.strip() + "\n"
    raise Failed(
        f"CHANGELOG.md says nothing of {version}: give its changes the heading `## {version}`"
    )


def repacked(sdist: bytes, seconds: int) -> bytes:
    """Return a source archive in which nothing depends on when and by whom it was built."""
    raw = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sdist)) as old,
        tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            content = old.extractfile(member) if member.isfile() else None
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.mtime = member.type, member.size, seconds
            plain.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(plain, content)
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=seconds) as file:
        file.write(raw.getvalue())
    return packed.getvalue()


def _run(*command: str, at: Path, environment: Mapping[str, str] | None = None) -> bytes:
    done = subprocess.run(command, cwd=at, env=environment, capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise Failed(f"{' '.join(command[:3])}: {lines[-1]}")
    return done.stdout


if __name__ == "__main__":
    main()
