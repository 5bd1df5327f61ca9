"""Sources, image decoding, shards, splits, sampling and transforms. Plain Python and torch; no Ray."""
