"""A report in a real browser; skipped where none of `BROWSERS` is installed.

To run it: `apt-get install chromium`, then
`make test ARGS=tests/reports/html/test_in_browser.py`.
"""

import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from robustjax import evaluation
from robustjax.config import TrainConfig
from robustjax.reports.html.page import write_html_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

SECONDS = 60


# The browser reads its commands from 3 and answers on 4, which may be taken when it is started.
WITH_PIPES = """
import fcntl, os, sys
moved = [fcntl.fcntl(int(pipe), fcntl.F_DUPFD, 10) for pipe in sys.argv[1:3]]
os.dup2(moved[0], 3)
os.dup2(moved[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """Chromium without a window, driven through a pair of pipes by its DevTools protocol."""

    def __init__(self, path, profile):
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        options = [
            "--headless",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            "about:blank",
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-c", WITH_PIPES, str(commands), str(answers), path, *options],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._numbers, self._unread, self._session = itertools.count(1), b"", {}
        self.events = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **self._session}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, page, width, scheme):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        preference = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", media="screen", features=[preference])
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not self.told("Page.loadEventFired"):
            self.events.append(self._next())

    def told(self, event):
        return [found["params"] for found in self.events if found.get("method") == event]

    def value(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"]["value"]

    def close(self):
        self._process.terminate()
        self._process.wait(10)
        os.close(self._commands)
        os.close(self._answers)

    def _next(self):
        limit = time.monotonic() + SECONDS
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], limit - time.monotonic())
            assert ready, "the browser does not answer"
            read = os.read(self._answers, 1 << 20)
            assert read, "the browser has ended"
            self._unread += read
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    browser = Browser(path, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def write_run(folder, seed):
    folder.mkdir()
    config = TrainConfig(dataset="digits", epochs=2, seed=seed, workdir=str(folder))
    (folder / "flags.txt").write_text(config.to_flags())
    row = dict.fromkeys(("loss", "learning_rate", "images_per_second", "elapsed_seconds"), 1.0)
    for part in ("train", "holdout"):
        row |= {f"{part}_clean_accuracy": 0.9, f"{part}_robust_accuracy": 0.5}
    lines = [json.dumps({"epoch": epoch, "step": epoch, **row}) + "\n" for epoch in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    settings = {"norm": "linf", "epsilon": 0.3, "text": "settings that are long " * 9}
    names = ["clean", *(f"pgd-{steps}" for steps in range(10, 100, 10))]
    scores = {
        name: evaluation.AttackScore(np.arange(100) < 90 - 2 * place, settings)
        for place, name in enumerate(names)
    }
    found = evaluation.summarize(scores, dataset="digits test", note="x" * 300)
    (folder / "evaluation.json").write_text(json.dumps(found))
    evidence = {"clean": 0.9, "a rather long name of what was measured": 0.25}
    checks = [
        {
            "name": f"check {count}", "rule": "a rule that is long " * 5, "evidence": evidence,
            "comparisons": [
                {"statement": "what is compared " * 4, "count": count, "of": 60, "allowed": 0.2}
            ],
        }
        for count in (10, 20, 60)
    ]  # fmt: skip
    curves = {"steps": [0, 1, 1000], "accuracy": [0.9, 0.5, 0.25]}
    diagnosis = {"level": 0.001, "examples": 100, "checks": checks, "curves": curves}
    (folder / "diagnosis.json").write_text(json.dumps(diagnosis))
    Image.new("RGB", (900, 300), "teal").save(folder / "wide.png")
    return str(folder)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    runs = [write_run(root / f"a-run-of-a-rather-long-name-{seed}", seed) for seed in range(6)]
    return [
        write_html_report(runs[:1], root / "one.html")[0],
        write_html_report(runs, root / "all.html")[0],
    ]


OVERFLOWING = """
[...document.querySelectorAll("body *")].filter(element =>
  element.getBoundingClientRect().right > document.documentElement.clientWidth + 1
  && !element.parentElement.closest(".scroll")).map(element => element.outerHTML.slice(0, 80))
"""


CHARTS = """
[...document.querySelectorAll("svg[role=img]")].filter(chart => !chart.closest("details"))
  .map(chart => chart.getBoundingClientRect().width)
"""


@pytest.mark.parametrize("width", [400, 900, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_fits_shows_its_images_and_asks_for_nothing(browser, pages, width, scheme):
    for page in pages:
        browser.open(page, width, scheme)
        assert browser.value("document.compatMode") == "CSS1Compat"
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value(OVERFLOWING) == []
        widths = browser.value("[...document.images].map(image => image.naturalWidth)")
        assert widths and min(widths) > 0
        drawn = browser.value(CHARTS)
        assert len(drawn) > 10 and all(chart > 80 for chart in drawn)
        requests = [sent["request"]["url"] for sent in browser.told("Network.requestWillBeSent")]
        assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]
        assert browser.told("Log.entryAdded") == []


CAPTIONS = """
[...document.querySelectorAll(".scroll.table > table > caption > span")]
  .filter(text => text.checkVisibility() && !text.closest(".facts, td"))
  .map(text => ({text: text.offsetWidth, table: text.closest("table").offsetWidth,
    box: text.closest(".scroll").clientWidth, inside: text.closest(".scroll").scrollWidth}))
"""


@pytest.mark.parametrize("width", [400, 1400])
def test_a_caption_is_as_wide_as_the_page_lets_it_above_a_narrow_table_too(browser, pages, width):
    browser.open(pages[1], width, "light")
    captions = browser.value(CAPTIONS)
    assert all(one["text"] == min(46 * 16, one["box"]) for one in captions)
    narrow = [one for one in captions if one["table"] < one["text"]]
    assert narrow and all(one["inside"] <= one["box"] for one in narrow)


BEYOND = """
[...document.querySelectorAll("table, .card, .plot, pre")].filter(element =>
  element.getBoundingClientRect().right >
  (element.closest(".card") || document.documentElement).getBoundingClientRect().right + 1
).map(element => element.outerHTML.slice(0, 80))
"""


def test_on_paper_nothing_is_cut_off_or_folded(browser, pages):
    browser.open(pages[0], 718, "light")  # A4 less the margins of 1 cm.
    browser.call("Emulation.setEmulatedMedia", media="print", features=[])
    assert browser.value(BEYOND) == []
    heights = browser.value(
        "[...document.querySelectorAll('.card table')].map(table => table.offsetHeight)"
    )
    assert len(heights) == 3 and min(heights) > 20


LUMINANCES = """
const texts = "p, td, th, dd, dt, li, h1, h2, figcaption, caption, summary, a, code, small, .mark,"
  + ".badge, .label, .value, svg text";
[...document.querySelectorAll(texts)].map(element => {
  const of = colour => colour.match(/[0-9.]+/g).slice(0, 3).map(Number)
    .map(part => part / 255)
    .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  let behind = element;
  while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)")
    behind = behind.parentElement;
  const colour = element.matches("svg text") ? "fill" : "color";
  return [of(getComputedStyle(element)[colour]), of(getComputedStyle(behind).backgroundColor)];
})
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(browser, pages, scheme):
    """WCAG 2.2, success criterion 1.4.3: a contrast of 4.5 to 1 at least."""
    browser.open(pages[1], 1280, scheme)
    colours = browser.value(LUMINANCES)
    assert len(colours) > 100
    assert all((max(pair) + 0.05) / (min(pair) + 0.05) >= 4.5 for pair in colours)
    (text, behind) = colours[0]
    assert (behind > text) == (scheme == "light")
