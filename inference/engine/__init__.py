"""An inference engine of our own: a network as one flat plan, run by `kernels/engine` in one call."""
