import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prodrec.sources.near_equal import near_equal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Blue Mug", "blue mug"),
        ("blue mug", "blue  mug"),
        ("blue mug", "blue_mug"),
        ("blue mug", "bluemug"),
        ("blue mug", "blue\u00a0mug"),
        ("mug", "mug\u200b"),
        ("mug", "\ufeffmug"),
        ("Caf\u00e9", "Cafe\u0301"),
        ("ﬁg", "fig"),
        ("ＭＵＧ １", "mug 1"),
        ("Straße", "STRASSE"),
        ("m²", "m2"),
        ("Å", "\u212b"),
        ("007", "7"),
        ("0.0", "0"),
        ("3.0", "3"),
        ("00123.0", "123"),
        ("Çay İçer", "çay içer"),
        ("\u2615\ufe0f", "\u2615"),
    ],
)
def test_names_that_people_read_as_one(one, other):
    assert near_equal([one, "lamp", other, one]) == [tuple(sorted((one, other)))]


def test_names_that_differ_in_a_letter_do_not():
    assert near_equal(["Cafe", "Café", "mug 1", "mug 2", "1-2", "12", "O", "0", "", "10", "1.5", "100", "3.00 l"]) == []


@given(st.lists(st.text(max_size=6)))
def test_every_name_is_in_one_group_at_most_with_what_it_is_equal_to(names):
    groups = near_equal(names)
    found = [name for group in groups for name in group]
    assert len(found) == len(set(found))
    assert near_equal(reversed(names)) == groups
    for name in names:
        forms = {name, name.casefold(), unicodedata.normalize("NFD", name), name + " "}
        assert near_equal(forms) == ([tuple(sorted(forms))] if len(forms) > 1 else [])
