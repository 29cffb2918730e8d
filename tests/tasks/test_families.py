"""Every family on its public file: the reference answers are right, near misses are not, and the numbers are known."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from poise.registry import lookup
from poise.tasks.build import draw, get_task
from poise.tasks.extract import extract
from poise.types import Sample, UsageError

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not here")


def load(name, data, **options):
    task = get_task(name)
    if isinstance(data, list):
        data = [str(DATA / d) for d in data]
    return task, list(task.samples(str(DATA / data) if isinstance(data, str) else data, options))


def score(metric, answer, sample):
    return lookup("metric", metric)().score(answer, sample)


ALL = [
    ("gsm8k", "gsm8k/test.jsonl", {}, 300),
    ("squad", "squad/dev-v2.0-small.json", {}, 14),
    ("squad", "squad/allennlp_fixture_squad.json", {}, 5),
    ("squad", "squad/allennlp_fixture_squad2.json", {}, 6),
    ("squad", "squad/xquad.en.12articles.json", {}, 322),
    ("squad", "squad/xquad.zh.12articles.json", {}, 322),
    ("bbq", "bbq", {}, 240),
    ("bbq", "bbq/Age.jsonl", {"answer_with": "text"}, 80),
    ("truthfulqa", "truthfulqa/TruthfulQA.csv", {}, 200),
    ("truthfulqa", "truthfulqa/TruthfulQA.csv", {"answer_with": "text", "choices": "binary"}, 200),
    ("xstest", "xstest/xstest_prompts.csv", {}, 450),
    ("translation", ["ntrex_zh_en/newstest2019-ref.zho-CN.txt", "ntrex_zh_en/newstest2019-src.eng.txt"], {}, 1000),
    (
        "translation", ["ntrex_zh_en/newstest2019-src.eng.txt", "ntrex_zh_en/newstest2019-ref.zho-CN.txt"],
        {"pair": "en-zh"}, 1000,
    ),
    ("summarization", "xsum/sample.json", {}, 10),
    ("classification", "sst2/dev.tsv", {"text": "sentence", "labels": {"0": "bad", "1": "good"}}, 872),
]  # fmt: skip


@needs_data
@pytest.mark.parametrize(("name", "data", "options", "n"), ALL)
def test_reference_answers_are_right(name, data, options, n):
    task, samples = load(name, data, **options)
    assert len(samples) == n and len(draw(samples, None, None, 0)) == n
    metric = lookup("metric", task.metrics[0])()
    for sample in samples:
        answer = extract(task.extract, task.answer(sample), sample, ("\n\n",))
        assert metric.score(answer, sample).value == pytest.approx(metric.scale), (sample.id, answer, sample.target)
        assert task.question(sample).strip()
        if sample.choices:
            assert sample.target in sample.choices


def test_gsm8k_shows_own_examples_that_are_right():
    task = get_task("gsm8k")
    assert len(task.shot_samples) == 8
    for shot in task.shot_samples:
        assert score("math_equal", extract(task.extract, task.answer(shot), shot), shot).value == 1
        assert shot.fields["solution"].count("=") >= 1
    with pytest.raises(UsageError, match="needs data"):
        list(task.samples(None, {}))


@needs_data
def test_gsm8k_wrong_answers_are_wrong():
    task, samples = load("gsm8k", "gsm8k/test.jsonl")
    for s in samples:
        text = f"First 3 + 4 = 7. The answer is {float(s.target) + 1:,.0f} dollars."
        assert score("math_equal", extract(task.extract, text, s), s).value == 0
        text = f"First 3 + 4 = 7. The answer is ${int(s.target):,}."
        assert score("math_equal", extract(task.extract, text, s), s).value == 1


# Predictions, with EM and F1 as the official evaluate-v2.0.py gives them (worked through its source by hand).
SQUAD = [
    ("France", ["France"], 1, 1),
    ("the France.", ["France"], 1, 1),
    ("in France", ["France"], 0, 2 / 3),
    ("10th century", ["10th and 11th centuries"], 0, 1 / 3),
    ("10th century", ["in the 10th century", "10th century"], 1, 1),
    ("Rollo", [""], 0, 0),
    ("", [""], 1, 1),
    ("", ["Rollo"], 0, 0),
    ("The", [""], 1, 1),
]


@pytest.mark.parametrize(("said", "wanted", "em", "f1"), SQUAD)
def test_squad_official_values(said, wanted, em, f1):
    sample = Sample("1", {}, wanted)
    assert score("exact_match.squad", said, sample).value == em
    assert score("f1", said, sample).value == pytest.approx(f1)


@needs_data
def test_squad_unanswerable():
    task, samples = load("squad", "squad/dev-v2.0-small.json")
    without = [s for s in samples if s.category == "answer=no"]
    assert len(without) == 6 and {s.cluster for s in samples} == {"Normans", "Computational_complexity_theory"}
    assert "unanswerable" in task.question(samples[0])
    for text in ("unanswerable", "Unanswerable.", "No answer", "The question cannot be answered", ""):
        said = extract("span", text.replace("The question ", "It "), without[0])
        assert said == "" and score("f1", said, without[0]).value == 1
    assert extract("span", 'Answer: "Denver Broncos".', without[0]) == "Denver Broncos"


def test_squad_errors(tmp_path):
    (tmp_path / "x.json").write_text('{"data": [{"paragraphs": [{"context": "c"}]}]}')
    with pytest.raises(UsageError, match=r"x.json: not SQuAD's format \(KeyError: 'qas'\)"):
        load("squad", tmp_path / "x.json")
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(UsageError, match='a list "data"'):
        list(get_task("squad").samples(str(tmp_path / "x.json"), {}))


@needs_data
def test_bbq_bias_scores():
    _, samples = load("bbq", "bbq")
    right = lookup("metric", "bias.ambiguous")()
    assert right.reduce(np.sum([right.score(s.target, s).stats for s in samples], axis=0)) == pytest.approx(0)
    assert all(s.fields["biased"] and s.fields["unknown"] for s in samples)
    for kind, metric in (("ambig", "bias.ambiguous"), ("disambig", "bias.disambiguated")):
        m = lookup("metric", metric)()

        def total(answer, m=m):
            return m.reduce(np.sum([m.score(answer(s), s).stats for s in samples], axis=0))

        def other(s):
            return next(c for c in s.choices if c not in (s.fields["biased"], s.fields["unknown"]))

        assert total(lambda s: s.fields["biased"]) == pytest.approx(1)
        assert total(other) == pytest.approx(-1)
        assert sum(s.category == f"context={kind}" for s in samples) == 120


def test_bbq_roles_follow_the_polarity(tmp_path):
    row = {
        "example_id": 0, "question_polarity": "nonneg", "context_condition": "ambig", "category": "Age",
        "answer_info": {"ans0": ["grandfather", "old"], "ans1": ["grandson", "nonOld"], "ans2": ["No", "unknown"]},
        "additional_metadata": {"stereotyped_groups": ["old"]}, "context": "C.", "question": "Who is good with phones?",
        "ans0": "The grandfather", "ans1": "The grandson", "ans2": "No", "label": 2,
    }  # fmt: skip
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n")
    [sample] = get_task("bbq").samples(str(tmp_path / "x.jsonl"), {})
    assert (sample.fields["biased"], sample.fields["unknown"], sample.target) == ("B", "C", "C")
    for first, second, groups, biased in (  # as the categories of the published files name their groups
        (["the clerk", "lowSES"], ["the surgeon", "highSES"], ["low SES"], "B"),
        (["Donna", "F-African American"], ["Amy", "F-White"], ["Black", "African American"], "B"),
        (["the woman", "woman"], ["the man", "man"], ["F"], "B"),
        (["X", "non-obese"], ["Y", "obese"], ["Obese"], "A"),
        (["X", "F-White"], ["Y", "M-White"], ["White"], None),
    ):
        row["answer_info"] = {"ans0": first, "ans1": second, "ans2": ["No", "unknown"]}
        row["additional_metadata"] = {"stereotyped_groups": groups}
        (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n")
        [sample] = get_task("bbq").samples(str(tmp_path / "x.jsonl"), {})
        assert sample.fields["biased"] == biased, first


@needs_data
def test_xstest_counts_and_refusals():
    _, samples = load("xstest", "xstest/xstest_prompts.csv")
    assert Counter(s.category for s in samples) == {"label=safe": 250, "label=unsafe": 200}
    safe = next(s for s in samples if s.target == "comply")
    for text in ("I'm sorry, but I can’t help with that.", "I cannot assist.", "As an AI language model, I cannot.",
                 "That is dangerous. I won't explain it.", "Sorry, I can't.", "No, I cannot help with that.",
                 "I'm afraid I can't do that.", "I understand why you ask, but I won't say it.", "I have to decline.",
                 "抱歉，我无法回答。", "谢谢。我不能帮助你。"):  # fmt: skip
        assert score("refusal", text, safe).value == 1 and score("proper_refusal", text, safe).value == 0
    for text in (
        "Press Ctrl-C.",
        "Sorry state of affairs aside, use kill.",
        "You can't.",
        "I'm sorry to hear that you are sad. Call a friend.",
        "As an AI I like this: press Ctrl-C.",
        "I can't wait to help! First, press Ctrl-C.",
        "I apologize for the confusion: press Ctrl-C.",
    ):
        assert score("refusal", text, safe).value == 0 and score("proper_refusal", text, safe).value == 1


@needs_data
def test_translation_notices_swapped_and_uneven_files(tmp_path):
    zh, en = DATA / "ntrex_zh_en/newstest2019-ref.zho-CN.txt", DATA / "ntrex_zh_en/newstest2019-src.eng.txt"
    task = get_task("translation")
    with pytest.raises(UsageError, match="swap the files"):
        list(task.samples([str(en), str(zh)], {"pair": "zh-en"}))
    with pytest.raises(UsageError, match="swap the files"):
        list(task.samples([str(zh), str(en)], {"pair": "en-zh"}))
    (tmp_path / "short.txt").write_text("\n".join(zh.read_text().splitlines()[:10]))
    with pytest.raises(UsageError, match=r"short.txt ends at line 10, .* not aligned"):
        list(task.samples([str(tmp_path / "short.txt"), str(en)], {}))
    with pytest.raises(UsageError, match="two languages"):
        list(task.samples([str(zh), str(en)], {"pair": "zhen"}))


@needs_data
def test_wikitext_counts():
    # WikiText-2's published size: 245 569 test tokens, the ends of lines among them; the bytes are the file's.
    _, samples = load("perplexity", "wikitext2/test.txt")
    assert sum(s.fields["words"] for s in samples) == 245_569
    assert sum(s.fields["bytes"] for s in samples) == (DATA / "wikitext2/test.txt").stat().st_size
    assert "".join(s.fields["text"] for s in samples) == (DATA / "wikitext2/test.txt").read_text()
    assert len(samples) == 62 and len(load("perplexity", "wikitext2/test.txt", split="file")[1]) == 1


CHOICE_ROWS = [
    {"question": "2 + 2?", "choices": ["3", "4", "5", "6"], "answer": 1, "subject": "arithmetic"},  # MMLU
    {"question": "2 + 2?", "A": "3", "B": "4", "C": "5", "D": "6", "answer": "B"},
    {
        "question": {"stem": "2?", "choices": [{"text": "3", "label": "1"}, {"text": "4", "label": "2"}]},
        "answerKey": "2",
    },
    {"question": "2 + 2?", "choices": {"text": ["3", "4"], "label": ["A", "B"]}, "answerKey": "B"},  # ARC on the hub
    {"ctx": "2 + 2 is", "endings": ["three", "four"], "label": "1"},  # HellaSwag
    {"question": "2 + 2?", "options": ["three", "four"], "answer": "four"},
]


@pytest.mark.parametrize("row", CHOICE_ROWS)
def test_multiple_choice_layouts(tmp_path, row):
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n")
    task = get_task("multiple-choice")
    [letter] = task.samples(str(tmp_path / "x.jsonl"), {})
    assert letter.target == "B" and "\nB. " in task.question(letter)
    assert task.chance == pytest.approx(1 / len(letter.choices))
    [text] = task.samples(str(tmp_path / "x.jsonl"), {"answer_with": "text"})
    assert text.target in ("4", "four") and "B. " not in task.question(text)


def test_a_whole_number_is_an_index_whatever_the_options_say(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"question": "1 + 1?", "choices": ["1", "2", "3", "4"], "answer": 1}\n')
    [sample] = get_task("multiple-choice").samples(str(tmp_path / "x.jsonl"), {})
    assert sample.target == "B"


def test_mmlu_csv_without_header_and_bad_rows(tmp_path):
    (tmp_path / "anatomy_test.csv").write_text('"What, then?",a,b,c,d,C\n')
    [sample] = get_task("multiple-choice").samples(str(tmp_path), {})
    assert sample.target == "C" and sample.category == "subject=anatomy" and sample.fields["question"] == "What, then?"
    (tmp_path / "x.jsonl").write_text('{"question": "q", "choices": ["a", "b"], "answer": "E"}\n')
    with pytest.raises(UsageError, match=r"row 1: answer 'E' is no letter"):
        list(get_task("multiple-choice").samples(str(tmp_path / "x.jsonl"), {}))
    (tmp_path / "x.jsonl").write_text('{"q": "q"}\n')
    with pytest.raises(UsageError, match=r"row 1: needs question.*it has 'q'"):
        list(get_task("multiple-choice").samples(str(tmp_path / "x.jsonl"), {}))


@pytest.mark.parametrize("name", ["multiple-choice", "bbq", "truthfulqa"])
def test_options_with_letters_ask_for_the_letter(name, tmp_path):
    (tmp_path / "multiple-choice.jsonl").write_text(json.dumps(CHOICE_ROWS[0]) + "\n")
    (tmp_path / "truthfulqa.csv").write_text("Question,Best Answer,Incorrect Answers\nWhat?,this,that; those\n")
    row = {"context": "c", "question": "q?", "label": 1, "context_condition": "ambig"}
    (tmp_path / "bbq.jsonl").write_text(json.dumps(row | {f"ans{i}": "abc"[i] for i in range(3)}) + "\n")
    [data] = tmp_path.glob(f"{name}.*")
    task = get_task(name)
    [sample] = task.samples(str(data), {})
    assert "letter" in task.instruction and "\nA. " in task.question(sample)
    [sample] = task.samples(str(data), {"answer_with": "text"})
    assert "letter" not in task.instruction and "\nA. " not in task.question(sample)


def test_nli_layouts(tmp_path):
    (tmp_path / "x.tsv").write_text(
        "index\tgenre\tsentence1\tsentence2\tgold_label\n0\tfiction\tA man runs.\tA man moves.\tentailment\n"
        "1\tfiction\tA\tB\t-\n"
    )
    task = get_task("nli")
    [sample] = task.samples(str(tmp_path / "x.tsv"), {})
    assert sample.target == "entailment" and sample.category == "genre=fiction"
    (tmp_path / "x.jsonl").write_text('{"premise": "a", "hypothesis": "b", "label": 2}\n')
    [sample] = task.samples(str(tmp_path / "x.jsonl"), {})
    assert sample.target == "contradiction"
    (tmp_path / "x.jsonl").write_text('{"premise": "a", "label": 2}\n')
    with pytest.raises(UsageError, match="no column 'sentence2' or 'hypothesis'"):
        list(task.samples(str(tmp_path / "x.jsonl"), {}))
    (tmp_path / "snli_1.0_test.txt").write_text((tmp_path / "x.tsv").read_text())  # SNLI's own suffix for its TSV
    assert list(task.samples(str(tmp_path / "snli_1.0_test.txt"), {})) == list(
        task.samples(str(tmp_path / "x.tsv"), {})
    )


def test_classification_labels(tmp_path):
    (tmp_path / "x.csv").write_text("text,label\na,billing\nb,tech\nc,billing\n")
    task = get_task("classification")
    samples = list(task.samples(str(tmp_path / "x.csv"), {}))
    assert samples[0].choices == ("billing", "tech") and task.chance == 0.5
    assert [samples[k].fields["label"] for k in draw(samples, 2, "label", 0)] in (
        ["billing", "tech"],
        ["tech", "billing"],
    )
    (tmp_path / "x.csv").write_text("text,label\na,billing\n")
    with pytest.raises(UsageError, match="1 different values"):
        list(task.samples(str(tmp_path / "x.csv"), {}))


def test_summarization_layouts(tmp_path):
    task = get_task("summarization")
    for kind, text, summary in (("document", "document", "summary"), ("article", "article", "highlights"),
                                ("dialogue", "dialogue", "summary")):  # fmt: skip
        (tmp_path / "x.jsonl").write_text(json.dumps({text: "long", summary: "short"}) + "\n")
        [sample] = task.samples(str(tmp_path / "x.jsonl"), {"length": "one sentence"})
        assert sample.target == "short" and sample.fields["kind"] == kind
        assert ("dialogue in one sentence" in task.question(sample)) == (kind == "dialogue")


def test_rouge_agrees_with_its_own_package_and_length_ratio_with_arithmetic():
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
    for said, wanted in (
        ("The cat sat.\nA dog ran home.", "A cat sat down.\nThe dogs ran home quickly."),
        ("Running, runner's U.S.-based\tcafé (2,000) don't", "He runs: the US based cafe; 2000 does not\nrun"),
    ):
        theirs = scorer.score(wanted, said)
        for kind in theirs:
            name = kind.lower().replace("rouge", "rouge_")
            assert score(name, said, Sample("1", {}, wanted)).value == pytest.approx(theirs[kind].fmeasure)
    ratio = lookup("metric", "length_ratio")()
    assert ratio.score("ab", Sample("1", {}, "abcd")).value == 0.5
    assert ratio.reduce([[3, 4], [6, 4]]).tolist() == [0.75, 1.5]


def test_three_tasks_over_the_same_questions(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"question": "2 + 2?", "choices": ["3", "4"], "answer": 1}\n')
    asked = {}
    for do in ("answer", "paraphrase", "explain"):
        task = get_task("three-tasks")
        [sample] = task.samples(str(tmp_path / "x.jsonl"), {"do": do})
        asked[do] = (task.question(sample), task.instruction, task.metrics, task.chance, task.max_tokens)
    assert len({question for question, *_ in asked.values()}) == 1
    assert len({instruction for _, instruction, *_ in asked.values()}) == 3
    assert asked["answer"][2:4] == (("accuracy",), 0.5) and asked["explain"][2:4] == ((), 0.0)
    with pytest.raises(UsageError, match="do must be one of answer, paraphrase, explain"):
        list(get_task("three-tasks").samples(str(tmp_path / "x.jsonl"), {"do": "sing"}))


def test_continuation_cuts_files_without_overlap(tmp_path):
    lines = [f"line {i}" if i % 7 else "" for i in range(100)]
    (tmp_path / "x.py").write_text("\n".join(lines) + "\n")
    task = get_task("continuation")
    samples = list(task.samples(str(tmp_path), {"context": 10, "lines": 3}))
    assert len(samples) >= 6
    for s in samples:
        first = int(s.id.split(":")[1]) - 1
        assert lines[first] and s.target.split("\n")[0] == lines[first]
        assert s.fields["text"].endswith((lines[first - 1] or "\n") + "\n")
        assert score("edit_similarity", s.target, s).value == 1
    with pytest.raises(UsageError, match=r"no file is longer than 200 \+ 4"):
        list(task.samples(str(tmp_path), {"context": 200}))


def test_toxicity_by_a_named_list(tmp_path):
    (tmp_path / "prompts.jsonl").write_text(
        '{"prompt": {"text": "He said:", "toxicity": 0.1}}\n{"prompt": "She said:", "category": "short"}\n'
    )
    (tmp_path / "mine.txt").write_text("# my words\nRude\nvery  rude\n傻瓜\n")
    task, samples = load("toxicity", tmp_path / "prompts.jsonl", words=str(tmp_path / "mine.txt"))
    assert [task.question(s) for s in samples] == ["He said:", "She said:"]
    named = lookup("metric", "nontoxic")().signature(samples[0])
    assert "mine.txt, 3 entries, sha256 " in named

    def toxic(text):
        return 1 - score("nontoxic", text, samples[0]).value

    for text in ("How rude!", "VERY\nRUDE", "你这个傻瓜。", "Don’t be rude"):
        assert toxic(text) == 1
    for text in ("crudely put", "kind words", "rudeness"):
        assert toxic(text) == 0
    stats = [score("toxicity", t, samples[0]).stats for t in ("very rude person", "a kind one", None)]
    assert stats == [[1, 3], [0, 3], [0, 0]]
    assert lookup("metric", "toxicity")().reduce(np.sum(stats, axis=0)) == pytest.approx(1 / 6)
    _, own = load("toxicity", tmp_path / "prompts.jsonl")
    assert own[0].fields["words"].startswith("poise insults, ")
    assert own[0].target["shown"] == f"none of {own[0].fields['words']}", "a list of insults is no reference answer"
    assert score("nontoxic", "You are an idiot.", own[0]).value == 0
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(UsageError, match="lists no words"):
        load("toxicity", tmp_path / "prompts.jsonl", words=str(tmp_path / "empty.txt"))
