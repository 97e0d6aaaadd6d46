r"""The answer within a completion, and the form that it is written in.

Searched in this order: the last `\boxed{...}` (or `\fbox{...}`), `<answer>...</answer>`, the line or the delimited
block after the last `answer:` or `####`, and else the whole text. Where answers are code, the last fenced block counts
unless such a mark stands after it. Every step takes time proportional to the text, and of long texts only the end is
searched.
"""

import re

from assay.environments.text_to_sql.match import FENCED
from assay.rewards.boxes import closed_boxes

WINDOW = 20_000
"""Characters at the end of a text in which an answer is searched."""

# Repetitions are bounded: two unbounded ones side by side take quadratic time on a long run of spaces.
_MARKER = re.compile(r"(?:\b|(?<=__))answer\b(?:[ \t]{1,3}is)?[ \t]{0,3}(?:\*\*|__)?[ \t]{0,3}:(?!:)|####", re.IGNORECASE)
"""Not before two colons: `answer::int` is a cast in SQL."""
_FORMULA = re.compile(r"[ \t]{0,3}[-+$\\(\[{.\d]")
_BOLD = re.compile(r"[ \t]{0,3}(?:\*\*|__)")
_BEGIN = re.compile(r"\\begin\{([A-Za-z]{1,20}\*?)\}")
_CLOSES = {"```": "```", "$$": "$$", r"\[": r"\]"}
"""What stands around a block, and is no part of it."""
_LANGUAGE = re.compile(r"[ \t]{0,3}(?:[A-Za-z][A-Za-z0-9_+-]{0,19})?[ \t]{0,3}\n")
_STATEMENT = re.compile(r"\(*[ \t]{0,3}(?:select|values|with|from)\b", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]+")
_CLAUSES = frozenset(
    "select from where group order having limit offset with join left right inner outer full cross natural using on and or not union "
    "intersect except qualify window values case when then else end as distinct in between like is asof positional all".split()
)
_TAG_START, _TAG_END = re.compile(r"<answer>", re.IGNORECASE), re.compile(r"</answer>", re.IGNORECASE)

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_FORMATS = (
    ("integer", re.compile(rf"[+-]?{_DIGITS}")),
    ("decimal", re.compile(rf"[+-]?(?:{_DIGITS}?\.\d+|{_DIGITS}\.)(?:[eE][+-]?\d+)?|[+-]?\d+[eE][+-]?\d+")),
    ("fraction", re.compile(rf"[+-]?(?:\d+\s+)?{_DIGITS}\s*/\s*[+-]?{_DIGITS}")),
)


def extract_answer(text: str, code: bool = False) -> str:
    """The answer that a completion gives, stripped; empty where it gives none. code: it is a statement, of any number of lines."""
    text = text[-WINDOW:] if len(text) > WINDOW and _is_marked(text[-WINDOW:], code) else text
    if len(text) <= WINDOW:
        for search in (_boxed, _tagged, _statement if code else _marked):
            answer = search(text)
            if answer is not None:
                return answer
    return text.strip()


def answer_format(answer: str) -> str:
    """integer, decimal, fraction, latex, text or empty, by its looks alone."""
    answer = answer.strip()
    if not answer:
        return "empty"
    if len(answer) <= 200:
        for name, pattern in _FORMATS:
            if pattern.fullmatch(answer):
                return name
    return "latex" if "\\" in answer or "$" in answer else "text"


def _is_marked(text: str, code: bool) -> bool:
    return (code and "```" in text) or "boxed" in text or "fbox" in text or "####" in text or "answer" in text.lower()


def _boxed(text: str) -> str | None:
    """Content of the closed box that begins last."""
    boxes = closed_boxes(text)
    return boxes[-1].content if boxes else None


def _tagged(text: str) -> str | None:
    ends = [match.start() for match in _TAG_END.finditer(text)]
    starts = [match.end() for match in _TAG_START.finditer(text) if ends and match.end() <= ends[-1]]
    return text[starts[-1] : ends[-1]].strip() if starts else None


