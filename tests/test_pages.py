"""The lessons as pages and notebooks: cards, the first page, and a site that is built where Sphinx is installed."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from minigrad import kernels
from tutorials import boxes, lesson
from tutorials.pages import first

ROOT = Path(__file__).parents[1]
STATIC = ROOT / "tutorials" / "pages" / "static"
MISSING = [name for name in ("sphinx", "furo", "myst_nb", "jupytext", "nbclient") if not importlib.util.find_spec(name)]
with_sphinx = pytest.mark.skipif(
    bool(MISSING) or kernels.current() == "numpy",
    reason=f"not installed: {', '.join(MISSING)}; try pip install -e '.[docs]'" if MISSING else "pages are built once",
)


@pytest.fixture
def claim(tmp_path, monkeypatch):
    """Settles a claim by numbers; its card is in a folder of the test."""
    monkeypatch.setattr(lesson, "BUILD", tmp_path)

    def settle(id, statement="it is so", values=(1.0, 2.0), verdict="SUPPORTED", **more):
        return lesson.claim(id, statement, "size <of it>", values, "> 0.5", verdict, **more)

    return settle


# ---------------------------------------------------------------------------------------------------------------- cards
@pytest.mark.parametrize(
    ("values", "verdict", "sign"),
    [([1.0, 2.0], "SUPPORTED", "✓"), ([0.1, 0.2], "REFUTED", "✗"), ([0.1, 2.0], "NOT SETTLED", "?")],
)
def test_a_card_says_its_verdict_by_colour_sign_and_word(values, verdict, sign, claim):
    shown = claim("q99.1", values=values, verdict=verdict, reason="why", usual=True)._repr_html_()
    assert f"{sign} {verdict}</span>" in shown
    assert shown.count(boxes.COLOURS[verdict]) == 2
    assert all(text in shown for text in ('id="q99.1"', "it is so", "why", "usual answer", "over 2 seeds"))
    assert len(set(boxes.COLOURS.values())) == len(set(boxes.SIGNS.values())) == len(lesson.VERDICTS)


def test_nothing_in_a_card_is_markup(claim):
    card = claim("q99.1", '<b> & "c"', reason="<script>")
    for shown in (card._repr_html_(), first.row(card, "x.html")):
        assert "&lt;b&gt; &amp; &quot;c&quot;" in shown
        assert "size &lt;of it&gt;: 1.5 ± 0.71 over 2 seeds; the claim needs &gt; 0.5" in shown
        assert "<script>" not in shown
        assert "<b>" not in shown


def test_a_claim_that_is_not_settled_says_why_on_the_first_page(claim):
    assert "<em>it depends</em>" in first.row(
        claim("q99.1", values=[0, 1], verdict="NOT SETTLED", reason="it depends"), ""
    )
    assert "it holds" not in first.row(claim("q99.1", reason="it holds"), "")


def test_a_list_of_cards_is_shown_as_boxes_and_no_other_list(claim):
    cards = [claim("q99.1"), claim("q99.2")]
    assert lesson.list_of_boxes(cards) == cards[0]._repr_html_() + cards[1]._repr_html_()
    assert lesson.list_of_boxes([]) is None
    assert lesson.list_of_boxes([*cards, 3]) is None


# ------------------------------------------------------------------------------------------------------- the first page
def test_the_first_page_lists_every_lesson_by_its_title(tmp_path):
    paths = first.lessons()
    page = first.first_page(paths, tmp_path, ["PARTS.md"], "")
    found = re.findall(r"^- \[(.+)\]\(tutorials/(\w+)\.ipynb\)", page, re.MULTILINE)
    titles, names = zip(*found, strict=True)
    assert list(names) == [path.stem for path in paths]
    assert {path.name for path in paths} == {path.name for path in first.FOLDER.glob(first.LESSONS)}
    assert list(names) == sorted(names, key=lambda name: ("aqc".index(name[0]), name))
    for title, path in zip(titles, paths, strict=True):
        assert f"\n# # {title}\n" in path.read_text(encoding="utf-8")
    assert page.count("\ntutorials/") == len(paths)  # beside every page, too


def test_a_lesson_without_a_heading_is_refused(tmp_path):
    path = tmp_path / "q99_x.py"
    path.write_text("# %% [markdown]\n# ## See it\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"title\(\): q99_x\.py has no heading\. Begin its first cell"):
        first.title(path)


def test_the_first_page_has_every_card_usual_answers_first(tmp_path, claim):
    path = tmp_path / "q99_x.py"
    path.write_text("# %% [markdown]\n# # Question 99. Why?\n", encoding="utf-8")
    claim("q99.1")
    claim("q99.2", values=[0.0], verdict="REFUTED", usual=True)
    page = first.first_page([path], tmp_path / "claims", [], "Run today.")
    assert re.findall(r'data-verdict="(\w+)".*href="(.+?)"', page) == [
        ("REFUTED", "tutorials/q99_x.html#q99.2"),
        ("SUPPORTED", "tutorials/q99_x.html#q99.1"),
    ]
    assert "what 2 measurements say. Run today." in page
    assert "ipynb) ✓ 1  ✗ 1\n" in page
    assert all(f">{text}</button>" in page for text in ("all 2", "usual answers 1", "✓ SUPPORTED 1", "? NOT SETTLED 0"))


def test_our_own_scripts_and_styles_are_there_and_load_nothing():
    conf = (STATIC.parent / "conf.py").read_text(encoding="utf-8")
    names = re.findall(r'"(\w+\.(?:css|js))"', conf)
    assert sorted(names) == sorted(path.name for path in STATIC.iterdir())
    for name in names:
        assert not re.search(r"https?:|import|fetch|url\(", (STATIC / name).read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------------------- the site
LESSON = r"""# %% [markdown]
# # Question 99. Is $x^2$ larger than 1?
# Words about the quagga, and $$\sqrt{d_k} .$$
#
# %%
from minigrad import draw
from tutorials.lesson import claim, show

