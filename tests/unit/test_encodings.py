"""Token ids that are kept are the ids that would be made: by key, by checksum, by several processes at once."""

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import peftbench
from peftbench.datasets import kept
from peftbench.engine import encodings, tokens
from peftbench.engine.tokens import chat_format, encode
from peftbench.predictions import read_predictions
from peftbench.recent import Recent
from peftbench.schema import Example, Prompt
from peftbench.testing import save_tiny_model, tiny_tokenizer
from tests.e2e.test_cli import rows

CHAT = chat_format(tiny_tokenizer())


def example(number, passage, target="true"):
    prompt = Prompt("Answer true or false.", (("Passage", passage), ("Question", "Is it so?")))
    return Example(f"train-{number}", prompt, target, (target,))


# Whole rows, one that is cut, two that are too long to be learned, an empty answer.
ROWS = [
    *(example(i, f"passage {i} " * (i % 5)) for i in range(40)),
    example(40, "w" * 900),
    example(41, "short", target="t" * 400),
    example(42, "short", target=""),
    example(43, "é<|user|> </s>"),
    example(44, "short", target="t" * 300),
    example(45, "last"),
]
SETTINGS = {"content": "abc", "limit": 200, "reserve": 16, "learn": True}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder, an empty memory, and files for small splits too."""
    monkeypatch.setenv("PEFTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(encodings, "ROWS_IN_FILES", 1)
    monkeypatch.setattr(encodings, "_told", set())
    forget(monkeypatch)
    return tmp_path / "cache" / "tokens"


def forget(monkeypatch):
    monkeypatch.setattr(encodings, "_RECENT", Recent(8, 10**6))
    monkeypatch.setattr(kept, "_OF_THE_PROCESS", kept.KeptDatasets())


def once(examples=ROWS, chat=CHAT, **changes):
    notes = []
    made = encodings.encode_once(examples, chat, place="x", note=notes.append, **{**SETTINGS, **changes})
    return made, notes


def plain(examples=ROWS, **changes):
    settings = {**SETTINGS, **changes}
    del settings["content"]
    return encode(examples, CHAT, place="x", **settings)


def files(folder):
    return sorted(folder.glob("*.safetensors"))


def refuse_to_encode(monkeypatch):
    def encode(*_, **__):
        raise AssertionError("rows are tokenised again")

    monkeypatch.setattr(encodings, "encode", encode)


@pytest.mark.parametrize("changes", [{}, {"limit": 2000, "learn": False}, {"limit": 90}, {"reserve": 100}])
def test_kept_ids_are_those_that_would_be_made(changes, cache, monkeypatch):
    expected = plain(**changes)
    assert once(**changes) == (expected, [])
    refuse_to_encode(monkeypatch)
    assert once(**changes) == (expected, [])  # from memory
    forget(monkeypatch)
    found, notes = once(**changes)  # from the file
    assert (found, notes) == (expected, [])
    assert found.facts == expected.facts
    assert all(one is other for one, other in zip(found.examples, expected.examples, strict=True))
    assert {type(token) for each in found.samples for token in each.prompt} == {int}
    assert len(files(cache)) == 1


def test_the_rows_of_this_suite_are_cut_and_dropped():
    assert (plain().cut_rows, plain().dropped_rows) == (1, 2)


def test_a_small_split_is_kept_in_memory_alone(cache, monkeypatch):
    monkeypatch.setattr(encodings, "ROWS_IN_FILES", len(ROWS) + 1)
    assert once()[0] == plain()
    assert not cache.exists()
    refuse_to_encode(monkeypatch)
    assert once()[0] == plain()


def test_rows_that_do_not_fit_fail_alike_each_time():
    for _ in range(2):
        with pytest.raises(peftbench.DataError, match="x, row train-0: .* exceed 30 tokens"):
            once(limit=30, learn=False)


# --------------------------------------------------------------------------------------------------------- keys


def other_tokenizer(**changes):
    tokenizer = tiny_tokenizer()
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return chat_format(tokenizer)


def with_a_token():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["passage"])
    return chat_format(tokenizer)


KEY = encodings.key_of(CHAT, **SETTINGS)


@pytest.mark.parametrize("change", [{"content": "abd"}, {"limit": 199}, {"reserve": 17}, {"learn": False}])
def test_each_setting_that_decides_the_ids_changes_the_key(change):
    assert encodings.key_of(CHAT, **{**SETTINGS, **change}) != KEY


@pytest.mark.parametrize("version", ["TOKENISING_VERSION", "FORMAT_VERSION"])
def test_each_version_changes_the_key(version, monkeypatch):
    monkeypatch.setattr(encodings, version, 99)
    assert encodings.key_of(CHAT, **SETTINGS) != KEY


@pytest.mark.parametrize("library", ["transformers", "tokenizers"])
def test_each_library_that_tokenises_changes_the_key(library, monkeypatch):
    monkeypatch.setattr(getattr(tokens, library), "__version__", "0.0.0")
    assert encodings.key_of(chat_format(tiny_tokenizer()), **SETTINGS) != KEY


@pytest.mark.parametrize(
    "chat",
    [
        with_a_token(),
        chat_format(tiny_tokenizer(chat=False)),
        other_tokenizer(chat_template="<|user|>{{ messages[0]['content'] }}{% if messages|length > 1 %}{{ messages[1]['content'] }}{% endif %}</s>"),
        replace(CHAT, head="<s>"),
        replace(CHAT, tail="\n"),
        replace(CHAT, end_of_turn=3),
        replace(CHAT, beginning=1),
        replace(CHAT, control_texts=()),
    ],
)  # fmt: skip
def test_each_part_of_a_tokenizer_changes_the_key(chat):
    assert chat.identity != CHAT.identity
    assert encodings.key_of(chat, **SETTINGS) != KEY


def test_what_does_not_decide_the_ids_does_not_change_the_key():
    padded = tiny_tokenizer()
    padded(["a", "bcd"], padding=True, truncation=True, max_length=3)
    for tokenizer in (tiny_tokenizer(), padded, other_tokenizer(name_or_path="elsewhere").tokenizer):
        assert encodings.key_of(chat_format(tokenizer, [2, 4]), **SETTINGS) == KEY


def test_a_tokenizer_that_cannot_be_written_down_is_used_each_time(cache, monkeypatch):
    class InPython:
        def __call__(self, text, **_):
            return {"input_ids": [ord(letter) for letter in text]}

    chat = replace(CHAT, tokenizer=InPython())
    assert chat.identity is None
    assert once(chat=chat, limit=2000)[0].samples == once(chat=chat, limit=2000)[0].samples
    assert not cache.exists()


def test_other_ids_for_the_same_rows_need_another_version():
    """Whoever changes how rows become ids finds this test failing: raise `TOKENISING_VERSION`, then mend it."""
    found = [(each.prompt, each.answer) for each in plain().samples]
    hashed = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    assert (tokens.TOKENISING_VERSION, hashed[:16]) == (1, "34b27febf4494475")


# -------------------------------------------------------------------------------------------------------- files


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: b"no tensors at all",
        *(lambda content, share=share: flipped(content, int(share * (len(content) - 1))) for share in (0, 0.01, 0.1, 0.3, 0.5, 0.9, 1)),
    ],
)  # fmt: skip
def test_a_damaged_file_is_found_and_made_again(damage, cache, monkeypatch):
    once()
    [file] = files(cache)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    forget(monkeypatch)
    assert once() == (plain(), [])
    assert file.read_bytes() == whole


def test_a_file_under_the_name_of_another_is_not_believed(cache, monkeypatch):
    once()
    [file] = files(cache)
    shutil.copy(file, encodings.file_of(encodings.key_of(CHAT, **{**SETTINGS, "limit": 90})))
    forget(monkeypatch)
    assert once(limit=90)[0] == plain(limit=90)


def test_a_folder_that_cannot_be_made_costs_one_note(cache, monkeypatch):
    cache.parent.write_text("in the way")
    made, notes = once()
    assert made == plain()
    [note] = notes
    assert "token ids cannot be kept in" in note
    assert "set PEFTBENCH_CACHE to a folder that can be written" in note
    forget(monkeypatch)
    assert once(limit=90) == (plain(limit=90), [])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_closed_disk_costs_one_note(number, cache, monkeypatch):
    def draft_of(file):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(encodings, "draft_of", draft_of)
    made, notes = once()
    assert made == plain()
    assert os.strerror(number) in notes[0]
    assert not files(cache)


@pytest.mark.parametrize("error", [NotImplementedError, PermissionError])
def test_without_locks_the_file_is_made_all_the_same(error, cache, monkeypatch):
    import filelock

    def acquire(*_, **__):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    assert once() == (plain(), [])
    assert len(files(cache)) == 1


def test_a_process_that_never_ends_is_not_waited_for_for_ever(cache, monkeypatch):
    import filelock

    monkeypatch.setattr(encodings, "LONGEST_WAIT", 0.2)
    cache.mkdir(parents=True)
    with filelock.FileLock(cache / f"{KEY[:2]}.lock"):
        assert once() == (plain(), [])
    assert len(files(cache)) == 1


def tell(barrier, queue):
    made = []
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(encodings, "encode", lambda *given, **more: made.append(1) or encode(*given, **more))
    barrier.wait()
    found, notes = once()
    queue.put((found == plain(), notes, len(made)))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system knows no fork")
def test_eight_processes_at_once_make_one_file(cache):
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(8), context.Queue()
    processes = [context.Process(target=tell, args=(barrier, queue)) for _ in range(8)]
    for process in processes:
        process.start()
    told = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert [(right, notes) for right, notes, _ in told] == [(True, [])] * 8
    assert sum(made for *_, made in told) == 1
    assert {file.name for file in cache.iterdir()} == {f"{KEY}.safetensors", f"{KEY[:2]}.lock"}


def test_the_files_used_longest_ago_are_deleted(cache, monkeypatch):
    for limit in (200, 210, 220):
        once(limit=limit)
    by_limit = {
        n: encodings.file_of(encodings.key_of(CHAT, **{**SETTINGS, "limit": n})) for n in (200, 210, 220, 230)
    }
    left_behind = cache / ".killed.draft"
    left_behind.write_bytes(b"0" * 10)
    for age, file in enumerate((left_behind, by_limit[200], by_limit[210], by_limit[220])):
        os.utime(file, (1000 + age, 1000 + age))
    forget(monkeypatch)
    once(limit=200)  # used again
    size = max(file.stat().st_size for file in files(cache))
    monkeypatch.setattr(encodings, "MOST_BYTES", 3 * size)
    once(limit=230)
    assert [n for n, file in by_limit.items() if file.exists()] == [200, 220, 230]
    assert not left_behind.exists()
    assert list(cache.glob("*.lock"))


def test_an_encoding_larger_than_the_limit_deletes_nothing(cache, monkeypatch):
    once()
    monkeypatch.setattr(encodings, "MOST_BYTES", 100)
    assert once(limit=90) == (plain(limit=90), [])
    assert [file.stem for file in files(cache)] == [KEY]


# --------------------------------------------------------------------------------------------------------- runs


def test_runs_are_the_same_with_kept_rows_and_ids(tmp_path, cache, monkeypatch):
    save_tiny_model(str(tmp_path / "model"))
    data = tmp_path / "data" / "rte"
    data.mkdir(parents=True)
    for split, part in (("train", rows(40)), ("validation", rows(12, 100))):
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))

    def results(name):
        configs = [
            {
                "model": str(tmp_path / "model"), "dataset": "rte", "method": method, "seed": seed, "threads": 1,
                "data": {"directory": str(tmp_path / "data"), "allow_partial": True},
                "training": {"epochs": 1, "validations": 2, "learning_rate": 1e-2},
                "evaluation": {"max_new_tokens": 6}, "output": str(tmp_path / name),
            }
            for method, seed in (("lora", 1), ("prompt_tuning", 1), ("lora", 2))
        ]  # fmt: skip
        told = []
        for config in configs:
            made = peftbench.run(config)
            [file] = Path(made.folder).glob("eval-*/predictions.parquet")
            told.append(
                (
                    *(made.train.train_id, made.train.best_validation_loss, made.train.tokens, made.train.data),
                    *(made.evaluation.eval_id, made.evaluation.scores, made.evaluation.tokens),
                    [*read_predictions(file, None)],
                )
            )
        return told

    with monkeypatch.context() as without:
        without.setattr(encodings, "key_of", lambda *_, **__: None)
        without.setattr(kept.KeptDatasets, "load", lambda _, spec, **given: kept.load_dataset(spec, **given))
        expected = results("without")
    assert not cache.exists()
    counted = []
    load = kept.load_dataset
    monkeypatch.setattr(kept, "load_dataset", lambda *given, **more: counted.append(1) or load(*given, **more))
    assert results("first") == expected
    assert len(counted) == 1
    # Train, validation and test; virtual tokens lower the limit, so that they are there twice.
    assert len(files(cache)) == 6
    forget(monkeypatch)
    refuse_to_encode(monkeypatch)
    assert results("from files") == expected
