"""The calls about images. Each is written once, as a generator of requests; `Client` and `AsyncClient` run it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from prodrec.client.answers import Answer, BatchResult, HeatMap, Problem
from prodrec.client.errors import BadAnswer, ClientError, as_problem
from prodrec.client.exchange import Part, Reply, Request, Steps, query
from prodrec.client.images import Image, ImageFile, Loaded, Url, grouped, read_image

Method = Literal["gradcam", "occlusion", "attention"]
Fill = Literal["mean", "grey", "black", "white"]

# Source: docs/api.md.
BATCH_FILES = 64
# Source: assumed; 26 s at 10 Mbit/s, and the server waits 30 s for a body.
BATCH_BYTES = 32_000_000
_PHOTOS = "/v1/photos/"
_JPEG = b"\xff\xd8"
_PNG = b"\x89PNG\r\n\x1a\n"


def recognize(image: Image, *, top_k: int | None = None, tags: bool = True, explain: bool = False, category: str | None = None) -> Steps[Answer]:
    """What one image shows.

    Args:
        image: bytes, a path, or `Url(...)` where the server may fetch it.
        top_k: candidates, 1 to 20; None: as many as the server finds right.
        tags: False leaves them out of the answer.
        explain: adds a heat map.
        category: that the seller declared.

    Raises:
        BadImage: `code` says why it cannot be used; `missing`: its file cannot be read.
        ClientError: see `prodrec.client`.
    """
    params = query(top_k=top_k, tags=None if tags else "false", explain="true" if explain else None, category=category)
    reply = yield _with_image("/v1/recognize", image, params, "application/json")
    return reply.parsed(Answer)


def recognize_batch(
    images: Iterable[ImageFile],
    *,
    top_k: int | None = None,
    tags: bool = True,
    category: str | None = None,
    files_per_request: int = BATCH_FILES,
    bytes_per_request: int = BATCH_BYTES,
) -> Steps[list[BatchResult]]:
    """What each of any number of images shows, in order; a bad image, or a file that cannot be read, costs itself only.

    Images are read as they are needed and sent one request after another. What ends the first request ends the call; what ends a
    later one is the problem of its images and of all after them, so that the answers before are not lost.

    Args:
        images: bytes or paths.
        top_k, tags, category: as of `recognize`, for all.
        files_per_request, bytes_per_request: a larger image is sent alone.

    Raises:
        ClientError: see `prodrec.client`.
    """
    params = query(top_k=top_k, tags=None if tags else "false", category=category)
    results: list[BatchResult] = []
    failed: Problem | None = None
    for group in grouped(images, files_per_request, bytes_per_request):
        if failed is None:
            try:
                results += yield from _recognize_group(group, params)
                continue
            except ClientError as error:
                if not results:
                    raise
                failed = as_problem(error)
        results += [BatchResult(loaded.name, failed.status, None, failed) for loaded in group]
    return results


def explain(
    image: Image,
    *,
    label: str | None = None,
    method: Method | None = None,
    size: int | None = None,
    stride: int | None = None,
    fill: Fill | None = None,
) -> Steps[bytes]:
    """On which part of the picture the answer rests: a PNG, the picture with its heat over it.

    Args:
        image: as of `recognize`.
        label: None: the likeliest.
        method: `gradcam`, quick and coarse, `occlusion`, or `attention` (of an attention_cnn); None: the server's default.
        size, stride: of occlusion's square, pixels of the model's input. fill: what it is filled with.

    Raises:
        BadRequest: no such label, or it cannot be explained.
        ClientError: see `prodrec.client`.
    """
    reply = yield _with_image("/v1/explain", image, query(label=label, method=method, size=size, stride=stride, fill=fill), "image/png")
    if not reply.body().startswith(_PNG):
        raise BadAnswer(f"{reply.url} answered with no PNG; check base_url")
    return reply.body()


def heat(
    image: Image,
    *,
    label: str | None = None,
    method: Method | None = None,
    size: int | None = None,
    stride: int | None = None,
    fill: Fill | None = None,
) -> Steps[HeatMap]:
    """As `explain`; the numbers instead of the picture."""
    reply = yield _with_image("/v1/explain", image, query(label=label, method=method, size=size, stride=stride, fill=fill), "application/json")
    return reply.parsed(HeatMap)


def photo(path: str) -> Steps[bytes]:
    """The reference photo of a label, a small JPEG.

    Args:
        path: `photo` of a product or tag.

    Raises:
        ValueError: it is no such path.
        NotFound: no bundle that is served has it any more.
        ClientError: see `prodrec.client`.
    """
    if not path.startswith(_PHOTOS):  # a whole address would take the key to another server
        raise ValueError(f"a photo's path begins with {_PHOTOS}; give `photo` of a product or tag")
    reply = yield Request("GET", path, accept="image/jpeg")
    if not reply.body().startswith(_JPEG):
        raise BadAnswer(f"{reply.url} answered with no JPEG; check base_url")
    return reply.body()


@dataclass(frozen=True, slots=True)
class _Batch:
    results: tuple[BatchResult, ...]


def _recognize_group(group: list[Loaded], params: dict[str, str]) -> Steps[list[BatchResult]]:
    """Names go out as positions: how the caller's folders are called is nobody's business, and the answers can be told apart."""
    sent = [(position, loaded.data) for position, loaded in enumerate(group) if isinstance(loaded.data, bytes)]
    found: dict[str, BatchResult] = {}
    if sent:
        reply = yield Request("POST", "/v1/recognize/batch", params, parts=tuple(Part("files", str(position), data) for position, data in sent))
        found = _by_name(reply, [str(position) for position, _ in sent])
    return [
        BatchResult(loaded.name, loaded.data.status, None, loaded.data) if isinstance(loaded.data, Problem) else replace(found[str(position)], name=loaded.name)
        for position, loaded in enumerate(group)
    ]


def _by_name(reply: Reply, names: list[str]) -> dict[str, BatchResult]:
    results = reply.parsed(_Batch).results
    if [result.name for result in results] != names:
        raise BadAnswer(f"{reply.url} answered for {len(results)} images, not for the {len(names)} that were sent")
    return {result.name: result for result in results}


def _with_image(path: str, image: Image, params: dict[str, str], accept: str) -> Request:
    if isinstance(image, Url):
        return Request("POST", path, params, accept, json={"image_url": image.address})
    return Request("POST", path, params, accept, content=read_image(image))
