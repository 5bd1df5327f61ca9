"""Shared by the tests of scoring."""

from collections.abc import Iterator

import pytest
from shop import Shop, running


@pytest.fixture
def shop() -> Iterator[Shop]:
    with running(Shop()) as shop:
        yield shop
