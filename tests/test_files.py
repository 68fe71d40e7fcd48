"""Files are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from deploykit import files
from deploykit.errors import OutputError


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="half"), files.replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise ValueError("half way")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_a_write_makes_the_folders_and_the_usual_permissions(tmp_path):
    path = tmp_path / "a" / "b" / "model.onnx"
    files.write_bytes(path, b"new")
    (tmp_path / "usual").touch()
    assert path.read_bytes() == b"new"
    assert mode_of(path) == mode_of(tmp_path / "usual")


def test_a_folder_or_a_file_in_the_way_is_an_output_error(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        files.write_bytes(tmp_path / "folder.onnx", b"x")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OutputError, match=r"cannot write .*--out"):
        files.write_bytes(tmp_path / "file" / "model.onnx", b"x")
    with pytest.raises(OutputError):
        files.writable_folder(tmp_path / "file")


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutputError, match="no space left on device"):
        files.write_bytes(tmp_path / "x", b"x")
    assert os.listdir(tmp_path) == []


def _hang_while_writing(path, started):
    with files.replacing(path) as temporary:
        temporary.write_bytes(b"half")
        started.set()
        time.sleep(60)


def test_what_a_killed_writer_left_is_removed_by_the_next_one_but_a_living_writer_is_not_disturbed(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    writer = context.Process(target=_hang_while_writing, args=(path, started))
    writer.start()
    assert started.wait(30)
    files.write_bytes(path, b"other")
    assert len(list(tmp_path.glob(".model.onnx.*.tmp"))) == 1, "the living writer's file was taken away"
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert path.read_bytes() == b"other"
    files.write_bytes(path, b"new")
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_a_temporary_file_is_locked_while_it_is_written(tmp_path):
    with files.replacing(tmp_path / "x") as temporary:
        handle = os.open(temporary, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)


def test_the_umask_of_the_process_is_not_touched(tmp_path, monkeypatch):
    """It belongs to all threads: one that makes a file at that moment would make it with other permissions."""

    def touched(_mask):
        raise AssertionError("the umask was set")

    monkeypatch.setattr(files.os, "umask", touched)
    files.write_bytes(tmp_path / "x", b"x")
    with files.scratch_folder(tmp_path):
        pass


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    path.chmod(mode)
    with files.replacing(path) as temporary:
        assert mode_of(temporary) == mode | 0o600, "nobody reads the new content who could not read the old one"
        temporary.write_bytes(b"new")
    assert (path.read_bytes(), mode_of(path)) == (b"new", mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_root_leaves_a_file_to_its_owner(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    os.chown(path, 4321, 1234)
    files.write_bytes(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid, path.read_bytes()) == (4321, 1234, b"new")


def test_an_owner_that_cannot_be_kept_is_no_error(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    asked = []

    def refused(_handle, user, group):
        asked.append((user, group))
        raise PermissionError(1, "Operation not permitted")

    old = os.stat_result([*path.stat()[:4], 4321, 1234, *path.stat()[6:]])
    monkeypatch.setattr(files.os, "fchown", refused)
    with path.open("r+b") as stream:
        files._resemble(stream.fileno(), old)
    assert asked == [(4321, 1234), (-1, 1234)]


def test_links_are_followed_and_stay(tmp_path):
    (tmp_path / "store").mkdir()
    real = tmp_path / "store" / "v1.onnx"
    real.write_bytes(b"old")
    real.chmod(0o640)
    (tmp_path / "current.onnx").symlink_to(Path("store", "v1.onnx"))
    (tmp_path / "model.onnx").symlink_to("current.onnx")
    files.write_bytes(tmp_path / "model.onnx", b"new")
    assert (real.read_bytes(), mode_of(real)) == (b"new", 0o640)
    assert (tmp_path / "model.onnx").readlink() == Path("current.onnx")
    assert (tmp_path / "current.onnx").readlink() == Path("store", "v1.onnx")
    assert os.listdir(tmp_path / "store") == ["v1.onnx"]


def test_a_link_to_a_file_that_is_not_there_makes_that_file(tmp_path):
    """As a shell's `>` does. Folders are not made: the link may lead to a disk that is not there today."""
    (tmp_path / "link").symlink_to("new")
    files.write_bytes(tmp_path / "link", b"x")
    assert (tmp_path / "new").read_bytes() == b"x"
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "lost").symlink_to(tmp_path / "mnt" / "new")
    with pytest.raises(OutputError, match=r"lost: it is a link to .*mnt/new, whose folder is not there"):
        files.write_bytes(tmp_path / "lost", b"x")
    (tmp_path / "round").symlink_to("about")
    (tmp_path / "about").symlink_to("round")
    with pytest.raises(OutputError, match="symbolic links"):
        files.write_bytes(tmp_path / "round", b"x")
    assert sorted(os.listdir(tmp_path)) == ["about", "link", "lost", "new", "round"]


