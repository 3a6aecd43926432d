"""Serve a trained network over HTTP: photos in, classes or boxes out as JSON, and a page to drop photos onto.

    python scripts/serve.py runs/photos
    python scripts/serve.py exported --port 8080 --batch-size 16
    python scripts/serve.py timm:seresnet50 --weights-dir downloads
    python scripts/serve.py runs/photos --precision float32 --queue 256 --max-body 50 --memory 1024
    curl --data-binary @photo.jpg http://127.0.0.1:8000/predict

The network can be the folder of a run, parameters with their manifest, an exported folder, an ONNX file, or the name of
a network whose parameters are included or public.
"""

import _bootstrap  # noqa: F401
from environment import UsageError, answer_flags, import_extra, require_mxnet, run_main  # isort: split

import argparse
import logging
import os
import sys
from dataclasses import dataclass
from typing import Any, Optional, Sequence, Tuple

from _precision_flags import Speed, check_precision_flags
from common.usage import described
from inference.choices import LOADED, THRESHOLD
from training.config.fields import Group, add_section, flag, typed
from training.config.flags import number
from training.config.settings import Parser
from training.config.weights_dir import weights_dir_flag

PACKAGES = ('uvicorn', 'starlette', 'python_multipart')
MIB = 1 << 20


@dataclass(frozen=True)
class Fetched(Group):
    """Where public weights come from."""

    title = 'public weights'

    weights_dir: Optional[str] = weights_dir_flag('a network by name')


@dataclass(frozen=True)
class Limited(Group):
    """The limits of the server."""

    title = 'limits'

    batch_size: int = flag('--batch-size', type=number(int, 1), default=8, help='images that are processed together')
    wait: float = flag(
        '--wait', type=number(float, 0, 1000), default=5, help='milliseconds that an image waits for others'
    )
    queue: int = flag('--queue', type=number(int, 1), default=64, help='images that may wait; further ones get 503')
    connections: int = flag('--connections', type=number(int, 1), default=256, help='at a time; further ones get 503')
    max_body: float = flag('--max-body', type=number(float, 0, open_low=True), default=20, help='MiB of a request')
    max_pixels: int = flag('--max-pixels', type=number(int, 1), default=50_000_000, help='pixels of an image')
    memory: int = flag('--memory', type=number(int, 1), default=512, help='MiB that all waiting requests may take')
    timeout: float = flag('--timeout', type=number(float, 0, open_low=True), default=30, help='seconds for an answer')


def make_parser() -> Parser:
    parser = Parser(prog='serve.py', **described(__doc__))
    parser.add_argument('source', metavar='RUN_OR_EXPORT', help='the network: a run, parameters, an export, or a name')
    parser.add_argument('--kind', choices=LOADED, help='which network of an exported folder (default: the fastest)')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on; 0.0.0.0: for other machines too')
    parser.add_argument('--port', type=number(int, 0, 65535), default=8000, help='port to listen on; 0: a free one')
    parser.add_argument('--top', type=number(int, 1, 1000), default=5, help='classes to name, unless ?top=')
    parser.add_argument(
        '--threshold',
        type=number(float, 0, 1),
        default=THRESHOLD,
        help='lowest score of a box, unless ?threshold=',
    )
    parser.add_argument('--gpus', default='', metavar='GPU', help='number of a GPU; without it, the CPU')
    add_section(parser, Fetched)
    add_section(parser, Speed)
    add_section(parser, Limited)
    return parser


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    args = make_parser().parse_args(argv)
    check_precision_flags(typed(Speed, vars(args)), None, args.gpus)
    if ',' in args.gpus:
        raise UsageError(f'--gpus {args.gpus}: a server runs its network on one device; give one')
    if args.weights_dir is not None and os.path.exists(args.source):
        raise UsageError(f'--weights-dir is for public weights by name, and {args.source} is there; leave it out')
    return args


answer_flags(__name__, parse)
require_mxnet()

from _network_flags import devices_from
from _precision import MANY, optimized
from environment.entry import silence_stdout
from inference.network import LoadedNetwork
from inference.predictor import open_network
from model.parameters.fetched import fetch_from


def load(source: str, kind: Optional[str], gpus: str, speed: Speed, batch: int) -> Tuple[LoadedNetwork, Optional[Any]]:
    """Return the network that answers, and the one whose heat maps are drawn, if there is one."""
    device = devices_from(gpus)[0]
    network = open_network(source, kind, device)
    trained = network.task == 'classification' and hasattr(network.net, 'hybridize') and network.net._children
    if not trained:
        if speed.precision is not None:
            raise UsageError(
                f'--precision {speed.precision} is for the run of a classifier, and {source} is none; leave it out'
            )
        return network, None
    return optimized(network, speed, batch, MANY, device), network.net


def limits_from(limited: Limited) -> Any:
    from inference.serving.limits import Limits

    try:
        return Limits(
            body=int(limited.max_body * MIB),
            pixels=limited.max_pixels,
            images=min(16, limited.queue),
            queue=limited.queue,
            memory=limited.memory * MIB,
            connections=limited.connections,
            batch=limited.batch_size,
            wait=limited.wait / 1000,
            answer_seconds=limited.timeout,
        )
    except ValueError as error:
        raise UsageError(
            f'--memory {limited.memory}: {error}; raise it, or lower --max-body or --max-pixels'
        ) from error


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    for package in PACKAGES:
        import_extra(package)
    from inference.serving.application import Service
    from inference.serving.server import Server, listen

    limits = limits_from(typed(Limited, vars(args)))
    logging.basicConfig(level=logging.WARNING, format='%(levelname)s: %(message)s', stream=sys.stderr)
    for name in ('uvicorn', 'python_multipart'):  # which report every malformed request
        logging.getLogger(name).setLevel(logging.ERROR)
    fetch_from(args.weights_dir)
    with listen(args.host, args.port) as bound:
        network, looked_into = load(args.source, args.kind, args.gpus, typed(Speed, vars(args)), args.batch_size)
        service = Service(network, limits, args.top, args.threshold, looked_into)
        host, port = bound.getsockname()[:2]
        address = f'http://{f"[{host}]" if ":" in host else host}:{port}'
        print(
            f'{network.name} answers at {address}/ (a page), {address}/predict and /explain (POST a JPEG or PNG file)'
        )
        print(f'stop it with Ctrl-C; curl --data-binary @photo.jpg {address}/predict', flush=True)
        Server(service).run(sockets=[bound])
    try:
        print(f'stopped; {service.metrics.summary()}', flush=True)
    except OSError:  # the terminal was closed, which is why it stopped
        silence_stdout()
    return 0


if __name__ == '__main__':
    run_main(main)