def _marked(text: str) -> str | None:
    end = _mark(text)
    if end is None:
        return None
    rest = _after(text, end)
    block = _block(rest)
    return _line(rest.split("\n", 1)[0]) if block is None else _unstopped(block)


def _statement(text: str) -> str | None:
    """The last fenced block, or what stands after a mark behind it, up to where prose goes on: an empty line, a semicolon, a sentence."""
    end, fences = _mark(text), list(FENCED.finditer(text)) if "```" in text else []
    rest = "" if end is None else _after(text, end)
    # Behind a marked statement a block often shows what it returns.
    stated = _STATEMENT.match(rest) is not None and not rest.split("\n", 1)[0].endswith(":")
    if fences and (end is None or (end <= fences[-1].end() and not stated)):
        return fences[-1][1].strip()
    if end is None:
        return None
    block = _block(rest)
    if block is not None:
        return block
    first, *others = rest.split("\n")
    lines, opened, quotes = [_line(first)], 0, 0
    for line in others:
        opened, quotes = opened + lines[-1].count("(") - lines[-1].count(")"), quotes + lines[-1].count("'")
        inside = opened > 0 or quotes % 2
        if not line.strip() or lines[-1].endswith(";") or not (inside or _goes_on(lines[0], lines[-1], line)):
            break
        lines.append(line.rstrip())
    lines[-1] = _line(lines[-1])
    return "\n".join(lines)


def _goes_on(first: str, before: str, line: str) -> bool:
    """Whether a line belongs to the statement that the line before it is of, and does not begin prose about it. first: of the statement."""
    if _is_open(before) or line[0] in " \t),;=<>+/|" or line.startswith("--"):
        return True
    word = _WORD.match(line)
    if word is None or word[0].lower() not in _CLAUSES:
        return False
    # `Where we look` is prose; `Where a > 1` is not, nor where statements are written so from the first word on.
    return not word[0].istitle() or first.lstrip("( ")[:6].istitle() or any(sign in line for sign in "=<>()';")


def _is_open(line: str) -> bool:
    """Whether a line of a statement wants another."""
    words = line[-20:].split()
    return line.endswith(tuple(",(=<>+-*/|")) or (bool(words) and words[-1].lower() in _CLAUSES)


def _mark(text: str) -> int | None:
    """Where the last marker of an answer ends."""
    if "####" not in text and "answer" not in text.lower():
        return None
    # `####` marks an answer (GSM8K), but also a heading of Markdown: it counts before a number or formula, or in the last line.
    last_line = text.rstrip().rfind("\n")
    ends = [
        match.end()
        for match in _MARKER.finditer(text)
        if match.group() != "####" or match.start() > last_line or _FORMULA.match(text, match.end())
    ]
    return ends[-1] if ends else None


def _after(text: str, end: int) -> str:
    """What follows a marker, without the end of its own bold face (`**Answer:**`)."""
    bold = _BOLD.match(text, end)
    return text[bold.end() if bold else end :].strip()


def _block(rest: str) -> str | None:
    """Content of the code or formula over several lines that a text begins with; None where it does not, or where it is never closed."""
    begin = _BEGIN.match(rest)
    opening = begin[0] if begin else next((mark for mark in _CLOSES if rest.startswith(mark)), "")
    close = rf"\end{{{begin[1]}}}" if begin else _CLOSES.get(opening, "")
    end = rest.find(close, len(opening)) if opening else -1
    if end < 0:
        return None
    after = rest[end + len(close) :].split("\n", 1)[0]
    if begin or after.strip(" \t.*_"):  # a part of something longer
        return rest[: end + len(close)] + after.rstrip()
    language = _LANGUAGE.match(rest, len(opening)) if opening == "```" else None
    code = rest[language.end() : end].strip() if language else ""
    return code or rest[len(opening) : end].strip()


def _line(line: str) -> str:
    line = _unstopped(line.strip())
    for mark in ("**", "__"):
        line = line.removeprefix(mark).removesuffix(mark).strip()
    return _unstopped(line)


def _unstopped(text: str) -> str:
    return text[:-1].rstrip() if text.endswith(".") and not text.endswith("..") else text
