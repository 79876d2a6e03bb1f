"""Base models, adapters, training and evaluation: the only package that imports torch."""
