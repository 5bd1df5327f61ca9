"""Stores of each kind, empty and started."""

import itertools
from collections.abc import Iterator

import pytest
from made_listings import RUN
from postgres import Postgres

from prodrec.catalog import Store, open_store
from prodrec.catalog.sql_store import SqlStore

KINDS = ("sqlite", "portable", "postgresql", "parquet")
_numbers = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with Postgres() as postgres:
        yield postgres


@pytest.fixture
def database(server) -> str:
    """URL of an empty PostgreSQL database."""
    return server.create_database(f"test_{next(_numbers)}")


def url_of(kind: str, request: pytest.FixtureRequest) -> str:
    folder = request.getfixturevalue("tmp_path")
    urls = {"sqlite": f"sqlite:///{folder}/made/tags.db", "portable": f"sqlite:///{folder}/made/tags.db", "parquet": str(folder / "tags")}
    return urls.get(kind) or request.getfixturevalue("database")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request) -> str:
    return url_of(request.param, request)


@pytest.fixture(params=KINDS)
def store(request) -> Iterator[Store]:
    """A started store of each kind."""
    yield from _started(request)


@pytest.fixture(params=[kind for kind in KINDS if kind != "parquet"])
def sql_store(request) -> Iterator[Store]:
    """A started store of each kind that has views."""
    yield from _started(request)


def _started(request: pytest.FixtureRequest) -> Iterator[Store]:
    url = url_of(request.param, request)
    with SqlStore(url, 60, portable=True) if request.param == "portable" else open_store(url, 60) as opened:
        opened.start(RUN)
        yield opened
