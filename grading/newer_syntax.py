"""Syntax that newer Pythons brought, recognised or put in older words by a Python that does not know it.

Students work in newer Pythons than some graders run. Told apart are f-strings as PEP 701 frees them (3.12), and `type`
statements and type parameters (3.12; with defaults 3.13). What cannot be told for sure is left to the parser's words.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

from grading.splitting import statement_starts

HERE = sys.version_info[:2]
FREE_FSTRINGS = (3, 12)  # the Python from which on f-strings may hold anything
_TYPE_PARAMETERS, _THEIR_DEFAULTS = (3, 12), (3, 13)
NEW_FSTRING = "an f-string with its own quotes, a backslash or a comment between braces", FREE_FSTRINGS
MAX_NESTING = 8  # of f-strings and their format specifications; nobody reads more

_TOKEN = re.compile(
    r"""(?P<comment>#[^\n]*)|(?P<prefix>[A-Za-z]{0,2})(?P<quote>\"{3}|'{3}|"|')|(?P<word>\w+)|(?P<other>.)""", re.DOTALL
)
_WORD = re.compile(r"(?P<word>\w+)(?P<quote>)")
_FORBIDDEN = frozenset("\\#")  # in the fields of older f-strings
_PREFIXES = frozenset({"", "r", "b", "u", "f", "rb", "br", "rf", "fr"})
_REST_OF_STRING = {quote: re.compile(rf"(?:[^\\\n{quote}]|\\.)*{quote}", re.DOTALL) for quote in ('"', "'")} | {
    quote: re.compile(rf"(?:[^\\]|\\.)*?{quote}", re.DOTALL) for quote in ('"""', "'''")
}
_PARAMETERS = re.compile(
    r"[ \t]*(?:(?:async[ \t]+)?(?P<word>def|class)[ \t]+[^\W\d]\w*[ \t]*\[(?P<list>.*)"
    r"|type[ \t]+[^\W\d]\w*[ \t]*(?:\[(?P<of_type>[^\]]*)\][ \t]*)?=(?!=))"
)


class _Unsure(Exception):  # noqa: N818
    """This is no string that can be followed to its end."""


@dataclass(frozen=True, kw_only=True)
class _FString:
    """An f-string as Python 3.12 reads it."""

    end: int  # index behind it
    text: str  # with prefix and quotes, in words that older Pythons read as far as there are such
    bare: str  # a tuple of the expressions in it
    is_new: bool  # older Pythons do not read it as it stands


def in_older_words(source: str) -> str:
    """The text with f-strings that reuse their own quotes given others, which every Python reads the same way.

    Lines stay; columns behind such an f-string move by four.
    """
    return _with_fstrings(source, lambda found: found.text if found.is_new else None)


def without_new_fstrings(source: str) -> str:
    """The text with bare expressions for each f-string that older Pythons do not read: does it parse then?"""
    return _with_fstrings(source, lambda found: found.bare if found.is_new else None)


def type_syntax(source: str) -> tuple[str, tuple[int, int]] | None:
    """What of typing a broken piece of code uses that a newer Python brought, and which one; None if nothing."""
    lines = source.split("\n")
    for start in statement_starts(lines):
        match = _PARAMETERS.match(lines[start])
        if match is None:
            continue
        parameters = match["list"] or match["of_type"] or ""
        if re.search(r"(?<![=!<>])=(?!=)", parameters.partition("]")[0]):
            return "a type parameter with a default", _THEIR_DEFAULTS
        return (f"type parameters in a `{match['word']}`" if match["word"] else "a `type` statement"), _TYPE_PARAMETERS
    return None


def _with_fstrings(source: str, replacement: Callable[[_FString], str | None]) -> str:
    """The text with other f-strings. From where a string cannot be followed to its end, it is left as it is."""
    written: list[str] = []
    copied, position = 0, 0
    try:
        while (token := _next_token(source, position)) is not None:
            if not token["quote"]:
                position = token.end()
            elif "f" in token["prefix"].lower():
                found = _read_fstring(source, token, 0)
                position = found.end
                new = replacement(found)
                if new is not None:
                    written += [source[copied : token.start()], new]
                    copied = position
            else:
                position = _end_of_plain(source, token)
    except _Unsure:
        pass
    return "".join(written) + source[copied:]


def _next_token(text: str, position: int) -> re.Match[str] | None:
    """A comment, the opening of a string with its prefix, a word, or a character; None at the end."""
    token = _TOKEN.match(text, position)
    if token is not None and token["quote"] and token["prefix"].lower() not in _PREFIXES:
        return _WORD.match(text, position)
    return token


