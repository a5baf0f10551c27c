"""Times the input pipeline, for the cases of `lgms-benchmark` that train a 2D network.

It is timed alone, and should deliver twice what the fastest backend trains on.
"""

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_lgmsnet.benchmark.cases import DEFAULT_CASES, Case
from keras_lgmsnet.benchmark.networks import Row
from keras_lgmsnet.benchmark.workers import start_worker
from keras_lgmsnet.tables import markdown_table


@dataclass(frozen=True)
class PipelineRow:
    """How fast the input pipeline makes the batches of a training case."""

    case: str
    augmentation: str
    cores: int
    images_per_second: float
    trained_per_second: float

    @property
    def ratio(self) -> float:
        """Images made by images trained on by the fastest backend: at 2, none has to wait."""
        return self.images_per_second / self.trained_per_second

    @property
    def images_per_second_and_core(self) -> float:
        """Images a second, by the cores that make them."""
        return self.images_per_second / self.cores


def benchmark_pipeline(
    rows: Sequence[Row],
    cases: Mapping[str, Case] = DEFAULT_CASES,
    repeats: int = 5,
    threads: int | None = None,
) -> list[PipelineRow]:
    """Time the input pipeline for those cases that train a 2D network on RGB images.

    Nothing trains meanwhile: the pipeline has all the cores, as it has beside a GPU.

    Args:
        rows: What `benchmark` returned; the fastest backend of each case is what is to be fed.
        cases: What `benchmark` timed.
        repeats: Timed passes over eight batches, of which the median counts.
        threads: Processor cores to use (Linux), by default all.

    Returns:
        A row for each case and augmentation.

    Example:
    ```python
    rows = benchmark(["jax"])
    print(format_pipeline_table(benchmark_pipeline(rows)))
    ```
    """
    pipeline_rows = []
    for name, case in cases.items():
        trained = [row for row in rows if row.case == name]
        if not trained or not case.training or case.input_shape[2:] != (3,) or case.depthwise:
            continue
        with start_worker(trained[0].backend, threads) as worker:
            for augmentation in ("rotate_flip", "kvasir"):
                seconds = worker.submit(time_pipeline, case, augmentation, repeats).result()
                pipeline_rows.append(
                    PipelineRow(
                        case=name,
                        augmentation=augmentation,
                        cores=threads or os.cpu_count() or 1,
                        images_per_second=1 / seconds,
                        trained_per_second=max(row.images_per_second for row in trained),
                    )
                )
    return pipeline_rows


def format_pipeline_table(rows: Sequence[PipelineRow]) -> str:
    """Return the pipeline's rows as a Markdown table.

    The last column says how many such cores feed a GPU that trains on 16 images in 30 ms.
    """
    header = (
        *("case", "augmentation", "pipeline images/s", "training images/s", "ratio"),
        *("images/s a core", "cores for 16 images in 30 ms"),
    )
    lines = [
        (
            row.case,
            row.augmentation,
            f"{row.images_per_second:,.0f}",
            f"{row.trained_per_second:.3g}",
            f"{row.ratio:,.1f}",
            f"{row.images_per_second_and_core:,.0f}",
            f"{16 / 0.03 / row.images_per_second_and_core:.1f}",
        )
        for row in rows
    ]
    return markdown_table(header, lines)


def time_pipeline(case: Case, augmentation: str, repeats: int) -> float:
    """Return the median seconds an image, its batch made in full.

    Args:
        case: The batch's size and the images'.
        augmentation: A key of `keras_lgmsnet.data.augmentation.AUGMENTATIONS`.
        repeats: Timed passes over eight batches, after one to warm up.
    """
    from keras_lgmsnet.data.augmentation import AUGMENTATIONS
    from keras_lgmsnet.data.images import Examples, ImageBatches

    generator = np.random.default_rng(0)
    count = 8 * case.batch_size
    examples = Examples(
        [str(number) for number in range(count)],
        generator.integers(0, 256, (count, *case.input_shape), "uint8"),
        generator.integers(0, 2, (count, *case.input_shape[:-1], 1), "uint8"),
    )
    batches = ImageBatches(
        examples, case.batch_size, augmentation=AUGMENTATIONS[augmentation], shuffle=True
    )
    seconds = []
    for epoch in range(1 + repeats):  # the first to warm up
        batches.set_epoch(epoch)
        start = time.perf_counter()
        for index in range(len(batches)):
            batches[index]
        seconds.append((time.perf_counter() - start) / count)
    return statistics.median(seconds[1:])
