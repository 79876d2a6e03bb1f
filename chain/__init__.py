"""The Ethereum side: typed client of the federation contract, wallets, events."""
