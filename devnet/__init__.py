"""A network to try things on: an Ethereum chain, an IPFS daemon, accounts with public keys."""
