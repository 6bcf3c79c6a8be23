"""From prepared rows to token ids: chat template, answer with its end of turn, and the token limit.

The template is read off the tokenizer once, as the text around a user's message; training, evaluation and own
prompts all pass through it. A prompt that is too long loses the middle of its longest input field; the chat
header, the instruction and the answer always survive.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import tokenizers
import transformers
from transformers import PreTrainedTokenizerBase

from peftbench.engine.pack import Sample
from peftbench.errors import ConfigError, DataError
from peftbench.records import TokenFacts
from peftbench.schema import Example, Prompt

TOKENISING_VERSION = 1
"""Raised when the same rows become other token ids than before, here or in how a prompt is written out."""
# For tokenizers without a chat template. The message stands alone, the answer begins on a line of its own.
PLAIN_TEMPLATE = ("", "\nAnswer:\n")
CUT = " ... "
"""What stands where the middle of a field was taken out."""
TEMPLATE_DATE = "26 Jul 2024"
"""For templates that print today's date, which would make prompts differ from day to day."""
_MESSAGE, _REPLY = "peftbench-message", "peftbench-reply"


@dataclass(frozen=True)
class ChatFormat:
    """A tokenizer with the texts before and after a user's message, and the token that ends an answer."""

    tokenizer: Any
    head: str
    tail: str
    end_of_turn: int
    stop_ids: frozenset[int]
    has_template: bool
    beginning: int | None
    """The beginning-of-text token where the tokenizer puts one before a text."""
    control_texts: tuple[str, ...]
    """Spellings of tokens that steer a chat."""

    @cached_property
    def identity(self) -> str | None:
        """SHA-256 over all that decides the ids of a text; None for a tokenizer that cannot be written down."""
        try:
            core = self.tokenizer.backend_tokenizer
            # Every call sets these two, and ours want neither.
            core.no_truncation()
            core.no_padding()
            written = core.to_str()
        except Exception:  # a tokenizer in Python, or with a part that is
            return None
        around = [self.head, self.tail, self.end_of_turn, self.beginning, self.control_texts]
        # Libraries lay code of their own around what is written down.
        libraries = [type(self.tokenizer).__qualname__, transformers.__version__, tokenizers.__version__]
        return hashlib.sha256(json.dumps([written, around, libraries]).encode()).hexdigest()

    def prompt_ids(self, message: str) -> tuple[int, ...]:
        """Token ids of a whole prompt: exactly one beginning-of-text token where the tokenizer has one."""
        message = message.strip()
        if any(text in message for text in self.control_texts):
            # Text of a dataset never becomes a control token, whatever it spells.
            ids = [*self._ids(self.head), *self._ids(message, plain=True), *self._ids(self.tail)]
        else:
            ids = self._ids(self.head + message + self.tail)
        if self.beginning is not None and ids[:1] != [self.beginning]:
            ids = [self.beginning, *ids]
        return tuple(ids)

    def answer_ids(self, answer: str) -> tuple[int, ...]:
        """Token ids of an answer with the end of turn behind it."""
        return (*self._ids(answer, plain=True), self.end_of_turn)

    def text(self, ids: Sequence[int]) -> str:
        """What generated token ids say, special tokens left out."""
        decoded = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(decoded)

    def _ids(self, text: str, *, plain: bool = False) -> list[int]:
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=plain)
        return list(encoded["input_ids"])


def chat_format(
    tokenizer: PreTrainedTokenizerBase, generation_stops: int | Sequence[int] | None = None
) -> ChatFormat:
    """Read the chat template of a tokenizer, or take the plain one where it has none.

    `generation_stops` are the end tokens that the model's generation settings name. Raises `ConfigError` if no
    token can end an answer.
    """
    eos = tokenizer.eos_token_id
    end = eos
    head, tail = PLAIN_TEMPLATE
    if tokenizer.chat_template:
        head, tail = _around(_render(tokenizer, [_user()], header=True), _MESSAGE)
        _, after = _around(_render(tokenizer, [_user(), _assistant()], header=False), _REPLY)
        special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        closing = [token for token in tokenizer(after, add_special_tokens=False)["input_ids"] if token in special]
        end = closing[0] if closing else eos
    if end is None:
        raise ConfigError(
            f"tokenizer {tokenizer.name_or_path!r} has no end token, so an answer could never end; "
            "set eos_token in its tokenizer_config.json"
        )
    named = [generation_stops] if isinstance(generation_stops, int) else list(generation_stops or ())
    stops = frozenset(token for token in (end, eos, *named) if token is not None)
    bos = tokenizer.bos_token_id
    return ChatFormat(
        tokenizer=tokenizer,
        head=head,
        tail=tail,
        end_of_turn=end,
        stop_ids=stops,
        has_template=bool(tokenizer.chat_template),
        beginning=bos if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else None,
        control_texts=tuple(str(token) for token in tokenizer.added_tokens_decoder.values()),
    )


