"""The word that a misspelt one stands for."""

from collections.abc import Iterable

_SHARE = 1 / 3
"""How many letters of a word may be wrong; half of those of a very short one."""
_SHORT_WORD = 4


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of `known` that is nearest to `word`; None when none is near enough.

    Of dotted keys the last name counts alone where the whole has nothing near: `clip_eps` is `model.loss.clip_eps`,
    unless there is another `clip_eps`.
    """
    words = list(dict.fromkeys(known))
    same = [each for each in words if "." in each and _last(each) == _last(word)]
    if len(same) == 1:
        return same[0]
    whole = min(words, key=lambda each: _distance(word, each), default=None)
    if whole is not None and _is_near(word, whole):
        return whole
    last = _last(word)
    near = [each for each in words if "." in each and _is_near(last, _last(each))]
    best = min((_distance(last, _last(each)) for each in near), default=0)
    found = [each for each in near if _distance(last, _last(each)) == best]
    return found[0] if len(found) == 1 else None


def hint(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)`, or nothing."""
    found = nearest(word, known)
    return "" if found is None else f" (did you mean {found}?)"


def _is_near(word: str, other: str) -> bool:
    if len(word) < _SHORT_WORD and word[:1] != other[:1] and sorted(word) != sorted(other):
        return False  # ppo is not a misspelt epo
    share = 0.5 if len(word) <= _SHORT_WORD else _SHARE
    return _distance(word, other) <= share * len(word)


def _distance(word: str, other: str) -> int:
    """Letters to insert, leave out, replace or swap with their neighbours, whatever their case."""
    word, other = word.lower(), other.lower()
    if abs(len(word) - len(other)) > len(word) / 2 + 1:
        return max(len(word), len(other))
    before, row = [0] * (len(other) + 1), list(range(len(other) + 1))
    for i, letter in enumerate(word, 1):
        last, before, row = before, row, [i]
        for j, wanted in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and word[i - 2] == wanted:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


def _last(key: str) -> str:
    return key.rpartition(".")[2]
