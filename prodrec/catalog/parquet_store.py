"""The store as a folder of Parquet files, on a disk or an object store.

    DIR/<table>/run_date=YYYY-MM-DD/<run_id>-<digest of the batch's listing ids>.parquet
    DIR/runs/<run_id>.json

A batch is five files of one name. The one of `listings` is written last: it is what makes the batch count. Files of other
tables without it were left by a writer that was killed; `start` and `finish` remove those of their run. A batch that is
written again has the same listings, hence the same names. Not covered: views; what is current is told by the latest run
(by its start, then its id) that has a listing.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from prodrec.catalog.latest import LatestListings
from prodrec.catalog.records import Known, RunRecord, batch_rows, resumable, run_of
from prodrec.catalog.tables import BATCH_TABLES, SCHEMAS, clean_text
from prodrec.errors import OutputError, SourceError, StoreSetupError, shown_url
from prodrec.files import Folder, writing

# Of the SHA-256 of a batch's listing ids. Source: assumed; two of a million batches of a run share 64 bits once in 40 million runs.
DIGEST_HEX = 16


class ParquetStore:
    """See `prodrec.catalog.records.Store`.

    Args:
        url: a folder, or a URI such as s3://bucket/tags.

    Raises:
        StoreSetupError: the place cannot be opened.
    """

    def __init__(self, url: str) -> None:
        with _opening():
            self._folder = Folder(url)
        self.url = self._folder.uri

    def start(self, run: RunRecord) -> None:
        with _opening():
            for name in ("runs", *(f"{table}/run_date={run.run_date}" for table in BATCH_TABLES)):
                with writing(self._folder / name):
                    self._folder.filesystem.create_dir(self._folder.within(name), recursive=True)
            self._put(run)
            self._remove_orphans(run)

    def finish(self, run: RunRecord) -> None:
        with _opening():
            self._remove_orphans(run)
            self._put(run)

    def unfinished(self, input: str, bundle_id: str, policy_id: str) -> RunRecord | None:
        found = [run for run in self._runs() if run.input == shown_url(input)]
        return resumable(max(found, key=_by_start, default=None), bundle_id, policy_id)

    def run(self, run_id: str) -> RunRecord | None:
        with _opening():
            try:
                return RunRecord.model_validate_json(self._folder.read(f"runs/{run_id}.json"))
            except FileNotFoundError:
                return None

    def known(self, listing_ids: Sequence[str]) -> dict[str, Known]:
        """Reads the whole store when first asked, and looks into that from then on: what is written later is not seen."""
        found = {listing_id: self._latest.find(clean_text(listing_id)) for listing_id in listing_ids}
        return {listing_id: known for listing_id, known in found.items() if known}

    def write(self, tables: Mapping[str, pa.Table]) -> None:
        rows = batch_rows(tables)
        run_id = run_of(rows["listings"])
        digest = hashlib.sha256("\0".join(rows["listings"]["listing_id"].to_pylist()).encode()).hexdigest()[:DIGEST_HEX]
        where = f"run_date={self._run_date(run_id)}/{run_id}-{digest}.parquet"
        with _opening():
            # A second writing counts only once it is whole, like the first.
            self._folder.delete(f"listings/{where}")
            for name in [*(name for name in rows if name != "listings"), "listings"]:
                self._write_file(f"{name}/{where}", rows[name])

    def close(self) -> None:
        self.__dict__.pop("_latest", None)
        self._run_dates.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _write_file(self, name: str, rows: pa.Table) -> None:
        if not rows.num_rows:
            # What an earlier attempt wrote there.
            return self._folder.delete(name)
        data = pa.BufferOutputStream()
        pq.write_table(rows, data, compression="zstd")
        return self._folder.write(name, data.getvalue().to_pybytes())

    def _put(self, run: RunRecord) -> None:
        shown = run.model_copy(update={"input": clean_text(shown_url(run.input))})
        self._folder.write(f"runs/{run.run_id}.json", shown.model_dump_json(indent=1).encode())

    def _runs(self) -> list[RunRecord]:
        with _opening():
            names = [info.base_name for info in self._folder.names("runs")]
            return [RunRecord.model_validate_json(self._folder.read(f"runs/{name}")) for name in names if re.fullmatch(r"[^.].*\.json", name)]

    @cached_property
    def _run_dates(self) -> dict[str, str]:
        return {}

    def _run_date(self, run_id: str) -> str:
        """Raises: ValueError: the run was not started."""
        if run_id not in self._run_dates:
            run = self.run(run_id)
            if run is None:
                raise ValueError(f"run {run_id} was not started in {shown_url(self.url)}")
            self._run_dates[run_id] = run.run_date
        return self._run_dates[run_id]

    def _remove_orphans(self, run: RunRecord) -> None:
        where = f"run_date={run.run_date}"
        own = re.compile(rf"{re.escape(run.run_id)}-[0-9a-f]{{{DIGEST_HEX}}}\.parquet")
        complete = {info.base_name for info in self._folder.names(f"listings/{where}")}
        for table in BATCH_TABLES:
            for info in self._folder.names(f"{table}/{where}"):
                # What was being written aside begins with a dot and ends with a random name.
                name = info.base_name.removeprefix(".").partition(".parquet")[0] + ".parquet"
                if own.fullmatch(name) and info.base_name not in complete:
                    self._folder.delete(f"{table}/{where}/{info.base_name}")

    @cached_property
    def _latest(self) -> LatestListings:
        with _opening():
            files = [info for info in self._folder.walk("listings") if _is_data(info)]
            names = {_name(info) for info in files}
            decisions = [info for info in self._folder.walk("decisions") if _is_data(info) and _name(info) in names]
            starts = {run.run_id: rank for rank, run in enumerate(sorted(self._runs(), key=_by_start))}
            columns = ["listing_id", *Known._fields[:-1]]
            listings = self._read("listings", files, columns)
            return LatestListings(listings, self._read("decisions", decisions, ["listing_id", "run_id", "decision"]), starts)

    def _read(self, name: str, files: list[fs.FileInfo], columns: list[str]) -> pa.Table:
        if not files:
            return SCHEMAS[name].empty_table().select(columns)
        paths = [info.path for info in files]
        return ds.dataset(paths, schema=SCHEMAS[name], format="parquet", filesystem=self._folder.filesystem).to_table(columns=columns)


def _by_start(run: RunRecord) -> tuple[str, str]:
    return run.started, run.run_id


def _is_data(info: fs.FileInfo) -> bool:
    return bool(info.base_name.endswith(".parquet")) and not info.base_name.startswith(".")


def _name(info: fs.FileInfo) -> str:
    """`run_date=.../<run_id>-<digest>.parquet`."""
    return "/".join(info.path.rsplit("/", 2)[1:])


@contextmanager
def _opening() -> Iterator[None]:
    """What goes wrong with the folder is the user's to mend; a URI may hold a secret key."""
    try:
        yield
    except (OutputError, SourceError) as error:
        raise StoreSetupError(shown_url(str(error))) from error
    except (OSError, pa.ArrowException) as error:
        raise StoreSetupError(f"cannot use the store: {shown_url(' '.join(str(error).split()))}; check the folder and your rights") from error
