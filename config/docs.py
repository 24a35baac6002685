"""Render the pages under `templates/docs/`: Markdown in, HTML out, at /docs/<name>.

Raw HTML in a page is shown, not run. Headings get an anchor from their words; a row of a table whose
first cell is one word of code gets that word, so that `threat-model#inclusion` leads to its row.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path, re_path
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_safe

if TYPE_CHECKING:
    from markdown_it.token import Token

FOLDER: Final = settings.BASE_DIR / "templates" / "docs"
CONTENTS: Final = {
    "guide": "Guide",
    "words": "Words",
    "architecture": "Architecture",
    "receipts": "Receipts",
    "tally": "Tally and trust file",
    "witnesses": "Witnesses and promises",
    "threat-model": "Threat model",
    "settings": "Settings",
    "operations": "Operations",
    "keys": "Keys",
    "numbers": "Numbers Protocol",
    "decisions": "Decisions",
    "changes": "Changes",
}
_NAME: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*(?:/[a-z0-9]+(?:-[a-z0-9]+)*)?")
_CODE_WORD: Final = re.compile(r"`([A-Za-z][A-Za-z0-9_-]*)`")
_PAGE_LINK: Final = re.compile(r"(?P<page>(?:\.\./)?[a-z0-9/-]+)\.md(?P<anchor>#.*)?")


@dataclass(frozen=True, slots=True)
class Page:
    """One page as it is shown."""

    title: str
    body: SafeString


@require_safe
def page(request: HttpRequest, name: str) -> HttpResponse:
    """Show one page of the documentation."""
    file = file_of(name)
    if file is None:
        raise Http404("no such page")
    shown = _rendered(file, file.stat().st_mtime_ns)
    return render(request, "docs/page.html", {"page": shown, "name": name, "contents": CONTENTS})


@require_safe
def image(_: HttpRequest, name: str) -> FileResponse:
    """Show a picture that stands on a page."""
    file = FOLDER / "images" / name
    if not file.is_file():
        raise Http404("no such picture")
    return FileResponse(file.open("rb"), content_type="image/png")


urlpatterns = [
    path("", page, {"name": "guide"}, name="docs"),
    re_path(r"^images/(?P<name>[a-z0-9-]+\.png)$", image, name="docs-image"),
    re_path(r"^(?P<name>[a-z0-9/-]+?)/?$", page, name="docs-page"),
]


def file_of(name: str) -> Path | None:
    """Find the file of a page; a folder's page is its `index.md`."""
    if _NAME.fullmatch(name) is None:
        return None
    for file in (FOLDER / f"{name}.md", FOLDER / name / "index.md"):
        if file.is_file():
            return file
    return None


def render_page(text: str) -> Page:
    """Turn a page's Markdown into HTML."""
    from markdown_it import MarkdownIt  # here: only who reads the documentation needs it

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    title = "Tallystick"
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            words = tokens[at + 1].content
            token.attrSet("id", anchor_of(words))
            if token.tag == "h1":
                title = words.replace("`", "")
        elif token.type == "tr_open" and (word := _row_word(tokens, at)):
            token.attrSet("id", word)
        elif token.type == "inline":
            _lead_to_pages(token)
    html: str = parser.renderer.render(tokens, parser.options, {})
    return Page(title, mark_safe(html))  # noqa: S308  the parser escapes all HTML in our own pages


def anchor_of(words: str) -> str:
    """Give the anchor of a heading: its words in lower case, joined by hyphens."""
    return "-".join(re.findall(r"[a-z0-9]+", words.replace("'", "").lower()))


def _row_word(tokens: "list[Token]", at: int) -> str | None:
    if tokens[at + 1].type != "td_open":
        return None
    word = _CODE_WORD.fullmatch(tokens[at + 2].content)
    return word[1] if word else None


def _lead_to_pages(token: "Token") -> None:
    """Files link to files, so that they read well in the repository; here the same links lead to pages."""
    for child in token.children or []:
        target = child.attrGet("href")
        if child.type == "link_open" and isinstance(target, str) and (found := _PAGE_LINK.fullmatch(target)):
            name = found["page"].removesuffix("index").rstrip("/")
            child.attrSet("href", f"/docs/{_absolute(name)}{found['anchor'] or ''}")
        elif child.type == "image" and str(child.attrGet("src")).startswith("images/"):
            child.attrSet("src", f"/docs/{child.attrGet('src')}")


def _absolute(name: str) -> str:
    if name.startswith("../"):
        return name.removeprefix("../")
    # A page in the folder of decisions names its neighbours by their number alone.
    return f"decisions/{name}" if re.match(r"\d", name) else name


@lru_cache(maxsize=64)
def _rendered(file: Path, _changed: int) -> Page:
    return render_page(file.read_text(encoding="utf-8"))
