"""What a bulk run's workers do, without Ray."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from made import photo

from prodrec.catalog import RunRecord, open_store, rows_table
from prodrec.cluster.fetching import DECLARED, TagPlan, fetch_listings
from prodrec.cluster.ledger import Ledger
from prodrec.sources.listings import gather

# A regular file to whoever looks, and an error to whoever reads. Source: proc(5).
BROKEN_DISK = "/proc/self/mem"


def fetched(tmp_path: Path, uris: list[str], trusted: str = "") -> list[dict]:
    plan = TagPlan(run_id="r", bundle_id="b", classifier=None, tagger=None, policy="{}", policy_id="p", store_url=None, trusted=trusted, time_limit_s=1)
    listings = gather("x", pa.table({"uri": uris, "listing_id": [str(number) for number in range(len(uris))]}))
    return fetch_listings(plan, listings.table).to_pylist()


class Nights:
    """One listing, asked for night after night, and the store of what came of it."""

    def __init__(self, folder: Path, *uris: str) -> None:
        self.store_url, self.listings = str(folder / "tags"), gather("x", pa.table({"uri": uris, "listing_id": ["a"] * len(uris)})).table

    def fetched(self, run_id: str, bundle_id: str = "b", policy_id: str = "p") -> dict[str, Any]:
        said = {"run_id": run_id, "bundle_id": bundle_id, "policy_id": policy_id, "store_url": self.store_url}
        [row] = fetch_listings(TagPlan(**said, classifier=None, tagger=None, policy="{}", time_limit_s=1), self.listings).to_pylist()
        return row

    def write(self, run_id: str, row: dict[str, Any], tagged: int, rejected: int) -> None:
        """What the scoring makes of a row."""
        said = {name: row[name] for name in ("listing_id", *DECLARED, "input_sha256", "content_sha256")}
        counts = {"images_tagged": tagged, "images_rejected": rejected}
        run = {"run_id": run_id, "bundle_id": "b", "policy_id": "p"}
        with open_store(self.store_url) as store:
            store.start(RunRecord(**run, started="2026-11-20T01:00:00Z", run_date="2026-11-20", input="x", policy="{}", code_version="0"))
            store.write({"listings": rows_table("listings", [said | run | counts])})


def test_what_an_actor_begins_again_without_an_end_has_killed_it():
    ledger = Ledger()
    assert [ledger.begin("one", "x"), ledger.begin("two", "x"), ledger.begin("two", "y")] == [0, 0, 0]  # at once is no death
    assert ledger.begin("one", "x") == 1
    assert ledger.begin("one", "x") == 2
    ledger.end("two", "x")
    assert ledger.begin("one", "x") == 3
    ledger.end("one", "x")
    assert ledger.begin("one", "x") == ledger.begin("two", "x") == 0


@pytest.mark.parametrize(
    "uri",
    [
        "s3://a:b@bucket/x.jpg",
        "s3://bucket/x.jpg?endpoint_override=127.0.0.1:9000&scheme=http",
        "s3://latest/meta-data/x?endpoint_override=169.254.169.254",
        "gs://user@bucket/x.jpg",
    ],
)
def test_an_image_names_no_server_and_no_credentials(tmp_path, uri):
    (tmp_path / "good.jpg").write_bytes(photo(0, 0))
    bad, good = fetched(tmp_path, [uri, str(tmp_path / "good.jpg")])
    assert (bad["code"], bad["image"]) == (["not_allowed"], [None])
    assert "b@" not in str(bad)
    assert good["image"] == [photo(0, 0)]


def test_an_id_that_cannot_be_stored_costs_its_listing_only(tmp_path):
    """The case of a listing id of 3,000 characters: PostgreSQL's index takes 2,704 bytes, and the whole night ended."""
    image = tmp_path / "good.jpg"
    image.write_bytes(photo(0, 0))
    ids = ["x" * 3_000, "x" * 3_001, "a\0b", None, "good"]
    table = pa.table({"uri": [str(image)] * 3 + [f"https://shop.example/{'y' * 5_000}", str(image)], "listing_id": ids})
    plan = TagPlan(run_id="r", bundle_id="b", classifier=None, tagger=None, policy="{}", policy_id="p", store_url=None, time_limit_s=1)
    rows = fetch_listings(plan, gather("x", table).table).to_pylist()
    assert [row["code"] for row in rows] == [["bad_listing_id"]] * 4 + [[None]]
    assert len({row["listing_id"] for row in rows}) == 5
    assert rows[0]["detail"] == ["its id has 3,000 bytes, at most 2,048 can be stored; give the listing another listing_id"]
    assert rows[2]["detail"] == ["its id has a NUL in it; give the listing another listing_id"]
    assert (rows[4]["listing_id"], rows[4]["image"]) == ("good", [photo(0, 0)])


