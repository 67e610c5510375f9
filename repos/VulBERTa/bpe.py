"""Byte-pair encoding over the characters of lexical tokens, trained on the training functions; pure Python.

A word is one token of the lexer; nothing merges across words. Equal counts are decided by the spelling of the pair,
so the same corpus gives the same vocabulary everywhere.
"""

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
START, PAD, END, UNKNOWN = 0, 1, 2, 3
MOST_CHARACTERS = 256
LONGEST_WORD = 64
MOST_WORDS = 30_000
FEWEST_USES = 2

Pair = tuple[str, str]


class Bpe:
    """A vocabulary (symbol -> id, specials first) and its merges in order of rank."""

    def __init__(self, vocabulary: Mapping[str, int], merges: Sequence[Pair]) -> None:
        self.vocabulary = dict(vocabulary)
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._known: dict[str, list[int]] = {}

    def encode(self, words: Iterable[str], length: int) -> list[int]:
        """Exactly `length` ids: <s>, the words' symbols cut to fit, </s>, then <pad>."""
        ids = [START]
        for word in words:
            ids += self.word_ids(word)
            if len(ids) >= length - 1:
                break
        ids = [*ids[: length - 1], END]
        return ids + [PAD] * (length - len(ids))

    def word_ids(self, word: str) -> list[int]:
        """The ids of one word; a character that the training corpus did not have is <unk>."""
        ids = self._known.get(word)
        if ids is None:
            ids = [self.vocabulary.get(symbol, UNKNOWN) for symbol in self._symbols(word)]
            self._known[word] = ids
        return ids

    def _symbols(self, word: str) -> list[str]:
        symbols = list(word)
        last = len(self._ranks)
        while len(symbols) > 1:
            pair = min(itertools.pairwise(symbols), key=lambda pair: self._ranks.get(pair, last))
            if pair not in self._ranks:
                break
            symbols = _merged(symbols, pair)
        return symbols


def train(counts: Mapping[str, int], size: int) -> Bpe:
    """A vocabulary of at most `size` ids from words and their counts; it stops early when nothing repeats.

    Merges are learnt from the MOST_WORDS most frequent words: the many rare ones cost minutes and change little.
    """
    words = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_WORDS]
    words = [(word, count) for word, count in words if len(word) <= LONGEST_WORD]
    symbols = [list(word) for word, _ in words]
    vocabulary = {symbol: number for number, symbol in enumerate(SPECIALS)}
    for character in _alphabet(counts)[: size - len(SPECIALS)]:
        vocabulary.setdefault(character, len(vocabulary))
    pairs = _PairCounts(symbols, [count for _, count in words])
    merges: list[Pair] = []
    while len(vocabulary) < size:
        pair = pairs.most_frequent()
        if pair is None:
            break
        merges.append(pair)
        vocabulary.setdefault(pair[0] + pair[1], len(vocabulary))
        pairs.merge(pair)
    return Bpe(vocabulary, merges)


def _alphabet(counts: Mapping[str, int]) -> list[str]:
    characters: Counter[str] = Counter()
    for word, count in counts.items():
        for character in word:
            characters[character] += count
    return sorted(characters, key=lambda character: (-characters[character], character))[:MOST_CHARACTERS]


def _merged(symbols: Sequence[str], pair: Pair) -> list[str]:
    result: list[str] = []
    position = 0
    while position < len(symbols):
        if tuple(symbols[position : position + 2]) == pair:
            result.append(pair[0] + pair[1])
            position += 2
        else:
            result.append(symbols[position])
            position += 1
    return result


class _PairCounts:
    """How often each pair of neighbours occurs, kept up to date merge by merge; the heap may hold old counts."""

    def __init__(self, symbols: list[list[str]], weights: list[int]) -> None:
        self._symbols, self._weights = symbols, weights
        self._counts: defaultdict[Pair, int] = defaultdict(int)
        self._places: defaultdict[Pair, set[int]] = defaultdict(set)
        for number in range(len(symbols)):
            self._add(number, 1)
        self._heap = [(-count, pair) for pair, count in self._counts.items()]
        heapq.heapify(self._heap)

    def most_frequent(self) -> Pair | None:
        """The pair to merge next; None when none occurs FEWEST_USES times."""
        while self._heap:
            negative, pair = heapq.heappop(self._heap)
            count = self._counts.get(pair, 0)
            if count < FEWEST_USES:
                continue
            if count == -negative:
                return pair
            heapq.heappush(self._heap, (-count, pair))
        return None

    def merge(self, pair: Pair) -> None:
        """Replace the pair by its union in every word that has it."""
        touched: set[Pair] = set()
        for number in self._places.pop(pair, set()).copy():
            touched |= self._add(number, -1)
            self._symbols[number] = _merged(self._symbols[number], pair)
            touched |= self._add(number, 1)
        del self._counts[pair]
        touched.discard(pair)
        for changed in touched:
            count = self._counts[changed]
            if count >= FEWEST_USES:
                heapq.heappush(self._heap, (-count, changed))

    def _add(self, number: int, sign: int) -> set[Pair]:
        symbols, weight = self._symbols[number], sign * self._weights[number]
        seen = set(itertools.pairwise(symbols))
        for pair in itertools.pairwise(symbols):
            self._counts[pair] += weight
        for pair in seen:
            places = self._places[pair]
            places.add(number) if sign > 0 else places.discard(number)
        return seen
