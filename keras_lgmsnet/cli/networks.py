"""`lgms-networks`: lists the networks, or tells what is known of one."""

import click

from keras_lgmsnet.cli.common import choose_backend, mistakes_in_one_sentence, verbose_option
from keras_lgmsnet.kinds import kind_of_rank
from keras_lgmsnet.models.network import Network, Published
from keras_lgmsnet.models.registry import NETWORKS, find
from keras_lgmsnet.tables import fact_lines, markdown_table, wrap


@click.command()
@click.argument("name", required=False)
@verbose_option
@mistakes_in_one_sentence
def networks(name: str | None) -> None:
    """List the networks, or tell what NAME is: its arguments and what was published of it."""
    if name is None:
        click.echo(_list_networks())
        return
    find(name)
    choose_backend(None, announce=False)  # the arguments are those of Keras code
    described = [_describe(network) for network in NETWORKS if network.name == name]
    click.echo("\n\n".join(described))
    click.echo(
        f"\nTo train it, pass lgms-train --set model.network={name} and, for each argument that is "
        "to be\nanother, --set model.ARGUMENT=VALUE."
    )


def _list_networks() -> str:
    """Return the table of all networks, and their papers."""
    rows: list[list[str]] = []
    papers: dict[tuple[str, str], list[str]] = {}
    for network in sorted(NETWORKS, key=lambda network: (network.name, network.rank)):
        kind = kind_of_rank(network.rank)
        with_defaults = [numbers for numbers in network.published if not numbers.arguments]
        cells = _size_cells(with_defaults[0]) if with_defaults else ["–"] * 3
        rows.append([network.name, kind.name, *cells])
        if network.paper is not None:
            papers.setdefault((network.name, network.paper), []).append(kind.name)
    header = ["name", "takes", "parameters", "multiply-adds", "at"]
    described = (
        wrap(f"{name}, for {' and '.join(kinds)}: {paper}.", "", "  ")
        for (name, paper), kinds in papers.items()
    )
    return "\n".join(
        [
            markdown_table(header, rows),
            "",
            *described,
            "",
            "lgms-networks NAME tells the arguments of a network and all numbers published of it.",
        ]
    )


def _size_cells(published: Published) -> list[str]:
    """Return how large a network is, and for which input and classes."""
    parameters, multiply_adds = f"{published.parameters:,}", _giga(published.multiply_adds)
    return [parameters, multiply_adds, _describe_ends(published)]


def _describe(network: Network) -> str:
    """Return all that is known of a network for images or for volumes."""
    facts = {
        "paper": network.paper or "none",
        "program": network.program or "none published",
        "differs from its paper": network.differs or "in nothing that is known",
        "class": f"{network.module}.{network.class_name}",
        "sides": f"{network.sides({}).describe()}, with these arguments",
        "stages": ", ".join(network.stages),
    }
    arguments = {name: repr(default) for name, default in network.arguments().items()}
    lines = [
        f"{network.title} for {kind_of_rank(network.rank).name}",
        *fact_lines(facts),
        "",
        "  Arguments and their defaults",
        *fact_lines(arguments or {"none": ""}, indent="    "),
    ]
    for published in network.published:
        given = ", ".join(f"{name}={value!r}" for name, value in published.arguments.items())
        lines += [
            "",
            f"  Published with {given or 'the defaults'}",
            *fact_lines(_published_facts(published), indent="    "),
        ]
    return "\n".join(lines)


def _published_facts(published: Published) -> dict[str, str]:
    in_program, counted = published.parameters_in_program, published.parameters_counted
    multiply_adds = published.multiply_adds
    facts = {
        "at": _describe_ends(published),
        "parameters here": f"{published.parameters:,}",
        "parameters in the program": "none published" if in_program is None else f"{in_program:,}",
        "parameters by the paper's count": "unknown" if counted is None else f"{counted:,}",
        "multiply-adds": f"{multiply_adds:,} ({_giga(multiply_adds)})",
        "printed": published.printed,
    }
    return facts | ({"remark": published.remark} if published.remark else {})


def _describe_ends(published: Published) -> str:
    """Return input and classes in words: `"256 × 256 × 3, 1 class"`."""
    classes = "1 class" if published.num_classes == 1 else f"{published.num_classes} classes"
    return f"{' × '.join(map(str, published.input_shape))}, {classes}"


def _giga(count: int) -> str:
    return f"{count / 1e9:.2f} G"
