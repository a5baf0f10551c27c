"""Which network to take: what the numbers of a comparison carry, and no more."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras_lgmsnet.comparison.contestants import source_of
from keras_lgmsnet.comparison.differences import compare_with
from keras_lgmsnet.comparison.standings import Standing, headline, scored_on, standings
from keras_lgmsnet.comparison.tables import Comparison
from keras_lgmsnet.tables import listed, p_cell

_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Difference:
    """A network's score minus the best one's, case by case.

    Args:
        mean: Of the cases, a share from -1 to 1.
        interval: Its 95 % bootstrap interval, if there is one.
        p: Of the Wilcoxon signed-rank test, corrected by Holm; `None` where there was no test.
    """

    mean: float
    interval: tuple[float, float] | None
    p: float | None

    @property
    def is_lower(self) -> bool:
        """Whether the test says that it is lower."""
        return self.p is not None and self.p < _SIGNIFICANT and self.mean < 0

    @property
    def is_open(self) -> bool:
        """Whether there was a test, and it does not say that it is lower."""
        return self.p is not None and not self.is_lower


@dataclass(frozen=True)
class Advice:
    """A question and what the numbers answer.

    Args:
        question: Such as `"Highest score"`.
        answer: Some sentences.
    """

    question: str
    answer: str


def advise(comparison: Comparison) -> dict[str, list[Advice]]:
    r"""Return what the numbers say on each dataset, by what to call it.

    A network counts as distinguishably lower than the best one by the Wilcoxon test with Holm's
    correction for all comparisons with the best one.

    Args:
        comparison: The runs.

    Raises:
        FileNotFoundError: As `compare_with` raises, where the reference is not the best one.
        ValueError: As that raises.

    Example:
    ```python
    for dataset, found in advise(comparison).items():
        print(dataset, *(f"{each.question}: {each.answer}" for each in found), sep="\n")
    ```
    """
    advice = {}
    for dataset in comparison.datasets:
        found = standings(comparison, dataset)
        run = next(each.on(dataset) for each in comparison.contestants if each.on(dataset))[0]
        if not found:
            continue
        best = max(_complete(found), key=lambda each: each.mean)
        if comparison.reference == best.label:
            rows = comparison.differences
        else:
            rows, _ = compare_with(comparison.contestants, best.label)
        differences = {
            each["network"]: Difference(each["difference"], each["interval"], each["holm_p"])
            for each in rows
            if each["dataset"] == dataset and each["score"] == headline(run.kind)
        }
        advice[source_of(dataset)] = which_to_take(
            found,
            differences or None,
            score=headline(run.kind),
            held_out=_count(comparison, dataset),
        )
    return advice


def _count(comparison: Comparison, dataset: str) -> str:
    """Return how many of what a split holds out, and how many different ones there are."""
    runs = [run for each in comparison.contestants for run in each.on(dataset)]
    different = {id_ for run in runs for id_ in run.ids}
    text = f"{len(runs[0].ids)} {scored_on(runs[0])}"
    return text if len(different) == len(runs[0].ids) else f"{text}, {len(different)} in all"


def which_to_take(
    found: Sequence[Standing],
    differences: Mapping[str, Difference] | None,
    *,
    score: str,
    held_out: str,
) -> list[Advice]:
    """Return which of some networks to take, and how sure that is.

    Args:
        found: How they stand, at least one.
        differences: Of the others from the best one; `None` where they are not known.
        score: What the score is called.
        held_out: How many of what were scored in one split: `"195 validation images of busi"`,
            perhaps followed by how many different ones there are.
    """
    complete = _complete(found)
    best = max(complete, key=lambda each: each.mean)
    splits = len(best.scores)
    advice = [Advice("Highest score", _tell_best(best, complete, score))]
    if len(complete) == 1:
        advice.append(Advice("Smaller networks", "None was compared with it on the same splits."))
    elif differences is None:
        advice.append(Advice("Smaller networks", _tell_unknown(best, complete, score)))
    else:
        if even := [each.label for each in complete if _is_open(each, differences)]:
            answer = f"{listed(even)}: what separates {'it' if len(even) == 1 else 'each'} from "
            answer += f"{best.label} may be chance."
            advice.append(Advice("Not distinguishably lower", answer))
        advice.append(Advice("Smaller networks", _tell_small(best, complete, differences, score)))
        larger = [
            _describe(each, differences[each.label], score, best)
            for each in complete
            if _is_lower(each, differences) and not _is_smaller(each, best)
        ]
        if larger:
            advice.append(Advice("Larger, and distinguishably lower", f"{'; '.join(larger)}."))
    if (fastest := _tell_fastest(best, complete, differences)) is not None:
        advice.append(Advice("Fastest", fastest))
    advice.append(Advice("How sure that is", _tell_certainty(best, complete, splits, held_out)))
    if left := [each.label for each in found if each not in complete]:
        advice.append(
            Advice(
                "Not considered",
                f"{', '.join(left)}: scored on fewer splits than the others, so their means are "
                "of other splits.",
            )
        )
    return advice


def _complete(found: Sequence[Standing]) -> list[Standing]:
    """Return those that were scored on as many splits as any."""
    most = max(len(each.scores) for each in found)
    return [each for each in found if len(each.scores) == most]


def _tell_best(best: Standing, complete: Sequence[Standing], score: str) -> str:
    text = f"{best.label}, {score} {100 * best.mean:.2f} %"
    if best.deviation is not None:
        text += f" (± {100 * best.deviation:.2f} over {len(best.scores)} splits)"
    text += f", {_costs(best)}."
    alike = [
        each.label
        for each in complete
        if each is not best and round(100 * each.mean, 2) == round(100 * best.mean, 2)
    ]
    if alike:
        text += f" {listed(alike)} {'has' if len(alike) == 1 else 'have'} the same score."
    if len(complete) > 2:
        text += " The highest of several scores is also the luckiest: expect a little less of it."
    return text


def _tell_unknown(best: Standing, complete: Sequence[Standing], score: str) -> str:
    """Tell what is smaller and by how much its mean is lower, where nothing was tested."""
    smaller = [each for each in complete if each.parameters < best.parameters]
    if not smaller:
        return f"No network of the others has fewer parameters than {best.label}."
    told = "; ".join(
        f"{each.label} ({_costs(each)}): {100 * (best.mean - each.mean):.2f} points of {score} less"
        for each in sorted(smaller, key=lambda each: each.parameters)
    )
    return (
        f"{told}. Whether these differences are more than chance was not tested: compare once more "
        f"with {best.label} as the reference."
    )


def _tell_small(
    best: Standing,
    complete: Sequence[Standing],
    differences: Mapping[str, Difference],
    score: str,
) -> str:
    """Tell the smallest network that cannot be told from the best one, by either cost."""
    as_good = [each for each in complete if each is best or _is_open(each, differences)]
    by_parameters = min(as_good, key=lambda each: (each.parameters, each.multiply_adds))
    by_work = min(as_good, key=lambda each: (each.multiply_adds, each.parameters))
    if by_parameters is best and by_work is best:
        smaller = [each for each in complete if _is_smaller(each, best)]
        if not smaller:
            return (
                f"{best.label} itself: it is also the one of fewest parameters and multiply-adds."
            )
        lower = [each for each in smaller if _is_lower(each, differences)]
        text = f"None but {best.label} itself. "
        if lower:
            told = "; ".join(
                _describe(each, differences[each.label], score, best) for each in lower
            )
            text += (
                f"Those that are smaller score distinguishably lower: {told}. How many points a "
                "smaller file is worth, the numbers cannot say. "
            )
        if unknown := [each.label for each in smaller if each not in lower]:
            text += f"Of {listed(unknown)} there is no test, so nothing can be said."
        return text.strip()
    sentences: list[str] = []
    for each, what in (
        (by_parameters, "fewest parameters"),
        (by_work, "fewest multiply-adds"),
    ):
        if each is by_parameters and by_work is by_parameters:
            what = "fewest parameters and multiply-adds"
        if each is by_work and by_work is by_parameters and sentences:
            break
        if each is best:
            sentences.append(f"By {what}: {best.label} itself.")
            continue
        difference = differences[each.label]
        sentence = (
            f"By {what}: {_describe(each, difference, score, best)}. It is not distinguishably "
            f"lower than {best.label}, which is not to say that it is as good"
        )
        if difference.interval is not None and difference.interval[0] < 0:
            sentence += (
                f": that it is up to {-100 * difference.interval[0]:.2f} points lower remains "
                "possible"
            )
        sentences.append(f"{sentence}.")
    return " ".join(sentences)


def _tell_fastest(
    best: Standing, complete: Sequence[Standing], differences: Mapping[str, Difference] | None
) -> str | None:
    """Tell the fastest of all, and of those that cannot be told from the best; `None` untimed."""
    timed = [each for each in complete if each.speed is not None]
    if not timed:
        return None
    fastest = max(timed, key=_speed)
    text = f"{fastest.label}, {_speed(fastest):.3g} a second"
    text += f"; {best.label}: {best.speed:.3g}." if best.speed and fastest is not best else "."
    if fastest is best or differences is None:
        return text
    if _is_lower(fastest, differences):
        text += f" It scores distinguishably lower than {best.label}."
        as_good = [each for each in timed if each is best or _is_open(each, differences)]
        if as_good:
            chosen = max(as_good, key=_speed)
            text += f" Of those that do not, {chosen.label}: {_speed(chosen):.3g} a second."
    return text


def _tell_certainty(
    best: Standing, complete: Sequence[Standing], splits: int, held_out: str
) -> str:
    if splits == 1:
        return (
            f"There is one split, and one training of each network: what is said here is of these "
            f"{held_out}. Tests and intervals tell how far chance in the choice of those reaches, "
            "not what another split or another training would give, which can turn the order "
            "round. Train on more splits before you choose between networks that are close."
        )
    others = [each for each in complete if each is not best]
    text = f"There are {splits} splits, each of some {held_out}, with one training each."
    if others:
        second = max(others, key=lambda each: each.mean)
        wins = sum(a > b for a, b in zip(best.scores, second.scores, strict=True))
        text += f" {best.label} is ahead of the second, {second.label}, in {wins} of them."
        pairs = zip(best.scores, second.scores, strict=True)
        deviation = statistics.stdev(a - b for a, b in pairs)
        text += (
            f" Their means are {100 * (best.mean - second.mean):.2f} points apart, with a standard "
            f"deviation of {100 * deviation:.2f} over the splits"
        )
        unclear = best.mean - second.mean <= deviation or wins < splits
        text += ": the splits cannot tell which of the two is better." if unclear else "."
    text += (
        " Points, intervals and p-values above are case by case, as in a table of differences, so "
        "they are not quite those between the means of splits. They cover chance among the cases, "
        "not that of another training."
    )
    if splits < 5:
        text += f" A deviation over {splits} splits is itself uncertain: five or more tell more."
    return text


def _is_smaller(each: Standing, best: Standing) -> bool:
    """Say whether a network costs less than the best one in one way at least."""
    return each.parameters < best.parameters or each.multiply_adds < best.multiply_adds


def _is_lower(each: Standing, differences: Mapping[str, Difference]) -> bool:
    return each.label in differences and differences[each.label].is_lower


def _is_open(each: Standing, differences: Mapping[str, Difference]) -> bool:
    return each.label in differences and differences[each.label].is_open


def _describe(each: Standing, difference: Difference, score: str, best: Standing) -> str:
    """Return a network with its costs and its difference from the best one."""
    interval = ""
    if difference.interval is not None:
        low, high = difference.interval
        interval = f", 95 % interval {100 * low:+.2f} to {100 * high:+.2f}"
    p = "no test" if difference.p is None else f"Wilcoxon p by Holm {p_cell(difference.p)}"
    behind = sum(a < b for a, b in zip(each.scores, best.scores, strict=True))
    splits = f"; behind in {behind} of {len(best.scores)} splits" if len(best.scores) > 1 else ""
    return (
        f"{each.label} ({_costs(each)}; {score} {100 * difference.mean:+.2f} points{interval}; {p}"
        f"{splits})"
    )


def _costs(each: Standing) -> str:
    work = each.multiply_adds / 1e9
    return f"{each.parameters / 1e6:.2f} M parameters, {work:.2f} G multiply-adds"


def _speed(each: Standing) -> float:
    return each.speed or 0.0
