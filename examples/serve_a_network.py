"""Serve a network over HTTP, and ask it as a program on another machine would.

    python examples/serve_a_network.py                          # a network that comes with the project, two photos
    python examples/serve_a_network.py runs/finetuned photo.jpg # the folder of a run, and photos of your own

`scripts/serve.py` serves until it is stopped, with flags for every limit; this shows the parts that it consists of.
"""

from __future__ import annotations

import argparse
import io
import json
import threading
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from environment import import_extra, run_main


def samples() -> List[Tuple[str, bytes]]:
    """Return scikit-learn's two photos as (name, JPEG file)."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    found = load_sample_images()
    files = []
    for name, pixels in zip(found.filenames, found.images):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, 'JPEG')
        files.append((Path(name).name, file.getvalue()))
    return files


def ask(address: str, photo: bytes) -> Dict[str, Any]:
    """Return the server's answer to a photo, {'classes': [{'class': name, 'probability': share}, ...]}.

    This is all that a client needs: it runs wherever there is Python, without MXNet or this project.
    """
    with urllib.request.urlopen(f'{address}/predict?top=3', photo, timeout=60) as reply:
        return json.load(reply)


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'network', nargs='?', default='cifar_se_resnet20_v2', help='a name, a run or an exported folder'
    )
    parser.add_argument(
        'photos', nargs='*', type=Path, help='JPEG or PNG files (default: two, of a temple and a flower)'
    )
    args = parser.parse_args(argv)
    import_extra('uvicorn')  # in one sentence if the extra `serve` is not installed

    from inference.choices import THRESHOLD
    from inference.predictor import open_network
    from inference.serving.application import Service
    from inference.serving.limits import Limits
    from inference.serving.server import Server, listen

    network = open_network(args.network)
    photos = [(path.name, path.read_bytes()) for path in args.photos] or samples()
    service = Service(network, Limits(batch=4), top=5, threshold=THRESHOLD)
    with listen('127.0.0.1', 0) as bound:  # a free port, on which requests wait until the server runs
        server = Server(service)
        running = threading.Thread(target=server.run, kwargs={'sockets': [bound]})
        running.start()
        address = 'http://{}:{}'.format(*bound.getsockname())
        print(f'{network.name} answers at {address}')
        try:
            for name, photo in photos:
                told = [f'{row["class"]} {100 * row["probability"]:.0f} %' for row in ask(address, photo)['classes']]
                print(f'{name}: {", ".join(told)}')
        finally:
            server.should_exit = True
            running.join()
    print(service.metrics.summary())
    return 0


if __name__ == '__main__':
    run_main(main)
