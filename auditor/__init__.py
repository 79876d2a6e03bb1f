"""The auditor: recomputes every round from the chain and IPFS alone."""
