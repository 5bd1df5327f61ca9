"""Prepared data sets: their schema, how they are assembled and divided, and how they are read in order."""
