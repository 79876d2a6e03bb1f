"""Daemons to try things on: a chain and an IPFS daemon on this machine."""
