"""What networks cost, the left half of a paper's table of them: `lgms-benchmark --networks`.

Each network, as it was first published, is counted and timed on each backend: a forward pass of one
image or volume and a training step of two images or one volume, as
`keras_lgmsnet.benchmark.networks` has them. Every pass has a process of its own, whose peak memory
is that of the pass alone. A process that ends before its time, since the memory did not suffice,
costs only its pass.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keras_lgmsnet.benchmark.cases import Case, network_cases
from keras_lgmsnet.benchmark.machine import (
    BACKENDS,
    default_device,
    describe_machine,
    megabytes,
)
from keras_lgmsnet.benchmark.workers import (
    Outcome,
    import_packages,
    peak_memory,
    require_threads,
    try_each,
)
from keras_lgmsnet.files.writing import csv_text, write_text
from keras_lgmsnet.models import registry
from keras_lgmsnet.process import memory
from keras_lgmsnet.tables import latex_table, markdown_table, table_head, table_line

ALL = "all"
# The images or volumes of each pass.
PASSES: dict[str, dict[str, int]] = {
    "forward": {"images": 1, "volumes": 1},
    "training": {"images": 2, "volumes": 1},
}
# The longest that a pass may take, the start of its process and compilation included.
SECONDS = 1200
# Said of a process that the system ended by force.
KILLED = "exit code -9"
# How tables are written, by the end of a file's name.
STYLES = {".md": "markdown", ".tex": "latex", ".csv": "csv"}
HEADER = (
    *("network", "backend", "device", "parameters", "multiply-adds", "printed by papers"),
    *("forward, images/s", "MB", "training, images/s", "MB"),
)
CAPTION = (
    "A forward pass takes one image or volume, a training step two images or one volume. MB are "
    "the most that a process held beyond its imports, on a GPU what the backend held there at most."
)


@dataclass(frozen=True)
class Measurement:
    """What a pass of a network was found to cost.

    Args:
        device: What the backend computes on by default.
        parameters: The network's trainable parameters.
        multiply_adds: Its multiply-adds for one image or volume.
        images_per_second: Images, or volumes, a second, by the median of the steps.
        memory: Peak memory in bytes: on a GPU what the backend held there, else what the process
            held in RAM beyond its imports; `None` where the system does not tell.
    """

    device: str
    parameters: int
    multiply_adds: int
    images_per_second: float
    memory: int | None


@dataclass(frozen=True)
class CostRow:
    """What a network costs on a backend.

    Args:
        case: Its forward pass.
        backend: Keras's.
        outcomes: What came of each of `PASSES`: a `Measurement`, or why there is none.
    """

    case: Case
    backend: str
    outcomes: Mapping[str, Outcome]

    @property
    def counted(self) -> Measurement | None:
        """Any of the measurements, all of which count alike; `None` where there is none."""
        found = (outcome.value for outcome in self.outcomes.values() if outcome.value)
        return next(found, None)

    @property
    def printed(self) -> str:
        """What papers print of the network's parameters and multiply-adds; often nothing."""
        published = self.case.entry.published
        return published[0].printed if published else ""

    def failures(self) -> list[str]:
        """Return for each pass that was left out a line that says why."""
        lines = []
        for name, outcome in self.outcomes.items():
            if failure := outcome.failure:
                if KILLED in failure:
                    failure += " So the system ends what takes more memory than there is."
                title = self.case.entry.title
                lines.append(f"Left out: {title} on {self.backend}, {name}. {failure}")
        return lines

    def cells(self) -> tuple[str, ...]:
        """Return the line of the table."""
        counted = self.counted
        cells = [self.case.entry.title, self.backend, *["–"] * 3, self.printed or "–"]
        if counted:
            cells[2:5] = (
                counted.device,
                f"{counted.parameters:,}",
                f"{counted.multiply_adds / 1e9:.2f} G",
            )
        for outcome in self.outcomes.values():
            found = outcome.value
            cells += (
                [f"{found.images_per_second:.3g}", megabytes(found.memory)] if found else ["–", "–"]
            )
        return tuple(cells)

    def values(self) -> dict[str, Any]:
        """Return the line of the CSV file; what was not measured is empty."""
        counted, case = self.counted, self.case
        values: dict[str, Any] = {
            "network": case.network,
            "backend": self.backend,
            "device": counted and counted.device,
            "input_shape": " ".join(map(str, case.input_shape)),
            "parameters": counted and counted.parameters,
            "multiply_adds": counted and counted.multiply_adds,
            "printed": self.printed,
        }
        for name, outcome in self.outcomes.items():
            found = outcome.value
            values[f"{name}_images_per_second"] = found and found.images_per_second
            values[f"{name}_memory"] = found and found.memory
            values[f"{name}_failure"] = outcome.failure
        return values


