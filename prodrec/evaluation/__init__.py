"""Metrics as mergeable sums, judging, calibration, acceptance and significance."""
