"""One suite for every kind of store: what is written, and written again."""

import pyarrow as pa
import pytest
from made_listings import RUN, batch, contents, images_of, listing_ids, sha, view

from prodrec.catalog import Known, clean_text, open_store, rows_table, storable_id

NEXT = RUN.model_copy(update={"run_id": "run-2", "started": "2026-11-21T01:00:00Z", "run_date": "2026-11-21"})
COUNTS = {"listings": 200, "predictions": 400, "tags": 600, "decisions": 200, "rejects": 200}


def counts(store):
    return {name: len(rows) for name, rows in contents(store).items()}


def test_writing_twice_is_writing_once(store):
    store.write(batch(listing_ids(0, 200)))
    once = contents(store)
    assert {name: len(rows) for name, rows in once.items()} == COUNTS
    store.write(batch(listing_ids(0, 200)))
    assert contents(store) == once


def test_what_is_written_is_what_was_given(store):
    store.write(batch(["a"]))
    held = contents(store)
    content = {"content_sha256": sha("a"), "bundle_id": "bundle-1", "policy_id": "policy-1", "run_id": "run-1"}
    declared = {"category": "Küche ☕", "brand": None, "price": 9.5, "input_sha256": sha("a")}
    assert held["listings"] == [{"listing_id": "a", "images_tagged": 2, "images_rejected": 1} | content | declared]
    assert [row["phash"] for row in sorted(held["predictions"], key=lambda row: row["uri"])] == [-1, -2]
    assert held["tags"][0].items() >= {"tag_no": 0, "label": "cup", "score": 0.5, "x1": 1.0, "y1": 2.0, "x2": 30.5, "y2": 40.0}.items()
    assert held["decisions"][0].items() >= {"decision": "accept", "reasons": '["low"]', "product": "mug", "probability": 0.75}.items()
    assert held["rejects"][0].items() >= {"uri": "s3://shop/a/broken.jpg", "uri_sha256": sha("s3://shop/a/broken.jpg")}.items()


def test_a_retry_that_finds_less_leaves_nothing_of_the_first_try(store):
    store.write(batch(["a", "b"], tags=8))
    less = batch(["a", "b"], tags=3)
    one_image = {"predictions": less["predictions"].slice(0, 1), "tags": less["tags"].slice(0, 1)}
    store.write({"listings": less["listings"], "decisions": less["decisions"], **one_image})
    assert counts(store) == {"listings": 2, "predictions": 1, "tags": 1, "decisions": 2, "rejects": 0}


def test_a_batch_may_leave_tables_out_but_not_be_empty(store):
    store.write({"listings": batch(["a"])["listings"]})
    assert counts(store) == {"listings": 1, "predictions": 0, "tags": 0, "decisions": 0, "rejects": 0}
    assert store.known(["a"])["a"].decision == ""
    with pytest.raises(ValueError, match="at least one listing"):
        store.write({"tags": batch(["a"])["tags"]})


def test_known_tells_the_latest_state(store):
    assert store.known(["listing-000001"]) == {}
    with open_store(store.url) as writer:
        writer.write(batch(listing_ids(0, 20)))
        writer.start(NEXT)
        writer.write(batch(listing_ids(5, 2), NEXT, version="new", decision="review"))
    with open_store(store.url) as reader:
        known = reader.known(["listing-000004", "listing-000005", "never seen", ""])
    old, new = (sha("listing-000004"), sha("listing-000004")), (sha("listing-000005"), sha("listing-000005new"))
    assert known == {
        "listing-000004": Known(*old, "bundle-1", "policy-1", "run-1", 2, 1, "accept"),
        "listing-000005": Known(*new, "bundle-1", "policy-1", "run-2", 2, 1, "review"),
    }


def test_known_takes_any_number_of_ids(store):
    store.write(batch(listing_ids(0, 10)))
    assert len(store.known(listing_ids(0, 40_000))) == 10
    assert store.known([]) == {}


