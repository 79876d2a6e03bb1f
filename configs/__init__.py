"""Ready-made configurations and the demo's data set, shipped as package data."""
