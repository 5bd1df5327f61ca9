"""Errors as the caller sees them: RFC 9457 problem details."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from prodrec.errors import RejectCode

MEDIA_TYPE = "application/problem+json"

TITLES = {
    "bad_request": "The request cannot be read",
    "no_key": "A key is needed",
    "not_allowed": "This is not allowed here",
    "not_found": "There is no such thing",
    "method_not_allowed": "Another method is needed",
    "too_slow_body": "The body did not come in time",
    "too_large": "The body is too large",
    "bad_manifest": "The manifest cannot be used",
    "too_many_files": "Too many files in one request",
    "unsupported_format": "An image of a format that is not read",
    "not_an_image": "The bytes are no image",
    "truncated": "The image is cut short or damaged",
    "too_many_pixels": "The image has too many pixels",
    "too_costly": "The image takes too long to decode",
    "too_slow": "The image took too long",
    "crashed": "The image cannot be decoded",
    "missing": "There is no image at this address",
    "fetch_failed": "The image cannot be fetched",
    "fetch_timeout": "The image's server is too slow",
    "no_such_label": "The classifier has no such label",
    "cannot_explain": "This cannot be explained",
    "busy": "The server is busy",
    "not_ready": "The server is not ready",
    "timeout": "The answer took too long",
    "internal": "A fault of the server",
}
_HINTS = {
    "unsupported_format": "send it as JPEG, PNG or WebP",
    "not_an_image": "send an image file: JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF",
    "truncated": "upload it again from where it was taken",
    "too_many_pixels": "send a smaller copy",
    "too_large": "send a smaller copy",
    "too_costly": "save it anew as JPEG and send that",
    "too_slow": "send a smaller copy",
    "crashed": "save it anew as JPEG and send that",
    "busy": "send it again after the time in Retry-After",
    "no_key": "send the header Authorization: Bearer KEY",
}
_STATUS_OF_REJECT = {RejectCode.TOO_LARGE: 413, RejectCode.UNSUPPORTED_FORMAT: 415, RejectCode.NOT_ALLOWED: 403}


class Problem(Exception):
    """An answer that is an error.

    Args:
        code: a key of TITLES.
        detail: what was found, for a person: no internals, no paths.
    """

    def __init__(self, status: int, code: str, detail: str, hint: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status, self.code, self.detail, self.headers = status, code, detail, dict(headers or {})
        self.hint = hint or _HINTS.get(code)

    def body(self) -> dict[str, Any]:
        """The members of the problem."""
        members = {"type": f"urn:prodrec:problem:{self.code}", "title": TITLES[self.code], "status": self.status, "detail": self.detail, "code": self.code}
        return members | ({"hint": self.hint} if self.hint else {})

    def response(self) -> Response:
        return Response(json.dumps(self.body()), self.status, self.headers, MEDIA_TYPE)


def reject_problem(code: str, detail: str) -> Problem:
    """What a reject of an image comes to: 413, 415, 403, and 422 for all others."""
    return Problem(_STATUS_OF_REJECT.get(RejectCode(code), 422), code, detail)


def busy(retry_after_s: int, detail: str = "all places are taken") -> Problem:
    return Problem(503, "busy", detail, headers={"Retry-After": str(retry_after_s)})
