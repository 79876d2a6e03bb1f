"""The committed artifacts are what the sources compile to, with py-solc-x and with forge alike."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import solcx
from solcx.exceptions import SolcInstallationError

from contracts import compiler
from contracts.compiler import CONTRACTS_DIR, load_artifact
from protocol.errors import Misconfigured

LIBRARIES = ("Availability", "Disputes", "Masking", "Membership", "Rounds", "Sums")
NAMES = ("DevToken", "Factory", "Federation", *LIBRARIES)
LARGEST_CODE = 24_576  # bytes, EIP-170
PLACEHOLDER = re.compile(r"__\$[0-9a-f]{34}\$__")


def copy_contracts(target: Path) -> Path:
    """Copy what the compiler needs to `target`; the npm packages stay where they are."""
    for folder in ("src", "tools", "artifacts"):
        shutil.copytree(CONTRACTS_DIR / folder, target / folder)
    (target / "node_modules").symlink_to(CONTRACTS_DIR / "node_modules")
    return target


@pytest.fixture(scope="module")
def forge_output(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("forge")
    npm_forge = CONTRACTS_DIR / "node_modules" / ".bin" / "forge"
    forge = npm_forge if npm_forge.is_file() else Path(shutil.which("forge") or npm_forge)
    command: list[str | Path] = [forge, "build", "--skip", "test", "--out", folder / "out"]
    command += ["--cache-path", folder / "cache", "--threads", "1"]
    settings = {key: value for key, value in os.environ.items() if not key.startswith("FOUNDRY_")}
    result = subprocess.run(
        command, cwd=CONTRACTS_DIR, env=settings, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    # Where two files have the same name, forge adds folders to one path: its metadata tells.
    outputs = [json.loads(path.read_text()) for path in (folder / "out").glob("**/*.sol/*.json")]
    targets = {json.dumps(o["metadata"]["settings"]["compilationTarget"]): o for o in outputs}
    return {name: targets[json.dumps({f"src/{name}.sol": name.split("/")[-1]})] for name in NAMES}


def test_committed_artifacts_are_what_the_sources_compile_to() -> None:
    assert compiler.stale_artifacts() == []


@pytest.mark.parametrize("name", NAMES)
def test_forge_compiles_to_the_same_bytes(name: str, forge_output: dict[str, Any]) -> None:
    def in_order(abi: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps(entry, sort_keys=True) for entry in abi)

    ours, forges = load_artifact(name), forge_output[name]
    assert ours["bytecode"] == forges["bytecode"]["object"]
    assert ours["deployedBytecode"] == forges["deployedBytecode"]["object"]
    assert in_order(ours["abi"]) == in_order(forges["abi"])


def test_forge_has_the_same_settings() -> None:
    settings = tomllib.loads((CONTRACTS_DIR / "foundry.toml").read_text())["profile"]["default"]
    expected = {
        "evmVersion": settings["evm_version"],
        "metadata": {
            "appendCBOR": settings["cbor_metadata"],
            "bytecodeHash": settings["bytecode_hash"],
        },
        "optimizer": {"enabled": settings["optimizer"], "runs": settings["optimizer_runs"]},
        "viaIR": settings["via_ir"],
    }
    assert expected == compiler.SETTINGS


def test_npm_and_python_pin_the_same_compiler() -> None:
    package = json.loads((CONTRACTS_DIR / "package.json").read_text())
    assert package["devDependencies"]["solc"] == compiler.SOLC_VERSION


@pytest.mark.parametrize("name", NAMES)
def test_artifact_is_complete_and_canonical(name: str) -> None:
    text = (CONTRACTS_DIR / "artifacts" / f"{name}.json").read_text()
    artifact = load_artifact(name)
    assert text == compiler.artifact_text(artifact)
    assert artifact["contractName"] == name.split("/")[-1]
    assert artifact["sourceName"] == f"src/{name}.sol"
    assert artifact["compiler"] == {"version": "0.8.37", "settings": compiler.SETTINGS}
    addresses = dict.fromkeys(LIBRARIES, "0x" + "Ab" * 20)
    linked = compiler.link(
        artifact["deployedBytecode"], artifact["deployedLinkReferences"], addresses
    )
    code = bytes.fromhex(linked.removeprefix("0x"))
    assert 0 < len(code) <= LARGEST_CODE
    for reference in artifact["immutableReferences"]:
        start, length = reference["start"], reference["length"]
        assert code[start : start + length] == bytes(length)


@pytest.mark.parametrize(
    ("code", "references"),
    [("bytecode", "linkReferences"), ("deployedBytecode", "deployedLinkReferences")],
)
def test_linking_fills_every_placeholder(code: str, references: str) -> None:
    artifact = load_artifact("Federation")
    assert set(artifact[references]) == set(LIBRARIES)
    addresses = {name: f"0x{number:040x}" for number, name in enumerate(LIBRARIES, 1)}
    linked = compiler.link(artifact[code], artifact[references], addresses)
    assert PLACEHOLDER.search(artifact[code])
    assert not PLACEHOLDER.search(linked)
    for name, ranges in artifact[references].items():
        digits = addresses[name].removeprefix("0x")
        starts = [2 + 2 * reference["start"] for reference in ranges]
        assert [linked[start : start + 40] for start in starts] == [digits] * len(ranges)
    missing = {name: addresses[name] for name in LIBRARIES[1:]}
    with pytest.raises(KeyError, match=LIBRARIES[0]):
        compiler.link(artifact[code], artifact[references], missing)


def test_the_state_begins_at_the_first_slot() -> None:
    # test/Vectors.t.sol counts the members of State from there.
    (entry,) = load_artifact("Federation")["storageLayout"]
    assert (entry["label"], entry["slot"], entry["type"]) == ("_state", "0", "struct State")


def test_reading_an_artifact_needs_no_compiler() -> None:
    program = (
        "import sys; sys.modules['solcx'] = None\n"
        "from contracts.compiler import load_artifact\n"
        "print(load_artifact('Federation')['contractName'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=CONTRACTS_DIR.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "Federation\n"


def test_an_unknown_artifact_is_refused() -> None:
    with pytest.raises(Misconfigured, match="no compiled contract is named Nothing"):
        load_artifact("Nothing")


def test_a_changed_source_is_noticed_and_rewritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contracts = copy_contracts(tmp_path)
    source = contracts / "src" / "Limits.sol"
    source.write_text(source.read_text().replace("MOST_AGGREGATORS = 8", "MOST_AGGREGATORS = 9"))
    (contracts / "artifacts" / "Gone.json").write_text("{}\n")
    (contracts / "artifacts" / "DevToken.json").unlink()
    arguments = ["--contracts", str(contracts)]
    assert compiler.main([*arguments, "--check"]) == 1
    stale = [Path(line.split(" is not ")[0]).name for line in capsys.readouterr().out.splitlines()]
    assert stale == ["DevToken.json", "Factory.json", "Gone.json"]

    assert compiler.main(arguments) == 0
    folder = contracts / "artifacts"
    lines = capsys.readouterr().out.splitlines()
    written = [Path(line).relative_to(folder).as_posix() for line in lines]
    assert written == sorted(f"{name}.json" for name in NAMES)
    committed = CONTRACTS_DIR / "artifacts"
    changed = [n for n in written if (folder / n).read_bytes() != (committed / n).read_bytes()]
    assert changed == ["Factory.json"]


def test_a_source_that_does_not_compile_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contracts = copy_contracts(tmp_path)
    source = contracts / "src" / "DevToken.sol"
    source.write_text(source.read_text().replace("uint256 supply", "uint257 supply"))
    assert compiler.main(["--contracts", str(contracts)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("the contracts do not compile: ")
    assert "src/DevToken.sol" in error


def test_a_missing_import_is_one_clear_error(tmp_path: Path) -> None:
    contracts = copy_contracts(tmp_path)
    source = contracts / "src" / "DevToken.sol"
    source.write_text(source.read_text().replace("ERC20/ERC20.sol", "ERC20/Gone.sol"))
    with pytest.raises(Misconfigured, match=r"Gone\.sol is missing: run `npm ci"):
        compiler.compile_contracts(contracts)


def test_a_folder_without_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"holds no src/\*\.sol"):
        compiler.compile_contracts(tmp_path)


def test_a_native_compiler_that_is_installed_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solcx.install, "get_executable", lambda version: f"/opt/solc-v{version}")
    assert compiler.find_solc() == Path("/opt/solc-v0.8.37")


def test_without_npm_py_solc_x_downloads_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOLCX_BINARY_PATH", str(tmp_path))
    installed: list[str] = []

    def install(version: str) -> None:
        installed.append(version)
        (tmp_path / f"solc-v{version}").touch()

    monkeypatch.setattr(solcx, "install_solc", install)
    assert compiler.find_solc(tmp_path) == tmp_path / "solc-v0.8.37"
    assert installed == ["0.8.37"]


def test_without_any_compiler_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(version: str) -> None:
        raise SolcInstallationError(f"no {version} here")

    monkeypatch.setenv("SOLCX_BINARY_PATH", str(tmp_path))
    monkeypatch.setattr(solcx, "install_solc", fail)
    with pytest.raises(Misconfigured, match=r"no Solidity compiler 0\.8\.37: run `npm ci"):
        compiler.find_solc(tmp_path)


def test_a_wrong_npm_compiler_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLCX_BINARY_PATH", str(tmp_path))
    (tmp_path / "node_modules" / "solc").mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    wrapper = tmp_path / "tools" / "solc"
    with pytest.raises(Misconfigured, match="does not run"):
        compiler.find_solc(tmp_path)
    wrapper.write_text("#!/bin/sh\necho Version: 0.8.30+commit.00000000\n")
    wrapper.chmod(0o755)
    with pytest.raises(Misconfigured, match=r"is not Solidity 0\.8\.37"):
        compiler.find_solc(tmp_path)
