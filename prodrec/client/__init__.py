"""A client of prodrec's HTTP API (docs/api.md). It needs httpx and nothing else of prodrec.

    from prodrec.client import Client

    with Client("http://127.0.0.1:8000") as client:
        answer = client.recognize("photo.jpg")
        print(answer.decision, answer.products[0].label)

Every call can raise:

    ClientError
    ├── Unreachable      no connection, or it broke
    ├── Untrusted        the server's certificate is not one to trust
    ├── TimedOut         a time limit of the client passed
    ├── BadAnswer        an answer that is none of prodrec: another server, a redirect, a broken document
    └── Refused          the server's problem: `status`, `code`, `detail`, `hint`, `request_id`
        ├── BadRequest   400, and 422 for a label or a manifest
        ├── KeyNeeded    401
        ├── NotAllowed   403
        ├── NotFound     404
        ├── BadImage     413, 415, 422: `code` says what is wrong with what was sent; `missing`: its file cannot be read
        ├── Busy         429, 503: also after all tries; `retry_after_s`
        └── ServerFault  500, 504
            └── GatewayFault  502, 504 of a proxy

Not covered: many requests side by side (threads or tasks around one client do that).
"""

from prodrec.client.answers import Answer, BatchResult, BulkRun, Explanation, HeatMap, Problem, Product, Reason, ServedBundle, ServedBundles, Tag
from prodrec.client.clients import AsyncClient, Client
from prodrec.client.errors import (
    BadAnswer,
    BadImage,
    BadRequest,
    Busy,
    ClientError,
    GatewayFault,
    KeyNeeded,
    NotAllowed,
    NotFound,
    Refused,
    ServerFault,
    TimedOut,
    Unreachable,
    Untrusted,
)
from prodrec.client.images import Url

__all__ = [
    "Answer",
    "AsyncClient",
    "BadAnswer",
    "BadImage",
    "BadRequest",
    "BatchResult",
    "BulkRun",
    "Busy",
    "Client",
    "ClientError",
    "Explanation",
    "GatewayFault",
    "HeatMap",
    "KeyNeeded",
    "NotAllowed",
    "NotFound",
    "Problem",
    "Product",
    "Reason",
    "Refused",
    "ServedBundle",
    "ServedBundles",
    "ServerFault",
    "Tag",
    "TimedOut",
    "Unreachable",
    "Untrusted",
    "Url",
]