def test_older_images_stay_as_history_and_leave_the_views(sql_store):
    sql_store.write(batch(["a", "b"], version="old", decision="review"))
    sql_store.start(NEXT)
    sql_store.write(batch(["a"], NEXT, tags=2, version="new", decision="review"))
    assert counts(sql_store) == {"listings": 2, "predictions": 6, "tags": 8, "decisions": 3, "rejects": 3}
    tags = view(sql_store, "current_tags")
    assert {row["image_sha256"] for row in tags if row["listing_id"] == "a"} == set(images_of("a", "new"))
    assert [row["listing_id"] for row in tags] == ["a", "a", "b", "b", "b"]
    assert tags[0].items() >= {"width": 640, "height": 480, "product": "mug", "label": "cup", "decision": "review", "run_id": "run-2"}.items()
    queue = view(sql_store, "review_queue")
    assert [row["uris"] for row in queue] == [[f"s3://shop/{a}/{v}{name}.jpg" for name in (0, 1, "broken")] for a, v in (("a", "new"), ("b", "old"))]
    assert queue[0].items() >= {"reasons": '["low"]', "product": "mug", "probability": 0.75, "category": "Küche ☕"}.items()


def test_the_same_image_in_the_next_run_replaces_its_tags_as_a_whole(sql_store):
    sql_store.write(batch(["a"], tags=6))
    sql_store.write(batch(["a"], NEXT, tags=2))
    assert counts(sql_store) == {"listings": 1, "predictions": 2, "tags": 2, "decisions": 1, "rejects": 1}
    assert len(view(sql_store, "current_tags")) == 2


def test_accepted_listings_are_not_in_the_queue(sql_store):
    sql_store.write(batch(["a"], decision="review"))
    sql_store.write(batch(["a", "b"], NEXT))
    assert view(sql_store, "review_queue") == []


# A data: URI of 100,000 bytes that does not compress: an index entry of PostgreSQL holds 2,700.
LONG = "data:," + "".join(sha(str(n)) for n in range(1600))


def test_any_text_goes_in_and_comes_out_clean(store):
    uris = ["", LONG, LONG + "!", "nul\0", "lone \ud800 surrogate", "😀\u2028\"quoted\",\n\\.\n'a'\t\\N NULL", "NULL", "\\N", "\r\n"]
    listing_id = "\0ß\udfff"
    rows = batch([listing_id])
    own = {"listing_id": listing_id, "bundle_id": "bundle-1", "run_id": "run-1"}
    rows["rejects"] = rows_table("rejects", [own | {"uri": uri, "code": "missing", "detail": uri} for uri in uris] + [own | {"uri": "", "code": "missing"}])
    store.write(rows)
    store.write(rows)
    held = contents(store)
    assert {row["uri"] for row in held["rejects"]} == {clean_text(uri) for uri in uris}
    assert all(row["detail"] == row["uri"] for row in held["rejects"])
    assert held["listings"][0]["listing_id"] == "\ufffdß\ufffd"
    with open_store(store.url) as reader:
        assert list(reader.known([listing_id])) == [listing_id]


def test_text_that_came_in_arrow_is_cleaned_too(store):
    rows = batch(["a"])
    at = rows["rejects"].column_names.index("detail")
    rows["rejects"] = rows["rejects"].set_column(at, "detail", pa.array(["nul\0"])).drop_columns(["uri_sha256"])
    store.write(rows)
    assert [row["detail"] for row in contents(store)["rejects"]] == ["nul\ufffd"]


def test_numbers_that_are_none_become_null(store):
    rows = {name: table.to_pylist() for name, table in batch(["a"]).items()}
    rows["predictions"][0] |= {"energy": float("nan"), "probability": None, "product": None}
    rows["predictions"][1] |= {"energy": float("inf"), "phash": None}
    store.write({name: rows_table(name, of_table) for name, of_table in rows.items()})
    held = sorted(contents(store)["predictions"], key=lambda row: row["uri"])
    assert [(row["energy"], row["probability"], row["product"]) for row in held] == [(None, None, None), (float("inf"), 0.75, "mug")]
    assert [row["phash"] for row in held] == [-1, None]


def test_one_picture_shown_twice_is_one_row(store):
    rows = {name: table.to_pylist() for name, table in batch(["a"], tags=0).items()}
    rows["predictions"] += [row | {"uri": "again.jpg"} for row in rows["predictions"]]
    store.write({name: rows_table(name, of_table) for name, of_table in rows.items()})
    assert sorted(row["uri"] for row in contents(store)["predictions"]) == ["s3://shop/a/0.jpg", "s3://shop/a/1.jpg"]


