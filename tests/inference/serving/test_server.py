"""A server answers what it can, refuses what it cannot, and loses nothing."""

import base64
import hashlib
import io
import re
import socket

import numpy as np
import pytest
from PIL import Image

from tests.inference.serving.server import (
    PATIENCE,
    Reply,
    ask,
    form,
    head,
    in_threads,
    photo,
    post,
    rest_of,
    serving,
    until,
)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_photo_in_answer_out(held, kind):
    with serving(held) as (port, _, _):
        reply = ask(port, post(photo(kind)))
        assert (reply.status, reply.headers['content-type']) == (200, 'application/json')
        assert [row['class'] for row in reply.json['classes']][0] == 'red'
        assert ask(port, post(photo(kind), '/?top=1')).json == {
            'image': None, 'classes': [reply.json['classes'][0]],
        }  # fmt: skip


def test_forms_with_one_file_or_several(held):
    with serving(held) as (port, _, _):
        body, kind = form(('a.jpg', photo()))
        one = ask(port, post(body, '/predict', kind)).json
        assert (one['image'], one['classes'][0]['class']) == ('a.jpg', 'red')
        body, kind = form(('a.jpg', photo()), ('b.png', photo('PNG', colour=(0, 0, 250))))
        several = ask(port, post(body, '/predict', kind)).json['images']
        assert [(each['image'], each['classes'][0]['class']) for each in several] == [
            ('a.jpg', 'red'),
            ('b.png', 'blue'),
        ]


def test_what_arrives_together_goes_through_together(held):
    with serving(held, batch=4, wait=0.0) as (port, service, _):
        held.may.clear()
        join = in_threads(lambda _: ask(port, post(photo())).status, 9)
        until(lambda: service.waiting == 9)
        until(lambda: service.worker._queue.qsize() >= 5)  # the rest of it has been decoded
        held.may.set()
        assert join() == [200] * 9
    assert sum(held.asked[1:]) == 9
    assert max(held.asked) == 4
    assert len(held.asked) <= 1 + 5


def test_too_much_is_answered_with_503_and_nothing_is_lost(held):
    with serving(held, queue=3, batch=1, images=3) as (port, service, _):
        held.may.clear()
        join = in_threads(lambda _: ask(port, post(photo())).status, 3)
        until(lambda: service.waiting == 3)
        for _ in range(5):
            refused = ask(port, post(photo()))
            assert (refused.status, refused.headers['retry-after']) == (503, '1')
        assert ask(port, head('GET', '/health', None, 'Connection: close')).status == 200
        held.may.set()
        assert join() == [200] * 3
        assert ask(port, post(photo())).status == 200
        assert service.metrics.summary().endswith('; limits reached: queue 5')


def test_memory_of_requests_is_bounded(held):
    size = 1 << 20
    with serving(held, body=size, pixels=1000, memory=size + 3000) as (port, service, _):
        with socket.create_connection(('127.0.0.1', port), PATIENCE) as slow:
            slow.sendall(head('POST', '/predict', size) + bytes(size - 1))
            until(lambda: service.memory.used == size - 1)
            assert ask(port, post(bytes(5000))).status == 503
            assert service.metrics.limits == {'memory': 1}
        until(lambda: service.memory.used == 0)
        assert ask(port, post(photo(size=(20, 20)))).status == 200


def test_one_request_of_the_largest_size_fits_also_as_a_form(held):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)  # as many bytes as pixels
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    body, kind = form(('a.png', file.getvalue()))
    with serving(held, body=len(body), pixels=200 * 200, memory=len(body) + pixels.size) as (port, service, _):
        assert ask(port, post(body, '/predict', kind)).status == 200
        assert service.memory.used == 0


def test_too_many_connections(held):
    with serving(held, connections=2) as (port, service, server):
        with socket.create_connection(('127.0.0.1', port)), socket.create_connection(('127.0.0.1', port)):
            until(lambda: len(server.server_state.connections) == 2)
            refused = ask(port, b'')
            assert (refused.status, refused.headers['retry-after']) == (503, '1')
            assert service.metrics.limits == {'connections': 1}
        until(lambda: not server.server_state.connections)
        assert ask(port, post(photo())).status == 200


def test_answers_do_not_wait_for_acknowledgements(held):
    with serving(held) as (port, _, server):
        with socket.create_connection(('127.0.0.1', port), PATIENCE) as connection:
            connection.sendall(head('GET', '/health'))
            assert connection.recv(1 << 16).startswith(b'HTTP/1.1 200')
            (state,) = server.server_state.connections
            accepted = state.transport.get_extra_info('socket')
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_slow_requests_end(held):
    with serving(held, head_seconds=0.2, body_seconds=0.2) as (port, _, server):
        connections = [socket.create_connection(('127.0.0.1', port), PATIENCE) for _ in range(4)]
        beginnings = [
            b'',
            b'POST /pre',
            head('POST', '/predict', 1000)[:-2] + b'X: ',
            head('POST', '/predict', 1000) + b'\xff',
        ]
        for connection, beginning in zip(connections, beginnings):
            connection.sendall(beginning)
        assert [Reply(rest_of(connection)).status for connection in connections] == [408] * 4
        for connection in connections:
            connection.close()
        with socket.create_connection(('127.0.0.1', port), PATIENCE) as again:  # a second one on the same connection
            again.sendall(head('GET', '/health'))
            assert again.recv(1 << 16).startswith(b'HTTP/1.1 200')
            again.sendall(b'GET /hea')
            assert b'HTTP/1.1 408' in rest_of(again)


