"""Pages, charts and drawings for people."""
