"""Measure all-reduces of several ranks on this machine over a limited network, and say what a run on many would take.

    python tools/simulate_ranks.py
    python tools/simulate_ranks.py --bandwidth 1 --delay 0.5 --ranks 2,3,4
    python tools/simulate_ranks.py --parameters 25.6e6 --step-seconds 2.1 --bandwidth 10

Each rank is a process. They send to one another over loopback, and each sender keeps to the bandwidth and the delay
that the flags give. The all-reduce is a ring, as Gloo's and NCCL's for large arrays: in 2 (n - 1) rounds each rank
sends the n-th part of the array to the next. The model that is fitted is

    seconds = 2 (n - 1) (alpha + bytes / n / beta)

A step then takes the time of a rank alone and that of one all-reduce of all gradients, which training does at the end
of the backward pass. Assumed are equally fast ranks, and a network without bottlenecks, in which each has its own link.
"""

import _bootstrap  # noqa: F401
from environment import answer_flags, run_main  # isort: split

import argparse
import json
import socket
import subprocess
import sys
import threading
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

from common.files import write_json
from common.usage import described
from environment import UsageError, UserError
from training.config.flags import number, output_file
from training.config.settings import Parser

SIZES = (1 << 12, 1 << 18, 1 << 21, 1 << 23)  # bytes
MANY = (8, 16, 32, 64, 128, 256, 512)
CHUNK = 1 << 16  # bytes that a sender hands over at a time


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='simulate_ranks.py', **described(__doc__))
    parser.add_argument('--ranks', default='2,3,4', help='how many processes to measure with, with commas')
    parser.add_argument('--bandwidth', type=number(float, 0, open_low=True), default=1.0, help='of a link, Gbit/s')
    parser.add_argument('--delay', type=number(float, 0), default=0.1, help='of a message, in milliseconds')
    parser.add_argument(
        '--parameters', type=number(float, 1), default=25.6e6, help='of the network (default: those of a ResNet-50)'
    )
    parser.add_argument(
        '--step-seconds', type=number(float, 0, open_low=True), default=1.0, help='of a step of one rank alone'
    )
    parser.add_argument('--rounds', type=number(int, 1), default=3, help='measurements, of which the median counts')
    parser.add_argument('--rank', help=argparse.SUPPRESS)  # a process of a measurement: its settings as JSON
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write the measurements and the model there')
    args = parser.parse_args(argv)
    if not all(part.isdigit() and int(part) > 1 for part in args.ranks.split(',')):
        raise UsageError(f'--ranks is {args.ranks}; give whole numbers above 1, with commas')
    return args


answer_flags(__name__, parse)

import numpy as np


class Link:
    """The connections of a rank: to the next one, at a limited speed, and from the one before."""

    def __init__(
        self, rank: int, ports: Sequence[int], listener: socket.socket, bandwidth: float, delay: float
    ) -> None:
        self.bytes_per_second, self.delay = bandwidth * 1e9 / 8, delay / 1e3
        self._to = socket.create_connection(('127.0.0.1', ports[(rank + 1) % len(ports)]))
        self._to.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._from, _ = listener.accept()

    def exchange(self, content: bytes) -> bytes:
        """Send to the next rank, and return as many bytes from the one before."""
        sender = threading.Thread(target=self._send, args=(content,))
        sender.start()
        received = bytearray()
        while len(received) < len(content):
            part = self._from.recv(min(CHUNK, len(content) - len(received)))
            if not part:
                raise UserError('a rank ended early; its message is above')
            received += part
        sender.join()
        return bytes(received)

    def _send(self, content: bytes) -> None:
        due = time.perf_counter() + self.delay
        for first in range(0, len(content), CHUNK):
            part = content[first : first + CHUNK]
            due += len(part) / self.bytes_per_second
            time.sleep(max(0.0, due - time.perf_counter()))  # it arrives when its last bit would
            self._to.sendall(part)


def all_reduce(array: np.ndarray, rank: int, ranks: int, link: Link) -> np.ndarray:
    """Return the sum over all ranks of arrays of float32, whose length `ranks` divides."""
    parts = list(array.reshape(ranks, -1))
    for turn in range(2 * (ranks - 1)):
        sent = parts[(rank - turn) % ranks]
        received = np.frombuffer(link.exchange(sent.tobytes()), np.float32)
        place = (rank - turn - 1) % ranks
        parts[place] = parts[place] + received if turn < ranks - 1 else received
    return np.concatenate(parts)


