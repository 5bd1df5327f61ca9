"""Where each image's split comes from is counted and kept, and the first reject is named where nothing is usable."""

import json

import pytest
from made import build_shards, photo

from prodrec.cli.preparing import told_splits, told_turned
from prodrec.errors import ShardsError
from prodrec.recipes import load_recipe
from prodrec.shards.assemble import assemble
from prodrec.shards.reading import open_shards
from prodrec.shards.schema import ShardsManifest
from prodrec.shards.split import Fractions
from prodrec.shards.staging import stage, start_output
from prodrec.training.classifier import check_labelled

PROVENANCE = {"source": "photos", "source_format": "test", "code_version": "test", "short_side": 48, "jpeg_quality": 90}


def prepared(folder, splits, earlier=()):
    """Shards of one image for each given split."""
    out = start_output(str(folder))
    facts = {"image": photo(0, 0), "width": 48, "height": 48, "phash": 0}
    stage(out, 0, [facts | {"uri": f"{i}.jpg", "label": "ab"[i % 2], "split": split, "sha256": f"{i:064x}"} for i, split in enumerate(splits)])
    return assemble(out, Fractions(0.6, 0.2, 0.2), PROVENANCE, len(splits), earlier)


def test_origins_are_counted_by_split(tmp_path):
    drawn = prepared(tmp_path / "drawn", [None] * 20)
    assert drawn.split_origin == {name: {"drawn": drawn.rows(name)} for name in ("train", "val", "test")}
    given = prepared(tmp_path / "given", ["train"] * 16 + ["test"] * 4)
    assert given.split_origin["test"] == {"publisher": 4}
    assert given.split_origin["val"] == {"drawn_from_train": given.rows("val")}
    assert given.split_origin["train"] == {"publisher": given.rows("train")}
    told = told_splits(given.split_origin)
    assert "4 test (4 the publisher's)" in told
    assert f"{given.rows('val')} val ({given.rows('val')} drawn from the publisher's train)" in told
    kept = prepared(tmp_path / "kept", [None] * 24, [open_shards(str(tmp_path / "drawn"))])
    assert sum(of.get("earlier", 0) for of in kept.split_origin.values()) == 20
    assert told_splits(prepared(tmp_path / "no test", ["train"] * 8 + ["val"] * 4).split_origin).endswith("no test: the publisher gives none")


def test_an_older_manifest_has_none(tmp_path):
    old = prepared(tmp_path / "s", ["train", "test"] * 4).model_dump(mode="json")
    del old["split_origin"]
    assert ShardsManifest.model_validate_json(json.dumps(old)).split_origin == {}


def test_photos_that_nothing_tells_of_are_a_warning():
    assert told_turned({}) == []
    lines = told_turned({"stored": 3, "unknown": 2})
    assert lines[0] == "photos that EXIF turns: 3 have boxes on stored pixels"
    assert lines[1].startswith("WARNING: of 2 photos that EXIF turns nothing tells")


def test_where_nothing_is_usable_the_first_reject_stands_in_the_line(tmp_path):
    out = start_output(str(tmp_path / "s"))
    stage(out, 0, [{"uri": "/set/1.jpg", "label": "a", "code": "missing", "detail": "/set/1.jpg: No such file or directory"}])
    with pytest.raises(ShardsError, match=r"\(1 missing; the first: /set/1.jpg: No such file or directory\)"):
        assemble(out, Fractions(0.6, 0.2, 0.2), PROVENANCE, 1)


def test_a_classifier_of_one_label_is_refused(tmp_path):
    shards = open_shards(build_shards(tmp_path / "one", {"photos": 5}))
    with pytest.raises(ShardsError, match=r"one label only, 'photos', so there is nothing to tell apart: was its source, test, given one folder too high\?"):
        check_labelled(load_recipe("demo"), shards)
    check_labelled(load_recipe("demo"), open_shards(build_shards(tmp_path / "two", {"a": 4, "b": 4})))
