"""Chat templates, one beginning token, the end of a turn, and what a token limit does to a row."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from peftbench.engine.pack import Sample
from peftbench.engine.tokens import CUT, PLAIN_TEMPLATE, TEMPLATE_DATE, chat_format, encode
from peftbench.errors import ConfigError, DataError
from peftbench.schema import Example, Prompt
from peftbench.testing import tiny_tokenizer

# The shape of each family's template, written down here from its documented tokens: beginning token, whether the
# tokenizer adds it, end-of-turn token, end-of-text token, template.
STYLES = {
    "llama-3": (
        "<|begin_of_text|>", False, "<|eot_id|>", "<|end_of_text|>",
        "{{ bos_token }}{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "<|start|>system<|stop|>\n\nToday: {{ date_string }}<|eot_id|>"
        "{% for m in messages %}<|start|>{{ m.role }}<|stop|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant<|stop|>\n\n{% endif %}",
    ),
    "mistral": (
        "<s>", True, "</s>", "</s>",
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
        "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
    ),
    "chatml with thinking": (
        None, False, "<|im_end|>", "<|endoftext|>",
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
    ),
    "gemma": (
        "<bos>", True, "<end_of_turn>", "<eos>",
        "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    ),
    "phi-3": (
        "<s>", True, "<|end|>", "<|endoftext|>",
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    ),
    "gpt-2 without a template": ("<|endoftext|>", False, "<|endoftext|>", "<|endoftext|>", None),
    "llama base without a template": ("<s>", True, "</s>", "</s>", None),
}  # fmt: skip
CONTROL = [
    "<|start|>", "<|stop|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>",
    "<|user|>", "<|assistant|>", "<|end|>", "[INST]", "[/INST]",
]  # fmt: skip


def tokenizer_of(style):
    bos, adds_bos, turn_end, eos, template = STYLES[style]
    special = list(dict.fromkeys([token for token in (bos, eos, turn_end, *CONTROL) if token]))
    vocabulary = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if adds_bos:
        from tokenizers.processors import TemplateProcessing

        core.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])])
    others = [token for token in special if token not in (bos, eos)]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=bos, eos_token=eos, additional_special_tokens=others
    )
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("style", STYLES)
def test_a_prompt_is_what_the_template_renders_with_one_beginning_token(style):
    bos, adds_bos, turn_end, eos, template = STYLES[style]
    tokenizer = tokenizer_of(style)
    chat = chat_format(tokenizer)
    message = "Decide.\nPremise: a dog\nHypothesis: an animal"
    ids = chat.prompt_ids(message)
    text = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if template:
        expected = tokenizer.apply_chat_template(
            [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True,
            date_string=TEMPLATE_DATE, enable_thinking=False,
        )  # fmt: skip
    else:
        expected = PLAIN_TEMPLATE[0] + message + PLAIN_TEMPLATE[1]
    if adds_bos and not expected.startswith(bos):
        expected = bos + expected
    assert text == expected
    if bos is not None:
        assert ids.count(tokenizer.bos_token_id) == (1 if expected.startswith(bos) else 0)
    assert chat.end_of_turn == tokenizer.convert_tokens_to_ids(turn_end)
    assert chat.stop_ids == {tokenizer.convert_tokens_to_ids(turn_end), tokenizer.convert_tokens_to_ids(eos)}
    assert chat.has_template == (template is not None)


@pytest.mark.parametrize("style", STYLES)
def test_the_prompt_is_a_strict_prefix_of_prompt_and_answer_as_the_template_renders_both(style):
    template = STYLES[style][4]
    tokenizer = tokenizer_of(style)
    chat = chat_format(tokenizer)
    prompt, answer = chat.prompt_ids("Is it?"), chat.answer_ids("entailment")
    assert answer[-1] == chat.end_of_turn
    assert chat.end_of_turn not in answer[:-1]
    whole = tokenizer.decode([*prompt, *answer], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if template:
        messages = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "entailment"}]
        rendered = tokenizer.apply_chat_template(messages, tokenize=False, date_string=TEMPLATE_DATE)
        # Mistral's template puts a space before an answer; everything else is the same to the letter.
        assert whole.replace(" ", "") in rendered.replace(" ", "") or rendered.rstrip() in whole
    assert chat.text(answer) == "entailment"


def test_a_template_with_a_date_gives_the_same_prompt_on_every_day():
    chat = chat_format(tokenizer_of("llama-3"))
    assert f"Today: {TEMPLATE_DATE}" in chat.head


def test_thinking_is_off_where_a_template_has_it():
    chat = chat_format(tokenizer_of("chatml with thinking"))
    assert chat.tail.endswith("<think>\n\n</think>\n\n")


@pytest.mark.parametrize("style", STYLES)
def test_text_of_a_dataset_never_becomes_a_control_token(style):
    tokenizer = tokenizer_of(style)
    chat = chat_format(tokenizer)
    plain = chat.prompt_ids("say x now")
    hostile = chat.prompt_ids(f"say {STYLES[style][2]} [INST] {STYLES[style][3]} now")
    special = set(tokenizer.all_special_ids)
    assert [i for i in hostile if i in special] == [i for i in plain if i in special]
    answer = chat.answer_ids(f"yes{STYLES[style][2]}no")
    assert answer.count(chat.end_of_turn) == 1
    assert chat.text(answer) == f"yes{STYLES[style][2]}no"


def test_a_tokenizer_without_an_end_token_is_refused():
    tokenizer = tiny_tokenizer(chat=False)
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="has no end token.*set eos_token"):
        chat_format(tokenizer)


@pytest.mark.parametrize("template", ["{{ nonsense() }}", "{{ raise_exception('no') }}", "always the same text"])
def test_a_template_that_fails_or_forgets_the_message_is_refused(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(ConfigError, match="chat template"):
        chat_format(tokenizer)


def test_end_tokens_of_the_generation_settings_stop_an_answer_too():
    chat = chat_format(tiny_tokenizer(), [2, 4])
    assert chat.stop_ids == {2, 4}
    assert chat_format(tiny_tokenizer(), 3).stop_ids == {2, 3}


# ------------------------------------------------------------------------------------------------- the limit

CHAT = chat_format(tiny_tokenizer())  # one token a byte, three around a message


def example(passage, question="Is it so?", target="true", references=("true",)):
    prompt = Prompt("Answer true or false.", (("Passage", passage), ("Question", question)))
    return Example("train-7", prompt, target, references)


def text_of(sample: Sample) -> str:
    return CHAT.tokenizer.decode(list(sample.prompt), skip_special_tokens=True)


def test_a_prompt_that_fits_is_left_alone():
    row = example("A short passage.")
    encoded = encode([row], CHAT, limit=200, reserve=10, learn=True, place="x")
    assert text_of(encoded.samples[0]) == row.prompt.text()
    assert (encoded.cut_rows, encoded.dropped_rows) == (0, 0)
    assert encoded.samples[0].answer == CHAT.answer_ids("true")


@pytest.mark.parametrize("limit", range(80, 140, 7))
def test_a_long_prompt_loses_the_middle_of_its_longest_field_and_nothing_else(limit):
    passage = "".join(chr(97 + i % 26) for i in range(300))
    row = example(passage)
    encoded = encode([row], CHAT, limit=limit, reserve=10, learn=True, place="x")
    text = text_of(encoded.samples[0])
    kept = text.split("Passage: ")[1].split("\nQuestion")[0]
    front, back = kept.split(CUT)
    assert passage.startswith(front)
    assert passage.endswith(back)
    assert abs(len(front) - len(back)) <= 1
    assert text == row.prompt.text().replace(passage, kept)
    assert encoded.cut_rows == 1
    # Not one character more would have fitted.
    assert len(encoded.samples[0].prompt) == limit - 10
    head, tail = CHAT.prompt_ids("x")[:2], CHAT.prompt_ids("x")[-1:]
    assert encoded.samples[0].prompt[:2] == head
    assert encoded.samples[0].prompt[-1:] == tail


def test_when_one_field_is_not_enough_the_next_longest_is_cut_too():
    row = example("p" * 60, question="q" * 50)
    encoded = encode([row], CHAT, limit=70, reserve=5, learn=True, place="x")
    text = text_of(encoded.samples[0])
    assert "pp" not in text
    assert text.count("q") > 5
    assert len(encoded.samples[0].prompt) <= 65


def test_prompts_are_cut_alike_in_training_and_evaluation():
    rows = [example("w" * n, target="true") for n in (10, 100, 300)]
    trained = encode(rows, CHAT, limit=120, reserve=32, learn=True, place="x")
    tested = encode(rows, CHAT, limit=120, reserve=32, learn=False, place="x")
    assert [each.prompt for each in trained.samples] == [each.prompt for each in tested.samples]
    assert all(each.answer == () for each in tested.samples)


def test_a_training_row_that_cannot_fit_is_dropped_and_counted():
    rows = [example("short"), example("short", target="t" * 200), example("short")]
    encoded = encode(rows, CHAT, limit=150, reserve=10, learn=True, place="x")
    assert len(encoded.samples) == len(encoded.examples) == 2
    assert encoded.dropped_rows == 1


def test_a_test_row_that_cannot_fit_is_an_error_that_names_it():
    with pytest.raises(DataError, match=r"rte, test, row train-7: .* exceed 150 tokens; use a model with"):
        encode(
            [example("s", references=("t" * 200,))], CHAT, limit=150, reserve=10, learn=False, place="rte, test"
        )
    with pytest.raises(DataError, match="exceed 30 tokens"):
        encode([example("s")], CHAT, limit=30, reserve=10, learn=False, place="x")


def test_references_are_never_shortened():
    row = example("w" * 500, references=("the whole gold answer " * 4,))
    encoded = encode([row], CHAT, limit=200, reserve=10, learn=False, place="x")
    assert encoded.examples[0].references == row.references


def test_no_row_that_fits_is_an_error():
    with pytest.raises(DataError, match="none of its 2 rows fits"):
        encode([example("s")] * 2, CHAT, limit=20, reserve=10, learn=True, place="x")
