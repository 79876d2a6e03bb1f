"""The chains and the federation of tests/chain."""

from tests.chain.conftest import _stage, _tester_stage, either_stage, rpc_url, stage, w3, wallets

__all__ = ["_stage", "_tester_stage", "either_stage", "rpc_url", "stage", "w3", "wallets"]
