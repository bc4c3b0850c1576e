"""The snippets of the documentation: fenced blocks, code spans and the commands in them.

What a reader need not see stands in comments above a block, which Markdown does not show:

    <!-- setup: lines that run before it, such as `x = torch.ones(3)` -->
    <!-- not run: why it cannot -->
    <!-- output --> above a block without a language: what the blocks before it have printed
"""

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!--\s*(setup|not run|output)\b:?((?:(?!-->).)*)-->\s*\Z", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
PROGRAMS = ("make", "python", "pip", "cargo", "torchrun", "cd")


@dataclass
class Block:
    """A fenced block, with the marks above it."""

    page: Path
    line: int
    language: str
    code: str
    marks: dict[str, str]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        above, marks = text[: match.start()], {}
        while mark := MARK.search(above):
            marks[mark[1]] = mark[2].strip()
            above = above[: mark.start()]
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match[2], textwrap.dedent(match[3]), marks))
    return found


def program(page: Path) -> str:
    """The page's Python as one program: its blocks build on each other. Lines have the page's numbers."""
    lines = [""] * page.read_text().count("\n")
    for block in blocks(page):
        if block.language == "python" and "not run" not in block.marks:
            code, setup = block.code.splitlines(), block.marks.get("setup", "").splitlines()
            lines[block.line : block.line + len(code)] = code
            lines[block.line - 2 - len(setup) : block.line - 2] = setup
    return "\n".join(lines)


def spans(page: Path) -> list[str]:
    """The code spans of a page's prose."""
    prose = COMMENT.sub("", FENCE.sub("", page.read_text()))
    return [span for paragraph in prose.split("\n\n") for span in re.findall(r"`([^`]+)`", paragraph)]


def is_command(span: str) -> bool:
    """Whether a code span is a line of shell: a program that we know, and what it is to do."""
    words = [word for word in span.split() if "=" not in word]
    return len(words) > 1 and words[0].rpartition("/")[2] in PROGRAMS


def shell_lines(page: Path) -> list[str]:
    """Every line of shell of a page, of its blocks and of its prose."""
    of_blocks = [line for block in blocks(page) if block.language == "sh" for line in block.code.splitlines()]
    return [line for line in of_blocks if line.strip()] + [span for span in spans(page) if is_command(span)]


def commands(line: str) -> list[list[str]]:
    """The commands of a line of shell, each as its words, without assignments and comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("&|;"):
            found.append([])
        elif found[-1] or not re.match(r"[A-Z_]+=", word):
            found[-1].append(word)
    return [words for words in found if words]
