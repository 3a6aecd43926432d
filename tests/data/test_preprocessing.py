"""Preprocessing: files of every kind, the geometry, the normalisation, the manifest."""

import json
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.images import ImageError, read_image
from data.preprocessing import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD, Preprocessing

CIFAR = Preprocessing(32, CIFAR_MEAN, CIFAR_STD)
IMAGENET = Preprocessing(224, IMAGENET_MEAN, IMAGENET_STD, resize=256)


def noise(height, width, channels=3):
    return np.random.RandomState(0).randint(0, 256, (height, width, channels)).astype(np.uint8)


def encoded(image, file_format, **options):
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def test_normalisation_is_the_textbook_formula():
    images = noise(64, 32).reshape(2, 32, 32, 3)
    data = CIFAR.batch(images)
    expected = ((images / 255 - CIFAR_MEAN) / CIFAR_STD).transpose(0, 3, 1, 2)
    assert data.dtype == np.float32
    assert data.flags.c_contiguous
    np.testing.assert_allclose(data, expected, rtol=0, atol=1e-6)


def test_an_image_of_the_right_size_is_only_normalised():
    pixels = noise(32, 32)
    np.testing.assert_array_equal(CIFAR.image(pixels), CIFAR.batch(pixels[np.newaxis]))
    np.testing.assert_array_equal(CIFAR.image(Image.fromarray(pixels)), CIFAR.batch(pixels[np.newaxis]))


@given(st.integers(1, 400), st.integers(1, 400))
@settings(deadline=None, max_examples=40)
def test_every_size_gives_the_network_size(height, width):
    assert CIFAR.image(noise(height, width)).shape == (1, 3, 32, 32)
    assert IMAGENET.fit(noise(height, width)).shape == (224, 224, 3)


def test_short_side_then_centre():
    """Left half black, right half white, twice as wide as high: the crop has the edge in its middle."""
    wide = np.zeros((256, 512, 3), np.uint8)
    wide[:, 256:] = 255
    for pixels in (IMAGENET.fit(wide), IMAGENET.fit(wide.transpose(1, 0, 2)).transpose(1, 0, 2)):
        assert (pixels[:, :112] == 0).all()
        assert (pixels[:, 112:] == 255).all()
    # Half the size: scaled first, so that the whole height is seen.
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:2] = 255
    assert (CIFAR.fit(stripes)[0] > 180).all()


def test_colours_keep_their_order():
    red = CIFAR.fit(Image.new('RGB', (50, 60), (255, 0, 0)))
    assert (red == (255, 0, 0)).all()


def test_modes():
    grey = Image.fromarray(noise(20, 30)[..., 0])
    expected = np.repeat(np.asarray(grey)[..., np.newaxis], 3, axis=2)
    np.testing.assert_array_equal(read_image(encoded(grey, 'PNG')), expected)
    palette = Image.fromarray(noise(20, 30)).quantize(16)
    np.testing.assert_array_equal(read_image(encoded(palette, 'PNG')), np.asarray(palette.convert('RGB')))
    np.testing.assert_array_equal(read_image(encoded(palette, 'GIF')), np.asarray(palette.convert('RGB')))
    assert set(np.unique(read_image(encoded(grey.convert('1'), 'PNG')))) == {0, 255}
    assert read_image(encoded(Image.new('CMYK', (5, 6)), 'JPEG')).shape == (6, 5, 3)


def test_transparency_lies_over_white():
    rgba = noise(20, 30, 4)
    rgba[0, 0] = 1, 2, 3, 0
    rgba[0, 1] = 1, 2, 3, 255
    pixels = read_image(encoded(Image.fromarray(rgba), 'PNG'))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 1].tolist() == [1, 2, 3]
    palette = Image.new('P', (2, 1))
    palette.putpalette([9, 9, 9, 50, 60, 70])
    palette.putpixel((1, 0), 1)
    pixels = read_image(encoded(palette, 'PNG', transparency=b'\x00\xff'))
    assert pixels[0].tolist() == [[255, 255, 255], [50, 60, 70]]


def test_16_bits_are_scaled():
    deep = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    assert read_image(encoded(deep, 'PNG'))[0, :, 0].tolist() == [0, 100, 255]


