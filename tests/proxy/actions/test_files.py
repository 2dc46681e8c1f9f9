from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prox.proxy.actions.files import OpenFile, RootError, name_below


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root beside a folder whose name begins with the root's, and a secret."""
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "file.txt").write_text("inside")
    (root / "folder" / "index.html").write_text("index")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root-beside").mkdir()
    (tmp_path / "root-beside" / "secret").write_text("secret")
    return root


def content(root: Path, name: str) -> bytes:
    with opened(root, name) as file:
        return file.read(0, 100)


@contextmanager
def opened(root: Path, name: str) -> Iterator[OpenFile]:
    with closing(OpenFile()) as file:
        file.open_below(str(root), name)
        yield file


@pytest.mark.parametrize(
    ("path", "prefix", "name"),
    [
        ("/", "", ""),
        ("/a", "", "a"),
        ("/a/b.txt", "", "a/b.txt"),
        ("/a/", "", "a/"),
        ("/x/a", "/x", "a"),
        ("/x/", "/x", ""),
        ("/.hidden", "", ".hidden"),
        ("/...", "", "..."),
        ("/a..b", "", "a..b"),
        ("/x", "/x", None),
        ("/xa", "/x", None),
        ("*", "", None),
        ("", "", None),
        ("//", "", None),
        ("//a", "", None),
        ("/a//b", "", None),
        ("/a//", "", None),
        ("/.", "", None),
        ("/..", "", None),
        ("/../a", "", None),
        ("/a/../b", "", None),
        ("/a/..", "", None),
        ("/a/.", "", None),
        ("/x/../a", "/x", None),
        ("/..\\a", "", None),
        ("/a\\b", "", None),
        ("/a\0b", "", None),
        ("/a\0/../b", "", None),
    ],
)
def test_name_below(path: str, prefix: str, name: str | None) -> None:
    assert name_below(path, prefix) == name


@given(st.lists(st.sampled_from(["..", ".", "", "a", "\\", "...", "\0", "x"])).map("/".join))
def test_no_name_has_a_step_that_the_kernel_would_take_upwards(rest: str) -> None:
    name = name_below(f"/{rest}", "")
    if name is not None:
        assert not {"..", "."} & set(name.split("/"))
        assert not name.startswith("/")
        assert "\0" not in name


def test_a_file_and_an_index(root: Path) -> None:
    with opened(root, "file.txt") as file:
        assert (file.name, file.status.st_size, file.read(2, 3)) == ("file.txt", 6, b"sid")
    with opened(root, "folder/") as file:
        assert (file.name, file.read(0, 9)) == ("index.html", b"index")
    (root / "index.html").write_text("top")
    with opened(root, "") as file:
        assert (file.name, file.read(0, 9)) == ("index.html", b"top")


def test_a_folder_without_its_slash(root: Path) -> None:
    with pytest.raises(IsADirectoryError):
        content(root, "folder")


@pytest.mark.parametrize(
    "name", ["none", "none/", "", "file.txt/", "file.txt/x", "folder/none", "x" * 300, "x/" * 3000]
)
def test_what_there_is_not(root: Path, name: str) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - which one depends on the name; none of them is a permission
        content(root, name)
    assert not isinstance(caught.value, PermissionError | IsADirectoryError)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("file", "../secret"),
        ("absolute", "{base}/secret"),
        ("beside", "../root-beside/secret"),
        ("folder/deep", "../../secret"),
        ("proc", "/proc/self/status"),
        ("dangling", "../none"),
        ("round", "round"),
        ("fifo", "../fifo"),
    ],
)
def test_links_out_of_the_root_lead_nowhere(root: Path, link: str, target: str) -> None:
    os.mkfifo(root.parent / "fifo")
    (root / link).symlink_to(target.format(base=root.parent))
    with pytest.raises(OSError, match=r"outside|No such file|Too many levels"):
        content(root, link)


@pytest.mark.parametrize("target", ["..", "../root-beside", "/", "../../"])
def test_linked_folders_out_of_the_root_lead_nowhere(root: Path, target: str) -> None:
    (root / "out").symlink_to(target)
    for name in ("out/secret", "out/root-beside/secret", "out/etc/passwd"):
        with pytest.raises(FileNotFoundError):
            content(root, name)


