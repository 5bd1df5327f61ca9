"""One head node for all tests of this folder."""

import shutil
import tempfile

import pytest
from head_node import Cluster


@pytest.fixture(scope="package")
def cluster(tmp_path_factory):
    # Directly under /tmp: Ray makes sockets below it, and a socket's path holds 107 bytes.
    temp = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    started = Cluster(tmp_path_factory.mktemp("home"), temp)
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.stop()
        shutil.rmtree(temp, ignore_errors=True)
