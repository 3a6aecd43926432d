"""A local web server that behaves like real ones: resumes transfers or does not, cuts them off, redirects."""

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Served:
    """The server's files, and how it behaves.

    Attributes:
        files: contents by name.
        moved: names whose files are elsewhere: their new URLs.
        ranges: whether it sends parts of files; with a state, so that one knows that they have not changed.
        cuts: after how many bytes each next transfer breaks off; None for one that goes through.
        pages: names for which it sends a web page instead.
        asked: (name, Range) of all requests.
    """

    def __init__(self):
        self.files, self.moved, self.cuts, self.pages, self.asked = {}, {}, [], set(), []
        self.ranges, self.state, self.length = True, '"1"', True
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        served, name = self.server.served, self.path.lstrip('/')
        with served.lock:
            served.asked.append((name, self.headers.get('Range')))
            cut = served.cuts.pop(0) if served.cuts and name in served.files else None
        if name in served.moved:
            self.send_response(302)
            self.send_header('Location', served.moved[name])
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        if name in served.pages:
            self.answer(200, b'<html>log in</html>', kind='text/html; charset=utf-8')
            return
        if name not in served.files:
            self.send_error(404)
            return
        content = served.files[name]
        match = re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range') or '')
        if match and served.ranges and self.headers.get('If-Range') in (None, served.state):
            first = int(match.group(1))
            if first >= len(content):
                self.send_error(416)
                return
            more = {'Content-Range': f'bytes {first}-{len(content) - 1}/{len(content)}'}
            self.answer(206, content[first:], cut, more=more)
        else:
            self.answer(200, content, cut)

    def answer(self, code, content, cut=None, kind='application/octet-stream', more=()):
        served = self.server.served
        self.send_response(code)
        self.send_header('Content-Type', kind)
        if served.length:
            self.send_header('Content-Length', str(len(content)))
        if served.ranges:
            self.send_header('ETag', served.state)
        for key, value in dict(more).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content if cut is None else content[:cut])

    def log_message(self, *args):
        """Quiet."""


@contextmanager
def server():
    """Yield what is `Served`, and the URL below which its files are."""
    running = ThreadingHTTPServer(('127.0.0.1', 0), _Handler)
    running.daemon_threads = True
    running.served = Served()
    thread = threading.Thread(target=running.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    yield running.served, f'http://127.0.0.1:{running.server_port}'
    running.shutdown()
    thread.join()
    running.server_close()
