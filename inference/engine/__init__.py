"""The project's own inference engine: a network as one flat plan, run by `kernels/engine` in a single call."""
