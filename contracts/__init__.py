"""Solidity sources of the federation contract and the artifacts compiled from them."""
