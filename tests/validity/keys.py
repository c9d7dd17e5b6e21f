"""Does chance decide about an answer? Entries of the corpus, each graded under many keys of the server.

The key draws what the checks hand to an answer, so a verdict that is not the same under all of them changes when the
student hands in once more with another comment. `scripts/validity --keys 1000 --only '^q: noise'` asks for it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from validity import corpus
from validity.grader import PACK, SOLUTION, Grader

FILES = ("right.md", "wrong.md", "right-blind.md", "wrong-blind.md")


def chosen(pattern: str) -> list[corpus.Variant]:
    """The entries in whose heading, "blank: title", the regular expression is found; all of them where it is empty."""
    entries = (variant for name in FILES for variant in corpus.read(name))
    return [variant for variant in entries if re.search(pattern, f"{variant.blank}: {variant.title}")]


def verdicts(grader: Grader, variants: Sequence[corpus.Variant], keys: Iterable[bytes]) -> dict[str, Counter[str]]:
    """How often each entry got which verdict, by its heading: each is graded once under each key.

    Only the blank that an entry answers is checked, so that many keys take minutes and not hours.
    """
    groups = [(group, _source(group)) for group in corpus.hand_ins(list(variants))]
    found: dict[str, Counter[str]] = {f"{variant.blank}: {variant.title}": Counter() for variant in variants}
    for key in keys:
        for group, source in groups:
            reports = grader.check(source, frozenset(variant.blank for variant in group), key=key)
            for variant in group:
                found[f"{variant.blank}: {variant.title}"][str(reports[variant.blank].status)] += 1
    return found


def changed(found: dict[str, Counter[str]]) -> list[str]:
    """The entries whose verdict depends on the key, in words."""
    return [
        f"{title}: {', '.join(f'{status} {times} times' for status, times in sorted(counts.items()))}"
        for title, counts in found.items()
        if len(counts) > 1
    ]


def _source(group: Sequence[corpus.Variant]) -> str:
    source = SOLUTION
    for variant in group:
        source = variant.apply(source, PACK)
    return source
