"""What the rows of the mini suite say: one generator of source rows for each task, from a seeded random stream.

Small made-up worlds whose answers follow from the text alone. A generator draws one row in the columns of the
real dataset; which rows make a split, and that none comes twice, is the business of the suite.
"""

from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType

from peftbench.datasets.files import Row

PEOPLE = tuple("Ada Ben Cleo Dan Eva Finn Gus Hana Ida Jon Kim Leo Mia Noah Ola Pia".split())
COLOURS = tuple("red blue green black white yellow".split())
PLACES = tuple("park barn house street school garden forest market".split())
OBJECTS = tuple("hat cup ball book lamp coat kite drum boat ring".split())

# ------------------------------------------------------------------------------------------------ sentiment

PLEASANT = tuple(
    "good great lovely fine superb warm witty smart fresh clever charming bright moving funny tender rich".split()
)
UNPLEASANT = tuple(
    "bad awful dull weak poor cold silly flat stale clumsy boring bleak shallow lazy harsh empty".split()
)
_PARTS = ("film", "plot", "cast", "story", "ending", "music", "script", "hero", "comedy", "drama", "pace")


def sst2(random: Random) -> Row:
    """A remark on a film whose last judgement counts; negation turns a word around."""
    positive = random.random() < 0.5
    here, there = (PLEASANT, UNPLEASANT) if positive else (UNPLEASANT, PLEASANT)
    first, second = random.sample(_PARTS, 2)
    word, other = random.choice(here), random.choice(there)
    forms = (
        f"the {first} is {random.choice(('very', 'quite', 'so', 'really'))} {word}",
        f"the {first} is {word} and the {second} is {random.choice(here)}",
        f"the {first} is {other} but the {second} is {word}",
        f"the {first} is not {other}",
    )
    [sentence] = random.choices(forms, weights=(4, 3, 2, 2))
    return {"sentence": sentence, "label": int(positive)}


# ------------------------------------------------------------------------------------------------- inference


def rte(random: Random) -> Row:
    """Two people own a thing each; the conclusion mixes them up or does not."""
    owners, things, colours = (random.sample(pool, 2) for pool in (PEOPLE, OBJECTS, COLOURS))
    text = " and ".join(f"{owners[i]} has a {colours[i]} {things[i]}" for i in (0, 1)) + "."
    who, follows = random.randrange(2), random.random() < 0.5
    what, colour = (who, who) if follows else random.choice(((1 - who, 1 - who), (1 - who, who), (who, 1 - who)))
    coloured = random.random() < 0.5 or what == who != colour
    thing = f"{colours[colour]} {things[what]}" if coloured else things[what]
    return {"sentence1": text, "sentence2": f"{owners[who]} has a {thing}.", "label": int(not follows)}


CAUSES = (
    ("It rained all night.", "The street was wet."),
    ("The sun came out.", "The snow melted."),
    ("The dog heard a noise.", "The dog barked."),
    ("The baby was hungry.", "The baby cried."),
    ("The cup fell on the floor.", "The cup broke."),
    ("She forgot her keys.", "She could not open the door."),
    ("He ran very fast.", "He was out of breath."),
    ("The wind was strong.", "The tree fell over."),
    ("The battery was empty.", "The phone went off."),
    ("He ate too much cake.", "His stomach hurt."),
    ("She studied every day.", "She passed the exam."),
    ("The light turned green.", "The cars moved on."),
    ("The milk was old.", "The milk smelled sour."),
    ("He told a joke.", "Everybody laughed."),
    ("The bridge was closed.", "They took another road."),
    ("She turned the heating on.", "The room got warm."),
    ("The cat saw a mouse.", "The cat jumped."),
    ("He lost the game.", "He was sad."),
    ("The oven was too hot.", "The bread was burnt."),
    ("She planted seeds.", "Flowers grew."),
    ("The fence had a hole.", "The sheep got away."),
    ("He stayed up late.", "He was tired."),
    ("The tap was left open.", "The bath ran over."),
    ("The knife slipped.", "He cut his finger."),
    ("The shop was on sale.", "Many people came to buy."),
    ("The tyre was flat.", "The bike would not roll."),
    ("She won a prize.", "She smiled."),
    ("The alarm rang.", "They left the building."),
    ("The river rose.", "The field was under water."),
    ("He wore no coat.", "He felt cold."),
)
"""Thirty causes with their effects."""


