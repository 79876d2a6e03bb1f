"""The flashcard data set of the demo: four specialities and a held-out file (see README.md)."""
