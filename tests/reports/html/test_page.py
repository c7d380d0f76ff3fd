"""The report as a page and as a table: what it says, and that it needs nothing but itself."""

import base64
import html.parser
import io
import itertools
import json
import re
import shlex
import subprocess

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from robustjax import evaluation
from robustjax.config import TrainConfig
from robustjax.reports.html.comparison import differing
from robustjax.reports.html.page import page_of_run, page_of_runs, write_html_report
from robustjax.reports.recorded_scores import Score, lead
from robustjax.reports.repeat_commands import training_command
from robustjax.runs.folder import RunFolder, parse_flags, read_run, short_names

VOID = {"br", "hr", "img", "link", "meta"}
SETTINGS = {"norm": "linf", "epsilon": 8 / 255, "steps": 20, "step_size": 2 / 255}


class Page(html.parser.HTMLParser):
    """A parsed page; fails where an element is not closed, or another one is."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.words = [], [], []
        self.tables, self.open_tables = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, given):
        attributes = dict(given)
        assert len(attributes) == len(given)
        self.elements.append((tag, attributes))
        if tag == "table":
            self.tables.append([])
            self.open_tables.append(self.tables[-1])
        elif tag == "tr":
            self.open_tables[-1].append([])
        elif tag in ("td", "th"):
            self.open_tables[-1][-1].append("")
            assert tag == "td" or attributes["scope"] in ("row", "col")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.open_tables.pop()

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.words.append(data)
        for table in self.open_tables:
            if table and self.open[-1] != "caption":
                table[-1][-1] += data

    @property
    def text(self):
        return "".join(self.words)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def summary(attacks, examples=200, **about):
    """An evaluation.json as evaluating writes it; attacks: name -> (correct, settings)."""
    scores = {
        name: evaluation.AttackScore(np.arange(examples) < correct, settings)
        for name, (correct, settings) in {"clean": (190, {}), **attacks}.items()
    }
    about = {"checkpoint": {"kind": "best", "step": 8}, "dataset": "digits test", **about}
    return json.loads(json.dumps(evaluation.summarize(scores, seed=0, **about)))


COMMANDS = [
    "python launch/evaluate.py '--workdir=a <b> & c' --attacks=pgd-20",
    "python launch/evaluate.py --workdir=a --attacks=fgsm",
]
ATTACKS = {"pgd-20": (101, {**SETTINGS, "start": "uniform"}), "fgsm": (143, SETTINGS)}


def png(width=40, height=30):
    content = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(content, "PNG")
    return content.getvalue()


def rows(epochs):
    return [
        {
            "epoch": epoch,
            "step": 4 * epoch,
            "loss": 1 / epoch,
            "train_clean_accuracy": 0.9,
            "train_robust_accuracy": 0.5,
            "holdout_clean_accuracy": 0.8,
            "holdout_robust_accuracy": 0.7 - 0.1 * abs(epoch - 2),
            "learning_rate": 0.1,
            "mean_backward_passes": float(epoch),
            "images_per_second": 1000.0 * epoch,
            "elapsed_seconds": 61.0 * epoch,
        }
        for epoch in range(1, epochs + 1)
    ]


def write_run(folder, *, epochs=3, evaluated=None, files=None, **options):
    folder.mkdir(parents=True)
    config = TrainConfig(dataset="digits", epochs=3, workdir=str(folder), **options)
    (folder / "flags.txt").write_text(config.to_flags())
    if epochs:
        lines = [json.dumps(row) + "\n" for row in rows(epochs)]
        (folder / "metrics.jsonl").write_text("".join(lines))
    if evaluated is not None:
        (folder / "evaluation.json").write_text(json.dumps(evaluated))
    for name, content in (files or {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three runs: one with everything, one with as little as a run can have, one in between."""
    root = tmp_path_factory.mktemp("runs")
    checks = [{"name": "steps", "verdict": "fail", "evidence": {"robust_accuracy": 0.25}}]
    ensemble = {
        **SETTINGS,
        "after_each": {"clean": 0.95, "apgd-ce": 0.61, "square": 0.405},
        "seconds": {"apgd-ce": 12.5, "square": 250.0},
        "warnings": ["masked <gradients> & more"],
    }
    files = {
        "figures/loss_surface.png": png(900),
        "figures/training.png": png(),
        "outside.png": png(50),
        "figures/half.png": png()[:40],
        "diagnosis.json": json.dumps({"checks": checks}).encode(),
        "transfer.json": json.dumps({"robust_accuracy": {"a": {"a": 0.125, "b": 0.5}}}).encode(),
    }
    attacks = {**ATTACKS, "autoattack": (81, ensemble)}
    full = summary(attacks, available_examples=1797, commands=COMMANDS)
    other = summary({"pgd-20": (150, ATTACKS["pgd-20"][1]), "fgsm": (150, SETTINGS)})
    return {
        "full": write_run(
            root / "full", method="trades", evaluated=full, files=files, set=("beta=3",)
        ),
        "new": write_run(root / "new <i>&amp;", method="standard", epochs=0),
        "other": write_run(root / "other", method="standard", epochs=2, evaluated=other),
    }


