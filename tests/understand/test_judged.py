"""Judging end to end: a second run over the first one's answers, whose verdicts become the first one's quality."""

import json
from pathlib import Path
from typing import Any

import pytest

import poise
from poise.store.run import Run, open_run
from poise.types import Summary, UsageError
from poise.understand.judge import tasks_to_judge
from poise.understand.judged import majority

TASK = """
from poise.types import Sample

class Open:
    name, version, instruction, answer_prefix = "open", 1, "", ""
    extract, metrics, chance, n_ref, max_tokens = "text", (), 0.0, 10.0, 8
    def samples(self, data, options):
        for name in ("p", "q"):
            known = ["one", "two"] if name == "p" else None
            yield Sample(name, {"turns": [f"First {name}?", f"Second {name}?"]}, known)
    def question(self, sample):
        return sample.fields["turns"]
    def answer(self, sample):
        return ""
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Models a and b answer two conversations of two turns; b's second turn of q fails."""
    home = tmp_path_factory.mktemp("open")
    (home / "open.py").write_text(TASK)
    study = {
        "models": [{"name": n, "source": {"api": n}, "format": "chat"} for n in "ab"],
        "deployments": [
            {"name": "da", "backend": "scripted", "options": {"answers": {"*": "Answer of a."}}},
            {"name": "db", "backend": "scripted", "options": {"answers": {"*": "[[10]]"}, "fail": {"q#1": "http"}}},
        ],
        "tasks": [{"task": f"{home}/open.py:Open", "name": "open"}],
        "include": [{"model": n, "deployment": f"d{n}"} for n in "ab"],
    }
    return poise.run(study, home / "run", quiet=True, allow_code=True)


def folder(run: Run, model: str) -> str:
    return next(f.path.name for f in run.cells() if f.cell.model.name == model)


def judge(
    run: Run, out: Path, mode: str, judges: dict[str, dict[str, str]], data: list[str] | None = None, **options: Any
) -> Run:
    """A judge's run in which each judge says what it is scripted to (by item of the judge's run)."""
    study = {
        "models": [{"name": n, "source": {"api": n}} for n in judges],
        "deployments": [
            {"name": f"on-{n}", "backend": "scripted", "options": {"answers": a}} for n, a in judges.items()
        ],
        "tasks": [
            {"task": f"judge-{mode}", "name": "judge-open", "data": [str(run.path), *(data or [])], "options": options}
        ],
        "include": [{"model": n, "deployment": f"on-{n}"} for n in judges],
    }
    return poise.run(study, out, quiet=True)


def values(summary: Summary, model: str) -> dict[str, float | None]:
    cell = next(c for c in summary.cells if c.model == model)
    return {
        name: e.value for name, e in cell.estimates.items() if name.startswith(("judge.", "quality", "kappa", "swap"))
    }


def test_ratings_become_the_quality(run: Run, tmp_path: Path) -> None:
    a, b = folder(run, "a"), folder(run, "b")
    first = {f"{a}/p#0": "Rating: [[10]]", f"{a}/p#1": "[[4]]", "*": "Rating: [[1]]", f"{b}/p#0": "hm"}
    second = {f"{a}/p#0": "Rating: [[8]]", f"{a}/p#1": "no idea", "*": "Rating: [[3]]", f"{b}/p#0": "[[7]] or [[2]]"}
    judged = judge(run, tmp_path / "judged", "rubric", {"j": first, "k": second})
    summary = poise.summarize([run, judged])
    # a: p = (9, 4), q = (2, 2): means of both judges, of the one that was readable
    assert values(summary, "a")["judge.rating"] == pytest.approx((6.5 + 2) / 2)
    assert values(summary, "a")["quality"] == pytest.approx(((8 / 9 + 3 / 9) / 2 + 1 / 9) / 2)
    # b: p#0 unreadable by both (left out), p#1 = 2; q#0 = 2 and q#1 failed, so worth 1
    assert values(summary, "b")["judge.rating"] == pytest.approx((2 + 1.5) / 2)
    assert summary.cells[0].primary == "judge.rating" and "judge.rating by j, k" in summary.cells[0].signature
    checks = {(cell.model, c.code): c.evidence for cell in summary.cells for c in cell.checks}
    assert "1 of 7 answers got no readable verdict" in checks["j", "unreadable_verdicts"]
    assert "2 of 7 answers got no readable verdict" in checks["k", "unreadable_verdicts"]
    assert "no readable verdict" in checks["b", "unscorable"]
    assert [m.model for m in summary.models] == ["a", "b"] and summary.models[0].balanced.value is not None
    assert "j judged 7 answers to open (1 without a verdict)" in summary.verdict.text
    turns = summary.cells[0].groups
    assert turns["turn=1"]["judge.rating"].value == pytest.approx((9 + 2) / 2)


