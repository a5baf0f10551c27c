"""What the commands say beside their results: quietly, honestly, and now and then."""

import io
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from keras_lgmsnet.cli.benchmark import benchmark
from keras_lgmsnet.cli.evaluate import evaluate
from keras_lgmsnet.cli.export import export
from keras_lgmsnet.cli.figures import figures
from keras_lgmsnet.cli.networks import networks
from keras_lgmsnet.cli.predict import predict
from keras_lgmsnet.cli.train import train as lgms_train
from keras_lgmsnet.models import registry
from keras_lgmsnet.process import progress
from keras_lgmsnet.process.progress import track
from keras_lgmsnet.recipe.schema import Data, Recipe, Training, VolumeData, VolumeTraining
from keras_lgmsnet.training.rehearsal import _describe_seconds, rehearse
from tests.helpers.runs import create_small
from tests.helpers.volumes import write_msd_folder

CHECKOUT = Path(__file__).parents[1]
COMMANDS = (benchmark, evaluate, export, figures, networks, predict, lgms_train)

# A package that writes to standard error as TensorFlow does, as from C++: when it is imported, and
# when it first looks for devices.
TENSORFLOW = """
import os
os.write(2, b"cudart_stub.cc: no drivers\\n")
{then}
class config:
    @staticmethod
    def list_physical_devices():
        os.write(2, b"failed call to cuInit\\n")
"""
PROGRAM = """
import os, sys
from keras_lgmsnet.process.quiet import quieten
quieten()
assert "tensorflow" not in sys.modules
import tensorflow
os.write(2, b"Later.\\n")
"""


def start(folder: Path, program: str, **environment: str) -> subprocess.CompletedProcess:
    """Run a program that finds the modules of a folder first."""
    path = os.pathsep.join([str(folder), str(CHECKOUT)])
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "LGMS_VERBOSE": "", **environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def write_tensorflow(folder: Path, then: str = "") -> Path:
    (folder / "tensorflow.py").write_text(TENSORFLOW.format(then=then))
    return folder


@pytest.mark.no_backend
class TestQuiet:
    def test_lines_of_the_start_are_held_back_and_no_others(self, tmp_path: Path) -> None:
        started = start(write_tensorflow(tmp_path), PROGRAM)
        assert (started.returncode, started.stderr) == (0, "Later.\n")

    def test_all_is_shown_to_who_wants_to_see_it(self, tmp_path: Path) -> None:
        started = start(write_tensorflow(tmp_path), PROGRAM, LGMS_VERBOSE="1")
        assert (
            started.stderr == "cudart_stub.cc: no drivers\nLater.\n"
        )  # devices are looked for later

    def test_what_an_import_says_that_fails_is_shown(self, tmp_path: Path) -> None:
        started = start(write_tensorflow(tmp_path, "raise ImportError('no AVX')"), PROGRAM)
        assert started.stderr.startswith("cudart_stub.cc: no drivers\nTraceback")
        assert started.stderr.endswith("ImportError: no AVX\n")

    def test_what_tensorflow_says_as_it_dies_is_shown(self, tmp_path: Path) -> None:
        started = start(write_tensorflow(tmp_path, "os.abort()"), PROGRAM)
        assert (started.returncode, started.stderr) == (-6, "cudart_stub.cc: no drivers\n")

    def test_python_programs_are_left_alone(self, tmp_path: Path) -> None:
        program = "import keras_lgmsnet, tensorflow; tensorflow.config.list_physical_devices()"
        started = start(write_tensorflow(tmp_path), program)
        assert started.stderr == "cudart_stub.cc: no drivers\nfailed call to cuInit\n"

    def test_datasets_tell_errors_only_and_others_all(self, tmp_path: Path) -> None:
        chatter = "from absl import logging; logging.warning('custom'); logging.error('broken')"
        (tmp_path / "tensorflow_datasets").mkdir()
        (tmp_path / "tensorflow_datasets/__init__.py").write_text(chatter)
        (tmp_path / "other.py").write_text("from absl import logging; logging.warning('odd')")
        program = "from keras_lgmsnet.process.quiet import quieten; quieten()\n"
        program += "import tensorflow_datasets, other"
        told = start(tmp_path, program).stderr
        assert "broken" in told
        assert "odd" in told
        assert "custom" not in told
        assert "custom" in start(tmp_path, program, LGMS_VERBOSE="1").stderr

    def test_verbose_reaches_the_processes_that_a_command_starts(self, monkeypatch) -> None:
        monkeypatch.setenv("LGMS_VERBOSE", "")
        networks(["--verbose"], standalone_mode=False)
        assert os.environ["LGMS_VERBOSE"] == "1"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.no_backend
