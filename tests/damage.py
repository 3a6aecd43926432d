"""Damage the bytes of a file as disks, transfers and editors do."""

import random

__all__ = ['damaged']


def damaged(content: bytes, seed: int) -> bytes:
    """Return the content with one kind of damage, which the seed determines."""
    draw = random.Random(seed)
    place = draw.randrange(len(content))
    end = min(len(content), place + draw.choice((1, 4, 64, 4096)))
    kind = seed % 8
    if kind == 0:  # a bit
        return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]
    if kind == 1:  # a number, such as a size, a length or a dimension
        text = draw.choice((b'\xff\xff\xff\xff', b'\0\0\0\x7f', b'\0\0\0\0', b'\xff' * 8, b'\0' * 8))
        return content[:place] + text + content[place + len(text) :]
    if kind == 2:  # a page that was never written
        return content[:place] + bytes(end - place) + content[end:]
    if kind == 3:  # the end is missing
        return content[:place]
    if kind == 4:  # a piece is missing
        return content[:place] + content[end:]
    if kind == 5:  # a piece is repeated
        return content[:end] + content[place:]
    if kind == 6:  # a digit or a letter becomes another
        return content[:place] + draw.choice((b'0', b'9', b'-', b'e', b'a', b'"', b'[')) + content[place + 1 :]
    return content + draw.randbytes(end - place) if hasattr(draw, 'randbytes') else content + bytes(end - place)
