"""Values of some flags, kept apart from their use, because flags are explained even where NumPy is not installed."""

__all__ = ['AUTO_AUGMENTS', 'BORDERS', 'ERASE_MODES', 'FLIPS', 'INTERPOLATIONS', 'SPLITS']

# For training images: what moves in at a border, and which are flipped; see `data.augmentation.shift`.
BORDERS = ('black', 'mirror')
FLIPS = ('random', 'alternate', 'off')
# Splits of a data set; val and test differ if both exist.
SPLITS = ('train', 'val', 'test', 'all')
# See `data.scaling`. The first is the default.
INTERPOLATIONS = ('antialiased', 'plain', 'bicubic')
# Operations on training images, see `data.augmentation.auto`; what erasing leaves, see `data.augmentation.erasing`.
AUTO_AUGMENTS = ('off', 'rand', 'trivial')
ERASE_MODES = ('pixel', 'const')
