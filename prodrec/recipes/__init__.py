"""Recipes: the YAML files beside this one, a user's own, and `--set a.b=value` on top."""

from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from prodrec.config import Recipe, explain_validation
from prodrec.errors import ConfigError


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    return sorted(p.name.removesuffix(".yaml") for p in resources.files("prodrec.recipes").iterdir() if p.name.endswith(".yaml"))


def load_recipe(name_or_path: str, overrides: list[str] | None = None, sections: dict[str, Any] | None = None) -> Recipe:
    """Reads a recipe by name or YAML path and applies dotted `a.b=value` overrides (values are YAML).

    Args:
        sections: that stand in place of the file's.

    Raises:
        ConfigError: no such recipe, bad YAML, an unknown key (the valid ones are named) or a value out of range.
    """
    text, where = _recipe_text(name_or_path)
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{where} holds no recipe: expected a mapping with the keys {', '.join(Recipe.model_fields)}")
    tree.setdefault("name", Path(name_or_path).stem)
    return parse_recipe(tree | (sections or {}), where, overrides)


def parse_recipe(tree: dict[str, Any], where: str, overrides: list[str] | None = None) -> Recipe:
    """Checks a recipe given as a mapping, overrides on top; `where` names its origin in errors.

    Raises:
        ConfigError: an unknown key (the valid ones are named) or a value out of range.
    """
    for override in overrides or []:
        _set(tree, override)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain_validation(error, Recipe)}") from error


def _recipe_text(name_or_path: str) -> tuple[str, str]:
    packaged = resources.files("prodrec.recipes") / f"{name_or_path}.yaml"
    if "/" not in name_or_path and packaged.is_file():
        return packaged.read_text(), f"recipe {name_or_path}"
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        raise ConfigError(f"no recipe '{name_or_path}'; known: {', '.join(recipe_names())}, or give the path of a .yaml file")
    try:
        return path.read_text(), str(path)
    except OSError as error:
        raise ConfigError(f"cannot read the recipe {path}: {error.strerror}; known recipes: {', '.join(recipe_names())}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the recipe {path} is no text: {error}; save it as UTF-8") from error


def _set(tree: dict[str, Any], override: str) -> None:
    key, sep, value = override.partition("=")
    if not sep or not key:
        raise ConfigError(f"--set {override}: expected a.b=value")
    *parents, last = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {override}: '{parent}' is a value, not a section")
    try:
        tree[last] = _number(yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not YAML") from error


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 as a string; people mean the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