@pytest.mark.parametrize(
    "target", ["file.txt", "folder/../file.txt", "../root/file.txt", "{root}/file.txt", "chain"]
)
def test_links_inside_the_root_are_followed(root: Path, target: str) -> None:
    (root / "chain").symlink_to("file.txt")
    (root / "link").symlink_to(target.format(root=root))
    assert content(root, "link") == b"inside"


def test_the_root_may_be_a_link_and_is_looked_up_each_time(root: Path) -> None:
    other = root.parent / "other"
    other.mkdir()
    (other / "file.txt").write_text("other")
    current = root.parent / "current"
    current.symlink_to("root")
    assert content(current, "file.txt") == b"inside"
    current.unlink()
    current.symlink_to("other")
    assert content(current, "file.txt") == b"other"


def test_the_root_of_the_file_system(root: Path) -> None:
    assert content(Path("/"), str(root / "file.txt")[1:]) == b"inside"


def test_a_name_that_is_no_text(root: Path) -> None:
    folder = os.path.join(os.fsencode(root), b"\xff")  # noqa: PTH118 - bytes
    os.mkdir(folder)  # noqa: PTH102 - bytes
    Path(os.fsdecode(folder), "x").write_text("x")
    assert content(Path(os.fsdecode(folder)), "x") == b"x"


def test_what_is_no_regular_file_is_not_opened(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(root / "socket"))
        (root / "folder" / "fifo").mkdir()
        os.mkfifo(root / "folder" / "fifo" / "index.html")
        for name in ("fifo", "socket", "folder/fifo/"):
            with pytest.raises(FileNotFoundError):
                content(root, name)


def test_a_missing_root(root: Path) -> None:
    for missing in (root / "none", root / "file.txt"):
        with pytest.raises(RootError) as caught:
            content(missing, "x")
        assert isinstance(caught.value.cause, FileNotFoundError | NotADirectoryError)


def test_one_file(root: Path) -> None:
    (root / "link").symlink_to("../secret")
    os.mkfifo(root / "fifo")
    with closing(OpenFile()) as file:
        file.open_file(str(root / "link"))
        assert (file.name, file.read(0, 10)) == ("link", b"secret")
    for wrong in ("none", "fifo", "folder"):
        with closing(OpenFile()) as file, pytest.raises(RootError):
            file.open_file(str(root / wrong))


def test_reading_past_the_end(root: Path) -> None:
    with opened(root, "file.txt") as file:
        assert file.read(4, 100) == b"de"
        assert file.read(6, 1) == b""


def test_a_closed_file_is_not_opened_or_read_again(root: Path) -> None:
    before = descriptors()
    file = OpenFile()
    file.close()
    file.open_below(str(root), "file.txt")
    file.open_file(str(root / "file.txt"))
    with pytest.raises(OSError, match="descriptor"):
        file.read(0, 1)
    file.close()
    assert descriptors() == before


def test_nothing_stays_open_after_a_failure(root: Path) -> None:
    (root / "out").symlink_to("../secret")
    before = descriptors()
    for name in ("none", "out", "folder", "x" * 300):
        file = OpenFile()
        with pytest.raises(OSError):  # noqa: PT011 - each its own
            file.open_below(str(root), name)
        assert descriptors() == before


def test_exchanging_a_link_under_the_reader_never_shows_the_outside(root: Path) -> None:
    """The race between check and use: a folder is swapped for a link out of the root, as fast as possible."""
    (root / "good").mkdir()
    (root / "good" / "secret").write_text("inside")
    (root / "bad").symlink_to("..")
    (root / "swap").symlink_to("good")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for target in ("..", "good"):
                (root / "new").symlink_to(target)
                (root / "new").rename(root / "swap")

    thread = threading.Thread(target=swap)
    thread.start()
    seen = {"inside": 0, "nothing": 0}
    try:
        for _ in range(100_000):
            try:
                assert content(root, "swap/secret") == b"inside"
                seen["inside"] += 1
            except FileNotFoundError:
                seen["nothing"] += 1
            if min(seen.values()) >= 200:
                break
    finally:
        stop.set()
        thread.join()
    assert min(seen.values()) >= 200, "both sides of the swap were met"


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone
