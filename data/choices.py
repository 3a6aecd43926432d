"""What some flags may be. Not where the values are used: flags are explained where not even NumPy is installed."""

__all__ = ['AUTO_AUGMENTS', 'BORDERS', 'ERASE_MODES', 'FLIPS', 'INTERPOLATIONS', 'SPLITS']

# Of training images: what moves in at a border, and which are flipped. `data.augmentation.shift` says more.
BORDERS = ('black', 'mirror')
FLIPS = ('random', 'alternate', 'off')
# Parts of a data set; val and test differ where there are both.
SPLITS = ('train', 'val', 'test', 'all')
# `data.scaling` says what they are. The first is the default.
INTERPOLATIONS = ('antialiased', 'plain', 'bicubic')
# Operations on training images, see `data.augmentation.auto`; what erasing leaves, see `data.augmentation.erasing`.
AUTO_AUGMENTS = ('off', 'rand', 'trivial')
ERASE_MODES = ('pixel', 'const')