@contextlib.contextmanager
def special(kind, path):
    if kind == "pipe":
        os.mkfifo(path)
        yield
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
            server.bind(path.name)
            yield
    elif kind == "device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("this user cannot make a device")
        yield
    else:
        path.mkdir()
        yield


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
@pytest.mark.parametrize("through", ["name", "link"])
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path, kind, through):
    path = tmp_path / "special"
    with special(kind, path):
        before = path.lstat()
        asked = path
        if through == "link":
            asked = tmp_path / "link"
            asked.symlink_to(path)
        with pytest.raises(OutputError, match=f"it is a {kind}") as caught:
            files.write_bytes(asked, b"x")
        assert caught.value.exit_status == 2
        with pytest.raises(OutputError, match=f"it is a {kind}"):
            files.writable_file(asked)
        after = path.lstat()
        assert (after.st_ino, after.st_mode, after.st_rdev) == (before.st_ino, before.st_mode, before.st_rdev)


def test_what_was_put_there_while_the_file_was_written_is_not_replaced(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(OutputError, match="it is a pipe"), files.replacing(path) as temporary:
        temporary.write_bytes(b"x")
        os.mkfifo(path)
    assert path.is_fifo()
    assert os.listdir(tmp_path) == ["model.onnx"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's /proc")
def test_a_stream_of_a_process_is_refused_whatever_it_is(tmp_path):
    """Also where it is a regular file: others go on writing to it, and what it holds already would be lost."""
    log = tmp_path / "log"
    log.write_bytes(b"what was there")
    with log.open("ab") as stream:
        (tmp_path / "link").symlink_to(f"/dev/fd/{stream.fileno()}")
        for path in (Path(f"/proc/self/fd/{stream.fileno()}"), Path(f"/dev/fd/{stream.fileno()}"), tmp_path / "link"):
            with pytest.raises(OutputError, match="it is a stream of a process"):
                files.write_bytes(path, b"x")
    assert log.read_bytes() == b"what was there"


def test_a_report_into_something_else_than_a_file_is_one_line_before_the_work(cli, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr("deploykit.profiler.profile", lambda *_, **__: pytest.fail("the work began"))
    for path in ("/dev/null", "/dev/stdout", "pipe"):
        before = os.lstat(path)
        for option in ("--output", "--plot"):
            done = cli("profile", "lenet5", "--untrained", option, path)
            assert done.exit_code == 2
            if option == "--output":
                assert done.stderr.startswith(f"error: cannot write {path}: it is a "), done.stderr
            assert len(done.stderr.splitlines()) == 1
            assert done.stdout == ""
        assert os.lstat(path).st_ino == before.st_ino


def calls_of(monkeypatch):
    """What `os` is asked to do, in order: ("fsync", "file" or "folder") and ("replace", "")."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(handle):
        calls.append(("fsync", "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"))
        fsync(handle)

    def record_replace(old, new):
        calls.append(("replace", ""))
        replace(old, new)

    monkeypatch.setattr(files.os, "fsync", record_fsync)
    monkeypatch.setattr(files.os, "replace", record_replace)
    return calls


def test_content_then_name_are_flushed_to_the_disk(tmp_path, monkeypatch):
    calls = calls_of(monkeypatch)
    files.write_bytes(tmp_path / "x", b"x")
    assert calls == [("fsync", "file"), ("replace", ""), ("fsync", "folder")]


def test_a_file_system_that_cannot_flush_folders_is_no_error(tmp_path, monkeypatch):
    fsync = os.fsync

    def refuse(handle, number):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(files.os, "fsync", lambda handle: refuse(handle, errno.EINVAL))
    files.write_bytes(tmp_path / "x", b"x")
    monkeypatch.setattr(files.os, "fsync", lambda handle: refuse(handle, errno.EIO))
    with pytest.raises(OutputError, match="input/output error"):
        files.write_bytes(tmp_path / "x", b"y")


def test_a_text_that_utf8_cannot_say_is_escaped(tmp_path):
    files.write_text(tmp_path / "x", "caf\udce9 \u00e9")
    assert (tmp_path / "x").read_bytes() == b"caf\\udce9 \xc3\xa9"


@pytest.fixture
def windows(monkeypatch):
    """As on Windows: no locks, no owners, and a file that is open can neither be renamed nor removed, nor a folder flushed."""
    names = {}
    real = {name: getattr(os, name) for name in ("open", "close", "replace", "unlink", "fsync")}

    def opened(path, flags, *rest):
        assert not os.path.isdir(path), "Windows opens no folders"
        handle = real["open"](path, flags, *rest)
        names[handle] = (os.fspath(path), flags)
        return handle

    def closed(handle):
        names.pop(handle, None)
        real["close"](handle)

    def refuse_open(path):
        if os.fspath(path) in [name for name, _ in names.values()]:
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")

    def replaced(old, new):
        refuse_open(old)
        real["replace"](old, new)

    def unlinked(path, **options):
        refuse_open(path)
        real["unlink"](path, **options)

    def flushed(handle):
        assert names[handle][1] & os.O_RDWR, "Windows flushes only what is open for writing"
        real["fsync"](handle)

    def unknown(*_):
        raise AssertionError("Windows does not have this")

    for name, function in {"open": opened, "close": closed, "replace": replaced, "unlink": unlinked, "fsync": flushed}.items():
        monkeypatch.setattr(files.os, name, function)
    for name in ("fchown", "fchmod", "geteuid"):
        monkeypatch.setattr(files.os, name, unknown)
    monkeypatch.delattr(files, "fcntl")
    monkeypatch.setattr(files, "LOCKS", False)
    # Not `os.name` itself, by which pathlib decides what kind of path to make.
    monkeypatch.setattr(files, "WINDOWS", True)


def test_windows_closes_what_it_renames_and_removes(tmp_path, windows):
    path = tmp_path / "model.onnx"
    for content in (b"old", b"new"):
        files.write_bytes(path, content)
        assert path.read_bytes() == content
    with pytest.raises(ValueError, match="half"), files.replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise ValueError("half way")
    files.writable_file(path)
    with files.scratch_folder(tmp_path) as folder:
        (folder / "x").write_bytes(b"x")
    assert os.listdir(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize("moment", ["has it", "had it"])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_writer_whose_file_another_process_took_for_abandoned_makes_a_new_one(tmp_path, monkeypatch, what, moment):
    """Between its making and its lock: the other one has it locked, and will remove it; or has removed it, and gone."""
    lock = files.lock
    taken = []

    def late(handle):
        if taken:
            return lock(handle)
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        taken.append(os.open(path, os.O_RDWR))
        assert lock(taken[0])
        if moment == "had it":
            path.unlink()
            if what == "folder":
                path.parent.rmdir()
            os.close(taken[0])
        return lock(handle)

    monkeypatch.setattr(files, "lock", late)
    if what == "file":
        with files.replacing(tmp_path / "x") as temporary:
            temporary.write_bytes(b"new")
            if moment == "has it":
                assert not os.path.samestat(os.fstat(taken[0]), temporary.stat()), "that one will be removed"
                os.close(taken[0])
        assert (tmp_path / "x").read_bytes() == b"new"
    else:
        with files.scratch_folder(tmp_path) as folder:
            (folder / "x").write_bytes(b"x")
            with (folder / files.MARKER).open("r+b") as marker:
                assert lock(marker.fileno()) is False, "it is locked"
            if moment == "has it":
                assert not os.path.samestat(os.fstat(taken[0]), (folder / files.MARKER).stat())
                os.close(taken[0])
    assert len(taken) == 1
    files.write_bytes(tmp_path / "x", b"newer")
    assert [name for name in os.listdir(tmp_path) if not files.SCRATCH.fullmatch(name)] == ["x"]


def test_a_file_system_without_locks_is_written_and_nothing_is_removed(tmp_path, monkeypatch):
    def unsupported(_handle, _how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", unsupported)
    stale = tmp_path / ".x.deploykit-0123456789abcdef.tmp"
    stale.write_bytes(b"perhaps being written on another machine")
    files.write_bytes(tmp_path / "x", b"x")
    with files.scratch_folder(tmp_path):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted(["x", stale.name])


def test_a_file_of_the_users_own_is_not_taken_for_a_temporary_one(tmp_path):
    for name in (".model.onnx.mine.tmp", ".model.onnx.deploykit-mine.tmp", ".other.onnx.deploykit-0123456789abcdef.tmp"):
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / ".model.onnx.deploykit-0123456789abcdef.tmp").symlink_to(".model.onnx.mine.tmp")
    os.mkfifo(tmp_path / ".model.onnx.deploykit-1123456789abcdef.tmp")
    before = sorted(os.listdir(tmp_path))
    files.write_bytes(tmp_path / "model.onnx", b"x")
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "model.onnx"])


def test_a_name_with_wildcards_is_a_name(tmp_path):
    (tmp_path / ".model.deploykit-0123456789abcdef.tmp").write_bytes(b"of another file")
    files.write_bytes(tmp_path / "*", b"x")
    (tmp_path / ".[a].deploykit-0123456789abcdef.tmp").write_bytes(b"of a killed writer")
    files.write_bytes(tmp_path / "[a]", b"x")
    assert sorted(os.listdir(tmp_path)) == ["*", ".model.deploykit-0123456789abcdef.tmp", "[a]"]


def test_a_folder_is_asked_without_a_trace_even_if_it_has_a_probe(tmp_path):
    (tmp_path / "probe").mkdir()
    files.writable_folder(tmp_path)
    files.writable_folder(tmp_path / "a" / "b")
    (tmp_path / "lost").symlink_to("nowhere")
    with pytest.raises(OutputError, match="no such file"):
        files.writable_folder(tmp_path / "lost")
    assert sorted(os.listdir(tmp_path)) == ["lost", "probe"]


def _hang_with_a_scratch_folder(names):
    with files.scratch_folder() as folder:
        (folder / "large").write_bytes(b"x")
        (folder / "deep" / "er").mkdir(parents=True)
        names.put(str(folder))
        time.sleep(60)


def test_a_killed_process_leaves_no_scratch_folder_for_long_and_a_living_one_keeps_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    context = multiprocessing.get_context("spawn")
    names = context.Queue()
    other = context.Process(target=_hang_with_a_scratch_folder, args=(names,))
    other.start()
    theirs = Path(names.get(timeout=30))
    with files.scratch_folder() as folder:
        assert sorted(os.listdir(tmp_path)) == sorted([theirs.name, folder.name])
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    shutil.copytree(theirs, tmp_path / ".deploykit-scratch-0123456789abcdef.tmp")
    with files.scratch_folder() as folder:
        assert sorted(os.listdir(tmp_path)) == sorted([".deploykit-scratch-0123456789abcdef.tmp", folder.name])
    assert os.listdir(tmp_path) == [".deploykit-scratch-0123456789abcdef.tmp"], "a copy is the user's own"


def abandoned(parent, digit="a"):
    """A scratch folder as a killed process leaves it."""
    folder = parent / f".deploykit-scratch-{digit * 16}.tmp"
    folder.mkdir()
    (folder / files.MARKER).write_bytes(files._marker(folder))
    (folder / "weights").write_bytes(b"large")
    return folder


def test_folders_that_are_not_its_own_are_never_touched(tmp_path):
    other = tmp_path / "elsewhere"
    other.mkdir()
    (tmp_path / "deploykit-empty").mkdir()
    (tmp_path / "deploykit-results").mkdir()
    (tmp_path / "deploykit-results" / ".lock").touch()
    (tmp_path / ".deploykit-scratch-mine.tmp").mkdir()
    for digit in "0123":
        (tmp_path / f".deploykit-scratch-{digit * 16}.tmp").mkdir()
    (tmp_path / f".deploykit-scratch-{'1' * 16}.tmp" / "notes").write_bytes(b"no marker")
    (tmp_path / f".deploykit-scratch-{'2' * 16}.tmp" / files.MARKER).write_bytes(b"")
    (tmp_path / f".deploykit-scratch-{'3' * 16}.tmp" / files.MARKER).write_bytes(b"another content")
    (tmp_path / f".deploykit-scratch-{'4' * 16}.tmp").symlink_to(abandoned(other))
    (tmp_path / f".deploykit-scratch-{'5' * 16}.tmp").write_bytes(b"a file")
    (tmp_path / f".deploykit-scratch-{'6' * 16}.tmp").mkdir()
    (tmp_path / f".deploykit-scratch-{'6' * 16}.tmp" / files.MARKER).symlink_to(other / "marker")
    (other / "marker").write_bytes(files._marker(tmp_path / f".deploykit-scratch-{'6' * 16}.tmp"))
    (tmp_path / f".deploykit-scratch-{'7' * 16}.tmp").mkdir()
    os.mkfifo(tmp_path / f".deploykit-scratch-{'7' * 16}.tmp" / files.MARKER)
    before = sorted(tmp_path.rglob("*"))
    with files.scratch_folder(tmp_path):
        pass
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_folders_of_other_users_are_never_touched(tmp_path):
    theirs = abandoned(tmp_path)
    os.chown(theirs, 4321, -1)
    with files.scratch_folder(tmp_path):
        pass
    assert (theirs / "weights").exists()


def test_what_a_link_in_a_scratch_folder_leads_to_stays(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "weights").write_bytes(b"mine")
    (abandoned(tmp_path) / "link").symlink_to(tmp_path / "mine")
    with files.scratch_folder(tmp_path) as folder:
        (folder / "link").symlink_to(tmp_path / "mine")
    assert os.listdir(tmp_path) == ["mine"]
    assert os.listdir(tmp_path / "mine") == ["weights"]


def test_a_process_that_is_killed_while_it_clears_leaves_the_rest_to_the_next(tmp_path, monkeypatch):
    folder = abandoned(tmp_path)
    (folder / "deep").mkdir()

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        files._remove_scratch(folder)
    assert os.listdir(tmp_path) == [folder.name]
    monkeypatch.undo()
    with files.scratch_folder(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_many_threads_make_and_remove_scratch_folders_at_once(tmp_path):
    failures = []

    def work():
        try:
            for _ in range(30):
                with files.scratch_folder(tmp_path) as folder:
                    (folder / "x").write_bytes(b"x")
                    assert (folder / "x").exists()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert os.listdir(tmp_path) == []


def test_a_scratch_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match=r"cannot make a folder in .*nowhere"), files.scratch_folder(tmp_path / "nowhere"):
        pass
