#!/bin/sh
# Run by Kubo's image before each start: settings of a daemon in a private swarm. It knows the peers
# that its role names and nobody else; devnet/kubo.py has the same for daemons without containers.
set -e
cp "${SWARM_KEY:-/etc/swarm.key}" "${IPFS_PATH:?}/swarm.key"
# A private swarm refuses whatever comes from the public network.
ipfs config --json AutoConf.Enabled false
ipfs config --json AutoTLS.Enabled false
ipfs config --json Bootstrap '[]'
ipfs config --json DNS.Resolvers '{}'
ipfs config --json Ipns.DelegatedPublishers '[]'
ipfs config --json Routing '{"Type": "none", "DelegatedRouters": []}'
ipfs config --json Discovery.MDNS.Enabled false
ipfs config --json Swarm.DisableNatPortMap true
# A swarm key works over plain TCP alone.
ipfs config --json Swarm.Transports.Network.Websocket false
ipfs config --json Addresses.Swarm '["/ip4/0.0.0.0/tcp/4001"]'
ipfs config Addresses.API /ip4/0.0.0.0/tcp/5001
ipfs config --json Addresses.Gateway '[]'
