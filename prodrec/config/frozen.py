"""What every configuration model is made of."""

from collections.abc import Iterator
from typing import Annotated, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
# Of prepared images where nothing else is asked for. Source: assumed; leaves room for crops in inputs of 224 to 256 px.
SHORT_SIDE_PX = 320


class Frozen(BaseModel):
    """Base of every configuration and manifest model: immutable, unknown keys raise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def explain_validation(error: ValidationError, model: type[BaseModel]) -> str:
    """One line for a pydantic error; for an unknown key it lists the valid ones."""
    parts = []
    places = [item["loc"] for item in error.errors()]
    for item in error.errors():
        if item["type"] == "too_short" and any(place[:-1] == item["loc"] for place in places):
            continue  # of what was given nothing is valid; each is told
        path = ".".join(str(p) for p in item["loc"])
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown key '{path}'; valid here: {', '.join(_fields_at(model, item['loc'][:-1]))}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            parts.append(f"{path}: {message}" if path else message)
    return "; ".join(parts)


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        if part not in model.model_fields:
            continue  # a place in a list, or a key of a mapping; the next part is within
        sections = list(_models_in(model.model_fields[str(part)].annotation))
        if not sections:
            return []
        model = sections[0]
    return list(model.model_fields)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
