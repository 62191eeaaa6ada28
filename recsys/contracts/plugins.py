"""Parts of other packages, found by the entry points that they declare, so that a configuration can name them.

A package declares, for example::

    [project.entry-points."offer_engine.retrievers"]
    same_brand = "our_package.retrievers:SameBrand"

and a configuration names it: `plugins = ["same_brand"]` under `[next_product.sources]`. An entry point stands for a
class or a function that is called without arguments and returns a new part, not fitted. Nothing is loaded that no
configuration names. `recsys.testing` has a class of tests for each kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from traceback import walk_tb
from typing import Any, Final, Literal, TypeVar

from pydantic import AfterValidator

from recsys.errors import PluginError

_P = TypeVar("_P")

PluginKind = Literal["retrievers", "rankers", "features", "baselines"]

_GROUP: Final = "offer_engine"
_MEMBERS: Final[dict[PluginKind, tuple[str, ...]]] = {
    "retrievers": ("channels", "fit", "score"),
    "rankers": ("fit", "predict_proba"),
    "features": ("names", "fit", "transform"),
    "baselines": ("name", "fit", "recommend"),
}


def installed_plugin(kind: PluginKind) -> AfterValidator:
    """Return the rule of an option that names a plug-in: it must be installed."""
    return AfterValidator(partial(_installed, kind))


def load_plugin(kind: PluginKind, name: str) -> Any:  # noqa: ANN401 - its kind says which protocol it has
    """Return a new part of an installed package, not fitted.

    Raises:
        PluginError: it is not installed, can't be imported or made, or lacks what its kind must have.
    """
    found = _entries(kind)
    if name not in found:
        raise PluginError(_not_installed(kind, name, found))
    entry = found[name]
    what = f"{_GROUP}.{kind} {name!r} ({entry.value})"
    try:
        part = entry.load()()
    except Exception as error:
        raise PluginError(f"{what}: can't be made: {type(error).__name__}: {error}; mend or leave it out") from error
    check_plugin(kind, part, what)
    return part


def check_plugin(kind: PluginKind, part: object, what: str) -> None:
    """Check that a part is an object with what its kind must have.

    Raises:
        PluginError: it is a class, or lacks something.
    """
    if isinstance(part, type):
        raise PluginError(f"{what} == {part!r}, must be an object and not a class; call it: {part.__name__}()")
    missing = [member for member in _MEMBERS[kind] if not hasattr(part, member)]
    if missing:
        raise PluginError(
            f"{what} == {type(part).__name__}, lacks {', '.join(missing)}; {kind} must have {', '.join(_MEMBERS[kind])}"
        )


def check_several(what: str, parts: object) -> None:
    """Check that parts were given as several, in order.

    Raises:
        PluginError: they were given as one, or as something else.
    """
    if isinstance(parts, str) or not isinstance(parts, Sequence):
        raise PluginError(f"{what} == {parts!r}, must be several in order; give a list")


def fitted_plugin(what: str, fitted: _P) -> _P:
    """Return what the `fit` of a part returned.

    Raises:
        PluginError: nothing; a part that is asked is the one that `fit` returned.
    """
    if fitted is None:
        raise PluginError(f"{what}: fit returned None, must return what was fitted; end it with `return self`")
    return fitted


def plugin_at_fault(error: BaseException) -> str | None:
    """Return the part of another package in whose code an error was raised; None where it was raised in no such part.

    What a part calls is its fault too: an array of numpy that it gave the wrong shape.
    """
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    ran_in = {frame.f_globals.get("__name__", "").partition(".")[0] for frame in frames} - {__name__.partition(".")[0]}
    classes = {type(frame.f_locals.get("self")).__qualname__ for frame in frames}
    found = [
        (entry.attr in classes, f"{_GROUP}.{kind} {name!r} ({entry.value})")
        for kind in _MEMBERS
        for name, entry in _entries(kind).items()
        if entry.module.partition(".")[0] in ran_in
    ]
    surely = any(is_class for is_class, _ in found)  # else the package is known, and not which of its parts it was
    return " or ".join(told for is_class, told in found if is_class == surely) or None


def check_unique(what: str, names: Sequence[str]) -> None:
    """Check that no two have one name.

    Raises:
        PluginError: two have.
    """
    doubled = sorted(name for name, count in Counter(names).items() if count > 1)
    if doubled:
        raise PluginError(
            f"{what} {', '.join(map(repr, doubled))} stands twice, must be unique; rename it in your part"
        )


def _installed(kind: PluginKind, name: str) -> str:
    found = _entries(kind)
    if name not in found:
        raise ValueError(_not_installed(kind, name, found))
    return name


def _entries(kind: PluginKind) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in sorted(entry_points(group=f"{_GROUP}.{kind}"), key=lambda each: each.name)}


def _not_installed(kind: PluginKind, name: str, found: dict[str, EntryPoint]) -> str:
    listed = ", ".join(found) if found else "none"
    return (
        f"{name!r} is no entry point of {_GROUP}.{kind}, installed: {listed}; install the package that declares it, or "
        "name an installed one"
    )
