"""The flags of the training scripts, and where the values of a run come from."""
