"""Prepare a script to run from any working folder; every script begins with `import _bootstrap`.

It puts the repository's root on `sys.path` and prepares the process (`environment`). Like every script, it is written
so that Python 3.6 can read it and report which Pythons are supported.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from environment.entry import quiet_interrupts

quiet_interrupts()
