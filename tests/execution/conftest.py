"""An edge server in a thread: real TCP, but one process."""

import threading

import pytest
from executed import build

from mec_gym.execution.device import EdgeConnection
from mec_gym.execution.edge import LOOPBACK, listen, serve


@pytest.fixture(scope="session")
def network():
    return build()


class Served:
    """A server with what it has said."""

    def __init__(self, network, devices=1):
        self.listener = listen(LOOPBACK, 0)
        self.host, self.port = self.listener.getsockname()
        self.said = []
        self.thread = threading.Thread(
            target=serve, args=(self.listener, network, devices, self.said.append), daemon=True
        )
        self.thread.start()

    def ended(self):
        self.thread.join(10)
        return not self.thread.is_alive()


@pytest.fixture
def serving(network):
    return lambda served=network, devices=1: Served(served, devices)


@pytest.fixture
def edge(network, serving):
    server = serving()
    connection = EdgeConnection(server.host, server.port, network.split.digest)
    yield connection
    connection.close()
    assert server.ended()
