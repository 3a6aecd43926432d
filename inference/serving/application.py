"""Route requests to the network, and refuse what exceeds the limits."""

from __future__ import annotations

import asyncio
import base64
import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, Iterator, List, Optional

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from data.images import ImageError
from inference.network import LoadedNetwork
from inference.serving.asking import Asking
from inference.serving.limits import Lease, Limits, Memory, Refused
from inference.serving.metrics import CONTENT_TYPE, Metrics
from inference.serving.page import drop_page
from inference.serving.requests import Upload, check_image, number_in_query, read_uploads, unreadable
from inference.serving.worker import Question, Worker

__all__ = ['Service']

log = logging.getLogger(__name__)
DECODERS = 2  # threads
GONE = 499  # for the metrics only: the client has closed the connection

Answer = Callable[[Request], Awaitable[Response]]


class Service:
    """An ASGI application, `app`, that answers with a network's predictions.

    Attributes:
        network: the network.
        limits: what requests may ask for.
        metrics: counts and times of the requests so far.
    """

    def __init__(
        self, network: LoadedNetwork, limits: Limits, top: int, threshold: float, looked_into: Optional[Any] = None
    ) -> None:
        """Wrap a loaded network.

        The network is tried on one image, and whatever it raises is passed on.

        Args:
            network: the network to serve.
            limits: what requests may ask for.
            top: default for requests: classes to name.
            threshold: default for requests: lowest score of a box.
            looked_into: the network in a form whose heat maps can be drawn, if there is one.
        """
        self.network, self.limits, self.top, self.threshold = network, limits, top, threshold
        self.metrics, self.memory = Metrics(), Memory(limits.memory)
        self.waiting = 0  # images received but not answered
        self.asking = Asking(network, looked_into)
        self.worker = Worker(self.asking, limits, self.metrics)
        self.worker.submit([self.asking.example()])[0].result()
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix='decoder')
        self._page = drop_page(network)
        routes = [
            ('/', self.page, 'GET'),
            ('/', self.predict, 'POST'),
            ('/predict', self.predict, 'POST'),
            ('/explain', self.explain, 'POST'),
            ('/health', self.health, 'GET'),
            ('/metrics', self.figures, 'GET'),
        ]
        self._paths = {path for path, _, _ in routes}
        by_path: Dict[str, Dict[str, Answer]] = {}
        for path, answer, method in routes:
            by_path.setdefault(path, {})[method] = answer
        self.app = Starlette(
            routes=[Route(path, self._endpoint(answers), methods=list(answers)) for path, answers in by_path.items()],
            exception_handlers={HTTPException: self._not_found},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._decoding = asyncio.Semaphore(DECODERS)  # belongs to this event loop
        yield
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    def close(self) -> None:
        """Answer what is queued, then end the threads."""
        self.worker.close()
        self._decoders.shutdown()

    def _endpoint(self, answers: Dict[str, Answer]) -> Answer:
        async def endpoint(request: Request) -> Response:
            start, status = time.monotonic(), 500
            try:
                method = 'GET' if request.method == 'HEAD' else request.method
                response = await answers[method](request)
                status = response.status_code
            except Refused as refused:
                status = refused.status
                self.metrics.refused(refused.limit)
                response = _refusal(refused)
            except ClientDisconnect:
                status = GONE
                response = Response(status_code=400)  # nobody reads it
            except Exception:  # the client gets an answer, and the log the reason
                log.exception('%s %s failed', request.method, request.url.path)
                response = JSONResponse(
                    {'error': 'the network failed on this image; the log of the server says why'}, 500
                )
            finally:
                self.metrics.answered(request.url.path, status, time.monotonic() - start)
            response.headers['X-Content-Type-Options'] = 'nosniff'
            return response

        return endpoint

    async def _not_found(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path if request.url.path in self._paths else 'other'
        self.metrics.answered(path, error.status_code, 0.0)
        sentences = {
            404: f'there is no such path; allowed: {", ".join(sorted(self._paths))}',
            405: 'this path does not allow this method',
        }
        # The body was not read.
        headers = {**(error.headers or {}), 'Connection': 'close'}
        return JSONResponse({'error': sentences.get(error.status_code, error.detail)}, error.status_code, headers)

    async def page(self, request: Request) -> Response:
        return Response(self._page, media_type='text/html; charset=utf-8')

    async def health(self, request: Request) -> Response:
        """Answer whether the network is being served, and which one it is."""
        alive = self.worker.alive
        about = {'status': 'ok' if alive else 'stopping', 'model': self.network.name, 'task': self.network.task}
        return JSONResponse(about, 200 if alive else 503)

    async def figures(self, request: Request) -> Response:
        now = {
            'queue_images': ('Images received but not answered yet.', self.waiting),
            'memory_bytes': ('Bytes of waiting requests and images.', self.memory.used),
        }
        return Response(self.metrics.text(now), media_type=CONTENT_TYPE)

    async def predict(self, request: Request) -> Response:
        return await self._answer(request, explain=False)

    async def explain(self, request: Request) -> Response:
        return await self._answer(request, explain=True)

    async def _answer(self, request: Request, explain: bool) -> Response:
        top = number_in_query(request, 'top', self.top, 1, 1000)
        threshold = number_in_query(request, 'threshold', self.threshold, 0, 1)
        with self.memory.lease() as lease:
            uploads = await read_uploads(request, self.limits, lease)
            with self._admitted(len(uploads)):
                asking = self._ask(uploads, lease, top, threshold, explain)
                try:
                    told = await asyncio.wait_for(asking, self.limits.answer_seconds)
                except asyncio.TimeoutError:
                    sentence = f'there was no answer within {self.limits.answer_seconds:g} seconds; try again later'
                    raise Refused(503, sentence, retry=5, limit='time') from None
        return JSONResponse(told[0] if len(told) == 1 else {'images': told})

    @contextmanager
    def _admitted(self, images: int) -> Iterator[None]:
        if self.waiting + images > self.limits.queue:
            sentence = f'{self.waiting} images are already waiting for the network; try again later'
            raise Refused(503, sentence, retry=1, limit='queue')
        self.waiting += images
        try:
            yield
        finally:
            self.waiting -= images

    async def _ask(
        self, uploads: List[Upload], lease: Lease, top: int, threshold: float, explain: bool
    ) -> List[Dict[str, Any]]:
        images = [await self._read(upload, lease) for upload in uploads]
        answers = self.worker.submit([Question(image, top, threshold, explain) for image in images])
        told = await asyncio.gather(*map(asyncio.wrap_future, answers))
        return [_told(upload, *answer) for upload, answer in zip(uploads, told)]

    async def _read(self, upload: Upload, lease: Lease) -> Any:
        """Return the image as the network takes it, with its bytes added to the lease."""
        pixels = check_image(upload, self.limits)
        async with self._decoding:  # until then, only the file is in memory
            lease.add(pixels)
            try:
                image = await asyncio.get_running_loop().run_in_executor(self._decoders, self.asking.read, upload)
            except ImageError as error:
                raise unreadable(upload, error) from None
            lease.add(math.prod(image.shape) - pixels)
        return image


def _told(upload: Upload, answer: Any, shown: Any) -> Dict[str, Any]:
    """Return one image's part of the JSON response."""
    told = answer.to_dict()
    told['image'] = upload.name or None
    if shown is not None:
        told['shows'] = shown.what
        told['picture'] = f'data:image/png;base64,{base64.b64encode(shown.png).decode()}' if shown.png else None
    return told


def _refusal(refused: Refused) -> Response:
    response = JSONResponse({'error': str(refused)}, refused.status)
    if refused.retry:
        response.headers['Retry-After'] = str(refused.retry)
    if refused.close:
        response.headers['Connection'] = 'close'
    return response
