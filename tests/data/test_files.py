import os
import signal
import threading
import time

import pytest

from feat2img.data.files import LOCK_NAME, only_user_of, refuse_links_out_of, write_atomically


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock on `tmp_path`, and a child of it, as a data worker, that outlives it."""
    told, tell = os.pipe()
    process = os.fork()
    if process == 0:
        with only_user_of(tmp_path):
            if os.fork() == 0:
                time.sleep(3)
                os._exit(0)
            os.write(tell, b"held")
            time.sleep(60)
        os._exit(0)
    assert os.read(told, 4) == b"held"
    yield process
    try:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_a_file_is_the_old_one_or_the_new_one(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_made_and_can_be_used_again(tmp_path):
    for _ in range(2):
        with only_user_of(tmp_path / "a" / "b"):
            assert str(os.getpid()) in (tmp_path / "a" / "b" / LOCK_NAME).read_text()


FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is locked there")


@FORKS
def test_a_second_process_is_refused_until_the_first_one_is_gone(tmp_path, holder):
    with pytest.raises(ValueError, match=rf"is in use by another process \(process {holder} on .*\); wait"):
        with only_user_of(tmp_path):
            pytest.fail("two at once")
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with only_user_of(tmp_path):
        pass


@FORKS
def test_a_second_process_may_wait(tmp_path, holder):
    began = time.monotonic()
    threading.Timer(0.3, os.kill, (holder, signal.SIGKILL)).start()
    with only_user_of(tmp_path, wait=True):
        assert time.monotonic() - began > 0.25


def test_links_out_of_a_folder_are_refused(tmp_path):
    folder = tmp_path / "folder"
    (folder / "inside").mkdir(parents=True)
    (folder / "inside" / "file").write_text("")
    (folder / "link").symlink_to("inside/file")
    refuse_links_out_of(folder)
    (tmp_path / "alias").symlink_to(folder)
    refuse_links_out_of(tmp_path / "alias")
    for target in (tmp_path, tmp_path / "nowhere", "/etc/passwd", "../../folder-2"):
        (folder / "inside" / "out").symlink_to(target)
        with pytest.raises(ValueError, match="inside/out is a link to a file elsewhere"):
            refuse_links_out_of(folder)
        (folder / "inside" / "out").unlink()
