"""One local Ray cluster for all tests of this folder."""

import os

import pytest

# Tests share the machine with nobody: Ray's workers need not step back for other programs.
os.environ.setdefault("RAY_worker_niceness", "0")


@pytest.fixture(scope="session", autouse=True)
def cluster():
    from prodrec.cluster.session import ray_session

    with ray_session():
        yield
