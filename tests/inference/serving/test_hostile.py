"""Two hundred hostile requests: each gets a fitting answer, and the server goes on."""

import io
import random
import struct
import zlib
from collections import Counter

from PIL import Image

from tests.inference.serving.server import ask, form, head, photo, post, serving

BODY = 200_000


def png_that_says(width, height, data=b''):
    """Return a PNG file whose header states this size."""

    def chunk(kind, content):
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(data)) + chunk(b'IEND', b'')


def damaged(count):
    """Yield images with missing or changed bytes, which are answered if a decoder takes them for intact."""
    draw = random.Random(0)
    for number in range(count):
        content = bytearray(photo('PNG' if number % 2 else 'JPEG', (60, 45), (number, 90, 200)))
        if number % 4 < 2:
            # the last few bytes of a PNG file do not matter
            yield post(bytes(content[: draw.randrange(1, len(content) - 20)])), {400, 415}
        else:
            for _ in range(3):
                content[draw.randrange(len(content))] = draw.randrange(256)
            yield post(bytes(content)), {200, 400, 413, 415}


def noise(count):
    draw = random.Random(1)
    for number in range(count):
        yield post(bytes(draw.randrange(256) for _ in range(1 + 40 * number))), {415}


def bombs():
    yield post(png_that_says(60000, 60000)), {400, 413}
    yield post(png_that_says(2**31 - 1, 1)), {400, 413}
    yield post(png_that_says(0, 0)), {400}
    yield post(png_that_says(900, 900, bytes(10_000_000))), {200, 400}
    yield post(png_that_says(300, 300, b'')), {400}
    yield post(photo('JPEG', (1200, 1200))), {413}
    other = io.BytesIO()
    Image.new('RGB', (9, 9)).save(other, 'TIFF')
    yield post(other.getvalue()), {415}
    yield post(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), {415}
    yield post(b'GIF89a' + bytes(50)), {415}
    yield post(b'\xff\xd8\xff'), {400}
    yield post(b'\x89PNG\r\n\x1a\n'), {400}


def lengths():
    yield head('POST', '/predict', BODY + 1, 'Connection: close'), {408, 413}  # and nothing follows
    yield head('POST', '/predict', 10**30, 'Connection: close'), {400, 413, None}
    yield head('POST', '/predict', None, 'Content-Length: -5'), {400}
    yield head('POST', '/predict', None, 'Content-Length: 5', 'Content-Length: 6'), {400}
    yield head('POST', '/predict', None, 'Content-Length: x'), {400}
    yield head('POST', '/predict', BODY * 9, 'Expect: 100-continue', 'Connection: close'), {413}
    yield post(bytes(BODY + 1)), {413}
    yield post(bytes(BODY * 3)), {413, None}
    yield head('POST', '/predict', 0, 'Connection: close'), {400}
    yield head('POST', '/predict', 100, 'Connection: close') + b'short', {None, 400, 408}
    chunked = ('Transfer-Encoding: chunked', 'Connection: close')
    yield head('POST', '/predict', None, *chunked) + b'zz\r\n', {400, None}
    yield head('POST', '/predict', None, *chunked) + b'ffffffffffffffffff\r\n', {400, 408, 413, None}
    yield head('POST', '/predict', None, *chunked) + b'5\r\nhello\r\n0\r\n\r\n', {415}
    yield head('POST', '/predict', None, *chunked) + (b'3e8\r\n' + bytes(1000) + b'\r\n') * 300 + b'0\r\n\r\n', {413}
    yield head('POST', '/predict', 5, *chunked) + b'5\r\nhello\r\n0\r\n\r\n', {400, 415}


