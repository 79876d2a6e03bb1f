"""An Ethereum node and the wallets that use it: bounded requests, transactions that get mined."""
