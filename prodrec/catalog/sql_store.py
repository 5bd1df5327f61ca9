"""The store in a database: SQLite, PostgreSQL, or any other that SQLAlchemy speaks to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pyarrow as pa
from sqlalchemy import URL, Connection, Engine, Select, and_, create_engine, delete, event, exists, inspect, select
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from prodrec.catalog.patience import persist
from prodrec.catalog.records import Known, RunRecord, batch_rows, resumable, run_of
from prodrec.catalog.tables import DECISIONS, LISTINGS, PREDICTIONS, REJECTS, RUNS, TAGS, clean_text, conform, rows_table
from prodrec.catalog.upsert import BULK, PORTABLE
from prodrec.catalog.urls import database_url
from prodrec.errors import StoreSetupError, shown_url
from prodrec.files import writing

# How long SQLite itself waits for another process's write. Source: assumed; a batch is written in milliseconds.
SQLITE_BUSY_S = 60.0
# Of SQLite's pages in memory: ids come in any order, so that pages of the keys' indexes are met again and again. Source: assumed.
SQLITE_CACHE_KIB = 65_536
# Values in one IN list. Source: SQLite takes 32,766 (SQLITE_MAX_VARIABLE_NUMBER), SQL Server 2,100.
IN_LIST = 1_000
# A machine that vanished without a word is noticed after a minute, not after the two hours that TCP takes by itself.
# Source: libpq's parameters (PostgreSQL manual 34.1.2), in seconds and milliseconds; the values are assumed.
_POSTGRES_OPTIONS = {
    "client_encoding": "utf8",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

T = TypeVar("T")


class SqlStore:
    """See `prodrec.catalog.records.Store`.

    Args:
        url: of the database.
        patience_s: how long `known`, `write` and `finish` wait for a database that is away.
        portable: write by the means that every database has, also where there are faster ones.

    Raises:
        StoreSetupError: the URL is wrong, or its driver is not installed.
    """

    def __init__(self, url: str, patience_s: float, portable: bool = False) -> None:
        parsed = database_url(url)
        self.url = parsed.render_as_string(hide_password=False)
        self._patience_s = patience_s
        self._file = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
        self._engine = _engine(parsed)
        self._bulk = PORTABLE if portable else BULK.get(self._engine.dialect.name, PORTABLE)

    def start(self, run: RunRecord) -> None:
        # Alembic takes tenths of a second to import, and workers do without.
        from prodrec.catalog.schema import migrate

        def work(connection: Connection) -> None:
            migrate(connection)
            self._put(connection, run)

        if self._file:
            with writing(str(self._file.parent)):
                self._file.parent.mkdir(parents=True, exist_ok=True)
        self._write(work, opening=True)

    def finish(self, run: RunRecord) -> None:
        self._write(lambda connection: self._put(connection, run))

    def unfinished(self, input: str, bundle_id: str, policy_id: str) -> RunRecord | None:
        latest = self._run(select(RUNS).where(RUNS.c.input == clean_text(shown_url(input))).order_by(RUNS.c.started.desc(), RUNS.c.run_id.desc()).limit(1))
        return resumable(latest, bundle_id, policy_id)

    def run(self, run_id: str) -> RunRecord | None:
        return self._run(select(RUNS).where(RUNS.c.run_id == run_id))

    def known(self, listing_ids: Sequence[str]) -> dict[str, Known]:
        wanted = {clean_text(listing_id): listing_id for listing_id in listing_ids}

        def work(connection: Connection) -> dict[str, Known]:
            return {wanted[row[0]]: Known._make([*row[1:-1], row[-1] or ""]) for part in _parts(list(wanted)) for row in connection.execute(_known(part))}

        return self._read(work)

    def write(self, tables: Mapping[str, pa.Table]) -> None:
        rows = batch_rows(tables)
        run_id, parts = run_of(rows["listings"]), list(_parts(rows["listings"]["listing_id"].to_pylist()))
        self._write(lambda connection: self._write_batch(connection, rows, run_id, parts))

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _write_batch(self, connection: Connection, rows: Mapping[str, pa.Table], run_id: str, parts: list[list[str]]) -> None:
        # The listings first: their rows are the lock that a second writer of the same listings waits at, in key order. All that
        # follows then sees what the first one wrote.
        self._bulk.replace(connection, LISTINGS, rows["listings"])
        for table in (PREDICTIONS, DECISIONS, REJECTS):
            for part in parts:
                # As an expression, run_id's index does not come into question: through it each batch would walk through all
                # that the run has written, as databases believe that a run which they have not yet counted has few rows.
                connection.execute(delete(table).where(table.c.listing_id.in_(part), table.c.run_id + "" == run_id))
            if rows[table.name].num_rows:
                self._bulk.replace(connection, table, rows[table.name])
        # Tags stay only with a prediction that another run wrote.
        owner = and_(*[PREDICTIONS.c[name] == TAGS.c[name] for name in ("listing_id", "image_sha256", "bundle_id")], PREDICTIONS.c.run_id != run_id)
        for part in parts:
            connection.execute(delete(TAGS).where(TAGS.c.listing_id.in_(part), ~exists().where(owner)))
        if rows["tags"].num_rows:
            self._bulk.append(connection, TAGS, rows["tags"])

    def _put(self, connection: Connection, run: RunRecord) -> None:
        row = run.model_dump() | {"input": shown_url(run.input)}
        self._bulk.replace(connection, RUNS, conform(RUNS.name, rows_table(RUNS.name, [row])))

    def _run(self, query: Select[Any]) -> RunRecord | None:
        def work(connection: Connection) -> RunRecord | None:
            # An older prodrec's table has fewer columns until the next `start`; where there is none, there is no run.
            there = {column["name"] for column in inspect(connection).get_columns(RUNS.name)} if inspect(connection).has_table(RUNS.name) else set()
            found = connection.execute(query.with_only_columns(*[column for column in RUNS.c if column.name in there])).mappings().first() if there else None
            return RunRecord(**found) if found else None

        # SQLite would make an empty file.
        return None if self._file and not self._file.exists() else self._read(work, opening=True)

    def _read(self, work: Callable[[Connection], T], opening: bool = False) -> T:
        def attempt() -> T:
            with self._engine.begin() as connection:
                return work(connection)

        return persist(attempt, self._patience_s, self.url, opening)

    def _write(self, work: Callable[[Connection], T], opening: bool = False) -> T:
        def attempt() -> T:
            with self._engine.execution_options(writes=True).begin() as connection:
                return work(connection)

        return persist(attempt, self._patience_s, self.url, opening)


def _known(listing_ids: list[str]) -> Select[Any]:
    decided = and_(*[DECISIONS.c[name] == LISTINGS.c[name] for name in ("listing_id", "bundle_id", "policy_id", "content_sha256", "run_id")])
    columns = [LISTINGS.c[name] for name in ("listing_id", *Known._fields[:-1])]
    return select(*columns, DECISIONS.c.decision).outerjoin_from(LISTINGS, DECISIONS, decided).where(LISTINGS.c.listing_id.in_(listing_ids))


def _parts(listing_ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(listing_ids), IN_LIST):
        yield listing_ids[start : start + IN_LIST]


def _engine(url: URL) -> Engine:
    try:
        if url.get_backend_name() == "sqlite":
            return _sqlite_engine(url)
        if url.get_backend_name() == "postgresql":
            return _postgres_engine(url)
        return create_engine(url)
    except (ArgumentError, NoSuchModuleError) as error:
        raise StoreSetupError(f"{shown_url(str(url))} is no database that SQLAlchemy knows; write postgresql:// or sqlite:///, or name a folder") from error
    except ImportError as error:
        raise StoreSetupError(f"the driver of {url.drivername} is not installed: {error}; install it, or use postgresql:// or sqlite:///") from error


def _postgres_engine(url: URL) -> Engine:
    options = {name: value for name, value in _POSTGRES_OPTIONS.items() if name not in url.query}
    engine = create_engine(url, connect_args=options, isolation_level="READ COMMITTED")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        # All that is asked goes by keys. Of tables that it has not analysed yet PostgreSQL believes that 200 ids are all of
        # them and reads the whole table: a first run would get slower with every batch.
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")

    return engine


def _sqlite_engine(url: URL) -> Engine:
    """Readers and one writer at a time work at once (WAL); a writer takes its lock at the beginning, so that none fails half-way."""
    engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_S})

    @event.listens_for(engine, "connect")
    def connected(driver: Any, _record: object) -> None:
        # SQLAlchemy begins transactions below, instead of sqlite3 before the first change.
        driver.isolation_level = None
        # NORMAL: a power cut may take the last batches, never parts of one; the next run writes them again.
        for setting in ("journal_mode=WAL", "synchronous=NORMAL", f"cache_size=-{SQLITE_CACHE_KIB}"):
            driver.execute(f"PRAGMA {setting}").close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")

    return engine