def _end_of_plain(text: str, opening: re.Match[str]) -> int:
    rest = _REST_OF_STRING[opening["quote"]].match(text, opening.end())
    if rest is None:
        raise _Unsure
    return rest.end()


def _read_fstring(text: str, opening: re.Match[str], nesting: int) -> _FString:
    if nesting > MAX_NESTING:
        raise _Unsure
    prefix, quote = opening["prefix"], opening["quote"]
    is_raw, is_new = "r" in prefix.lower(), False
    body: list[str] = []
    fields: list[str] = []
    expressions: list[str] = []
    position = opening.end()
    while not text.startswith(quote, position):
        character, pair = text[position : position + 1], text[position : position + 2]
        if not character or (character == "\n" and len(quote) == 1) or (character == "}" and pair != "}}"):
            raise _Unsure
        if character == "{" and pair != "{{":
            field, expression, end, field_is_new = _read_field(text, position + 1, quote, nesting)
            raw_field = text[position + 1 : end - 1]
            is_new = is_new or field_is_new or quote in raw_field or not _FORBIDDEN.isdisjoint(raw_field)
            is_new = is_new or (len(quote) == 1 and "\n" in raw_field)
            fields.append(field)
            expressions.append(f"({expression}\n), ")
            body.append(f"{{{field}}}")
            position = end
        else:
            if pair in ("{{", "}}") or (character == "\\" and pair[1:] not in ("{", "}")):
                character = pair
            if character == "\\N" and not is_raw and text.startswith("{", position + 2):  # a character by its name
                character = text[position : text.find("}", position) + 1] or "\\N"
            body.append(character)
            position += len(character)
    content = "".join(body)
    other = next((one for one in (quote, '"""', "'''") if _fits(one, content, fields)), quote) if is_new else quote
    return _FString(
        end=position + len(quote),
        text=f"{prefix}{other}{content}{other}",
        bare=f"({''.join(expressions)})",
        is_new=is_new,
    )


def _fits(quote: str, content: str, fields: list[str]) -> bool:
    """Whether an f-string can stand in these quotes: in old Pythons, no field may hold them."""
    if len(quote) == 1:
        return all(quote not in field and "\n" not in field for field in fields)
    return quote not in content and not content.endswith(quote[0])


def _read_field(text: str, position: int, quote: str, nesting: int) -> tuple[str, str, int, bool]:
    """A replacement field in older words, its bare expression, the index behind its brace, and whether f-strings
    inside of it are new.
    """
    written: list[str] = []
    bare: list[str] = []
    depth, is_new, in_expression = 0, False, True
    while (token := _next_token(text, position)) is not None:
        position = token.end()
        word = plain = token[0]
        if token["quote"] and "f" in token["prefix"].lower():
            inner = _read_fstring(text, token, nesting + 1)
            position, is_new = inner.end, is_new or inner.is_new
            word, plain = inner.text, inner.bare if inner.is_new else inner.text
        elif token["quote"]:
            position = _end_of_plain(text, token)
            word = plain = text[token.start() : position]
        elif not depth and token[0] == "}":
            return "".join(written), "".join(bare).rstrip().removesuffix("="), position, is_new
        elif not depth and token[0] == ":":
            specification, end = _read_specification(text, position, quote, nesting)
            return "".join(written) + ":" + specification, "".join(bare).rstrip().removesuffix("="), end, is_new
        elif token[0] in "([{":
            depth += 1
        elif token[0] in ")]}":
            depth -= 1
        elif not depth and token[0] == "!" and not text.startswith("=", position):
            in_expression = False
        written.append(word)
        if in_expression:
            bare.append(plain)
    raise _Unsure


def _read_specification(text: str, position: int, quote: str, nesting: int) -> tuple[str, int]:
    """What stands behind the colon of a field, and the index behind the field's brace."""
    if nesting > MAX_NESTING:
        raise _Unsure
    written: list[str] = []
    while text[position : position + 1] not in ("}", "", "\n") and not text.startswith(quote, position):
        if text[position] == "{":
            field, _, position, _ = _read_field(text, position + 1, quote, nesting + 1)
            written.append(f"{{{field}}}")
        else:
            written.append(text[position])
            position += 1
    if text[position : position + 1] != "}":
        raise _Unsure
    return "".join(written), position + 1
