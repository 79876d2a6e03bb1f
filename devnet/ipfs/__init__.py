"""The dev IPFS daemon: Kubo's RPC over blocks in a folder."""
