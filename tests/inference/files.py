"""Draw image files of every format and kind that the project reads."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image


def encoded(image, file_format, **options):
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def smooth(width=60, height=44):
    """Return a picture with little noise, so that JPEGs of it are small."""
    noise = np.random.RandomState(0).randint(0, 256, (height // 4, width // 4, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.BICUBIC)


def every_kind():
    """Return {description: file content}."""
    image = smooth()
    grey, palette, clear = image.convert('L'), image.quantize(32), image.convert('RGBA')
    clear.putalpha(grey)
    frames = {'save_all': True, 'append_images': [image.transpose(Image.FLIP_LEFT_RIGHT)]}
    return {
        'jpeg': encoded(image, 'JPEG'),
        'jpeg progressive': encoded(image, 'JPEG', progressive=True),
        'jpeg grey': encoded(grey, 'JPEG'),
        'jpeg cmyk': encoded(image.convert('CMYK'), 'JPEG'),
        'png': encoded(image, 'PNG'),
        'png palette': encoded(palette, 'PNG'),
        'png alpha': encoded(clear, 'PNG'),
        'png bits': encoded(grey.convert('1'), 'PNG'),
        'png 16': encoded(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), 'PNG'),
        'gif': encoded(palette, 'GIF'),
        'gif animated': encoded(palette, 'GIF', **frames),
        'bmp': encoded(image, 'BMP'),
        'ppm': encoded(image, 'PPM'),
        'tiff': encoded(image, 'TIFF'),
        'tiff lzw': encoded(image, 'TIFF', compression='tiff_lzw'),
        'webp': encoded(image, 'WEBP'),
        'webp lossless': encoded(clear, 'WEBP', lossless=True),
        'webp animated': encoded(image, 'WEBP', **frames),
    }


def grey_tiff(values, bits, photometric=1, sample=1, order='<'):
    """Return a TIFF with a row of greys. `photometric` 0: white is 0; `sample` 1, 2, 3: unsigned, signed, float."""
    if bits == 12:
        row = ''.join(f'{value:012b}' for value in values)
        row += '0' * (-len(row) % 8)
        data = bytes(int(row[i : i + 8], 2) for i in range(0, len(row), 8))
    else:
        data = np.array(values, f'{order}{" uif"[sample]}{bits // 8}').tobytes()
    short, long = 3, 4
    entries = [
        (256, long, len(values)),
        (257, long, 1),
        (258, short, bits),
        (259, short, 1),
        (262, short, photometric),
        (273, long, 8),
        (277, short, 1),
        (278, long, 1),
        (279, long, len(data)),
        (339, short, sample),
    ]
    directory = struct.pack(f'{order}H', len(entries))
    for tag, kind, value in entries:
        directory += struct.pack(f'{order}HHI', tag, kind, 1)
        directory += struct.pack(f'{order}HH' if kind == short else f'{order}I', *((value, 0)[: 2 - (kind == long)]))
    head = {'<': b'II*\0', '>': b'MM\0*'}[order] + struct.pack(f'{order}I', 8 + len(data) + len(data) % 2)
    return head + data + bytes(len(data) % 2) + directory + bytes(4)


def png(width, height, rows=(), depth=8, kind=0, further=()):
    """Return a PNG with these rows, even if some are missing, after `further` chunks (name, content)."""

    def chunk(name, content):
        return struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))

    head = struct.pack('>IIBBBBB', width, height, depth, kind, 0, 0, 0)
    pixels = zlib.compress(b''.join(b'\0' + row for row in rows))
    chunks = [(b'IHDR', head), *further, (b'IDAT', pixels), (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*each) for each in chunks)
