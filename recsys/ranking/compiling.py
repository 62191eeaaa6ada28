"""Compiles the function that every request runs through to machine code, and lets it read columns by address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, ParamSpec, TypeVar

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array
from numpy.typing import NDArray

P = ParamSpec("P")
_T = TypeVar("_T")

_ENTRY_BYTES: Final = 16
"""Of a book: address and length."""
_OPTIONS: Final = {"error_model": "numpy"}
"""A division by zero gives no exception, which would cost at each division; nothing here divides by zero."""


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


class ColumnAddresses:
    """Where columns stand in memory: a compiled function that took fifty arrays would spend its time on taking them.

    It holds the arrays, so that their memory stays. Compiled code reads a column with the function of its type.

    Attributes:
        address: of the table of addresses and lengths, which stands for the book in compiled code.
    """

    def __init__(self, columns: Sequence[NDArray[Any]], kinds: Sequence[str]) -> None:
        for column, kind in zip(columns, kinds, strict=True):
            if column.dtype != np.dtype(kind) or not (column.flags.c_contiguous and column.flags.aligned):
                raise TypeError(f"a column of type {column.dtype}, must be {np.dtype(kind)}, contiguous and aligned")
        self._columns = tuple(columns)
        self._table = np.array([[column.ctypes.data, column.size] for column in columns], dtype=np.int64)
        self.address = int(self._table.ctypes.data)


def _reader(kind: type[np.generic], width: int = 1) -> Callable[[int, int], NDArray[Any]]:
    """Return the function that reads a column in compiled code, as rows of `width` where that is more than 1.

    It makes the array right where it is used: nothing is called, and nothing counts references to it.
    """
    number = numba.from_dtype(np.dtype(kind))
    array_type = types.Array(number, 1 if width == 1 else 2, "C")

    def column(_context: Any, _book: Any, _column: Any) -> Any:  # noqa: ANN401
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401
            word = context.get_value_type(types.intp)
            entry = builder.add(arguments[0], builder.mul(arguments[1], word(_ENTRY_BYTES)))
            entry = builder.inttoptr(entry, word.as_pointer())
            address, length = builder.load(entry), builder.load(builder.gep(entry, [word(1)]))
            array = make_array(array_type)(context, builder)
            size = word(np.dtype(kind).itemsize)
            shape, strides = [length], [size]
            if width > 1:
                shape, strides = (
                    [builder.udiv(length, word(width)), word(width)],
                    [builder.mul(size, word(width)), size],
                )
            data = builder.inttoptr(address, array.data.type)
            populate_array(array, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
            return array._getvalue()  # noqa: SLF001 - numba's own way to say it

        return array_type(types.int64, types.int64), generate

    read: Callable[[int, int], NDArray[Any]] = intrinsic(column)
    return read


f8, f4 = _reader(np.float64), _reader(np.float32)
i8, i4, i2, i1, u1 = _reader(np.int64), _reader(np.int32), _reader(np.int16), _reader(np.int8), _reader(np.uint8)
f8_by_4, i4_by_4 = _reader(np.float64, 4), _reader(np.int32, 4)
"""`i4(book, column)` is the column as an array of 32-bit integers, `i4_by_4` the same as rows of four."""
