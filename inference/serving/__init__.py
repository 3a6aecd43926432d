"""A trained network behind HTTP: images in, JSON out. Needs the extra `serve`.

limits.py       how much, how many, how long; the memory that requests share
worker.py       the thread that owns the network, and the queue before it
metrics.py      counts and times, as Prometheus reads them
form.py         files in multipart/form-data
requests.py     bodies read and images checked, within the limits
asking.py       what the thread does with images: answers, and pictures of them
application.py  the routes
page.py         the page that a photo is dropped on
protocol.py     connections: how long they may take, how many there are
server.py       all of it on a socket, until a signal comes
"""
