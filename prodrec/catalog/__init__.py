"""The store: where recognitions, tags, boxes, decisions and runs are written."""
