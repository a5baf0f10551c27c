"""Measures on a GPU what CPUs cannot tell: `lgms-benchmark --gpu-report`.

It needs a backend, Keras and what Keras needs, and no dataset, network connection or installation:
images are generated. Each part has a share of the time, and each backend's share of a part a
process of its own, so that a failure, a crash or a part that takes too long costs no more than
itself. The parts come in the order of their worth: what a short time leaves out matters least.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keras_lgmsnet.benchmark import forms
from keras_lgmsnet.benchmark.cases import Case
from keras_lgmsnet.benchmark.gpu_conclusions import conclude
from keras_lgmsnet.benchmark.gpu_trials import (
    PRECISIONS,
    Trial,
    agree,
    describe_card,
    feed,
    measure,
)
from keras_lgmsnet.benchmark.machine import describe_machine, megabytes, milliseconds
from keras_lgmsnet.benchmark.workers import Outcome, try_each
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.tables import table_head, table_line


@dataclass(frozen=True)
class Sizes:
    """How large what is measured is.

    Args:
        images: The 2D network, as it trains.
        volumes: The 3D network.
        batches: Images in a batch that the 2D network segments.
        volume_batches: Volumes in a batch.
        steps: Training steps in which the loss must fall.
        seconds: How long a network is timed.
        compiled: Whether by `torch.compile`, too, which takes a C++ compiler and a minute each.
        card: Megabytes to copy, and the side of the matrices to multiply.
    """

    images: Case
    volumes: Case
    batches: tuple[int, ...] = (1, 16, 64)
    volume_batches: tuple[int, ...] = (1, 2)
    steps: int = 30
    seconds: float = 2.0
    compiled: bool = True
    card: tuple[int, int] = (2000, 8192)


_TINY = {"dims": (4, 4, 4, 4, 4), "kernel_sizes": (3, 3)}
FULL = Sizes(
    images=Case((256, 256, 3), 16, training=True),
    volumes=Case((96, 96, 96, 1), training=True, num_classes=14),
)
# For a dry run, on a CPU.
QUICK = Sizes(
    images=Case((32, 32, 3), 2, training=True, arguments=_TINY),
    volumes=Case((32, 32, 32, 1), training=True, num_classes=3, arguments=_TINY),
    batches=(1,),
    volume_batches=(1,),
    steps=8,
    seconds=0.0,
    compiled=False,
    card=(1, 32),
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A part of the report.

    Args:
        title: Its heading.
        function: What a worker computes of a case.
        cases: Those of a backend.
        columns: Header and key of what it finds, and how its value is printed.
        share: Of the time that is left when it begins, the most that it may take.
        gpu: Whether its workers see the GPU.
    """

    title: str
    function: Callable[[Any], Row]
    cases: Callable[["_Report", str], list[Any]]
    columns: Mapping[str, tuple[str, Callable[[Any], str]]]
    share: float
    gpu: bool = True


def gpu_report(
    backends: Sequence[str],
    output: Path,
    *,
    minutes: float = 8.0,
    quick: bool = False,
    tell: Callable[[str], Any] = print,
) -> Row:
    """Measure the networks on this machine's GPU; print what is found, and write it as JSON.

    It starts processes, so a script that calls it needs `if __name__ == "__main__":`.

    Args:
        backends: Keras backends, by which every part is done.
        output: The JSON file, written anew after every measurement.
        minutes: The longest that it may take.
        quick: Measure tiny networks, to see that everything runs.
        tell: Prints some lines of the Markdown report.

    Returns:
        What the file holds: the machine, a row for each measurement, and the conclusions.

    Raises:
        ValueError: If there is no backend, or `minutes` is not positive.

    Example:
    ```python
    gpu_report(["jax", "torch"], Path("report.json"))
    ```
    """
    forms.require_time(backends, minutes)
    report = _Report(list(backends), output, minutes, quick, tell)
    report.run()
    return report.found