@dataclass(frozen=True)
class Encoded:
    """The samples of one split as token ids."""

    samples: tuple[Sample, ...]
    examples: tuple[Example, ...]
    """The rows behind the samples, in the same order; dropped rows are not among them."""
    cut_rows: int
    """Rows that lost the middle of a field."""
    dropped_rows: int
    """Training rows whose instruction and answer alone exceed the limit."""
    limit: int
    """Most tokens of prompt and answer together."""

    @property
    def facts(self) -> TokenFacts:
        """What the limit did, for records."""
        return TokenFacts(
            rows=len(self.samples),
            cut_rows=self.cut_rows,
            dropped_rows=self.dropped_rows,
            longest_tokens=max(len(sample.prompt) + len(sample.answer) for sample in self.samples),
            limit_tokens=self.limit,
        )


def encode(
    examples: Sequence[Example],
    chat: ChatFormat,
    *,
    limit: int,
    reserve: int,
    learn: bool,
    place: str,
) -> Encoded:
    """Token ids of prepared rows, within `limit` tokens for prompt and answer together.

    `reserve` tokens are kept free for the answer in any case, so that a prompt is cut alike in training and
    evaluation. With `learn` the targets become answers; without, answers stay empty and a row that cannot fit
    together with its reference raises `DataError`. `place` (dataset and split) begins that message.
    """
    samples, kept, cut = [], [], 0
    answer_ids = lru_cache(maxsize=1024)(chat.answer_ids)  # labels come again and again
    for example in examples:
        answer = answer_ids(example.target) if learn else ()
        golds = [answer] if learn else [answer_ids(text) for text in example.references]
        shortest = min((len(gold) for gold in golds), default=0)
        ids, was_cut = _fitted(example.prompt, chat, limit - max(reserve, len(answer)))
        if ids is None or shortest > reserve:
            # What is kept free is a wish; that instruction and answer fit together is a must.
            tight, tight_cut = _fitted(example.prompt, chat, limit - shortest)
            ids, was_cut = (ids, was_cut) if ids and tight else (tight, tight_cut)
        if ids is None and not learn:
            raise DataError(
                f"{place}, row {example.id}: chat header, instruction and answer alone exceed {limit} tokens; "
                "use a model with a longer context, fewer virtual tokens or a larger max_tokens"
            )
        if ids is not None:
            samples.append(Sample(ids, answer))
            kept.append(example)
            cut += was_cut
    if not samples:
        raise DataError(
            f"{place}: none of its {len(examples)} rows fits into {limit} tokens; raise max_tokens or use a model "
            "with a longer context"
        )
    return Encoded(tuple(samples), tuple(kept), cut, len(examples) - len(kept), limit)


def _fitted(prompt: Prompt, chat: ChatFormat, budget: int) -> tuple[tuple[int, ...] | None, bool]:
    """Ids of the prompt within `budget` tokens, shortened if need be; None where nothing more can be cut."""
    ids = chat.prompt_ids(prompt.text())
    if len(ids) <= budget:
        return ids, False
    fields = list(prompt.fields)
    for number in sorted(range(len(fields)), key=lambda i: -len(fields[i][1])):
        label, text = fields[number]

        def shortened(keep: int, number: int = number, label: str = label, text: str = text) -> tuple[int, ...]:
            middle_out = text[: (keep + 1) // 2] + CUT + (text[-(keep // 2) :] if keep > 1 else "")
            changed = [*fields[:number], (label, middle_out), *fields[number + 1 :]]
            return chat.prompt_ids(replace(prompt, fields=tuple(changed)).text())

        if len(shortened(0)) <= budget:
            low, high = 0, len(text)  # `low` fits, `high` does not
            while high - low > 1:
                keep = (low + high) // 2
                low, high = (keep, high) if len(shortened(keep)) <= budget else (low, keep)
            return shortened(low), True
        fields[number] = (label, CUT.strip())
    return None, True


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, header: bool) -> str:
    try:
        template = str(tokenizer.get_chat_template())
        if "strftime_now" in template:
            template = f"{{% macro strftime_now(format) %}}{TEMPLATE_DATE}{{% endmacro %}}{template}"
        return str(
            tokenizer.apply_chat_template(
                messages,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=header,
                enable_thinking=False,
                date_string=TEMPLATE_DATE,
            )
        )
    except Exception as error:  # a template is a program of the model's makers and may fail in any way
        raise ConfigError(
            f"the chat template of tokenizer {tokenizer.name_or_path!r} fails on a user's message: {error}"
        ) from error


def _around(rendered: str, part: str) -> tuple[str, str]:
    if rendered.count(part) != 1:
        raise ConfigError(
            f"the chat template prints a message {rendered.count(part)} times where once was expected; "
            "use a tokenizer with another template"
        )
    before, after = rendered.split(part)
    return before, after


def _user() -> dict[str, str]:
    return {"role": "user", "content": _MESSAGE}


def _assistant() -> dict[str, str]:
    return {"role": "assistant", "content": _REPLY}
