"""Bulk runs on a real Ray, into real stores."""

import csv
import json
import shutil
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import photo, run, write_image_folder
from manifests import write_night
from shop import Shop, running

from prodrec.scoring import Recognizer

TABLES = ("listings", "predictions", "tags", "decisions", "rejects")


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("night")
    photos = sorted(write_image_folder(folder / "photos", {"red": 30, "green": 30, "blue": 30, "yellow": 30}).glob("*/*"))
    return write_night(folder / "listings", photos, 500)


def table(database, name) -> list[tuple]:
    with sqlite3.connect(database) as connection:
        return connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2, 3").fetchall()


def tag(*arguments, capsys) -> dict:
    """What it prints for programs, which is all that goes to stdout."""
    capsys.readouterr()
    assert run("tag", *arguments, "--json", "--workers", "1") == 0
    return json.loads(capsys.readouterr().out)


def counts(summary) -> tuple[int, ...]:
    return tuple(summary[f"rows_{name}"] for name in ("in", "tagged", "skipped", "rejected"))


def test_a_night_is_accounted_for_and_a_second_run_changes_nothing(night, calibrated_bundle, tmp_path, capsys):
    database = tmp_path / "tags.db"
    first = tag(night.manifest, "--to", f"sqlite:///{database}", "--classifier", calibrated_bundle, "--run-id", "one", capsys=capsys)
    rejected = sum(night.codes.values())
    assert counts(first) == (night.rows, night.rows - night.duplicates - rejected, night.duplicates, rejected)
    assert first["listings"] == night.listings == first["accepted"] + first["reviewed"] + first["refused"]
    assert first["status"] == "finished"
    before = {name: table(database, name) for name in TABLES}
    assert len(before["listings"]) == len(before["decisions"]) == night.listings
    with sqlite3.connect(database) as connection:
        assert dict(connection.execute("SELECT code, count(*) FROM rejects GROUP BY code").fetchall()) == night.codes
        assert connection.execute("SELECT count(*) FROM review_queue").fetchone()[0] == first["reviewed"]
        decided = dict(connection.execute("SELECT decision, count(*) FROM current_decisions GROUP BY decision").fetchall())
        assert decided == {name: first[count] for name, count in (("accept", "accepted"), ("review", "reviewed"), ("reject", "refused")) if first[count]}
        assert connection.execute("SELECT count(*) FROM current_rejects").fetchone()[0] == rejected
    again = tag(night.manifest, "--to", f"sqlite:///{database}", "--classifier", calibrated_bundle, "--run-id", "two", capsys=capsys)
    assert counts(again) == (night.rows, 0, night.rows, 0)
    assert {name: table(database, name) for name in TABLES} == before


def test_rows_say_what_the_recognizer_says(night, calibrated_bundle, tmp_path, capsys):
    database = tmp_path / "tags.db"
    tag(night.manifest, "--to", f"sqlite:///{database}", "--classifier", calibrated_bundle, "--limit", "60", capsys=capsys)
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT uri, product, probability, image_sha256 FROM predictions ORDER BY listing_id, image_sha256").fetchall()
        reasons = [reason for (text,) in connection.execute("SELECT reasons FROM decisions") for reason in json.loads(text)]
    assert {reason["uri"] for reason in reasons if reason["image"] is not None} <= {uri for uri, *_ in rows} | {
        uri for _, uri, *_ in csv.reader(night.manifest.open())
    }
    assert any(reason["uri"] for reason in reasons)
    answers = Recognizer.load(classifier=calibrated_bundle).recognize([Path(uri).read_bytes() for uri, *_ in rows])
    assert [(product, sha256) for _, product, _, sha256 in rows] == [(answer.products[0].label, answer.sha256) for answer in answers]
    assert [row[2] for row in rows] == pytest.approx([answer.products[0].probability for answer in answers], abs=1e-3)


def test_a_name_of_a_run_is_used_once_and_embedded_images_are_told_apart(calibrated_bundle, tmp_path, capsys):
    pq.write_table(pa.table({"bytes": [b"no", b"none", photo(0, 1), None], "listing_id": ["a", "a", "a", "b"]}), tmp_path / "m.parquet")
    to = (tmp_path / "m.parquet", "--to", f"sqlite:///{tmp_path / 'tags.db'}", "--classifier", calibrated_bundle, "--run-id", "night")
    assert counts(tag(*to, capsys=capsys)) == (4, 1, 0, 3)
    assert len(table(tmp_path / "tags.db", "rejects")) == 3
    assert run("tag", *to) == 2
    assert "there is a run night already" in capsys.readouterr().err


