"""The wheel, installed without the train extra beside common packages: no name clashes with theirs.

Our packages have plain names at the top level (node, chain, storage, ...), which any other package
could have too. Everything here is installed for real, from the package index.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from chain.federation import Federation
from devnet import roles
from protocol.types import Address
from scripts.setup_environment import Wanted, find_uv, pip_settings, uv_environment
from tests.commonweight.network import Network
from tests.passwords import write_password

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OURS = {name.partition(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}
# By the name of the distribution, and what is imported of it.
NEIGHBOURS = {
    "aiohttp": "aiohttp",
    "beautifulsoup4": "bs4",
    "celery": "celery",
    "django": "django",
    "fastapi": "fastapi",
    "flask": "flask",
    "httpx": "httpx",
    "ipython": "IPython",
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
    "networkx": "networkx",
    "numpy": "numpy",
    "pandas": "pandas",
    "pillow": "PIL",
    "psutil": "psutil",
    "pytest": "pytest",
    "requests": "requests",
    "rich": "rich",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "sqlalchemy": "sqlalchemy",
    "typer": "typer",
}


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel and its neighbours."""

    folder: Path

    def run(self, program: str, *arguments: str, at: Path) -> str:
        """Run a program of the environment in the folder `at`; return its stdout."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            cwd=at,
            env=environment | {"COMMONWEIGHT_HOME": str(at / "home")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # A copy: setuptools would take what an earlier build has left in build/ into the wheel.
    for name in OURS:
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    uv = find_uv(Wanted(folder / "environment", ()))
    if uv is None:
        pytest.skip("uv is not available")
    environment = uv_environment(os.environ, pip_settings(os.environ))
    build = [uv, "build", "-q", "--wheel", "--out-dir", str(folder), str(source)]
    subprocess.run(build, env=environment, check=True)
    (built,) = folder.glob("*.whl")
    return built


def install(folder: Path, *packages: str) -> Installed:
    """Install packages at the versions of constraints.txt."""
    script = [sys.executable, str(ROOT / "scripts" / "setup_environment.py"), str(folder)]
    constraints = ["-c", str(ROOT / "constraints.txt")]
    subprocess.run([*script, *constraints, *packages], check=True)
    return Installed(folder)


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Installed:
    return install(wheel.parent / "light", str(wheel), *NEIGHBOURS)


@pytest.fixture(scope="module")
def training(wheel: Path) -> Installed:
    return install(wheel.parent / "training", f"{wheel}[train,devnet]", "--torch")


def test_no_name_is_provided_twice(installed: Installed, tmp_path: Path) -> None:
    code = (
        "import json, sys\n"
        "from importlib.metadata import packages_distributions\n"
        "found = {n: sorted(set(d)) for n, d in packages_distributions().items()}\n"
        "print(json.dumps([found, sorted(sys.stdlib_module_names)]))\n"
    )
    provided, of_python = json.loads(installed.run("python", "-c", code, at=tmp_path))
    by_us = {name for name, distributions in provided.items() if "commonweight" in distributions}
    assert by_us == OURS
    assert {name: provided[name] for name in OURS} == {name: ["commonweight"] for name in OURS}
    assert not OURS & set(of_python)
    assert set(NEIGHBOURS.values()) <= provided.keys()
    assert not {"torch", "flwr", "eth_tester"} & provided.keys()


def test_everybody_is_imported_together(installed: Installed, tmp_path: Path) -> None:
    names = [*NEIGHBOURS.values(), *sorted(OURS)]
    ours = ", ".join(sorted(OURS))
    code = f"import json, {', '.join(names)}\nprint(json.dumps([{ours}], default=str))"
    shown = json.loads(installed.run("python", "-c", code, at=tmp_path))
    for module in shown:
        assert str(installed.folder) in module, module


def test_the_program_works_from_any_folder(installed: Installed, tmp_path: Path) -> None:
    write_password(tmp_path / "password", "long enough\n")
    assert "participant" in installed.run("commonweight", "--help", at=tmp_path)
    assert "ADDRESS" in installed.run("commonweight", "audit", "run", "--help", at=tmp_path)
    for noun in ("demo", "devnet", "participant", "model"):
        assert "Usage" in installed.run("commonweight", noun, "--help", at=tmp_path)
    new = ("keys", "new", "wallet.json", "--password-file", "password")
    assert installed.run("commonweight", *new, at=tmp_path).startswith("0x")


def test_data_files_are_in_the_wheel(installed: Installed, tmp_path: Path) -> None:
    code = (
        "from sponsor.config import Config\n"
        "from runtime.flower import APP\n"
        "from commonweight.cli.demo import DEFAULT_CONFIG\n"
        "import auditor.report, contracts, pathlib\n"
        "assert (APP / 'pyproject.toml').is_file()\n"
        "print(len(Config.load(DEFAULT_CONFIG).data.names))\n"
        "assert list((pathlib.Path(contracts.__file__).parent / 'artifacts').glob('*.json'))\n"
        "from devnet.kubo import keeping_to_itself\n"
        "assert keeping_to_itself()\n"
    )
    assert installed.run("python", "-c", code, at=tmp_path).strip() == "4"


def test_folders_of_the_same_names_do_not_hide_ours(installed: Installed, tmp_path: Path) -> None:
    """A folder without __init__.py gives way to a package found later on the path."""
    names = ("node", "chain", "contracts", "storage")
    for name in names:
        (tmp_path / name).mkdir()
    code = f"import {', '.join(names)}\nprint(*(m.__file__ for m in ({', '.join(names)})))"
    for file in installed.run("python", "-c", code, at=tmp_path).split():
        assert Path(file).is_relative_to(installed.folder), file
    for command in (("commonweight",), ("python", "-m", "commonweight")):
        shown = installed.run(*command, "audit", "run", "--help", at=tmp_path)
        assert "ADDRESS" in shown


# -------------------------------------------- a stranger's three paths, with nothing but the wheel


def test_a_stranger_joins_with_a_csv_and_another_audits(
    training: Installed, installed: Installed, tmp_path: Path
) -> None:
    """The federation, its aggregator and one participant are others', played from the sources."""
    folder, stranger = tmp_path / "network", tmp_path / "stranger"
    stranger.mkdir()
    folder.mkdir()
    with Network(folder, rounds=1, min_participants=2) as network:
        write_password(stranger / "password", "long enough\n")
        new = ("keys", "new", "wallet.json", "--password-file", "password")
        address = Address(training.run("commonweight", *new, at=stranger).split()[0])
        sponsor = Federation(network.sponsor.w3, network.location.address, network.sponsor)
        stake = network.client().terms().money.participant_stake
        roles.give(network.sponsor, sponsor, address, stake)
        rows = [f'"What is {n}?","It is a number, {n} of them."' for n in range(30)]
        (stranger / "cards.csv").write_text("question,answer\n" + "\n".join(rows) + "\n")
        shutil.copy(network.place, stranger)
        told = training.run(
            *("commonweight", "participant", "init", "--yes", "--data", "cards.csv"),
            *("--model", network.config.model.source, "--keystore", "wallet.json"),
            *("--password-file", "password", "--federation", "federation.json"),
            at=stranger,
        )
        assert "missing" not in told
        network.start("aggregator", "cardiology")
        # It ends by itself, since the federation has one round.
        training.run("commonweight", "participant", "run", at=stranger)
        assert network.client().credit_of(address) + withdrawn(network, address) > 0
        there = ("--rpc", network.net.rpc_url, "--ipfs", network.net.ipfs_url)
        audit = ("audit", "run", network.location.address, *there, "--json")
        found = json.loads(installed.run("commonweight", *audit, at=tmp_path))
        assert found["failed"] == 0
        assert [each["round"] for each in found["rounds"]] == [1]


def withdrawn(network: Network, address: Address) -> int:
    made = network.client().history().withdrawals
    return sum(each.amount for each in made if each.account == address)


def test_a_trainer_of_ten_lines(training: Installed, tmp_path: Path) -> None:
    """Each participant pulls the model halfway towards its own; the mean is in the middle."""
    code = """
import numpy as np
from commonweight.api import TrainedArrays
from commonweight.local import LocalFederation

goals = {name: np.random.default_rng(n).normal(size=64) for n, name in enumerate(("ann", "bob"))}

def towards(goal):
    def train(model):
        moved = {name: values + (goal - values) / 2 for name, values in model.items()}
        return TrainedArrays(moved, examples=10, loss=0.0)
    return train

trainers = {name: towards(goal) for name, goal in goals.items()}
with LocalFederation({"weights": np.zeros(64, np.float32)}, trainers) as local:
    (played,) = local.play(1)
    apart = np.abs(local.model()["weights"] - sum(goals.values()) / 4).max()
    print(sorted(played.paid), apart < 0.02, all(check.passed for check in local.audit()))
"""
    told = training.run("python", "-c", code, at=tmp_path)
    assert told.splitlines()[-1] == "['ann', 'bob'] True True"
