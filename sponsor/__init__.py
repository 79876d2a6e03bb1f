"""The sponsor: found a federation, fund it, and show it."""