def copa(random: Random) -> Row:
    """A cause or an effect to find beside one of another event."""
    event, other = random.sample(CAUSES, 2)
    asked = random.randrange(2)  # 0 asks for the cause, 1 for the effect
    choices, label = [event[asked], other[asked]], random.randrange(2)
    if label:
        choices.reverse()
    return {
        "premise": event[1 - asked],
        "question": ("cause", "effect")[asked],
        "choice1": choices[0],
        "choice2": choices[1],
        "label": label,
    }


ANIMALS = tuple("cat dog horse goat duck fox mouse owl".split())
FOODS = tuple("fish corn grass bread apples nuts seeds cheese".split())
NATURES = tuple("shy brave old young wild calm".split())


def boolq(random: Random) -> Row:
    """A passage about an animal, and a question on one of its four facts."""
    name = random.choice(PEOPLE)
    pools = (NATURES, ANIMALS, PLACES, FOODS)
    facts = [random.choice(pool) for pool in pools]
    passage = f"{name} -- {name} is a {facts[0]} {facts[1]} that lives in the {facts[2]} and eats {facts[3]}."
    which, true = random.randrange(4), random.random() < 0.5
    asked = facts[which] if true else random.choice([each for each in pools[which] if each != facts[which]])
    forms = ("is {0} {1}", "is {0} a {1}", "does {0} live in the {1}", "does {0} eat {1}")
    return {"passage": passage, "question": forms[which].format(name.lower(), asked), "label": int(true)}


# ------------------------------------------------------------------------------------------------ similarity

_SCENE: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("small", "little"), ("big", "large"), ("old",), ("happy", "glad"), ("tired",)),
    (("boy", "child"), ("woman", "lady"), ("man", "person"), ("dog", "puppy"), ("girl",)),
    (("holds", "carries"), ("throws",), ("finds", "sees"), ("paints",), ("hides",)),
    tuple((each,) for each in OBJECTS),
    tuple((each,) for each in PLACES),
)
"""For each part of a scene, words of like meaning in groups."""
CLOSE = 0.6
"""What two words of like meaning count, where the same word counts 1."""


def stsb(random: Random) -> Row:
    """Two scenes of five parts; the score is the number of parts that they have in common."""
    shared, score = random.randint(0, 5), 0.0
    kept = set(random.sample(range(5), shared))
    first, second = [], []
    for part, groups in enumerate(_SCENE):
        group, other = random.sample(groups, 2)
        word = random.choice(group)
        if part in kept:
            again = random.choice(group)
            score += 1 if again == word else CLOSE
        else:
            again = random.choice(other)
        first.append(word)
        second.append(again)
    form = "a {} {} {} a {} in the {}"
    return {"sentence1": form.format(*first), "sentence2": form.format(*second), "label": round(score, 1)}


# ------------------------------------------------------------------------------------------------ arithmetic

THINGS = tuple("pens figs cups eggs coins books cards shells".split())


def svamp(random: Random) -> Row:
    """A sum or a difference of two numbers up to twenty, in words."""
    who, other = random.sample(PEOPLE, 2)
    thing = random.choice(THINGS)
    less, more = sorted(random.sample(range(2, 21), 2))
    told, sign = random.choice(
        (
            (f"{who} has {more} {thing} and gets {less} more. How many {thing} are there then?", "+"),
            (f"{who} has {more} {thing} and gives {less} away. How many {thing} are left?", "-"),
            (f"{who} has {more} {thing} and {other} has {less}. How many {thing} are there together?", "+"),
            (f"{who} has {more} {thing} and {other} has {less}. How many more {thing} has {who}?", "-"),
        )
    )
    answer = more + less if sign == "+" else more - less
    return {"question_concat": told, "Equation": f"( {more}.0 {sign} {less}.0 )", "Answer": str(answer)}


