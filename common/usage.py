"""Take what --help says before and after a command's flags from the docstring of its file."""

import re
from typing import Dict, List

__all__ = ['described']

_EXAMPLE = re.compile(r'\bpython [\w/]+\.py\b')


def described(doc: str) -> Dict[str, str]:
    """Return the `description` and `epilog` for argparse: the first paragraph, and the lines that are examples."""
    examples: List[str] = []
    for line in doc.splitlines():
        if _EXAMPLE.search(line):
            examples.append(f'    {line.strip()}')
        elif examples and examples[-1].endswith('\\'):
            examples.append(f'        {line.strip()}')
    return {'description': doc.partition('\n\n')[0], 'epilog': '\n'.join(['examples:', *examples])}
