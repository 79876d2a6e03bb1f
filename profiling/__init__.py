"""What a role measures of itself: time, bytes and memory of each phase and layer."""
