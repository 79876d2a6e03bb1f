"""The command line and the demo: the only package that imports every role."""

__version__ = "0.2.0"
