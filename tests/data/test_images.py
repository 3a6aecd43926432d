"""Opening images: in one place, only known formats, none too large, no damage overlooked, all kinds of pixels."""

import random
import re
import struct
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from data import images
from data.classification.sources import folder_sources
from data.images import ImageError, image_size, read_image, stored_orientation
from data.preprocessing import CIFAR_MEAN, CIFAR_STD, Preprocessing
from inference.network import LoadedNetwork
from tests.data.loaders import image_loader as make_image_loader
from tests.inference.files import encoded, every_kind, grey_tiff, png, smooth

ROOT = Path(__file__).parents[2]
SMALL = Preprocessing(16, CIFAR_MEAN, CIFAR_STD)
OPENING = re.compile(r'\bImage\.open\(|\bimdecode|\bimread|\.ImageRecordIter\(|ImageFile\.Parser|ImageRecordDataset')
# The one place, and what a benchmark compares it with.
ALLOWED = {'data/images.py', 'tools/benchmark_imagenet_data.py'}


def test_images_are_opened_in_one_place():
    packages = 'environment common model data inference detection training scripts tools kernels'.split()
    files = [path for name in packages for path in (ROOT / name).rglob('*.py')] + list(ROOT.glob('*.py'))
    opening = {path.relative_to(ROOT).as_posix() for path in files if OPENING.search(path.read_text(encoding='utf-8'))}
    assert opening == ALLOWED


def test_other_formats_are_not_read():
    """Pillow knows these formats, but their readers have had security holes."""
    image = Image.new('RGB', (16, 16))
    others = [encoded(image, name) for name in ('ICO', 'TGA', 'PCX', 'DDS', 'SGI')]
    for content in (*others, b'8BPS\0\1' + bytes(100), b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'):
        with pytest.raises(ImageError, match='no image format is recognised in it'):
            read_image(content)


RAMP = [0, 51, 102, 204, 255]
UNKNOWN_BIG_ENDIAN = (1, 16, 0), (1, 32, 1)  # to Pillow: sample, bits, photometric


@pytest.mark.parametrize('order', '<>')
@pytest.mark.parametrize(
    ('bits', 'sample', 'factor', 'photometric'),
    [(8, 1, 1, 1), (8, 1, 1, 0), (16, 1, 257, 1), (16, 1, 257, 0), (16, 2, 1, 1), (32, 1, 1, 1), (32, 2, 1, 1)],
)
def test_grey_levels_of_any_depth(order, bits, sample, factor, photometric):
    """Once black without a warning: 32 bits, and signed 16 bits. Once inverted: 16 bits whose 0 is white."""
    content = grey_tiff([level * factor for level in RAMP], bits, photometric, sample, order)
    expected = RAMP if photometric else [255 - level for level in RAMP]
    if order == '>' and (sample, bits, photometric) in UNKNOWN_BIG_ENDIAN:
        with pytest.raises(ImageError, match='no image format is recognised'):
            read_image(content)
    else:
        assert read_image(content)[0].tolist() == [[level] * 3 for level in expected]


def test_grey_levels_of_12_bits_and_transparent_ones():
    assert read_image(grey_tiff([0, 2048, 4095], 12))[0, :, 0].tolist() == [0, 127, 255]
    row = struct.pack('>HHH', 0, 257 * 9, 65535)
    assert read_image(png(3, 1, [row], 16))[0, :, 0].tolist() == [0, 9, 255]
    clear = png(3, 1, [row], 16, further=[(b'tRNS', struct.pack('>H', 257 * 9))])
    assert read_image(clear)[0, :, 0].tolist() == [0, 255, 255]
    few = png(4, 1, [bytes([0b00011011])], 2, further=[(b'tRNS', struct.pack('>H', 2))])
    assert read_image(few)[0, :, 0].tolist() == [0, 85, 255, 255]
    assert read_image(b'P5 3 1 4095\n' + struct.pack('>HHH', 0, 2048, 4095))[0, :, 0].tolist() == [0, 127, 255]


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (grey_tiff([0, 300, 65535], 32, sample=2), 'whole numbers beyond 0 to 255'),
        (grey_tiff([-5, 0, 200], 32, sample=2), 'whole numbers beyond 0 to 255'),
        (grey_tiff([0, 2000, 9000], 16, sample=2), 'whole numbers beyond 0 to 255'),
        (grey_tiff([0, 100, 255], 16), 'its 16-bit pixels go up to 255 only'),
        (png(2, 1, [struct.pack('>HH', 0, 200)], 16), 'its 16-bit pixels go up to 200 only'),
        (grey_tiff([0, 0.5, 1], 32, sample=3), 'floating-point'),
        (b'Pf 1 1 -1.0\n' + struct.pack('<f', 0.5), 'floating-point'),
    ],
)
def test_levels_of_which_nobody_knows_what_is_white(content, reason):
    with pytest.raises(ImageError, match=reason):
        read_image(content, 'scan.tif')