def test_floating_point_pixels_are_refused():
    with pytest.raises(ImageError, match='floating-point'):
        read_image(encoded(Image.new('F', (2, 2), 0.5), 'TIFF'))


@pytest.mark.parametrize('file_format', ['JPEG', 'PNG', 'TIFF', 'WEBP'])
def test_exif_orientation(file_format):
    """A camera held upright: orientation 6 says the first row is the right-hand column."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = read_image(encoded(Image.fromarray(pixels), file_format, exif=exif))
    assert upright.shape == (32, 16, 3)
    assert upright[:, 10:].min() > 200
    assert upright[:, :6].max() < 50


def test_animations_give_their_first_frame():
    frames = [Image.new('RGB', (4, 4), colour) for colour in ('red', 'blue')]
    content = encoded(frames[0], 'GIF', save_all=True, append_images=frames[1:])
    assert read_image(content)[0, 0].tolist() == [255, 0, 0]


def test_unreadable_files(tmp_path):
    file = tmp_path / 'photo.jpg'
    with pytest.raises(ImageError, match=r'photo.jpg cannot be read .*No such file'):
        read_image(file)
    with pytest.raises(ImageError, match='cannot be read'):
        read_image(tmp_path)
    whole = encoded(Image.fromarray(noise(64, 64)), 'JPEG')
    for content in (b'', b'text', whole[: len(whole) // 2], whole[:-100]):
        file.write_bytes(content)
        with pytest.raises(ImageError, match=r'photo.jpg cannot be read as an image'):
            read_image(file)
        with pytest.raises(ImageError, match='record 3'):
            read_image(content, 'record 3')


@pytest.mark.filterwarnings('ignore:::PIL')  # warnings about damaged metadata
@given(st.data())
@settings(deadline=None, max_examples=200)
def test_damage_never_escapes_as_another_error(data):
    file_format = data.draw(st.sampled_from(['JPEG', 'PNG', 'GIF', 'TIFF', 'BMP', 'PPM', 'WEBP']))
    content = bytearray(encoded(Image.fromarray(noise(16, 16)), file_format))
    for _ in range(data.draw(st.integers(1, 8))):
        # Mostly the header, where sizes and offsets are.
        content[data.draw(st.integers(0, min(len(content), 200) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert read_image(bytes(content)).ndim == 3
    except ImageError:
        pass


@pytest.mark.parametrize('preprocessing', [CIFAR, IMAGENET])
def test_manifest_round_trip(preprocessing):
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'size': 0}, 'size 0'),
        ({'size': 32.5}, 'size 32.5'),
        ({'size': True}, 'size True'),
        ({'resize': 31}, 'resize 31 .* at least its size 32'),
        ({'mean': [1, 2]}, 'mean .* three'),
        ({'mean': 'abc'}, 'mean .* three'),
        ({'mean': [0, 0, float('nan')]}, 'mean .* finite'),
        ({'std': [1, 1, 0]}, 'std .* positive'),
        ({'colour': 1}, 'unknown entry colour'),
    ],
)
def test_wrong_manifests(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        Preprocessing.from_dict({**CIFAR.to_dict(), **change})


def test_incomplete_manifests():
    with pytest.raises(ValueError, match='lacks mean, std'):
        Preprocessing.from_dict({'size': 3})
    with pytest.raises(ValueError, match='must be a table'):
        Preprocessing.from_dict(None)


def test_wrong_arrays():
    for wrong in (noise(8, 8).astype(np.float32), noise(8, 8, 4), noise(8, 8)[np.newaxis]):
        with pytest.raises(ValueError, match='image array must be uint8'):
            CIFAR.image(wrong)
    with pytest.raises(ValueError, match='must be uint8 of shape'):
        CIFAR.batch(noise(8, 8))
    with pytest.raises(ValueError, match='must be uint8'):
        CIFAR.batch(np.zeros((1, 8, 8, 3)))


def test_truncated_files_are_found_beside_gluoncv(tmp_path):
    """Importing `gluoncv.data` tells Pillow to accept truncated files, for the whole process."""
    import gluoncv.data  # noqa: F401

    whole = encoded(Image.fromarray(noise(64, 64)), 'JPEG')
    with pytest.raises(ImageError):
        read_image(whole[: len(whole) // 2], 'half')
