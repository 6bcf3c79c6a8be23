"""What is taken out of texts, and what is left in them."""

import json
import os

import pytest

from peftbench.redaction import environment, redacted, redacted_json, redacted_line, telling


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No secrets but those that a test plants."""
    for name in list(os.environ):
        if telling(name) or "@" in os.environ[name]:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "WANDB_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "MLFLOW_TRACKING_PASSWORD",
        "db_password",
        "GITHUB_PAT",
    ],
)
def test_names_that_tell_of_a_secret(name):
    assert telling(name)


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "PWD", "OLDPWD", "PATH", "KEYBOARD", "MONKEY", "HOME"])
def test_names_that_do_not(name):
    assert not telling(name)


def test_values_of_telling_variables_go_in_every_form(monkeypatch):
    monkeypatch.setenv("SERVICE_PASSWORD", 'p"ss/wörd 1')
    given = ['p"ss/wörd 1', "p%22ss%2Fw%C3%B6rd%201", json.dumps('p"ss/wörd 1')]
    assert [redacted(f"a {each} b") for each in given] == ["a *** b", "a *** b", 'a "***" b']


def test_a_secret_of_several_lines_goes_line_by_line(monkeypatch):
    monkeypatch.setenv("SSH_KEY", "-----BEGIN KEY-----\nabcdEFGH1234\n-----END KEY-----")
    assert redacted("it holds abcdEFGH1234") == "it holds ***"


def test_a_secret_within_another_leaves_no_rest(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "abcd1234")
    monkeypatch.setenv("B_TOKEN", "abcd1234efgh5678")
    assert redacted("abcd1234efgh5678 abcd1234") == "*** ***"


@pytest.mark.parametrize("value", ["", "short1", "prompt_tuning", "corrected", "12345678", "true"])
def test_words_numbers_and_what_is_short_are_not_taken_for_secrets(monkeypatch, value):
    monkeypatch.setenv("CACHE_KEY", value)
    assert redacted(f"x {value} y") == f"x {value} y"


def test_the_path_of_a_key_is_not_a_secret(monkeypatch, tmp_path):
    monkeypatch.setenv("SIGNING_KEY", str(tmp_path))
    assert redacted(f"in {tmp_path}/runs") == f"in {tmp_path}/runs"


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("http://me:pass@host/x", "http://***@host/x"),
        ("git+ssh://tok@host:22/x?a=b@c", "git+ssh://***@host:22/x?a=b@c"),
        ("see http:/me:p@ss@host/x and y@z", "see http:/***@host/x and y@z"),
        ("http://me:p/a?s#s@host/x", "http://***@host/x"),
        ("postgresql+psycopg2://u:p@[::1]/db", "postgresql+psycopg2://***@[::1]/db"),
        ("https://host/owner@2", "https://host/owner@2"),
        ("C:/a/b@c", "C:/a/b@c"),
        ("write to a.b@c.org", "write to a.b@c.org"),
    ],
)
def test_credentials_in_urls_go(given, left):
    assert redacted(given) == left


def test_credentials_of_a_url_in_the_environment_go_where_they_stand_alone(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://administrator:s3cret%2Fvalue@host")
    assert redacted("administrator s3cret/value s3cret%2Fvalue") == "administrator *** ***"


def test_netrc_and_the_hubs_token_file_are_known(monkeypatch, tmp_path):
    (tmp_path / "mine").write_text("machine host login me password n3trc-password\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "mine"))
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "token").write_text("hf_ofthefile1234\n")
    assert redacted("n3trc-password hf_ofthefile1234") == "*** ***"
    (tmp_path / "mine").write_text("not a netrc \x00")
    assert redacted("hf_ofthefile1234") == "***"


def test_json_stays_json_and_numbers_stay(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "0.1234567891")
    record = {"a": 'x 0.1234567891 \\ " y', "b": 0.1234567891, "c": "http://u:p@h"}
    assert json.loads(redacted_json(json.dumps(record))) == {
        "a": 'x *** \\ " y',
        "b": 0.1234567891,
        "c": "http://***@h",
    }


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("no answer\nsecond line", "no answer"),
        ("", ""),
        ("401 for Authorization: Bearer abc", "401 for Authorization: Bearer ***"),
        ("GET /x?api_key=abc&n=1 failed", "GET /x?api_key=***&n=1 failed"),
        ("bad key sk-proj-abcdefgh1234567890", "bad key ***"),
        ("a perfectly plain sentence about experiments", "a perfectly plain sentence about experiments"),
        ("x" * 300, "x" * 197 + "..."),
    ],
)
def test_a_strangers_first_line(given, left):
    assert redacted_line(given) == left


def test_a_process_is_given_only_its_own_secrets(monkeypatch):
    for name, value in {
        "WANDB_API_KEY": "a" * 40,
        "HF_TOKEN": "hf_1",
        "HTTPS_PROXY": "http://u:p@h",
        "PLAIN": "x",
    }.items():
        monkeypatch.setenv(name, value)
    secret = {"WANDB_API_KEY", "HF_TOKEN", "HTTPS_PROXY"}
    assert not secret & set(environment())
    assert secret & set(environment("WANDB_", "HTTPS_PROXY")) == {"WANDB_API_KEY", "HTTPS_PROXY"}
    assert environment()["PLAIN"] == "x"


def test_a_user_without_a_home_is_no_reason_to_fail(monkeypatch):
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("HOME", "~nobody-of-this-name")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where the system knows no home
    assert redacted("text") == "text"
