"""Compile contracts/src with py-solc-x into the committed contracts/artifacts/*.json.

    python -m contracts.compiler            # rewrite the artifacts
    python -m contracts.compiler --check    # exit 1 when they are not what the sources compile to

The settings are those of contracts/foundry.toml. The bytecode contains no metadata, so that it
depends only on the sources and the compiler's version: tests/contracts/test_artifacts.py.

Reading an artifact (`load_artifact`) needs no compiler and no Node.
"""

import argparse
import json
import posixpath
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from protocol.errors import Misconfigured

Artifact = dict[str, Any]
LibraryAddresses = Mapping[str, str]

SOLC_VERSION: Final = "0.8.37"
SETTINGS: Final[dict[str, Any]] = {
    "evmVersion": "cancun",
    "metadata": {"appendCBOR": False, "bytecodeHash": "none"},
    "optimizer": {"enabled": True, "runs": 200},
    "viaIR": False,
}
CONTRACTS_DIR: Final = Path(__file__).resolve().parent.parent / "contracts"

_OUTPUTS: Final = (
    "abi",
    "evm.bytecode.object",
    "evm.bytecode.linkReferences",
    "evm.deployedBytecode.object",
    "evm.deployedBytecode.linkReferences",
    "evm.deployedBytecode.immutableReferences",
    "evm.methodIdentifiers",
    "storageLayout",
)
_NPM: Final = "run `npm ci --ignore-scripts`"
_IMPORT: Final = re.compile(r"^import\b[^;]*?\"([^\"]+)\";", re.MULTILINE)


@lru_cache
def load_artifact(name: str) -> Artifact:
    """Return the committed artifact of a contract (see `compile_contracts`).

    Raises Misconfigured when no contract has that name.
    """
    # Beside this file, not by importlib's `contracts`: a folder of that name in the user's working
    # directory would be found first.
    resource = CONTRACTS_DIR / "artifacts" / f"{name}.json"
    if not resource.is_file():
        raise Misconfigured(f"no compiled contract is named {name}")
    artifact: Artifact = json.loads(resource.read_text(encoding="utf-8"))
    return artifact


def artifact_names() -> list[str]:
    """Return the names of the committed artifacts, sorted."""
    folder = CONTRACTS_DIR / "artifacts"
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.json")
    )


def compile_contracts(contracts_dir: Path = CONTRACTS_DIR) -> dict[str, Artifact]:
    """Return the artifact of every deployable contract in contracts_dir/src, by name.

    The keys of an artifact are `contractName`, `sourceName`, `abi`, `bytecode` and
    `deployedBytecode` (hex with 0x, and placeholders of linked libraries: `link`), `linkReferences`
    and `deployedLinkReferences` (the byte ranges of those placeholders, by library),
    `immutableReferences` (byte ranges of deployedBytecode, zero here and filled in at deployment),
    `storageLayout` (label, slot, offset and type of each state variable) and `compiler` (version
    and settings).

    Raises Misconfigured when no compiler is available or the sources do not compile.
    """
    import solcx  # of the extra `devnet`: reading an artifact must work without it

    request = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in _sources(contracts_dir).items()},
        "settings": {**SETTINGS, "outputSelection": {"*": {"*": list(_OUTPUTS)}}},
    }
    try:
        output = solcx.compile_standard(request, solc_binary=find_solc(contracts_dir))
    except solcx.exceptions.SolcError as error:
        raise Misconfigured(f"the contracts do not compile: {error.message}") from error
    return {
        name: _artifact(source, name, compiled)
        for source, contracts in output["contracts"].items()
        for name, compiled in contracts.items()
        if source.startswith("src/") and _is_deployable(compiled)
    }


def link(
    code: str, references: Mapping[str, list[dict[str, int]]], addresses: LibraryAddresses
) -> str:
    """Return `code` (hex with 0x) with the addresses of its libraries in place.

    `references` are the `linkReferences` of `bytecode`, or the `deployedLinkReferences` of
    `deployedBytecode`; `addresses` are hex with 0x, by artifact name. Raises KeyError when a
    library has no address.
    """
    digits = list(code)
    for library, ranges in references.items():
        address = addresses[library].removeprefix("0x").lower()
        for reference in ranges:
            start = 2 + 2 * reference["start"]
            digits[start : start + 2 * reference["length"]] = address
    return "".join(digits)


