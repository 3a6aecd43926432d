"""Every script begins with `import _bootstrap`: `python scripts/NAME.py` then works from any working folder.

It puts the repository's root on `sys.path` and prepares the process (`environment`).
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import environment  # noqa: F401
