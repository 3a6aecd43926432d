"""Read requests within the limits: bodies, the files in them, and the heads of the images."""

from __future__ import annotations

import asyncio
from typing import Any, List, NamedTuple, Optional

from starlette.requests import Request

from common.text import printable
from data.images import ImageError, image_size
from inference.serving.form import files_in_form
from inference.serving.limits import BYTES_PER_PIXEL, Lease, Limits, Refused

__all__ = ['Upload', 'check_image', 'number_in_query', 'read_uploads', 'unreadable']

SIGNATURES = (b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n')
READ_ON = 2  # a refused body is read up to this many times the limit


class Upload(NamedTuple):
    """An image file that was sent."""

    name: str
    content: bytes


async def _body(request: Request, limits: Limits, lease: Lease) -> bytes:
    """Read the body. A refused one is read on for a while, as most clients only read the answer after sending it."""
    refused: Optional[Refused] = None
    too_large = Refused(413, f'a request may have at most {limits.body} bytes; send a smaller image', close=True)
    if int(request.headers.get('content-length', 0)) > limits.body:  # the protocol has checked that it is a number
        if 'expect' in request.headers:  # the client waits for permission to send
            raise too_large
        refused = too_large
    chunks: List[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        try:
            if size > limits.body:
                raise too_large
            if refused is None:
                lease.add(len(chunk))
                chunks.append(chunk)
        except Refused as error:
            refused = error
            chunks.clear()
        if size > READ_ON * limits.body:
            break
    if refused is not None:
        raise refused
    return b''.join(chunks)


async def read_uploads(request: Request, limits: Limits, lease: Lease) -> List[Upload]:
    """Return the image files of a request, whose body is one file or a form with several. Raises `Refused`."""
    try:
        content = await asyncio.wait_for(_body(request, limits, lease), limits.body_seconds)
    except asyncio.TimeoutError:
        sentence = f'the body of the request did not arrive within {limits.body_seconds:g} seconds'
        raise Refused(408, sentence, close=True) from None
    files = files_in_form(request.headers.get('content-type', ''), content, limits.images)
    if files is None:
        if not content:
            raise Refused(400, 'the request has no body; send a JPEG or PNG file')
        return [Upload('', content)]
    return [Upload(*file) for file in files]  # which take no more memory than the body, and that ends here


def check_image(upload: Upload, limits: Limits) -> int:
    """Return how many bytes the image's pixels take, from its head. Raises `Refused` if it is no image or too large."""
    if not upload.content.startswith(SIGNATURES):
        raise Refused(415, f'{upload.name or "the image"} is not a JPEG or PNG file; send one')
    try:
        height, width = image_size(upload.content, upload.name)
    except ImageError as error:
        raise unreadable(upload, error) from None
    if height * width > limits.pixels:
        sides = f'{width} x {height} pixels'
        raise Refused(413, f'{upload.name or "the image"} has {sides}, and {limits.pixels} are allowed; scale it down')
    return BYTES_PER_PIXEL * height * width


def unreadable(upload: Upload, error: ImageError) -> Refused:
    """Return the refusal of an image that cannot be read, which asks for one of the formats that are taken here."""
    advice = error.advice or 'send an intact JPEG or PNG file'
    return Refused(400, printable(f'{upload.name or "the image"} cannot be read ({error.reason}); {advice}'))


def number_in_query(request: Request, name: str, default: Any, low: float, high: float) -> Any:
    """Return a number from the query string, or the default. Raises `Refused` if it is out of bounds."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = type(default)(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        noun = 'whole numbers' if isinstance(default, int) else 'numbers'
        raise Refused(400, f'{name}={text[:40]!r} is not allowed; allowed: {noun} from {low:g} to {high:g}')
    return value