with draw.figure(3, 2) as fig:
    fig.subplots().plot([1, 4, 9])
show(draw.Plot(fig, {}), "q99-squares")
# %%
[claim(f"q99.{n}", "larger < 1", "square", [n**2], "> 1", verdict) for n, verdict in ((1, "REFUTED"), (2, "SUPPORTED"))]
"""
BUILD = """
import sys
from pathlib import Path
from tutorials.pages.__main__ import build_site
sys.exit(build_site([Path(sys.argv[1])], Path(sys.argv[2]), quick=True))
"""


def python(*arguments, cwd=ROOT):
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False)


class Page(HTMLParser):
    """What a page loads when it is opened, where its links lead, and its ids."""

    def __init__(self, path):
        super().__init__()
        self.path, self.loads, self.links, self.ids, self.alts = path, [], [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        of = dict(attrs)
        self.ids.add(of.get("id"))
        if tag == "a":
            self.links.append(of.get("href", ""))
        elif tag == "link" and of["rel"] not in ("index", "search", "next", "prev"):
            self.loads.append(of["href"])
        elif tag in ("script", "img", "iframe", "source", "object") and (of.get("src") or of.get("data")):
            self.loads.append(of.get("src") or of["data"])
        if tag == "img":
            self.alts.append(of.get("alt"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    (folder / "q99_x.py").write_text(LESSON, encoding="utf-8")
    done = python("-c", BUILD, folder / "q99_x.py", folder / "build")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^q99_x: \d+ s$", done.stdout, re.MULTILINE)
    return folder / "build" / "site"


@with_sphinx
def test_a_page_shows_its_cards_and_pictures_and_the_first_one_leads_to_them(site):
    page, start = Page(site / "tutorials" / "q99_x.html"), Page(site / "index.html")
    assert {"q99.1", "q99.2"} <= page.ids
    assert {"tutorials/q99_x.html#q99.1", "tutorials/q99_x.html#q99.2"} <= set(start.links)
    assert "picture q99-squares" in page.alts
    assert "quagga" in (site / "searchindex.js").read_text(encoding="utf-8")


@with_sphinx
def test_the_site_needs_no_network_and_no_link_leads_nowhere(site):
    pages = {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}
    assert {"index.html", "q99_x.html", "PARTS.html", "INSTRUMENTS.html"} <= {path.name for path in pages}
    assert all(any("mathjax" in load for load in page.loads) for page in pages.values())
    for path, page in pages.items():
        for load in page.loads:
            assert (path.parent / load.partition("?")[0]).exists(), f"{path.name} loads {load}"
        for link in page.links:
            file, _, place = link.partition("#")
            if "://" not in link:
                target = (path.parent / file).resolve() if file else path
                assert target.exists(), f"{path.name} links to {link}"
                assert not place or target not in pages or place in pages[target].ids, f"{path.name} links to {link}"
    for style in site.rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


@with_sphinx
def test_a_lesson_that_has_not_changed_is_not_run_again_and_keeps_its_cards(site):
    done = python("-c", BUILD, site.parents[1] / "q99_x.py", site.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "q99_x:" not in done.stdout
    assert "tutorials/q99_x.html#q99.2" in Page(site / "index.html").links


@with_sphinx
def test_a_lesson_that_fails_is_named_and_there_is_no_site(tmp_path):
    (tmp_path / "q98_y.py").write_text(LESSON.replace("99", "98").replace("n**2", "0.0"), encoding="utf-8")
    done = python("-c", BUILD, tmp_path / "q98_y.py", tmp_path)
    assert done.returncode == 1
    assert re.search(r"^q98_y: .*VerdictFlipped", done.stderr, re.MULTILINE | re.DOTALL)
    assert "build_site" not in done.stderr  # it is the lesson that failed, and nothing after it
    assert not (tmp_path / "site").exists()


# -------------------------------------------------------------------------------------------------------- the notebooks
@with_sphinx
def test_every_lesson_is_written_as_a_notebook_that_runs_in_any_folder(tmp_path):
    done = python("-m", "tutorials.pages", "--notebooks", "--build", tmp_path)
    assert done.returncode == 0, done.stderr
    books = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "notebooks").iterdir()}
    assert set(books) == {path.stem for path in first.lessons()}
    for book in books.values():
        assert book["metadata"]["kernelspec"]["name"] == "python3"
        assert not any(cell.get("outputs") for cell in book["cells"])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = [sys.executable, "-c", "import tutorials.lesson, minitransformer"]
    assert subprocess.run(code, cwd=tmp_path, env=environment, check=False).returncode == 0


@with_sphinx
def test_a_lesson_that_does_not_exist_is_an_error_with_those_that_do():
    done = python("-m", "tutorials.pages", "q98")
    assert done.returncode == 2
    assert "pages: there is no lesson 'q98'; there are a01, " in done.stderr


def test_without_its_extra_the_command_says_what_to_install():
    code = "import sys; sys.modules['jupytext'] = None; import runpy; runpy.run_module('tutorials.pages.__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "pages: jupytext is not installed. Try: pip install --editable '.[draw,docs]'"
