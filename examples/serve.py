"""Serve an exported network with Python's standard library: POST an image file, get classes and probabilities.

    python scripts/export.py --params FILE -o shipped
    python examples/serve.py shipped --port 8000
    curl --data-binary @photo.jpg http://localhost:8000/

One request at a time, on this machine alone: a start, not a fortress.
"""

from __future__ import annotations

import argparse
import http.server
import json
from typing import Any, Dict, Optional, Sequence

import environment
from environment import run_main

environment.require_mxnet()

from data.images import ImageError
from inference import Predictor

LARGEST = 1 << 26  # bytes of an image file


def make_server(folder: str, port: int, top: int = 5) -> http.server.HTTPServer:
    """Return a server for the network in ``folder``; port 0 is any that is free."""
    ask = Predictor(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers with JSON: classes, or an error."""

        def do_POST(self) -> None:
            length = self.headers.get('Content-Length', '')
            if not length.isdigit() or int(length) > LARGEST:
                self.reply(413, {'error': f'send an image file of at most {LARGEST} bytes, with its length'})
                return
            try:
                self.reply(200, dict(ask(self.rfile.read(int(length)), top).classes))
            except ImageError as error:
                self.reply(400, {'error': str(error)})

        def reply(self, status: int, content: Dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header('Content-Type', 'application/json')
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return http.server.HTTPServer(('localhost', port), Handler)


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', help='what scripts/export.py wrote')
    parser.add_argument('--port', type=int, default=8000, help='(default: %(default)s)')
    parser.add_argument('--top', type=int, default=5, help='classes to name (default: %(default)s)')
    args = parser.parse_args(argv)
    server = make_server(args.folder, args.port, args.top)
    print(f'http://localhost:{server.server_port}/ is ready; stop it with Ctrl-C', flush=True)
    server.serve_forever()
    return 0


if __name__ == '__main__':
    run_main(main)
