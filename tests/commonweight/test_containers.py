"""The compose files and the Dockerfile say what docs/containers.md promises of them."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from sponsor.config import Config

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FILES = ("docker-compose.yml", "compose.participant.yml")
ONCE = {"setup"}
ROLES = ("aggregator", "cardiology", "neurology", "pharmacology", "auditor")


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return loaded


def services(*names: str) -> list[Any]:
    return [
        pytest.param(service, id=f"{name}:{key}")
        for name in names
        for key, service in load(name)["services"].items()
    ]


def in_profile(profile: str) -> dict[str, Any]:
    every = load("docker-compose.yml")["services"].items()
    return {key: s for key, s in every if profile in s.get("profiles", [profile])}


@pytest.mark.parametrize("service", services(*FILES))
def test_every_service_has_no_more_rights_than_it_needs(service: dict[str, Any]) -> None:
    user, group = re.sub(r"\$\{\w+:-(\d+)\}", r"\1", service["user"]).split(":")
    assert int(user) > 0 < int(group)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "network_mode"} & set(service)
    assert {"mem_limit", "cpus", "pids_limit"} <= set(service)


@pytest.mark.parametrize("service", services(*FILES))
def test_every_service_is_watched_and_comes_back(service: dict[str, Any]) -> None:
    if service["healthcheck"] == {"disable": True}:
        assert service["restart"] in ("on-failure", "no")  # it runs once
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"
        assert {"interval", "timeout", "retries", "start_period"} <= set(service["healthcheck"])


@pytest.mark.parametrize("service", services(*FILES))
def test_every_image_is_pinned(service: dict[str, Any]) -> None:
    name, _, tag = service["image"].rpartition(":")
    assert name
    assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag), service["image"]
    if "build" in service:
        assert tag == PROJECT["project"]["version"]


@pytest.mark.parametrize("service", services(*FILES))
def test_every_port_is_published_on_loopback_alone(service: dict[str, Any]) -> None:
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), port


@pytest.mark.parametrize("service", services(*FILES))
def test_no_secret_stands_in_an_environment_or_on_a_command_line(service: dict[str, Any]) -> None:
    said = [*service.get("environment", {}).items(), *enumerate(service.get("command", []))]
    for key, value in said:
        assert not re.search(r"(?i)secret|token_?key|private|mnemonic", f"{key}"), key
        assert not re.search(r"0x[0-9a-fA-F]{64}", f"{value}"), key
        if re.search(r"(?i)password", f"{key} {value}"):
            assert re.search(r"--password-file|/[\w./-]+", f"{value}"), "a file, not the password"


@pytest.mark.parametrize("profile", ["dev", "full"])
def test_both_profiles_give_the_roles_the_same_names_and_ports(profile: str) -> None:
    names: dict[str, str] = {}
    for key, service in in_profile(profile).items():
        if "profiles" not in service or "ports" not in service:
            continue
        networks = service["networks"]
        aliases = networks["federation"]["aliases"] if isinstance(networks, dict) else [key]
        (names[aliases[0]],) = service["ports"]
    assert names == {
        "chain": "127.0.0.1:${CHAIN_PORT:-8545}:8545",
        "ipfs": "127.0.0.1:${IPFS_PORT:-5001}:5001",
    }


def test_dev_is_what_comes_up_and_is_built_here_alone() -> None:
    assert "COMPOSE_PROFILES=dev" in (ROOT / ".env").read_text().splitlines()
    assert all("build" in service for service in in_profile("dev").values())


def test_nothing_starts_before_what_it_needs_is_ready() -> None:
    every = load("docker-compose.yml")["services"]
    for name in ROLES:
        assert every[name]["depends_on"] == {
            "setup": {"condition": "service_completed_successfully"}
        }
    needs = every["setup"]["depends_on"]
    assert set(needs) == {name for name, s in every.items() if "profiles" in s}
    for need in needs.values():
        assert need == {"condition": "service_healthy", "required": False}


def test_a_role_sees_its_own_wallet_and_nobody_elses() -> None:
    every = load("docker-compose.yml")["services"]
    for name in ROLES:
        assert every[name]["volumes"] == [
            "federation:/network/federation:ro",
            f"{name}:/network/{name}",
        ]


def test_the_explorer_sees_no_wallet() -> None:
    explorer = load("docker-compose.yml")["services"]["explorer"]
    assert explorer["volumes"] == ["federation:/network/federation:ro", "explorer:/state"]
    assert explorer["ports"] == ["127.0.0.1:${EXPLORER_PORT:-8080}:8080"]
    assert "environment" not in explorer


def test_private_data_has_no_way_out_to_the_internet() -> None:
    compose = load("docker-compose.yml")
    assert compose["networks"]["federation"] == {"internal": True}
    for name in Config.load(ROOT / "configs" / "compose.toml").data.participants:
        assert compose["services"][name]["networks"] == ["federation"]


def test_each_role_has_a_kubo_of_its_own_in_a_private_swarm() -> None:
    compose = load("docker-compose.yml")
    kubos = {n: s for n, s in compose["services"].items() if s["image"].startswith("ipfs/kubo:")}
    own = {"aggregator", *Config.load(ROOT / "configs" / "compose.toml").data.participants}
    assert set(kubos) == {"kubo", *(f"kubo-{name}" for name in own)}
    for name, kubo in kubos.items():
        assert kubo["profiles"] == ["full"]
        assert "federation" in kubo["networks"]  # where roles resolve what was announced
        assert kubo["environment"]["LIBP2P_FORCE_PNET"] == "1"
        given = {each["source"]: each["target"] for each in kubo["configs"]}
        assert given == {
            "kubo-private": "/container-init.d/private.sh",
            "kubo-settings": "/etc/kubo.settings",
            "swarm-key": "/etc/swarm.key",
        }
        assert "--offline" not in kubo["command"]
        assert kubo["volumes"] == [f"{name}:/data/ipfs"]
    # The set-up asks each of them for its peer ID, and writes it into its role's settings.
    setup = compose["services"]["setup"]
    assert setup["command"][-2:] == ["--own-ipfs", "http://kubo-{name}:5001"]
    for place in compose["configs"].values():
        assert (ROOT / place["file"]).is_file()


def test_a_bucket_takes_the_place_of_a_daemon() -> None:
    compose = load("compose.participant.yml")
    command = compose["services"]["init"]["command"]
    assert {"--ipfs=${IPFS_URL:-}", "--bucket=${BUCKET:-}", "--public=${PUBLIC:-}"} <= set(command)
    for service in compose["services"].values():
        file = service["environment"]["AWS_SHARED_CREDENTIALS_FILE"]
        assert file == "${AWS_CREDENTIALS:+/run/secrets/bucket}"
        assert "bucket" in service["secrets"]


def test_a_gpu_is_asked_for_beside_a_build_that_can_use_it() -> None:
    plain, with_gpu = load("compose.participant.yml"), load("compose.gpu.yml")
    assert with_gpu["services"].keys() == plain["services"].keys()
    for service in with_gpu["services"].values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        # An image and a tag of its own: that for the CPU stays what it was.
        name, _, tag = service["image"].rpartition(":")
        assert (name, tag) == ("commonweight-participant-gpu", PROJECT["project"]["version"])
        assert re.fullmatch(
            r"\$\{TORCH_BACKEND:-cu\d+\}", service["build"]["args"]["TORCH_BACKEND"]
        )


def test_the_configuration_names_the_participants_that_have_services() -> None:
    participants = set(Config.load(ROOT / "configs" / "compose.toml").data.participants)
    assert participants == set(ROLES) - {"aggregator", "auditor"}
    dockerfile = (ROOT / "Dockerfile").read_text()
    for name in ROLES:  # a new volume takes the owner of the folder in the image
        assert f"/network/{name}" in dockerfile


def test_every_volume_is_declared_and_none_is_a_folder_of_this_machine() -> None:
    compose = load("docker-compose.yml")
    used = {v.split(":")[0] for s in compose["services"].values() for v in s["volumes"]}
    assert used == set(compose["volumes"])


class TestDockerfile:
    TEXT = (ROOT / "Dockerfile").read_text()

    def test_it_has_every_target_that_is_built(self) -> None:
        wanted = {
            service["build"]["target"]
            for name in FILES
            for service in load(name)["services"].values()
            if "build" in service
        }
        assert wanted == {"commonweight", "devnet", "participant"}
        assert wanted <= set(re.findall(r"^FROM \S+ AS (\S+)$", self.TEXT, re.MULTILINE))

    def test_what_runs_is_not_root_and_carries_the_version(self) -> None:
        runtime = self.TEXT.partition("AS runtime")[2]
        assert re.findall(r"^USER (\S+)", runtime, re.MULTILINE) == ["commonweight"]
        version = PROJECT["project"]["version"]
        assert f'org.opencontainers.image.version="{version}"' in runtime
        for target in ("commonweight", "devnet", "participant"):
            assert re.search(rf"^FROM runtime AS {target}$", runtime, re.MULTILINE)

    def test_the_build_is_given_every_package_of_the_wheel(self) -> None:
        allowed = {
            line.removeprefix("!").partition("/")[0]
            for line in (ROOT / ".dockerignore").read_text().splitlines()
            if line.startswith("!")
        }
        packages = {name.partition(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}
        assert packages | {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"} <= allowed
