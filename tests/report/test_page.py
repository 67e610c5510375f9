"""The page: complete, one file without anything from elsewhere, escaped, well formed, fit for assistive technology."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import profiler
from profiler.report.document import make_document
from profiler.report.page import SECTIONS, render
from profiler.store.read import Session
from tests.report import sessions
from tests.report.sessions import Run

EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"
VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}


class Page(HTMLParser):
    """Elements of a page as (tag, attributes), and the texts of what is asked for; refuses wrong nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def text_of(session: Session) -> str:
    return "".join(render(make_document(session)))


@pytest.fixture(scope="module", params=["pairs", "contaminated", "empty"])
def text(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    makers = {"pairs": sessions.pairs, "contaminated": sessions.contaminated, "empty": list}
    folder = sessions.make_session(tmp_path_factory.mktemp("page"), makers[request.param]())
    return text_of(profiler.open(folder.root))


def test_every_section_is_there_under_its_heading_and_linked(text: str) -> None:
    page = Page(text)
    identifiers = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(identifiers) == len(set(identifiers))
    labels = [attributes["aria-labelledby"] for attributes in page.all("section")]
    assert labels == [name for name, _ in SECTIONS]
    targets = {str(attributes["href"]).removeprefix("#") for attributes in page.all("a")}
    assert {name for name, _ in SECTIONS} | {"main"} <= targets <= set(identifiers)


def test_nothing_comes_from_elsewhere_and_nothing_runs(text: str) -> None:
    page = Page(text)
    assert page.all("script", "link", "img", "iframe", "object", "embed", "form", "base") == []
    for tag, attributes in page.elements:
        assert not {name for name in attributes if name.startswith("on")}, tag
        assert {"src", "srcset", "xlink:href", "background", "poster", "data"}.isdisjoint(attributes), tag
        assert str(attributes.get("href", "#")).startswith("#"), tag
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(styles) == 1
    assert "url(" not in styles[0] and "@import" not in styles[0]
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_structure_is_fit_for_assistive_technology(text: str) -> None:
    page = Page(text)
    assert page.all("html")[0]["lang"] == "en"
    assert (
        len(page.all("h1"))
        == len(page.all("main"))
        == len(page.all("title")) - len(page.all("svg")) + _hidden(page)
        == 1
    )
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    assert all(a.get("role") == "img" or a.get("aria-hidden") == "true" for a in page.all("svg"))
    assert page.all("nav")[0]["aria-label"]
    scrolled = [a for a in page.all("div") if a.get("class") == "scroll"]
    assert all(a.get("tabindex") == "0" and a.get("role") == "group" and a.get("aria-label") for a in scrolled)
    assert all(int(str(a["tabindex"])) <= 0 for _, a in page.elements if "tabindex" in a)


def _hidden(page: Page) -> int:
    """Charts that are decoration have no title."""
    return sum(attributes.get("aria-hidden") == "true" for attributes in page.all("svg"))


def test_styles_know_dark_paper_and_focus(text: str) -> None:
    style = text[text.index("<style>") : text.index("</style>")]
    assert "prefers-color-scheme: dark" in style and "@media print" in style and ":focus-visible" in style


def test_text_of_a_session_never_becomes_markup(tmp_path: Path) -> None:
    runs = [
        Run(repo=EVIL, model=EVIL, values={EVIL: EVIL}, findings={"throttled": EVIL}),
        Run(repo=EVIL, model=EVIL, mode="parallel", background=(EVIL, EVIL), findings={"exit": EVIL}, metric=None),
        Run(repo=EVIL, model=EVIL, executed=False),
    ]
    folder = sessions.make_session(tmp_path, runs)
    folder.campaign_yaml.write_text(f"name: {EVIL}</pre></style>\n")
    text = text_of(profiler.open(folder.root))
    page = Page(text)
    assert page.all("script", "img") == []
    assert "<script" not in text and "<img" not in text
    assert EVIL in page.text


def test_an_empty_session_says_so(tmp_path: Path) -> None:
    page = Page(text_of(profiler.open(sessions.make_session(tmp_path, []).root)))
    assert "This session has no planned run." in page.text
    assert "No run has a trace." in page.text


def test_the_same_session_gives_the_same_page(tmp_path: Path) -> None:
    folder = sessions.make_session(tmp_path, [Run(seconds=2.0), Run(seconds=2.0, findings={"throttled": "1 s"})])
    assert text_of(profiler.open(folder.root)) == text_of(profiler.open(folder.root))


def test_the_page_is_bounded_whatever_a_log_said(tmp_path: Path) -> None:
    runs = [Run(values={"note": "x" * 100_000}, findings={"throttled": "y" * 100_000}) for _ in range(3)]
    folder = sessions.make_session(tmp_path, runs, traces=False)
    assert len(text_of(profiler.open(folder.root))) < 100_000