class TestProgress:
    def test_a_log_has_a_line_now_and_then(self, capsys, monkeypatch) -> None:
        monkeypatch.setattr(progress, "SECONDS", 0)
        assert list(track("abc", label="Decoding", unit="image")) == ["a", "b", "c"]
        lines = capsys.readouterr().err.split("\n")
        assert lines == [
            *(f"Decoding: {count} of 3 images after 00:00, 00:00 left" for count in (1, 2, 3)),
            "",
        ]

    def test_what_is_done_at_once_is_not_worth_a_line(self, capsys) -> None:
        with track(label="Decoding", unit="image", total=9) as done:
            done.update(9)
        assert capsys.readouterr().err == ""

    def test_without_a_total(self, capsys, monkeypatch) -> None:
        monkeypatch.setattr(progress, "SECONDS", 0)
        list(track(iter("ab"), label="Writing", unit="example"))
        assert capsys.readouterr().err.startswith("Writing: 1 examples after 00:00\nWriting: 2 ")

    def test_a_terminal_has_a_bar(self, monkeypatch) -> None:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        list(track("abc", label="Decoding", unit="image"))
        assert "\r" in terminal.getvalue()
        assert "Decoding: 100%" in terminal.getvalue()

    def test_nothing_is_told_unless_it_is_to_be(self, capsys, monkeypatch) -> None:
        monkeypatch.setattr(progress, "SECONDS", 0)
        assert list(track("abc", label="Decoding", unit="image", shown=False)) == ["a", "b", "c"]
        assert capsys.readouterr().err == ""


@pytest.mark.no_backend
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_option_is_explained_with_its_default(command: click.Command) -> None:
    # What leaving them out means needs no words.
    without = {"--set", "--against", "--foreground-of", "--networks", "--verbose"}
    for option in command.params:
        if isinstance(option, click.Option) and "--help" not in option.opts:
            assert option.help is not None
            assert option.help.endswith("."), option.opts
            if not (option.is_flag or option.required or without & set(option.opts)):
                assert option.show_default or "default" in option.help, option.opts


IMAGES = Recipe(
    data=Data(source="synthetic", num_images=10, image_size=(32, 32)),
    training=Training(epochs=3, batch_size=4),
)


class TestRehearsal:
    @pytest.fixture(autouse=True)
    def _small_network(self, monkeypatch) -> None:
        monkeypatch.setattr(registry, "create", create_small)

    def test_images(self, tmp_path: Path) -> None:
        told = rehearse(IMAGES, tmp_path / "runs/a")
        assert not list(tmp_path.iterdir())
        assert told["data"] == "synthetic, 10 images"
        assert told["split"] == "7 to train on, 3 to validate on"
        assert told["steps"] == "2 an epoch, of 4 images of 32 × 32 × 3; 3 epochs, 6 steps in all"
        assert told["network"] == "LGMSNet, 317 parameters, float32"
        assert told["time"].endswith(" as busy as this machine is now; validation not counted")
        assert told["memory"].endswith(" at most so far")
        (tmp_path / "used").touch()
        with pytest.raises(FileExistsError, match=r"is in use"):
            rehearse(IMAGES, tmp_path)

    def test_volumes(self, tmp_path: Path) -> None:
        recipe = Recipe(
            data=VolumeData(source="msd_folder", patch_size=(32, 32, 32), patches_per_volume=2),
            training=VolumeTraining(epochs=3, warmup_epochs=1),
        )
        folder = write_msd_folder(tmp_path / "Task", 4)
        told = rehearse(recipe, tmp_path / "run", manual_dir=folder, data_dir=tmp_path / "data")
        assert not (tmp_path / "run").exists()
        assert told["data"] == "msd_folder/Task, 4 volumes"
        assert told["split"] == "2 to train on, 2 to validate on"
        assert told["steps"].startswith("2 an epoch, of 2 patches of 32 × 32 × 32 × 1; 3 epochs")

    def test_times_have_two_digits(self) -> None:
        told = [_describe_seconds(seconds) for seconds in (0.042, 3.14, 9.97, 400, 2e4, 3e5)]
        assert told == ["0.042 s", "3.1 s", "10 s", "6.7 min", "5.6 h", "3.5 days"]