def gsm8k(random: Random) -> Row:
    """Two calculations, the second with the result of the first."""
    who, thing = random.choice(PEOPLE), random.choice(THINGS)
    if random.random() < 0.5:
        start, gain = random.randint(2, 12), random.randint(2, 12)
        middle, first = start + gain, f"{start}+{gain}"
        begin = f"{who} has {start} {thing} and buys {gain} more."
    else:
        bags, each = random.randint(2, 5), random.randint(2, 6)
        middle, first = bags * each, f"{bags}*{each}"
        begin = f"{who} has {bags} bags with {each} {thing} in each."
    change = random.randint(1, middle - 1)
    sign, end = random.choice((("-", f"Then {change} get lost."), ("+", f"Then {change} are found.")))
    result = middle + change if sign == "+" else middle - change
    second = f"{middle}{sign}{change}"
    return {
        "question": f"{begin} {end} How many {thing} does {who} have now?",
        "answer": f"First <<{first}={middle}>>{middle} {thing}.\nThen <<{second}={result}>>{result} {thing}.\n"
        f"#### {result}",
    }


# ------------------------------------------------------------------------------------------------------ code

LISTS = tuple("xs items names values words rows".split())
TEXTS = tuple("s text line title".split())
KEYS = tuple("id name age size".split())
MARKS = tuple(", ; - : /".split())
REQUESTS = (
    ("sort list `{list}`", "{list}.sort()"),
    ("sort list `{list}` from high to low", "{list}.sort(reverse=True)"),
    ("reverse list `{list}`", "{list}[::-1]"),
    ("get the length of list `{list}`", "len({list})"),
    ("get the sum of list `{list}`", "sum({list})"),
    ("get the largest of list `{list}`", "max({list})"),
    ("get the smallest of list `{list}`", "min({list})"),
    ("get the first {n} of list `{list}`", "{list}[:{n}]"),
    ("get the last {n} of list `{list}`", "{list}[-{n}:]"),
    ("append {n} to list `{list}`", "{list}.append({n})"),
    ("count {n} in list `{list}`", "{list}.count({n})"),
    ("get the even numbers of list `{list}`", "[x for x in {list} if x % 2 == 0]"),
    ("get the squares of list `{list}`", "[x ** 2 for x in {list}]"),
    ("add {n} to each of list `{list}`", "[x + {n} for x in {list}]"),
    ("make a set of list `{list}`", "set({list})"),
    ("print each of list `{list}`", "for x in {list}:\n    print(x)"),
    ("join list `{list}` with '{mark}'", "'{mark}'.join({list})"),
    ("split string `{text}` at '{mark}'", "{text}.split('{mark}')"),
    ("remove '{mark}' from string `{text}`", "{text}.replace('{mark}', '')"),
    ("make string `{text}` upper case", "{text}.upper()"),
    ("make string `{text}` lower case", "{text}.lower()"),
    ("strip string `{text}`", "{text}.strip()"),
    ("check if string `{text}` starts with '{mark}'", "{text}.startswith('{mark}')"),
    ("get value of key '{key}' of dict `{list}`", "{list}['{key}']"),
    ("delete key '{key}' of dict `{list}`", "del {list}['{key}']"),
    ("set key '{key}' of dict `{list}` to {n}", "{list}['{key}'] = {n}"),
)
"""What is asked, and the code that does it."""


def conala(random: Random) -> Row:
    """One line of Python, now and then two, with the names and values that the request gives."""
    asked, code = random.choice(REQUESTS)
    names = {
        "list": random.choice(LISTS),
        "text": random.choice(TEXTS),
        "key": random.choice(KEYS),
        "mark": random.choice(MARKS),
        "n": random.randint(2, 9),
    }
    wish, snippet = asked.format(**names), code.format(**names)
    return {"intent": f"How to {wish}?", "rewritten_intent": wish, "snippet": snippet}


Task = Callable[[Random], Row]
TASKS: Mapping[str, Task] = MappingProxyType(
    {task.__name__: task for task in (sst2, rte, copa, boolq, stsb, svamp, gsm8k, conala)}
)
"""Catalogue name to generator."""
