"""The demo: a page that segments pictures in the browser with an exported TFLite model.

    lgms-export runs/busi -o exports/busi --demo demos/busi
    python -m keras_lgmsnet.demo demos/busi

The second line serves the page on this machine alone. The page fetches nothing from elsewhere, and
pictures do not leave it.
"""

import base64
import contextlib
import functools
import hashlib
import http.client
import http.server
import io
import os
import re
import shutil
import sys
import tarfile
import urllib.request
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import BinaryIO

from keras_lgmsnet.files.writing import atomic_directory, require_unused
from keras_lgmsnet.kinds import IMAGES
from keras_lgmsnet.process.progress import say
from keras_lgmsnet.recipe.schema import AnyRecipe
from keras_lgmsnet.run_directory import read_json

__all__ = ["read_litertjs", "serve", "write_demo"]

# npm's packages in the scope @litertjs: the version, and npm's integrity of its archive. They are
# fetched, not part of this package: 28 MB of WebAssembly.
VERSION = "2.5.3"
INSTALL = f"npm install @litertjs/core@{VERSION} @litertjs/wasm-utils@{VERSION}"
ARCHIVES = {
    "core": (
        "sha512-PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoy"
        "JQ=="
    ),
    "wasm-utils": (
        "sha512-4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1"
        "kQ=="
    ),
}
# What the page needs of them, by package and path in it, and its SHA-256. Which WebAssembly file is
# loaded depends on the browser: `compat` does without relaxed SIMD, `threaded` uses several cores.
FILES = {
    "core/dist/index.js": "e7daccc3a31eef890848a737ccb863ded5f046a6b40c3fdc0556495adeb5d9b3",
    "core/wasm/litert_wasm_compat_internal.js": (
        "4d8f894b7883654fd6e8439730aa41e79ceaab7d19184fc4f1f0b0f1a2a2c8a5"
    ),
    "core/wasm/litert_wasm_compat_internal.wasm": (
        "5255c8ad06eabdbd2522cdebf6b22fc10faf74625c23a49b9e072570cd1fa41c"
    ),
    "core/wasm/litert_wasm_internal.js": (
        "68efb69f770e3f76aff36a377de629ca496c131b86ac0f0f4b592a1543a898eb"
    ),
    "core/wasm/litert_wasm_internal.wasm": (
        "7280cf4471774867e385e6c3cd53e2b45e2975b80fea338fff4ef359b0865614"
    ),
    "core/wasm/litert_wasm_threaded_internal.js": (
        "92fe7a720c6deedaa1194c011c79a005ea4f6fc98f533b661cf7900760ab4849"
    ),
    "core/wasm/litert_wasm_threaded_internal.wasm": (
        "b5e54eca10f043497edf9a02186332707cae260c550d7ea22b2cae55669596cf"
    ),
    "wasm-utils/dist/index.js": "e0e20bc28ab001ac732cf40d15b6eebd24fb0deaeb95eeba5100f51eebf015f2",
}
MAX_BYTES = 2**25  # of an archive or a file; the largest has 12 million
REGISTRY = "https://registry.npmjs.org"
TIMEOUT = 60  # seconds without an answer
# What is copied from demo_page/. npm's packages name their licence, Apache-2.0, but do not hold its
# text, which must go with them.
PAGE = ("index.html", "demo.css", "demo.js", "litertjs/LICENSE.txt")
PORT = 8000
# A page elsewhere whose name is made to lead to this machine would send that name as the host.
HOSTS = ("127.0.0.1", "localhost")
HEADERS = {
    # That of index.html, which other servers send, too, and no frames; here it binds workers, too.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' "
        "'sha256-+LVR/kE831AaGwRMbwr7b6Ke7hoEPT32HsoQfIvgUv4='; style-src 'self'; "
        "connect-src 'self'; worker-src 'self'; img-src 'self' blob: data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    # These two isolate the page from all others, to which browsers allow threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def write_demo(
    export_directory: str | Path,
    demo_directory: str | Path,
    *,
    litertjs: Mapping[str, bytes] | None = None,
) -> None:
    """Write a page that segments pictures in the browser with the TFLite models of an export.

    The directory appears whole or not at all, and needs no other: it holds the page, copies of
    `export.json` and of every TFLite model, and LiteRT.js, which runs them, with its licence. It is
    to be opened over HTTP, see `serve`; any other web server will do, too, on one thread unless it
    sends the headers that `serve` sends.

    Args:
        export_directory: What `lgms-export` wrote, with a TFLite model for 2D images.
        demo_directory: Where to write; absent or empty.
        litertjs: What `read_litertjs` returned; by default it is called, and fetches.

    Raises:
        ValueError: If the export is damaged or its model is none for 2D RGB images that are resized
            linearly, or what was fetched is not what it should be.
        OSError: If `export_directory` holds no TFLite export, `demo_directory` is in use or cannot
            be written to, or LiteRT.js cannot be fetched.

    Example:
    ```python
    write_demo("exports/busi", "demos/busi")
    serve("demos/busi")
    ```
    """
    export_directory = Path(export_directory)
    demo_directory = Path(demo_directory).absolute()
    models = _read_export(export_directory)
    require_unused(demo_directory)
    litertjs = read_litertjs() if litertjs is None else litertjs
    if litertjs.keys() != FILES.keys():
        raise ValueError(f"litertjs must be what read_litertjs returns. Received: {[*litertjs]}")

    with atomic_directory(demo_directory) as unfinished:
        for name, content in litertjs.items():
            path = unfinished / "litertjs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for name in PAGE:
            content = resources.files("keras_lgmsnet").joinpath("demo_page", name).read_bytes()
            (unfinished / name).write_bytes(content)
        for name in ("export.json", *models):
            shutil.copyfile(export_directory / name, unfinished / name)


