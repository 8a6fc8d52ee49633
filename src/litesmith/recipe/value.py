"""`Recipe`: techniques in their order, as a value, a file, a time line."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from litesmith import files, timeline
from litesmith.errors import RecipeError, did_you_mean
from litesmith.report import Report
from litesmith.technique import Technique, check_technique_value

VERSION = 1


class Recipe:
    """An ordered list of techniques; data flow from the stored weight through each in turn.

    It is written and read by `save` and `load` (`.toml`, `.json`), laid along a training run by
    `laid_out(steps)`, and drawn as a time line by `print`.

    Args:
        *techniques: techniques, or the tables that stand for them in a file.

    Raises:
        RecipeError: something in it is no technique, or has a wrong field.
    """

    def __init__(self, *techniques: Technique | dict[str, Any]):
        self.techniques: tuple[Technique, ...] = tuple(map(check_technique_value, techniques))
        # Of the training run it was laid out along: for its time line only.
        self._steps: int | None = None

    @classmethod
    def of(cls, value: Any) -> Recipe:
        """A recipe from a recipe, a technique, or a list of techniques or tables.

        Raises:
            RecipeError: it is none of these.
        """
        if isinstance(value, Recipe):
            return value
        if isinstance(value, Technique):
            return cls(value)
        if isinstance(value, dict):
            return cls.from_dict(value)
        if isinstance(value, (list, tuple)):
            return cls(*value)
        raise RecipeError(
            "recipe", expected="a Recipe, a technique, or a list of techniques", received=value
        )

    def __iter__(self) -> Iterator[Technique]:
        return iter(self.techniques)

    def __len__(self) -> int:
        return len(self.techniques)

    def __add__(self, other: Any) -> Recipe:
        return Recipe(*self.techniques, *Recipe.of(other).techniques)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.techniques == other.techniques

    def __hash__(self) -> int:
        return hash(self.techniques)

    def __repr__(self) -> str:
        return f"Recipe({', '.join(map(repr, self.techniques))})"

    def __str__(self) -> str:
        """A small time line: what each technique does, and when in a training run."""
        return timeline.draw(self.techniques, self._steps)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: a version, and a table a technique.

        Raises:
            RecipeError: a `where` is a predicate, which no file can hold.
        """
        return {"version": VERSION, "techniques": [item.to_dict() for item in self.techniques]}

    @classmethod
    def from_dict(cls, data: Any) -> Recipe:
        """What `to_dict` wrote, or a bare list of tables.

        Raises:
            RecipeError: another version, an unknown technique or field.
        """
        if isinstance(data, list):
            return cls(*data)
        if not isinstance(data, dict) or "techniques" not in data:
            raise RecipeError(
                "recipe",
                expected=f'a table with "version" and "techniques" (version {VERSION})',
                received=data,
            )
        for key in data:
            if key not in ("version", "techniques"):
                raise RecipeError(
                    "recipe",
                    expected="'version' and 'techniques'",
                    received=key,
                    fix=did_you_mean(key, ("version", "techniques")),
                )
        if data.get("version", VERSION) != VERSION:
            raise RecipeError(
                "recipe version",
                expected=str(VERSION),
                received=data["version"],
                fix="it was written by another litesmith: update this one",
            )
        if not isinstance(data["techniques"], list):
            raise RecipeError(
                "recipe techniques", expected="a list of tables", received=data["techniques"]
            )
        return cls(*data["techniques"])

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """From JSON.

        Raises:
            RecipeError: it is no JSON, or no recipe.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise RecipeError("recipe", expected="JSON", received=str(error)) from error
        return cls.from_dict(data)

    def to_toml(self) -> str:
        """As TOML."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """From TOML.

        Raises:
            RecipeError: it is no TOML, or no recipe.
        """
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError("recipe", expected="TOML", received=str(error)) from error
        return cls.from_dict(data)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a `.json` or `.toml` file.

        Raises:
            RecipeError: another suffix, or a `where` that no file can hold.
        """
        text = self.to_json() if _suffix(path) == ".json" else self.to_toml()
        return files.write_text(path, text)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a `.json` or `.toml` file.

        Raises:
            RecipeError: no such file, another suffix, or no recipe in it.
        """
        suffix = _suffix(path)
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(
                "recipe file", expected="a file that can be read", received=f"{path} ({error})"
            ) from error
        return cls.from_json(text) if suffix == ".json" else cls.from_toml(text)

    def laid_out(self, steps: int) -> Recipe:
        """The recipe with schedules along a training run, where techniques have none.

        Pruning is done first, then the clusters settle, then ranges and rounding: a technique
        comes to rest after those before it. `print` it to see the time line.

        Args:
            steps: training steps (batches) in all.
        """
        laid = Recipe(*timeline.laid_out(self.techniques, steps))
        laid._steps = steps if steps > 0 else None
        return laid

    def check(
        self, model: keras.Model, *, strict: bool = False, steps: int | None = None
    ) -> Report:
        """What `prepare` would do, without copying or changing anything.

        Args:
            model: a built model.
            strict: whether what cannot be taken is an error.
            steps: training steps to come, if known; a schedule that ends later is noted.

        Raises:
            RecipeError: a `where` that matches nothing; an order in which a technique would break
                what one before it promised; with `strict`, a layer that is skipped.
            ModelError: the model is not built, or has NaN or infinite weights.
        """
        from litesmith.recipe.preparing import planned

        return planned(model, self, strict=strict, steps=steps)[1]


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in (".json", ".toml"):
        raise RecipeError(
            "recipe file", expected="a name ending in .json or .toml", received=os.fspath(path)
        )
    return suffix
