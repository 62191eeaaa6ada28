"""A file that is changed in its place: whole or plainly not, the same inode, readable for the server's user."""

from __future__ import annotations

import ctypes
import itertools
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import httpx
import pytest

from recsys.cli import main
from recsys.errors import ConfigError
from serving.http.keys import KeyFile, change_keys, new_key, read_keys, without_key
from tests.support.key_files import write_keys

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
IMAGE_USER = 10_001
"""As in deploy/Dockerfile."""


def keys_of(*names: str) -> KeyFile:
    return KeyFile(keys=tuple(new_key(name, now=NOW, role="orders", owner="team")[1] for name in names))


def names_in(path: Path) -> list[str]:
    return [entry.name for entry in read_keys(path).keys]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may look into, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_change_keeps_the_inode_and_leaves_nothing_beside(path: Path) -> None:
    write_keys(path, keys_of("a", "b"))
    inode = path.stat().st_ino
    for names in (("a",), tuple("abcdefgh"), ()):
        write_keys(path, keys_of(*names))
        assert names_in(path) == list(names)
    assert path.stat().st_ino == inode
    assert list(path.parent.iterdir()) == [path]


def test_a_new_file_is_for_every_reader_and_a_known_one_stays_as_its_owner_set_it(path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_keys(path, keys_of("a"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        path.chmod(0o640)
        write_keys(path, keys_of("b"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(before)


def child(task: Callable[[], object]) -> int:
    """Run a task in a process of its own that has everything imported; return its exit code, negative: a signal."""
    process_id = os.fork()
    if process_id == 0:
        code = 70
        try:
            task()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])


def kill_at_fsync(nth: int) -> None:
    """End this process without any ado when it is about to wait for the disk for the nth time."""
    calls = itertools.count(1)

    def look(_frame: FrameType, event: str, function: object) -> None:
        if event == "c_call" and function is os.fsync and next(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(look)


@pytest.mark.parametrize(
    ("at", "left"),
    [(1, "before"), (2, "before"), (3, "cut off"), (4, "cut off"), (5, "after"), (6, "after")],
)
def test_a_change_that_is_killed_leaves_the_old_keys_the_new_or_a_file_that_says_how_to_finish(
    path: Path, at: int, left: str
) -> None:
    """Killed after each of its writes in turn; the sixth is never reached. Both documents take several pages."""
    before, after = [f"key {i}" for i in range(40)], [f"key {i}" for i in range(1, 60)]
    write_keys(path, keys_of(*before))
    inode = path.stat().st_ino
    wanted = keys_of(*after)

    def change() -> None:
        kill_at_fsync(at)
        write_keys(path, wanted)

    assert child(change) == (0 if at == 6 else -signal.SIGKILL)
    copy = path.with_name(".keys.json.new")
    if left == "cut off":
        with pytest.raises(ConfigError, match=f"a change was cut off; if it stays so, `cp {copy} {path}` finishes it"):
            read_keys(path)
        with pytest.raises(ConfigError, match="a change was cut off"):  # and no other change is built upon it
            write_keys(path, keys_of("other"))
        shutil.copyfile(copy, path)
    assert names_in(path) == (before if left == "before" else after)
    write_keys(path, keys_of("next"))
    assert names_in(path) == ["next"]
    assert path.stat().st_ino == inode
    assert not copy.exists()


def test_without_room_the_file_stays_as_it_was(path: Path) -> None:
    write_keys(path, keys_of("a"))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    more = keys_of(*(f"key {i}" for i in range(200)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(ConfigError, match="not written for user"):
            write_keys(path, more)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def as_image_user(*words: str) -> Ran:
    """Run a command as the image's user; as one's own where only root may choose."""
    for name in ("serving.models.loading", "serving.processes.server"):  # another user may not look where Python stands
        import_module(name)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:

        def command() -> None:
            sys.stdout, sys.stderr = out, err
            try:
                if os.geteuid() == 0:
                    os.setgroups([])
                    os.setgid(IMAGE_USER)
                    os.setuid(IMAGE_USER)
                main(list(words))
            finally:
                out.flush()
                err.flush()

        code = child(command)
        out.seek(0)
        err.seek(0)
        return Ran(code, out.read(), err.read())


def test_what_root_writes_the_images_user_reads_and_may_not_change(open_folder: Path) -> None:
    path = open_folder / "keys.json"
    write_keys(path, keys_of("shop"))
    path.chmod(0o644 if os.geteuid() == 0 else 0o444)
    listed = as_image_user("key", "list", "--keys", str(path))
    assert "shop  team  orders (outcomes)" in listed.out, listed.err
    revoked = as_image_user("key", "revoke", read_keys(path).keys[0].key_id, "--keys", str(path))
    assert revoked.code == 1
    assert "not written for user" in revoked.err
    assert "run the command where the file may be written" in revoked.err
    assert names_in(path) == ["shop"]


def test_a_file_that_the_servers_user_may_not_read_is_named_with_the_remedy(open_folder: Path) -> None:
    path = open_folder / "keys.json"
    write_keys(path, keys_of("shop"))
    path.chmod(0o200)
    served = as_image_user("serve", "--model", str(open_folder), "--keys", str(path))
    assert served.code == 1
    user = IMAGE_USER if os.geteuid() == 0 else os.geteuid()
    assert f"{path}: not readable for user " in served.err
    assert str(user) in served.err
    assert f"with mode 0200; `chmod a+r {path}`" in served.err
    assert "Traceback" not in served.err


def test_a_folder_that_takes_no_copy_does_not_stop_a_change(open_folder: Path) -> None:
    """As inside a container that has the file mounted alone."""
    path = open_folder / "keys.json"
    write_keys(path, keys_of("shop", "kept"))
    path.chmod(0o666)
    open_folder.chmod(0o555)
    try:
        revoked = as_image_user("key", "revoke", read_keys(path).keys[0].key_id, "--keys", str(path))
    finally:
        open_folder.chmod(0o755)
    assert revoked.code == 0, revoked.err
    assert names_in(path) == ["kept"]


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a folder, must be a file; mounting a file that is missing"):
        read_keys(tmp_path)


OWN_USER = () if os.geteuid() == 0 else ("--user", "--map-root-user")
"""Who is not root may mount in a user namespace of its own only."""
UNSHARE = ("unshare", "--mount", *OWN_USER)


def enter_namespaces(process_id: int) -> None:
    """Look at the file system as another process does; for a process with one thread."""
    for kind in (*(["user"] if OWN_USER else []), "mnt"):
        with Path(f"/proc/{process_id}/ns/{kind}").open() as namespace:
            assert ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) == 0, os.strerror(ctypes.get_errno())


class Mounted:
    """`offers serve` with two workers in a mount namespace of its own; there `inside` is the file `outside`."""

    def __init__(self, folder: Path, start: Callable[..., Any]) -> None:
        self.outside, self.inside = folder / "host" / "keys.json", folder / "container" / "keys.json"
        made = {name: new_key(name, now=NOW, role="storefront", owner="team") for name in ("outside", "inside", "kept")}
        self._made = made
        write_keys(self.outside, KeyFile(keys=tuple(entry for _, entry in made.values())))
        self.inside.parent.mkdir()
        self.inside.touch()
        mount = 'mount --bind "$0" "$1" && shift && exec "$@"'
        wrapper = (*UNSHARE, "sh", "-c", mount, str(self.outside), str(self.inside))
        options = ("--keys", str(self.inside), "--workers", "2")
        self.served = start(f"sqlite:///{folder}/e.db", *options, wrapper=wrapper)

    def headers(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._made[name][0]}"}

    def revoke_outside(self) -> None:
        change_keys(self.outside, partial(without_key, key_id=self._made["outside"][1].key_id))

    def revoke_inside(self) -> None:
        def revoke() -> None:
            enter_namespaces(self.served.process.pid)
            change_keys(self.inside, partial(without_key, key_id=self._made["inside"][1].key_id))

        assert child(revoke) == 0

    def statuses(self, name: str) -> set[int]:
        """Of requests over a connection each, so that both workers are asked."""
        url = f"{self.served.url}/v1/offers"
        return {httpx.post(url, json={}, headers=self.headers(name), timeout=30).status_code for _ in range(10)}


@pytest.fixture
def mounted(tmp_path: Path, serve: Callable[..., Any]) -> Mounted:
    command = [*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"]
    probe = subprocess.run(command, capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        message = f"no file can be mounted alone here ({probe.stderr.strip()}); run as root or with user namespaces"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return Mounted(tmp_path, serve)


def until(holds: Callable[[], bool]) -> None:
    """A worker looks at its file within a second, if the machine lets it."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_key_revoked_on_either_side_of_the_mount_opens_nothing(mounted: Mounted) -> None:
    """Nor does any key once an editor has replaced the file: the server has the old one, which nobody can change."""
    with httpx.Client(base_url=mounted.served.url, timeout=30) as kept_open:
        for name, revoke in (("outside", mounted.revoke_outside), ("inside", mounted.revoke_inside)):
            assert mounted.statuses(name) == {200}
            assert kept_open.post("/v1/offers", json={}, headers=mounted.headers(name)).status_code == 200
            revoke()
            until(lambda name=name: mounted.statuses(name) == {401})  # type: ignore[misc]
            assert kept_open.post("/v1/offers", json={}, headers=mounted.headers(name)).status_code == 401
    assert mounted.statuses("kept") == {200}
    assert names_in(mounted.outside) == ["kept"]
    edited = mounted.outside.with_name("edited.json")
    edited.write_bytes(mounted.outside.read_bytes())
    edited.replace(mounted.outside)
    until(lambda: mounted.statuses("kept") == {503})
    assert "file of keys" in httpx.get(f"{mounted.served.url}/readyz", timeout=30).json()["detail"]
    _, log = mounted.served.stop()
    assert "deleted or replaced on the host" in log
