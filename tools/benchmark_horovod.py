"""Measure Horovod's all-reduces between two processes over a link of limited bandwidth, beside the model of a ring.

    python tools/benchmark_horovod.py --bandwidth 1
    python tools/benchmark_horovod.py --bandwidth 10 --delay 0.5 --model resnet50_v1b --rounds 5
    python tools/benchmark_horovod.py --bandwidth 4 --model se_resnet50_v1b --json horovod.json

It has to run as root. The second process lives in a network namespace of its own, which takes Linux, `ip` and `tc`;
both directions of the link between the two are limited. A delay needs a kernel with netem. Each process has one thread.

- array: all gradients of the network as one array, as training exchanges them; fp16: in float16
- each: an all-reduce for each parameter, as a loop without packing would ask for
"""

import _bootstrap  # noqa: F401
from environment import answer_flags, require_mxnet, run_main  # isort: split

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from common.files import write_json
from common.usage import described
from environment import UserError, import_extra
from training.config.flags import number, output_file
from training.config.settings import Parser

#: Fusion threshold (bytes) and cycle time (ms).
SETTINGS = ((0, 1.0), (0, 0.1), (0, 5.0), (64 << 20, 1.0), (64 << 20, 5.0))
ADDRESSES = ('10.201.77.1', '10.201.77.2')
SIZES = (1 << 12, 1 << 18, 1 << 21, 1 << 23)  # bytes


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='benchmark_horovod.py', **described(__doc__))
    parser.add_argument('--model', default='cifar_resnet20_v2', help='network whose gradients are exchanged')
    parser.add_argument('--bandwidth', type=number(float, 0, open_low=True), default=1.0, help='of the link, Gbit/s')
    parser.add_argument('--delay', type=number(float, 0), default=0.0, help='of each direction, in milliseconds')
    parser.add_argument('--rounds', type=number(int, 1), default=5, help='measurements, of which the median counts')
    parser.add_argument('--rank', help=argparse.SUPPRESS)  # a process of a measurement: its settings as JSON
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write the figures to this file')
    return parser.parse_args(argv)


answer_flags(__name__, parse)


def told(*command: str) -> None:
    """Run a command of the system; `UserError` with what it says if it fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise UserError(f'{command[0]} cannot be run ({error.strerror}); install iproute2') from error
    if done.returncode:
        raise UserError(f'{" ".join(command)} failed, {done.stdout.strip()}; it needs root and a kernel that has it')


@contextmanager
def link(bandwidth: float, delay: float) -> Iterator[Tuple[List[str], Tuple[str, str]]]:
    """Make a link to a new namespace; yields what a command there begins with, and the names of the link's two ends."""
    space, ends = f'ranks{os.getpid()}', (f'ra{os.getpid()}', f'rb{os.getpid()}')
    inside = ['ip', 'netns', 'exec', space]
    told('ip', 'netns', 'add', space)
    try:
        told('ip', 'link', 'add', ends[0], 'type', 'veth', 'peer', 'name', ends[1], 'netns', space)
        for end, address, where in ((ends[0], ADDRESSES[0], []), (ends[1], ADDRESSES[1], inside)):
            told(*where, 'ip', 'addr', 'add', f'{address}/24', 'dev', end)
            told(*where, 'ip', 'link', 'set', end, 'up')
            limit = ['tbf', 'rate', f'{bandwidth}gbit', 'burst', '256kb', 'latency', '50ms']
            if delay:
                told(*where, *f'tc qdisc add dev {end} root handle 1: netem delay {delay}ms'.split())
                told(*where, 'tc', 'qdisc', 'add', 'dev', end, 'parent', '1:', *limit)
            else:
                told(*where, 'tc', 'qdisc', 'add', 'dev', end, 'root', *limit)
        told(*inside, 'ip', 'link', 'set', 'lo', 'up')
        yield inside, ends
    finally:
        subprocess.run(['ip', 'netns', 'del', space])  # and with it the link


