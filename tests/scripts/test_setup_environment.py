"""Environments are made for real, from wheels in a folder; nothing here leaves the machine."""

import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.setup_environment import Failed, pip_settings, uv_environment

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "setup_environment.py"
# An environment that uv made has no pip; the Python under it makes one that has.
PYTHON = getattr(sys, "_base_executable", sys.executable)
UV = Path(sys.executable).with_name("uv")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of wheels: `answer`, which needs `question`, and a `torch` of the usual index."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    add_wheel(wheels, "question", "2.0", {"question.py": ""})
    add_wheel(wheels, "answer", "1.0", {"answer.py": "VALUE = 42"}, needs="question")
    version = "__version__ = '2.13.0+cu130'\ncuda = '13.0'\nhip = None\n"
    add_wheel(wheels, "torch", "2.13.0", {"torch/__init__.py": "", "torch/version.py": version})
    return wheels


@pytest.fixture
def silent_proxy() -> Iterator[str]:
    """A route to the internet that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield "http://{}:{}".format(*server.getsockname())


def add_wheel(
    folder: Path, name: str, version: str, files: dict[str, str], needs: str | None = None
) -> None:
    """Write a wheel by hand."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {needs}\n" if needs else ""
    files = files | {
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            member = zipfile.ZipInfo(file)
            member.external_attr = 0o100755 << 16  # executable, for what belongs into bin
            wheel.writestr(member, text)


def run(
    folder: Path, *arguments: str, script: Path = SCRIPT, path: Path = UV.parent, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the script with `folder` for its only source of packages."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_", "TORCH_"))}
    variables = {
        "PATH": f"{path}:/usr/bin:/bin",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": f"{folder} {folder / 'not-there'}",
        "UV_CACHE_DIR": str(folder.parent / "cache"),
        **variables,
    }
    command = [PYTHON, str(script), *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=300, env=kept | variables
    )


def installed(environment: Path) -> set[str]:
    return {
        path.name.partition("-")[0]
        for path in environment.glob("lib/python3.*/site-packages/*.dist-info")
    } - {"pip", "setuptools"}


def test_what_is_asked_for_is_installed_and_a_second_time_changes_nothing(
    folder: Path, tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    done = run(folder, str(environment), "answer")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert installed(environment) == {"answer", "question"}
    before = sorted((path, path.stat().st_mtime_ns) for path in environment.rglob("*.py"))
    assert run(folder, str(environment), "answer").returncode == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in environment.rglob("*.py")) == before


def test_alone_means_without_dependencies(folder: Path, tmp_path: Path) -> None:
    assert run(folder, str(tmp_path / "environment"), "--alone", "answer").returncode == 0
    assert installed(tmp_path / "environment") == {"answer"}


def test_constraints_hold(folder: Path, tmp_path: Path) -> None:
    add_wheel(folder, "question", "3.0", {"question.py": ""})
    (tmp_path / "constraints.txt").write_text("question==2.0\n")
    constraints = ("-c", str(tmp_path / "constraints.txt"))
    environment = tmp_path / "environment"
    assert run(folder, str(environment), *constraints, "answer").returncode == 0
    assert list(environment.glob("lib/*/site-packages/question-2.0.dist-info"))


