"""A participant who protects records, as people run it: settings, a kill, status, the audit."""

from pathlib import Path

import pytest

from tests.commonweight.network import Network

pytestmark = pytest.mark.long
NAME = "neurology"


def test_a_protected_participant(tmp_path: Path) -> None:
    with Network(tmp_path, rounds=2) as network:
        settings = network.folder / NAME / "participant.toml"
        out = network.folder / NAME / "canaries.json"
        network.program.run("privacy", "plant", "--out", str(out), "--canaries", "6")
        with settings.open("a") as file:
            file.write('validation = 0.2\n[privacy]\nepsilon = 30.0\ncanaries = "canaries.json"\n')
        config = ("--config", str(settings))
        before = network.program.json("participant", "status", *config)
        assert before["privacy"]["epsilon_spent"] == 0.0
        network.start("cardiology", NAME, "pharmacology", "aggregator")
        network.wait_for(NAME, "privacy", round=1)
        network.kill(NAME)
        network.start(NAME)
        network.wait_for(NAME, "committed", round=1)
        network.wait_for("aggregator", "finished")
        network.wait_for(NAME, "finished")
        after = network.program.json("participant", "status", *config)
        assert 0 < after["privacy"]["epsilon_spent"] <= 30.0
        assert after["privacy"]["rounds"] == 2
        assert after["privacy"]["rounds_not_counted"] == 0
        shown = network.program.run("participant", "status", *config)
        assert "of 30 spent at δ 1e-05, 2 rounds trained with noise" in shown
        (folder,) = (network.folder / NAME / "state").glob("0x*")
        assert (folder / "carried-private").is_dir()
        assert not (folder / "carried").exists()
        found = network.program.json("privacy", "audit", *config)
        assert found["round"] == 2
        assert [each["published"] for each in found["found"]] == ["update", "model"]
        assert found["found"][0]["canaries"]["members"] == 6
        assert found["controls_alike"]
        assert found["epsilon_spent"] == after["privacy"]["epsilon_spent"]
        text = network.program.run("privacy", "audit", *config, "--round", "1")
        assert text.splitlines()[0].startswith("round 1 of 0x")
        assert "no proof" in text
        wrong = network.program.run("privacy", "audit", *config, "--round", "7", code=1)
        assert "no update of round 7" in wrong