def benchmark_costs(
    networks: Sequence[str] = (ALL,),
    backends: Sequence[str] = BACKENDS,
    output: Path | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    repeats: int = 5,
    threads: int | None = None,
    quick: bool = False,
    tell: Callable[[str], Any] = print,
) -> list[CostRow]:
    """Count and time networks as they were published, and write tables of it.

    It starts processes, so a script that calls it needs `if __name__ == "__main__":`.

    Args:
        networks: Their names; `"all"` are all that take images, or what `input_shape` is of.
        backends: Keras backends, installed ones.
        output: A folder, in which `networks.md`, `networks.tex` and `networks.csv` are written, or
            one file whose name ends in one of these ways; `None` to write nothing.
        input_shape: Sides and channels of one image or volume; by default as each network was
            published, of images where it takes both.
        repeats: Timed steps of each pass, after two to warm up.
        threads: Processor cores that each process may use (Linux), by default all.
        quick: Take the smallest sides that each network takes, to see that everything runs.
        tell: Prints a line of the Markdown table.

    Returns:
        A row for each network and backend.

    Raises:
        ValueError: If there is no such network, a side is none that one takes, there is no backend,
            or a number is not positive.

    Example:
    ```python
    benchmark_costs(["unet", "cmunext"], ["torch"], Path("costs.csv"))
    ```
    """
    if not backends:
        raise ValueError(f"Name at least one installed backend. Received: {tuple(backends)}")
    if repeats < 1:
        raise ValueError(f"repeats must be positive. Received: repeats={repeats}")
    require_threads(threads)
    cases = [_case(name, input_shape, quick) for name in _expand(networks, input_shape)]
    machine = describe_machine(threads)
    rows: list[CostRow] = []
    _write(output, rows, machine)  # a folder that is not there is told before any time is spent
    tell(f"{machine}\n")
    tell(table_head(HEADER))
    for row in _measure(cases, backends, repeats, threads):
        rows.append(row)
        _write(output, rows, machine)
        tell(table_line(row.cells()))
    tell("\n".join(["", CAPTION, *_failures(rows)]))
    return rows


def format_costs(rows: Sequence[CostRow], machine: str, style: str = "markdown") -> str:
    r"""Return rows as a table for a paper, with what was left out.

    Args:
        rows: What `benchmark_costs` returned.
        machine: What `describe_machine` returned.
        style: `"markdown"`, `"latex"`, which needs `\usepackage{booktabs}`, or `"csv"`.
    """
    if style == "csv":
        return csv_text([row.values() for row in rows])
    cells = [row.cells() for row in rows]
    notes = [f"{machine}.", CAPTION, *_failures(rows)]
    if style == "latex":
        return latex_table(HEADER, cells, " ".join(notes)) + "\n"
    return "\n\n".join([markdown_table(HEADER, cells), *notes]) + "\n"


def measure(task: tuple[Case, int]) -> Measurement:
    """Count a network and time one pass of it, in this process.

    Args:
        task: The pass, and how often it is timed.
    """
    case, repeats = task
    imported = import_packages(case.entry.module)
    import keras

    from keras_lgmsnet.models.complexity import count

    model = case.create_network()
    step = case.keras_step(model)
    seconds = []
    for _ in range(2 + repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    backend = keras.backend.backend()
    on_gpu = memory.most_held_on_gpu(backend)
    held = peak_memory(imported) if on_gpu is None else on_gpu
    parameters, multiply_adds = count(model)
    return Measurement(
        default_device(backend),
        parameters,
        multiply_adds,
        case.batch_size / statistics.median(seconds[2:]),
        held,
    )


def _measure(
    cases: Sequence[Case], backends: Sequence[str], repeats: int, threads: int | None
) -> Iterator[CostRow]:
    for case in cases:
        for backend in backends:
            outcomes = {}
            for name, sizes in PASSES.items():
                batch_size = case.kind.choose(**sizes)
                task = replace(case, batch_size=batch_size, training=name == "training"), repeats
                (outcomes[name],) = try_each(measure, [task], backend, SECONDS, threads=threads)
            yield CostRow(case, backend, outcomes)


def _expand(networks: Sequence[str], input_shape: tuple[int, ...] | None) -> list[str]:
    """Return names, for `"all"` those of all networks of a kind, each once and in that order."""
    rank = 2 if input_shape is None else len(input_shape) - 1
    names = [
        name for asked in networks for name in (registry.names(rank) if asked == ALL else (asked,))
    ]
    return list(dict.fromkeys(names))


def _case(name: str, input_shape: tuple[int, ...] | None, quick: bool) -> Case:
    """Return the forward pass of a network: by default, where it takes both, of images."""
    entry = registry.find(name, None if input_shape is None else len(input_shape) - 1)
    if quick:
        channels = entry.published[0].input_shape[-1] if entry.published else 3
        smallest = entry.sides({}).nearest_together([1] * entry.rank)
        input_shape = (*(side for side in smallest if side is not None), channels)
    cases = network_cases(name, input_shape=input_shape)
    return cases[f"forward-{entry.rank}d"]


def _failures(rows: Sequence[CostRow]) -> list[str]:
    return [failure for row in rows for failure in row.failures()]


def _write(output: Path | None, rows: Sequence[CostRow], machine: str) -> None:
    """Write the tables, those of no rows yet too."""
    if output is None:
        return
    paths = [output]
    if output.suffix not in STYLES:
        output.mkdir(exist_ok=True)
        paths = [output / f"networks{suffix}" for suffix in STYLES]
    for path in paths:
        write_text(path, format_costs(rows, machine, STYLES[path.suffix]))
