"""The page on a data set, and the pictures on it."""

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from prodrec.files import Folder
from prodrec.reports.contact_sheet import contact_sheet
from prodrec.reports.data_charts import long_tail_chart, sizes_chart
from prodrec.reports.inspected_pictures import source_pictures
from prodrec.reports.inspection import Inspected, write_inspection
from prodrec.shards.facts import Facts
from prodrec.shards.inspecting import look_at
from prodrec.shards.preparing import PrepareOptions
from prodrec.sources.source import open_source


def made_facts(labels):
    number = np.arange(len(labels))
    columns = {"uri": [f"{i}.jpg" for i in number], "listing_id": None, "label": labels, "group": None, "split": "train", "code": None, "detail": None}
    columns |= {"sha256": [str(i) for i in number], "phash": (number + 1).astype(np.uint64), "width": 300, "height": 300}
    return Facts(pd.DataFrame(columns | {"source_width": 400, "source_height": 400}))


def written(folder, facts):
    found, told = write_inspection(Folder(str(folder)), Inspected("mine", ["a manifest"], {"source": "mine"}, facts, lambda positions: {}))
    assert json.loads((folder / "inspect.json").read_text()) == told
    return found, (folder / "index.html").read_text()


def test_clean_data_is_said_to_be_clean(tmp_path):
    found, page = written(tmp_path, made_facts(["cup"] * 6 + ["mug"] * 6))
    assert found == []
    assert "Nothing stands out" in page


def test_a_page_without_one_usable_image_is_a_page(tmp_path):
    facts = made_facts(["cup"] * 3)
    found, page = written(tmp_path, Facts(facts.images.assign(code="missing", detail="<gone>", split=None)))
    assert [one.code for one in found] == ["unusable_missing"]
    assert "&lt;gone&gt;" in page


def test_one_picture_under_thousands_of_labels_does_not_fill_the_page(tmp_path):
    facts = made_facts([f"label {number}" for number in range(3000)])
    _, page = written(tmp_path, Facts(facts.images.assign(sha256="same")))
    assert "and 2,980 more" in page
    assert "label 1500<" not in page


def test_all_of_many_labels_are_in_the_json_and_the_ends_on_the_page(tmp_path):
    labels = [f"label {rank}" for rank in range(150) for _ in range(160 - rank)]
    _, page = written(tmp_path, made_facts(labels))
    assert len(json.loads((tmp_path / "inspect.json").read_text())["labels"]) == 150
    assert "50 labels between are in inspect.json" in page
    table = page[page.index("<h2>The rarest</h2>") :]
    assert table.index("label 149<") < table.index("label 148<")
    assert "label 60<" not in page


def test_the_contact_sheet_shows_the_most_frequent_then_the_rarest_once_each():
    sheet = contact_sheet(made_facts([f"{rank}" for rank in range(12) for _ in range(12 - rank)]))
    assert [row.label for row in sheet] == [*"01234567", "11", "10", "9", "8"]
    assert [len(row.positions) for row in sheet] == [4] * 8 + [1, 2, 3, 4]


def opened(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def plain(color, size=(320, 240)):
    data = io.BytesIO()
    Image.new("RGB", size, color).save(data, "JPEG")
    return data.getvalue()


def test_of_a_damaged_file_the_picture_shows_what_can_be_read(tmp_path):
    (tmp_path / "cup").mkdir()
    whole = plain((200, 40, 40))
    for name, data in (("a", whole), ("b", whole[:-600]), ("c", b"no image")):
        (tmp_path / "cup" / f"{name}.jpg").write_bytes(data)
    source = open_source(str(tmp_path))
    facts = look_at(source, PrepareOptions(), lambda *counts: None)
    assert facts.images["code"].isna().tolist() == [True, False, False]
    pictures = source_pictures(source, facts)([0, 1, 2])
    assert pictures.keys() == {0, 1}
    top, bottom = (opened(pictures[1]).getpixel((80, y)) for y in (2, 117))
    assert top[0] > 150 > bottom[0] > 100


def test_boxes_are_drawn_where_they_are(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(plain((90, 90, 90)))
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [100, 60, 120, 120]}
    tree = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [box], "categories": [{"id": 1, "name": "disc"}]}
    (tmp_path / "annotations" / "instances.json").write_text(json.dumps(tree))
    source = open_source(str(tmp_path))
    facts = look_at(source, PrepareOptions(short_side=120), lambda *counts: None)
    drawn = opened(source_pictures(source, facts)([0])[0])
    assert drawn.size == (320, 240)
    greens = [drawn.getpixel((x, 150))[1] for x in (50, 100, 160, 220, 270)]
    assert [green > 110 for green in greens] == [False, True, False, True, False]


@pytest.mark.parametrize("values", [[348] * 9, [1, 1], [20, 4000, 65500]])
def test_charts_of_any_sizes(values):
    assert "<svg" in sizes_chart(np.array(values, dtype=float), "px", "images", [(224, "224 px")])
    assert "<svg" in long_tail_chart(np.array(values), np.zeros(len(values), dtype=int), "images", ("a", "b"))