def test_a_store_that_fails_on_the_way_is_one_clear_line(calibrated_bundle, tmp_path, capsys):
    folder = write_image_folder(tmp_path / "photos", {"red": 3})
    database = tmp_path / "tags.db"
    assert run("tag", folder, "--to", f"sqlite:///{database}", "--classifier", calibrated_bundle, "--limit", "1") == 0
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TABLE decisions")
    capsys.readouterr()
    assert run("tag", folder, "--to", f"sqlite:///{database}", "--classifier", calibrated_bundle) in (1, 2)
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("prodrec:")]
    assert len(error) == 1
    assert "decisions" in error[0]


def test_changed_listings_alone_are_scored_again(calibrated_bundle, tmp_path, capsys):
    folder = write_image_folder(tmp_path / "photos", {"red": 3, "green": 3})
    to = ("--to", f"sqlite:///{tmp_path / 'tags.db'}", "--classifier", calibrated_bundle)
    assert counts(tag(folder, *to, capsys=capsys)) == (6, 6, 0, 0)
    (folder / "red" / "000.jpg").write_bytes(photo(3, 9))
    (folder / "green" / "001.jpg").write_bytes(b"broken")
    assert counts(tag(folder, *to, "--run-id", "second", capsys=capsys)) == (6, 1, 4, 1)
    rows = {row[0]: row for row in table(tmp_path / "tags.db", "listings")}
    assert {listing for listing, row in rows.items() if "second" in row} == {"red/000.jpg", "green/001.jpg"}
    policy = tmp_path / "policy.yaml"
    policy.write_text("photo: {too_small: {action: off}}")
    assert counts(tag(folder, *to, "--policy", policy, capsys=capsys)) == (6, 5, 0, 1)


def test_a_server_that_is_down_undoes_nothing(calibrated_bundle, tmp_path, capsys):
    with running(Shop()) as shop:
        shop.answers |= {f"/{number}.jpg": lambda asked, number=number: asked.send(200, photo(number, 70)) for number in range(4)}
        (tmp_path / "m.csv").write_text("uri\n" + "".join(shop.uri(f"/{number}.jpg") + "\n" for number in range(4)))
        to = ("--to", f"sqlite:///{tmp_path / 'tags.db'}", "--classifier", calibrated_bundle, "--allow-host", "127.0.0.1", "--allow-http", "--allow-private")
        assert counts(tag(tmp_path / "m.csv", *to, capsys=capsys)) == (4, 4, 0, 0)
        before = table(tmp_path / "tags.db", "listings")
        shop.answers["/2.jpg"] = lambda asked: asked.send(404)
        shop.answers["/3.jpg"] = lambda asked: asked.send(200, b"no image")
        for number in range(2):
            shop.answers[f"/{number}.jpg"] = lambda asked: asked.send(500)
        assert counts(tag(tmp_path / "m.csv", *to, "--run-id", "down", capsys=capsys)) == (4, 0, 0, 4)
    after = table(tmp_path / "tags.db", "listings")
    assert after[:2] == before[:2]
    assert all("down" in row for row in after[2:])


def test_parquet_says_the_same_as_sql(night, calibrated_bundle, tmp_path, capsys):
    said = ("--classifier", calibrated_bundle, "--run-id", "r", "--limit", "120")
    to_sql = tag(night.manifest, "--to", f"sqlite:///{tmp_path / 'tags.db'}", *said, capsys=capsys)
    to_files = tag(night.manifest, "--to", tmp_path / "tags", *said, capsys=capsys)
    assert counts(to_sql) == counts(to_files)
    for name in TABLES:
        files = sorted((tmp_path / "tags" / name).rglob("*.parquet"))
        rows = [tuple(row.values()) for file in files for row in pq.ParquetFile(file).read().to_pylist()]
        assert sorted(map(repr, rows)) == sorted(map(repr, table(tmp_path / "tags.db", name))), name
    again = tag(night.manifest, "--to", tmp_path / "tags", "--classifier", calibrated_bundle, "--limit", "120", capsys=capsys)
    assert counts(again)[1:] == (0, counts(again)[0], 0)