def test_colours_of_every_kind():
    red, clear = (255, 0, 0), (10, 20, 30, 0)
    for image, kind in ((Image.new('CMYK', (2, 2), (0, 255, 255, 0)), 'TIFF'), (Image.new('RGB', (2, 2), red), 'BMP')):
        assert read_image(encoded(image, kind))[0, 0].tolist() == [255, 0, 0]
    for image, kind in (
        (Image.new('LA', (2, 2), (10, 0)), 'PNG'),
        (Image.new('RGBA', (2, 2), clear), 'PNG'),
        (Image.new('RGBA', (2, 2), clear), 'TIFF'),
        (Image.new('RGBA', (2, 2), clear), 'GIF'),
        (Image.new('RGBA', (2, 2), clear), 'WEBP'),
    ):
        assert read_image(encoded(image, kind))[0, 0].tolist() == [255, 255, 255]
    bits = Image.fromarray(np.array([[True, False]]))
    for kind in ('PNG', 'TIFF', 'GIF', 'BMP', 'PPM'):
        assert read_image(encoded(bits, kind))[0, :, 0].tolist() == [255, 0]


def test_a_bitmap_whose_fourth_bytes_are_all_zero_is_not_white():
    """Programs that ignore transparency write such files."""
    head = struct.pack('<IiiHHIIiiII', 108, 2, 1, 1, 32, 3, 8, 0, 0, 0, 0)
    head += struct.pack('<IIII', 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    for alpha, second in ((0, [6, 5, 4]), (255, [255, 255, 255])):
        pixels = bytes([1, 2, 3, alpha, 4, 5, 6, 0])
        content = b'BM' + struct.pack('<IHHI', 130, 0, 0, 122) + head + pixels
        assert read_image(content)[0].tolist() == [[3, 2, 1], second]


SCANS = {'one scan': {}, 'progressive': {'progressive': True}, 'restarts': {'restart_marker_blocks': 5}}


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
@pytest.mark.parametrize('scans', SCANS)
@pytest.mark.parametrize('subsampling', [0, 2])
def test_a_jpeg_cut_short_but_for_its_end_marker(mode, scans, subsampling):
    """Missing parts used to be grey without a warning. A file with other data after its end is complete."""
    image = smooth(101, 78).convert(mode)
    whole = encoded(image, 'JPEG', quality=90, subsampling=subsampling, **SCANS[scans])
    first = whole.index(b'\xff\xda') + 14
    np.testing.assert_array_equal(read_image(whole), read_image(whole + bytes(5)))
    for share in (0.05, 0.3, 0.6, 0.9):
        cut = whole[: first + int(share * (len(whole) - first))] + b'\xff\xd9'
        for content in (cut, cut + bytes(5)):
            with pytest.raises(ImageError, match='missing|truncated|broken'):
                read_image(content, 'cut.jpg')


def test_a_whole_jpeg_may_end_in_grey():
    """The last pixel suggests that the file was cut off, and a closer look shows that it was not."""
    pixels = np.array(smooth())
    pixels[20:] = 128
    for options in ({}, {'progressive': True}):
        assert read_image(encoded(Image.fromarray(pixels), 'JPEG', **options))[-1, -1].tolist() == [128] * 3


def test_a_scan_is_missing_from_the_end():
    whole = encoded(smooth(), 'JPEG', progressive=True)
    with pytest.raises(ImageError, match='a part of its data is missing'):
        read_image(whole[: whole.rindex(b'\xff\xda')] + b'\xff\xd9')


def test_a_jpeg_of_scans_without_end():
    """Passes of a few bytes each, of which each takes as long as all the pixels."""
    whole = encoded(smooth(), 'JPEG', progressive=True)
    last = whole[whole.rindex(b'\xff\xda') : -2]
    with pytest.raises(ImageError, match='more scans'):
        read_image(whole[:-2] + 200 * last + b'\xff\xd9')


@pytest.mark.parametrize('kind', ['png', 'png palette', 'png alpha', 'png bits', 'png 16', 'gif', 'bmp', 'ppm', 'tiff'])
def test_other_files_cut_short(kind):
    whole = every_kind()[kind]
    for share in (0.3, 0.6, 0.9):
        cut = whole[: int(share * len(whole))]
        ends = [cut, cut + whole[-12:]]
        if kind.startswith('png'):
            ends.append(cut + bytes(len(whole) - len(cut)))  # as a disk leaves a file that was not flushed
        for content in ends:
            with pytest.raises(ImageError, match='cannot be read'):
                read_image(content)


def test_checksums_of_png_files():
    """Bits that flip in uncompressed data, where nothing but a checksum can tell."""
    raw = bytearray(encoded(smooth(), 'PNG', compress_level=0))
    place = raw.index(b'IDAT') + 500
    raw[place] ^= 1
    with pytest.raises(ImageError, match='its chunk IDAT does not match its checksum'):
        read_image(bytes(raw))


@pytest.mark.parametrize('file_format', ['JPEG', 'PNG', 'TIFF', 'WEBP'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_upright_or_as_stored(file_format, orientation):
    """All eight orientations are undone, as corners show that differ from each other."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {'quality': 95} if file_format in ('JPEG', 'WEBP') else {}
    content = encoded(Image.fromarray(pixels), file_format, exif=exif, **options)
    assert stored_orientation(content) == orientation
    stored = read_image(content, upright=False)
    assert stored.shape == (32, 48, 3)
    assert np.abs(stored.astype(int) - pixels).mean() < 5
    upright = read_image(content)
    assert upright.shape == ((32, 48, 3) if orientation < 5 else (48, 32, 3))
    bright = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[orientation]
    corners = [[upright[0, 0, 0], upright[0, -1, 0]], [upright[-1, 0, 0], upright[-1, -1, 0]]]
    assert (np.array(corners) > 128).nonzero() == (bright[0], bright[1])


def test_metadata_that_are_no_exif_state_nothing():
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ('JPEG', 'WEBP'):
        content = encoded(smooth(), kind, exif=exif)
        broken = content.replace(b'MM\0*', b'??\0*').replace(b'II*\0', b'??*\0')
        assert broken != content
        assert read_image(broken).shape == (44, 60, 3)


def test_sizes_from_the_head():
    for content in every_kind().values():
        assert image_size(content) == (44, 60)
        assert stored_orientation(content) == 1
    with pytest.raises(ImageError, match='absent'):
        image_size('absent.png')


HUGE = {
    'png': png(89478485, 1, [b'']),
    'png, high': png(1, 89478485, [b'']),
    'png, square': png(9000, 9000),
    'bmp': b'BM' + struct.pack('<IHHIIiiHHIIiiII', 54, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0),
    'ppm': b'P6 60000 60000 255\n',
    'gif': b'GIF89a'
    + struct.pack('<HHBBB', 65000, 65000, 0, 0, 0)
    + b','
    + struct.pack('<HHHHB', 0, 0, 9, 9, 0)
    + b'\2',
    'tiff': grey_tiff([1, 2], 8).replace(struct.pack('<HHII', 256, 4, 1, 2), struct.pack('<HHII', 256, 4, 1, 1 << 30)),
    'webp': b'RIFF' + struct.pack('<I', 30) + b'WEBPVP8X' + struct.pack('<I', 10) + b'\2\0\0\0' + b'\xff\xff\0' * 2,
}


@pytest.mark.parametrize('kind', HUGE)
def test_an_image_of_more_pixels_than_the_memory_allows(kind, monkeypatch):
    monkeypatch.setattr(images, 'most_pixels', lambda: 1 << 24)
    monkeypatch.setattr(images, 'to_rgb', lambda image: pytest.fail('its pixels are read'))
    with pytest.raises(ImageError, match=r'^vast cannot be read .* pixels.*\); scale it down$'):
        read_image(HUGE[kind], 'vast')


def test_one_pixel_high_and_ever_so_wide(tmp_path):
    (tmp_path / 'vast.png').write_bytes(HUGE['png'])
    network = LoadedNetwork(lambda data: mx.nd.mean(data, axis=(2, 3)), 'colours', {}, SMALL, None, {})
    (answer,) = network.predict([tmp_path / 'vast.png'])
    assert 'it claims to have 89478485 x 1 pixels' in answer.error


def test_a_jpeg_of_more_pixels_than_the_memory_allows(monkeypatch):
    content = encoded(smooth(), 'JPEG')
    frame = content.index(b'\xff\xc0') + 5
    vast = content[:frame] + struct.pack('>HH', 60000, 60000) + content[frame + 4 :]
    with pytest.raises(ImageError, match=r'60000 x 60000 pixels, and here up to \d+ are allowed'):
        read_image(vast)


def test_the_limit_is_in_proportion_to_the_memory(monkeypatch):
    for memory, most in ((1 << 30, 11184810), (8 << 30, 89478485), (1 << 40, images.MOST)):
        monkeypatch.setattr(images, 'all_memory', lambda memory=memory: memory)
        images.most_pixels.cache_clear()
        assert images.most_pixels() == most
    images.most_pixels.cache_clear()


def test_too_little_memory_for_an_image_is_told(monkeypatch):
    def full(image):
        raise MemoryError

    monkeypatch.setattr(images, 'to_rgb', full)
    with pytest.raises(ImageError, match='there is not enough memory for it'):
        read_image(every_kind()['png'])


def flipped(count, seed):
    """Yield files of every kind with a few bits flipped, most of them in their headers."""
    generator = random.Random(seed)
    for kind, content in every_kind().items():
        for number in range(count):
            damaged = bytearray(content)
            for _ in range(generator.choice((1, 1, 3, 8))):
                place = generator.randrange(min(len(damaged), generator.choice((40, 200, len(damaged)))))
                damaged[place] ^= 1 << generator.randrange(8)
            yield f'{kind.replace(" ", "-")}-{number}', bytes(damaged)


@pytest.mark.filterwarnings('ignore:::PIL')  # warnings about damaged metadata
def test_flipped_bits_are_an_answer_or_a_sentence(monkeypatch):
    monkeypatch.setattr(images, 'most_pixels', lambda: 1 << 20)  # no more memory than that
    answers, sentences = [], {}
    for name, content in flipped(60, seed=1):
        try:
            answers.append(read_image(content, name))
        except ImageError as error:
            sentences[name] = str(error)
    assert all((pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3) for pixels in answers)
    assert all(name in sentence and '\n' not in sentence for name, sentence in sentences.items())
    assert min(len(answers), len(sentences)) > 100


@pytest.mark.filterwarnings('ignore:::PIL')
def test_flipped_bits_in_prediction_and_training(tmp_path, monkeypatch):
    monkeypatch.setattr(images, 'most_pixels', lambda: 1 << 20)
    for part in ('train', 'val'):
        (tmp_path / part / 'only').mkdir(parents=True)
        for name, content in [*flipped(4, seed=2), ('whole', every_kind()['png'])]:
            (tmp_path / part / 'only' / f'{name}.png').write_bytes(content)
    paths = sorted((tmp_path / 'train' / 'only').iterdir())
    network = LoadedNetwork(lambda data: mx.nd.mean(data, axis=(2, 3)), 'colours', {}, SMALL, None, {})
    answers = list(network.predict(paths))
    assert len(answers) == len(paths)
    assert all((answer.error is None) == (len(answer.classes) == 3) for answer in answers)
    train, val = folder_sources(tmp_path, SMALL)
    for source, augment in ((train, True), (val, False)):
        loader = make_image_loader(source, 8, augment, shuffle=augment, threads=2, max_bad=len(paths))
        batches = list(loader.batches(0))
        assert sum(n_valid for *_, n_valid in batches) == (len(paths) if augment else len(paths) - len(loader.bad))
        assert all(np.isfinite(data).all() for _, data, _, _ in batches)
        assert len(loader.bad) == sum(answer.error is not None for answer in answers)