@pytest.fixture(scope="module")
def pages(folders):
    runs = {name: read_run(str(folder), folder.name) for name, folder in folders.items()}
    pages = {name: page_of_run(run) for name, run in runs.items()}
    return {**pages, "compared": page_of_runs(list(runs.values()))}


NAMES = ["full", "new", "other", "compared"]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_whole_and_in_order(pages, name):
    page = Page(pages[name])
    assert pages[name].startswith("<!DOCTYPE html>\n<html lang=")
    assert {"html", "head", "title", "body", "main"} <= {tag for tag, _ in page.elements}
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert all(len(row) == len(table[0]) for table in page.tables for row in table)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_needs_nothing_from_elsewhere(pages, name):
    page = Page(pages[name])
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert not page.all("script") and not page.all("iframe")
    for tag, attributes in page.elements:
        assert not {"srcset", "style", "onclick", "onload", "action"} & attributes.keys()
        if "src" in attributes:
            assert tag == "img" and attributes["src"].startswith("data:image/png;base64,")
        if "href" in attributes:
            link = attributes["href"]
            assert link == "data:," if tag == "link" else link[:1] == "#" and link[1:] in ids
    style = re.search("<style>(.*?)</style>", pages[name], re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style and "http" not in style
    policy = page.all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'") and "script" not in policy


@pytest.mark.parametrize(("name", "images"), [("full", 2), ("new", 0), ("other", 0)])
def test_every_image_is_in_the_page_and_described(pages, folders, name, images):
    found = Page(pages[name]).all("img")
    assert len(found) == images
    contents = [base64.b64decode(image["src"].partition(",")[2]) for image in found]
    for image, content in zip(found, contents, strict=True):
        with Image.open(io.BytesIO(content)) as decoded:
            decoded.load()
            factor = decoded.width // int(image["width"])
            for real, shown in zip(decoded.size, (image["width"], image["height"]), strict=True):
                assert 0 <= real - factor * int(shown) < factor
        assert len(image["alt"]) > 20
    if name == "full":
        # The curves are drawn from the log, which training may have outrun, and as SVG.
        for drawn in ("figures/loss_surface.png", "outside.png"):
            assert (folders["full"] / drawn).read_bytes() in contents
        assert (folders["full"] / "figures/training.png").read_bytes() not in contents
        assert "no whole PNGs: figures/half.png" in Page(pages[name]).text


def percent(value):
    return f"{100 * value:.2f}"


@pytest.mark.parametrize("name", ["full", "other"])
def test_the_table_says_what_the_evaluation_says(pages, folders, name):
    recorded = json.loads((folders[name] / "evaluation.json").read_text())
    expected = [("clean", recorded["clean_accuracy"], recorded["interval_95"])]
    expected += [
        (attack, entry["robust_accuracy"], entry["interval_95"])
        for attack, entry in recorded["attacks"].items()
    ]
    worst, interval = recorded["worst_case_robust_accuracy"], recorded["worst_case_interval_95"]
    expected.append(("worst case", worst, interval))
    table = Page(pages[name]).tables[0]
    assert [row[:3] for row in table[1:]] == [
        [attack, percent(accuracy), f"{percent(low)} to {percent(high)}"]
        for attack, accuracy, (low, high) in expected
    ]
    assert "start uniform" in table[2][3] and "steps 20" not in table[2][3]
    text = Page(pages[name]).text
    assert "All attacks: norm linf, epsilon 8/255, steps 20, step size 2/255" in text
    for value in recorded["versions"].values():
        assert value in text


def test_an_ensemble_is_told_part_by_part_with_its_warnings(pages):
    page = Page(pages["full"])
    (table,) = [table for table in page.tables if table[0][0] == "part"]
    assert table[1:] == [
        ["clean", "95.00 %", "–", "–"],
        ["apgd-ce", "61.00 %", "34.00 points", "12.5 s"],
        ["square", "40.50 %", "20.50 points", "250 s"],
    ]
    assert "masked <gradients> & more" in page.text


def test_checks_and_transfer_attacks_are_shown_whatever_their_form(pages):
    page = Page(pages["full"])
    tables = {tuple(table[0]): table[1:] for table in page.tables}
    (check,) = tables[("name", "verdict", "evidence")]
    assert check[:2] == ["steps", "fail"] and "25.00 %" in check[2]
    assert tables[("", "a", "b")] == [["a", "12.50 %", "50.00 %"]]


def test_transfer_accuracies_of_this_version_and_of_earlier_ones_are_shown():
    earlier = {"robust_accuracy": 0.125, "interval_95": [0.1, 0.15], "white_box": False}
    now = {**earlier, "accuracy": 0.25, "interval_95": [0.2, 0.3]}
    for entry in (earlier, {**now, "robust_interval_95": [0.1, 0.15]}):
        run = RunFolder("x", "x", {}, transfer={"transfer": {"a": {"b": entry}}})
        text = Page(page_of_run(run)).text
        assert "12.50 %" in text and ("25.00 %" in text) == ("accuracy" in entry)


def test_of_the_values_of_a_file_only_tables_go_without_a_name_before_them():
    table = {"row": {"column": 1}}
    run = RunFolder("x", "x", {}, diagnosis={"first": {"t": table, "k": 1}, "second": table})
    text = Page(page_of_run(run)).text
    assert "first:" in text and "second:" not in text


def test_the_log_gives_the_facts_of_training(pages):
    text = Page(pages["full"]).text
    assert "3 of 3" in text and "0:03:03" in text and "2,000, the median" in text
    assert "2, the mean over the epochs" in text
    assert "epoch 2, 70.00 % robust" in text
    assert "Training is not complete" not in text
    assert "Training is not complete" in Page(pages["other"]).text


def test_what_is_missing_is_said_with_the_command_that_makes_it(pages, folders):
    page = Page(pages["new"])
    assert "Not evaluated yet" in page.text and "no complete epoch" in page.text
    workdir, flagfile = (shlex.quote(f"{folders['new']}{name}") for name in ("", "/flags.txt"))
    assert f"launch/evaluate.py \\\n  --workdir={workdir} \\\n  --attacks=clean," in page.text
    assert f"launch/train.py \\\n  --flagfile={flagfile} \\\n" in page.text
    for name in ("evaluation", "diagnosis", "transfer"):
        assert f"no {name}.json" in page.text
    assert "no diagnosis.json" not in Page(pages["full"]).text


def words_of(command):
    """What a shell gives to python."""
    script = f'python() {{ printf "%s\\n" "$@"; }}\n{command}'
    found = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    return found.stdout.splitlines()


def test_training_again_is_a_command(folders):
    run = read_run(str(folders["full"]), "full")
    assert words_of(training_command(run)) == [
        "launch/train.py",
        f"--flagfile={folders['full']}/flags.txt",
        "--workdir=NEW",
    ]


def test_commands_are_those_recorded_and_none_is_made_up(pages, folders, tmp_path):
    page, table = write_html_report([str(folders["full"])], tmp_path / "page.html")
    for text in (Page(page.read_text()).text, table.read_text()):
        assert f"{COMMANDS[0]}\n{COMMANDS[1]}" in text
    _, table = write_html_report([str(folders["other"])], tmp_path / "page.html")
    assert "evaluated bynot recorded" in "".join(Page(pages["other"]).text.split("\n"))
    assert "launch/evaluate.py" not in Page(pages["other"]).text + table.read_text()


def test_runs_are_compared_and_only_what_differs_is_shown(pages):
    page = Page(pages["compared"])
    table = page.tables[0]
    assert table[0] == [
        "run", "clean", "pgd-20", "fgsm", "autoattack",
        "worst case (attacks pgd-20, fgsm, autoattack)", "worst case (attacks pgd-20, fgsm)",
    ]  # fmt: skip
    by_run = {row[0]: row[1:] for row in table[1:]}
    assert set(by_run["new <i>&amp;"]) == {"–"}
    assert by_run["other"][1].startswith("best75.00")
    assert by_run["full"][1].startswith("50.50")
    # 150 and 143 of 200: the intervals meet.
    assert by_run["other"][2].startswith("75.00") and by_run["full"][2].startswith("71.50")
    assert "fgsm: no difference larger than the intervals" in page.text
    flags = page.tables[1]
    shown = flags[0][1:] if flags[0][0] == "run" else [row[0] for row in flags[1:]]
    assert set(shown) == {"--method", "--beta"}
    for run in by_run:
        assert len([heading for heading in page.words if heading == run]) >= 3


def score(correct, examples=1000, **settings):
    interval = evaluation.wilson_interval(correct, examples)
    return Score("pgd-20", correct / examples, interval, settings)


@pytest.mark.parametrize(
    ("correct", "leaders"),
    [
        ((500, 900, 300), {1}),
        ((500, 510, 300), {0, 1}),
        ((500, 510, 505), set()),
        ((500,), set()),
        ((500, 500), set()),
    ],
)
def test_best_is_who_leads_by_more_than_the_intervals(correct, leaders):
    scores = [score(number) for number in correct]
    assert lead(scores).leaders == leaders
    shifted = lead([None, *scores]).leaders
    assert shifted == {position + 1 for position in leaders}


@hypothesis.given(st.lists(st.integers(0, 1000), min_size=2, max_size=5))
def test_whoever_is_not_among_the_best_is_clearly_worse(correct):
    scores = [score(number) for number in correct]
    found = lead(scores)
    best = max(scores, key=lambda found: found.accuracy)
    for position, one in enumerate(scores):
        apart = one.interval[1] < best.interval[0]
        assert apart == (bool(found.leaders) and position not in found.leaders)


def test_other_settings_are_not_compared():
    found = lead([score(900, epsilon=0.1), score(100, epsilon=8 / 255)])
    assert not found.leaders and "epsilon 0.1 / 8/255" in found.why_none
    assert lead([score(900, examples=1000), score(10, 100)]).leaders == {0}


def test_other_data_are_not_compared(folders):
    runs = [
        RunFolder("a", "a", {}, evaluation=summary(ATTACKS)),
        RunFolder("b", "b", {}, evaluation=summary({"pgd-20": (3, SETTINGS)}, dataset="mnist")),
    ]
    head = Page(page_of_runs(runs)).tables[0][0]
    assert "clean (data digits test)" in head and "clean (data mnist)" in head
    assert not [row for row in Page(page_of_runs(runs)).tables[0] if "best" in " ".join(row)]


def test_flags_are_read_as_they_stand():
    config = TrainConfig(dataset="digits", workdir="w", nesterov=False, set=("tau=1=2",))
    flags = parse_flags("# a comment\n" + config.to_flags() + "--made_later=x=y\n")
    assert flags["nesterov"] == "false" and flags["tau"] == "1=2"
    assert flags["made_later"] == "x=y" and flags["dataset"] == "digits"
    assert differing([flags, {**flags, "tau": "3", "workdir": "v"}]) == {"tau": ["1=2", "3"]}


def test_names_are_as_short_as_they_can_be():
    assert short_names(["a/x", "b/y"]) == ["x", "y"]
    assert short_names(["a/x", "b/x", "b/y"]) == ["a/x", "b/x", "b/y"]


ANY_TEXT = st.text(max_size=30) | st.sampled_from(["</td>", "<script>", "&lt;", '"', "$x$", "_a"])


def as_shown(text):
    """What is left of a text after what HTML cannot hold is replaced."""
    banned = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
    return re.sub("\r\n?", "\n", re.sub(banned, "\ufffd", text))


@pytest.mark.filterwarnings("ignore:Glyph")
@hypothesis.settings(max_examples=10)
@hypothesis.given(ANY_TEXT.filter(bool), ANY_TEXT.filter(bool), ANY_TEXT)
def test_any_text_is_text(attack, warning, value):
    hypothesis.assume(attack not in ("clean", "worst case"))
    evaluated = summary({attack: (50, {**SETTINGS, "warnings": [warning]})}, note=value)
    run = RunFolder(value or "x", warning, {"method": attack, "seed": value}, evaluation=evaluated)
    plain = RunFolder("x", "x", {"method": "m", "seed": "s"}, evaluation=summary(ATTACKS))
    page = Page(page_of_run(run).encode().decode())
    for text in (attack, warning, value):
        assert as_shown(text) in page.text
    kinds = {tag for tag, _ in Page(page_of_run(plain)).elements}
    assert {tag for tag, _ in page.elements} <= kinds | {"ul", "li", "strong"}
    Page(page_of_runs([run, plain]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(ANY_TEXT, part, max_size=3),
    max_leaves=12,
)


def strings(value):
    if isinstance(value, dict):
        return [text for part in value.values() for text in strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


@hypothesis.given(JSON)
def test_any_json_is_shown(value):
    run = RunFolder("x", "x", {}, diagnosis=value, transfer=[value])
    page = Page(page_of_run(run))
    for text in strings(value):
        assert as_shown(text) in page.text


@hypothesis.given(JSON, JSON)
@hypothesis.settings(max_examples=10)
def test_an_evaluation_of_any_form_is_no_crash(value, other):
    evaluated = {"clean_accuracy": value, "attacks": {"pgd-20": other}, "examples": other}
    Page(page_of_run(RunFolder("x", "x", {}, evaluation=evaluated)))


@hypothesis.given(st.lists(st.dictionaries(st.sampled_from(list(rows(1)[0])), JSON), max_size=3))
@hypothesis.settings(max_examples=10)
def test_a_log_of_any_form_is_no_crash(changes):
    log = [{**row, **changed} for row, changed in zip(rows(len(changes)), changes, strict=True)]
    Page(page_of_run(RunFolder("x", "x", {"epochs": "3"}, rows=log, best_step=4)))


@pytest.mark.parametrize("name", NAMES)
def test_every_chart_says_what_it_shows(pages, name):
    """An SVG that is not hidden has a title; its text is text, and its places lie on it."""
    tags = re.findall(r"<(svg|title|desc|text|/svg)\b([^>]*)", pages[name])
    drawn = [place for place, (tag, given) in enumerate(tags) if 'role="img"' in given]
    assert (len(drawn) > 3) == (name != "new")
    assert all(tags[place + 1][0] == "title" for place in drawn)
    places = re.findall(r' (?:x|x1|x2|y1|y2|cx|cy|width|height)="([-.0-9]+)%"', pages[name])
    assert all(0 <= float(place) <= 100 for place in places)


def test_a_bar_is_as_long_as_its_accuracy(pages, folders):
    recorded = json.loads((folders["other"] / "evaluation.json").read_text())
    widths = re.findall(r'<rect class="bar"[^>]*width="([0-9.]+)%"', pages["other"])
    attacks = [entry["robust_accuracy"] for entry in recorded["attacks"].values()]
    shares = [recorded["clean_accuracy"], *attacks, recorded["worst_case_robust_accuracy"]]
    assert list(map(float, widths)) == [round(100 * share, 2) for share in shares]
    low, high = recorded["interval_95"]
    first = f'<line class="reach" x1="{round(100 * low, 2)}%" x2="{round(100 * high, 2)}%"'
    assert first in pages["other"]


def test_the_markdown_table_has_the_same_numbers(folders, tmp_path):
    page, table = write_html_report([str(folders["full"])], tmp_path / "a" / "page.html")
    assert (page.name, table.name) == ("page.html", "page.md")
    lines = [line for line in table.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    shown = [row for row in Page(page.read_text()).tables[0] if row[0] != "attack"]
    assert cells[2:] == shown
    assert r"masked \<gradients> \& more" in table.read_text()


def test_the_markdown_of_several_runs_marks_the_best(folders, tmp_path):
    _, table = write_html_report([str(path) for path in folders.values()], tmp_path / "p.html")
    text = table.read_text()
    interval = " to ".join(percent(bound) for bound in evaluation.wilson_interval(150, 200))
    assert f"| **75.00** ({interval}) | 75.00 ({interval}) | – |" in text
    assert "Not evaluated yet: new" in text and "* fgsm: no difference" in text


def test_another_markdown_file_is_not_overwritten(folders, tmp_path):
    (tmp_path / "README.md").write_text("# mine\n")
    with pytest.raises(ValueError, match=r"README.md, which is no report"):
        write_html_report([str(folders["full"])], tmp_path / "README.html")
    assert (tmp_path / "README.md").read_text() == "# mine\n"
    assert not (tmp_path / "README.html").exists()
    for _ in range(2):
        write_html_report([str(folders["other"])], tmp_path / "again.html")
