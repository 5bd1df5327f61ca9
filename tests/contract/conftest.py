"""One server for each test file that asks the HTTP application."""

import pytest
from web_server import app_of, listening


@pytest.fixture(scope="module")
def server(calibrated_bundle):
    with listening(app_of(calibrated_bundle)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client
