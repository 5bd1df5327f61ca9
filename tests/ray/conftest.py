"""One local Ray cluster for all tests of this folder."""

import os
from pathlib import Path

import pytest

# Tests share the machine with nobody: Ray's workers need not step back for other programs.
os.environ.setdefault("RAY_worker_niceness", "0")
# An actor of a test is found by its module, which imports what lies beside this folder.
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(scope="package", autouse=True)
def cluster():
    from prodrec.cluster.session import ray_session

    with ray_session():
        yield
