"""Exports of full-size networks, once a network: `python -m tests --full-size-exports`.

They print how long it took and how large the files are; `-s` shows it at once.
"""

import time
from pathlib import Path

import pytest

from keras_lgmsnet.models.network import Network, Published
from tests.helpers.exporting import train_and_export
from tests.networks import PUBLISHED
from tests.test_networks import once


@once
@pytest.mark.parametrize(("entry", "published"), PUBLISHED)
def test_full_size_exports_pass_the_gate(
    entry: Network,
    published: Published,
    tmp_path: Path,
) -> None:
    start = time.perf_counter()
    exported = train_and_export(
        entry.name, published.input_shape[:-1], published.arguments, tmp_path, epochs=1
    )
    seconds = time.perf_counter() - start
    print(f"\n{entry.title}, {published.parameters:,} parameters: {seconds:.0f} s")
    for name, file in exported["files"].items():
        print(f"  {name}: {file['agreement']}")
