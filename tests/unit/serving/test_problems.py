import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prodrec.errors import RejectCode
from prodrec.serving.problems import TITLES, Problem, busy, reject_problem
from prodrec.serving.schemas import ProblemOut

# Of data sets: no image that a request brings is rejected so.
OF_DATA_SETS = {
    RejectCode.UNLABELLED,
    RejectCode.NOT_A_PACKSHOT,
    RejectCode.BAD_BOX,
    RejectCode.WRONG_SIZE,
    RejectCode.DUPLICATE_ACROSS_SPLITS,
    RejectCode.LISTING_ACROSS_SPLITS,
    RejectCode.BAD_LISTING_ID,
}


@pytest.mark.parametrize("code", [code for code in RejectCode if code not in OF_DATA_SETS])
def test_each_reject_is_told_as_a_problem(code):
    problem = reject_problem(code.value, "what was found")
    expected = {RejectCode.TOO_LARGE: 413, RejectCode.UNSUPPORTED_FORMAT: 415, RejectCode.NOT_ALLOWED: 403}
    assert problem.status == expected.get(code, 422)
    body = problem.body()
    assert (body["code"], body["detail"], body["status"]) == (code.value, "what was found", problem.status)
    assert body["title"] == TITLES[code.value]


@given(st.sampled_from(sorted(TITLES)), st.text(), st.integers(400, 599), st.none() | st.text(min_size=1))
def test_a_problem_as_rfc_9457_has_it(code, detail, status, hint):
    response = Problem(status, code, detail, hint, {"X-More": "1"}).response()
    assert (response.status_code, response.media_type, response.headers["x-more"]) == (status, "application/problem+json", "1")
    told = ProblemOut.model_validate(json.loads(response.body))
    assert (told.type, told.status, told.detail, told.code) == (f"urn:prodrec:problem:{code}", status, detail, code)
    assert hint is None or told.hint == hint


def test_busy_says_when_to_come_again():
    assert busy(3).response().headers["retry-after"] == "3"


def test_a_code_that_is_none():
    with pytest.raises(ValueError):
        reject_problem("nonsense", "")
    with pytest.raises(KeyError):
        Problem(400, "nonsense", "").body()
