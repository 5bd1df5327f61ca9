import pytest
from hypothesis import given
from hypothesis import strategies as st

from prodrec.errors import Reject, RejectCode
from prodrec.images.boxes import fit_boxes

edges = st.floats(-500, 1500, width=32)


def objects(*boxes):
    return [{"id": str(i), "label": "cup", "box": list(box), "crowd": False} for i, box in enumerate(boxes)]


@given(st.lists(st.tuples(edges, edges, edges, edges), max_size=5), st.integers(1, 900), st.integers(1, 900))
def test_every_box_is_kept_within_the_picture_or_rejected_with_its_id(boxes, width, height):
    prepared = (max(1, width // 3), max(1, height // 3))
    try:
        fitted = fit_boxes(objects(*boxes), (None, None), (width, height), prepared)
    except Reject as reject:
        assert reject.code == RejectCode.BAD_BOX
        assert all(f"annotation {i} " in reject.detail for i in range(len(boxes)))
        return
    assert len(fitted.objects) + len(fitted.rejected) == len(boxes)
    for item in fitted.objects:
        left, top, right, bottom = item["box"]
        assert 0 <= left < right <= prepared[0] * (1 + 1e-6)
        assert 0 <= top < bottom <= prepared[1] * (1 + 1e-6)


def test_boxes_are_clipped_scaled_and_counted():
    fitted = fit_boxes(objects((10, 20, 30, 40), (-5, 0, 50, 300), (10, 10, 10, 50), (500, 500, 600, 600)), (100, 200), (100, 200), (50, 100))
    assert [item["box"] for item in fitted.objects] == [[5, 10, 15, 20], [0, 0, 25, 100]]
    assert fitted.clipped == 1
    assert ["annotation 2 ('cup')" in fitted.rejected[0], "annotation 3 ('cup')" in fitted.rejected[1]] == [True, True]


def test_an_annotation_of_another_picture_is_refused():
    with pytest.raises(Reject, match="annotated at 200 x 100 pixels, the upright image has 100 x 200"):
        fit_boxes(objects((1, 1, 5, 5)), (200, 100), (100, 200), (100, 200))
