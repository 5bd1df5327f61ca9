"""Scoring of single images: the path that the command line, bulk and HTTP share."""

from prodrec.scoring.recognizer import Product, Recognition, Recognizer, Tag

__all__ = ["Product", "Recognition", "Recognizer", "Tag"]