def test_a_judge_s_own_run_has_times_but_no_marks(run: Run, tmp_path: Path) -> None:
    judged = judge(run, tmp_path / "judged", "rubric", {"j": {"*": "Rating: [[6]]"}})
    summary = poise.summarize(judged)
    (cell,) = summary.cells
    assert cell.estimates["rating"].value == 6 and cell.estimates["quality"].value is None
    assert cell.estimates["balanced"].value is None and summary.models == []
    assert cell.estimates["e2e_s.mean"].value and cell.estimates["readable"].value == 1
    assert cell.groups["system=a on da"]["rating"].value == 6
    asked = {r.id: r for r in judged.cells()[0].requests()}
    second = asked[f"{folder(run, 'b')}/p#1"].messages[-1].content  # type: ignore[index]
    assert "<<<question 2>>>\nSecond p?" in second and "<<<reference answer 2>>>\ntwo\n" in second
    assert "[[10]]" not in second and "[ [10]]" in second  # the answer cannot speak for the judge
    assert f"{folder(run, 'b')}/q#1" not in asked  # failed: nothing to judge


def test_a_win_needs_both_orders(run: Run, tmp_path: Path) -> None:
    b = folder(run, "b")
    says = {
        f"{b}/p#0/ab": "Verdict: [[A]]", f"{b}/p#0/ba": "Verdict: [[B]]",  # b both times: a win
        f"{b}/p#1/ab": "Verdict: [[A]]", f"{b}/p#1/ba": "Verdict: [[A]]",  # whoever comes first: a tie
        f"{b}/q#0/ab": "Verdict: [[B]]", f"{b}/q#0/ba": "Verdict: [[A]]",  # a both times: a loss
    }  # fmt: skip
    judged = judge(run, tmp_path / "judged", "pairwise", {"j": says}, reference="a")
    summary = poise.summarize([run, judged])
    got = values(summary, "b")
    # two conversations: p = (win, tie), q = (loss, failed and so lost)
    assert got["judge.preference"] == pytest.approx((0.75 + 0) / 2) == got["quality"]
    assert (got["judge.win"], got["judge.tie"], got["judge.loss"]) == (0.25, 0.25, 0.5)
    assert values(summary, "a")["quality"] == 0.5  # the reference against itself
    judging = next(c for c in summary.cells if c.model == "j")
    assert judging.estimates["swapped"].value == pytest.approx(1 / 3)
    bias = next(c for c in judging.checks if c.code == "position_bias")
    assert bias.evidence.startswith("1 of 3 pairs") and "1 for whichever was shown first" in bias.evidence


def test_half_a_swap_is_no_verdict(run: Run, tmp_path: Path) -> None:
    b = folder(run, "b")
    judged = judge(run, tmp_path / "j", "pairwise", {"j": {f"{b}/p#0/ba": "who knows", "*": "[[tie]]"}}, reference="a")
    cell = next(c for c in poise.summarize([run, judged]).cells if c.model == "b")
    unscorable = next(c for c in cell.checks if c.code == "unscorable")
    assert unscorable.evidence.startswith("1 of 4") and cell.estimates["judge.preference"].value == pytest.approx(0.375)


