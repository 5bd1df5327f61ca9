"""Making the schema, and places that cannot be used."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from made_listings import RUN, batch
from sqlalchemy import create_engine, inspect, text

import prodrec.catalog
from prodrec.catalog import RunRecord, open_store, shown_url
from prodrec.catalog.export import decisions_csv
from prodrec.catalog.schema import VERSION_TABLE
from prodrec.catalog.tables import METADATA, RUNS, clean_text
from prodrec.errors import StoreError, StoreSetupError


def execute(url, statement):
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def downgrade(url, revision):
    config, engine = Config(), create_engine(url)
    config.set_main_option("script_location", str(Path(prodrec.catalog.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    engine.dispose()


def test_the_migrated_schema_is_the_declared_one(database_url):
    with open_store(database_url) as store:
        store.start(RUN)
        store.start(RUN)
    engine = create_engine(database_url)
    with engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), METADATA) == []
        assert sorted(inspect(connection).get_view_names()) == ["current_decisions", "current_rejects", "current_tags", "review_queue"]
        for name, table in METADATA.tables.items():
            key = inspect(connection).get_pk_constraint(name)["constrained_columns"]
            assert key == [column.name for column in table.primary_key.columns]
    engine.dispose()


def test_a_run_record_is_a_row_of_runs():
    assert list(RunRecord.model_fields) == [column.name for column in RUNS.columns]


def test_processes_that_start_at_once_make_one_schema(database_url):
    code = "import sys; from made_listings import RUN; from prodrec.catalog import open_store; open_store(sys.argv[1], 60).start(RUN)"
    environment = {"PYTHONPATH": "tests", "OMP_NUM_THREADS": "1", "PATH": ""}
    processes = [subprocess.Popen([sys.executable, "-c", code, database_url], env=environment, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    with open_store(database_url) as store:
        assert store.run("run-1") == RUN


def test_a_store_of_a_newer_prodrec_is_left_alone(database_url):
    with open_store(database_url) as store:
        store.start(RUN)
        execute(store.url, f"UPDATE {VERSION_TABLE} SET version_num = '0099'")
        with pytest.raises(StoreSetupError, match=r"newer prodrec \(schema 0099; this one knows up to 0003\)"):
            store.start(RUN.model_copy(update={"run_id": "run-2"}))
        assert store.run("run-2") is None


def test_a_store_of_an_older_prodrec_is_read_as_it_is_and_migrated_by_the_next_run(database_url):
    with open_store(database_url) as store:
        store.start(RUN)
        downgrade(database_url, "0001")
    with open_store(database_url) as store:
        assert store.run("run-1") == RUN
        assert store.unfinished(RUN.input, RUN.bundle_id, RUN.policy_id) == RUN
        failed = RUN.model_copy(update={"status": "failed", "detail": "a reason"})
        store.start(RUN)
        store.finish(failed)
        assert store.run("run-1") == failed
    engine = create_engine(database_url)
    with engine.connect() as connection:
        for view, column in (
            ("current_tags", "title"),
            ("current_tags", "product_title"),
            ("current_decisions", "product_title"),
            ("review_queue", "product_title"),
        ):
            assert column in {found["name"] for found in inspect(connection).get_columns(view)}
    engine.dispose()


def test_decisions_of_a_store_of_an_older_prodrec_are_exported(database_url):
    with open_store(database_url) as store:
        store.start(RUN)
        store.write(batch(["a"]))
    downgrade(database_url, "0002")
    (row,) = csv.DictReader(io.StringIO(b"".join(decisions_csv(database_url, RUN, "/srv")).decode(), newline=""))
    assert (row["listing_id"], row["product"], row["product_title"]) == ("a", "mug", "")


def test_what_was_granted_on_views_and_what_reads_them_stays_when_a_store_is_migrated(server, database):
    with open_store(database) as store:
        store.start(RUN)
        downgrade(database, "0002")
        execute(database, "CREATE VIEW theirs AS SELECT listing_id, product FROM review_queue")
        execute(database, "CREATE ROLE reader LOGIN PASSWORD 'not-to-be-shown'")
        execute(database, "GRANT SELECT ON current_tags, current_decisions, review_queue, theirs TO reader")
        store.start(RUN)
    execute(database.replace("prodrec:", "reader:"), "SELECT title FROM current_tags; SELECT product_title FROM review_queue; SELECT product FROM theirs")


def test_another_programs_tables_and_migrations_stay(database_url, tmp_path):
    (tmp_path / "made").mkdir(exist_ok=True)
    execute(database_url, "CREATE TABLE alembic_version (version_num VARCHAR(32))")
    execute(database_url, "INSERT INTO alembic_version VALUES ('theirs')")
    with open_store(database_url) as store:
        store.start(RUN)
        assert store.run("run-1") == RUN


def clear_line(error):
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)
    assert "not-to-be-shown" not in str(error.value)
    assert "hidden-word" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nosuch://me:hidden-word@host/db", "nosuch.*write postgresql://"),
        ("mysql://me:hidden-word@host/db", "driver of mysql is not installed"),
        ("postgresql://me:hidden-word@host:port/db", "no database URL"),
        ("://", "no database URL"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("tags.db", "sqlite:///tags.db"),
        ("s3://key:hidden-word@", "cannot"),
        ("postgresql://me:hidden-word@127.0.0.1:1/db", r"me:\*\*\*@127.0.0.1:1/db.*refused.*check its URL"),
        ("postgresql://me:hidden-word@nowhere.invalid/db", "nowhere.invalid"),
        ("sqlite:////proc/tags.db", "/proc"),
        ("/proc/tags", "cannot write /proc/tags"),
    ],
)
def test_a_wrong_url_is_one_clear_line(url, words):
    with pytest.raises(StoreSetupError, match=words) as error:
        open_store(url).start(RUN)
    clear_line(error)


@pytest.mark.parametrize(("old", "new", "words"), [("prodrec:", "nobody:", "password authentication failed"), ("/test_", "/nosuch_", "does not exist")])
def test_a_login_that_fails_is_one_clear_line(database, old, new, words):
    url = database.replace(old, new)
    for work in (lambda: open_store(url).start(RUN), lambda: open_store(url).unfinished("x", "y", "z")):
        with pytest.raises(StoreSetupError, match=words) as error:
            work()
        clear_line(error)


def test_missing_rights_are_one_clear_line(server, database):
    server.execute("DROP ROLE IF EXISTS guest")
    server.execute("CREATE ROLE guest LOGIN PASSWORD 'not-to-be-shown'")
    guest = database.replace("prodrec:", "guest:")
    with pytest.raises(StoreSetupError, match="permission denied for schema public") as error:
        open_store(guest).start(RUN)
    clear_line(error)
    open_store(database).start(RUN)
    with pytest.raises(StoreSetupError, match="permission denied for table listings") as error:
        open_store(guest).write(batch(["a"]))
    clear_line(error)


def test_a_file_that_is_no_database_is_one_clear_line(tmp_path):
    (tmp_path / "tags.txt").write_text("no database" * 1000)
    with pytest.raises(StoreSetupError, match="not a database") as error:
        open_store(f"sqlite:///{tmp_path}/tags.txt").start(RUN)
    clear_line(error)
    with pytest.raises(StoreSetupError, match="is no folder") as error:
        open_store(str(tmp_path / "tags.txt"))
    clear_line(error)


def test_writing_before_the_run_was_started_is_told(tmp_path, database_url):
    (tmp_path / "made").mkdir(exist_ok=True)
    with pytest.raises(StoreError, match="listings"):
        open_store(database_url).write(batch(["a"]))
    with pytest.raises(ValueError, match="was not started"):
        open_store(str(tmp_path / "folder")).write(batch(["a"]))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:p@ss:w/ord@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql://me@host/db?password=x&sslmode=require", "postgresql://me@host/db?password=***&sslmode=require"),
        ("sqlite:////data/tags.db", "sqlite:////data/tags.db"),
        ("s3://bucket/tags", "s3://bucket/tags"),
        ("/data/a:b@c", "/data/a:b@c"),
    ],
)
def test_shown_urls_hide_passwords_and_nothing_else(url, shown):
    assert shown_url(url) == shown


def test_clean_text():
    assert clean_text("plain") == "plain"
    assert clean_text("a\0b\ud800c") == "a\ufffdb\ufffdc"
    assert clean_text("\ud83d\ude00") == "😀"
