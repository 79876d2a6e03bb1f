"""One Ethereum node and the wallets that use it: requests with limits, transactions that get mined."""