class _Report:
    """A report in the making."""

    def __init__(
        self,
        backends: list[str],
        output: Path,
        minutes: float,
        quick: bool,
        tell: Callable[[str], Any],
    ) -> None:
        self.backends = backends
        self.output = output
        self.sizes = QUICK if quick else FULL
        self.quick = quick
        self.tell = tell
        self.end = time.monotonic() + 60 * minutes
        self.rows: list[Row] = []
        self.found: Row = {
            "machine": describe_machine(),
            "minutes": minutes,
            "quick": quick,
            "rows": self.rows,
        }

    def run(self) -> None:
        """Do one part after the other; the forms have what is left of the time."""
        self._write()  # a folder that is not there is told before any time is spent
        self.tell(f"# Report on a GPU\n\n{self.found['machine']}")
        for part in PARTS:
            self._do(part, self._left() * part.share)
            if part is CARD:
                self._choose_backends()
        self._time_forms()
        self.found["conclusions"] = conclusions = conclude(self.rows)
        self._write()
        self.tell("\n## Conclusions\n")
        for sentence in conclusions:
            self.tell(f"- {sentence}")

    def _left(self) -> float:
        return max(0.0, self.end - time.monotonic())

    def _do(self, part: Part, seconds: float) -> None:
        """Do a part on all backends; what one of them does not need of its time, others have."""
        end = time.monotonic() + seconds
        labels = ("backend", "network", "pass", "batch", "precision")
        self.tell(f"\n## {part.title}\n\n{table_head((*labels, *part.columns))}")
        by_backend = {backend: part.cases(self, backend) for backend in self.backends}
        efforts = {
            backend: sum(_effort(case, backend) for case in cases)
            for backend, cases in by_backend.items()
        }
        for backend, cases in by_backend.items():
            if not cases:
                continue
            limit = (end - time.monotonic()) * efforts[backend] / sum(efforts.values())
            efforts[backend] = 0
            outcomes = try_each(part.function, cases, backend, limit, gpu=part.gpu)
            for case, outcome in zip(cases, outcomes, strict=True):
                self._add(part, backend, case, outcome)

    def _add(self, part: Part, backend: str, case: Any, outcome: Outcome) -> None:
        """Keep what came of a case, print it and write it."""
        named = case.labels if isinstance(case, Trial) else {}
        row = {"part": part.title, "backend": backend, **named, "failure": outcome.failure}
        row |= {"details": outcome.details} if outcome.details else outcome.value or {}
        self.rows.append(row)
        if outcome.failure:
            cells = [outcome.failure, *["–"] * (len(part.columns) - 1)]
        else:
            cells = [
                "–" if row.get(key) is None else as_text(row[key])
                for key, as_text in part.columns.values()
            ]
        labels = (row.get(key, "–") for key in ("network", "pass", "batch_size", "precision"))
        self.tell(table_line((backend, *map(str, labels), *cells)))
        self._write()

    def _choose_backends(self) -> None:
        """Go on with those that compute on the GPU, or on the CPU if none does."""
        devices = {row["backend"]: row.get("device") for row in self.rows}
        best = "CPU" if set(devices.values()) <= {"CPU", None} else "GPU"
        for backend, device in devices.items():
            if device is None or (device == "CPU") != (best == "CPU"):
                self.backends.remove(backend)
                self.tell(f"\n{backend} is left out from here on: it computes on no {best}.")

    def _time_forms(self) -> None:
        self.tell(f"\n## Forms\n\n{table_head(forms.HEADER)}")
        rows: list[Row] = []
        self.found["forms"] = rows
        for number, backend in enumerate(self.backends):
            seconds = self._left() / (len(self.backends) - number)
            for found in forms.time_forms(backend, seconds, quick=self.quick, tell=self.tell):
                rows += found
                self._write()
        self.tell(f"\n{forms.name_left_out(rows)}")

    def _write(self) -> None:
        write_json(self.output, self.found)


def _effort(case: Any, backend: str) -> int:
    """Return how much of the time a case takes, beside others: most of it goes into compiling."""
    return 1 if backend == "torch" and not (isinstance(case, Trial) and case.compiled) else 4


def _card(report: _Report, backend: str) -> list[Any]:
    return [report.sizes.card]


