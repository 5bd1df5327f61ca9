"""The images of a request: a raw body, parts of a form, or a URL where that is allowed."""

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from prodrec.errors import Reject
from prodrec.scoring.fetch import Fetcher
from prodrec.serving.guard import TAKE
from prodrec.serving.problems import Problem, reject_problem
from prodrec.serving.settings import ServingSettings

# Of a file's name that is given back. Source: assumed.
_NAME_CHARS = 200
# Of a JSON body. Source: assumed; a URL and what is around it.
_JSON_BYTES = 16_384
# Of the time for an answer: so much to wait for a turn to fetch, and as much to fetch. So a dead host is told as such, and its
# threads are free again when the caller is gone. Source: assumed; the rest is for scoring.
_FETCH_SHARE = 0.4
# Of a form beside its files; they are passed over. Source: assumed; what a shop's page may send along.
_FIELDS = 32
# Of a form's names and fields. No other that Python knows: of punycode, a megabyte takes it minutes.
_CHARSETS = {b"utf-8", b"utf8", b"us-ascii", b"iso-8859-1", b"windows-1252"}


class Upload(NamedTuple):
    """One file of a form."""

    name: str
    data: bytes


class _FormParser(MultiPartParser):
    """Keeps files in memory, where their bytes are counted: nothing of an image comes to a disk, and none needs to be writable."""

    spool_max_size = sys.maxsize
    is_whole = False

    def on_end(self) -> None:
        """The closing boundary has come: without it, files may be missing that were on their way."""
        self.is_whole = True


class Bodies:
    """Reads what requests send.

    Raises:
        ConfigError: the certificates of `settings.image_url` cannot be read.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self._settings = settings
        self._fetcher: Fetcher | None = None
        if limits := settings.image_url:
            most_s = _FETCH_SHARE * settings.request_timeout_s
            times = {name: min(getattr(limits, name), most_s) for name in ("pool_timeout_s", "total_timeout_s")}
            self._fetcher = Fetcher(limits.model_copy(update=times))
            self._threads = ThreadPoolExecutor(limits.concurrency, "fetch")

    async def image(self, request: Request) -> bytes:
        """The bytes of the one image of a request.

        Raises:
            Problem: there is none, or it cannot be had.
        """
        kind = _media_type(request)
        if kind == "multipart/form-data":
            files = await self._files(request, 1)
            if len(files) != 1:
                raise Problem(400, "bad_request", f"expected one part 'file', found {len(files)} files")
            return files[0].data
        if kind == "application/json":
            return await self._fetched(request, await json_body(request))
        return await request.body()

    async def images(self, request: Request) -> list[Upload]:
        """The files of a form, in order.

        Raises:
            Problem: it is no form, holds no file, or too many.
        """
        if _media_type(request) != "multipart/form-data":
            raise Problem(400, "bad_request", "expected multipart/form-data with parts 'files'")
        files = await self._files(request, self._settings.max_batch_files)
        if not files:
            raise Problem(400, "bad_request", "the form holds no file; send parts 'files'")
        return files

    async def manifest(self, request: Request) -> tuple[Upload | None, str | None]:
        """An uploaded manifest, or where one lies."""
        if _media_type(request) == "multipart/form-data":
            files = await self._files(request, 1)
            if len(files) != 1:
                raise Problem(400, "bad_request", f"expected one part 'file', found {len(files)} files")
            return files[0], None
        place = (await json_body(request)).get("input")
        if not isinstance(place, str):
            raise Problem(400, "bad_request", 'expected a form with a part \'file\', or JSON such as {"input": "s3://bucket/manifest.parquet"}')
        return None, place

    async def _files(self, request: Request, most: int) -> list[Upload]:
        form = await self._form(request, most)
        found = []
        for _, part in form.multi_items():
            if isinstance(part, UploadFile):
                upload = Upload(_shown(part.filename or ""), await part.read())
                await part.close()
                if upload.name or upload.data:  # a browser sends neither for a field in which no file was chosen
                    found.append(upload)
        return found

    async def _form(self, request: Request, most: int) -> FormData:
        _, options = parse_options_header(request.headers["content-type"])
        if options.get(b"charset", b"utf-8").lower() not in _CHARSETS:
            raise Problem(400, "bad_request", "the form's charset is not read; send it as UTF-8")
        parser = _FormParser(request.headers, request.stream(), max_files=most, max_fields=_FIELDS)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            if "Too many files" in error.message:
                raise Problem(413, "too_many_files", f"at most {most} files are read") from error
            raise Problem(400, "bad_request", f"the form cannot be read: {error.message}") from error
        if not parser.is_whole:
            raise Problem(400, "bad_request", "the form is cut off before its closing boundary", "send it again, whole")
        return form

    async def _fetched(self, request: Request, tree: dict[str, object]) -> bytes:
        if not isinstance(url := tree.get("image_url"), str):
            raise Problem(400, "bad_request", 'expected JSON such as {"image_url": "https://images.shop.example/1.jpg"}')
        if self._fetcher is None:
            raise Problem(403, "not_allowed", "images by URL are switched off here", "send the image itself")
        try:
            data = await asyncio.get_running_loop().run_in_executor(self._threads, self._fetcher.fetch, url)
            request.scope[TAKE](len(data))
            return data
        except Reject as reject:
            raise reject_problem(reject.code.value, reject.detail) from reject


async def json_body(request: Request) -> dict[str, object]:
    """Raises: Problem: no JSON object, or a large one."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _JSON_BYTES:
            raise Problem(413, "too_large", f"at most {_JSON_BYTES:,} bytes of JSON are read", "send an image as multipart/form-data or as the raw body")
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "bad_request", "the body is not JSON") from error
    if not isinstance(tree, dict):
        raise Problem(400, "bad_request", "expected a JSON object")
    return tree


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _shown(name: str) -> str:
    """A file's name that may be given back: its last part, printable."""
    return "".join(char for char in name.replace("\\", "/").rpartition("/")[2] if char.isprintable())[:_NAME_CHARS]
