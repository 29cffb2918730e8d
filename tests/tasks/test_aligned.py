"""Aligned lines from the files of WMT and others as they are published, with one reference and with several."""

from pathlib import Path

import numpy as np
import pytest
import sacrebleu

from poise.registry import lookup
from poise.tasks.build import get_task
from poise.types import UsageError

SRC = """<srcset setid="newstest2017" srclang="any">
<doc sysid="ref" docid="news.1" genre="news" origlang="zh">
<p>
<seg id="1">商店 A & B 今天开门。</seg>
<seg id="2">下雨了。</seg>
</p>
</doc>
</srcset>
"""
REF = """<refset setid="newstest2017" srclang="any" trglang="en">
<doc sysid="ref" docid="news.1" genre="news" origlang="zh">
<p>
<seg id="1">The shop A &amp; B opens today.</seg>
<seg id="2">It is  raining.</seg>
</p>
</doc>
</refset>
"""
SECOND = "Today shop A & B is opening.\nRain falls.\n"


def samples(data, **options):
    return list(get_task("translation").samples(data, options))


@pytest.fixture
def sgml(tmp_path):
    names = [tmp_path / name for name in ("newstest2017-zhen-src.zh.sgm", "newstest2017-zhen-ref.en.sgm", "second.txt")]
    for path, text in zip(names, (SRC, REF, SECOND)):
        path.write_text(text)
    return list(map(str, names))


def test_lines_of_sgml_are_its_segments(sgml):
    first, second = samples(sgml[:2])
    assert (first.fields["text"], first.target) == ("商店 A & B 今天开门。", "The shop A & B opens today.")
    assert (second.id, second.target) == ("1", "It is raining.")
    with pytest.raises(UsageError, match=r"src.zh.sgm is one file, neither a table nor WMT's XML; give two"):
        samples(sgml[0])
    Path(sgml[2]).write_text("One line.\n")
    with pytest.raises(UsageError, match=r"second.txt ends at line 1, others do not"):
        samples(sgml)


SAID = ("Shop A & B is open today.", "It rains.")


@pytest.mark.parametrize("unit", ["sentence", "document"])
def test_several_references_as_sacrebleu_takes_them(sgml, unit):
    asked = samples(sgml, unit=unit, ter=True)
    answers = SAID if unit == "sentence" else ["\n".join(f"{k}. {line}" for k, line in enumerate(SAID, 1))]
    references = [["The shop A & B opens today.", "It is raining."], SECOND.splitlines()]
    for name, theirs in (("bleu", sacrebleu.BLEU()), ("chrf", sacrebleu.CHRF()), ("ter", sacrebleu.TER())):
        metric = lookup("metric", name)()
        stats = np.sum([metric.score(said, s).stats for said, s in zip(answers, asked)], axis=0)
        assert float(metric.reduce(stats)) == pytest.approx(theirs.corpus_score(list(SAID), references).score), name
        assert "nrefs:2" in metric.signature(asked[0])
    exact = lookup("metric", "exact_match")()
    second = SECOND.strip() if unit == "document" else SECOND.splitlines()[0]
    assert exact.score(second, asked[0]).value == 1


XML = """<?xml version='1.0' encoding='utf-8'?>
<dataset id="wmttest2023">
  <doc origlang="zh" id="news.1">
    <src lang="zh"><p><seg id="1">商店 A &amp; B 今天开门。</seg><seg id="2">下雨了。</seg></p></src>
    <ref lang="en" translator="refA"><p><seg id="1">The shop opens.</seg><seg id="2">It is raining.</seg></p></ref>
    <ref lang="en" translator="refB"><p><seg id="2">Rain falls.</seg></p></ref>
    <hyp system="ONLINE-A" language="en"><p><seg id="1">x</seg><seg id="2">y</seg></p></hyp>
  </doc>
  <doc origlang="zh" id="suite" testsuite="numbers">
    <src lang="zh"><p><seg id="1">三</seg></p></src><ref lang="en"><p><seg id="1">Three</seg></p></ref>
  </doc>
</dataset>
"""


def test_xml_holds_source_and_references(tmp_path):
    path = tmp_path / "wmttest2023.zh-en.xml"
    path.write_text(XML)
    first, second = samples(str(path))
    assert (first.fields["text"], first.target) == ("商店 A & B 今天开门。", "The shop opens.")
    assert second.target == ["It is raining.", "Rain falls."]
    [window] = samples(str(path), unit="document")
    assert window.target == ["The shop opens.\nIt is raining.", "The shop opens.\nRain falls."]


@pytest.mark.parametrize(
    ("text", "pair", "why"),
    [
        (XML, "en-zh", "x.xml is in zh-en, not in en-zh"),
        (XML.replace("<ref ", "<other ").replace("</ref>", "</other>"), "zh-en", "without references nothing can be"),
        (XML[:300], "zh-en", "x.xml: not XML"),
        (XML.replace("<dataset", "<!DOCTYPE d [<!ENTITY a 'b'>]><dataset"), "zh-en", "its entities are not read"),
    ],
)
def test_xml_that_does_not_fit(tmp_path, text, pair, why):
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(UsageError, match=why):
        samples(str(tmp_path / "x.xml"), pair=pair)


@pytest.mark.parametrize(
    ("pair", "suffixes"), [("zh_cn-en", ("zh_cn", "en")), ("zho_Hans-eng_Latn", ("devtest", "dev"))]
)
def test_languages_by_the_codes_of_their_files(tmp_path, pair, suffixes):
    paths = [tmp_path / f"x.{suffix}" for suffix in suffixes]
    for path, text in zip(paths, ("下雨了。\n", "It is raining.\n")):
        path.write_text(text)
    [sample] = samples(list(map(str, paths)), pair=pair)
    assert get_task("translation").question(sample).startswith("Translate from Chinese to English.")
    turned = "-".join(reversed(pair.split("-")))
    [sample] = samples(list(map(str, reversed(paths))), pair=turned)
    assert "tok:zh" in lookup("metric", "bleu")().signature(sample)
