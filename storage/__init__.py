"""Content-addressed storage: IPFS through the Kubo RPC, layer files and their digests."""