def test_runs(store):
    assert store.run("run-1") == RUN
    assert store.run("run-9") is None
    assert store.unfinished("listings.parquet", "bundle-1", "policy-1") == RUN
    for other in (("other", "bundle-1", "policy-1"), ("listings.parquet", "bundle-2", "policy-1"), ("listings.parquet", "bundle-1", "policy-2")):
        assert store.unfinished(*other) is None
    store.start(NEXT)
    assert store.unfinished("listings.parquet", "bundle-1", "policy-1") == NEXT
    done = NEXT.model_copy(update={"status": "finished", "finished": "2026-11-21T02:00:00Z", "rows_in": 7, "accepted": 3})
    store.finish(done)
    assert store.run("run-2") == done
    failed = RUN.model_copy(update={"status": "failed"})
    store.finish(failed)
    assert store.unfinished("listings.parquet", "bundle-1", "policy-1") is None  # a later run has finished since
    for status in ("failed", "cancelled"):
        store.finish(done.model_copy(update={"status": status, "detail": "a reason"}))
        held = store.unfinished("listings.parquet", "bundle-1", "policy-1")
        assert (held.run_id, held.status, held.detail) == ("run-2", status, "a reason")
    store.start(RUN)
    assert store.run("run-1") == RUN


def test_a_run_keeps_no_password(store):
    secret = RUN.model_copy(update={"run_id": "run-3", "input": "s3://key:hidden-word@bucket/x?secret_key=hidden-word"})
    store.start(secret)
    held = store.unfinished(secret.input, "bundle-1", "policy-1")
    assert held.run_id == "run-3"
    assert held.input == "s3://key:***@bucket/x?secret_key=***"


def test_an_empty_place_has_no_runs(tmp_path, database):
    for url in (f"sqlite:///{tmp_path}/no/tags.db", database, str(tmp_path / "nothing")):
        with open_store(url) as store:
            assert store.unfinished("x", "y", "z") is None
            assert store.run("x") is None
    assert list(tmp_path.iterdir()) == []


def test_a_relative_place_is_the_same_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///tags.db", "tags"):
        with open_store(url) as store:
            assert str(tmp_path / "tags") in store.url


def test_a_folder_may_be_a_uri(tmp_path):
    with open_store(f"file://{tmp_path}/tags") as store:
        store.start(RUN)
        store.write(batch(["a"]))
        assert store.known(["a"])["a"].decision == "accept"
    with open_store(str(tmp_path / "tags")) as same:
        assert same.known(["a"])["a"].run_id == "run-1"


def test_batches_that_do_not_fit_are_told(store):
    rows = batch(["a"])
    with pytest.raises(ValueError, match="no column colour"):
        store.write({"listings": rows["listings"].append_column("colour", rows["listings"]["brand"])})
    with pytest.raises(ValueError, match="no table images"):
        store.write(rows | {"images": rows["tags"]})
    with pytest.raises(ValueError, match="uri is null"):
        store.write(rows | {"rejects": rows["rejects"].drop_columns(["uri"])})
    with pytest.raises(ValueError, match="of 2"):
        both = [batch([name], run)["listings"].to_pylist()[0] for name, run in (("a", RUN), ("b", NEXT))]
        store.write({"listings": rows_table("listings", both)})
    with pytest.raises(ValueError, match="3 tags of the batch have none of its predictions"):
        store.write(rows | {"tags": batch(["b"])["tags"]})
    with pytest.raises(ValueError, match="1 rejects of the batch have none of its listings"):
        store.write(rows | {"rejects": batch(["b"])["rejects"]})
    assert sum(counts(store).values()) == 0


@pytest.mark.parametrize("letter", ["é", "蓝"])
def test_the_longest_id_fits_every_key_and_one_more_byte_does_not(store, letter):
    """Of hashes, as what repeats itself is packed."""
    digests = "".join(sha(str(number)) for number in range(32))
    longest = letter + digests[: 2_048 - len(letter.encode())]
    assert storable_id(longest) == (longest, None)
    shorter, wrong = storable_id(longest + "0")
    assert wrong == "its id has 2,049 bytes, at most 2,048 can be stored; give the listing another listing_id"
    store.write(batch([longest, shorter]))
    assert set(store.known([longest, shorter])) == {longest, shorter}
    assert counts(store)["rejects"] == 2


def test_ids_that_cannot_be_stored_stay_apart():
    ids = ["x" * 3_000, "x" * 3_001, "a\0", "a\N{REPLACEMENT CHARACTER}", "a"]
    stored = [storable_id(listing_id) for listing_id in ids]
    assert [wrong is None for _, wrong in stored] == [False, False, False, True, True]
    assert len({listing_id for listing_id, _ in stored}) == len(ids)
    assert all(storable_id(listing_id) == (listing_id, None) for listing_id, _ in stored)
