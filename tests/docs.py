"""The documentation's code runs, and its links lead somewhere: `python -m tests --docs`.

It needs the packages of `.[docs]`. A page is README.md or a Markdown file in docs/.

- The blocks of a page run in order, in one new folder: those of `sh` by bash, those of `python` as
  one program. `.venv/bin/` there holds this environment's programs; pip installs nothing,
  `lgms-train` and `lgms-benchmark` do less than they are told (`helpers/stand_ins.py`), and the
  published input shapes in Python are smaller.
- The folder holds `recipes/`, `FOLDER` (ten images and their masks), `photo.jpg`, `photos/`,
  `Task04_Hippocampus` (six volumes and their label maps), `scan.nii.gz`, `scans/`, and of the runs
  `runs/quickstart` and `studies/quickstart` (on generated images) and `runs/hippocampus` those that
  a page mentions but does not write by `-o`. Python knows a `dataset` of a batch.
- A block that needs what is not here has a line before it, such as
  `<!-- not run: needs a download -->`; `NEEDS` has all that may stand there.
- Blocks of the languages in `SHOWN` are not run. Others are refused.
"""

import ast
import dataclasses
import importlib
import itertools
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from keras_lgmsnet.data.synthetic import generate
from keras_lgmsnet.kinds import KINDS
from keras_lgmsnet.recipe.schema import sections
from tests.helpers import stand_ins
from tests.helpers.volumes import write_msd_folder

CHECKOUT = Path(__file__).parents[1]
DOCS = CHECKOUT / "docs"
PAGES = [
    CHECKOUT / "README.md",
    *(path for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts),
]
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))
GENERATED = runpy.run_path(str(DOCS / "generated.py"))
NEEDS = ("a download", "a GPU", "a phone")
RUN = ("sh", "python")
SHOWN = ("text", "kotlin", "swift", "groovy", "xml", "json", "bibtex", "powershell")
SECONDS = 300  # for a block
# A notebook takes less than a minute where nothing else runs; here, another test does.
NOTEBOOK_SECONDS = 240
RUNS = {
    "runs/quickstart": ["recipes/quickstart.py"],
    "studies/quickstart": [
        *("recipes/quickstart.py", "--networks", "lgmsnet,unext", "--split-seeds", "41,64"),
    ],
    "runs/hippocampus": ["recipes/msd_folder.py", "--manual-dir", "Task04_Hippocampus"],
}
SMALLER = {"(256, 256, 3)": "(32, 32, 3)", "(96, 96, 96, 1)": "(32, 32, 32, 1)"}


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Args:
        language: What stands behind the fence.
        code: What stands between the fences.
        line: Where in its page the code begins.
        needs: What it needs that is not here, as the line before it says; `None` if nothing.
    """

    language: str
    code: str
    line: int
    needs: str | None


def relative(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def parse(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of code of a page, directives of MyST left out."""
    before = None
    for token in parse(page):
        marker = re.fullmatch(r"<!-- not run: needs (.*) -->\s*", before.content if before else "")
        if token.type == "fence" and not token.info.startswith("{"):
            yield Block(
                language=token.info,
                code=token.content,
                line=token.map[0] + 2,
                needs=marker and marker[1],
            )
        before = token


of_pages = pytest.mark.parametrize("page", PAGES, ids=relative)


@of_pages
def test_blocks_are_of_known_languages_and_are_left_out_for_known_reasons(page: Path) -> None:
    found = list(blocks(page))
    for block in found:
        where = f"{relative(page)}:{block.line}"
        assert block.language in RUN + SHOWN, where
        assert block.needs is None or (block.needs in NEEDS and block.language in RUN), where
    left_out = sum(block.needs is not None for block in found)
    assert page.read_text().count("<!-- not run") == left_out, "a remark stands before no block"