def measured(
    settings: str, threshold: int, cycle: float, where: Tuple[List[str], Tuple[str, str]], folder: str
) -> Dict[str, float]:
    """Return what rank 0 measures as its `settings` say, with Horovod's settings: {what: seconds}."""
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.http.http_server import RendezvousServer

    server = RendezvousServer()
    port = server.start()
    server.init(get_host_assignments(parse_hosts(','.join(f'{address}:1' for address in ADDRESSES)), 2))
    processes = []
    for rank, (before, end) in enumerate(zip(([], where[0]), where[1])):
        # Some of Horovod's connections go to the address of the host's name, whatever the interface.
        own = f'mount --bind {folder}/{rank} /etc/hosts && exec "$@"'
        Path(folder, str(rank)).write_text(f'{ADDRESSES[rank]} {socket.gethostname()}\n')
        environ = {
            **os.environ,
            **{f'HOROVOD_{name}': '2' for name in ('SIZE', 'CROSS_SIZE')},
            **{f'HOROVOD_{name}': str(rank) for name in ('RANK', 'CROSS_RANK')},
            **{f'HOROVOD_{name}': 'gloo' for name in ('CONTROLLER', 'CPU_OPERATIONS')},
            'HOROVOD_LOCAL_RANK': '0',
            'HOROVOD_LOCAL_SIZE': '1',
            'HOROVOD_HOSTNAME': ADDRESSES[rank],
            'HOROVOD_GLOO_IFACE': end,
            'HOROVOD_GLOO_TIMEOUT_SECONDS': '120',
            'HOROVOD_GLOO_RENDEZVOUS_ADDR': ADDRESSES[0],
            'HOROVOD_GLOO_RENDEZVOUS_PORT': str(port),
            'HOROVOD_FUSION_THRESHOLD': str(threshold),
            'HOROVOD_CYCLE_TIME': str(cycle),
            'OMP_NUM_THREADS': '1',
        }
        command = [*before, 'unshare', '--mount', 'sh', '-c', own, 'sh', sys.executable, __file__, '--rank', settings]
        processes.append(subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True))
    said = [process.communicate()[0] for process in processes]
    server.stop()
    if any(process.returncode for process in processes):
        raise UserError('a rank failed; its message is above')
    return json.loads(said[0])


def work(settings: Dict[str, Any]) -> int:
    """Be a rank, and print the seconds of each kind of exchange as JSON."""
    require_mxnet()
    import mxnet as mx

    from model import get_model, input_size
    from training.distributed.horovod import HorovodRanks

    ranks = HorovodRanks()
    horovod = import_extra('horovod.mxnet')
    net = get_model(settings['model'])
    net.initialize()
    net(mx.nd.zeros((1, 3, input_size(settings['model']), input_size(settings['model']))))
    gradients = [p.grad() for p in net.collect_params().values() if p.grad_req != 'null']
    figures = mx.nd.zeros((2,))

    def seconds(exchange: Callable[[], Any]) -> float:
        taken = []
        for _ in range(settings['rounds'] + 1):
            mx.nd.waitall()
            ranks.total([0.0])  # so that both begin together
            start = time.perf_counter()
            exchange()
            mx.nd.waitall()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken[1:])

    def each() -> None:
        for place, array in enumerate(gradients):
            horovod.allreduce_(array, op=horovod.Sum, name=f'gradient {place}')

    found: Dict[str, float] = {}
    for size in settings['sizes']:
        found[str(size)] = seconds(partial(ranks.sum_up, mx.nd.zeros((size // 4,)), f'array {size}'))
    for name, ranks.fp16 in (('array', False), ('array, fp16', True)):
        found[name] = seconds(partial(ranks.reduction(gradients, []), figures, False))
    found['each'] = seconds(each)
    if ranks.first:
        found['numbers'] = sum(array.size for array in gradients)
        print(json.dumps(found))
    return 0


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    if args.rank:
        return work(json.loads(args.rank))
    import_extra('horovod')
    rows = []
    print(f'{args.model}, {args.bandwidth:g} Gbit/s, {args.delay:g} ms; milliseconds')
    with link(args.bandwidth, args.delay) as where, tempfile.TemporaryDirectory() as folder:
        for threshold, cycle in SETTINGS:
            sizes = SIZES if threshold == 0 else ()
            settings = json.dumps({'model': args.model, 'rounds': args.rounds, 'sizes': sizes})
            row = measured(settings, threshold, cycle, where, folder)
            rows.append({'threshold': threshold, 'cycle': cycle, **row})
            figures = ', '.join(f'{name} {1e3 * row[name]:.1f}' for name in row if name != 'numbers')
            print(f'fusion threshold {threshold >> 20} MB, cycle time {cycle:g}: {figures}', flush=True)
    if args.json:
        write_json(args.json, {'model': args.model, 'bandwidth': args.bandwidth, 'delay': args.delay, 'rows': rows})
    return 0


if __name__ == '__main__':
    run_main(main)
