"""What is found in tables of facts that are made here: each kind where it is, and none where it is not."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prodrec.shards.facts import Facts, facts_of, phashes
from prodrec.shards.finding import Severity, named, shortened
from prodrec.shards.findings import findings, worst_lines
from prodrec.shards.inspecting import LOOKED_SCHEMA


def images(labels, splits=None, **columns):
    """Facts of usable photos of 400 x 300 pixels, no two alike, but for the columns that are given."""
    number = np.arange(len(labels))
    table = {"uri": [f"{i}.jpg" for i in number], "listing_id": None, "label": labels, "group": None, "split": splits, "code": None, "detail": None}
    table |= {"sha256": [f"{i:064x}" for i in number], "phash": (number + 1).astype(np.uint64), "width": 400, "height": 300}
    table |= {"source_width": 400, "source_height": 300}
    return Facts(pd.DataFrame(table | columns, index=number))


def boxed(labels, boxes, splits=None, **columns):
    """Facts of pictures of 400 x 300 with boxes: (image, label, left, top, right, bottom)."""
    frame = pd.DataFrame(boxes, columns=["image", "label", "left", "top", "right", "bottom"]).assign(crowd=False)
    return Facts(images([None] * labels, splits, **columns).images, frame)


def codes(facts):
    return {one.code: one for one in findings(facts)}


def clean(each=6):
    return ["cup"] * each + ["mug"] * each + ["jug"] * each


def test_nothing_is_found_in_clean_data():
    labels = clean() * 2
    assert findings(images(labels, ["train"] * 18 + ["test"] * 18)) == []
    assert findings(images(labels)) == []


def test_one_label_is_serious_for_a_classifier_and_fine_for_boxes():
    assert codes(images(["train"] * 9))["one_label"].severity is Severity.SERIOUS
    assert "one_label" not in codes(boxed(9, [(i, "cup", 0, 0, 50, 50) for i in range(9)]))


def test_a_label_of_any_length_stands_in_a_line():
    for labels in (["y" * 3000] * 9, ["y" * 3000] * 99 + clean()):
        assert all(len(line) < 500 for line in worst_lines(findings(images(labels)), 9))


def test_photos_whose_boxes_may_be_drawn_on_other_pixels_are_told():
    boxes = [(i, "cup", 0, 0, 50, 50) for i in range(9)]
    found = codes(boxed(9, boxes, boxes_on=["unknown", "stored", None] * 3))["boxes_of_turned_photos"]
    assert found.examples == ((0,), (3,), (6,))
    assert "3 of 9 images" in found.text
    assert "boxes_of_turned_photos" not in codes(boxed(9, boxes, boxes_on=["upright", "stored", None] * 3))


def test_labels_that_are_names_of_splits():
    assert codes(images(["train"] * 6 + ["Val"] * 6))["labels_are_splits"].severity is Severity.SERIOUS
    assert "labels_are_splits" not in codes(images(["train"] * 6 + ["bus"] * 6))


def test_labels_that_are_nearly_equal_stand_together():
    found = codes(images([*clean(), "Cup", "CUP"]))["near_equal_labels"]
    assert [set(group) for group in found.labels] == [{"cup", "Cup", "CUP"}]
    assert found.share == pytest.approx(8 / 20)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_label_that_is_judged_and_not_learned(split):
    found = codes(images([*clean(), "new", "new"], ["train"] * 18 + [split] * 2))[f"{split}_without_train"]
    assert (found.severity, found.labels) == (Severity.SERIOUS, (("new",),))
    assert "2 images" in found.text


def test_what_is_not_divided_yet_may_be_learned():
    found = codes(images([*clean(), "new", "new"], ["train"] * 18 + [None, "test"]))
    assert "test_without_train" not in found
    assert "train_without_test" in found


def test_rare_labels_and_the_long_tail():
    found = codes(images(["cup"] * 200 + ["mug"] * 4 + ["jug"] * 1 + ["pot"] * 5))
    assert found["rare_labels"].labels == (("jug",), ("mug",))
    assert found["long_tail"].labels == (("cup",),)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from(["train", "test"])), min_size=1, max_size=30))
def test_copies_are_told_as_a_plain_loop_finds_them(rows):
    labels, bytes_, splits = (list(column) for column in zip(*rows, strict=True))
    found = codes(images(labels, splits, sha256=bytes_, phash=0))
    of = {one: [row for row in rows if row[1] == one] for one in set(bytes_)}
    torn = [one for one, same in of.items() if len({row[0] for row in same}) > 1]
    leaked = [one for one, same in of.items() if len({row[2] for row in same}) > 1]
    assert ("same_picture_several_labels" in found) == bool(torn)
    assert ("copies_across_splits" in found) == bool(leaked)
    assert ("copies" in found) == (len(set(rows)) < len(rows))
    if torn:
        share = sum(len(of[one]) for one in torn) / len(rows)
        assert found["same_picture_several_labels"].share == pytest.approx(share)
        for group in found["same_picture_several_labels"].examples:
            assert len({bytes_[position] for position in group}) == 1
            assert len({labels[position] for position in group}) > 1


def test_the_same_bytes_under_two_labels_are_told_with_both_and_a_place():
    found = codes(images([*clean(50), "cup", "mug"], sha256=[f"{i:064x}" for i in range(150)] + ["f" * 64] * 2))["same_picture_several_labels"]
    assert "'cup' and 'mug' share 150.jpg" in found.text
    assert found.severity is Severity.SERIOUS
    assert found.examples == ((150, 151),)


def test_look_alikes_are_other_bytes_of_one_hash_and_even_pictures_do_not_count():
    hashes = np.arange(1, 21, dtype=np.uint64)
    hashes[[0, 7]], hashes[[1, 8]] = 2**63 + 1, 0
    found = codes(images([*clean(), "mug", "mug"], ["train"] * 18 + ["test"] * 2, phash=hashes))
    assert found["look_alike_several_labels"].examples == ((0, 7),)
    hashes[18] = 2**63 + 1
    found = codes(images([*clean(), "mug", "mug"], ["train"] * 18 + ["test"] * 2, phash=hashes))
    assert "1 of 2 images held out" in found["look_alikes_across_splits"].text


def test_hashes_that_differ_in_their_last_bit_are_not_equal_beside_a_reject():
    assert phashes(pa.chunked_array([pa.array([2**63 + 1, None, 2**63 + 2], pa.uint64())])).tolist() == [2**63 + 1, 0, 2**63 + 2]


def test_rejects_are_told_by_reason_with_a_place():
    code, detail = [None] * 18 + ["truncated", "missing"], [None] * 18 + ["cut short", "19.jpg: no such file"]
    found = codes(images([*clean(), "cup", "mug"], code=code, detail=detail))
    assert found["unusable_truncated"].text == "1 of 20 images cannot be used: cut short or damaged (18.jpg: cut short)."
    assert found["unusable_missing"].text.count("19.jpg") == 1
    assert found["unusable_missing"].examples == ((19,),)
    assert codes(images(["cup", "mug"], code=["made_up", None], detail=["why", None]))["unusable_made_up"].severity is Severity.SERIOUS


def test_sizes_and_shapes():
    found = codes(images(clean(), source_width=[100] + [400] * 17, source_height=[90] + [300] * 16 + [1300]))
    assert found["small_images"].examples == ((0,),)
    assert "90 px" in found["small_images"].text
    assert found["long_images"].examples == ((17,),)


def test_quality_is_told_from_more_than_its_limits_flag_by_themselves():
    good = {"sharpness": 0.4, "darkness": 0.1, "contrast": 0.8, "blown": 0.0, "blank": 0.1, "border": 0.0, "white_background": 0.0, "brightness": 0.5}
    assert findings(images(clean(), **good)) == []
    found = codes(images(clean(), **good | {"sharpness": [0.1, 0.2] + [0.4] * 15 + [np.nan]}))["quality_blurred"]
    assert found.examples == ((0,), (1,))
    assert "2 of 17 images looked at are blurred" in found.text
    # A packshot is blown by its ground.
    assert "quality_overexposed" not in codes(images(clean(), **good | {"blown": 0.6, "white_background": 0.9}))
    assert "quality_overexposed" in codes(images(clean(), **good | {"blown": 0.6}))


def test_boxes():
    boxes = [(i, ["cup", "mug"][i % 2], 10, 10, 90, 90) for i in range(12)] + [(0, "cup", 5, 5, 9, 60)]
    facts = boxed(14, sorted(boxes))
    facts = Facts(facts.images, facts.objects, pd.DataFrame({"uri": ["3.jpg"], "detail": ["the box has no area"]}))
    found = codes(facts)
    assert "1 of 13 boxes are under 8 px" in found["tiny_boxes"].text
    assert found["tiny_boxes"].examples == ((0,),)
    assert found["without_boxes"].examples == ((12,), (13,))
    assert "1 of 14 boxes cannot be used (3.jpg: the box has no area)" in found["bad_boxes"].text


def test_listings_of_several_labels():
    assert "1 listing has images of several labels: 'L'" in codes(images([*clean(), "cup", "mug"], listing_id=[None] * 18 + ["L", "L"]))["listing_labels"].text


def test_the_worst_comes_first():
    found = findings(images(["train"] * 9, code=[None] * 8 + ["missing"], detail=[None] * 8 + ["x"], source_width=50))
    assert [one.severity for one in found] == sorted([one.severity for one in found], key=list(Severity).index)
    assert worst_lines(found, 1)[0].startswith("serious: One label only, 'train', for 8 usable images")


def test_labels_have_titles_for_people():
    facts = images(["6"] * 9)
    assert "Blue mug (6)" in findings(Facts(facts.images, titles={"6": "Blue mug"}))[0].text


def test_facts_of_staged_rows_keep_objects_and_bad_boxes_apart():
    item = {"label": "cup", "box": [1.0, 2.0, 3.0, 4.0], "crowd": False}
    rows = [
        {"uri": "a", "objects": [item, item | {"label": "mug"}], "boxes_rejected": ["bad"], "boxes_clipped": 1, "phash": 2**64 - 1},
        {"uri": "b", "code": "missing", "detail": "gone"},
        {"uri": "c", "objects": [item], "boxes_rejected": [], "boxes_clipped": 0, "phash": 5},
    ]
    facts = facts_of(pa.Table.from_pylist(rows, LOOKED_SCHEMA), {})
    assert facts.objects[["image", "label", "left", "bottom"]].to_numpy().tolist() == [[0, "cup", 1, 4], [0, "mug", 1, 4], [2, "cup", 1, 4]]
    assert facts.objects_on(2)["label"].tolist() == ["cup"]
    assert facts.bad_boxes.to_numpy().tolist() == [["a", "bad"]]
    assert (facts.clipped, facts.images["phash"].tolist(), facts.usable.index.tolist()) == (1, [2**64 - 1, 0, 5], [0, 2])


def test_sentences_stay_short():
    assert named(["a", "b", "c", "d", "e"]) == "'a', 'b', 'c' and 2 more"
    assert named(["a"]) == "'a'"
    assert len(named(["x" * 500] * 9)) < 220
    assert shortened("s3://user:secret@host/a\nb") == "s3://user:***@host/a b"


def test_a_doubt_on_how_a_source_was_read_is_a_serious_finding():
    told = ["image folder: LABEL/image", "WARNING: 'a', 'b' all hold cup, mug, and are taken as the labels; if they are splits, call them train, val and test"]
    [found] = findings(images(clean() * 2), told)
    assert (found.code, found.severity) == ("doubtful_layout", Severity.SERIOUS)
    assert found.line == "'a', 'b' all hold cup, mug, and are taken as the labels. If they are splits, call them train, val and test."
    assert findings(images(clean() * 2), told[:1]) == []
