"""Imports go one way: from `commonweight` down to `protocol`, and between roles not at all."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND = {"protocol", "contracts", "ethereum", "profiling", "chain", "storage", "training"}
SHARED = {*GROUND, "rounds", "runtime"}
MAY_IMPORT = {
    "protocol": set(),
    "contracts": {"protocol"},
    "profiling": {"protocol"},
    "ethereum": {"protocol", "contracts"},
    "chain": {"protocol", "contracts", "ethereum"},
    "storage": {"protocol", "profiling"},
    "training": {"protocol"},
    "rounds": GROUND - {"training"},
    "runtime": GROUND - {"training"},
    "sponsor": SHARED,
    "node": SHARED,
    "aggregator": SHARED,
    "auditor": SHARED - {"training"},
    "devnet": {*SHARED, "sponsor"},
    "explorer": {*SHARED - {"training"}, "sponsor", "node", "auditor"},
}
OURS = {*MAY_IMPORT, "commonweight", "tests"}


def imported_packages(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        wrong = (imported_packages(path) & OURS) - MAY_IMPORT[package] - {package}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_only_training_imports_torch() -> None:
    for package in (*MAY_IMPORT, "commonweight"):
        for path in (ROOT / package).rglob("*.py"):
            uses = {"torch", "transformers", "peft"} & imported_packages(path)
            assert not uses or package == "training", f"{path.relative_to(ROOT)} imports {uses}"


def test_protocol_does_no_input_or_output() -> None:
    # But for protocol/compiled: it is optional, and numba keeps what it compiles on disk.
    for path in (ROOT / "protocol").glob("*.py"):
        assert not {"os", "pathlib", "socket", "requests", "web3"} & imported_packages(path)
