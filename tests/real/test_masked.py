"""A masked round on geth, whose finality comes in epochs, with a Kubo for each role."""

from pathlib import Path
from typing import Any, Final

from auditor.replay import Audit
from contracts.enums import Status
from node.results import Outcome, round_results
from protocol.types import RoundId
from storage.ipfs import ContentStore
from tests.real.founding import AUDITOR, MEMBERS, PARTICIPANTS, read_log
from tests.real.network import Network

ONE: Final = RoundId(1)
_MASKED: Final[dict[str, Any]] = {
    "privacy": "masked",
    "min_set": 3,
    "min_participants": 3,
    "seal_seconds": 180,
    "unmask_seconds": 180,
    "assist_seconds": 180,
    "unbonding_seconds": 3_600,
    "challenge_seconds": 8,
}


def test_a_masked_round_waits_for_finality_and_is_paid(tmp_path: Path) -> None:
    with Network(tmp_path, rounds=1, **_MASKED) as network:
        network.start(*MEMBERS)
        network.until(lambda: network.status(ONE) is Status.FINALIZED, "not finalized")
        client = network.federation
        told = client.history().round(ONE)
        assert len(told.masking.unmasked) == len(PARTICIPANTS)
        assert told.masking.objected == []
        assert told.masking.sealed is not None
        for event in told.masking.unmasked.values():
            # Nothing is opened for a seal that a reorganisation could still undo.
            assert event.block_number > _final_since(told.masking.sealed.block_number)
        for name in PARTICIPANTS:
            address = network.founded.wallet(name).address
            assert [r.outcome for r in round_results(client, address)] == [Outcome.PAID], name
            phases = [line["phase"] for line in read_log(network.log(name))]
            assert phases.count("unmasked") == 1
            assert "sum unchecked" not in phases
        store = ContentStore(network.kubos[AUDITOR].url)
        checks = list(Audit(client, store, tmp_path / "audit").run())
        assert [check.line() for check in checks if not check.passed] == []


def _final_since(block: int) -> int:
    """Return the last block of the epoch that a block is in: a later one makes it final."""
    return -(-block // 32) * 32 - 1
