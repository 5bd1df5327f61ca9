"""The embedded sample catalogue: product photos that are drawn, for tests, demos and a first look, as a source."""

from prodrec.sample.catalogue import SampleSummary, empty_folder, write_sample
from prodrec.sample.cutouts import read_cutouts
from prodrec.sample.scene_set import SceneSummary, product_cutouts, write_scenes
from prodrec.sample.view_set import ViewSummary, write_views

__all__ = ["SampleSummary", "SceneSummary", "ViewSummary", "empty_folder", "product_cutouts", "read_cutouts", "write_sample", "write_scenes", "write_views"]
