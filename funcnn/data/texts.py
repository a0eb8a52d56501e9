"""Texts as tokens and back: one for each character, or pairs of bytes that occur often."""

from __future__ import annotations

import heapq
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from os import PathLike
from typing import Any, ClassVar

import numpy as np

from funcnn import checks, files
from funcnn.checks import Integer, shown
from funcnn.types import Array

__all__ = [
    "BytePairTokenizer",
    "CharacterTokenizer",
    "byte_pair_tokenizer",
    "character_tokenizer",
    "load_tokenizer",
]

_FORMAT = "funcnn tokenizer 1"
_BYTES = 256
Pair = tuple[int, int]


@dataclass(frozen=True)
class CharacterTokenizer:
    """A token for each of some characters. Made by `character_tokenizer`.

    Parameters
    ----------
    characters : str
        Token ``i`` is character ``i``; each is there once.

    Examples
    --------
    >>> tokenizer = CharacterTokenizer("abc")
    >>> tokenizer.encode("cab"), tokenizer.decode([0, 0, 1]), len(tokenizer)
    (array([2, 0, 1]), 'aab', 3)
    """

    characters: str
    kind: ClassVar[str] = "characters"

    def __post_init__(self) -> None:
        _text(self.characters, "characters", self.kind)
        if not self.characters or len(set(self.characters)) != len(self.characters):
            got = files.short(ascii(self.characters))
            checks.refuse(f"`characters` must be there once each, got {got}", self.kind)

    def __len__(self) -> int:
        return len(self.characters)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {character: place for place, character in enumerate(self.characters)}

    def encode(self, text: str) -> Array:
        """The tokens of a text, ints ``(T,)``; characters that are not known are refused."""
        try:
            places = [self._places[character] for character in _text(text, "text", self.kind)]
        except KeyError as unknown:
            checks.refuse(f"`text` must have known characters, got {unknown.args[0]!a}", self.kind)
        return np.array(places, np.int64)

    def decode(self, tokens: Any) -> str:
        """The text of tokens."""
        return "".join(self.characters[token] for token in _tokens(tokens, len(self), self.kind))

    def save(self, path: str | PathLike[str]) -> None:
        """Write it to a file of JSON, for `load_tokenizer`."""
        _save(path, {"kind": self.kind, "characters": self.characters})


@dataclass(frozen=True)
class BytePairTokenizer:
    """A token for each byte of UTF-8, and for pairs of tokens. Made by `byte_pair_tokenizer`.

    Parameters
    ----------
    merges : tuple of pairs of int
        Token ``256 + i`` is pair ``i`` of earlier tokens.

    Examples
    --------
    >>> tokenizer = BytePairTokenizer(((104, 105), (32, 256)))
    >>> tokenizer.encode("hi hi!"), tokenizer.decode([257])
    (array([256, 257,  33]), ' hi')
    """

    merges: tuple[Pair, ...] = ()
    kind: ClassVar[str] = "byte_pairs"

    def __post_init__(self) -> None:
        if not isinstance(self.merges, tuple):
            checks.refuse_type(f"`merges` must be a tuple, got {shown(self.merges)}", self.kind)
        for place, pair in enumerate(self.merges):
            known = isinstance(pair, tuple) and len(pair) == 2
            if not known or not all(type(one) is int and 0 <= one < _BYTES + place for one in pair):
                checks.refuse(f"`merges` must be pairs of earlier tokens, got {shown(pair)}", self.kind)
        if len(set(self.merges)) != len(self.merges):
            checks.refuse("`merges` must be there once each", self.kind)

    def __len__(self) -> int:
        return _BYTES + len(self.merges)

    @cached_property
    def _ranks(self) -> dict[Pair, int]:
        return {pair: _BYTES + place for place, pair in enumerate(self.merges)}

    @cached_property
    def _spelled(self) -> list[bytes]:
        found = [bytes([byte]) for byte in range(_BYTES)]
        for first, second in self.merges:
            found.append(found[first] + found[second])
            if len(found[-1]) > sys.maxunicode:
                checks.refuse("`merges` must be of at most a million bytes", self.kind)
        return found

    def encode(self, text: str) -> Array:
        """The tokens of a text, ints ``(T,)``: in each word, pairs are merged in the order learnt."""
        known: dict[bytes, list[int]] = {}
        found: list[int] = []
        for word in _words(_text(text, "text", self.kind)):
            if word not in known:
                known[word] = self._merged(list(word))
            found += known[word]
        return np.array(found, np.int64)

    def _merged(self, tokens: list[int]) -> list[int]:
        while len(tokens) > 1:
            best = min(pairwise(tokens), key=lambda pair: self._ranks.get(pair, len(self)))
            if best not in self._ranks:
                break
            tokens = _joined(tokens, best, self._ranks[best])
        return tokens

    def decode(self, tokens: Any) -> str:
        """The text of tokens; what is no UTF-8, the half of a character, becomes U+FFFD."""
        spelled = self._spelled
        whole = b"".join(spelled[token] for token in _tokens(tokens, len(self), self.kind))
        try:
            return whole.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return whole.decode("utf-8", "replace")

    def save(self, path: str | PathLike[str]) -> None:
        """Write it to a file of JSON, for `load_tokenizer`."""
        _save(path, {"kind": self.kind, "merges": self.merges})


