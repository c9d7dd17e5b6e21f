"""What builds on what: the order in which blanks are checked, and blanks that are defined by each other."""

from collections.abc import Iterable

from grading.harvest import Harvest, closure


def dependencies_first(harvest: Harvest, names: Iterable[str]) -> list[str]:
    """These blanks in their order, but each after those of them that it needs."""
    wanted = list(names)
    ordered: dict[str, None] = {}

    def add(name: str, above: frozenset[str]) -> None:
        for need in sorted(harvest.answers[name].needs):
            if need in wanted and need not in above and need not in ordered:
                add(need, above | {need})
        ordered[name] = None

    for name in wanted:
        if name not in ordered:
            add(name, frozenset({name}))
    return list(ordered)


def circle(harvest: Harvest, blank_id: str) -> frozenset[str]:
    """The blanks that need this one and that it needs, itself included; empty where there are none.

    Checked one by one, with right values for the others, every part of a circle may look right, although nothing in it
    is ever computed.
    """
    others = closure(harvest, harvest.answers[blank_id].needs) - {blank_id}
    needing_it = {other for other in others if blank_id in closure(harvest, [other])}
    return frozenset({blank_id, *needing_it}) if needing_it else frozenset()
