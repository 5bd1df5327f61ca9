"""What a bulk run's workers do, without Ray."""

from pathlib import Path

import pytest
from made import photo

from prodrec.cluster.fetching import TagPlan, fetch_listings
from prodrec.cluster.tagging import Ledger
from prodrec.data.listings import gather


def fetched(tmp_path: Path, uris: list[str], trusted: str = "") -> list[dict]:
    import pyarrow as pa

    plan = TagPlan(run_id="r", bundle_id="b", classifier=None, tagger=None, policy="{}", policy_id="p", store_url=None, trusted=trusted, time_limit_s=1)
    listings = gather("x", pa.table({"uri": uris, "listing_id": [str(number) for number in range(len(uris))]}))
    return fetch_listings(plan, listings.table).to_pylist()


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


def test_secrets_of_signed_uris_are_not_handed_on(tmp_path):
    [row] = fetched(tmp_path, ["https://shop.example/1.jpg?id=7&X-Amz-Signature=geheim&token=geheim"])
    assert row["uri"] == ["https://shop.example/1.jpg?id=7&X-Amz-Signature=***&token=***"]
    assert "geheim" not in str(row)
