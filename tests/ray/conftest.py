"""One local Ray cluster for all tests of this folder."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def cluster():
    from prodrec.cluster.session import ray_session

    with ray_session():
        yield
