"""Compiles functions to machine code, and lets them read columns by address and name.

A compiled function that took fifty arrays would spend its time on taking them, so it takes the address of a table of
addresses instead. With `NUMBA_DISABLE_JIT=1`, numba's own switch, the same source runs as plain Python, for a debugger
and for coverage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, ParamSpec, TypeVar
from weakref import WeakValueDictionary

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array
from numpy.typing import DTypeLike, NDArray

P = ParamSpec("P")
_T = TypeVar("_T")

_ENTRY_BYTES: Final = 16
"""Of a table of addresses: address and length."""
_OPTIONS: Final = {"error_model": "numpy"}
"""A division by zero gives no exception, which would cost at each division; nothing here divides by zero."""
_IS_INTERPRETED: Final = bool(numba.config.DISABLE_JIT)
_TABLES: Final[WeakValueDictionary[int, ColumnAddresses]] = WeakValueDictionary()
"""By address, where the source runs as plain Python."""


def compiled(function: Callable[P, _T]) -> Callable[P, _T]:
    """Return the same function as machine code, compiled by numba when it is first called, for Python to call.

    The code is kept beside the source, else in the user's cache folder, so that a machine compiles it once; where
    neither can be written each process compiles it anew. Numbers behave as in Python: no fast-math, no contraction.
    """
    try:
        made: Callable[P, _T] = numba.njit(function, cache=True, **_OPTIONS)
    except RuntimeError:  # nowhere to keep it
        made = numba.njit(function, **_OPTIONS)
    return made


def inner(function: Callable[P, _T]) -> Callable[P, _T]:
    """Return the same function for compiled functions to call."""
    made: Callable[P, _T] = numba.njit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)
    return made


class Columns:
    """Declares the columns of a table of addresses, in order.

    Attributes:
        types: of the columns declared so far, by name.
    """

    def __init__(self) -> None:
        self.types: dict[str, np.dtype[Any]] = {}

    def column(self, name: str, kind: DTypeLike) -> Callable[[int], Any]:
        """Declare a column; return the function that reads it in compiled code: `price(table)` is an array.

        Args:
            name: where its values come from.
            kind: a number's type, or that of a record, whose fields are read as attributes.
        """
        if name in self.types:
            raise ValueError(f"column {name!r} is declared twice, must be declared once")
        position = len(self.types)
        self.types[name] = np.dtype(kind)
        return _interpreted(name) if _IS_INTERPRETED else _reader(position, self.types[name])

    def at(self, arrays: Mapping[str, NDArray[Any]]) -> ColumnAddresses:
        """Return the table of addresses of `arrays`, by name of column.

        Raises:
            TypeError: an array is not of its column's type, or not contiguous and aligned.
            KeyError: a column has no array.
        """
        return ColumnAddresses({name: arrays[name] for name in self.types}, self.types)


class ColumnAddresses:
    """Where columns stand in memory. It holds the arrays, so that their memory stays.

    Attributes:
        arrays: by name of column.
        address: what compiled functions take.
    """

    def __init__(self, arrays: dict[str, NDArray[Any]], kinds: Mapping[str, np.dtype[Any]]) -> None:
        for name, array in arrays.items():
            if array.dtype != kinds[name] or not (array.flags.c_contiguous and array.flags.aligned):
                raise TypeError(f"column {name} is {array.dtype}, must be {kinds[name]}, contiguous and aligned")
        self.arrays = arrays
        self._table = np.array([[array.ctypes.data, array.size] for array in arrays.values()], dtype=np.int64)
        self.address = int(self._table.ctypes.data)
        if _IS_INTERPRETED:
            _TABLES[self.address] = self


def _interpreted(name: str) -> Callable[[int], Any]:
    def read(address: int) -> Any:  # noqa: ANN401 - an array of numbers or of records
        array = _TABLES[address].arrays[name]
        return array.view(np.recarray) if array.dtype.names else array

    return read


def _reader(position: int, kind: np.dtype[Any]) -> Callable[[int], Any]:
    """Return the function that reads a column in compiled code.

    It makes the array right where it is used: nothing is called, and nothing counts references to it.
    """
    array_type = types.Array(numba.from_dtype(kind), 1, "C")

    def column(_context: Any, _table: Any) -> Any:  # noqa: ANN401
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401
            word = context.get_value_type(types.intp)
            entry = builder.add(arguments[0], word(position * _ENTRY_BYTES))
            entry = builder.inttoptr(entry, word.as_pointer())
            address, length = builder.load(entry), builder.load(builder.gep(entry, [word(1)]))
            array = make_array(array_type)(context, builder)
            size = word(kind.itemsize)
            data = builder.inttoptr(address, array.data.type)
            populate_array(array, data=data, shape=[length], strides=[size], itemsize=size, meminfo=None)
            return array._getvalue()  # noqa: SLF001 - numba's own way to say it

        return array_type(types.int64), generate

    read: Callable[[int], Any] = intrinsic(column)
    return read
