import base64
import hashlib
import html
import re
from html.parser import HTMLParser

import msgspec
import pytest

from poise.report.html import Html
from poise.types import Check, Summary, Verdict

VOID = {"meta", "br", "img", "link", "input", "hr"}
FOREIGN = {"path", "circle", "line", "rect", "g"}


class Page(HTMLParser):
    """What a browser would make of the page: nesting checked, tags, attributes and text kept."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.style = ""
        self.ids: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in FOREIGN
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.text.append(data)

    @property
    def said(self) -> str:
        return " ".join("".join(self.text).split())


@pytest.fixture(scope="module")
def parsed(page) -> Page:
    return Page(page)


def test_well_formed_with_unique_ids_and_live_anchors(parsed):
    assert len(parsed.ids) == len(set(parsed.ids))
    anchors = [a["href"] for tag, a in parsed.tags if tag == "a"]
    assert anchors
    assert all(a.startswith("#") and a[1:] in parsed.ids for a in anchors)


def test_nothing_can_run_and_nothing_is_fetched(page, parsed):
    tags = {tag for tag, _ in parsed.tags}
    assert not tags & {"script", "iframe", "object", "embed", "form", "link", "img", "base", "foreignobject", "use"}
    for _, attributes in parsed.tags:
        assert not any(name.startswith("on") or name in ("style", "src", "srcset", "xlink:href") for name in attributes)
    addresses = set(re.findall(r"\w+://[^\s\"'<)]+", html.unescape(page)))
    assert {a for a in addresses if not a.startswith("http://www.w3.org/")} == set()
    assert "url(" not in parsed.style
    assert "@import" not in parsed.style


def test_policy_forbids_everything_but_the_one_style_block(parsed):
    (policy,) = [a["content"] for t, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(parsed.style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert sum(tag == "style" for tag, _ in parsed.tags) == 1


def test_hostile_answers_are_shown_as_text(page, parsed):
    assert "<script>alert(1)</script>␛[31m⟨U+202E⟩evil⟨U+2028⟩" in parsed.said
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2028\u2029\u2066-\u2069]", page)


def test_endless_answers_are_cut_and_say_so(parsed, page):
    assert "more characters" in parsed.said
    assert len(page) < 3_000_000


def test_the_plot_comes_first_then_the_results(page):
    assert (
        page.index("<figure>") < page.index('id="results"') < page.index('id="samples"') < page.index('id="glossary"')
    )


def test_every_system_and_task_has_its_numbers(derived, parsed):
    for cell in derived.cells:
        assert f"{cell.estimates['quality'].value:.2f}" in parsed.said
    for model in derived.models:
        assert f"{model.balanced.value:.1f}" in parsed.said
        assert f"[{model.balanced.lo:.1f}, {model.balanced.hi:.1f}]" in parsed.said
    for word in ("at τ/4", "at 4τ", "ttft_s.p50", "e2e_s.p99", "system_tok_s", "precision", "category", "Glossary"):
        assert word in parsed.said


def test_samples_show_prompt_answer_target_and_times(parsed):
    assert "w00?" in parsed.said
    assert "target word 0" in parsed.said
    assert "first text after 10.0 ms, last after 20.0 ms, 2 chunks" in parsed.said
    assert "engine: it failed" in parsed.said


def test_plots_are_named_for_those_who_do_not_see_them(parsed):
    plots = [a for tag, a in parsed.tags if tag == "svg" and a.get("role") == "img"]
    assert len(plots) > 4
    assert all(a.get("aria-label") for a in plots)
    assert all("aria-hidden" in a or "role" in a for tag, a in parsed.tags if tag == "svg")


def test_command_and_study_are_there(parsed):
    assert "poise run" in parsed.said


def test_the_same_bytes_again(derived, run, page):
    assert Html().render(derived, [run]).decode() == page


def test_a_summary_without_its_runs_renders(summary):
    parsed = Page(Html().render(summary, []).decode())
    assert "2 of 120 failed (1 engine, 1 timeout)" in parsed.said
    assert "failed: the engine died <script>" in parsed.said


def test_nothing_measured_renders():
    assert "nothing was measured yet" in Page(Html().render(Summary(1, [], [], [], Verdict("")), []).decode()).said


def test_every_foreign_string_of_a_summary_is_escaped(summary):
    evil = '"><img src=x onerror=alert(1)>\x1b\u202e\ud800'
    cell = msgspec.structs.replace(
        summary.cells[0], model=evil, deployment=evil, task=evil, load=evil, primary=evil, signature=evil,
        checks=[Check(evil, "warn", evil, evil)], groups={evil: {evil: summary.cells[0].estimates["quality"]}},
        tables={"confusion": {"labels": [evil], "columns": [evil], "counts": [[1]]}},
        curves={"e2e_s": {"x": [0.1], "y": [1.0]}},
    )  # fmt: skip
    model = msgspec.structs.replace(summary.models[0], model=evil, deployment=evil, load=evil)
    hostile = Summary(1, [evil], [cell, *summary.cells[1:3]], [model], Verdict(evil))
    text = Html().render(hostile, []).decode()
    parsed = Page(text)
    assert "img" not in {tag for tag, _ in parsed.tags}
    assert parsed.said.count('"><img src=x onerror=alert(1)>␛⟨U+202E⟩⟨U+D800⟩') > 5
    assert not re.search("[\x1b\u202e]", text)


def test_what_no_system_has_is_named_with_its_reason(parsed):
    assert "– wait_s, response_s: closed loop: requests have no due time" in parsed.said


def test_deadline_accuracy_is_drawn(page):
    assert 'aria-label="Right within a time on words"' in page


def test_idealized_runtime_stands_beside_the_measured_where_it_was_applied(tmp_path):
    from support import asked, cell, write_run

    from poise.report.html import Html
    from poise.store.run import open_run
    from poise.understand.idealize import Coefficients
    from poise.understand.idealize_apply import apply
    from poise.understand.summarize import summarize

    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    items = [
        asked(str(i), "x", ["x", "y"], at_s=[0.5, 0.75], sent_s=float(i), output_tokens=2, usage=usage)
        for i in range(3)
    ]
    run = open_run(write_run(tmp_path / "run", [cell("m", "t", items)]))
    assert b'id="idealized"' not in Html().render(summarize(run), [run])
    # alpha(10) = .2 s and beta = .05 s: T(10, 2) = .25 s, a third of the measured .75 s
    apply(run, {"m": Coefficients("m", 0.05, ((1, 0.2), (100, 0.2)))})
    text = Html().render(summarize(run), [run]).decode()
    section = text.split('id="idealized"', 1)[1].split("</section>")[0]
    assert "250 ms" in section and "750 ms" in section and "3.00x" in section


def test_a_priced_run_shows_quality_against_cost(tmp_path):
    from support import asked, cell, write_run

    from poise.plan.spec import Deployment, Price
    from poise.report.html import Html
    from poise.store.run import open_run
    from poise.understand.summarize import summarize

    def page(name, price):
        items = [asked(str(i), "x", "x", e2e_s=1.0 + i) for i in range(3)]
        spec = cell("m", "t", items, deployment="d", deployment_spec=Deployment("d", "scripted", price=price))
        run = open_run(write_run(tmp_path / name, [spec]))
        return Html().render(summarize(run), [run]).decode()

    assert "US dollars per request" in page("priced", Price(per_hour_usd=3.6))
    assert "US dollars per request" not in page("free", None)
