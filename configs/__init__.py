"""Ready-made round settings and the demo data set, shipped as package data."""