def find_solc(contracts_dir: Path = CONTRACTS_DIR) -> Path:
    """Return a compiler of version SOLC_VERSION that py-solc-x can run.

    Raises Misconfigured when none is available, or the npm compiler is of another version.
    """
    import solcx  # of the extra `devnet`, as above

    # 1. A native one that py-solc-x has installed: it is the fastest.
    with suppress(solcx.exceptions.SolcNotInstalled):
        return Path(solcx.install.get_executable(SOLC_VERSION))
    # 2. The npm compiler of contracts/package.json, whose version the lock file pins.
    if (contracts_dir / "node_modules" / "solc").is_dir():
        wrapper = contracts_dir / "tools" / "solc"
        command = [str(wrapper), "--version"]
        try:
            answer = subprocess.run(command, capture_output=True, check=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise Misconfigured(f"{wrapper} does not run; it needs Node 20 or newer") from error
        # Asked, since the folder may be older than the lock file.
        if f"Version: {SOLC_VERSION}+" not in answer.stdout:
            text = f"{wrapper} is not Solidity {SOLC_VERSION}: {_NPM} in {contracts_dir}"
            raise Misconfigured(text)
        return wrapper
    # 3. A native one that py-solc-x downloads now.
    try:
        solcx.install_solc(SOLC_VERSION)
        return Path(solcx.install.get_executable(SOLC_VERSION))
    except (
        OSError,
        solcx.exceptions.SolcInstallationError,
        solcx.exceptions.SolcNotInstalled,
    ) as error:
        raise Misconfigured(
            f"no Solidity compiler {SOLC_VERSION}: {_NPM} in {contracts_dir}, "
            "or let py-solc-x download one"
        ) from error


def write_artifacts(contracts_dir: Path = CONTRACTS_DIR) -> list[Path]:
    """Compile, rewrite contracts_dir/artifacts and return the written paths."""
    folder = contracts_dir / "artifacts"
    folder.mkdir(exist_ok=True)
    written = []
    for name, artifact in sorted(compile_contracts(contracts_dir).items()):
        path = folder / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(artifact_text(artifact), encoding="utf-8")
        written.append(path)
    return written


def stale_artifacts(contracts_dir: Path = CONTRACTS_DIR) -> list[Path]:
    """Return the artifact files that are missing, left over or out of date."""
    folder = contracts_dir / "artifacts"
    expected = {
        folder / f"{name}.json": artifact_text(artifact)
        for name, artifact in compile_contracts(contracts_dir).items()
    }
    left_over = set(folder.rglob("*.json")) - set(expected)
    differing = {
        path
        for path, text in expected.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
    return sorted(left_over | differing)


def artifact_text(artifact: Artifact) -> str:
    """Return the only text of an artifact: sorted keys, two spaces, a newline at the end."""
    return json.dumps(artifact, indent=2, sort_keys=True) + "\n"


def _sources(contracts_dir: Path) -> dict[str, str]:
    """Return every file that contracts_dir/src needs, imports included, by source name."""
    found = sorted((contracts_dir / "src").rglob("*.sol"))
    pending = [path.relative_to(contracts_dir).as_posix() for path in found]
    if not pending:
        raise Misconfigured(
            f"{contracts_dir} holds no src/*.sol: compile in a copy of the repository"
        )
    sources: dict[str, str] = {}
    while pending:
        name = pending.pop()
        if name in sources:
            continue
        path = contracts_dir / (f"node_modules/{name}" if name.startswith("@") else name)
        try:
            sources[name] = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise Misconfigured(f"{path} is missing: {_NPM} in {contracts_dir}") from error
        for imported in _IMPORT.findall(sources[name]):
            # A relative path is relative to the importer; source names are always POSIX paths.
            if imported.startswith("."):
                imported = posixpath.normpath(posixpath.join(posixpath.dirname(name), imported))
            pending.append(imported)
    return sources


def _is_deployable(compiled: dict[str, Any]) -> bool:
    # Interfaces have no code and libraries of internal functions nothing to call. (The functions of
    # a linked library take storage, so that they are no part of its ABI.)
    return bool(compiled["evm"]["bytecode"]["object"] and compiled["evm"]["methodIdentifiers"])


def _link_references(code: dict[str, Any]) -> dict[str, list[dict[str, int]]]:
    return {
        name: sorted(ranges, key=lambda reference: reference["start"])
        for libraries in code["linkReferences"].values()
        for name, ranges in libraries.items()
    }


def _artifact(source: str, name: str, compiled: dict[str, Any]) -> Artifact:
    # Neither node numbers of the compiler's tree nor orders of its own: `--check` compares texts.
    deployed = compiled["evm"]["deployedBytecode"]
    layout = compiled["storageLayout"]
    types = layout["types"] or {}
    return {
        "contractName": name,
        "sourceName": source,
        "abi": compiled["abi"],
        "bytecode": "0x" + compiled["evm"]["bytecode"]["object"],
        "deployedBytecode": "0x" + deployed["object"],
        "linkReferences": _link_references(compiled["evm"]["bytecode"]),
        "deployedLinkReferences": _link_references(deployed),
        "immutableReferences": sorted(
            (r for references in deployed["immutableReferences"].values() for r in references),
            key=lambda reference: reference["start"],
        ),
        "storageLayout": [
            {
                "label": entry["label"],
                "offset": entry["offset"],
                "slot": entry["slot"],
                "type": types[entry["type"]]["label"],
            }
            for entry in layout["storage"]
        ],
        "compiler": {"version": SOLC_VERSION, "settings": SETTINGS},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m contracts.compiler",
        description="Compile contracts/src and rewrite contracts/artifacts.",
    )
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 on a difference")
    parser.add_argument("--contracts", type=Path, default=CONTRACTS_DIR, help="another folder")
    options = parser.parse_args(arguments)
    try:
        if not options.check:
            for path in write_artifacts(options.contracts):
                print(path)
            return 0
        stale = stale_artifacts(options.contracts)
    except Misconfigured as error:
        print(error, file=sys.stderr)
        return 1
    for path in stale:
        print(f"{path} is not what the sources compile to: run `make contracts`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
