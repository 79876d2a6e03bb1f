"""Time, bytes and memory of each phase and layer, as a role measures them itself."""
