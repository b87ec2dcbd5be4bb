"""What lies behind a URI is read as local files are, whole, once per node, and within a limit."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dsnet.errors import InputError, OutageError
from pipeline.config import config_from_dict, parse_uri
from pipeline.data.dataset import held
from pipeline.data.dataset import ingest as ingest_chain
from pipeline.data.ingest.ingest import ingest
from pipeline.data.loading import mapped_file
from pipeline.data.loading.loader import Loader, LoaderOptions
from pipeline.data.manifest import Manifest, RemoteBeton, manifest_path
from pipeline.data.remote import cache, copy
from pipeline.data.remote.beton import publish, published, staged
from pipeline.data.remote.store import within
from pipeline.data.sources import open_source

from .conftest import copy_of


class Server(ThreadingHTTPServer):
    """A web server of a folder that answers ranges and counts the bytes of each file it sends."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.sent: dict[str, int] = {}
        self.stop_at = -1
        """Files whose reading has come so far are gone; -1: none."""
        self.pause = 0.0
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        asked = self.headers.get("Range")
        if not path.is_file() or not asked:
            return super().do_GET()
        first, last = (int(n) for n in asked.removeprefix("bytes=").split("-"))
        if first >= self.server.stop_at >= 0:
            return self.send_error(404)
        time.sleep(self.server.pause)
        content = path.read_bytes()[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.server.sent[path.name] = self.server.sent.get(path.name, 0) + len(content)


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node with an empty cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DSNET_CACHE", str(folder))
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A web server of the folder `store`."""
    (tmp_path / "store").mkdir()
    with Server(tmp_path / "store") as serving:
        threading.Thread(target=serving.serve_forever, args=(0.05,), daemon=True).start()
        yield serving
        serving.shutdown()


@pytest.fixture
def beton(server: Server, photos_raw: Manifest, tmp_path: Path) -> RemoteBeton:
    """A beton on the web server."""
    copy_of(photos_raw, tmp_path / "store")
    return RemoteBeton(parse_uri(f"{server.uri}/x.beton"), photos_raw.digest)


def other_process(code: str, *arguments: str) -> "subprocess.Popen[str]":
    """Python code that has `beton`."""
    start = (
        "import sys, time\nfrom pipeline.config import parse_uri\n"
        "from pipeline.data.remote import beton as module, copy\n"
        "beton = module.RemoteBeton(parse_uri(sys.argv[1]), sys.argv[2])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start + code, *arguments], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("way", ["file", "local", "http"])
def test_pictures_give_the_same_beton_from_wherever_they_come(
    way: str, server: Server, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "store" / "photos").symlink_to(photos)
    start = {"file": f"file://{tmp_path}/store", "local": f"local://{tmp_path}/store"}
    spec = f"{start.get(way, server.uri)}/photos"
    here = ingest(open_source(str(photos), "train"), tmp_path / "here.beton")
    source = open_source(spec, "train")
    there = ingest(source, tmp_path / "there.beton")
    assert there.digest == here.digest
    if way == "file":
        assert not list(tmp_path.glob("cache/source-*"))  # used in place
        return
    assert there.source == spec and source[0].path.startswith(spec)
    assert open_source(spec, "train").fingerprint() == source.fingerprint()
    if way == "http":  # and nothing came twice
        assert server.sent == {path.name: path.stat().st_size for path in photos.glob("*/*")}


def test_a_pattern_and_a_list_bring_what_they_name(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "pictures").symlink_to(photos / "cat")
    names = sorted(path.name for path in (photos / "cat").iterdir())
    for split, part in (("train", names[:3]), ("test", names[3:])):
        rows = "".join(f"pictures/{name},cat\n" for name in part)
        (folder / f"part-{split}.csv").write_text("path,label\n" + rows)
    source = open_source(f"local://{folder}/part-*.csv", "test")
    expected = [(photos / "cat" / name).read_bytes() for name in names[3:]]
    assert [source[i].image for i in range(len(source))] == expected
    (folder / "bad.csv").write_text("path,label\n../../etc/hostname,cat\n")
    with pytest.raises(InputError, match="below the list's folder"):
        open_source(f"local://{folder}/bad.csv", "train")


def test_two_stagings_at_once_copy_once(beton: RemoteBeton, server: Server) -> None:
    server.pause = 0.3
    code = "print(module.staged(beton).digest)"
    both = [other_process(code, str(beton), beton.digest) for _ in range(2)]
    assert [p.communicate(timeout=60)[0].strip() for p in both] == [beton.digest] * 2
    assert server.sent["x.beton"] == staged(beton).size


SMALL = "copy.CHUNK = 100_000\n"


def test_a_killed_staging_goes_on_where_it_was_and_holds_nothing(
    beton: RemoteBeton, server: Server, photos_raw: Manifest, node: Path
) -> None:
    server.pause = 0.1
    with other_process(SMALL + "module.staged(beton)", str(beton), beton.digest) as process:
        while server.sent.get("x.beton", 0) < 500_000:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    server.pause = 0.0
    (part,) = node.glob("beton-*/.x.beton.part")
    had = part.stat().st_size
    assert 0 < had < photos_raw.size
    before = server.sent["x.beton"]
    assert staged(beton).beton.read_bytes() == photos_raw.beton.read_bytes()
    assert server.sent["x.beton"] - before == photos_raw.size - had


def test_what_was_got_of_another_version_or_damaged_is_got_anew(
    beton: RemoteBeton, server: Server, photos_raw: Manifest, node: Path
) -> None:
    path = staged(beton).beton
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert staged(beton).beton.read_bytes() == photos_raw.beton.read_bytes()
    assert server.sent["x.beton"] == 2 * photos_raw.size
    with pytest.raises(InputError, match="another in its place"):
        staged(RemoteBeton(beton.uri, "0" * 64))


def test_the_cache_deletes_what_is_not_in_use_longest_first_and_nothing_else(
    tmp_path: Path, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSNET_CACHE_LIMIT", "0.1M")
    code = (
        "import sys, time\nfrom pipeline.data.remote import cache\n"
        "folder = cache.hold(sys.argv[1])\ncache.reserve(folder, 30_000, 'x')\n"
        "(folder / 'x').write_bytes(bytes(30_000))\nprint('there', flush=True)\n"
        "time.sleep(float(sys.argv[2]))"
    )

    def entry(name: str, stays: int) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", code, name, str(stays)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        return process

    with entry("held", 600) as holder:
        for number, name in enumerate(("older", "newer")):
            with entry(name, 0):
                pass
            os.utime(node / f"{name}.use", (10**9 + number, 10**9 + number))
        cache.reserve(cache.hold("mine"), 30_000, "mine")
        assert sorted(p.name for p in node.iterdir() if p.is_dir()) == ["held", "mine", "newer"]
        with pytest.raises(OutageError, match="whose limit is"):
            cache.reserve(cache.hold("mine"), 80_000, "mine")
        assert (node / "held" / "x").exists() and not (node / "newer").exists()
        holder.kill()
    cache.reserve(cache.hold("mine"), 80_000, "mine")  # its marker died with it
    assert not (node / "held").exists()


def test_an_epoch_has_the_same_bytes_staged_and_where_it_does_not_fit_memory(
    beton: RemoteBeton, photos_raw: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def epoch(of: object) -> tuple[list[bytes], bool]:
        how = {"recipe": "imagenet", "resolution": 32, "train": True, "batch_size": 4}
        with Loader(of, LoaderOptions(**how)) as loader:
            batches = [batch.images.numpy().tobytes() for batch in loader.epoch(1)]
            return batches, loader._reader._file.fits

    in_place, mapped = epoch(photos_raw.beton)
    assert epoch(beton) == (in_place, mapped) and mapped
    monkeypatch.setattr(mapped_file, "SHARE", 0.0)
    assert epoch(beton) == (in_place, False)


def test_what_vanishes_midway_leaves_nothing_that_a_loader_accepts(
    beton: RemoteBeton,
    server: Server,
    photos: Path,
    tmp_path: Path,
    node: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "store" / "photos").symlink_to(photos)
    monkeypatch.setattr(copy, "CHUNK", 100_000)
    server.stop_at = 100_000
    with pytest.raises(InputError, match="found none"):
        staged(beton)
    assert server.sent["x.beton"] == 100_000
    server.stop_at = 0
    with pytest.raises(InputError, match="found none"):
        ingest(open_source(f"{server.uri}/photos", "train"), tmp_path / "out.beton")
    assert not (tmp_path / "out.beton").exists() and list(node.glob("beton-*"))
    for path in node.glob("beton-*"):
        with pytest.raises(InputError):
            Loader(
                path / "x.beton",
                LoaderOptions(batch_size=1, recipe="light", train=False, resolution=8),
            )


def test_a_chain_writes_its_betons_to_a_store_and_reads_them_without_the_source(
    photos: Path, tmp_path: Path, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pictures"
    pictures.symlink_to(photos)
    values = {
        "data": {
            "source": str(pictures),
            "dir": f"local://{tmp_path}/betons",
            "recipe": "cifar",
        },
        "model": {"arch": "ds_mbnet_cifar"},
    }
    made = ingest_chain(config_from_dict(values))
    written = sorted(path.name for path in (tmp_path / "betons").iterdir())
    names = [f"pictures-{split}.beton" for split in ("test", "train")]
    assert written == sorted([*names, *(f"{name}.json" for name in names)])
    before, counts = held(config_from_dict(values))
    assert before is not None and counts == before.counts and before.digest == made.digest
    pictures.unlink()
    monkeypatch.setenv("DSNET_CACHE", str(tmp_path / "another node"))
    again = ingest_chain(config_from_dict(values))
    assert again.digest == made.digest
    assert again.train.beton.is_relative_to(tmp_path / "another node")
    assert isinstance(again.train.place, RemoteBeton)


def test_a_beton_without_its_manifest_is_not_whole(photos_raw: Manifest, tmp_path: Path) -> None:
    uri = parse_uri(f"local://{tmp_path}/betons/x.beton")
    publish(photos_raw, uri)
    found = published(uri)
    assert found is not None and found.digest == photos_raw.digest
    manifest_path(tmp_path / "betons" / "x.beton").unlink()
    assert published(uri) is None
    with pytest.raises(InputError, match="a manifest missing"):
        staged(RemoteBeton(uri, photos_raw.digest))


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("s3://key:geheim@bucket/x", "no user or password"),
        ("https://host/x?X-Amz-Signature=geheim", "may be secret"),
        ("s3://bucket/x?secret_key=geheim", "may be secret"),
    ],
)
def test_a_uri_with_a_secret_in_it_is_refused_without_repeating_it(uri: str, told: str) -> None:
    for attempt in (
        lambda: open_source(uri, "train"),
        lambda: config_from_dict({"data": {"source": uri}}),
    ):
        with pytest.raises(InputError, match=told) as refused:
            attempt()
        assert "geheim" not in str(refused.value)


def test_what_is_missing_is_said_in_a_line(server: Server) -> None:
    for spec, told in (
        ("hf://datasets/nobody/nothing", "package for it is missing: Install huggingface_hub"),
        ("nosuch://bucket/x", "expected the URI of a store"),
        (f"{server.uri}/nothing", "expected files there, found none"),
    ):
        with pytest.raises(InputError, match=told) as refused:
            open_source(spec, "train")
        assert "\n" not in str(refused.value)
    with pytest.raises(TimeoutError, match="no answer in"):
        within(0.05, threading.Event().wait)
