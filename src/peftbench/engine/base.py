"""A base model with its tokenizer, as runs use it; the one used last stays loaded.

A series of runs over one model loads it once. Two models at a time are never kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from peftbench.engine.encodings import encode_once
from peftbench.engine.loading import (
    Where,
    fingerprint,
    load_config,
    load_model,
    load_tokenizer,
    located,
    model_label,
)
from peftbench.engine.model import LanguageModel
from peftbench.engine.processes import let_go
from peftbench.engine.quantized import check_quantization, parameter_count
from peftbench.engine.sharded import load_sharded
from peftbench.engine.tokens import ChatFormat, Encoded, chat_format, encode
from peftbench.errors import ConfigError, PeftBenchError
from peftbench.records import ModelFacts
from peftbench.schema import Example


@dataclass(frozen=True)
class Base:
    """A loaded base model with its tokenizer."""

    model: LanguageModel
    chat: ChatFormat
    facts: ModelFacts

    def encode(
        self,
        examples: Sequence[Example],
        *,
        max_tokens: int,
        virtual_tokens: int,
        answer_tokens: int,
        learn: bool,
        place: str,
        content: str | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> Encoded:
        """Token ids of prepared rows within `max_tokens` or the model's context, virtual tokens included.

        `answer_tokens` are kept free for the answer, but at most half of the limit. With `content`, the content
        hash of the rows, ids are kept for the next time; `note` is told where that fails. Raises `ConfigError`
        where virtual tokens leave no room, and `DataError` where rows do not fit.
        """
        whole = min(max_tokens, self.model.context or max_tokens)
        limit = whole - virtual_tokens
        if limit < 2:
            raise ConfigError(
                f"{place}: {virtual_tokens} virtual tokens leave no room for text within {whole} tokens; "
                "use fewer virtual tokens or a model with a longer context"
            )
        reserve = min(answer_tokens, limit // 2)
        if content is None:
            return encode(examples, self.chat, limit=limit, reserve=reserve, learn=learn, place=place)
        return encode_once(
            examples,
            self.chat,
            content=content,
            limit=limit,
            reserve=reserve,
            learn=learn,
            place=place,
            note=note,
        )


def load_base(path: str, revision: str | None, where: Where, processes: int = 1) -> Base:
    """The base model of a folder, or of a hub id at a commit, sharded where there is more than one process.

    Raises `ConfigError` and `DataError`; `ProcessEnded` of processes.
    """
    asked = (path, revision, where, fingerprint(path, revision), processes)
    base = _load(*asked)
    if base.model.ranks is not None and base.model.ranks.ended:  # after an error; they can be started again
        forget()
        base = _load(*asked)
    return base


def forget() -> None:
    """Keep no model loaded."""
    _load.cache_clear()


def text_density(path: str, text: str) -> tuple[float, int] | None:
    """Characters of `text` a token, and tokens of the chat header, by the tokenizer in a model's folder.

    None where the model is not in a folder here, or its tokenizer cannot be used.
    """
    try:
        chat = _chat(path)
    except PeftBenchError:
        return None
    if chat is None or not text:
        return None
    header = len(chat.prompt_ids(""))
    return len(text) / max(1, len(chat.prompt_ids(text)) - header), header


def tokenizer_and_context(path: str, revision: str | None) -> tuple[ChatFormat, int | None]:
    """The tokenizer of a model and the most positions it was made for; no weights are read.

    Raises `ConfigError` and `DataError` as loading the model does.
    """
    positions = getattr(load_config(path, revision).get_text_config(), "max_position_embeddings", None)
    return chat_format(load_tokenizer(path, revision)), int(positions) if positions else None


@lru_cache(maxsize=4)
def _chat(path: str) -> ChatFormat | None:
    return chat_format(load_tokenizer(path, None)) if Path(located(path)).is_dir() else None


@lru_cache(maxsize=1)
def _load(path: str, revision: str | None, where: Where, identity: str, processes: int) -> Base:
    tokenizer = load_tokenizer(path, revision)
    chat_format(tokenizer)  # before the weights: what is wrong with it should not cost a load
    check_quantization(where.quantization, where.device, processes)
    if processes > 1:
        model = load_sharded(path, revision, where, processes)
    else:
        let_go()
        model = load_model(path, revision, where)
    rows = model.module.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ConfigError(
            f"model {path!r} has {rows} token embeddings but its tokenizer {len(tokenizer)} tokens; "
            "give the tokenizer that belongs to the model"
        )
    settings = getattr(model.module, "generation_config", None)
    chat = chat_format(tokenizer, getattr(settings, "eos_token_id", None))
    facts = ModelFacts(
        name=model_label(path),
        fingerprint=identity,
        family=model.config.model_type,
        dtype=where.dtype,
        quantization=where.quantization,
        parameters=parameter_count(model.module),
        context_tokens=model.context,
        padded_because=model.because,
        chat_template=chat.has_template,
    )
    return Base(model, chat, facts)
