"""A small JSON file that servers may have mounted alone: changed by many, never replaced.

A container that mounts one file has its inode: what is moved into the file's place on the host never gets there, and
nothing can be moved onto a mount point. So a change is written over the file itself, from a copy that stands whole
beside it. Meanwhile the file begins with a mark that no JSON document begins with; the last write, of one byte, takes
the mark away. A change that is cut off leaves no valid document, and the copy finishes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from recsys.errors import ConfigError

MODE: Final = 0o644
"""Of a new file: a server reads it as a user of its own. What must stay secret does not belong into it."""

_BEING_CHANGED: Final = b"#"
_NOT_ALLOWED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


def read(path: Path) -> bytes:
    """Return what the file holds, as it is.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: this user can't read it, or it has no name any more.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_nlink == 0:  # mounted alone, a deleted file can still be read
                raise ConfigError(
                    f"{path}: deleted or replaced on the host that it is mounted from, so that no change of it would "
                    "be seen; start the container anew, and change the file in its place"
                )
            return file.read()
    except FileNotFoundError:
        raise
    except IsADirectoryError:
        raise ConfigError(f"{path}: a folder, must be a file; mounting a file that is missing makes a folder") from None
    except PermissionError:
        raise ConfigError(f"{path}: not readable for {_this_user()}; {_access(path)}") from None
    except OSError as error:
        raise ConfigError(f"{path}: not readable ({error.strerror}); let the server's user read it") from None


def is_whole(content: bytes) -> bool:
    """Return whether no change of the file was under way when `content` was read."""
    return not content.startswith(_BEING_CHANGED)


def remedy(path: Path) -> str:
    """Return what to do about a file that stays as a change has left it."""
    copy = _copy_of(path)
    finish = f"`cp {copy} {path}` finishes it" if copy.exists() else "restore it or make it again"
    return f"is being changed, or a change was cut off; if it stays so, {finish}"


def change(path: Path, changed: Callable[[bytes], bytes]) -> None:
    """Put `changed` of what the file holds in its place; changes at the same time wait for each other.

    Args:
        path: made, with its folder, where there is no such file.
        changed: empty for a new file -> a JSON object.

    Raises:
        ConfigError: the file may not be written here, or there is no room; it is as it was then.
    """
    try:
        with _locked(path) as file:
            _overwrite(path, file, changed(file.read()))
    except OSError as error:
        where = "run the command where the file may be written" if error.errno in _NOT_ALLOWED else "mend that"
        raise ConfigError(f"{path}: not written for {_this_user()} ({error.strerror}); {where}") from None


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Open the file that has this name while nobody else changes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        is_new = not path.exists()
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE), "r+b") as file:
            if is_new:
                os.fchmod(file.fileno(), MODE)  # whatever the umask says
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_named(file, path):  # else another program replaced it meanwhile
                yield file
                return


def _is_named(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _overwrite(path: Path, file: BinaryIO, content: bytes) -> None:
    status = os.fstat(file.fileno())
    copy = _write_copy(path, content, stat.S_IMODE(status.st_mode))
    # Room first, as white space behind the document: from here on a full disk has nothing to refuse.
    _put(file, status.st_size, b" " * (len(content) - status.st_size))
    _put(file, 0, _BEING_CHANGED)
    _put(file, 1, content[1:])
    file.truncate(len(content))
    _put(file, 0, content[:1])
    if copy is not None:
        copy.unlink()


def _put(file: BinaryIO, at: int, content: bytes) -> None:
    file.seek(at)
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def _write_copy(path: Path, content: bytes, mode: int) -> Path | None:
    """Return a copy beside the file, None where its folder takes none."""
    copy = _copy_of(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(copy, flags, mode), "wb") as file:
            _put(file, 0, content)
    except OSError as error:
        if error.errno in _NOT_ALLOWED:
            return None
        copy.unlink(missing_ok=True)
        raise
    return copy


def _copy_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _this_user() -> str:
    number = os.geteuid()
    try:
        return f"user {pwd.getpwuid(number).pw_name} ({number})"
    except KeyError:  # a container's user needs no name
        return f"user {number}"


def _access(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "open its folders with `chmod a+x`"
    return f"it is user {status.st_uid}'s with mode {stat.S_IMODE(status.st_mode):04o}; `chmod a+r {path}` opens it"
