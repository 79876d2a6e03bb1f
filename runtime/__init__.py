"""What keeps a role running and tells what it does: settings, logs, progress, service loop."""