@checks.named
def character_tokenizer(text: str) -> CharacterTokenizer:
    """Give each character of a text a token, in the order of their code points.

    Parameters
    ----------
    text : str
        With all characters that there will be.

    Returns
    -------
    CharacterTokenizer
        With ``encode(text)``, ``decode(tokens)``, ``len()`` and ``save(path)``.

    Raises
    ------
    ValueError, TypeError
        For a text without characters.

    Examples
    --------
    >>> from funcnn import data
    >>> tokenizer = data.character_tokenizer("hello")
    >>> tokenizer.characters, tokenizer.encode("hole")
    ('ehlo', array([1, 3, 2, 0]))
    """
    return CharacterTokenizer("".join(sorted(set(_text(text, "text")))))


@checks.takes(vocabulary_size=Integer(_BYTES))
def byte_pair_tokenizer(text: str | Iterable[str], vocabulary_size: int) -> BytePairTokenizer:
    """Learn which pairs of bytes, and of pairs, occur often, and give them tokens of their own.

    Parameters
    ----------
    text : str, or several
        What to learn from.
    vocabulary_size : int
        How many tokens there may be, from 256 on: one for each byte comes first.

    Returns
    -------
    BytePairTokenizer
        With ``encode(text)``, ``decode(tokens)``, ``len()`` and ``save(path)``. Any text can be
        encoded, and comes back as it was.

    Raises
    ------
    ValueError, TypeError
        For a vocabulary below 256, or what is no text.

    Notes
    -----
    A text is cut into words, in front of white space and where letters, digits and other characters
    meet; no token goes over a cut. Again and again the most frequent pair of neighbours becomes a
    token, of equals the smallest, until the vocabulary is full or no pair occurs twice.

    References
    ----------
    R. Sennrich, B. Haddow and A. Birch, "Neural machine translation of rare words with subword units",
    2016. On bytes: A. Radford et al., "Language models are unsupervised multitask learners", 2019.

    Examples
    --------
    >>> from funcnn import data
    >>> tokenizer = data.byte_pair_tokenizer("low lower lowest " * 9, 260)
    >>> [tokenizer.decode([token]) for token in tokenizer.encode("slower")]
    ['s', 'low', 'e', 'r']
    """
    texts = list(text) if isinstance(text, Iterable) and not isinstance(text, str) else [text]
    counted = Counter(word for one in texts for word in _words(_text(one, "text")))
    words, counts = [list(word) for word in counted], list(counted.values())
    pairs: Counter[Pair] = Counter()
    places: dict[Pair, set[int]] = {}
    changed: set[Pair] = set()

    def count(place: int, sign: int) -> None:
        for pair in pairwise(words[place]):
            pairs[pair] += sign * counts[place]
            places.setdefault(pair, set()).add(place)
            changed.add(pair)

    for place in range(len(words)):
        count(place, 1)
    merges: list[Pair] = []
    queue: list[tuple[int, Pair]] = []  # also of counts that are no longer true
    while len(merges) < vocabulary_size - _BYTES:
        for pair in changed:
            heapq.heappush(queue, (-pairs[pair], pair))
        changed.clear()
        while queue and -queue[0][0] != pairs[queue[0][1]]:
            heapq.heappop(queue)
        if not queue or queue[0][0] > -2:
            break
        best = queue[0][1]
        for place in sorted(places.pop(best)):
            count(place, -1)
            words[place] = _joined(words[place], best, _BYTES + len(merges))
            count(place, 1)
        merges.append(best)
    return BytePairTokenizer(tuple(merges))


