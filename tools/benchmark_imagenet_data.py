"""Measure how fast ImageNet-size images reach the network: our reader, MXNet's ImageRecordIter, and bare OpenCV loops.

    python tools/benchmark_imagenet_data.py
    python tools/benchmark_imagenet_data.py --images imagenet/val --kinds full,256
    python tools/benchmark_imagenet_data.py --batch-size 128 --threads 8 --json data.json
    python tools/benchmark_imagenet_data.py --auto-augment rand --random-erase 0.25

Our reader and MXNet's read the same records and do what training needs: decode, random crop, mirror, colour jitter,
lighting, normalise, batch. Two loops in a single thread start with the images in memory and the random numbers drawn,
and fill one batch over and over. The bare loop is the obvious code: decode, crop, mirror, normalise, without changing
colours. The tuned loop takes the steps of our reader, colours included, and does nothing between them, so that its
speed times the number of cores is an upper bound for our reader. All produce NumPy arrays; to be compared with
ImageRecordIter, our batches also become MXNet arrays, as its own are. Our reader also applies the augmentation flags.
Full passes take turns, and medians are reported, so that other load on the machine affects all equally.
"""

import _bootstrap  # noqa: F401
from environment import UsageError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import itertools
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from common.files import expanded, write_json
from common.usage import described
from environment.threads import physical_cores
from training.config.augmentation import AugmentSettings
from training.config.fields import add_section, typed
from training.config.flags import number, output_file
from training.config.images import add_interpolation_flag
from training.config.settings import Parser

KINDS = ('full', '256', 'memory')


def kinds(text: str) -> List[str]:
    parts = text.split(',')
    if not set(parts) <= set(KINDS):
        raise argparse.ArgumentTypeError(f'{text!r} is not allowed; allowed: {", ".join(KINDS)}, separated by commas')
    return parts


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='benchmark_imagenet_data.py', **described(__doc__))
    parser.add_argument('--images', help='images, as for make_recordio.py (default: JPEGs of smooth noise)')
    parser.add_argument('--count', type=number(int, 2), default=3200, help='number of records; images are repeated')
    parser.add_argument(
        '--kinds',
        type=kinds,
        default=','.join(KINDS),
        help='full: records of the images as they are; 256: with a short side of 256 pixels; memory: those, held '
        'decoded in memory; separated by commas',
    )
    parser.add_argument('--batch-size', type=number(int, 1), default=64, help='images per batch')
    parser.add_argument('--size', type=number(int, 8), default=224, help="side of the network's input in pixels")
    add_interpolation_flag(parser, 'cuts')
    add_section(parser, AugmentSettings)
    parser.add_argument('-j', '--threads', type=number(int, 1), default=physical_cores(), help='threads of our reader')
    parser.add_argument('--repeats', type=number(int, 1), default=5, help='measurements of each')
    parser.add_argument('--seconds', type=number(float, 0), default=2.0, help='shortest length of a measurement')
    parser.add_argument('--json', type=output_file, metavar='FILE', help='write the figures to this file')
    return parser.parse_args(argv)


answer_flags(__name__, parse)
require_mxnet()

import cv2
import mxnet as mx
import numpy as np
from PIL import Image

from data.augmentation.crop import ImagenetAugment
from data.classification.cache import PREPARED
from data.classification.decoder import Decoding
from data.classification.image_loader import ImageLoader
from data.classification.imagenet import imagenet_preprocessing
from data.classification.sources import record_source
from data.images import image_size, read_image
from data.pixels import one_thread_each, shrink
from data.recordio.framing import pack
from data.recordio.index import index_text
from data.recordio.listing import list_images
from data.sampler import Sampler
from data.scaling import scaled
from training.tasks.augmentation import further

OURS, ARRAYS, MXNET = 'ours', 'ours as MXNet arrays', 'ImageRecordIter'


BARE, TUNED = 'bare loop', 'tuned loop'


def noise_images(count: int = 32) -> List[bytes]:
    """Return JPEG files of smooth noise, of the size and number of bytes that is usual in ImageNet."""
    images = []
    for seed in range(count):
        random = np.random.RandomState(seed)
        pixels = cv2.resize(random.randint(0, 256, (94, 125, 3)).astype(np.uint8), (500, 375))
        content = BytesIO()
        Image.fromarray(pixels).save(content, 'JPEG', quality=95)
        images.append(content.getvalue())
    return images


def read_images(source: Optional[str]) -> List[bytes]:
    if source is None:
        return noise_images()
    listing = next(iter(list_images(expanded(source)).values()))
    return [listing.store.read(i) for i in range(min(len(listing), 2000))]


