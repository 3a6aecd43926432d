"""Serve a trained network over HTTP: images in, JSON out. Needs the extra `serve`.

limits.py       limits of sizes, counts and times, and the memory that requests share
worker.py       the thread that owns the network, and its queue
metrics.py      counts and times for Prometheus
form.py         files in multipart/form-data
requests.py     reads bodies and checks images, within the limits
asking.py       what the worker's thread does with images: predictions, and pictures of them
application.py  the routes
page.py         the page to drop photos onto
protocol.py     connections: how long they may take, and how many there may be
server.py       runs it all on a socket until a signal arrives
"""
