"""The `ledger` engine as people run it: processes that follow the contract, some of which die."""

from collections import Counter
from pathlib import Path

import pytest

from chain.events import Committed, Finalized, Paid
from tests.commonweight.network import Network
from tests.runtime.test_tensorboard import read


@pytest.mark.slow
def test_two_rounds_with_a_kill_and_a_latecomer(tmp_path: Path) -> None:
    """One participant is killed in round 1, another only comes for round 2."""
    with Network(tmp_path, rounds=2) as network:
        network.start("cardiology", "neurology", "aggregator")
        network.wait_for("neurology", "trained", round=1)
        network.kill("neurology")
        network.start("neurology", "pharmacology")
        network.wait_for("aggregator", "finished")
        for name in ("cardiology", "neurology", "pharmacology"):
            network.wait_for(name, "finished")
            assert network.processes.pop(name).wait(timeout=20) == 0
        federation = network.client()
        events = federation.read_events()
        commits = Counter((e.round, e.participant) for e in events if isinstance(e, Committed))
        address = {name: network.wallet(name).address for name in network.config.data.participants}
        assert set(commits.values()) == {1}
        assert sorted(e.round for e in events if isinstance(e, Finalized)) == [1, 2]
        paid = {(e.round, e.participant) for e in events if isinstance(e, Paid)}
        assert paid == {
            (1, address["cardiology"]),
            (1, address["neurology"]),
            (2, address["cardiology"]),
            (2, address["neurology"]),
            (2, address["pharmacology"]),
        }
        for name in ("cardiology", "neurology", "pharmacology"):
            assert federation.credit_of(address[name]) == 0
        profile = network.program.json("profile", str(tmp_path))
        assert sorted(profile["roles"].values()) == ["aggregator"] + ["participant"] * 3
        assert profile["rounds"] == [1, 2]
        for name, figure in (("cardiology", "loss/step"), ("aggregator", "updates/accepted")):
            steps = [step for step, _ in read(network.folder / name / "figures")[figure]]
            assert steps == sorted(steps)
            assert len(steps) >= 2
        audit = network.program.json("audit", "run", "--federation", str(network.place))
        assert audit["failed"] == 0
