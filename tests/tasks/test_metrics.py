import math
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.registry import METRICS, lookup
from poise.tasks.metrics.perplexity import score_logprobs
from poise.tasks.metrics.text import edit_similarity, normalize_squad, token_f1
from poise.tasks.translation import WINDOW_LINES
from poise.types import Sample

LABELS = ("0", "1", "2")


def make(name):
    return lookup("metric", name)()


def corpus(name, answers, samples):
    metric = make(name)
    return metric.reduce(np.sum([metric.score(a, s).stats for a, s in zip(answers, samples)], axis=0))


def labelled(truth, choices=LABELS):
    return [Sample(str(i), {}, t, choices) for i, t in enumerate(truth)]


TEXT_METRICS = sorted(m for m in METRICS if not m.startswith(("perplexity", "bits")) and m != "pass_at.1")


@pytest.mark.parametrize("name", TEXT_METRICS)
def test_every_metric_has_the_three_states(name):
    metric = make(name)
    best, worst = {"ter": (0, 100), "lines.missing": (0, 1), "lines.extra": (0, 0)}.get(name, (metric.scale, 0))
    right, none, lacking = (Sample("1", {}, target, ("a word", "b")) for target in ("a word", "a word", None))
    answer = "a word"
    if name in ("refusal", "proper_refusal"):
        right = none = Sample("1", {}, "refuse")
        answer = "I cannot help."
    if name.startswith("lines."):
        right = none = Sample("1", {WINDOW_LINES: 1}, answer)
    if name in ("nontoxic", "toxicity"):
        right = none = Sample("1", {"words": "mine"}, {"words": "rude\nvery rude"})
        best = 1.0 if name == "nontoxic" else 0.0
    if name in ("rating", "preference"):  # a judge's words, in the order "the judged answer second"
        answer = {"rating": "10", "preference": "B"}[name]
    if name.startswith("bias."):
        right = Sample("1", {"biased": answer, "unknown": "b", "ambiguous": name[5] == "a"}, answer, (answer, "b"))
        none = right
    assert metric.score(answer, right).value == pytest.approx(best)
    nothing = metric.score(None, none)
    assert nothing.value in (worst, None) and nothing.reason
    if name != "refusal":
        unscorable = metric.score("a", lacking)
        assert unscorable.value is None and unscorable.reason
    assert metric.signature(right) and metric.better in ("higher", "lower", None)


def test_classification_golden_values():
    # Examples in scikit-learn's docstrings of precision_score, recall_score, f1_score (macro), matthews_corrcoef.
    truth, said = "012012", "021001"
    assert corpus("precision.macro", said, labelled(truth)) == pytest.approx(0.2222222, abs=1e-6)
    assert corpus("recall.macro", said, labelled(truth)) == pytest.approx(0.3333333, abs=1e-6)
    assert corpus("f1.macro", said, labelled(truth)) == pytest.approx(0.2666666, abs=1e-6)
    assert corpus("matthews", "+-++", labelled("+++-", ("-", "+"))) == pytest.approx(-1 / 3)


def test_confusion_table_has_a_column_for_no_label():
    metric = make("accuracy")
    samples = labelled(["0", "0", "1", "1", "1"], ("0", "1"))
    stats = np.sum([metric.score(a, s).stats for a, s in zip(["0", "1", "1", None, "1"], samples)], axis=0)
    table = metric.table(stats, ("0", "1"))
    assert table["columns"] == ["0", "1", "none"]
    assert table["counts"] == [[1, 1, 0], [0, 2, 1]]
    one = table["per_label"]["1"]
    assert (one["tp"], one["fp"], one["fn"], one["tn"]) == (2, 1, 1, 1)
    assert one["precision"] == pytest.approx(2 / 3) and one["recall"] == pytest.approx(2 / 3)
    assert table["micro"] == pytest.approx({"precision": 3 / 4, "recall": 3 / 5, "f1": 6 / 9})


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from((*LABELS, None))), min_size=1, max_size=40))
def test_reduce_over_many_rows_equals_row_by_row(pairs):
    samples, answers = labelled([t for t, _ in pairs]), [a for _, a in pairs]
    for name in ("precision.macro", "recall.macro", "f1.macro", "matthews"):
        metric = make(name)
        stats = np.array([metric.score(a, s).stats for a, s in zip(answers, samples)])
        weights = np.random.default_rng(0).integers(0, 3, (2, 5, len(pairs)))
        together = metric.reduce(weights @ stats)
        assert together.shape == (2, 5)
        np.testing.assert_allclose(together[1, 3], metric.reduce(weights[1, 3] @ stats))
        assert np.all((together >= -1) & (together <= 1) | np.isnan(together))
    perfect = [make("f1.macro").score(s.target, s).stats for s in samples]
    assert make("f1.macro").reduce(np.sum(perfect, axis=0)) == pytest.approx(1)


