"""One network run in every way that there is, by MXNet and by others, for tools/benchmark.py."""
