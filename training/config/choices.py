"""What some flags may be. Not where the values are read: flags are explained where not even NumPy is installed."""

__all__ = ['BORDERS', 'FLIPS']

# Of training images: what moves in at a border, and which are flipped. `data.augmentation.shift` says more.
BORDERS = ('black', 'mirror')
FLIPS = ('random', 'alternate', 'off')