SENTENCES = [
    ("The dog bit the man.", "The dog bit the man."),
    ("It wasn't surprising.", "It was not unexpected."),
    ("The man had just bitten him.", "The man bit him first."),
    ("", "Nothing was said."),
    ("x", "A quite different thing"),
]


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
@pytest.mark.parametrize("rows", [SENTENCES, SENTENCES[:1], SENTENCES[3:], SENTENCES[1:3]])
def test_translation_agrees_with_sacrebleu(name, rows):
    import sacrebleu

    hypotheses, wanted = [h for h, _ in rows], [r for _, r in rows]
    samples = [Sample(str(i), {}, w) for i, w in enumerate(wanted)]
    theirs = getattr(sacrebleu, f"corpus_{name}")(hypotheses, [wanted]).score
    assert corpus(name, hypotheses, samples) == pytest.approx(theirs, abs=1e-9)
    for h, s in zip(hypotheses, samples):
        value = getattr(sacrebleu, f"sentence_{name}")(h, [s.target]).score
        assert make(name).score(h, s).value == pytest.approx(value, abs=1e-9)


def test_bleu_published_value():
    # README of sacreBLEU, "Using SacreBLEU from Python": three sentences, two references.
    refs = [
        ["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
        ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
    ]
    said = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
    samples = [Sample(str(i), {}, list(pair)) for i, pair in enumerate(zip(*refs))]
    assert corpus("bleu", said, samples) == pytest.approx(48.530827, abs=1e-5)
    assert "nrefs:2" in make("bleu").signature(samples[0])


def test_chinese_is_tokenised_by_character():
    import sacrebleu

    said, wanted = "我今天去了北京。", "我今天到了北京。"
    sample = Sample("1", {"target_lang": "zh"}, wanted)
    theirs = sacrebleu.corpus_bleu([said], [[wanted]], tokenize="zh").score
    assert corpus("bleu", [said], [sample]) == pytest.approx(theirs) and theirs > 10
    assert "tok:zh" in make("bleu").signature(sample)


def test_squad_normalisation():
    assert normalize_squad("The  Denver Broncos!") == "denver broncos"
    assert token_f1("the red car", "a red bus") == pytest.approx(0.5)
    assert token_f1("", "") == 1 and token_f1("x", "") == 0
    assert make("f1").score("Denver", Sample("1", {}, ["Broncos", "Denver Broncos"])).value == pytest.approx(2 / 3)


def test_rouge_golden():
    # README of rouge-score: "The quick brown fox jumps over the lazy dog" / "… fox jumps on the log": rougeL F1 0.625.
    sample = Sample("1", {}, "The quick brown fox jumps over the lazy dog")
    score = make("rouge_l").score("The quick brown dog jumps on the log.", sample)
    assert score.value == pytest.approx(0.5882352941)


def test_math_refuses_the_question_as_its_answer():
    metric = make("math_equal")
    assert metric.score("3 + 5", Sample("1", {}, "8")).reason == "not worked out"
    assert metric.score("16/2", Sample("1", {}, "8")).value == 1
    assert metric.score("3, 2", Sample("1", {"unordered": True}, "2, 3")).value == 1
    assert metric.score("3, 2", Sample("1", {}, "2, 3")).value == 0
    literal = Sample("1", {"literal": True}, "-ba5aa0")
    assert metric.score("-BA5AA0", literal).value == 1 and metric.score("0", literal).value == 0
    assert metric.score("5.0", Sample("1", {"literal": True}, "5")).value == 0


@pytest.mark.parametrize("name", sorted(set(TEXT_METRICS) - {"ter"}))  # its search for shifts hates these random texts
def test_ten_thousand_outputs_take_seconds(name):
    r, metric = random.Random(0), make(name)
    words = "the cat sat on a mat and saw the river run to the sea".split()
    texts = [" ".join(r.choices(words, k=25)) for _ in range(200)]
    start = time.process_time()
    for text in texts:
        metric.score(text, Sample("1", {}, r.choice(texts), tuple(texts[:3])))
    # 10 000 in 20 s is 0.4 s for 200; imports come on top, and the machine may be busy: CPU time, doubled.
    assert time.process_time() - start < 4


def test_perplexity_check_value_and_units():
    # METRICS: p = .1, .7, .2 gives (0.014)^(-1/3) = 4.1491.
    logprobs = [math.log(p) for p in (0.1, 0.7, 0.2)]
    sample = Sample("1", {"words": 2, "bytes": 12})
    token, word, byte, bits = (
        make(n) for n in ("perplexity.token", "perplexity.word", "perplexity.byte", "bits_per_byte")
    )
    assert score_logprobs(token, logprobs, sample).value == pytest.approx(4.1491, abs=5e-5)
    assert score_logprobs(word, logprobs, sample).value == pytest.approx(0.014 ** (-1 / 2))
    assert score_logprobs(byte, logprobs, sample).value == pytest.approx(0.014 ** (-1 / 12))
    assert score_logprobs(bits, logprobs, sample).value == pytest.approx(-math.log2(0.014) / 12)
    # The corpus value weighs documents by their length: it is that of one text of both.
    parts = [score_logprobs(token, logprobs[:1], sample).stats, score_logprobs(token, logprobs[1:], sample).stats]
    assert token.reduce(np.sum(parts, axis=0)) == pytest.approx(4.1491, abs=5e-5)
    assert score_logprobs(token, None, sample).value is None
    assert score_logprobs(token, [], sample).reason


def plain_levenshtein(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


@given(st.text("abc ", max_size=90), st.text("abc ", max_size=90))
def test_edit_similarity_is_the_textbook_distance(a, b):
    want = 1 - plain_levenshtein(a, b) / max(len(a), len(b), 1)
    assert edit_similarity(a, b) == pytest.approx(want)


def test_edit_similarity_known():
    assert edit_similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)


TEXTS = st.lists(st.sampled_from("the house houses ran running a 12 on, it!".split()), max_size=30).flatmap(
    lambda words: st.lists(st.sampled_from(" \n"), min_size=len(words), max_size=len(words)).map(
        lambda ends: "".join(w + e for w, e in zip(words, ends))
    )
)


@given(TEXTS, TEXTS)
def test_rouge_is_that_of_its_own_package(said, wanted):
    from rouge_score.rouge_scorer import RougeScorer

    from poise.tasks.metrics.summaries import KINDS, _all_kinds, _sentences

    theirs = RougeScorer(list(KINDS), use_stemmer=True).score(_sentences(wanted), _sentences(said))
    ours = _all_kinds(wanted, said)
    for kind in KINDS:
        assert ours[kind] == pytest.approx(theirs[kind].fmeasure, abs=1e-12), kind


@given(st.integers(0, 45), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_ter_is_sacrebleus_also_where_phrases_moved_and_texts_are_long(length, seed):
    import sacrebleu

    r = random.Random(seed)
    wanted = [f"w{r.randrange(3 + 2 * length)}" for _ in range(length)]
    cut, end = sorted(r.randrange(length + 1) for _ in range(2))
    said = [w for w in (*wanted[cut:end], *wanted[:cut], *wanted[end:]) if r.random() < 0.9]
    said = [w if r.random() < 0.8 else "x" for w in said] + ["y"] * r.choice([0, 0, 3, 40])
    a, b = " ".join(said), " ".join(wanted)
    stats = make("ter").score(a, Sample("1", {}, b)).stats
    theirs = sacrebleu.metrics.TER()._extract_corpus_statistics([a], [[b]])[0]
    assert stats == [float(x) for x in theirs]


def test_ter_of_mixed_scripts_is_sacrebleus():
    """sacreBLEU tokenizes references once more than hypotheses, which this one shows."""
    from sacrebleu.metrics import TER

    said = "此外，香水零售商 Fragranc Shop 将在 Sainbur's两家门店水特许经营。"
    wanted = "此外，香水零售商 Fragrance Shop 将在 Sainsbury's的两家门店试水特许经营。"
    theirs = TER(normalized=True, asian_support=True).corpus_score([said], [[wanted]])
    stats = make("ter").score(said, Sample("1", {"target_lang": "zh"}, wanted)).stats
    assert stats == [theirs.num_edits, theirs.ref_length]


@pytest.mark.parametrize("name", ["exact_match", "chrf", "edit_similarity"])
def test_a_column_called_lines_makes_no_document_of_an_item(name):
    sample = Sample("1", {"lines": 4}, "def f():\n    return 1")
    assert make(name).score("def f():\n    return 1", sample).value == make(name).scale
