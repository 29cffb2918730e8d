"""Reading comprehension: SQuAD's nested JSON (1.1, 2.0, XQuAD, MLQA), CMRC 2018's own, rows of a question each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from poise.tasks.data import Row, files_of, need, read_json, read_rows
from poise.types import Sample, UsageError


class Squad:
    """Questions about a passage (SQuAD 1.1 and 2.0, XQuAD, MLQA, CMRC 2018), official exact match and F1.

    A question without an answer has the target "" and wants "unanswerable".
    """

    name, version = "squad", 2
    instruction = "Answer the question with a few words copied from the passage."
    answer_prefix = "Answer:"
    extract = "span"
    metrics = ("f1", "exact_match.squad")
    chance, n_ref, max_tokens = 0.0, 4.0, 32
    options: tuple[str, ...] = ()

    def samples(self, data: Any, options: dict[str, Any]) -> Iterator[Sample]:
        for path, articles in _files(need(data, self.name, "dev-v1.1.json")):
            questions = list(_questions(articles, path))
            seen = Counter[str]()
            some_without = any(not q.target[0] for q in questions)
            for sample in questions:
                seen[sample.id] += 1  # some files ask a question twice
                number = f"#{seen[sample.id]}" if seen[sample.id] > 1 else ""
                yield _final(sample, f"{sample.id}{number}", some_without)

    def question(self, sample: Sample) -> str:
        rule = '\nIf the passage does not say it, write "unanswerable".' if sample.fields.get("may_lack_answer") else ""
        return f"Passage: {sample.fields['context']}\n\nQuestion: {sample.fields['question']}{rule}"

    def answer(self, sample: Sample) -> str:
        return sample.target[0] or "unanswerable"


def _files(source: str) -> Iterator[tuple[str, Iterable[Any]]]:
    """The articles of each file, as SQuAD has them."""
    if source.startswith("hub:") or source.lower().endswith((".jsonl", ".jsonl.gz")):
        yield source, map(_of_row, read_rows(source, ("id", "context", "question", "answers")))
        return
    for path in files_of(source, (".json",)):
        documents = read_json(path)
        root = documents[0] if len(documents) == 1 else None
        if isinstance(root, list) and all(isinstance(part, dict) and "context_text" in part for part in root):
            yield str(path), map(_of_cmrc, root)
            continue
        if not isinstance(root, dict) or not isinstance(root.get("data"), list):
            raise UsageError(f'{path}: not SQuAD\'s format, which is one object with a list "data" of articles')
        yield str(path), root["data"]


def _of_row(row: Row) -> Row:
    """A row of one question, as the hub has SQuAD: without answers it cannot be answered."""
    found = row["answers"]
    texts = list(found.get("text") or ()) if isinstance(found, dict) else [a["text"] for a in found or ()]
    asked = {**row, "answers": [{"text": text} for text in texts], "is_impossible": not texts}
    return {"title": row.get("title", row["id"]), "paragraphs": [{"context": row["context"], "qas": [asked]}]}


def _of_cmrc(part: Row) -> Row:
    """A passage of CMRC 2018's own files (Cui et al. 2019), whose answers are texts."""
    asked = [
        {
            "id": q.get("query_id"),
            "question": q.get("query_text"),
            "answers": [{"text": a} for a in q.get("answers", ())],
        }
        for q in part.get("qas", ())
    ]
    return {"title": part.get("title", ""), "paragraphs": [{"context": part["context_text"], "qas": asked}]}


def _questions(articles: Iterable[Any], path: str) -> Iterator[Sample]:
    try:
        for number, article in enumerate(articles):
            title = str(article.get("title", number))
            for paragraph in article["paragraphs"]:
                for qa in paragraph["qas"]:
                    answers = list(dict.fromkeys(str(a["text"]) for a in qa.get("answers") or ()))
                    if not answers and not qa.get("is_impossible"):
                        raise UsageError(f"{path}, question {qa['id']!r}: no answers; this file has no targets")
                    yield Sample(
                        id=str(qa["id"]),
                        fields={"context": str(paragraph["context"]).strip(), "question": str(qa["question"]).strip()},
                        target=[""] if qa.get("is_impossible") else answers,
                        cluster=title,
                    )
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not SQuAD's format ({type(error).__name__}: {error})") from None


def _final(sample: Sample, sample_id: str, some_without: bool) -> Sample:
    fields = {**sample.fields, "may_lack_answer": True} if some_without else sample.fields
    category = ("answer=no" if sample.target == [""] else "answer=yes") if some_without else None
    return Sample(sample_id, fields, sample.target, category=category, cluster=sample.cluster)
