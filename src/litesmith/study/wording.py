"""What pydantic found wrong with a study, said in one line in litesmith's wording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from litesmith.errors import LitesmithError, StudyError, did_you_mean

_FIX = "docs/study.md has every field"
_EXPECTED = {
    "model": 'a table with source = "model.keras" or another source',
    "data": 'a table with source = "digits" or another source',
    "model.source": '"model.keras", "builtin:NAME", "applications:NAME" or "module:function"',
    "data.source": '"digits", "idx:DIR", "npz:FILE", "images:DIR", "keras:NAME", "tfds:NAME" '
    'or "module:function"',
    "variant.name": "a name for the variant",
    "data.image_size": "height and width, as in [96, 96]",
}


def one_line(
    error: ValidationError, model: type[BaseModel], content: Mapping[str, Any], name: str
) -> StudyError:
    """The first thing that is wrong, as the error to raise.

    Args:
        error: what pydantic raised.
        model: the model that was validated.
        content: what it was validated from.
        name: what the line calls the study, usually its file's name.
    """
    # Unknown fields first: a misspelt field usually makes another one look missing.
    found = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")[0]
    location = [part for part in found["loc"] if not _is_branch(part)]
    place = f"{name}: {_place(location, content)}"
    if found["type"] == "extra_forbidden":
        fields = sorted(_model_at(model, location[:-1]).model_fields)
        return StudyError(
            place,
            expected="fields it has",
            received=str(location[-1]),
            fix=did_you_mean(str(location[-1]), fields),
        )
    known = _EXPECTED.get(".".join(str(part) for part in location if not isinstance(part, int)))
    if found["type"] == "missing":
        return StudyError(place, expected=known or "a value", received="nothing", fix=_FIX)
    cause = found.get("ctx", {}).get("error")
    if isinstance(cause, LitesmithError):
        return StudyError(f"{place}: {cause}")
    message = found["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    message = message.split(", unable to")[0]
    if message.startswith("a valid dictionary"):
        message = known or "a table"
    if ", received " in message or not location:
        return StudyError(f"{place}: expected {message}", fix=_FIX)
    return StudyError(place, expected=message, received=repr(found["input"])[:200], fix=_FIX)


def _model_at(model: type[BaseModel], location: list[Any]) -> type[BaseModel]:
    """The pydantic model of the section that `location` leads to."""
    for part in location:
        if isinstance(part, int):
            continue
        pending = [model.model_fields[part].annotation]
        while pending:  # look through `X | None` and `list[X]`
            kind = pending.pop()
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
            pending.extend(get_args(kind))
    return model


def _is_branch(part: Any) -> bool:
    """Whether pydantic added this to tell the branches of a union apart."""
    return isinstance(part, str) and (part in ("int", "float") or "[" in part)


def _place(location: list[Any], content: Mapping[str, Any]) -> str:
    """Where in the file: `[data] validation`, `variant 'pruned-80': quantize`."""
    if not location:
        return "the study"
    head, *rest = location
    if head == "variant" and rest and isinstance(rest[0], int):
        entry = content["variant"][rest[0]]
        label = entry.get("name") if isinstance(entry, Mapping) else None
        text = f"variant {label!r}" if isinstance(label, str) else f"variant {rest[0] + 1}"
        return f"{text}: {'.'.join(map(str, rest[1:]))}" if rest[1:] else text
    if rest:
        return f"[{head}] {'.'.join(map(str, rest))}"
    return str(head)