def _agreement(report: _Report, backend: str) -> list[Any]:
    case = replace(report.sizes.images, batch_size=2, training=False)
    return [Trial(case, precision) for precision in reversed(PRECISIONS)]


def _training(report: _Report, backend: str) -> list[Any]:
    trials = _contestants(report, backend, report.sizes.images, PRECISIONS)
    if backend == "torch" and report.sizes.compiled:
        trials += [replace(trials[0], peer=peer, compiled=True) for peer in (True, False)]
    return trials


def _inference(report: _Report, backend: str) -> list[Any]:
    return [
        trial
        for size in report.sizes.batches
        for trial in _contestants(
            report,
            backend,
            replace(report.sizes.images, training=False, batch_size=size),
            ("mixed_float16", "float32"),
        )
    ]


def _volumes(report: _Report, backend: str) -> list[Any]:
    return [
        trial
        for training in (True, False)
        for size in report.sizes.volume_batches
        for trial in _contestants(
            report,
            backend,
            replace(report.sizes.volumes, training=training, batch_size=size),
            ("mixed_bfloat16", "float32"),
        )
    ]


def _contestants(
    report: _Report, backend: str, case: Case, precisions: Sequence[str]
) -> list[Trial]:
    """Return a network in each precision, and on PyTorch also the one in plain PyTorch."""
    steps, seconds = report.sizes.steps, report.sizes.seconds
    return [
        Trial(case, precision, peer, steps=steps, seconds=seconds)
        for peer in ((False, True) if backend == "torch" else (False,))
        for precision in precisions
    ]


def _pipeline(report: _Report, backend: str) -> list[Any]:
    """Return the input pipeline's augmentations, once: it computes on the CPU, by no backend."""
    if backend != report.backends[0]:
        return []
    return [(report.sizes.images, augmentation) for augmentation in ("rotate_flip", "kvasir")]


def _giga(number: float) -> str:
    return f"{number / 1e9:,.3g}"


def _tera(number: float) -> str:
    return f"{number / 1e12:,.3g}"


def _number(number: float) -> str:
    return f"{number:.4g}"


def _small(number: float) -> str:
    return f"{number:.1e}"


def _answer(value: bool) -> str:
    return "yes" if value else "NO"


_SPEED = {
    "images/s": ("images_per_second", _number),
    "ms a step": ("seconds", milliseconds),
    "GPU MB": ("memory", megabytes),
}
_LOSS = {
    "first loss": ("first_loss", _number),
    "last": ("last_loss", _number),
    "finite": ("finite", _answer),
    "first step, ms": ("first_step_seconds", milliseconds),
}
CARD = Part(
    "The card, and how fast it is at best",
    describe_card,
    _card,
    {
        "device": ("device", str),
        "card": ("card", str),
        "copies, GB/s": ("bytes_per_second", _giga),
        **{
            f"{precision.removeprefix('mixed_')}, Tflop/s": (f"{precision}_flops", _tera)
            for precision in PRECISIONS
        },
    },
    0.3,
)
PARTS = (
    CARD,
    Part(
        "Logits beside the CPU's in float32, in their deviation",
        agree,
        _agreement,
        {
            "largest difference": ("largest_difference", _small),
            "mean": ("mean_difference", _small),
            "finite": ("finite", _answer),
        },
        0.3,
    ),
    Part(
        "Training on images",
        measure,
        _training,
        _SPEED
        | _LOSS
        | {
            "loss falls": ("falls", _answer),
            "loss scale": ("loss_scale", _number),
            "works": ("loss_scale_works", _answer),
        },
        0.55,
    ),
    Part("Segmenting images", measure, _inference, _SPEED, 0.3),
    Part("Volumes", measure, _volumes, _SPEED | _LOSS, 0.5),
    Part(
        "The input pipeline, on the CPU",
        feed,
        _pipeline,
        {
            "augmentation": ("augmentation", str),
            "images/s": ("images_per_second", _number),
            "cores": ("cores", str),
        },
        0.2,
        gpu=False,
    ),
)