@checks.named
def load_tokenizer(path: str | PathLike[str]) -> CharacterTokenizer | BytePairTokenizer:
    """Read what ``tokenizer.save(path)`` has written.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    CharacterTokenizer or BytePairTokenizer

    Raises
    ------
    ValueError, OSError
        For a file that is not there, or no tokenizer.

    Examples
    --------
    >>> import tempfile
    >>> from funcnn import data
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data.character_tokenizer("abc").save(f"{folder}/letters.json")
    ...     data.load_tokenizer(f"{folder}/letters.json")
    CharacterTokenizer(characters='abc')
    """
    name = files.checked_path(path)
    with files.opened(name) as file, files.whole(name, "a tokenizer"):
        found = files.json_object(file.read())
        if found.pop("format", None) != _FORMAT:
            raise ValueError(f"its format is not {shown(_FORMAT)}")
        if found.keys() == {"kind", "characters"} and found["kind"] == CharacterTokenizer.kind:
            return CharacterTokenizer(found["characters"])
        if found.keys() == {"kind", "merges"} and found["kind"] == BytePairTokenizer.kind:
            if not isinstance(found["merges"], list):
                raise ValueError("its merges are no list")
            return BytePairTokenizer(tuple(map(tuple, found["merges"])))
        raise ValueError("its kind is not known")


def _save(path: str | PathLike[str], content: dict[str, Any]) -> None:
    files.write(files.checked_path(path), json.dumps({"format": _FORMAT, **content}).encode())


def _text(value: object, name: str, who: str = "") -> str:
    if not isinstance(value, str):
        checks.refuse_type(f"`{name}` must be a str, got {shown(value)}", who)
    return value


def _tokens(value: Any, size: int, who: str) -> list[int]:
    found = np.asarray(value)
    found = found if found.size or found.ndim != 1 else found.astype(np.int64)  # [] is of floats
    if found.dtype.kind not in "iu" or found.ndim != 1:
        checks.refuse_type(f"`tokens` must be integers (T,), got {found.dtype} {found.shape}", who)
    if found.size and not 0 <= found.min() <= found.max() < size:
        worst = found.min() if found.min() < 0 else found.max()
        checks.refuse(f"`tokens` must lie in 0..{size - 1}, got {worst}", who)
    whole: list[int] = found.tolist()
    return whole


def _kind(character: str) -> int:
    return 1 if character.isalpha() else 2 if character.isnumeric() else 3


def _words(text: str) -> Iterator[bytes]:
    """Pieces that no token goes beyond: white space begins one, and another kind of character."""
    start, kind = 0, 0  # after white space any kind goes on
    for place, character in enumerate(text):
        new = 0 if character.isspace() else _kind(character)
        if place > start and (not new or (kind and new != kind)):
            yield text[start:place].encode("utf-8", "surrogatepass")
            start = place
        kind = new
    if text:
        yield text[start:].encode("utf-8", "surrogatepass")


def _joined(tokens: list[int], pair: Pair, token: int) -> list[int]:
    """One token in place of each such pair, from the left."""
    found: list[int] = []
    for one in tokens:
        if found and (found[-1], one) == pair:
            found[-1] = token
        else:
            found.append(one)
    return found
