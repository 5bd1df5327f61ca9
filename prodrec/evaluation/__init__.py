"""Metrics as mergeable sums, calibration, slices and the report."""