@pytest.mark.parametrize(
    "page",
    [
        page
        for page in PAGES
        if any(block.language in RUN and not block.needs for block in blocks(page))
    ],
    ids=relative,
)
def test_the_blocks_run(page: Path, home: Path, tmp_path: Path, monkeypatch) -> None:
    furnish(tmp_path, page.read_text(), home)
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in blocks(page):
        if block.needs is not None:
            continue
        if block.language == "sh":
            run_shell(block.code, tmp_path, f"{relative(page)}:{block.line}")
        elif block.language == "python":
            code = block.code
            for published, smaller in SMALLER.items():
                code = code.replace(published, smaller)
            if re.search(r"\bdataset\b", code):
                namespace.setdefault("dataset", one_batch())
            # So many lines before it that a traceback tells the page's.
            program = compile("\n" * (block.line - 1) + code, relative(page), "exec")
            exec(program, namespace)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=relative)
def test_a_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    executed = tmp_path / "executed.ipynb"
    command = [sys.executable, "-m", "jupytext", "--to", "ipynb", "--output", executed]
    result = subprocess.run(
        [*command, "--execute", "--run-path", tmp_path, notebook],
        # One core: two threads would wait for each other where other tests take turns with them.
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=NOTEBOOK_SECONDS,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert executed.exists()


@pytest.mark.parametrize("page", [*sorted(CHECKOUT.glob("*.md")), *PAGES[1:]], ids=relative)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(CHECKOUT), target
        if anchor:
            assert anchor in anchors(file), target


def test_the_readme_is_short() -> None:
    assert len((CHECKOUT / "README.md").read_text().splitlines()) <= 150


def test_the_index_names_every_page_and_notebook() -> None:
    named = {(DOCS / target).resolve() for target in links(DOCS / "index.md") if ":" not in target}
    assert {*PAGES[1:], *NOTEBOOKS} - {DOCS / "index.md"} <= named


def test_the_generated_pages_say_what_the_code_says() -> None:
    for name, text in GENERATED["pages"]().items():
        written = (DOCS / "reference" / name).read_text()
        assert written == text, f"{name} is not up to date: run `python docs/generated.py`"


def test_every_option_is_described() -> None:
    for name, where in stand_ins.PROJECT["scripts"].items():
        module, _, function = where.partition(":")
        command = getattr(importlib.import_module(module), function)
        context = click.Context(command)
        described = section("commands.md", name)
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                argument = parameter.make_metavar(context).strip("[].")
                assert re.search(rf"\b{argument}\b", command.help), (name, argument)
                continue
            option = ", ".join(f"`{text}`" for text in parameter.opts)
            _, value, default, meaning = row(described, option)
            assert meaning, (name, option)
            assert value or default == "off", (name, option)
            if re.match("integer|number", value):
                assert default != "–" or "default" in meaning, (name, option)


def test_every_field_of_a_recipe_is_described() -> None:
    for kind in KINDS:
        for key, cls in sections(kind).items():
            title = key if key == "model" else f"{key}, {kind.name}"
            for field in dataclasses.fields(cls):
                if field.name != "arguments":  # which stand beside the fields of `model`
                    assert all(row(section("recipe.md", title), f"`{key}.{field.name}`"))


def test_every_public_name_is_described() -> None:
    package = CHECKOUT / "keras_lgmsnet"
    for stub in package.rglob("__init__.pyi"):
        path = ".".join(["kl", *stub.parent.relative_to(package).parts])
        for name in re.findall(r"(\w+) as \1\b", stub.read_text()):
            files = [stub.parent / f"{name}.py", stub.parent / name / "__init__.py"]
            for module in filter(Path.exists, files):
                for defined in defined_names(module):
                    assert all(row(section("api.md", f"{path}.{name}"), f"`{defined}`"))
            if not any(map(Path.exists, files)):
                assert all(row(section("api.md", path), f"`{name}`")), f"{path}.{name}"


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of the user, where prepared datasets are kept, and finished runs."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HOME", str(folder))
        environment.setenv("MPLBACKEND", "agg")
        environment.setenv("OMP_NUM_THREADS", "1")  # two pages run at a time
        tools = folder / "bin"  # that a machine has before anything was installed
        stand_ins.install(folder / ".venv" / "bin")
        tools.mkdir()
        shutil.copy(folder / ".venv" / "bin" / "python3", tools)
        environment.setenv("PATH", str(tools), prepend=os.pathsep)
        (folder / "recipes").symlink_to(CHECKOUT / "recipes")
        write_msd_folder(folder / "Task04_Hippocampus", 6)
        write_pictures(folder)
        yield folder


