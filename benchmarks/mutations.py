"""Small damage to files: what a bad disk, a broken download or an enemy makes of them.

Every function takes a `numpy.random.Generator` and is repeatable from its seed.
"""

from __future__ import annotations

import io
import json
import re
import struct
import tomllib
import zipfile
from typing import Any

import numpy as np
import tomli_w

# Numbers at which programs break: signs, limits, more than there is memory for.
_INTEGERS = (0, 1, -1, 2, 127, 255, 256, 65535, 2**31 - 1, -(2**31), 2**30, 10**6, 10**9)
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 10**6, 10**9, 2**63, 2**200, 0.5, -0.5, 1e308, float("nan"),
    "", "x", "é\x00", "../..", "a" * 5000, [], [1], [[]], [None], {}, {"class_name": "Dense"},
)  # fmt: skip
_WORDS = (
    "0", "1", "-1", "1.5", "nan", "inf", "1e400", "true", '""', '"x"', "[]", "[1, 2]", "{}",
    "99999999999999999999", "1979-05-27", '"\\u0000"', "'", '"', "=", "[[variant]]", "[model]", "#",
)  # fmt: skip


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes with one to three kinds of damage: bits, bytes, integers, blocks, the end."""
    for _ in range(int(rng.choice((1, 1, 1, 2, 3)))):
        if not content:
            return content
        content = _KINDS[int(rng.integers(len(_KINDS)))](content, rng)
    return content


def _bits(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 9))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _bytes(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    start, count = int(rng.integers(len(data))), int(rng.integers(1, 17))
    data[start : start + count] = rng.bytes(min(count, len(data) - start))
    return bytes(data)


def _integer(content: bytes, rng: np.random.Generator) -> bytes:
    """One aligned 32-bit integer becomes another: offsets, lengths, shapes, enumerations."""
    if len(content) < 8:
        return content
    data = bytearray(content)
    place = 4 * int(rng.integers(len(data) // 4))
    (old,) = struct.unpack_from("<i", data, place)
    near = old + int(rng.integers(-8, 9))
    value = near if rng.random() < 0.4 else _INTEGERS[int(rng.integers(len(_INTEGERS)))]
    struct.pack_into("<I", data, place, value & 0xFFFFFFFF)
    return bytes(data)


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def _insert(content: bytes, rng: np.random.Generator) -> bytes:
    place, count = int(rng.integers(len(content) + 1)), int(rng.integers(1, 65))
    return content[:place] + rng.bytes(count) + content[place:]


def _delete(content: bytes, rng: np.random.Generator) -> bytes:
    place, count = int(rng.integers(len(content))), int(rng.integers(1, 65))
    return content[:place] + content[place + count :]


def _swap(content: bytes, rng: np.random.Generator) -> bytes:
    size = int(rng.integers(1, max(2, min(512, len(content) // 3 + 1))))
    a, b = sorted(int(each) for each in rng.integers(len(content), size=2))
    if a + size > b or b + size > len(content):
        return _repeat(content, rng)
    middle = content[a + size : b]
    return (
        content[:a] + content[b : b + size] + middle + content[a : a + size] + content[b + size :]
    )


def _repeat(content: bytes, rng: np.random.Generator) -> bytes:
    source, target = (int(each) for each in rng.integers(len(content), size=2))
    block = content[source : source + int(rng.integers(1, 257))]
    return content[:target] + block + content[target + len(block) :]


def _zeros(content: bytes, rng: np.random.Generator) -> bytes:
    place, count = int(rng.integers(len(content))), int(rng.integers(1, 257))
    count = min(count, len(content) - place)
    return content[:place] + bytes(count) + content[place + count :]


# More often what reaches deepest into a format.
_DEEP, _SHALLOW = (_bits, _integer, _bytes), (_cut, _insert, _delete, _swap, _repeat, _zeros)
_KINDS = 4 * _DEEP + _SHALLOW


def archive(content: bytes, rng: np.random.Generator) -> bytes:
    """A `.keras` file, damaged as a whole or inside: its configuration, its weights."""
    if rng.random() < 0.3:
        return damaged(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    draw = rng.random()
    if draw < 0.55:
        tree = json.loads(members["config.json"])
        for _ in range(int(rng.choice((1, 1, 1, 2, 3)))):
            tree = _other_json(tree, rng)
        members["config.json"] = json.dumps(tree).encode()
    elif draw < 0.7:
        members["config.json"] = damaged(members["config.json"], rng)
    elif draw < 0.95:
        members["model.weights.h5"] = damaged(members["model.weights.h5"], rng)
    else:
        name = sorted(members)[int(rng.integers(len(members)))]
        members[name + "x" if rng.random() < 0.5 else name] = members.pop(name)[: rng.integers(99)]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as new:  # checksums are right again
        for name, data in members.items():
            new.writestr(name, data)
    return stream.getvalue()


def _other_json(tree: Any, rng: np.random.Generator) -> Any:
    """One place of a JSON tree changed: another value, a key gone, renamed, or another's value."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    if not isinstance(tree, dict | list) or not tree:
        return tree
    walk(tree)
    node, key = places[int(rng.integers(len(places)))]
    draw = rng.random()
    if draw < 0.5:
        node[key] = _alike(node[key], [node[key] for node, key in places], rng)
    elif draw < 0.7:
        node[key] = _VALUES[int(rng.integers(len(_VALUES)))]
    elif draw < 0.8:
        other, place = places[int(rng.integers(len(places)))]
        node[key] = json.loads(json.dumps(other[place]))
    elif isinstance(node, dict) and draw < 0.85:
        node[f"{key}x"] = node.pop(key)
    else:
        del node[key]
    return tree


