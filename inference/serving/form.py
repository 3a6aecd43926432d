"""Read the files in a multipart/form-data body, in memory."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from inference.serving.limits import Refused

__all__ = ['files_in_form']

MULTIPART = b'multipart/form-data'


class _Collector:
    """Collect the parts of a form from the parser's callbacks."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.parts: List[Dict[str, bytes]] = []
        self.content: List[bytearray] = []
        self.field = self.value = b''
        self.whole = False

    def on_part_begin(self) -> None:
        if len(self.parts) == self.most:
            raise Refused(400, f'the form has more than {self.most} parts; send fewer images at a time')
        self.parts.append({})
        self.content.append(bytearray())

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.field += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def on_header_end(self) -> None:
        self.parts[-1][self.field.decode('latin-1').lower()] = self.value
        self.field = self.value = b''

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.content[-1] += data[start:end]

    def on_end(self) -> None:
        self.whole = True

    def callbacks(self) -> Dict[str, object]:
        return {name: getattr(self, name) for name in dir(self) if name.startswith('on_')}


def files_in_form(kind: str, content: bytes, most: int) -> Optional[List[Tuple[str, bytes]]]:
    """Return (file name, content) of each file in a form, or None if the content type `kind` is not that of a form.

    Raises:
        Refused: the form is damaged, holds no file, or has more than `most` parts.
    """
    name, options = parse_options_header(kind)
    if name != MULTIPART:
        return None
    boundary = options.get(b'boundary', b'')
    collected = _Collector(most)
    try:
        if not 0 < len(boundary) <= 200:
            raise ValueError('its boundary is missing')
        parser = MultipartParser(boundary, collected.callbacks())
        parser.write(content)
        parser.finalize()
        if not collected.whole:
            raise ValueError('its end is missing')
    except (FormParserError, ValueError) as error:
        raise Refused(400, f'the form cannot be read ({error}); send it as curl -F image=@photo.jpg does') from error
    files = []
    for part, data in zip(collected.parts, collected.content):
        _, said = parse_options_header(part.get('content-disposition'))
        if b'filename' in said:
            files.append((said[b'filename'].decode('utf-8', 'replace'), bytes(data)))
    if not files:
        raise Refused(400, 'the form contains no file; send an image: curl -F image=@photo.jpg')
    return files
