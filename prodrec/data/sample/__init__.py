"""The embedded sample catalogue: product photos that are drawn, for tests, demos and a first look, as a source."""

from prodrec.data.sample.catalogue import SampleSummary, write_sample

__all__ = ["SampleSummary", "write_sample"]
