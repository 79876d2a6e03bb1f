"""The stages of tests/chain, for what a role does with them."""

from tests.chain.conftest import _stage, rpc_url, stage, w3, wallets

__all__ = ["_stage", "rpc_url", "stage", "w3", "wallets"]
