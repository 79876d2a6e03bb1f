"""The explorer: a local, read-only web page over a federation's chain, store and audit."""
