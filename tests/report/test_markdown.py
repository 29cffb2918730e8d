import re

from markdown_it import MarkdownIt

from poise.report.markdown import Markdown, escape


def rendered(summary) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(Markdown().render(summary, []).decode())


def test_the_published_table_is_there(summary):
    html = rendered(summary)
    assert "<td>61.9 [59.3, 64.5]</td>" in html
    assert re.search(r"<td>0\.85 ±\.05</td>\s*<td>20\.8 ms</td>", html)
    assert "2 of 120 failed" in html


def test_foreign_text_stays_text_even_where_raw_html_is_allowed(summary):
    html = rendered(summary)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_markup_links_and_table_bars_are_escaped():
    html = (
        MarkdownIt("commonmark", {"html": True, "linkify": True})
        .enable(["table"])
        .render(
            escape("a|b *c* _d_ `e` [f](http://x) ![g](h) <i> ~~k~~ $m$ https://evil.example www.evil.example\n# z")
        )
    )
    assert "<a" not in html
    assert "<em" not in html
    assert "<code" not in html
    assert "<img" not in html
    assert "<h1" not in html
    assert "a|b *c* _d_ `e` [f](" in html


def test_every_table_row_has_as_many_cells_as_its_head(summary):
    for block in Markdown().render(summary, []).decode().split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) <= 1


def test_a_run_folder_renders(derived):
    assert b"words quality" in Markdown().render(derived, [])
