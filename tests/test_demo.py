"""The demo: what is written, what is refused, what is served. `browser.py` looks at the page."""

import base64
import hashlib
import http.client
import io
import json
import re
import tarfile
import threading
import urllib.error
import urllib.request
from importlib import resources
from pathlib import Path

import click.testing
import pytest

from keras_lgmsnet import NOTICE, demo
from keras_lgmsnet.cli.export import export as lgms_export
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.recipe.schema import Data, Recipe
from tests.helpers.demos import write_export

pytestmark = pytest.mark.no_backend

PAGE = {
    name: resources.files("keras_lgmsnet").joinpath("demo_page", name).read_text()
    for name in demo.PAGE
}
CONTENTS = {name: name.encode() for name in demo.FILES}


@pytest.fixture
def pinned(monkeypatch) -> None:
    """Pin files that are made in a moment."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    monkeypatch.setattr(demo, "FILES", hashes)


@pytest.fixture
def registry(monkeypatch) -> dict[str, bytes]:
    """Answer for the registry with what a test puts there, by the address."""
    answers = {}

    def open_(address: str, timeout: float) -> io.BytesIO:
        assert timeout
        return io.BytesIO(answers[address])

    monkeypatch.setattr(urllib.request, "urlopen", open_)
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    return answers


def pack(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as members:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            members.addfile(member)
    return archive.getvalue()


def package(name: str) -> dict[str, bytes]:
    return {
        f"package/{path.removeprefix(f'{name}/')}": content
        for path, content in CONTENTS.items()
        if path.startswith(f"{name}/")
    }


def publish(
    registry: dict[str, bytes], monkeypatch, archives: dict[str, bytes], at: str = demo.REGISTRY
) -> None:
    """Put archives into the registry, and pin them."""
    pins = {}
    for name, archive in archives.items():
        registry[f"{at}/@litertjs/{name}/-/{name}-{demo.VERSION}.tgz"] = archive
        digest = hashlib.sha512(archive).digest()
        pins[name] = f"sha512-{base64.b64encode(digest).decode()}"
    monkeypatch.setattr(demo, "ARCHIVES", pins)


def write_packages(folder: Path) -> Path:
    for name, content in CONTENTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_demo_holds_all_it_needs(tmp_path) -> None:
    models = {"float32": b"float", "int8": b"int"}
    export = write_export(tmp_path / "export", models)
    (export / "model_card.md").write_text("not for the page")
    folder = tmp_path / "new" / "demo"
    demo.write_demo(export, folder, litertjs=CONTENTS)
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        *demo.PAGE,
        *(f"litertjs/{name}" for name in CONTENTS),
        *("export.json", "model_float32.tflite", "model_int8.tflite"),
    }
    assert (folder / "model_int8.tflite").read_bytes() == b"int"
    assert (folder / "export.json").read_bytes() == (export / "export.json").read_bytes()
    assert list(folder.parent.iterdir()) == [folder]
    assert folder.stat().st_mode == folder.parent.stat().st_mode


def test_page_is_self_contained() -> None:
    for name in ("index.html", "demo.css", "demo.js"):
        assert not re.search(r"https?:|//\w+\.\w", PAGE[name])
    html = PAGE["index.html"]
    assert NOTICE in html
    references = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert set(references) == {"demo.css", "demo.js", "data:,"}
    (policy,) = re.findall(r'Security-Policy" content="([^"]+)"', html)
    directives = dict(part.split(maxsplit=1) for part in policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["connect-src"] == "'self'"
    assert not re.search(r"unsafe-inline|'unsafe-eval'|\*|http", policy)
    assert demo.HEADERS["Content-Security-Policy"] == f"{policy}; frame-ancestors 'none'"


def test_litertjs_comes_with_its_licence() -> None:
    # This project's own, too.
    licence = (Path(__file__).parents[1] / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0" in licence
    assert PAGE["litertjs/LICENSE.txt"] == licence


def test_import_map_is_allowed_and_leads_to_the_files() -> None:
    html = PAGE["index.html"]
    (text,) = re.findall(r'<script type="importmap">(.*?)</script>', html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in html
    for path in json.loads(text)["imports"].values():
        assert path.removeprefix("./litertjs/") in demo.FILES


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize("mirror", [None, "http://mirror.test/npm"])
def test_files_are_fetched_from_the_registry(mirror, registry, monkeypatch) -> None:
    archives = {name: pack(package(name)) for name in demo.ARCHIVES}
    publish(registry, monkeypatch, archives, mirror or demo.REGISTRY)
    if mirror:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{mirror}/")
    assert demo.read_litertjs() == CONTENTS


@pytest.mark.usefixtures("pinned")
def test_files_of_a_folder_are_read(tmp_path) -> None:
    assert demo.read_litertjs(write_packages(tmp_path)) == CONTENTS


@pytest.mark.usefixtures("pinned")
def test_another_archive_is_refused_unopened(registry, monkeypatch) -> None:
    publish(registry, monkeypatch, {name: pack(package(name)) for name in demo.ARCHIVES})
    address = next(iter(registry))
    registry[address] = b"no archive"
    with pytest.raises(ValueError, match=r"core 2.5.3 of registry.npmjs.org is not .*: its inte"):
        demo.read_litertjs()


@pytest.mark.usefixtures("pinned")
def test_another_file_is_refused(tmp_path) -> None:
    write_packages(tmp_path)
    (tmp_path / "core/wasm/litert_wasm_internal.wasm").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"core/wasm/litert_wasm_internal.wasm is not that of"):
        demo.read_litertjs(tmp_path)
    (tmp_path / "core/wasm/litert_wasm_internal.wasm").unlink()
    with pytest.raises(FileNotFoundError, match=r"is not the folder node_modules/@litertjs: it"):
        demo.read_litertjs(tmp_path)


@pytest.mark.usefixtures("pinned")
def test_nothing_of_an_archive_reaches_the_disk(registry, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    absolute = str(tmp_path / "absolute")
    evil = {"../evil": b"", "package/../../evil": b"", absolute: b""}
    archives = {name: pack(package(name) | evil) for name in demo.ARCHIVES}
    publish(registry, monkeypatch, archives)
    assert demo.read_litertjs() == CONTENTS
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize("links", [{}, {"package/dist/index.js": "/etc/passwd"}])
def test_archive_without_a_file_is_refused(links, registry, monkeypatch) -> None:
    files = {
        name: pack(
            {path: data for path, data in package(name).items() if "index.js" not in path}, links
        )
        for name in demo.ARCHIVES
    }
    publish(registry, monkeypatch, files)
    with pytest.raises(ValueError, match=r"core must hold the file package/dist/index.js"):
        demo.read_litertjs()


@pytest.mark.usefixtures("pinned")
def test_large_files_are_refused(registry, monkeypatch) -> None:
    publish(registry, monkeypatch, {name: pack(package(name)) for name in demo.ARCHIVES})
    monkeypatch.setattr(demo, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match=r"its integrity is"):  # of the part that was read
        demo.read_litertjs()
    with pytest.raises(ValueError, match=r"of at most 10 bytes"):
        demo._unpack("core", pack(package("core")))


@pytest.mark.parametrize(
    "error",
    [urllib.error.URLError("no route"), TimeoutError("no route"), ConnectionError("no route")],
)
def test_no_network_is_one_sentence(error, monkeypatch, tmp_path) -> None:
    def fail(*_, **__) -> None:
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    export = write_export(tmp_path / "export", {"float32": b""})
    with pytest.raises(OSError, match=r"could not be fetched: no route.*--litertjs") as told:
        demo.write_demo(export, tmp_path / "demo")
    assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == [export]


@pytest.mark.parametrize(
    "registry",
    [
        "file:///s3cret",
        "user:s3cret@registry.test",
        "https://user:s3cret@registry.test/npm",
        "https://registry.test/npm?token=s3cret",
        "https://registry.test#s3cret",
        "https://registry.test/s3cret path",
    ],
)
def test_a_registry_is_an_address_without_a_password(registry, monkeypatch) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry)
    with pytest.raises(ValueError, match=r"NPM_CONFIG_REGISTRY must .*--litertjs") as told:
        demo.read_litertjs()
    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize("error", [urllib.error.URLError("no route"), None])
def test_a_secret_in_a_registrys_path_is_not_told(error, monkeypatch) -> None:
    def open_(*_, **__) -> io.BytesIO:
        if error:
            raise error
        return io.BytesIO(b"no archive")

    monkeypatch.setattr(urllib.request, "urlopen", open_)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://registry.test/s3cret/npm")
    with pytest.raises((OSError, ValueError), match=r"core 2.5.3 of registry.test") as told:
        demo.read_litertjs()
    assert "s3cret" not in str(told.value)


def test_exports_without_a_2d_model_are_refused(tmp_path) -> None:
    def write(folder: str) -> None:
        demo.write_demo(tmp_path / folder, tmp_path / "demo", litertjs=CONTENTS)

    with pytest.raises(FileNotFoundError, match=r"none is not an export: it has no export.json"):
        write("none")
    write_export(tmp_path / "onnx", {})
    with pytest.raises(FileNotFoundError, match=r"onnx holds no TFLite model"):
        write("onnx")
    write_export(tmp_path / "lanczos", {"float32": b""}, interpolation="lanczos")
    with pytest.raises(ValueError, match=r"linearly, .* Received: .*=lanczos"):
        write("lanczos")
    volume = write_export(tmp_path / "volume", {"float32": b""})
    description = json.loads((volume / "export.json").read_text())
    description["input"]["shape"] = [None, 64, 64, 64, 1]
    (volume / "export.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"2D RGB images.*\(None, 64, 64, 64, 1\)"):
        write("volume")
    (write_export(tmp_path / "short", {"int8": b""}) / "model_int8.tflite").unlink()
    with pytest.raises(FileNotFoundError, match=r"no model model_int8.tflite in it"):
        write("short")
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("name", ["../secret", "demo.js", "index.html", "link.tflite"])
def test_a_model_is_neither_elsewhere_nor_a_file_of_the_page(name, tmp_path) -> None:
    (tmp_path / "secret").write_text("")
    export = write_export(tmp_path / "export", {})
    (export / "demo.js").write_text("")
    (export / "index.html").write_text("")
    (export / "link.tflite").symlink_to(tmp_path / "secret")
    description = json.loads((export / "export.json").read_text())
    description["files"] = {name: {"format": "tflite", "precision": "float32"}}
    (export / "export.json").write_text(json.dumps(description))
    with pytest.raises(FileNotFoundError, match=rf"no model {name} in it"):
        demo.write_demo(export, tmp_path / "demo", litertjs=CONTENTS)
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    "damage",
    [{"files": {"a": {}}}, {"files": []}, {"input": {}}, {"input": {"shape": 3, "resize": {}}}],
)
def test_a_damaged_export_is_named(damage, tmp_path) -> None:
    export = write_export(tmp_path / "export", {"float32": b""})
    description = json.loads((export / "export.json").read_text())
    (export / "export.json").write_text(json.dumps(description | damage))
    with pytest.raises(ValueError, match=r"export.json is damaged"):
        demo.write_demo(export, tmp_path / "demo", litertjs=CONTENTS)


def test_other_files_are_not_taken_for_litertjs(tmp_path) -> None:
    export = write_export(tmp_path / "export", {"float32": b""})
    with pytest.raises(ValueError, match=r"what read_litertjs returns. Received: \['\.\./x'\]"):
        demo.write_demo(export, tmp_path / "demo", litertjs={"../x": b""})
    assert not (tmp_path / "demo").exists()


def test_outputs_are_never_overwritten(tmp_path) -> None:
    export = write_export(tmp_path / "export", {"float32": b""})
    with pytest.raises(FileExistsError, match=r"is in use: choose another"):
        demo.write_demo(export, export, litertjs=CONTENTS)


def test_server_isolates_the_page_and_answers_this_machine_only(tmp_path) -> None:
    export = write_export(tmp_path / "export", {"float32": b""})
    demo.write_demo(export, tmp_path / "demo", litertjs=CONTENTS)
    with demo.serve(tmp_path / "demo", port=0) as server:
        assert server.server_address[0] == "127.0.0.1"
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def get(path: str, host: str) -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
            connection.request("GET", path, headers={"Host": host})
            response = connection.getresponse()
            response.read()
            connection.close()
            return response

        for path, media_type in {
            "/": "text/html",
            "/demo.js": "text/javascript",
            "/litertjs/core/wasm/litert_wasm_internal.wasm": "application/wasm",
        }.items():
            response = get(path, "127.0.0.1:1")  # the port of a phone's end of a tunnel
            assert response.status == 200
            assert response.headers["Content-Type"].startswith(media_type)
            assert demo.HEADERS.items() <= dict(response.headers).items()
        assert get("/", "LOCALHOST").status == 200
        for host in ("rebound.example:8000", "127.0.0.1.example", "localhost.example", ""):
            assert get("/", host).status == 421
        assert get("/litertjs/", "localhost").status == 404
        with pytest.raises(OSError, match=rf"Port {server.server_port} cannot be listened on"):
            demo.serve(tmp_path / "demo", port=server.server_port)
        server.shutdown()


def test_what_is_no_demo_is_not_served(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no demo"):
        demo.serve(tmp_path)
    for arguments in ([], ["a", "b"], ["a", "1", "2"]):
        with pytest.raises(SystemExit, match=r"Usage"):
            demo.main(arguments)
    with pytest.raises(SystemExit, match=r"Error: .* holds no demo"):
        demo.main([str(tmp_path)])


def invoke(*arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(lgms_export, [str(argument) for argument in arguments])


def write_recipe(run_directory: Path, **data) -> None:
    recipe = Recipe(data=Data(source="busi", **data))
    run_directory.mkdir()
    write_json(run_directory / "recipe.json", {"recipe": recipe.to_dict()})


def test_command_writes_the_demo_of_its_export(tmp_path, monkeypatch) -> None:
    write_recipe(tmp_path / "run")

    def export_run(run_directory: Path, output_directory: Path, *_, **__) -> dict:
        assert run_directory.name == "run"
        write_export(output_directory, {"float32": b""})
        return {"rank": 2, "compared_on": {"examples": 1, "subset": "test"}, "files": {}}

    monkeypatch.setattr("keras_lgmsnet.export.export", export_run)
    monkeypatch.setattr(demo, "read_litertjs", lambda folder: CONTENTS if folder else {})
    arguments = (tmp_path / "run", "-o", tmp_path / "export", "--demo", tmp_path / "demo")
    result = invoke(*arguments, "--litertjs", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"Demo: python -m keras_lgmsnet.demo {tmp_path / 'demo'}\n")
    assert (tmp_path / "demo" / "litertjs" / "core").is_dir()
    assert (tmp_path / "demo" / "model_float32.tflite").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["run", "--litertjs", "packages"], "give both"),
        (["run", "--demo", "demo", "--format", "onnx"], "add --format tflite"),
        (["run", "--demo", "used"], "used is in use"),
        (["run", "--demo", "demo", "--litertjs", "none"], "none is not the folder"),
        (["run", "--demo", "demo", "-o", "used"], "used is in use"),
        (["run", "--demo", "export"], "which does not hold -o export. Received: export"),
        (["run", "--demo", "a", "-o", "a/b"], "which does not hold -o a/b. Received: a"),
        (["lanczos", "--demo", "demo"], "resizes pictures linearly, as the run must have"),
        (["none", "--demo", "demo"], "none is not a run directory"),
    ],
)
def test_command_refuses_before_it_exports(options, words, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("")
    write_recipe(tmp_path / "run")
    write_recipe(tmp_path / "lanczos", interpolation="lanczos")
    result = invoke("-o", "export", *options)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
