"""Measure how many requests scripts/serve.py answers, and how fast, compared with the speed of the bare network.

    python tools/benchmark_server.py runs/photos
    python tools/benchmark_server.py runs/photos --clients 200 --queue 8
    python tools/benchmark_server.py exported --clients 1,8,64,256 --seconds 10 --json server.json

The server runs on this machine and shares the cores with the clients. Each client sends a generated photo again and
again, waiting for each answer. Requests that the server refuses because its queue is full count as refused, and those
that get no response at all as lost.
"""

import _bootstrap
from environment import UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import asyncio
import io
import re
import subprocess
import sys
import time
from collections import Counter
from typing import Any, Dict, List, Optional, Sequence

from common.files import write_json
from common.usage import described
from training.config.flags import number, output_file
from training.config.settings import Parser

MOST_CLIENTS = 512


def client_counts(text: str) -> List[int]:
    return [number(int, 1, MOST_CLIENTS)(part) for part in text.split(',')]


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='benchmark_server.py', **described(__doc__))
    parser.add_argument('source', metavar='RUN_OR_EXPORT', help='the network, as for scripts/serve.py')
    parser.add_argument(
        '--clients', type=client_counts, default='1,8,64', help='numbers of clients, separated by commas'
    )
    parser.add_argument(
        '--seconds', type=number(float, 0, 60, open_low=True), default=5, help='duration for each number of clients'
    )
    parser.add_argument('--batch-size', type=number(int, 1), default=8, help='images that are processed together')
    parser.add_argument('--queue', type=number(int, 1), default=64, help='images that may wait in the server')
    parser.add_argument('--side', type=number(int, 1, 4000), default=400, help='side of the photo in pixels')
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write the figures to this file')
    return parser.parse_args(argv)


answer_flags(__name__, parse)
require_mxnet()

import numpy as np
from PIL import Image

from inference.predictor import Predictor


def photo(side: int) -> bytes:
    """Return a JPEG file of soft noise, which takes as long to decode as a photo."""
    coarse = np.random.RandomState(0).randint(0, 256, (side // 8 + 1, side // 8 + 1, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.BICUBIC).save(file, 'JPEG', quality=90)
    return file.getvalue()


def bare_speed(source: str, content: bytes, batch: int, seconds: float) -> float:
    """Return the images/s of a `Predictor` in this process, in batches and including decoding."""
    ask = Predictor(source, batch_size=batch)
    ask([content] * batch)
    start, done = time.monotonic(), 0
    while time.monotonic() < start + seconds:
        ask([content] * batch)
        done += batch
    return done / (time.monotonic() - start)


async def client(port: int, request: bytes, end: float, told: Counter, seconds: List[float]) -> None:
    """Send requests until the time `end`, on one connection as long as the server keeps it open."""
    reader = writer = None
    while time.monotonic() < end:
        if writer is None:
            reader, writer = await asyncio.open_connection('127.0.0.1', port)
        start = time.monotonic()
        try:
            writer.write(request)
            head = await reader.readuntil(b'\r\n\r\n')
            await reader.readexactly(int(re.search(rb'(?i)content-length: (\d+)', head).group(1)))
        except (OSError, EOFError):
            told['lost'] += 1
            writer.close()
            writer = None
            continue
        status = int(head.split()[1])
        told[status] += 1
        if status == 200:
            seconds.append(time.monotonic() - start)
        else:
            again = re.search(rb'(?i)retry-after: (\d+)', head)  # as a well-behaved client does
            await asyncio.sleep(int(again.group(1)) if again else 0)
        if b'connection: close' in head.lower():
            writer.close()
            writer = None
    if writer is not None:
        writer.close()


async def load(port: int, content: bytes, clients: int, seconds: float) -> Dict[str, Any]:
    """Return the figures of `clients` simultaneous clients over `seconds`."""
    head = f'POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n'.encode()
    told, times, start = Counter(), [], time.monotonic()
    await asyncio.gather(*(client(port, head + content, start + seconds, told, times) for _ in range(clients)))
    took = time.monotonic() - start
    p50, p99 = (float(np.percentile(times, share)) if times else None for share in (50, 99))
    return {
        'clients': clients,
        'requests_per_second': len(times) / took,
        'p50_seconds': p50,
        'p99_seconds': p99,
        'refused': told[503],
        'lost': told['lost'],
        'other': sum(count for status, count in told.items() if status not in (200, 503, 'lost')),
    }


def started(source: str, batch: int, queue: int) -> subprocess.Popen:
    """Start the server, and return its process, whose first line of output says where it listens."""
    flags = ['--port', '0', '--batch-size', batch, '--queue', queue, '--connections', 2 * MOST_CLIENTS]
    command = [sys.executable, str(_bootstrap.ROOT / 'scripts' / 'serve.py'), source, *map(str, flags)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def row(figures: Dict[str, Any]) -> str:
    p50, p99 = (
        '-' if figures[name] is None else f'{1000 * figures[name]:.0f} ms' for name in ('p50_seconds', 'p99_seconds')
    )
    speed = f'{figures["requests_per_second"]:.1f} requests/s'
    return (
        f'{figures["clients"]:>4} clients: {speed}, p50 {p50}, p99 {p99}, {figures["refused"]} refused, '
        f'{figures["lost"]} lost, {figures["other"]} other'
    )


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    content = photo(args.side)
    bare = bare_speed(args.source, content, args.batch_size, args.seconds)
    print(f'bare network, batches of {args.batch_size}, decoding included: {bare:.1f} images/s', flush=True)
    found = {'bare_images_per_second': bare, 'server': []}
    process = started(args.source, args.batch_size, args.queue)
    try:
        told = process.stdout.readline()
        port = re.search(r'http://127\.0\.0\.1:(\d+)/', told)
        if port is None:
            raise UserError('scripts/serve.py did not start, for the reason above; make it start by itself first')
        for clients in args.clients:
            found['server'].append(asyncio.run(load(int(port.group(1)), content, clients, args.seconds)))
            print(row(found['server'][-1]), flush=True)
    finally:
        process.terminate()
        process.wait()
    if args.json:
        write_json(args.json, found)
    return 0


if __name__ == '__main__':
    run_main(main)
