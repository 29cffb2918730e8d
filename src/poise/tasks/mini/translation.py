"""Generates Chinese sentences with their English translation from a closed grammar.

The order of the parts, tense (from the time word), number, measure words, relative clauses, the passive and
comparisons all differ between the two languages, so word-for-word output is not enough.
"""

from random import Random
from typing import NamedTuple

from poise.tasks.mini._items import Grammar, Item


class Noun(NamedTuple):
    """A countable thing with its measure word."""

    zh: str
    measure: str
    en: str
    plural: str


class Verb(NamedTuple):
    """A transitive verb; the third person adds -s to `en`."""

    zh: str
    en: str
    past: str
    participle: str


class Subject(NamedTuple):
    """A subject, its person and number, and how it reads after "by"."""

    zh: str
    en: str
    third: bool
    oblique: str


class When(NamedTuple):
    """A time word; tense is past, present or future."""

    zh: str
    en: str
    tense: str


NOUNS = tuple(
    Noun(*row.split("/"))
    for row in (
        "书/本/book/books 书包/个/bag/bags 车票/张/ticket/tickets 汽车/辆/car/cars 火车/列/train/trains "
        "马车/辆/cart/carts 马/匹/horse/horses 猫/只/cat/cats 鱼/条/fish/fish 花/朵/flower/flowers "
        "花瓶/个/vase/vases 画/幅/painting/paintings 刀/把/knife/knives 房子/座/house/houses 房间/个/room/rooms "
        "毛笔/支/brush/brushes 铅笔/支/pencil/pencils 船/条/boat/boats 信/封/letter/letters 椅子/把/chair/chairs"
    ).split()
)
VERBS = tuple(
    Verb(*row.split("/"))
    for row in (
        "买/buy/bought/bought 卖/sell/sold/sold 看见/see/saw/seen 找到/find/found/found 拿/take/took/taken "
        "喜欢/like/liked/liked 忘/forget/forgot/forgotten 用/use/used/used 要/want/wanted/wanted 丢/lose/lost/lost"
    ).split()
)
SUBJECTS = (
    Subject("我", "I", False, "me"),
    Subject("他", "he", True, "him"),
    Subject("她", "she", True, "her"),
    Subject("我们", "we", False, "us"),
    Subject("他们", "they", False, "them"),
    Subject("老师", "the teacher", True, "the teacher"),
    Subject("学生", "the student", True, "the student"),
    Subject("医生", "the doctor", True, "the doctor"),
    Subject("孩子", "the child", True, "the child"),
    Subject("孩子们", "the children", False, "the children"),
)
ADJECTIVES = tuple(
    row.split("/")
    for row in (
        "红/red/redder 新/new/newer 旧/old/older 大/big/bigger 小/small/smaller 贵/dear/dearer "
        "好看/pretty/prettier 白/white/whiter 黑/black/blacker 长/long/longer"
    ).split()
)
TIMES = (
    When("昨天", "yesterday", "past"),
    When("去年", "last year", "past"),
    When("昨天晚上", "last night", "past"),
    When("明天", "tomorrow", "future"),
    When("明年", "next year", "future"),
    When("每天", "every day", "present"),
    When("每年", "every year", "present"),
)
PLACES = tuple(
    row.split("/")
    for row in (
        "学校/at school,家/at home,北京/in Beijing,商店/in the shop,公园/in the park,海边/by the sea,车上/on the bus"
    ).split(",")
)
NUMBERS = tuple(row.split("/") for row in "一/a 两/two 三/three 四/four 五/five 六/six 十/ten".split())


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _quantity(rng: Random, adjective: bool) -> tuple[str, str]:
    """A number, a measure word, perhaps an adjective, and a noun: 三本红书, three red books."""
    noun = rng.choice(NOUNS)
    zh, en = rng.choice(NUMBERS)
    word = noun.en if en == "a" else noun.plural
    if not adjective:
        return zh + noun.measure + noun.zh, _article(f"{en} {word}")
    a_zh, a_en, _ = rng.choice(ADJECTIVES)
    return zh + noun.measure + a_zh + noun.zh, _article(f"{en} {a_en} {word}")


def _article(phrase: str) -> str:
    return "an" + phrase[1:] if phrase.startswith(("a a", "a e", "a i", "a o", "a u")) else phrase


def _predicate(verb: Verb, subject: Subject, tense: str) -> str:
    if tense == "past":
        return verb.past
    if tense == "future":
        return f"will {verb.en}"
    return verb.en + "s" if subject.third else verb.en


def _mark(verb: Verb, tense: str) -> str:
    """The Chinese verb with its aspect or modal word."""
    return {"past": f"{verb.zh}了", "future": f"会{verb.zh}", "present": verb.zh}[tense]


def _place_and_time(rng: Random) -> Item:
    subject, verb, when = rng.choice(SUBJECTS), rng.choice(VERBS), rng.choice(TIMES)
    zh, en = _quantity(rng, rng.random() < 0.7)
    place_zh, place_en = rng.choice(PLACES)
    modal = "会" if when.tense == "future" else ""
    done = "了" if when.tense == "past" else ""
    predicate = _predicate(verb, subject, when.tense)
    return Item(
        f"{subject.zh}{when.zh}{modal}在{place_zh}{verb.zh}{done}{zh}。",
        _capital(f"{subject.en} {predicate} {en} {place_en} {when.en}."),
    )


