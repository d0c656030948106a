"""Runs the service on a free port of loopback, for clients that need a server."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ml_assets.serving.app import Application
from ml_assets.serving.server import Address, bound_socket, http_server


@contextmanager
def running(application: Application) -> Iterator[int]:
    """Run the server in a thread, and return its port."""
    listening = bound_socket(Address("127.0.0.1", 0))
    server = http_server(application)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
