"""Scoring of single images: the path that the command line, bulk and HTTP share."""

from prodrec.scoring.recognizer import Recognition, Recognizer, Tag

__all__ = ["Recognition", "Recognizer", "Tag"]
