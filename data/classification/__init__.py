"""Data sets of labelled images, and the loaders that make batches of them."""
