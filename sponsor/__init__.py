"""The sponsor: founds a federation, funds it, and looks at it."""
