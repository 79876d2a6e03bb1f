"""Programs for people who work on or check this project."""