def work(settings: Dict[str, Any]) -> int:
    """Be a rank: print the port, read those of all, and print the seconds of each all-reduce."""
    rank, ranks = settings['rank'], settings['ranks']
    with socket.create_server(('127.0.0.1', 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        link = Link(rank, json.loads(sys.stdin.readline()), listener, settings['bandwidth'], settings['delay'])
        for size in settings['sizes']:
            length = -(-size // 4 // ranks) * ranks
            for _ in range(settings['rounds']):
                array = np.full(length, rank + 1.0, np.float32)
                all_reduce(np.zeros(ranks, np.float32), rank, ranks, link)  # so that all begin together
                start = time.perf_counter()
                total = all_reduce(array, rank, ranks, link)
                print(json.dumps([4 * length, time.perf_counter() - start]), flush=True)
                if not (total == ranks * (ranks + 1) / 2).all():
                    raise UserError('the sums of an all-reduce are wrong')
    return 0


def measured(ranks: int, rounds: int, bandwidth: float, delay: float) -> List[Tuple[int, int, float]]:
    """Return (ranks, bytes, seconds) for each size: the median over the rounds, of the slowest rank."""
    settings = {'ranks': ranks, 'sizes': SIZES, 'rounds': rounds, 'bandwidth': bandwidth, 'delay': delay}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, '--rank', json.dumps({**settings, 'rank': rank})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    try:
        ports = [int(process.stdout.readline() or -1) for process in processes]
        if -1 in ports:
            raise UserError('a rank ended early; its message is above')
        for process in processes:
            process.stdin.write(json.dumps(ports) + '\n')
            process.stdin.flush()
        outputs = [[json.loads(line) for line in process.stdout] for process in processes]
        if any(process.wait() for process in processes):
            raise UserError('a rank failed; its message is above')
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    slowest = [(rows[0][0], max(seconds for _, seconds in rows)) for rows in zip(*outputs)]
    groups = [slowest[first : first + rounds] for first in range(0, len(slowest), rounds)]
    return [(ranks, group[0][0], float(np.median([seconds for _, seconds in group]))) for group in groups]


def fitted(rows: Sequence[Tuple[int, int, float]]) -> Tuple[float, float]:
    """Return alpha (seconds) and beta (bytes a second) of the model, by the least squares of relative errors."""
    ranks, sizes, seconds = (np.array(column, np.float64) for column in zip(*rows))
    turns = 2 * (ranks - 1)
    terms = np.stack([turns, turns * sizes / ranks], axis=1) / seconds[:, None]
    alpha, inverse = np.linalg.lstsq(terms, np.ones(len(rows)), rcond=None)[0]
    return float(max(alpha, 0.0)), float(1 / inverse)


def predicted(ranks: int, size: float, alpha: float, beta: float) -> float:
    """Return the seconds of an all-reduce of so many bytes."""
    return 2 * (ranks - 1) * (alpha + size / ranks / beta)


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    if args.rank:
        return work(json.loads(args.rank))
    limits = (args.rounds, args.bandwidth, args.delay)
    rows = [row for ranks in args.ranks.split(',') for row in measured(int(ranks), *limits)]
    alpha, beta = fitted(rows)
    print(f'{args.bandwidth:g} Gbit/s, {args.delay:g} ms: alpha {1e3 * alpha:.2f} ms, beta {8 * beta / 1e9:.2f} Gbit/s')
    print('| ranks | bytes | measured, ms | the model, ms |\n| ---: | ---: | ---: | ---: |')
    for ranks, size, seconds in rows:
        print(f'| {ranks} | {size} | {1e3 * seconds:.1f} | {1e3 * predicted(ranks, size, alpha, beta):.1f} |')
    print(
        f'\n| ranks | all-reduce of {args.parameters / 1e6:.1f} million numbers, s | share of the step that computes |'
    )
    print('| ---: | ---: | ---: |')
    shares: List[Dict[str, float]] = []
    for ranks in MANY:
        seconds = predicted(ranks, 4 * args.parameters, alpha, beta)
        shares.append({'ranks': ranks, 'seconds': seconds, 'share': args.step_seconds / (args.step_seconds + seconds)})
        print(f'| {ranks} | {seconds:.2f} | {100 * shares[-1]["share"]:.0f} % |')
    if args.json:
        write_json(args.json, {'alpha': alpha, 'beta': beta, 'measured': rows, 'predicted': shares})
    return 0


if __name__ == '__main__':
    run_main(main)
