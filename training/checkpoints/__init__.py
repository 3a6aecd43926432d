"""The state of a run: taken, kept on disk, and gone on with."""
