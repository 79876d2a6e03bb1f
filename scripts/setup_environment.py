"""Make a Python environment and install into it, with uv where it is available.

    python scripts/setup_environment.py .venv -c constraints.txt -e ".[train,dev]" --torch
    python scripts/setup_environment.py .slither slither-analyzer==0.11.6

The Python that runs this (3.11 to 3.13, standard library only) becomes the environment's. uv is
the one on the PATH, else the environment's own, installed there first, else pip does the work. What
pip is configured with, index, links, certificates, time-out, holds for uv too.

    TORCH_BACKEND   with --torch, which build of torch: auto (the default), cpu, cu126, cu128, …
                    from PyTorch's own index, or none: that of the usual index

`auto` asks PyTorch's index for the build that suits the GPU of this machine, or the lack of one,
and takes the usual index's when it gets no answer within seconds. A backend that is named must be
available.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from configparser import Error, RawConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PYTHONS: Final = ((3, 11), (3, 13))
OLDEST_UV: Final = (0, 8)  # before it, --torch-backend was a preview
PROBE_SECONDS: Final = 20
# One try without an answer; uv makes four of 30 seconds each.
PROBE: Final = {
    "UV_HTTP_TIMEOUT": "4",
    "UV_HTTP_CONNECT_TIMEOUT": "4",
    "UV_HTTP_RETRIES": "0",
}

# pip's option, uv's variable for it, and what uv puts between several values.
OF_PIP: Final = {
    "index-url": ("UV_DEFAULT_INDEX", None),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", None),
    "client-cert": ("SSL_CLIENT_CERT", None),
    "timeout": ("UV_HTTP_TIMEOUT", None),
    "default-timeout": ("UV_HTTP_TIMEOUT", None),
}


class Failed(Exception):
    """A set-up that cannot go on; the text says in one line what to put right."""


@dataclass(frozen=True)
class Wanted:
    """What to install and where."""

    environment: Path
    requirements: Sequence[str]  # arguments that pip and uv take alike: -c, -r, -e, names
    alone: Sequence[str] = ()  # installed without their dependencies
    constraints: Path | None = None
    backend: str | None = None  # which build of torch; None when torch is not wanted
    is_compiled: bool = False  # bytecode now, instead of at the first import

    @property
    def python(self) -> Path:
        """The environment's Python."""
        return self.environment / "bin" / "python"

    @property
    def pinned(self) -> list[str]:
        """The option that names the constraints, if there are any."""
        return ["-c", str(self.constraints)] if self.constraints else []


def set_up(wanted: Wanted) -> None:
    """Make the environment and install into it, keeping what is already there.

    Raises Failed when that is impossible, after the installer's own messages if it printed any.
    """
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        found = ".".join(map(str, sys.version_info[:2]))
        raise Failed(f"this is Python {found}; Python 3.11, 3.12 or 3.13 is needed: set PYTHON")
    if uv := find_uv(wanted):
        source = install_with_uv(uv, wanted)
    else:
        say("uv is not available: installing with pip, which takes minutes longer")
        source = install_with_pip(wanted)
    if wanted.backend and (build := torch_build(wanted.python)):
        say(f"torch {build} {source}")


def find_uv(wanted: Wanted) -> str | None:
    """Return a uv that is new enough, installing it if need be; None when there is none."""
    own = str(wanted.python.with_name("uv"))
    project = str(Path(__file__).parents[1] / ".venv" / "bin" / "uv")  # serves the others too
    for candidate in (shutil.which("uv"), own, project):
        if candidate and _version(candidate) >= OLDEST_UV:
            return candidate
    make_environment_with_pip(wanted)
    command: list[str | Path] = [wanted.python, "-m", "pip", "install", "-qq", *wanted.pinned, "uv"]
    subprocess.run(command, check=False, capture_output=True)
    return own if _version(own) >= OLDEST_UV else None


def _version(uv: str) -> tuple[int, ...]:
    found = re.match(r"uv (\d+)\.(\d+)", _output([uv, "--version"]))
    return tuple(map(int, found.groups())) if found else ()


