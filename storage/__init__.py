"""Content-addressed storage: IPFS through the Kubo RPC, and a dev daemon that speaks it."""