def furnish(folder: Path, text: str, home: Path) -> None:
    """Put into a folder what a page presupposes."""
    for path in home.iterdir():
        if path.name not in ("bin", "runs", "studies", "tensorflow_datasets"):
            (folder / path.name).symlink_to(path)
    for run, arguments in RUNS.items():
        if run in text and f"-o {run}" not in text:
            if not (home / run).exists():
                command = " ".join([".venv/bin/lgms-train", *arguments, "-o", run])
                run_shell(command, home, run)
            shutil.copytree(home / run, folder / run)


def write_pictures(folder: Path) -> None:
    """Write a folder of images and masks, and photographs."""
    examples = generate(12, (96, 128), seed=1)  # each with a lesion
    for part in ("FOLDER/images", "FOLDER/masks", "photos"):
        (folder / part).mkdir(parents=True)
    pictures = list(zip(examples.images, examples.segmentation_masks, strict=True))
    for number, (image, mask) in enumerate(pictures[:10]):
        cv2.imwrite(str(folder / f"FOLDER/images/image{number}.png"), image)
        cv2.imwrite(str(folder / f"FOLDER/masks/image{number}.png"), 255 * mask)
    for number, (image, _) in enumerate(pictures[10:]):
        cv2.imwrite(str(folder / f"photos/photo{number}.jpg"), image)
    shutil.copy(folder / "photos/photo0.jpg", folder / "photo.jpg")
    scans = sorted((folder / "Task04_Hippocampus/imagesTr").iterdir())
    shutil.copy(scans[0], folder / "scan.nii.gz")
    (folder / "scans").mkdir()
    for scan in scans[:2]:
        shutil.copy(scan, folder / "scans")


def run_shell(code: str, folder: Path, where: str) -> None:
    """Run commands by bash, up to the first that fails."""
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert result.returncode == 0, f"{where}\n{code}\n{result.stdout}"


def one_batch() -> object:
    """Return a dataset of one batch of images and masks."""
    import keras

    class OneBatch(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return np.zeros((1, 32, 32, 3)), np.zeros((1, 32, 32, 1))

    return OneBatch()


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links and pictures."""
    for token in parse(page):
        for inline in [token, *(token.children or [])]:
            for name in ("href", "src"):
                if name in inline.attrs:
                    yield str(inline.attrs[name])
            if inline.type in ("html_block", "html_inline"):
                yield from re.findall(r'(?:href|src)="([^"]*)"', inline.content)


def section(name: str, title: str) -> str:
    """Return what stands below a heading in a page of the reference, up to the next heading."""
    text = (DOCS / "reference" / name).read_text()
    (found,) = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", text, re.M | re.S)
    return found


def defined_names(module: Path) -> list[str]:
    """Return the names that a file lists in `__all__`, or else those of its classes and functions.

    What begins with an underscore does not count.
    """
    body = ast.parse(module.read_text()).body
    for node in body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return [
        node.name
        for node in body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    ]


def row(text: str, first: str) -> list[str]:
    """Return the cells of the one row that has this as its first cell."""
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines()
    ]
    (found,) = (cells for cells in rows if cells and cells[0] == first)
    return found


def anchors(page: Path) -> list[str]:
    """Return the anchors of a page's headings, as GitHub and MyST name them."""
    tokens = parse(page)
    titles = [
        "".join(child.content for child in inline.children or [])
        for heading, inline in itertools.pairwise(tokens)
        if heading.type == "heading_open"
    ]
    return [re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles]
