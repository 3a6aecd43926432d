"""Write examples/explain_and_compare.ipynb: run its cells and store their output.

    python tools/make_notebook.py                          # takes a minute
    python tools/make_notebook.py --output notebook.ipynb
    OMP_NUM_THREADS=1 python tools/make_notebook.py        # in one thread

The text of the cells is in this file. Pictures are stored as PNG, so that a forge shows them without running anything.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / 'examples' / 'explain_and_compare.ipynb'

# Markdown and Python, alternating.
CELLS = [
    """# Explain and compare two networks

Two networks come with the project: ResNet-20 with SE units, and the same network with each unit connected to the one
before it, as in DCANet. Both were trained on CIFAR-10. The two photos are from scikit-learn, and neither shows one of
CIFAR-10's ten classes, so the predictions are guesses; what matters here is where the networks look.""",
    """from pathlib import Path

from sklearn.datasets import load_sample_images

import inference
from inference.network import load_network

params = Path(inference.__file__).parents[1] / 'params'
networks = {
    title: load_network(f'{params}/cifar10/cifar_{part}_resnet20_v2/seed-0.params')
    for title, part in (('SE', 'se'), ('DCA-SE', 'dca_se'))
}
china, flower = load_sample_images().images
images = [china[:, 100:527], flower[:, 120:547]]
print({title: network.name for title, network in networks.items()})""",
    """## Where they look

Grad-CAM heat maps of each stage, for the class that the network predicts.""",
    """from inference.explain import picture

se = networks['SE']
picture(se.net, images, se.preprocessing, se.class_names, names=['temple', 'flower'])""",
    """""",
    """dca = networks['DCA-SE']
picture(dca.net, images, dca.preprocessing, dca.class_names, names=['temple', 'flower'])""",
    """## What the units let through

The gates of every SE unit, averaged over the two images: one row per unit, the deepest at the bottom, and one column
per channel. Networks are only read, never changed.""",
    """import numpy as np

from inference.explain import GateReader
from inference.explain.charts import draw_gates, groups_of

pixels = np.stack([se.preprocessing.fit(image) for image in images])
batch = se.preprocessing.batch(pixels)
(group,) = groups_of(GateReader(se.net)(batch))
draw_gates(group, 'SE')""",
    """## How much a unit relies on the one before it

Only the connected network can tell: from its learned weights alone, as DCANet measures it, and from how much the two
attention features vary on these images.""",
    """from inference.explain import reliance
from inference.explain.charts import draw_reliance

draw_reliance([('DCA-SE', reliance(dca.net, batch))])""",
    """## Do the heat maps mean anything?

Cover the hottest fifth of the pixels, and compare how much probability the class loses with what it loses under other
covers of the same size. Two photos prove nothing; `tools/check_explanations.py` does this for a folder of photos.""",
    """from inference.explain import deletion

found = deletion(se.net, pixels, se.preprocessing)
for cover, lost in found.lost.items():
    print(f'{cover:>10}: {lost.mean():6.2f} of the probability is lost')""",
]


def run(source: str, names: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Run a cell as a notebook does, and return its output: what it prints, and the value of its last line."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    value = None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, 'cell', 'exec'), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), 'cell', 'eval'), names)
    outputs: List[Dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({'name': 'stdout', 'output_type': 'stream', 'text': printed.getvalue().splitlines(True)})
    if value is not None:
        data: Dict[str, Any] = {'text/plain': repr(value).splitlines(True)}
        if hasattr(value, 'savefig'):
            image = io.BytesIO()
            value.savefig(image, format='png', dpi=64, metadata={'Software': None})
            data = {'image/png': base64.b64encode(image.getvalue()).decode(), 'text/plain': ['<Figure>']}
        outputs.append({'data': data, 'execution_count': None, 'metadata': {}, 'output_type': 'execute_result'})
    return outputs


def main(argv: Optional[Sequence[str]] = None) -> int:
    import _bootstrap  # noqa: F401
    from common.usage import described
    from training.config.settings import Parser

    parser = Parser(prog='make_notebook.py', **described(__doc__))
    parser.add_argument('--output', type=Path, default=NOTEBOOK, metavar='FILE', help='the notebook to write')
    path = parser.parse_args(argv).output.resolve()
    os.chdir(str(ROOT))
    cells: List[Dict[str, Any]] = []
    names: Dict[str, Any] = {}
    for number, source in enumerate(CELLS):
        lines = source.splitlines(True)
        if number % 2 == 0:
            if source:
                cells.append({'cell_type': 'markdown', 'id': f'text-{number}', 'metadata': {}, 'source': lines})
            continue
        outputs = run(source, names)
        count = number // 2 + 1
        for output in outputs:
            if 'execution_count' in output:
                output['execution_count'] = count
        code = {'cell_type': 'code', 'execution_count': count, 'id': f'code-{number}', 'metadata': {}}
        cells.append({**code, 'outputs': outputs, 'source': lines})
    kernel = {'display_name': 'Python 3', 'language': 'python', 'name': 'python3'}
    metadata = {'kernelspec': kernel, 'language_info': {'name': 'python'}}
    content = {'cells': cells, 'metadata': metadata, 'nbformat': 4, 'nbformat_minor': 5}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