def prepared(image: bytes) -> bytes:
    """Return the image as a JPEG file with a short side of 256 pixels."""
    small = cv2.cvtColor(shrink(read_image(image), PREPARED), cv2.COLOR_RGB2BGR)
    return cv2.imencode('.jpg', small, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def write_records(path: Path, images: Sequence[bytes], count: int) -> None:
    """Write `count` records that repeat the images, so that an epoch is long enough to reach full speed."""
    offsets = []
    with open(path, 'wb') as file:
        for i, image in zip(range(count), itertools.cycle(images)):
            offsets.append(file.tell())
            file.write(pack(np.array([i % 1000]), i, image))
    path.with_suffix('.idx').write_bytes(index_text(range(count), offsets))


@dataclass(frozen=True)
class Epoch:
    """What all pipelines produce in a pass: `count` images in batches, with sides of `size` pixels."""

    count: int
    batch_size: int
    size: int
    interpolation: str
    threads: int  # of our reader


class Ours:
    """Passes over a file with our reader."""

    def __init__(self, path: Path, epoch: Epoch, extra: AugmentSettings, cache: str) -> None:
        preprocessing = imagenet_preprocessing(epoch.size, interpolation=epoch.interpolation)
        source = record_source(path, None, 'train', preprocessing)
        order = Sampler(epoch.batch_size, shuffle=True, last='discard', repeats=extra.aug_repeats)
        augment = ImagenetAugment(**further(extra))
        self.loader = ImageLoader(source, order, augment, Decoding(epoch.threads, cache=cache))
        self.epoch = 0
        if cache != 'off':
            if self.loader.cache is None:
                raise UsageError(f'--count {epoch.count} images do not fit into the memory; give a smaller number')
            self.run()  # fills it

    def run(self, convert: bool = False) -> int:
        images = 0
        for _, data, labels, n_valid in self.loader.batches(self.epoch):
            if convert:
                mx.nd.array(labels)
                mx.nd.array(data).wait_to_read()
            images += n_valid
        self.epoch += 1
        return images


class MxnetIterator:
    """Passes with MXNet's iterator: its default threads and buffers, our augmentation."""

    def __init__(self, path: Path, epoch: Epoch) -> None:
        augment, preprocessing = ImagenetAugment(), imagenet_preprocessing(epoch.size)
        mean, std = 255 * np.array(preprocessing.mean), 255 * np.array(preprocessing.std)
        self.batch_size = epoch.batch_size
        self.iterator = mx.io.ImageRecordIter(
            path_imgrec=str(path),
            path_imgidx=str(path.with_suffix('.idx')),
            data_shape=(3, epoch.size, epoch.size),
            batch_size=epoch.batch_size,
            shuffle=True,
            random_resized_crop=True,
            min_random_area=augment.area[0],
            max_random_area=augment.area[1],
            min_aspect_ratio=1 / augment.aspect,
            max_aspect_ratio=augment.aspect,
            rand_mirror=True,
            brightness=augment.jitter,
            contrast=augment.jitter,
            saturation=augment.jitter,
            pca_noise=augment.lighting,
            round_batch=False,
            **{f'mean_{c}': value for c, value in zip('rgb', mean)},
            **{f'std_{c}': value for c, value in zip('rgb', std)},
        )
        self.run()  # it has already begun to read

    def run(self) -> int:
        images = 0
        self.iterator.reset()
        for batch in self.iterator:
            batch.label[0].wait_to_read()
            batch.data[0].wait_to_read()
            images += self.batch_size - (batch.pad or 0)
        return images


class Loop:
    """A loop in one thread with OpenCV, which puts blue first, and our scaling; `images` are encoded or pixels."""

    def __init__(self, images: Sequence[Any], epoch: Epoch, tuned: bool) -> None:
        one_thread_each()
        preprocessing = imagenet_preprocessing(epoch.size, interpolation=epoch.interpolation)
        augment = ImagenetAugment()
        self.encoded = isinstance(images[0], bytes)
        self.images = [np.frombuffer(image, np.uint8) if self.encoded else image for image in images]
        values = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 1, 256, 3)
        self.table = list(preprocessing.batch(values).reshape(3, 256))
        self.mean, self.std = (255 * np.float32(values) for values in (preprocessing.mean, preprocessing.std))
        self.size, self.interpolation = epoch.size, epoch.interpolation
        self.finish = self.tuned if tuned else self.plain
        self.batch = np.zeros((epoch.batch_size, 3, epoch.size, epoch.size), dtype=np.float32)
        self.batches = max(1, min(epoch.count, 1000) // epoch.batch_size)
        augment_params = augment.draw(augment.words(0, 0, self.batches * epoch.batch_size))
        self.places = []
        for i, place in enumerate(augment_params.places):
            image = images[i % len(images)]
            self.places.append(augment.cut(place, *(image_size(image) if self.encoded else image.shape[:2])))
        augment_params.colour[:, :, :3] = augment_params.colour[:, :, 2::-1].copy()
        self.augment_params = augment_params

    def run(self) -> int:
        number = 0
        for _ in range(self.batches):
            for out in self.batch:
                image = self.images[number % len(self.images)]
                if self.encoded:
                    image = cv2.imdecode(image, cv2.IMREAD_COLOR)
                top, left, height, width = self.places[number]
                cut = image[top : top + height, left : left + width]
                cut = scaled(cut, (self.size, self.size), self.interpolation)
                if self.augment_params.flip[number]:
                    cut = cv2.flip(cut, 1)
                self.finish(cut, number, out)
                number += 1
        return number

    def plain(self, cut: np.ndarray, number: int, out: np.ndarray) -> None:
        values = cv2.cvtColor(cut, cv2.COLOR_BGR2RGB).astype(np.float32)
        values -= self.mean
        values /= self.std
        out[:] = values.transpose(2, 0, 1)

    def tuned(self, cut: np.ndarray, number: int, out: np.ndarray) -> None:
        augment_params, (blue, green, red, _) = self.augment_params, cv2.mean(cut)
        a, b, c = augment_params.by_mean[number]
        contrast = a * red + b * green + c * blue
        matrix = augment_params.colour[number]
        matrix[:, 3] = [light + contrast for light in augment_params.light[number]]
        for values, plane, row in zip(cv2.split(cv2.transform(cut, matrix)), out, self.table):
            cv2.LUT(values, row, dst=plane)


def pipelines(
    folder: Path, images: List[bytes], chosen: Sequence[str], epoch: Epoch, extra: AugmentSettings
) -> Iterator[Tuple[str, Dict[str, Callable[[], int]]]]:
    """Yield each kind with the pipelines to measure, one kind at a time to save memory."""
    small = [prepared(image) for image in images]
    for kind in chosen:
        path = folder / f'{kind}.rec'
        encoded = images if kind == 'full' else small
        write_records(path, encoded, epoch.count)
        loop_input = encoded
        if kind == 'memory':
            loop_input = [np.ascontiguousarray(read_image(image)[..., ::-1]) for image in small]
        ours = Ours(path, epoch, extra, 'auto' if kind == 'memory' else 'off')
        yield (
            kind,
            {
                OURS: ours.run,
                ARRAYS: partial(ours.run, convert=True),
                MXNET: MxnetIterator(path, epoch).run,
                BARE: Loop(loop_input, epoch, tuned=False).run,
                TUNED: Loop(loop_input, epoch, tuned=True).run,
            },
        )
        path.unlink()


def measure(run: Callable[[], int], seconds: float) -> Tuple[float, float]:
    """Return (images per second, microseconds of processor time per image) over whole passes that fill `seconds`."""
    images, start, processor = 0, time.perf_counter(), time.process_time()
    while images == 0 or time.perf_counter() - start < seconds:
        images += run()
    return images / (time.perf_counter() - start), 1e6 * (time.process_time() - processor) / images


def summary(kind: str, speeds: Dict[str, List[float]], times: Dict[str, List[float]], cores: int) -> Dict[str, Any]:
    speed = {name: statistics.median(values) for name, values in speeds.items()}
    busy = {name: statistics.median(values) for name, values in times.items()}
    ratios = {
        f'to {MXNET}': speed[ARRAYS] / speed[MXNET],
        f'to {cores} x {BARE}': speed[OURS] / (cores * speed[BARE]),
        f'to {cores} x {TUNED}': speed[OURS] / (cores * speed[TUNED]),
        f'to {TUNED}, by processor time': busy[TUNED] / busy[OURS],
    }
    print(kind)
    for name in speed:
        print(f'  {name:28} {speed[name]:8,.0f} images/s {busy[name]:8,.0f} us of processor time for each')
    for name, ratio in ratios.items():
        print(f'  ratio {name:38} {ratio:8.2f}')
    return {
        'images_per_second': speed,
        'processor_us_per_image': busy,
        'ratios': ratios,
        'measurements': speeds,
    }


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    if args.count < 2 * args.batch_size:
        raise UsageError(f'--batch-size {args.batch_size} must be at most half of --count, which is {args.count}')
    images, cores, results = read_images(args.images), physical_cores(), {}
    with tempfile.TemporaryDirectory(prefix='benchmark-') as folder:
        epoch, extra = typed(Epoch, vars(args)), typed(AugmentSettings, vars(args))
        for kind, runs in pipelines(Path(folder), images, args.kinds, epoch, extra):
            speeds: Dict[str, List[float]] = {name: [] for name in runs}
            times: Dict[str, List[float]] = {name: [] for name in runs}
            for _ in range(args.repeats):
                for name, run in runs.items():
                    speed, busy = measure(run, args.seconds)
                    speeds[name].append(speed)
                    times[name].append(busy)
            results[kind] = summary(kind, speeds, times, cores)
    if args.json:
        figures = {'cores': cores, 'threads': args.threads, 'batch_size': args.batch_size, 'size': args.size, **results}
        write_json(args.json, figures)
    return 0


if __name__ == '__main__':
    run_main(main)