def test_judges_vote_and_agree(run: Run, tmp_path: Path) -> None:
    b = folder(run, "b")

    def says(**verdicts: str) -> dict[str, str]:
        orders = {"win": ("A", "B"), "loss": ("B", "A"), "tie": ("tie", "tie")}
        return {
            f"{b}/{turn[0]}#{turn[1]}/{order}": f"Verdict: [[{orders[v][i]}]]"
            for turn, v in verdicts.items()
            for i, order in enumerate(("ab", "ba"))
        }

    judges = {
        "j": says(p0="win", p1="win", q0="tie"),
        "k": says(p0="win", p1="loss", q0="tie"),
        "l": says(p0="loss", p1="tie", q0="tie"),
    }
    labels = tmp_path / "people.jsonl"
    rows = [("p", 1, "win"), ("p", 2, "win"), ("q", 1, "tie")]
    labels.write_text(
        "".join(json.dumps({"sample": s, "model": "b", "turn": t, "preference": v}) + "\n" for s, t, v in rows)
    )
    judged = judge(run, tmp_path / "judged", "pairwise", judges, [str(labels)], reference="a")
    summary = poise.summarize([run, judged])
    # p: win (2 of 3), no majority = tie; q: tie, and the failed turn is a loss
    assert values(summary, "b")["judge.preference"] == pytest.approx((0.75 + 0.25) / 2)
    cells = {c.model: c.estimates for c in summary.cells if c.task == "judge-open"}
    assert cells["j"]["kappa.human"].value == 1 and cells["j"]["kappa.human"].n == 3
    # k against people: 2 of 3 alike; margins (loss 1, tie 1, win 1) and (0, 1, 2): pe = 1/3
    assert cells["k"]["kappa.human"].value == pytest.approx((2 / 3 - 1 / 3) / (1 - 1 / 3))
    assert cells["j"]["kappa.k"].value == cells["k"]["kappa.j"].value == pytest.approx((2 / 3 - 1 / 3) / (1 - 1 / 3))
    assert "κ with people 1.00" in summary.verdict.text


def test_majority() -> None:
    assert majority([1, 1, 0]) == 1 and majority([1, 0]) == 0.5 == majority([1, 0.5, 0])
    assert majority([0]) == 0 and majority([]) is None


def test_a_reference_from_a_file(run: Run, tmp_path: Path) -> None:
    answers = tmp_path / "gpt-4.jsonl"
    answers.write_text('{"question_id": "p", "choices": [{"turns": ["Theirs.", "Theirs too."]}]}\n')
    judged = judge(run, tmp_path / "judged", "pairwise", {"j": {"*": "Verdict: [[tie]]"}}, [str(answers)])
    asked = {r.id: r.messages[-1].content for r in judged.cells()[0].requests() if r.messages}
    assert len(asked) == 2 * 2 * 2  # two systems, the two turns of p, both orders
    assert "<<<answer B 2>>>\nTheirs too." in asked[f"{folder(run, 'a')}/p#1/ab"]
    summary = poise.summarize([run, judged])
    assert values(summary, "a")["judge.tie"] == 1 and "against gpt-4" in summary.cells[0].signature
    [doubt] = [c for c in summary.cells[0].checks if c.code == "not_judged"]
    assert doubt.evidence.startswith("2 of 4 answers were not judged") and "a reference" in doubt.action


def test_labels_may_come_later(run: Run, tmp_path: Path) -> None:
    judges = {"j": {"*": "Rating: [[6]]", f"{folder(run, 'a')}/p#0": "Rating: [[9]]"}}
    judge(run, tmp_path / "judged", "rubric", judges)
    labels = tmp_path / "people.jsonl"
    rows = [{"sample": "p", "model": "a", "turn": 1, "rating": 9}, {"sample": "q", "model": "a", "rating": 6}]
    labels.write_text("".join(json.dumps(r) + "\n" for r in rows))
    judged = judge(run, tmp_path / "judged", "rubric", judges, [str(labels)])
    assert len([s for s in judged.cells()[0].segments() if s.event == "start"]) == 1  # no judge was asked again
    estimates = poise.summarize(judged).cells[0].estimates
    assert estimates["kappa.human"].value == 1 == estimates["kappa_quadratic.human"].value
    assert estimates["kappa.human"].n == 3


