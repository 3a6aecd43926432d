"""What all tests share: the process is prepared for MXNet, in as many threads as share the machine well."""

import os

# Networks in tests are small: one thread is fastest for them. It also keeps sums, and so results, the same on
# machines with more cores. Whoever wants to try others sets the variable.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import environment  # noqa: F401  (before anything imports MXNet)