def test_a_place_of_5_000_characters_or_with_a_nul_costs_its_image_only(tmp_path):
    uris = [str(tmp_path / ("x" * 5_000)), str(tmp_path / "a\0b.jpg"), "https://shop.example/a\0b.jpg", f"https://shop.example/{'y' * 5_000}"]
    assert [row["code"] for row in fetched(tmp_path, uris)] == [["missing"], ["missing"], ["not_allowed"], ["not_allowed"]]


def test_another_spelling_of_a_path_leads_nowhere_else(tmp_path):
    """What is looked at is what is read: backslashes and links lead out of no folder."""
    allowed, secret = tmp_path / "allowed", tmp_path / "secret.jpg"
    (allowed / "in").mkdir(parents=True)
    secret.write_bytes(photo(0, 0))
    (allowed / "in" / "good.jpg").write_bytes(photo(1, 0))
    (allowed / "link").symlink_to(tmp_path)
    uris = [f"{allowed}\\in\\good.jpg", f"{allowed}/in\\..\\..\\secret.jpg", f"{allowed}/link\\secret.jpg", f"{allowed}/in\\gone.jpg"]
    within = {"within": (str(allowed),)}
    plan = TagPlan(run_id="r", bundle_id="b", classifier=None, tagger=None, policy="{}", policy_id="p", store_url=None, time_limit_s=1, **within)
    rows = fetch_listings(plan, gather("x", pa.table({"uri": uris})).table).to_pylist()
    assert [row["code"] for row in rows] == [[None], ["not_allowed"], ["not_allowed"], ["missing"]]
    assert rows[0]["image"] == [photo(1, 0)]


def test_secrets_of_signed_uris_are_not_handed_on(tmp_path):
    [row] = fetched(tmp_path, ["https://shop.example/1.jpg?id=7&X-Amz-Signature=geheim&token=geheim"])
    assert row["uri"] == ["https://shop.example/1.jpg?id=7&X-Amz-Signature=***&token=***"]
    assert "geheim" not in str(row)


def test_a_disk_that_fails_undoes_nothing(tmp_path):
    image = tmp_path / "a.jpg"
    image.write_bytes(photo(0, 0))
    nights = Nights(tmp_path, str(image))
    nights.write("first", nights.fetched("first"), tagged=1, rejected=0)
    image.unlink()
    image.symlink_to(BROKEN_DISK)
    down = nights.fetched("second")
    assert (down["state"], down["known"]) == ("kept", [0, 1])
    image.unlink()
    gone = nights.fetched("third")
    assert (gone["state"], gone["code"]) == ("to_do", ["missing"])


def test_what_is_out_of_reach_for_many_nights_counts_as_rejected_in_each(tmp_path):
    (tmp_path / "good.jpg").write_bytes(photo(0, 0))
    (tmp_path / "away.jpg").symlink_to(BROKEN_DISK)
    nights = Nights(tmp_path, str(tmp_path / "good.jpg"), str(tmp_path / "away.jpg"))
    nights.write("first", nights.fetched("first"), tagged=1, rejected=1)
    second = nights.fetched("second")
    assert (second["state"], second["known"]) == ("kept", [0, 1])
    (tmp_path / "good.jpg").unlink()
    (tmp_path / "good.jpg").symlink_to(BROKEN_DISK)
    third = nights.fetched("third")
    assert (third["state"], third["known"]) == ("kept", [0, 2])


def test_what_was_never_had_is_rejected_each_night(tmp_path):
    (tmp_path / "away.jpg").symlink_to(BROKEN_DISK)
    nights = Nights(tmp_path, str(tmp_path / "away.jpg"))
    nights.write("first", nights.fetched("first"), tagged=0, rejected=1)
    second = nights.fetched("second")
    assert (second["state"], second["known"]) == ("kept", [0, 1])


@pytest.mark.parametrize("changed", [{"bundle_id": "new"}, {"policy_id": "stricter"}])
def test_what_another_bundle_or_policy_said_is_not_kept(tmp_path, changed):
    image = tmp_path / "a.jpg"
    image.write_bytes(photo(0, 0))
    nights = Nights(tmp_path, str(image))
    nights.write("first", nights.fetched("first"), tagged=1, rejected=0)
    assert nights.fetched("second")["state"] == "skipped"
    image.unlink()
    image.symlink_to(BROKEN_DISK)
    assert nights.fetched("second", **changed)["state"] == "to_do"
