#!/usr/bin/env bash
# Sets up, then runs the test suite with one process per core. Arguments are passed to pytest, for example:
# bash scripts/test.sh -m "not slow" tests/model. For a debugger, -n 0 runs everything in one process.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/scripts/setup.sh" --dev
cd "$root"
# Many container images set this; the suite starts hundreds of processes, and each would compile our modules again.
export PYTHONDONTWRITEBYTECODE=
exec .venv/bin/python -m pytest -n auto --dist worksteal "$@"