def test_an_environment_whose_python_was_removed_is_made_anew(folder: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    (environment / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text("home = /removed\n")
    (environment / "bin" / "python").symlink_to(tmp_path / "removed")
    assert run(folder, str(environment), "answer").returncode == 0
    assert installed(environment) == {"answer", "question"}


def test_without_uv_pip_does_it_and_says_so(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "scripts" / SCRIPT.name  # where no .venv with uv is beside it
    elsewhere.parent.mkdir()
    shutil.copy(SCRIPT, elsewhere)
    environment = tmp_path / "environment"
    arguments = (str(environment), "--torch", "answer", "torch")
    refused = run(folder, *arguments, script=elsewhere, path=Path("/usr/bin"), TORCH_BACKEND="cpu")
    assert refused.returncode == 1
    assert refused.stderr == "setup: TORCH_BACKEND=cpu needs uv, which is not available\n"
    done = run(folder, *arguments, script=elsewhere, path=Path("/usr/bin"))
    assert done.stdout.splitlines() == [
        "uv is not available: installing with pip, which takes minutes longer",
        "torch 2.13.0+cu130 (CUDA build) from pip's indexes",
    ]
    assert installed(environment) == {"answer", "question", "torch"}


def test_uv_is_installed_first_where_it_can_be(folder: Path, tmp_path: Path) -> None:
    """The uv of this environment is packed into a wheel, as an index has it."""
    elsewhere = tmp_path / "scripts" / SCRIPT.name
    elsewhere.parent.mkdir()
    shutil.copy(SCRIPT, elsewhere)
    add_wheel(
        folder, "uv", "0.12.24", {"uv-0.12.24.data/scripts/uv": f'#!/bin/sh\nexec {UV} "$@"\n'}
    )
    environment = tmp_path / "environment"
    done = run(folder, str(environment), "answer", script=elsewhere, path=Path("/usr/bin"))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert installed(environment) == {"answer", "question", "uv"}


class TestTorch:
    """The usual index is a folder; PyTorch's own is asked through a proxy that leads nowhere."""

    def ask(
        self, folder: Path, proxy: str = "http://127.0.0.1:9", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        page = folder / "simple" / "torch" / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        (wheel,) = folder.glob("torch-*")
        page.write_text(f'<a href="{wheel.as_uri()}">{wheel.name}</a>')
        variables = {
            "PIP_NO_INDEX": "",
            "PIP_FIND_LINKS": "",
            "PIP_INDEX_URL": (folder / "simple").as_uri(),
            "HTTPS_PROXY": proxy,
            "ALL_PROXY": proxy,
            "UV_HTTP_RETRIES": "0",
            **variables,
        }
        arguments = (str(folder.parent / "environment"), "--torch", "torch")
        return run(folder, *arguments, script=SCRIPT, path=UV.parent, **variables)

    def test_an_index_that_never_answers_is_given_up(self, folder: Path, silent_proxy: str) -> None:
        done = self.ask(folder, silent_proxy)
        assert done.stdout == (
            "torch 2.13.0+cu130 (CUDA build) from the package index: PyTorch's own has no answer\n"
        ), done.stderr
        again = self.ask(folder, silent_proxy)
        assert again.stdout == "torch 2.13.0+cu130 (CUDA build) was installed before\n"

    def test_none_asks_nobody(self, folder: Path) -> None:
        done = self.ask(folder, TORCH_BACKEND="none")
        assert done.stdout == (
            "torch 2.13.0+cu130 (CUDA build) from the package index, as TORCH_BACKEND=none asks\n"
        )

    def test_a_build_that_is_named_must_be_there(self, folder: Path) -> None:
        done = self.ask(folder, TORCH_BACKEND="cpu")
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith("setup: could not be installed: ")
        assert "--torch-backend=cpu" in last
        assert installed(folder.parent / "environment") == set()


class TestPip:
    def test_its_files_and_variables_hold_for_uv(self, tmp_path: Path) -> None:
        file = tmp_path / "pip.conf"
        file.write_text(
            "[global]\nindex-url = https://a.example/simple\ntimeout = 60\ncert = /a.pem\n"
            "[install]\nextra_index_url =\n  https://b.example/x\n  https://c.example/x\n"
            f"find-links = {tmp_path} /not/there https://d.example/files\ntrusted-host = a b\n"
        )
        ours = {"PIP_CONFIG_FILE": str(file), "PIP_CERT": "/b.pem", "PIP_QUIET": "1"}
        made = uv_environment(ours, pip_settings(ours))
        assert {k: v for k, v in made.items() if k not in ours} == {
            "UV_DEFAULT_INDEX": "https://a.example/simple",
            "UV_INDEX": "https://b.example/x https://c.example/x",
            "UV_INDEX_STRATEGY": "unsafe-best-match",
            "UV_FIND_LINKS": f"{tmp_path},https://d.example/files",
            "UV_INSECURE_HOST": "a b",
            "UV_HTTP_TIMEOUT": "60",
            "UV_PYTHON_DOWNLOADS": "never",
            "SSL_CERT_FILE": "/b.pem",
        }

    def test_what_uv_is_told_itself_wins(self) -> None:
        ours = {"UV_DEFAULT_INDEX": "https://u.example", "UV_TORCH_BACKEND": "cpu"}
        made = uv_environment(ours, {"index-url": "https://p.example"})
        assert made == {
            "UV_DEFAULT_INDEX": "https://u.example",
            "UV_PYTHON_DOWNLOADS": "never",
        }

    def test_a_file_that_is_none_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "pip.conf").write_text("index-url = x\n")
        with pytest.raises(Failed, match=r"pip.conf cannot be read: .*no section headers"):
            pip_settings({"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")})
