"""What the measurements of the report on a GPU say, in sentences."""

from collections.abc import Iterator, Sequence
from typing import Any

Row = dict[str, Any]


def conclude(rows: Sequence[Row]) -> list[str]:
    """Return what was found, what failed and what was left out.

    Args:
        rows: The measurements, as the report's JSON holds them.

    Returns:
        A sentence each.
    """
    done = [row for row in rows if not row["failure"]]
    trained = [
        row for row in done if row.get("pass") == "training" and len(row["input_shape"]) == 3
    ]
    return [
        *_of_losses(done),
        *_of_agreement(done),
        *_of_speed(trained),
        *_of_shares(trained, done),
        *_of_pipeline(trained, done),
        *_of_failures(rows),
    ]


def _name(row: Row) -> str:
    """Return what names a measurement."""
    parts = [row["backend"], row.get("network"), row.get("pass"), row.get("precision")]
    if batch := row.get("batch_size"):
        parts.append(f"batch of {batch}")
    return ", ".join(part for part in parts if part)


def _is_of_images(row: Row) -> bool:
    return len(row["input_shape"]) == 3


def _of_losses(rows: Sequence[Row]) -> Iterator[str]:
    trained = [row for row in rows if "first_loss" in row]
    wrong = [row for row in trained if not row["finite"]]
    # A volume's network warms its learning rate up in so many steps.
    wrong += [row for row in trained if _is_of_images(row) and not row["falls"]]
    wrong += [row for row in trained if row.get("loss_scale_works") is False]
    if wrong:
        yield f"LOSSES ARE WRONG in {len(wrong)} trainings: {'; '.join(map(_name, wrong))}."
    elif trained:
        yield f"The losses of all {len(trained)} trainings are numbers, and fall on images."


def _of_agreement(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if "largest_difference" in row:
            yield (
                f"{_name(row)}: logits differ from the CPU's by at most "
                f"{row['largest_difference']:.1e} of their deviation."
            )


def _of_speed(trained: Sequence[Row]) -> Iterator[str]:
    plain = [
        row
        for row in trained
        if row["network"] == "plain PyTorch" and row["precision"] != "float32"
    ]
    for backend, best in _best(trained).items():
        yield f"{backend} trains on {best['images_per_second']:.4g} images/s ({_name(best)})" + (
            f", {best['images_per_second'] / _fastest(plain)['images_per_second']:.2f} times as "
            "many as plain PyTorch in mixed precision."
            if plain
            else "; there is no plain PyTorch in mixed precision to compare with."
        )


def _of_shares(trained: Sequence[Row], rows: Sequence[Row]) -> Iterator[str]:
    cards = {row["backend"]: row for row in rows if "bytes_per_second" in row}
    for backend, row in _best(trained).items():
        if backend not in cards:
            continue
        flops = 2 * row["multiply_adds"] * row["images_per_second"]
        traffic = row["device_bytes"] * row["images_per_second"]
        yield (
            f"{backend} reaches {flops / cards[backend][row['precision'] + '_flops']:.1%} of the "
            f"card's rate of multiplying, and {traffic / cards[backend]['bytes_per_second']:.1%} "
            "of its rate of copying, if every layer's output is written and read no more often "
            "than it must be."
        )


def _of_pipeline(trained: Sequence[Row], rows: Sequence[Row]) -> Iterator[str]:
    ours = list(_best(trained).values())
    for row in rows:
        if "augmentation" in row and ours:
            times = row["images_per_second"] / _fastest(ours)["images_per_second"]
            yield (
                f"The input pipeline ({row['augmentation']}) makes {times:.1f} times the images "
                "that the fastest backend trains on."
            )


def _of_failures(rows: Sequence[Row]) -> Iterator[str]:
    failed = [row for row in rows if row["failure"]]
    for row in failed:
        yield f"{row['part']}, {_name(row)}: {row['failure']}"
    if not failed:
        yield "Nothing failed, and nothing but forms may have been left out."


def _best(trained: Sequence[Row]) -> dict[str, Row]:
    """Return the fastest training of our network on each backend."""
    ours = [row for row in trained if row["network"].startswith("ours")]
    return {
        backend: _fastest([row for row in ours if row["backend"] == backend])
        for backend in dict.fromkeys(row["backend"] for row in ours)
    }


def _fastest(rows: Sequence[Row]) -> Row:
    return max(rows, key=lambda row: row["images_per_second"])
