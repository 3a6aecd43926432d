"""What `--interpolation` may be. Not beside the scaling: flags are explained where not even NumPy is installed."""

__all__ = ['INTERPOLATIONS']

# `data.scaling` says what they are. The first is the default.
INTERPOLATIONS = ('antialiased', 'plain')