def test_published_judgments_are_read_from_the_reference_s_side(run: Run, tmp_path: Path) -> None:
    labels = tmp_path / "people.jsonl"
    rows = [
        {"model_a": "a", "model_b": "b", "winner": "model_b", "turn": 1},  # b won
        {"model_a": "b", "model_b": "a", "winner": "model_a", "turn": 1},  # again
        {"model_a": "a", "model_b": "b", "winner": "model_a", "turn": 1},  # outvoted
        {"model_a": "b", "model_b": "a", "winner": "tie (inconsistent)", "turn": 2},
        {"model_a": "x", "model_b": "b", "winner": "model_a", "turn": 2},  # not against the reference
    ]
    labels.write_text("".join(json.dumps({"question_id": "p", **r}) + "\n" for r in rows))
    judged = judge(run, tmp_path / "judged", "pairwise", {"j": {"*": "[[tie]]"}}, [str(labels)], reference="a")
    targets = {name.removeprefix(folder(run, "b")): s.target for name, s in judged.cells()[0].targets().items()}
    assert targets == {
        "/p#0/ab": "win", "/p#0/ba": "win", "/p#1/ab": "tie", "/p#1/ba": "tie", "/q#0/ab": None, "/q#0/ba": None
    }  # fmt: skip


def test_a_judge_that_fails_takes_no_mark_away(run: Run, tmp_path: Path) -> None:
    study = {
        "models": [{"name": "j", "source": {"api": "j"}}],
        "deployments": [{"backend": "scripted", "options": {"fail": {f"{folder(run, 'a')}/p#0": "http"}}}],
        "tasks": [{"task": "judge-rubric", "data": str(run.path)}],
    }
    summary = poise.summarize([run, poise.run(study, tmp_path / "judged", quiet=True)])
    checks = {(cell.model, c.code): c.evidence for cell in summary.cells for c in cell.checks}
    assert "(first: the request to the judge failed)" in checks["a", "unscorable"]
    assert "what they were to judge has no verdict" in checks["j", "failed_requests"]
    assert checks["j", "unreadable_verdicts"].startswith("6 of 7")
    assert not any(code == "none_found" for _, code in checks)


def test_a_judge_without_any_verdict_is_no_matter_of_length(run: Run, tmp_path: Path) -> None:
    """It leaves the judged answers without a mark, and longer answers of it would not help."""
    mute = judge(run, tmp_path / "mute", "rubric", {"j": {"*": "The answer is: " * 2000}})
    vague = judge(run, tmp_path / "vague", "rubric", {"j": {"*": "hm " * 2000, f"{folder(run, 'a')}/p#0": "[[7]]"}})
    for judged, advice in ((mute, "a stronger judge"), (vague, "raise --max-tokens")):
        summary = poise.summarize([run, judged])
        checks = {(cell.model, c.code): c for cell in summary.cells for c in cell.checks}
        assert advice in checks["j", "unreadable_verdicts"].action
        assert (values(summary, "a").get("judge.rating") is None) == (judged is mute)


def test_judges_are_not_doubted_for_what_lies_in_their_nature(run: Run, tmp_path: Path) -> None:
    """Equal answers make equal prompts; two runs of judges were asked different things; items count, not requests."""
    rubric = judge(run, tmp_path / "rated", "rubric", {"j": {"*": "Rating: [[6]]"}})
    pairs = judge(run, tmp_path / "compared", "pairwise", {"j": {"*": "Verdict: [[tie]]"}}, reference="a")
    summary = poise.summarize([run, rubric, pairs])
    for cell in summary.cells:
        said = {c.code: c for c in cell.checks}
        assert not {"prefix_cache", "incomparable", "different_questions"} & said.keys()
        if cell.model == "j":
            assert said["few_items"].evidence == "answers to only 2 items were judged: intervals are wide"
            assert said["few_items"].action == "judge the answers to at least 30 (--limit)"
    alone = poise.summarize([rubric, pairs])  # in one column stand ratings and preferences
    assert all("incomparable" in {c.code for c in cell.checks} for cell in alone.cells)


