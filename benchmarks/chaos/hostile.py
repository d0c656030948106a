"""Hostile input: models, declarations, sources. Each is rejected in bounded time."""

import contextlib
import gzip
import io
import re
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from benchmarks.chaos.trials import Ended, Scene, Trial, end, start
from ml_assets.lake.store import Lake
from tests.killing import MODEL

READER: Final = "benchmarks.chaos.reader"
SECONDS: Final = 60.0
MEMORY: Final = 4 * 2**30
Change = Callable[[str], str]


def _set(name: str, values: Callable[[list[str]], list[str]]) -> Change:
    """Return a change of the first array of a name in a model's text."""
    return lambda text: re.sub(
        rf"^{name}=(.*)$",
        lambda found: f"{name}={' '.join(values(found[1].split()))}",
        text,
        count=1,
        flags=re.MULTILINE,
    )


def _resized(text: str) -> str:
    """Return a model's text with correct tree sizes in its header, so that the changed trees are parsed."""
    blocks = re.findall(r"^Tree=.*?(?=^Tree=|^end of trees)", text, flags=re.MULTILINE | re.DOTALL)
    sizes = " ".join(str(len(block.encode())) for block in blocks)
    return re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", text, count=1, flags=re.MULTILINE)


MODELS: Final[Mapping[str, Change]] = {
    "cut off": lambda text: text[: len(text) // 2],
    "empty": lambda _: "",
    "not a model": lambda _: "hello\n" * 100,
    "a child that is its own parent": _set("left_child", lambda it: ["0", *it[1:]]),
    "children that go round": _set("right_child", lambda it: ["0"] * len(it)),
    "a child that does not exist": _set("left_child", lambda it: ["99999", *it[1:]]),
    "a leaf that does not exist": _set("right_child", lambda it: ["-99999", *it[1:]]),
    "fewer children": _set("left_child", lambda it: it[:-1]),
    "fewer leaf values": _set("leaf_value", lambda it: it[:-1]),
    "no leaf values": lambda text: re.sub(r"^leaf_value=.*\n", "", text, count=1, flags=re.MULTILINE),
    "a leaf value that is no number": _set("leaf_value", lambda it: ["nan", *it[1:]]),
    "a leaf value out of range": _set("leaf_value", lambda it: ["1e999", *it[1:]]),
    "-1 leaves": _set("num_leaves", lambda _: ["-1"]),
    "two billion leaves": _set("num_leaves", lambda _: ["2147483647"]),
    "more leaves": _set("num_leaves", lambda it: [str(int(it[0]) + 1)]),
    "a feature that does not exist": _set("split_feature", lambda it: ["99999", *it[1:]]),
    "a negative feature": _set("split_feature", lambda it: ["-7", *it[1:]]),
    "two billion features": _set("max_feature_idx", lambda _: ["2147483647"]),
    "-1 classes": _set("num_class", lambda _: ["-1"]),
    "no trees in an iteration": _set("num_tree_per_iteration", lambda _: ["0"]),
    "tree sizes of a terabyte": _set("tree_sizes", lambda it: ["1099511627776"] * len(it)),
    "negative tree sizes": _set("tree_sizes", lambda it: ["-1"] * len(it)),
    "text instead of a number": _set("split_feature", lambda it: ["three", *it[1:]]),
    "an unknown objective": lambda text: re.sub(r"^objective=.*$", "objective=custom_thing", text, flags=re.MULTILINE),
    "a file as a parameter": lambda text: text.replace(
        "parameters:", "parameters:\n[machine_list_filename: /etc/passwd]"
    ),
}


def models(scene: Scene) -> Iterator[Trial]:
    """Malformed LightGBM text with a manifest that fits it, loaded to predict in a process of its own."""
    root = scene.lake(0)
    shutil.copytree(scene.flow.lake, root)
    lake = Lake(str(root))
    text = lake.get(lake.find(f"{MODEL}/model"), object_of_model()).booster
    given = {name: change(text) if "tree sizes" in name else _resized(change(text)) for name, change in MODELS.items()}
    yield from _each({name: (it, "model", "txt") for name, it in given.items()}, scene)


def object_of_model() -> type:
    """Return the class of a model."""
    from ml_assets.contracts.artifacts.training import Model

    return Model


def declarations(scene: Scene) -> Iterator[Trial]:
    """YAML that is expensive to parse, or has content that no declaration may have."""
    bomb = "\n".join([f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10) if n else '1'}]" for n in range(12)])
    known = (Path(__file__).parents[2] / "defs" / MODEL / "defs.yaml").read_text(encoding="utf-8")
    attributes = "attributes:\n"
    yield from _each(
        {
            "aliases of aliases": (f"{bomb}\n{known}", "yaml", "yaml"),
            "an alias of itself": (known.replace(attributes, "attributes: &a\n  name: *a\n", 1), "yaml", "yaml"),
            "100,000 brackets": (f"type: {'[' * 100_000}", "yaml", "yaml"),
            "10,000 levels": ("".join(f"{' ' * n}a:\n" for n in range(10_000)), "yaml", "yaml"),
            "100 MB": ("a: " + "x" * 100_000_000, "yaml", "yaml"),
            "a tag of Python": ("type: !!python/object/apply:os.system ['true']\nattributes: {}", "yaml", "yaml"),
            "a key twice": (f"{known}\ntype: other", "yaml", "yaml"),
            "a number of 10,000 digits": (known.replace("task: binary", f"task: {'9' * 10_000}", 1), "yaml", "yaml"),
            "a margin of .inf": (re.sub(r"margin: .*", "margin: .inf", known, count=1), "yaml", "yaml"),
            "a margin of .nan": (re.sub(r"margin: .*", "margin: .nan", known, count=1), "yaml", "yaml"),
        },
        scene,
    )


