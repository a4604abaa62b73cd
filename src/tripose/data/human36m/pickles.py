"""Reading pickled dictionaries of arrays without running what they say.

A pickle is a program that may call anything. Here it finds only stand-ins under the few names that arrays and their
containers need; they keep what they are told, and the arrays are made of it afterwards, each checked against its bytes.
A pickle never calls NumPy itself: told of a forged data type, it takes bytes for addresses of objects, and crashes.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tripose.errors import TriposeError

_OBJECTS = "O"
_PLAIN = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5}")


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary that a file holds: a pickle, or an ``.npy`` file with one in it (`numpy.save` of a dictionary).

    Raises:
        TriposeError: no such file, damaged, no dictionary with names as keys, or a pickle that asks for anything but
            arrays, numbers, text and their containers; what it asks for is named, and not made.
    """
    if not path.is_file():
        raise TriposeError(f"{path}: there is no such file")
    try:
        file = io.BytesIO(path.read_bytes())
        if file.getvalue().startswith(np.lib.format.MAGIC_PREFIX):
            _skip_header(file, path)
        content = _value(_Unpickler(file, path).load())
    except OSError as error:
        raise TriposeError(f"{path} cannot be read: {error.strerror}") from error
    except TriposeError:
        raise
    except Exception as error:  # whatever the bytes of a damaged file lead to
        raise TriposeError(f"{path} is no pickle, or damaged, or not complete: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise TriposeError(f"{path} does not hold a dictionary with names")
    return content


def array_of(content: Mapping[str, Any], key: str, path: Path) -> np.ndarray:
    """One entry of `read_pickle`'s dictionary as an array; a list of arrays is put together along the first axis.

    Raises:
        TriposeError: there is no such entry, or it is something else.
    """
    if key not in content:
        raise TriposeError(f"{path} has no entry {key!r}; it has {', '.join(map(repr, content)) or 'none'}")
    try:
        value = _value(content[key])
        if isinstance(value, list | tuple):
            value = np.concatenate([np.atleast_1d(_flat(item)) for item in value]) if value else np.zeros(0)
        if not isinstance(value, np.ndarray) or value.dtype.hasobject:
            raise ValueError(f"it is of type {type(value).__name__}")
    except Exception as error:  # arrays of different shapes, strange items, a stand-in that was told nonsense
        raise TriposeError(f"{path}: the entry {key!r} is no array, nor a list of arrays that fit: {error}") from error
    return value


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, path: Path) -> None:
        super().__init__(file)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise TriposeError(
                f"{self._path} asks for the Python object {module}.{name}, which could run code and is not made; "
                "only arrays, numbers, text and their containers are read"
            )
        return _ALLOWED[module, name]


class _Array:
    """In place of an array: `told` is its version, shape, type, order and content."""

    told: Any = None

    def __setstate__(self, told: Any) -> None:
        self.told = told

    def value(self) -> Any:
        """The array; a list where it is one of objects, a single object where it has no axis."""
        _, shape, dtype, by_column, content = self.told
        kind = _dtype(dtype)
        if kind != _OBJECTS:
            return _from_bytes(content, kind, shape, "F" if by_column else "C")
        if not isinstance(content, list) or len(content) != _size(shape):
            raise ValueError("an array of objects does not hold as many as it has places")
        return content if shape else content[0]


class _DType:
    """In place of a data type: `spec` is what kind, `told` how it is in detail."""

    spec: Any = None
    told: Any = None

    def __init__(self, spec: Any, *_: Any) -> None:
        self.spec = spec

    def __setstate__(self, told: Any) -> None:
        self.told = told


class _Call:
    """A function that a pickle may call and cannot change."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, _: Any) -> None:
        raise ValueError("it wants to change what it is read with")


def _told(*told: Any) -> _Array:
    array = _Array()
    array.told = told
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes are written in another way than arrays are")
    return text.encode("latin-1")


def _allowed() -> dict[tuple[str, str], Any]:
    """(module, name) -> what stands there. NumPy 2 has other names of the same; protocol 2 writes bytes as text."""
    multiarray = {
        "_reconstruct": _Call(lambda *_: _Array()),
        "scalar": _Call(lambda dtype, content: _told(1, (), dtype, False, content)),
    }
    from_buffer = _Call(lambda content, dtype, shape, order: _told(1, shape, dtype, order == "F", content))
    allowed: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): "numpy.ndarray",  # only ever an argument of _reconstruct
        ("numpy", "dtype"): _Call(_DType),
        ("_codecs", "encode"): _Call(_encode),
        ("collections", "defaultdict"): _Call(lambda *_: {}),
        **{(module, "list"): "list" for module in ("builtins", "__builtin__")},  # an argument of defaultdict
    }
    for core in ("numpy._core", "numpy.core"):
        allowed |= {(f"{core}.multiarray", name): call for name, call in multiarray.items()}
        allowed[f"{core}.numeric", "_frombuffer"] = from_buffer
    return allowed


_ALLOWED = _allowed()


def _value(item: Any) -> Any:
    return item.value() if isinstance(item, _Array) else item


def _flat(item: Any) -> np.ndarray:
    """An array, or one of a list of numbers or text; lists in lists could be endless."""
    value = _value(item)
    if isinstance(value, list | tuple) and not all(isinstance(v, int | float | str) for v in value):
        raise ValueError("a list in a list of something else than numbers")
    return np.asarray(value)


def _skip_header(file: io.BytesIO, path: Path) -> None:
    """Go to the pickle inside an ``.npy`` file."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, dtype = read(file)
    if dtype != np.dtype(object):
        raise TriposeError(f"{path} holds an array of {dtype}, not a dictionary")


def _dtype(told: Any) -> Any:
    """The data type that a stand-in describes, made anew; `_OBJECTS` for Python objects.

    The description is that of `numpy.dtype.__reduce__`: version, byte order, (base, shape), names, fields, size, ...
    """
    if not isinstance(told, _DType) or not isinstance(told.spec, str):
        raise ValueError("an array without a data type")
    if re.fullmatch(r"O[48]?", told.spec):
        return _OBJECTS
    _, order, repeated, names, fields, size, *_ = told.told
    if _PLAIN.fullmatch(told.spec):
        return np.dtype(told.spec).newbyteorder(order if order in ("<", ">") else "=")
    if repeated is not None:
        base, shape = repeated
        return np.dtype((_no_objects(base), shape))
    if not names:
        raise ValueError(f"an array of {told.spec}")
    parts = [fields[name] for name in names]
    offsets = [part[1] for part in parts]
    formats = [_no_objects(part[0]) for part in parts]
    return np.dtype({"names": list(names), "formats": formats, "offsets": offsets, "itemsize": size})


def _no_objects(told: Any) -> Any:
    kind = _dtype(told)
    if kind == _OBJECTS:
        raise ValueError("a table with Python objects in it")
    return kind


def _from_bytes(content: Any, dtype: np.dtype[Any], shape: Any, order: Any) -> np.ndarray:
    size = _size(shape) * dtype.itemsize
    if not isinstance(content, bytes | bytearray) or len(content) != size or dtype.itemsize == 0:
        raise ValueError(f"an array of shape {shape} and type {dtype} that is not as long as it must be")
    return np.ndarray(shape, dtype, bytes(content), order=order).copy()


def _size(shape: Any) -> int:
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError("an array without a shape")
    return math.prod(shape)