def test_no_answer_in_time(held):
    with serving(held, answer_seconds=0.2) as (port, service, _):
        held.may.clear()
        late = ask(port, post(photo()))
        assert (late.status, 'retry-after' in late.headers) == (503, True)
        figures = ask(port, head('GET', '/metrics', None, 'Connection: close')).body.decode()
        assert 'http_refused_total{limit="time"} 1\n' in figures
        held.may.set()
        assert service.waiting == 0
    assert service.memory.used == 0


def test_a_network_that_fails_fails_on_that_image_alone(held, caplog):
    with serving(held) as (port, _, _):
        held.failing = True
        failed = ask(port, post(photo()))
        assert (failed.status, 'log' in failed.json['error']) == (500, True)
        held.failing = False
        assert ask(port, post(photo())).status == 200
    assert 'out of order' in caplog.text


def test_stopping_answers_what_is_in_flight_and_on_its_way(held):
    with serving(held) as (port, service, server):
        held.may.clear()
        join = in_threads(lambda _: ask(port, post(photo())).status, 6)
        until(lambda: service.waiting == 6)
        with socket.create_connection(('127.0.0.1', port), PATIENCE) as half:
            whole = post(photo())
            half.sendall(whole[:-10])
            until(lambda: service.memory.used > 6 * len(photo()))
            server.should_exit = True
            until(lambda: all(connection.stopping for connection in server.server_state.connections))
            half.sendall(whole[-10:])
            held.may.set()
            assert Reply(rest_of(half)).status == 200
        assert join() == [200] * 6
        until(lambda: not server.server_state.connections)
        with pytest.raises(OSError):
            socket.create_connection(('127.0.0.1', port), PATIENCE).close()


def test_health_and_metrics(held):
    with serving(held) as (port, service, _):
        healthy = ask(port, head('GET', '/health', None, 'Connection: close'))
        assert (healthy.status, healthy.json['model']) == (200, 'held')
        ask(port, post(photo()))
        ask(port, post(b'nothing'))
        text = ask(port, head('GET', '/metrics', None, 'Connection: close')).body.decode()
        service.worker.close()
        assert ask(port, head('GET', '/health', None, 'Connection: close')).status == 503
        assert ask(port, post(photo())).status == 503
    assert 'http_requests_total{path="/predict",status="200"} 1\n' in text
    assert 'http_requests_total{path="/predict",status="415"} 1\n' in text
    line = re.compile(r'(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)+\})? [\d.e+-]+)')
    assert [wrong for wrong in text.splitlines() if not line.fullmatch(wrong)] == []
    assert int(re.search(r'network_batch_images_count (\d+)', text).group(1)) == 2  # and the one that tried the network


def test_the_page_loads_nothing_from_elsewhere(held):
    with serving(held) as (port, _, _):
        page = ask(port, head('GET', '/', None, 'Connection: close')).body.decode()
    (script,) = re.findall(r'<script>(.*?)</script>', page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'; connect-src 'self'" in page
    assert not re.search(r'(src|href)="?(http|//)|@import|url\(', page)


def test_where_the_network_looked(digits_params):
    from inference.predictor import Predictor

    asked = Predictor(digits_params)
    image = photo('PNG', (50, 40))
    with serving(asked.network, asked.network.net) as (port, _, _):
        said = ask(port, post(image, '/explain')).json
        expected = asked(image)
        assert [row['class'] for row in said['classes']] == [name for name, _ in expected.classes]
        shares = [row['probability'] for row in said['classes']]
        assert shares == pytest.approx([share for _, share in expected.classes], abs=1e-5)
        assert said['shows'] == f'Where the network looked for {expected.label}.'
        picture = Image.open(io.BytesIO(base64.b64decode(said['picture'].partition(',')[2])))
        assert np.asarray(picture).shape == (320, 320, 3)
    with serving(asked.network) as (port, _, _):  # as for an exported network
        said = ask(port, post(image, '/explain')).json
        assert (said['picture'], 'cannot be inspected' in said['shows']) == (None, True)


def test_a_broken_photo_is_named_and_what_is_asked_for_is_taken_here(held):
    with serving(held) as (port, _, _):
        body, kind = form(('a.jpg', photo()), ('b.png', photo('PNG')[:-40]))
        refused = ask(port, post(body, '/predict', kind))
        assert refused.status == 400
        assert re.fullmatch(r'b\.png cannot be read \(.+\); send an intact JPEG or PNG file', refused.json['error']), (
            refused.json
        )
        whole = ask(port, post(b'\xff\xd8\xff'))
        assert (whole.status, 'the image cannot be read' in whole.json['error']) == (400, True)
        assert 'TIFF' not in whole.json['error']
