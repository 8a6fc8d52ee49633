"""Frozen, keyword-only settings that a recipe is made of, and their way to and from JSON and TOML.

An option is a dataclass with a `name`; a family (technique, schedule, granularity) is a base class
with its own registry: defining a subclass with a `name` registers it. Adding one edits no core
file.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from litesmith.errors import RecipeError, did_you_mean

_REGISTRY: dict[str, dict[str, type[Option]]] = {}
_Kind = TypeVar("_Kind", bound="Option")


def whole_number(what: str, value: Any, *, least: int, most: int | None = None) -> None:
    """Refuse what is no whole number in a range.

    Raises:
        RecipeError: saying the range.
    """
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not fits or (most is not None and value > most):
        bound = f"from {least} to {most}" if most is not None else f"of {least} or more"
        raise RecipeError(what, expected=f"a whole number {bound}", received=value)


def number(
    what: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    fix: str | None = None,
) -> None:
    """Refuse what is no finite number in a range.

    Raises:
        RecipeError: saying the range.
    """
    bounds = []
    if least is not None:
        bounds.append(f"from {least:g}")
    if above is not None:
        bounds.append(f"above {above:g}")
    if below is not None:
        bounds.append(f"below {below:g}")
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if (
        not fits
        or (least is not None and value < least)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    ):
        raise RecipeError(
            what, expected="a number " + " and ".join(bounds), received=value, fix=fix
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """Base of techniques, schedules and granularities."""

    family: ClassVar[str] = "option"
    name: ClassVar[str] = ""
    key: ClassVar[str] = "type"  # what `name` is called in a file

    def __init_subclass__(cls, **keywords: Any):
        super().__init_subclass__(**keywords)
        if "name" in cls.__dict__:
            _REGISTRY.setdefault(cls.family, {})[cls.name] = cls

    @classmethod
    def registered(cls) -> dict[str, type[Option]]:
        """The options of this family, by name."""
        return dict(_REGISTRY.get(cls.family, {}))

    def to_dict(self) -> dict[str, Any]:
        """The name and every field that is not at its default, JSON-able."""
        entry: dict[str, Any] = {self.key: self.name}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            if value == default:
                continue
            entry[field.name] = self.field_to_dict(field.name, value)
        return entry

    def field_to_dict(self, field: str, value: Any) -> Any:
        """One field's value as JSON has it."""
        if isinstance(value, Option):
            return value.to_dict()
        if isinstance(value, tuple):
            return [self.field_to_dict(field, item) for item in value]
        return value

    @classmethod
    def from_dict(cls: type[_Kind], entry: Any) -> _Kind:
        """The option that `to_dict` wrote.

        Args:
            entry: a mapping with the name under `cls.key`; for a schedule or a granularity without
                settings just the name.

        Raises:
            RecipeError: an unknown name or field, naming the nearest real one.
        """
        if isinstance(entry, str):
            entry = {cls.key: entry}
        if not isinstance(entry, Mapping) or cls.key not in entry:
            raise RecipeError(
                cls.family,
                expected=f"a table with {cls.key!r} and its settings",
                received=entry,
                fix=f"for example {{ {cls.key} = {sorted(cls.registered())[0]!r} }}",
            )
        settings = dict(entry)
        name = settings.pop(cls.key)
        kind = cls.registered().get(name) if isinstance(name, str) else None
        if kind is None:
            raise RecipeError(
                cls.family,
                expected=f"the name of a {cls.family}",
                received=name,
                fix=did_you_mean(str(name), cls.registered()),
            )
        fields = {field.name: field for field in dataclasses.fields(kind)}
        for key in settings:
            if key not in fields:
                raise RecipeError(
                    f"{cls.family} {name!r}",
                    expected="fields it has",
                    received=key,
                    fix=did_you_mean(key, fields),
                )
        values = {key: kind.field_from_dict(key, value) for key, value in settings.items()}
        required = [
            field.name
            for field in fields.values()
            if field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
            and field.name not in values
        ]
        if required:
            raise RecipeError(
                f"{cls.family} {name!r}",
                expected=f"a value for {required[0]!r}",
                received="none",
                fix=f"write {required[0]} = …",
            )
        return kind(**values)  # type: ignore[return-value]

    @classmethod
    def field_from_dict(cls, field: str, value: Any) -> Any:
        """One field's value from JSON; techniques override it for options of another family."""
        if isinstance(value, list):
            return tuple(value)
        return value