def heads():
    close = 'Connection: close'
    for path in ('/../../etc/passwd', '//', '/%00', '/predict/..', '/%2e%2e/', '/predict%0d%0aX: y', '/' + 'a' * 4000):
        yield head('GET', path, None, close), {200, 400, 404}
        yield head('POST', path, 0, close), {400, 404}
    for method in ('PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'NONSENSE', 'HEAD'):
        yield head(method, '/predict', None, close), {405}
    for query in ('top=0', 'top=-1', 'top=x', 'top=1e9', 'top=9' + '9' * 300, 'threshold=nan', 'threshold=2', 'top='):
        yield post(photo(), f'/predict?{query}'), {400}
    for query in ('x=y', 'top=3&top=2', '%ff=%fe', '&&&=', 'threshold=1'):
        yield post(photo(), f'/predict?{query}'), {200}
    for raw in (
        b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',  # TLS
        b'GET /\r\n\r\n',  # HTTP/0.9
        b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
        b'GET / HTTP/9.9\r\n\r\n',
        b'\r\n' * 50_000,
        b'GET / HTTP/1.1\r\n' + b'X: y\r\n' * 50_000 + b'\r\n',
        b'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n',
        b'GET / HTTP/1.1\r\nX' + b'y' * 200_000,
        b'GET / HTTP/1.1\r\n bad: fold\r\n\r\n',
        b'GET / HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n',
        b'GET  /  HTTP/1.1\r\nHost: x\r\n\r\n',
        b'GET http://elsewhere/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
        b'CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
        bytes(1000),
        b'\n',
    ):
        yield raw, {200, 400, 404, 405, 408, None}
    yield head('GET', '/', None, 'Upgrade: websocket', 'Connection: Upgrade, close'), {200, 400}


def forms():
    def sent(body, kind):
        return post(body, '/predict', kind)

    body, kind = form(('a.jpg', photo()))
    yield sent(body, kind), {200}
    yield sent(body[:-30], kind), {200, 400}
    yield sent(body, 'Content-Type: multipart/form-data'), {400}
    yield sent(body, 'Content-Type: multipart/form-data; boundary=other'), {400}
    yield sent(body, 'Content-Type: multipart/form-data; boundary=' + 'x' * 500), {400}
    yield sent(body, 'Content-Type: multipart/form-data; boundary=b0undary; charset=nonsense'), {200, 400}
    yield sent(b'', kind), {400}
    yield sent(*form()), {400}
    yield sent(*form(('a.jpg', b''))), {415}
    yield sent(*form(*[('a.jpg', photo())] * 17)), {400}
    yield sent(*form(*[('a.jpg', photo())] * 3, ('b.jpg', b'no'))), {415}
    yield sent(b'--b0undary\r\nContent-Disposition: form-data; name="i"\r\n\r\ntext\r\n--b0undary--\r\n', kind), {400}
    yield sent(b'--b0undary\r\nContent-Disposition: form-data\r\n\r\n\r\n--b0undary--\r\n', kind), {400}
    yield sent(b'--b0undary\r\n\r\n\r\n--b0undary--\r\n', kind), {400}
    yield sent(b'--b0undary\r\n' + b'X: y\r\n' * 9000 + b'\r\n--b0undary--', kind), {400}
    for name in ('../../x.jpg', '<script>.jpg', 'x' * 3000, '\u202egpj.exe', '"'):
        yield sent(*form((name, photo()))), {200, 400}


def hostile():
    """Yield over 200 pairs of (request, statuses that are right), where None means closed without an answer."""
    for family in (bombs(), lengths(), heads(), forms(), noise(20), damaged(200)):
        yield from family


def test_two_hundred_hostile_requests(held):
    outcomes, wrong = Counter(), []
    limits = {'body': BODY, 'pixels': 1_000_000, 'head_seconds': 0.3, 'body_seconds': 0.5}
    with serving(held, **limits) as (port, service, server):
        for number, (sent, allowed) in enumerate(hostile()):
            reply = ask(port, sent)
            outcomes[reply.status] += 1
            if reply.status not in allowed:
                wrong.append((number, sent[:120], reply.status, reply.body[:200]))
            elif reply.status is not None and reply.status >= 400 and not sent.startswith(b'HEAD'):
                assert list(reply.json) == ['error'], sent[:100]
        assert not wrong, '\n'.join(map(str, wrong))
        assert ask(port, post(photo())).status == 200
        assert (service.memory.used, service.waiting) == (0, 0)
        assert ask(port, head('GET', '/health', None, 'Connection: close')).status == 200
    assert sum(outcomes.values()) >= 200
    print(dict(outcomes))
