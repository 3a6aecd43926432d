#!/usr/bin/env bash
# Set-up and the whole test suite, a process a core. Arguments go to pytest: bash scripts/test.sh -m "not slow" tests/model
# One process, for a debugger: -n 0
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/scripts/setup.sh" --dev
cd "$root"
# Many container images set it; the suite starts hundreds of processes, each of which would compile our modules anew.
export PYTHONDONTWRITEBYTECODE=
exec .venv/bin/python -m pytest -n auto --dist worksteal "$@"
