"""Scoring of single images: the path that the command line, bulk and HTTP share."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prodrec.scoring.recognition import Product, Recognition, Tag
    from prodrec.scoring.recognizer import Recognizer

__all__ = ["Product", "Recognition", "Recognizer", "Tag"]


def __getattr__(name: str) -> Any:
    """The names above are loaded when they are asked for: fetching and policies do without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from prodrec.scoring import recognition, recognizer

    return getattr(recognizer if name == "Recognizer" else recognition, name)
