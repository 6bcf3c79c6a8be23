"""The text that `peftbench-tiny` is pre-trained on: instructions with answers, generated without end from a seed.

The skills that the mini suite needs, asked for in other words and answered in other forms, beside drills on
words, numbers and copying. No document is made of a row whose input stands in the mini suite, and none is phrased
as a catalogue entry phrases it; the thirty events of copa, of which all its rows are made, are told in full. All
text is made up here; of the catalogue only the instructions appear, as plain text.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from peftbench.datasets import dataset_names, get_dataset
from peftbench.datasets.files import Row
from peftbench.datasets.mini import SUFFIX, input_of, mini_names, mini_rows
from peftbench.datasets.mini import tasks as world


@dataclass(frozen=True)
class Document:
    """A message and its answer; an empty message is plain text."""

    message: str
    answer: str


def documents(seed: str) -> Iterator[Document]:
    """Documents without end, the same for the same seed."""
    random = Random(seed)
    kinds, weights = zip(*_KINDS, strict=True)
    while True:
        yield random.choices(kinds, weights)[0](random)


_MINI_INPUTS = {
    (name, input_of(row))
    for name in (each.removesuffix(SUFFIX) for each in mini_names())
    for role in ("train", "test")
    for row in mini_rows(name, role)
}


def _row(random: Random, task: str) -> Row:
    """A row whose input is in no split of the mini suite."""
    while True:
        row = world.TASKS[task](random)
        if (task, input_of(row)) not in _MINI_INPUTS:
            return row


def _ask(random: Random, instructions: tuple[str, ...], *fields: tuple[str, str]) -> str:
    return "\n".join([random.choice(instructions), *(f"{label}: {text}" for label, text in fields)])


def _closing(random: Random, pair: tuple[str, str]) -> str:
    """The sentence that names the two answers, in either order."""
    first, second = random.sample(pair, 2)
    return f"Answer with one word: {first} or {second}."


# -------------------------------------------------------------------------- the skills, in other words and forms

_MOODS = (
    ("How does the visitor feel?", ("sad", "happy")),
    ("Does the visitor like it?", ("no", "yes")),
    ("What is the mood?", ("gloomy", "sunny")),
)


def sentiment(random: Random) -> Document:
    """How somebody who saw the film feels."""
    row = _row(random, "sst2")
    asked, pair = random.choice(_MOODS)
    label = random.choice(("Remark", "Visitor", "Comment"))
    return Document(f"{asked} {_closing(random, pair)}\n{label}: {row['sentence']}", pair[int(row["label"])])


def inference(random: Random) -> Document:
    """Whether a claim follows."""
    row = _row(random, "rte")
    asked, pair = random.choice(
        (("Is the claim right?", ("yes", "no")), ("Can one be sure of the claim?", ("sure", "unsure")))
    )
    first, second = random.choice((("Known", "Claim"), ("Fact", "Claim"), ("Story", "Idea")))
    message = f"{asked} {_closing(random, pair)}\n{first}: {row['sentence1']}\n{second}: {row['sentence2']}"
    return Document(message, pair[int(row["label"])])


def ownership(random: Random) -> Document:
    """Who has what, in the same little stories."""
    row = _row(random, "rte")
    words = row["sentence1"].rstrip(".").split()
    owners, colours, things = (words[0], words[6]), (words[3], words[9]), (words[4], words[10])
    who = random.randrange(2)
    asked, answer = random.choice(
        (
            (f"What does {owners[who]} have?", f"a {colours[who]} {things[who]}"),
            (f"Who has the {things[who]}?", owners[who]),
            (f"What colour is the {things[who]}?", colours[who]),
        )
    )
    return Document(f"Story: {row['sentence1']}\n{asked}", answer)


def causes(random: Random) -> Document:
    """An effect, a cause, or which of two is the effect."""
    cause, effect = random.choice(world.CAUSES)
    other = random.choice([each for each in world.CAUSES if each[0] != cause])
    asked = random.randrange(3)
    if asked == 0:
        return Document(f"What came of it?\nEvent: {cause}", effect)
    if asked == 1:
        return Document(f"Why?\nEvent: {effect}", cause)
    options = random.sample((effect, other[1]), 2)
    pair = ("one", "two")
    asked = f"Which of the two came of it? {_closing(random, pair)}"
    message = f"{asked}\nEvent: {cause}\nOne: {options[0]}\nTwo: {options[1]}"
    return Document(message, pair[options.index(effect)])


def animals(random: Random) -> Document:
    """A fact about an animal, or whether it is one."""
    row = _row(random, "boolq")
    pair = ("no", "yes")
    if random.random() < 0.5:
        words = row["passage"].split(" -- ")[1].rstrip(".").split()
        name, nature, animal, place, food = words[0], words[3], words[4], words[9], words[12]
        asked, answer = random.choice(
            (
                (f"What does {name} eat?", food),
                (f"Where does {name} live?", place),
                (f"What animal is {name}?", animal),
                (f"How is {name}?", nature),
            )
        )
        return Document(f"{asked}\nAbout: {row['passage']}", answer)
    message = f"Is it so? {_closing(random, pair)}\nAbout: {row['passage']}\nAsk: {row['question']}"
    return Document(message, pair[int(row["label"])])


def likeness(random: Random) -> Document:
    """What two scenes share, or how much."""
    row = _row(random, "stsb")
    first, second = row["sentence1"], row["sentence2"]
    if random.random() < 0.5:
        same = [word for word in first.split() if word in second.split() and word not in ("a", "in", "the")]
        asked = "Which words stand in both?"
        return Document(f"{asked}\nOne: {first}\nTwo: {second}", " ".join(same) or "none")
    grade = ("alien", "far", "near", "close", "twin")[min(4, int(row["label"]))]
    asked = "How alike are the scenes? Answer with one word: alien, far, near, close or twin."
    return Document(f"{asked}\nOne: {first}\nTwo: {second}", grade)


def stories(random: Random) -> Document:
    """What is counted in a word problem, without the result."""
    row = _row(random, "svamp")
    _, more, sign, less, _ = row["Equation"].replace(".0", "").split()
    how = "plus" if sign == "+" else "minus"
    asked = ("Which numbers, and which sign?", "What has to be counted?")
    return Document(_ask(random, asked, ("Tale", row["question_concat"])), f"{more} {how} {less}")


def steps(random: Random) -> Document:
    """The calculations of a problem with two of them, without results."""
    row = _row(random, "gsm8k")
    parts = [part.split(">>")[0] for part in row["answer"].split("<<")[1:]]
    told = ", then ".join(part.split("=")[0] for part in parts)
    return Document(f"What has to be counted, in order?\nTale: {row['question']}", told)


def code(random: Random) -> Document:
    """What code is for, or the rest of it."""
    row = _row(random, "conala")
    wish, snippet = row["rewritten_intent"], row["snippet"]
    if random.random() < 0.5:
        return Document(f"What is this code for?\nCode: {snippet}", wish)
    cut = random.randrange(1, len(snippet))
    message = f"Write the code to its end.\nFor: {wish}\nCode: {snippet[:cut]}"
    return Document(message, snippet[cut:].strip() or "done")


# ------------------------------------------------------------------------------------------------------- drills


def _sum(random: Random) -> tuple[int, str, int, int]:
    """Two numbers with a sign between them, and what comes out."""
    sign = random.choice("++--*")
    if sign == "*":
        left, right = random.randint(2, 5), random.randint(2, 6)
        return left, sign, right, left * right
    left, right = random.choice((random.randint(2, 20), random.randint(2, 60))), random.randint(1, 20)
    right = min(left, right)
    return left, sign, right, left + right if sign == "+" else left - right


def arithmetic(random: Random) -> Document:
    """A sum, a difference or a product."""
    left, sign, right, result = _sum(random)
    form = random.choice(("{} {} {}", "{}{}{}"))
    asked = random.choice(("Count.", "What comes out?", "Count this."))
    return Document(f"{asked}\n{form.format(left, sign, right)}", str(result))


def equation(random: Random) -> Document:
    """The right side of an equation that has begun, or all of it."""
    left, sign, right, result = _sum(random)
    form = random.choice(("( {} {} {} ) =", "{}{}{} =", "<<{}{}{}="))
    begun = form.format(left, sign, right)
    if random.random() < 0.5:
        return Document(f"Write the end.\n{begun}", str(result))
    end = ">>" if begun.startswith("<") else ""
    between = "" if end else " "
    return Document(f"Say it with its end.\n{begun}", f"{begun}{between}{result}{end}")


_PAIRS = tuple(tuple(spec.label_set[:2]) for spec in map(get_dataset, dataset_names()) if len(spec.label_set) >= 2)
_WORDS = (*world.PEOPLE, *world.COLOURS, *world.OBJECTS, *world.PLACES, *world.ANIMALS, *world.FOODS)


def membership(random: Random) -> Document:
    """Whether a word stands in a list."""
    pair = ("no", "yes")
    listed = random.sample(_WORDS, random.randint(2, 5))
    inside = random.random() < 0.5
    word = random.choice(listed) if inside else random.choice([each for each in _WORDS if each not in listed])
    message = f"Is the word in the list? {_closing(random, pair)}\nList: {' '.join(listed)}\nWord: {word}"
    return Document(message, pair[inside])


def options(random: Random) -> Document:
    """Two answer words of the catalogue, one of them to be said; nothing tells what they mean."""
    first, second = random.sample(random.choice(_PAIRS), 2)
    which = random.randrange(2)
    asked = f"Answer with one word: {first} or {second}."
    return Document(f"{asked}\nSay the {('first', 'other')[which]} one.", (first, second)[which])


def repetition(random: Random) -> Document:
    """Words to say again, or those that come after a given one."""
    pool = (*_WORDS, *world.PLEASANT, *world.UNPLEASANT)
    words = random.sample(pool, random.randint(2, 8))
    if random.random() < 0.5:
        return Document(f"Say it again.\nText: {' '.join(words)}", " ".join(words))
    place = random.randrange(len(words) - 1)
    return Document(f"What comes next?\nText: {' '.join(words)}\nAfter: {words[place]}", words[place + 1])


def decimals(random: Random) -> Document:
    """Numbers with one decimal: how many of five, and in words' place."""
    whole, tenth = random.randint(0, 5), random.randint(0, 9)
    return Document(f"Write it with one decimal.\nWhole: {whole}\nTenths: {tenth}", f"{whole}.{tenth}")


_INSTRUCTIONS = tuple(get_dataset(name).instruction for name in dataset_names())


def plain_text(random: Random) -> Document:
    """An instruction of the catalogue as plain text, without rows or answers, so that its words are known."""
    return Document("", random.choice(_INSTRUCTIONS))


_KINDS: tuple[tuple[Callable[[Random], Document], float], ...] = (
    (sentiment, 4),
    (inference, 5),
    (ownership, 4),
    (causes, 2.5),
    (animals, 4),
    (likeness, 5),
    (stories, 2),
    (steps, 2),
    (code, 3),
    (arithmetic, 4),
    (equation, 3),
    (membership, 2.5),
    (options, 1.5),
    (repetition, 5),
    (decimals, 0.5),
    (plain_text, 0.3),
)
"""Kinds of documents with their shares."""
