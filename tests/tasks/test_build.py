import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.tasks.build import check_options, expand_group, get_task, target_sha
from poise.tasks.build import draw as places
from poise.types import Sample, UsageError


def draw(samples, limit, balance, seed):
    return [samples[place] for place in places(samples, limit, balance, seed)]


def items(*labels):
    return [Sample(str(i), {"label": label}, label) for i, label in enumerate(labels)]


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 9))
def test_a_larger_limit_only_adds(a, b, seed):
    samples = items(*"abc" * 20)
    small, large = sorted((a, b))
    assert draw(samples, large, None, seed)[:small] == draw(samples, small, None, seed)


def test_draw_does_not_depend_on_order_or_on_other_items():
    samples = items(*"ab" * 30)
    assert draw(samples[::-1], 10, None, 0) == draw(samples, 10, None, 0) != draw(samples, 10, None, 1)
    assert [s for s in draw(samples, None, None, 0) if s in samples[:20]] == draw(samples[:20], None, None, 0)


def test_balanced():
    samples = items(*"aaaaaabb")
    assert sorted(s.target for s in draw(samples, 4, "label", 0)) == list("aabb")
    assert sorted(s.target for s in draw(samples, None, "label", 0)) == list("aabb")
    assert draw(samples, 4, "label", 0)[:2] == draw(samples, 2, "label", 0)
    with pytest.raises(
        UsageError, match=r"3 items of each 'label' are wanted, but there are a: 6, b: 2; the largest .* 4"
    ):
        draw(samples, 6, "label", 0)
    with pytest.raises(UsageError, match=r"limit 3 cannot be shared equally .* use 2 or 4"):
        draw(samples, 3, "label", 0)
    with pytest.raises(UsageError, match=r"cannot balance by 'lable'.*did you mean 'label'"):
        draw(samples, 2, "lable", 0)


def test_balance_by_category():
    samples = [Sample(str(i), {}, "x", category=c) for i, c in enumerate(["topic=a", "topic=b"] * 3)]
    assert len(draw(samples, 4, "topic", 0)) == len(draw(samples, 4, "category", 0)) == 4


def test_duplicates_and_nothing():
    with pytest.raises(UsageError, match="two items have the id '0'"):
        draw([Sample("0", {}), Sample("0", {})], None, None, 0)
    with pytest.raises(UsageError, match="no items"):
        draw([], None, None, 0)


def test_target_sha_sees_targets_only():
    a = [Sample("1", {"x": 1}, ["p", "q"]), Sample("2", {}, "r")]
    assert target_sha(a) == target_sha(a[::-1]) == target_sha([Sample("1", {"x": 2}, ["p", "q"]), a[1]])
    assert target_sha(a) != target_sha([Sample("1", {}, ["q", "p"]), a[1]])


def test_names_groups_and_options():
    assert get_task("sst2").name == "sst2"
    assert "mini-qa" in expand_group("mini") and expand_group("sst2") == ["sst2"]
    with pytest.raises(UsageError, match="did you mean 'sst2'"):
        get_task("sst22")
    check_options(get_task("synthetic"), {"n": 3})
    with pytest.raises(UsageError, match="did you mean 'prompt_tokens'"):
        check_options(get_task("synthetic"), {"prompt_token": 3})
    with pytest.raises(UsageError, match="it has none"):
        check_options(get_task("sst2"), {"x": 3})


def test_code_needs_permission(tmp_path):
    (tmp_path / "mine.py").write_text("class Mine:\n    name = 'mine'\n")
    with pytest.raises(UsageError, match="--allow-code"):
        get_task(f"{tmp_path}/mine.py:Mine")
    assert get_task(f"{tmp_path}/mine.py:Mine", allow_code=True).name == "mine"