def sources(scene: Scene) -> Iterator[Trial]:
    """Files that swell, and a server that sends a byte a second."""
    zeros = b"id,note\n" + b"0,\n" * 200_000_000
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.csv", zeros)
    files = {
        "a zip of 600 MB": ("rows.csv.zip", packed.getvalue()),
        "a gzip of 600 MB": ("rows.csv.gz", gzip.compress(zeros)),
    }
    for number, (what, (name, data)) in enumerate(files.items()):
        file = scene.folder / f"{number}-{name}"
        file.write_bytes(data)
        yield _judged(what, _read(scene, "source", str(file)))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        ended = _read(scene, "source", f"http://127.0.0.1:{server.server_address[1]}/rows.csv", seconds=200)
        yield _judged("a byte a second", ended)
    finally:
        server.shutdown()


class _Slow(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Send a byte a second."""
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        with contextlib.suppress(OSError):  # the reader gives up
            for byte in b"id,note\n" + b"1,x\n" * 25_000:
                self.wfile.write(bytes([byte]))
                time.sleep(1)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Log nothing."""


def _each(given: Mapping[str, tuple[str, str, str]], scene: Scene) -> Iterator[Trial]:
    for number, (what, (text, kind, suffix)) in enumerate(given.items()):
        file = scene.folder / f"{number}.{suffix}"
        file.write_text(text, encoding="utf-8")
        yield _judged(what, _read(scene, kind, str(file)))
        file.unlink()


def _read(scene: Scene, kind: str, what: str, *, seconds: float = SECONDS) -> Ended:
    since = time.monotonic()
    limit = {"CHAOS_LIMIT": f"9:{MEMORY}"}  # RLIMIT_AS
    arguments = [READER, kind, what, str(scene.flow.lake)]
    return end(start("benchmarks.chaos.starved", arguments, limit), since=since, seconds=seconds)


def _judged(what: str, ended: Ended) -> Trial:
    if ended.code == 0:
        return Trial(what, "survived")
    return Trial(what, "noticed" if ended.is_refusal(2) else "lost", ended.summary)
