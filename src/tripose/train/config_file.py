"""A training configuration from a YAML file and ``--set a.b=c``; everything that is wrong in it is one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tripose.errors import TriposeError
from tripose.train.config import TrainConfig
from tripose.train.fusion_config import FusionConfig

AnyConfig = TrainConfig | FusionConfig
"""Training of a model that looks at images, or at keypoints."""


def read_config(path: Path, changes: Sequence[str] = ()) -> AnyConfig:
    """Read a run's configuration.

    Args:
        path: YAML.
        changes: entries to set after reading, ``data.workers=2``; values are YAML, items of a list go by number.

    Raises:
        TriposeError: the file cannot be read, an entry is unknown (the nearest known one is named) or has an illegal
            value.
    """
    import pydantic
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TriposeError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TriposeError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise TriposeError(f"{path} holds {type(content).__name__}; a training configuration has named entries")
    for change in changes:
        _set(content, change)
    model = content.get("model")
    kind = FusionConfig if isinstance(model, dict) and model.get("method") == "fusion" else TrainConfig
    try:
        return kind.model_validate(content)
    except pydantic.ValidationError as error:
        raise TriposeError(f"{path}: {_sentence(error, kind.model_json_schema())}") from error


def write_config(config: AnyConfig, path: Path) -> None:
    """Write a configuration so that `read_config` gives it back."""
    import yaml

    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def _set(content: dict[str, Any], change: str) -> None:
    """Change one entry, in place; parts that do not exist yet are made."""
    import yaml

    key, equals, said = change.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise TriposeError(f"--set is {change!r}; expected NAME=VALUE, for example data.workers=2")
    try:
        value = yaml.safe_load(said)
    except yaml.YAMLError as error:
        raise TriposeError(f"--set {key}: the value {said!r} is not YAML") from error
    inside: Any = content
    for name in names[:-1]:
        inside = inside[_number(inside, name, key)] if isinstance(inside, list) else inside.setdefault(name, {})
        if not isinstance(inside, dict | list):
            raise TriposeError(f"--set {key}: {name} is {inside!r}, which has no entries")
    inside[_number(inside, names[-1], key) if isinstance(inside, list) else names[-1]] = value


def _number(items: list[Any], name: str, key: str) -> int:
    if not (name.isdigit() and int(name) < len(items)):
        raise TriposeError(f"--set {key}: {name!r} is no item of the list, which has {len(items)}")
    return int(name)


def _sentence(error: Any, schema: dict[str, Any]) -> str:
    """What is wrong first, with where it is."""
    first = error.errors()[0]
    where, legal = _walk(schema, first["loc"])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        near = difflib.get_close_matches(where[-1], legal, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}" if near else f"known are {', '.join(legal)}"
        return f"{'.'.join(where)} is unknown; {hint}"
    if first["type"] == "value_error":  # our own sentence
        return ".".join(where) + (": " if where else "") + str(first["ctx"]["error"])
    if first["type"] == "missing":
        return f"{'.'.join(where)} is missing"
    return f"{'.'.join(where)}: {first['msg']} (got {first['input']!r:.60})"


def _walk(schema: dict[str, Any], loc: Sequence[str | int]) -> tuple[list[str], list[str]]:
    """The entry that an error is about, without pydantic's names of unions, and its legal siblings."""
    node, where, legal = schema, [], list[str]()
    for part in loc:
        node = _resolved(node, schema)
        if isinstance(part, int):
            where.append(str(part))
            node = node.get("items") or {}
            continue
        mapping = node.get("discriminator", {}).get("mapping", {})
        if part in mapping:
            node = {"$ref": mapping[part]}
            continue
        if "properties" not in node and where:
            continue  # a name that pydantic gives to a member of a union
        legal = list(node.get("properties", {}))
        where.append(part)
        node = node.get("properties", {}).get(part, {})
    return where, legal


def _resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema's node without references, and without the alternative None."""
    while True:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        elif len(some := [n for n in node.get("anyOf", ()) if n.get("type") != "null"]) == 1:
            node = some[0]
        else:
            return node
