"""Where statements begin, told from the text alone: it need not be valid Python."""

import re

_TOKEN = re.compile(
    r"""#.*|\"{3}|'{3}|"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|[(\[{]|[)\]}]""",
    re.DOTALL,
)
_CLOSING = {quote: re.compile(rf"(?:\\.|[^\\])*?{quote}", re.DOTALL) for quote in ('"""', "'''")}
_CONTINUES = re.compile(r"(?:else|elif|except|finally|case)\b")
_OPENS = re.compile(
    r"@|\"{3}|'{3}|(?:async\s+)?def\s|class\s|import\s|from\s+\S+\s+import\b|[A-Za-z_][\w, .\[\]]*(?::[^=]+)?=(?!=)"
)


def statement_starts(lines: list[str]) -> list[int]:
    """Lines that are not inside a string, a bracket, or after a backslash."""
    found: list[int] = []
    quote, depth, continued = "", 0, False
    for number, line in enumerate(lines):
        if not quote and not depth and not continued:
            found.append(number)
        position = 0
        while position < len(line):
            if quote:
                end = _CLOSING[quote].match(line, position)
                if end is None:
                    break
                position, quote = end.end(), ""
                continue
            token = _TOKEN.search(line, position)
            if token is None:
                break
            position = token.end()
            if token[0] in _CLOSING:
                quote = token[0]
            elif token[0] in "([{":
                depth += 1
            elif token[0] in ")]}":
                depth = max(0, depth - 1)
        continued = not quote and line.endswith("\\")
    return found


def statements_at_the_margin(lines: list[str]) -> list[int]:
    """First lines of the statements at the left margin."""
    return _tidy(lines, [i for i in statement_starts(lines) if lines[i][:1].strip() and not _CONTINUES.match(lines[i])])


def definition_like_lines(lines: list[str]) -> list[int]:
    """The same for text whose brackets or quotes do not close: every line that looks like a new definition."""
    return _tidy(lines, [i for i, line in enumerate(lines) if _OPENS.match(line)])


def _tidy(lines: list[str], found: list[int]) -> list[int]:
    """Starts without comments, with decorators kept by what they decorate, and the first line among them."""
    kept: list[int] = [0]
    decorated = False
    for start in found:
        if lines[start].startswith("#"):
            continue
        if not decorated and start != 0:
            kept.append(start)
        decorated = lines[start].startswith("@")
    return kept
