"""Shared by all tests."""

import os

import pytest
from hypothesis import settings
from made import build_shards

os.environ.setdefault("HF_HUB_OFFLINE", "1")
settings.register_profile("prodrec", max_examples=40, deadline=None, derandomize=True)
settings.load_profile("prodrec")


@pytest.fixture(scope="session")
def small_shards(tmp_path_factory) -> str:
    """120 photos of 4 labels in 2 groups."""
    return build_shards(tmp_path_factory.mktemp("shards") / "small", {"red": 40, "green": 36, "blue": 24, "yellow": 20})