def _alike(value: Any, others: list[Any], rng: np.random.Generator) -> Any:
    """Another value of the same type: a number near or far, another of the tree's texts."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return (value + int(rng.integers(-3, 4))) * int(rng.choice((1, 1, 1, -1, 7, 1000)))
    if isinstance(value, float):
        return value * float(rng.choice((-1, 0, 0.5, 1.5, 10, 1e30)))
    if isinstance(value, list):
        return [*value, *value] if rng.random() < 0.5 else value[:-1]
    alike = [other for other in others if type(other) is type(value)]
    return json.loads(json.dumps(alike[int(rng.integers(len(alike)))]))


def text(content: bytes, rng: np.random.Generator) -> bytes:
    """A study file: damaged as bytes, with other words and lines, or with other values."""
    if rng.random() < 0.15:
        return damaged(content, rng)
    if rng.random() < 0.7:
        tree = tomllib.loads(content.decode())
        for _ in range(int(rng.choice((1, 1, 1, 2, 3)))):
            tree = _other_json(tree, rng)
        return tomli_w.dumps(_without_none(tree)).encode()
    whole = content.decode()
    for _ in range(int(rng.integers(1, 4))):
        lines = whole.split("\n")
        place, other = (int(each) for each in rng.integers(len(lines), size=2))
        draw = rng.random()
        if draw < 0.1:
            lines[place], lines[other] = lines[other], lines[place]
        elif draw < 0.2:
            lines.insert(place, lines[other])
        elif draw < 0.3:
            del lines[place]
        else:
            words = list(re.finditer(r'"[^"]*"|[\w.-]+|[^\s\w]', whole))
            if not words:
                return whole.encode()
            word = words[int(rng.integers(len(words)))]
            new = _WORDS[int(rng.integers(len(_WORDS)))]
            if draw < 0.6:
                new = words[int(rng.integers(len(words)))].group()
            lines = [whole[: word.start()] + new + whole[word.end() :]]
        whole = "\n".join(lines)
    return whole.encode()


def _without_none(value: Any) -> Any:
    """What TOML can hold."""
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_none(each) for each in value if each is not None]
    return value
