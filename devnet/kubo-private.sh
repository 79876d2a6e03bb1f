#!/bin/sh
# Run by Kubo's image before each start: settings of a daemon in a private swarm. It knows the peers
# that its role names and nobody else; devnet/kubo.py gives daemons without containers the same ones.
set -e
cp "${SWARM_KEY:-/etc/swarm.key}" "${IPFS_PATH:?}/swarm.key"
# A private swarm refuses whatever comes from the public network.
while read -r key value; do
  ipfs config --json "$key" "$value"
done < "${KUBO_SETTINGS:-/etc/kubo.settings}"
# A swarm key works over plain TCP alone.
ipfs config --json Swarm.Transports.Network.Websocket false
ipfs config --json Addresses.Swarm '["/ip4/0.0.0.0/tcp/4001"]'
ipfs config Addresses.API /ip4/0.0.0.0/tcp/5001
