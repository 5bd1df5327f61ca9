"""A backend within this process, without Ray: for a laptop and for tests. It has no bulk runs."""

from collections.abc import Sequence

from prodrec.serving.backend import Ask, BulkRuns, Explained, Scored, Served, each
from prodrec.serving.engine import Engine


class LocalBackend:
    """Scores with bundles that this process holds."""

    bulk: BulkRuns | None = None

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def recognize(self, images: Sequence[bytes]) -> list[Scored]:
        return await each(self._engine.recognize, images)

    async def explain(self, data: bytes, ask: Ask) -> Explained:
        return await self._engine.explain(data, ask)

    async def photo(self, photo: str) -> bytes | None:
        return await self._engine.photo(photo)

    async def served(self) -> Served:
        return self._engine.served
