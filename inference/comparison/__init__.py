"""Run a network in every available way, by MXNet and by other runtimes, for tools/benchmark.py."""
