"""The page in a real browser: headless Chromium, where there is one.

axe-core joins where the environment's AXE_CORE names its axe.min.js.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

import profiler
from tests.report import sessions

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = Path(os.environ.get("AXE_CORE", "/nonexistent"))
DARK = "--blink-settings=preferredColorScheme=0"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]

FACTS = """
const reachable = [...document.querySelectorAll('a[href], summary, [tabindex="0"]')].filter(e => e.checkVisibility());
report({
  dark: matchMedia('(prefers-color-scheme: dark)').matches,
  paper: getComputedStyle(document.body).backgroundColor,
  loaded: performance.getEntriesByType('resource').length,
  width: document.documentElement.scrollWidth, window: innerWidth,
  first: reachable[0].textContent,
  unreachable: reachable.filter(e => { e.focus(); return document.activeElement !== e; }).length,
  outlined: (e => { e.focus({focusVisible: true}); return getComputedStyle(e).outlineStyle; })(reachable[3]),
  drawn: [...document.querySelectorAll('svg.power')].filter(e => e.checkVisibility() && e.getBBox().width > 700).length,
});
"""
AXE_RUN = """
document.querySelectorAll('details').forEach(e => { e.removeAttribute('name'); e.open = true; });
axe.run(document, {resultTypes: ['violations']}).then(found => report(found.violations.map(
  v => [v.impact, v.id, v.nodes.length, v.nodes[0].html.slice(0, 200), v.nodes[0].failureSummary])));
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    session = sessions.make_session(folder, [*sessions.contaminated(), *sessions.pairs()])
    return profiler.open(session.root).report(folder / "page.html")


def in_browser(page: Path, script: str, *options: str, width: int = 1280) -> Any:
    """What `script` reports from a copy of the page that lets it run; the page itself lets no script run."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    tell = "const report = found => { document.body.textContent = 'FOUND' + JSON.stringify(found) + 'END'; };"
    copy = page.with_name("probe.html")
    copy.write_text(text.replace("</body>", f"<script>{tell}\n{script}</script></body>"))
    done = _chromium(copy, "--dump-dom", "--virtual-time-budget=60000", f"--window-size={width},1000", *options)
    found = re.search("FOUND(.*)END", done, re.DOTALL)
    assert found, done[-2000:]
    return json.loads(unescape(found[1]))


def _chromium(page: Path, *options: str) -> str:
    assert CHROMIUM is not None
    line = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", *options, page.as_uri()]
    return subprocess.run(line, check=True, capture_output=True, text=True, timeout=200).stdout


@pytest.mark.parametrize("width", [1280, 600])
def test_it_fits_the_window_loads_nothing_and_is_reached_by_keyboard(page: Path, width: int) -> None:
    seen = in_browser(page, FACTS, width=width)
    assert seen["width"] <= seen["window"]
    assert seen["loaded"] == 0
    assert seen["first"] == "Skip to the results"
    assert seen["unreachable"] == 0
    assert seen["outlined"] == "solid"
    assert seen["drawn"] >= (1 if width == 1280 else 0)


def test_dark_and_light_follow_the_reader(page: Path) -> None:
    light, dark = in_browser(page, FACTS), in_browser(page, FACTS, DARK)
    assert (light["dark"], dark["dark"]) == (False, True)
    assert light["paper"] != dark["paper"]


def test_it_prints(page: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.pdf"
    _chromium(page, f"--print-to-pdf={target}")
    assert target.read_bytes().startswith(b"%PDF")


@pytest.mark.skipif(not AXE.is_file(), reason="AXE_CORE names no axe.min.js")
@pytest.mark.parametrize("options", [(), (DARK,)], ids=["light", "dark"])
def test_axe_finds_no_serious_issue(page: Path, options: tuple[str, ...]) -> None:
    found = in_browser(page, f"{AXE.read_text()}\n{AXE_RUN}".replace("</script", "<\\/script"), *options)
    assert [entry for entry in found if entry[0] in ("serious", "critical")] == []
