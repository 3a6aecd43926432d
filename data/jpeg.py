"""Inspect JPEG files: their headers, and whether data are missing before the end marker.

libjpeg fills missing parts of an image with grey, and neither Pillow nor OpenCV reports it if only the end marker is
present.
"""

from __future__ import annotations

import re
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import numpy as np

__all__ = ['Jpeg', 'ends_early', 'jpeg_header', 'too_many_scans']

START, END, START_OF_SCAN, METADATA = 0xD8, 0xD9, 0xDA, 0xE1  # second bytes of markers
# Markers that carry the size: start of frame, all kinds but DHT, JPG and DAC, which share their range.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BASELINE, _PROGRESSIVE = (0xC0, 0xC1), 0xC2  # with Huffman codes
MOST_SCANS = 100  # of an image; encoders make up to some 20
_AFTER_SCAN = re.compile(rb'\xff[\x01-\xcf\xd8-\xfe]')  # in coded data FF stands before 00 or a restart marker
_LUMA = np.array([0.299, 0.587, 0.114])
_GREY, _NEAR = 128, 2  # the luma that missing parts are filled up with, and how near the decoded colours come to it
# Bytes that are not a marker, and change whatever is decoded from them.
_MORE = bytes(np.random.RandomState(0).randint(0, 255, 512).astype(np.uint8))

Buffer = Union[bytes, memoryview]


class Jpeg(NamedTuple):
    """The headers before the first scan.

    Attributes:
        frame: the marker of the frame's kind, 0xC0 for baseline.
        components: 1 for grey, 3, or 4 for CMYK.
        metadata: whether there is any that may state the orientation.
        in_one: whether the first scan holds all components, and so is the only one of a baseline file.
        scans: the offset of the first scan.
    """

    frame: int
    height: int
    width: int
    components: int
    metadata: bool
    in_one: bool
    scans: int

    @property
    def simple(self) -> bool:
        """Return whether it is baseline, with one scan, grey or three colours, as nearly all files are."""
        return self.frame in _BASELINE and self.in_one and self.components in (1, 3)


def jpeg_header(data: Buffer) -> Optional[Jpeg]:
    """Parse the headers before the first scan; None for anything but an intact JPEG."""
    if len(data) < 4 or bytes(data[:2]) != bytes((0xFF, START)):
        return None
    position, frame, metadata = 2, None, False
    while position + 10 <= len(data):
        if data[position] != 0xFF:
            return None
        marker, length = data[position + 1], data[position + 2] << 8 | data[position + 3]
        if marker == 0xFF:  # filling
            position += 1
            continue
        if not 0xC0 <= marker <= 0xFE or length < 2:
            return None
        if marker in _START_OF_FRAME and frame is None:
            height = data[position + 5] << 8 | data[position + 6]
            frame = marker, height, data[position + 7] << 8 | data[position + 8], data[position + 9]
        elif marker == METADATA:
            metadata = True
        elif marker == START_OF_SCAN:
            return frame and Jpeg(*frame, metadata, data[position + 4] == frame[3], position)
        position += 2 + length
    return None


def _scans(data: Buffer, header: Jpeg) -> Tuple[List[bytes], Optional[int]]:
    """Return the headers of the scans, and the offset of the end marker, if any."""
    position, headers = header.scans, []
    while position + 4 <= len(data):
        length = data[position + 2] << 8 | data[position + 3]
        if data[position + 1] == START_OF_SCAN:
            headers.append(bytes(data[position + 4 : position + 2 + length]))
        following = _AFTER_SCAN.search(data, position + 2 + length)
        if following is None:
            break
        position = following.start()
        if data[position + 1] == END:
            return headers, position
    return headers, None


def too_many_scans(data: Buffer, header: Jpeg) -> bool:
    """Return whether decoding would take longer than any genuine image: each scan covers all pixels."""
    return len(_scans(data, header)[0]) > MOST_SCANS


def _lacks_scans(headers: Sequence[bytes]) -> bool:
    """Return whether a progressive file ends before all bits of all coefficients were sent."""
    missing: Dict[int, Set[int]] = {}
    for scan in headers:
        count = scan[0]
        first, last, bits = scan[1 + 2 * count : 4 + 2 * count]
        for component in scan[1 : 1 + 2 * count : 2]:
            waiting = missing.setdefault(component, set(range(64)))
            if bits & 0xF == 0:
                waiting.difference_update(range(first, last + 1))
    return any(missing.values())


def ends_early(data: Buffer, header: Jpeg, pixels: np.ndarray, decode: Callable[[bytes], np.ndarray]) -> bool:
    """Return whether a part of the image is missing although the file has its end marker.

    Complete data decode the same whatever is inserted before the end marker; truncated data decode into it. Telling
    that takes two more calls of `decode`, which most images do not need: the last pixel of a simple one is enough.

    Args:
        data: the file.
        header: what its header says.
        pixels: (H, W, 3) uint8 RGB, as decoded.
        decode: decodes a file to pixels.
    """
    if header.simple and abs(float(pixels[-1, -1] @ _LUMA) - _GREY) > _NEAR:
        return False
    if header.frame not in (*_BASELINE, _PROGRESSIVE):  # arithmetic codes read on beyond their end
        return False
    headers, end = _scans(data, header)
    if end is None:
        return False
    if header.frame == _PROGRESSIVE and _lacks_scans(headers):
        return True
    whole = bytes(data)
    return not np.array_equal(decode(whole), decode(whole[:end] + _MORE + whole[end:]))
