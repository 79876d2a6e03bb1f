"""The demo: a whole federation on one machine."""