def _output(command: Sequence[str | Path]) -> str:
    """Return what a command prints; "" when it fails or cannot be run."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


# ---- with uv


def install_with_uv(uv: str, wanted: Wanted) -> str:
    """Install everything; return where torch comes from, in words."""
    pip = pip_settings(os.environ)
    environment = uv_environment(os.environ, pip)
    # Also where the Python that an environment was made with has been removed since.
    if not _output([wanted.python, "-c", "print('runs')"]):
        make: list[str | Path] = [
            uv,
            "venv",
            "-q",
            "--clear",
            "--python",
            sys.executable,
            wanted.environment,
        ]
        _run(make, environment)
    install: list[str | Path] = [
        uv,
        "pip",
        "install",
        "-q",
        "--python",
        wanted.python,
        *wanted.pinned,
    ]
    if wanted.is_compiled:
        install.append("--compile-bytecode")
    options: list[str] = []
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        install.append("--no-index")  # uv has no variable for it
        source = "from the links that pip is configured with"
    else:
        options, source = choose_torch(uv, wanted, environment)
    if wanted.requirements:
        _run([*install, *options, *wanted.requirements], environment)
    if wanted.alone:
        _run([*install, "--no-deps", *wanted.alone], environment)
    return source


def choose_torch(uv: str, wanted: Wanted, environment: Mapping[str, str]) -> tuple[list[str], str]:
    """Return the options that choose torch's build for uv, and where it comes from in words."""
    if wanted.backend is None:
        return [], ""
    if wanted.backend == "none":
        return [], "from the package index, as TORCH_BACKEND=none asks"
    options = [f"--torch-backend={wanted.backend}"]
    if wanted.backend != "auto":
        return options, f"from PyTorch's index, as TORCH_BACKEND={wanted.backend} asks"
    if torch_build(wanted.python):
        return [], "was installed before"
    command: list[str | Path] = [uv, "pip", "install", "--dry-run", "-q", "--python", wanted.python]
    try:
        subprocess.run(
            [*command, *wanted.pinned, *options, "torch"],
            check=True,
            capture_output=True,
            env={**environment, **PROBE},
            timeout=PROBE_SECONDS,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return [], "from the package index: PyTorch's own has no answer"
    return options, "from PyTorch's index"


def uv_environment(ours: Mapping[str, str], pip: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to run uv with: ours, and what pip is configured with but uv is not."""
    environment = dict(ours)
    environment.pop("UV_TORCH_BACKEND", None)  # TORCH_BACKEND takes its place
    environment["UV_PYTHON_DOWNLOADS"] = "never"
    for option, value in pip.items():
        name, separator = OF_PIP.get(option, ("", None))
        if not name or name in ours:
            continue
        values = value.split()
        if option == "find-links":  # pip passes over a folder that is not there, uv fails
            values = [each for each in values if "://" in each or Path(each).expanduser().is_dir()]
        if values:
            environment[name] = separator.join(values) if separator else value
    if "UV_INDEX" in environment:
        # pip takes the highest version of all indexes, uv that of the first which has the package.
        environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return environment


def pip_settings(ours: Mapping[str, str]) -> dict[str, str]:
    """Return pip's options as its files and the PIP_ variables set them, by their long names.

    Read here, because not every Python has pip, and pip asks for no network to tell.
    """
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for file in _pip_files(ours):
        parser = RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (Error, UnicodeDecodeError) as error:
            raise Failed(f"pip's {file} cannot be read: {' '.join(str(error).split())}") from error
        for section, found in sections.items():
            if parser.has_section(section):
                found.update((k.replace("_", "-"), v) for k, v in parser.items(section))
    variables = {
        name.removeprefix("PIP_").replace("_", "-").lower(): value
        for name, value in ours.items()
        if name.startswith("PIP_") and value
    }
    return sections["global"] | sections["install"] | variables


def _pip_files(ours: Mapping[str, str]) -> list[Path]:
    """Return where pip is configured on Linux, what wins last."""
    named = ours.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = Path.home()
    files = [Path(folder) / "pip" / "pip.conf" for folder in ("/etc/xdg",)]
    files += [Path("/etc/pip.conf"), home / ".pip" / "pip.conf"]
    files.append(Path(ours.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf")
    files.append(Path(sys.prefix) / "pip.conf")
    return [*files, *([Path(named)] if named else [])]


# ---- with pip


def make_environment_with_pip(wanted: Wanted) -> None:
    """Make the environment unless it is there and has pip."""
    if _output([wanted.python, "-c", "import pip; print(pip)"]):
        return
    command: list[str | Path] = [sys.executable, "-m", "venv", "--clear", wanted.environment]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())
        raise Failed(f"without uv an environment needs venv and pip of {sys.executable}: {said}")


def install_with_pip(wanted: Wanted) -> str:
    """Install everything; return where torch comes from, in words."""
    if wanted.backend not in (None, "auto", "none"):
        raise Failed(f"TORCH_BACKEND={wanted.backend} needs uv, which is not available")
    make_environment_with_pip(wanted)
    install: list[str | Path] = [wanted.python, "-m", "pip", "install", "-qq", *wanted.pinned]
    if wanted.requirements:
        _run([*install, *wanted.requirements], os.environ)
    if wanted.alone:
        _run([*install, "--no-deps", *wanted.alone], os.environ)
    return "from pip's indexes"


# ---- both


def torch_build(python: Path) -> str | None:
    """Return version and kind of an environment's torch, such as "2.13.0+cpu (CPU build)"."""
    said = _output(
        [
            python,
            "-Ic",
            "import importlib.util, runpy\n"
            "folder = importlib.util.find_spec('torch').submodule_search_locations[0]\n"
            "found = runpy.run_path(folder + '/version.py')\n"
            "print(found['__version__'], found['cuda'] or '-', found.get('hip') or '-')",
        ]
    )
    if not said:
        return None
    version, cuda, rocm = said.split()
    kind = "CPU" if cuda == rocm else "CUDA" if cuda != "-" else "ROCm"
    return f"{version} ({kind} build)"


def _run(command: Sequence[str | Path], environment: Mapping[str, str]) -> None:
    """Run an installer, whose errors are the user's to read; Failed when it fails."""
    if subprocess.run(command, check=False, env=environment).returncode:
        raise Failed(f"could not be installed: {' '.join(map(str, command))}")


def say(line: str) -> None:
    """Print a line at once: installers write to the same terminal."""
    print(line, flush=True)


def main(arguments: Sequence[str]) -> None:
    """Do what the command line says; a failure is one line on stderr and exit code 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("environment", type=Path)
    parser.add_argument("names", nargs="*", metavar="REQUIREMENT")
    parser.add_argument("-c", dest="constraints", type=Path, metavar="FILE")
    parser.add_argument("-r", dest="files", action="append", default=[], metavar="FILE")
    parser.add_argument("-e", dest="projects", action="append", default=[], metavar="PROJECT")
    parser.add_argument("--alone", action="append", default=[], metavar="REQUIREMENT")
    parser.add_argument("--torch", action="store_true", help="choose torch's build: TORCH_BACKEND")
    parser.add_argument("--compile", action="store_true", help="write bytecode")
    given = parser.parse_intermixed_args(arguments)
    requirements = [f"-r{file}" for file in given.files]
    for project in given.projects:
        requirements += ["-e", project]
    backend = os.environ.get("TORCH_BACKEND") or os.environ.get("UV_TORCH_BACKEND") or "auto"
    try:
        set_up(
            Wanted(
                environment=given.environment,
                requirements=[*requirements, *given.names],
                alone=given.alone,
                constraints=given.constraints,
                backend=backend if given.torch else None,
                is_compiled=given.compile,
            )
        )
    except Failed as failure:
        sys.exit(f"setup: {failure}")


if __name__ == "__main__":
    main(sys.argv[1:])