def test_a_dry_run_measures_and_writes_nothing(night, calibrated_bundle, tmp_path, capsys):
    arguments = ("tag", night.manifest, "--to", f"sqlite:///{tmp_path / 'tags.db'}", "--classifier", calibrated_bundle)
    assert run(*arguments, "--dry-run", "--price-per-hour", "3", "--workers", "2") == 0
    out = capsys.readouterr().out
    assert "nothing was written" in out
    assert f"{night.rows - night.duplicates:,} images: 0:0" in out
    assert "on 2 cores" in out
    assert not (tmp_path / "tags.db").exists()


def test_out_of_a_database(night, calibrated_bundle, tmp_path, capsys):
    source = tmp_path / "shop.db"
    photos = [(str(number), str(path), None) for number, path in enumerate(sorted(night.manifest.parent.parent.glob("photos/*/*"))[:20])]
    with sqlite3.connect(source) as connection:
        connection.execute("CREATE TABLE photos (id TEXT, path TEXT, category TEXT)")
        connection.executemany("INSERT INTO photos VALUES (?, ?, ?)", photos)
    to = ("--to", f"sqlite:///{tmp_path / 'tags.db'}", "--classifier", calibrated_bundle)
    query = "SELECT id AS listing_id, path AS uri, category FROM photos"
    assert counts(tag(f"sqlite:///{source}", "--query", query, *to, capsys=capsys)) == (20, 20, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("{night}", "--to", "nosuchdb://x/y", "--classifier", "{bundle}"), "nosuchdb"),
        (("{night}", "--to", "sqlite:///{tmp}/t.db"), "nothing to tag with"),
        (("{night}", "--to", "sqlite:///{tmp}/t.db", "--classifier", "{tmp}"), "is no complete bundle"),
        (("{night}", "--to", "sqlite:///{tmp}/t.db", "--tagger", "{bundle}"), "kind 'classifier', expected tagger"),
        (("{tmp}/gone.csv", "--to", "sqlite:///{tmp}/t.db", "--classifier", "{bundle}"), "does not exist"),
        (("sqlite:///{tmp}/x.db", "--to", "sqlite:///{tmp}/t.db", "--classifier", "{bundle}"), "needs --query"),
        (("sqlite:///{tmp}/x.db", "--query", "SELECT 1 AS uri FROM gone", "--to", "sqlite:///{tmp}/t.db", "--classifier", "{bundle}"), "x.db does not exist"),
        (("{night}", "--to", "sqlite:///{tmp}/t.db", "--classifier", "{bundle}", "--policy", "{tmp}/p.yaml"), "cannot read the policy"),
        (("postgres://shop:geheim@127.0.0.1:9/x", "--to", "sqlite:///{tmp}/t.db", "--classifier", "{bundle}"), "needs --query"),
        (("s3://KEY:geheim@no-such-bucket/x?region=nowhere&endpoint_override=127.0.0.1:9", "--to", "{tmp}/t", "--classifier", "{bundle}"), "s3://KEY:***@"),
        (("{night}", "--to", "sqlite:///{tmp}/t.db", "--classifier", "{cut}"), "was changed or cut short"),
        (("{night}", "--to", "sqlite:///{tmp}/t.db", "--classifier", "{other}"), "the weights do not fit the architecture"),  # which a scoring process finds
        (("{night}", "--to", "sqlite:///{tmp}/t.db", "--classifier", "{bundle}", "--allow-host", "https://x.example"), "--allow-host"),
        (("{night}", "--to", "sqlite:///{tmp}/t.db", "--classifier", "{bundle}", "--gpu"), "there is no GPU"),
    ],
)
def test_bad_commands_are_one_clear_line(night, calibrated_bundle, tmp_path, capsys, arguments, told):
    cut, other = tmp_path / "cut", tmp_path / "other"
    for folder in (cut, other):
        shutil.copytree(calibrated_bundle, folder)
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-9])
    said = json.loads((other / "bundle.json").read_text())
    said["model"]["args"] = {"grid": 2}
    (other / "bundle.json").write_text(json.dumps(said))
    names = {"night": night.manifest, "bundle": calibrated_bundle, "tmp": tmp_path, "cut": cut, "other": other}
    assert run("tag", *(argument.format(**names) for argument in arguments)) == 2
    error = capsys.readouterr().err
    told_us = [line for line in error.splitlines() if not line.startswith("starting Ray")]
    assert len(told_us) == 1, told_us
    assert told in told_us[0]
    assert "geheim" not in error