def require_showable(recipe: AnyRecipe) -> None:
    """Raise `ValueError` unless a run is on images, resized as the page resizes them.

    Args:
        recipe: The run's.
    """
    if recipe.kind is not IMAGES:
        raise ValueError(f"The demo shows 2D images. Received: a run on {recipe.kind.name}")
    _require_linear(recipe.data.interpolation)


def read_litertjs(folder: str | Path | None = None) -> dict[str, bytes]:
    """Return the files of LiteRT.js that the page needs, checked against their known hashes.

    Args:
        folder: Folder of npm's packages `core` and `wasm-utils`, as `npm install
            @litertjs/core@2.5.3 @litertjs/wasm-utils@2.5.3` makes it: `node_modules/@litertjs`. By
            default they are fetched (12 MB) from https://registry.npmjs.org or the registry that
            the environment variable `NPM_CONFIG_REGISTRY` names, and kept in memory only.

    Returns:
        The contents by path in `folder`.

    Raises:
        ValueError: If a file is not that of version 2.5.3.
        OSError: If a file is absent or cannot be fetched.

    Example:
    ```python
    write_demo("exports/busi", "demos/busi", litertjs=read_litertjs("node_modules/@litertjs"))
    ```
    """
    if folder is None:
        contents: dict[str, bytes] = {}
        say(f"Fetching LiteRT.js {VERSION}, 12 MB.")
        for package in ARCHIVES:
            contents |= _unpack(package, _fetch(package))
    else:
        contents = {name: _read(Path(folder), name) for name in FILES}
    for name, sha256 in FILES.items():
        if hashlib.sha256(contents[name]).hexdigest() != sha256:
            raise ValueError(
                f"{name} is not that of LiteRT.js {VERSION}, as `{INSTALL}` brings it: "
                f"its SHA-256 is not {sha256}. "
                f"Received: {folder or 'what was fetched'}"
            )
    return contents


def serve(demo_directory: str | Path, port: int = PORT) -> http.server.ThreadingHTTPServer:
    """Return a server of a demo directory, to be reached from this machine only.

    It answers to the names `HOSTS` only, lists no folder, and sends `HEADERS`, with which the page
    runs on several threads.

    Args:
        demo_directory: What `write_demo` wrote.
        port: Where it listens on 127.0.0.1; 0 picks a free one, see its `server_port`.

    Returns:
        The server; its `serve_forever` answers until its `shutdown` is called elsewhere.

    Raises:
        OSError: If the directory holds no demo or the port is taken.

    Example:
    ```python
    serve("demos/busi").serve_forever()  # and open http://127.0.0.1:8000
    ```
    """
    if not (Path(demo_directory) / "demo.js").is_file():
        raise FileNotFoundError(f"{demo_directory} holds no demo: write one, lgms-export --demo.")
    handler = functools.partial(_Handler, directory=os.fspath(demo_directory))
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise OSError(
            f"Port {port} cannot be listened on: {error.strerror}; choose another."
        ) from error


