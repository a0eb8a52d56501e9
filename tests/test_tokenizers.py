"""Tokenizers: what is encoded comes back, and the pairs are those that occur most."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from funcnn import data
from funcnn.data.texts import _words

TEXT = "the cat sat on the mat; the cat ate 22 rats.\nThe end, naïve façade 漢字 🙂🙂 "
PAIRS = data.byte_pair_tokenizer(TEXT * 3, 300)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_comes_back(text: str) -> None:
    """Lone surrogates and the last planes, too."""
    for tokenizer in (PAIRS, data.BytePairTokenizer()):
        tokens = tokenizer.encode(text)
        assert tokens.dtype == np.int64
        assert tokenizer.decode(tokens) == text
    assert b"".join(_words(text)).decode("utf-8", "surrogatepass") == text


def test_pairs_make_texts_shorter() -> None:
    assert len(PAIRS) <= 300
    assert len(PAIRS.encode(TEXT)) < 0.7 * len(TEXT.encode())
    assert PAIRS.encode(" the").size == 1


def test_the_most_frequent_pair_comes_first() -> None:
    """The example of Sennrich et al.: low, lower, newest, widest."""
    text = "low " * 5 + "lower " * 2 + "newest " * 6 + "widest " * 3
    tokenizer = data.byte_pair_tokenizer(text, 256 + 4)
    spelled = [tokenizer.decode([token]) for token in range(256, 260)]
    assert spelled[:2] == ["es", "est"]
    assert data.byte_pair_tokenizer([text[:20], text[20:]], 260) == tokenizer
    assert data.byte_pair_tokenizer("abcd", 999).merges == ()


def _slow(text: str, size: int) -> tuple[Any, ...]:
    """The same, all pairs counted anew each time."""
    words = [list(word) for word in _words(text)]
    merges: list[Any] = []
    while len(merges) < size - 256:
        counts: dict[Any, int] = {}
        for word in words:
            for pair in pairwise(word):
                counts[pair] = counts.get(pair, 0) + 1
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        for word in words:
            k = 0
            while k < len(word) - 1:
                if (word[k], word[k + 1]) == best:
                    word[k : k + 2] = [256 + len(merges)]
                k += 1
        merges.append(best)
    return tuple(merges)


@pytest.mark.parametrize("text", [TEXT, "aaaa aaaaa aaa bababab " * 3, "xyxyxyx" * 9])
def test_pairs_are_those_of_a_plain_count(text: str) -> None:
    assert data.byte_pair_tokenizer(text, 290).merges == _slow(text, 290)


def test_characters() -> None:
    tokenizer = data.character_tokenizer(TEXT)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert len(tokenizer) == len(set(TEXT))
    with pytest.raises(ValueError, match="known") as caught:
        tokenizer.encode("Q")
    assert str(caught.value) == "characters: `text` must have known characters, got 'Q'"


@pytest.mark.parametrize("tokenizer", [PAIRS, data.character_tokenizer(TEXT + "\ud800")], ids=type)
def test_files(tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    tokenizer.save(path)
    again = data.load_tokenizer(path)
    assert again == tokenizer
    np.testing.assert_array_equal(again.encode(TEXT), tokenizer.encode(TEXT))
    assert json.loads(path.read_text())["format"] == "funcnn tokenizer 1"


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", '{"format": "funcnn tokenizer 2", "kind": "characters", "characters": "ab"}',
        '{"format": "funcnn tokenizer 1", "kind": "characters", "characters": "aa"}',
        '{"format": "funcnn tokenizer 1", "kind": "characters", "characters": 3}',
        '{"format": "funcnn tokenizer 1", "kind": "byte_pairs", "merges": [[1, 256]]}',
        '{"format": "funcnn tokenizer 1", "kind": "byte_pairs", "merges": [[1, 2, 3]]}',
        '{"format": "funcnn tokenizer 1", "kind": "byte_pairs", "merges": [[1, true]]}',
        '{"format": "funcnn tokenizer 1", "kind": "byte_pairs", "merges": [[1, 2], [1, 2]]}',
        '{"format": "funcnn tokenizer 1", "kind": "byte_pairs", "merges": 7}',
        '{"format": "funcnn tokenizer 1", "kind": "byte_pairs", "merges": {}}',
        '{"format": "funcnn tokenizer 1", "kind": "words", "merges": []}',
    ],
)  # fmt: skip
def test_forged_files_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "forged.json"
    path.write_text(content)
    with pytest.raises((ValueError, TypeError), match="must be") as caught:
        data.load_tokenizer(path)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ([300], "`tokens` must lie in 0..{last}, got 300"),
        ([-1], "`tokens` must lie in 0..{last}, got -1"),
        ([0.5], "`tokens` must be integers (T,), got float64 (1,)"),
        (np.zeros((1, 2), int), "`tokens` must be integers (T,), got int64 (1, 2)"),
    ],
)
def test_wrong_tokens_are_refused(tokens: Any, text: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        PAIRS.decode(tokens)
    assert str(caught.value) == "byte_pairs: " + text.format(last=len(PAIRS) - 1)
    assert PAIRS.decode([]) == ""


@pytest.mark.parametrize("text", [None, 3, ["a", 3]])
def test_what_is_no_text_is_refused(text: Any) -> None:
    with pytest.raises(TypeError, match=r"^byte_pair_tokenizer: `text` must be a str, got"):
        data.byte_pair_tokenizer(text, 300)
    with pytest.raises(TypeError, match=r"^byte_pairs: `merges` must be a tuple, got"):
        data.BytePairTokenizer(text)