def test_systems_are_marked_alike(tmp_path: Path) -> None:
    """A judge that spoke of one system only marks all; one that said nothing leaves all with the marks they had."""
    study = {
        "models": [{"name": n, "source": {"api": n}} for n in "ab"],
        "deployments": [{"backend": "scripted", "options": {"answers": {"*": "Bob"}}}],
        "tasks": [{"task": "mini-chat", "limit": 4}],
    }
    run = poise.run(study, tmp_path / "run", quiet=True)
    b = folder(run, "b")

    def judged(out: str, says: dict[str, dict[str, str]], *, mode: str = "rubric", **options: Any) -> Summary:
        study = {
            "models": [{"name": n, "source": {"api": n}} for n in says],
            "deployments": [{"name": n, "backend": "scripted", "options": {"answers": a}} for n, a in says.items()],
            "tasks": [{"task": f"judge-{mode}", "data": str(run.path), "options": options}],
            "include": [{"model": n, "deployment": n} for n in says],
        }
        return poise.summarize([run, poise.run(study, tmp_path / out, quiet=True)])

    name = next(iter(run.cells()[0].requests())).parts[0]
    one = judged("one", {"j": {f"{b}/{name}": "Rating: [[4]]", "*": "hm"}, "mute": {"*": "hm"}})
    assert [c.primary for c in one.cells[:2]] == ["judge.rating"] * 2
    assert values(one, "a")["quality"] is None and values(one, "b")["judge.rating"] == 4
    assert "judge.rating by j v" in one.cells[1].signature  # the one who said nothing marked nothing
    none = judged("none", {"j": {"*": "hm"}}, mode="pairwise", reference="a")
    assert [c.primary for c in none.cells[:2]] == ["exact_match"] * 2
    assert values(none, "a")["quality"] == values(none, "b")["quality"]


def test_an_answer_that_changed_has_no_mark(run: Run, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    judged = judge(open_run(copy), tmp_path / "judged", "rubric", {"j": {"*": "Rating: [[6]]"}})
    records = copy / "cells" / folder(run, "a") / "records.jsonl"
    records.write_text(records.read_text().replace('"Answer"', '"Another"'))
    cell = poise.summarize([copy, judged]).cells[0]
    assert cell.estimates["judge.rating"].value is None
    [doubt] = [c for c in cell.checks if c.code == "unscorable"]
    assert "4 of 4" in doubt.evidence and "another one than was judged" in doubt.evidence
    assert doubt.action == "judge it anew, into a new folder"
    with pytest.raises(UsageError, match="another folder"):  # and the judge's folder is not mixed up with the new ones
        judge(open_run(copy), tmp_path / "judged", "rubric", {"j": {"*": "Rating: [[6]]"}})


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        (None, {}, "pairwise needs a reference: one of a, b"),
        (None, {"reference": "c"}, "no model 'c' to compare with"),
        (None, {"reference": "a", "task": "opened"}, "did you mean 'open'"),
        ('{"sample": "p", "model": "a", "preference": "better"}', {}, "none of win, tie, loss"),
        ('{"sample": "p", "preference": "win"}', {}, "needs the model"),
        ('{"model": "a", "preference": "win"}', {}, "neither sample"),
        ('{"sample": "p", "words": 1}', {}, "no answer in choices"),
        ('{"sample": "p", "model": "a", "rating": 11}', {}, "no number from 1 to 10"),
        ('{"sample": "p", "winner": "model_a"}', {}, "needs model_a and model_b"),
    ],
)
def test_what_is_wrong_is_said(run: Run, tmp_path: Path, lines: str | None, options: Any, said: str) -> None:
    data = []
    if lines:
        (tmp_path / "x.jsonl").write_text(lines + "\n")
        data = [str(tmp_path / "x.jsonl")]
    with pytest.raises(UsageError, match=said):
        judge(run, tmp_path / "judged", "pairwise", {"j": {}}, data, **options)
    assert not (tmp_path / "judged").exists()


def test_what_is_judged_by_default(run: Run) -> None:
    assert tasks_to_judge(run) == ["open"]