def _asked_or_denied(rng: Random) -> Item:
    subject, verb, when = rng.choice(SUBJECTS), rng.choice(VERBS), rng.choice(TIMES)
    zh, en = _quantity(rng, rng.random() < 0.5)
    present = "does" if subject.third else "do"
    auxiliary = {"past": "did", "future": "will", "present": present}[when.tense]
    if rng.random() < 0.5:
        return Item(
            f"{subject.zh}{when.zh}{_mark(verb, when.tense)}{zh}吗？",
            _capital(f"{auxiliary} {subject.en} {verb.en} {en} {when.en}?"),
        )
    no = {"past": "没", "future": "不会", "present": "不"}[when.tense]
    return Item(
        f"{subject.zh}{when.zh}{no}{verb.zh}{zh}。",
        _capital(f"{subject.en} {auxiliary} not {verb.en} {en} {when.en}."),
    )


def _described(rng: Random) -> tuple[str, str]:
    """A noun with a relative clause: 老师昨天买的书, the book that the teacher bought yesterday."""
    subject, verb, when, noun = rng.choice(SUBJECTS), rng.choice(VERBS), rng.choice(TIMES[:3]), rng.choice(NOUNS)
    return f"{subject.zh}{when.zh}{verb.zh}的{noun.zh}", f"the {noun.en} that {subject.en} {verb.past} {when.en}"


def _relative(rng: Random) -> Item:
    (zh, en), (a_zh, a_en, _) = _described(rng), rng.choice(ADJECTIVES)
    return Item(f"{zh}很{a_zh}。", _capital(f"{en} is very {a_en}."))


def _compared(rng: Random) -> Item:
    """Two relative clauses around a comparison."""
    (zh, en), (other_zh, other_en), (a_zh, _, more) = _described(rng), _described(rng), rng.choice(ADJECTIVES)
    much_zh, much_en = rng.choice((("", ""), ("得多", "much ")))
    return Item(f"{zh}比{other_zh}{a_zh}{much_zh}。", _capital(f"{en} is {much_en}{more} than {other_en}."))


def _possession(rng: Random) -> Item:
    """A chain of owners, which English turns round: 老师的猫的画, the painting of the cat of the teacher."""
    subject, (a_zh, a_en, _) = rng.choice(SUBJECTS[5:9]), rng.choice(ADJECTIVES)
    chain = rng.sample(NOUNS, rng.randrange(2, 5))
    zh = "的".join([subject.zh, *(noun.zh for noun in chain)])
    en = " of ".join([*(f"the {noun.en}" for noun in reversed(chain)), subject.en])
    return Item(f"{zh}很{a_zh}。", _capital(f"{en} is very {a_en}."))


DIGITS = "零一二三四五六七八九"


def _numeral(value: int) -> str:
    """A number below 100 million in Chinese characters, with 万 as the second unit: 35020 is 三万五千零二十."""
    high, low = divmod(value, 10_000)
    if high:
        gap = "零" if 0 < low < 1000 else ""
        # 十 keeps its 一 after 零 and in the middle of a number
        rest = _numeral(low).replace("十", "一十", 1) if 10 <= low < 20 else _numeral(low)
        return f"{_numeral(high)}万{gap}{rest}"
    text, gap = "", ""
    for unit, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = value // unit % 10
        if digit:
            text += gap + DIGITS[digit] + name
            gap = ""
        elif text:
            gap = "零"
    return text.removeprefix("一") if text.startswith("一十") else text


def _amount(rng: Random) -> Item:
    noun, (which_zh, which_en) = rng.choice(NOUNS), rng.choice((("这", "this"), ("那", "that")))
    when = rng.choice(TIMES[:5])
    digits, precision = rng.randrange(3, 7), rng.randrange(1, 4)
    value = rng.randrange(10**precision // 10, 10**precision) * 10 ** (digits - precision)
    if rng.random() < 0.5:
        value += rng.randrange(1, 100)
    cost = "will cost" if when.tense == "future" else "cost"
    modal = "会" if when.tense == "future" else ""
    return Item(
        f"{which_zh}{noun.measure}{noun.zh}{when.zh}{modal}要{_numeral(value)}块钱。",
        _capital(f"{which_en} {noun.en} {cost} {value} yuan {when.en}."),
    )


def _passive(rng: Random) -> Item:
    subject, verb, when = rng.choice(SUBJECTS), rng.choice(VERBS), rng.choice(TIMES[:3])
    noun, (a_zh, a_en, _) = rng.choice(NOUNS), rng.choice(ADJECTIVES)
    which_zh, which_en = rng.choice((("这", "this"), ("那", "that")))
    return Item(
        f"{which_zh}{noun.measure}{a_zh}{noun.zh}{when.zh}被{subject.zh}{verb.zh}了。",
        _capital(f"{which_en} {a_en} {noun.en} was {verb.participle} by {subject.oblique} {when.en}."),
    )


def _reason(rng: Random) -> Item:
    subject, verb = rng.choice(SUBJECTS), rng.choice(VERBS)
    noun, (a_zh, a_en, _) = rng.choice(NOUNS), rng.choice(ADJECTIVES)
    zh, en = _quantity(rng, False)
    return Item(
        f"因为那{noun.measure}{noun.zh}太{a_zh}，所以{subject.zh}{verb.zh}了{zh}。",
        _capital(f"{subject.en} {verb.past} {en} because that {noun.en} was too {a_en}."),
    )


TRANSLATION: Grammar = {
    "place-and-time": _place_and_time,
    "question-or-negation": _asked_or_denied,
    "relative-clause": _relative,
    "comparison": _compared,
    "passive": _passive,
    "reason": _reason,
    "amount": _amount,
    "possession": _possession,
}