class _Handler(http.server.SimpleHTTPRequestHandler):
    # Not left to the system's table, where programs get them wrong; browsers insist on both.
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def send_head(self) -> BinaryIO | None:
        host, _, _ = self.headers.get("Host", "").partition(":")
        if host.lower() not in HOSTS:
            self.send_error(http.HTTPStatus.MISDIRECTED_REQUEST)
            return None
        return super().send_head()

    def list_directory(self, path: str | os.PathLike[str]) -> None:
        self.send_error(http.HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the terminal for what concerns its user."""


def _read_export(directory: Path) -> list[str]:
    """Return the names of an export's TFLite models, if they are for the page."""
    if not (directory / "export.json").is_file():
        raise FileNotFoundError(f"{directory} is not an export: it has no export.json.")
    description = read_json(directory, "export.json", "classes", "input", "output", "files")
    try:
        models = [name for name, file in description["files"].items() if file["format"] == "tflite"]
        shape, resize = description["input"]["shape"], description["input"].get("resize")
        num_axes, interpolation = len(shape), resize and resize["interpolation"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{directory / 'export.json'} is damaged: {error!r}.") from error
    if not models:
        raise FileNotFoundError(
            f"{directory} holds no TFLite model, which the demo needs: export tflite, too."
        )
    for name in models:
        # Neither the page's own files nor what lies elsewhere.
        path = directory / name
        if not re.fullmatch(r"[\w.-]+\.tflite", name) or path.is_symlink() or not path.is_file():
            raise FileNotFoundError(f"{directory} is damaged: there is no model {name} in it.")
    if num_axes != 4 or shape[-1] != 3:
        raise ValueError(
            "The demo shows 2D RGB images, of shape (1, height, width, 3). "
            f"Received: {directory}, for images of shape {tuple(shape)}"
        )
    _require_linear(interpolation)
    return models


def _require_linear(interpolation: str) -> None:
    if interpolation != "linear":
        raise ValueError(
            "The demo resizes pictures linearly, as the run must have. "
            f"Received: data.interpolation={interpolation}"
        )


def _fetch(package: str) -> bytes:
    """Return a package's archive, as pinned."""
    registry = (os.environ.get("NPM_CONFIG_REGISTRY") or REGISTRY).rstrip("/")
    # Nowhere is the address itself told: it may hold a secret even so, in its path.
    parts = re.fullmatch(r"https?://([\w.:\[\]-]+)(/[\w.:~%+/-]*)?", registry, re.ASCII)
    if parts is None:
        raise ValueError(
            f"NPM_CONFIG_REGISTRY must be the address of a registry, such as {REGISTRY}, without "
            "user, password or query; for a registry that asks for those, run "
            f"`{INSTALL}` and pass its folder node_modules/@litertjs by --litertjs. "
            "Received: another, not told here, since it may hold a secret"
        )
    archive_name = f"@litertjs/{package} {VERSION} of {parts[1]}"
    address = f"{registry}/@litertjs/{package}/-/{package}-{VERSION}.tgz"
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as response:
            archive = response.read(MAX_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(
            f"{archive_name}, which the demo needs, could not be fetched: {reason}. "
            f"Elsewhere, run `{INSTALL}` and pass its folder "
            "node_modules/@litertjs by --litertjs."
        ) from error
    if _integrity(archive) != ARCHIVES[package]:
        raise ValueError(
            f"{archive_name} is not the published one: its integrity is {_integrity(archive)} "
            f"instead of {ARCHIVES[package]}."
        )
    return archive


def _integrity(archive: bytes) -> str:
    """Return a hash as npm writes it."""
    return f"sha512-{base64.b64encode(hashlib.sha512(archive).digest()).decode()}"


def _unpack(package: str, archive: bytes) -> dict[str, bytes]:
    """Return the files needed of a package's archive. Nothing is extracted to the disk."""
    contents = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as members:
        for name in FILES:
            if not name.startswith(f"{package}/"):
                continue
            path = f"package/{name.removeprefix(f'{package}/')}"
            file = None
            with contextlib.suppress(KeyError):
                member = members.getmember(path)
                if member.isreg() and member.size <= MAX_BYTES:
                    file = members.extractfile(member)
            if file is None:
                raise ValueError(
                    f"The archive of @litertjs/{package} must hold the file {path}, of at most "
                    f"{MAX_BYTES:,} bytes."
                )
            contents[name] = file.read()
    return contents


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} is not the folder node_modules/@litertjs: it has no {name}."
        )
    with open(path, "rb") as file:
        return file.read(MAX_BYTES)


def main(arguments: list[str]) -> None:
    """Serve a demo directory until Ctrl+C."""
    if len(arguments) not in (1, 2) or not all(map(str.isdecimal, arguments[1:])):
        raise SystemExit("Usage: python -m keras_lgmsnet.demo DIR [PORT]")
    try:
        server = serve(arguments[0], *map(int, arguments[1:]))
    except (OSError, OverflowError) as error:
        raise SystemExit(f"Error: {error}") from None
    print(f"Open http://127.0.0.1:{server.server_port} in a browser; Ctrl+C ends it.", flush=True)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
