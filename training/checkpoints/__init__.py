"""Capture, store and restore the state of a run."""
