"""The loops of :mod:`speechssl.decoding.lattice` as machine code; import it when they are needed.

Costs are int32, in units of ``lattice.UNIT`` nats: sums are exact, so that they do not depend on
where they begin. `FAR` is the cost of what cannot be reached.

A part of the lattice has N tokens, N + 1 blanks (blank i before token i) and K gaps. ``token`` has
N + 1 places, of which place 0 is never reached and place i + 1 is token i: so token i - 1 lies
beside blank i. Gap k lies before token ``after[k]`` and behind token ``before[k]``, and is entered
from these tokens, those between, and the blanks between; what lies outside the part is left out.

Among equal ways the first of these is taken. To a token: stay, from its blank, from the token
before, from the gap. To a blank: stay, from the token. To a gap: stay, from its tokens and blanks
in their order, from the gap before.
"""

import numpy as np

from speechssl.compiled import njit

Values = np.ndarray
States = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of blanks, tokens and gaps."""

FAR = 1 << 29
STAY, BLANK, LEAP, GAP = 0, 1, 2, 3
SKIP = 255


@njit
def forward(
    emission: Values,
    column: Values,
    leap: Values,
    after: Values,
    before: Values,
    skip: Values,
    enter: np.int32,
    state: States,
    origin: States,
) -> tuple[States, States]:
    """The cheapest way to each state, and where it began: a frame for each row of `emission`.

    Args:
        emission: (T, C) int16 costs; column 0 is the blank, 1 the filler.
        column: (N,) uint32 column of each token.
        leap: (N,) int32 0 where the way from the token before leads past the blank, else FAR.
        after, before: (K,) int32, see above.
        skip: (K,) int32 cost of the way from the gap before to this one.
        enter: int32 cost of a way from the text into a gap.
        state: blanks (N + 1,), tokens (N + 1,), gaps (K,): int32 costs before the first frame.
        origin: the same of int32: what is carried along each way.

    Returns state and origin after the last frame.
    """
    blank, token, gap = state
    blank_from, token_from, gap_from = origin
    new_blank, new_token, new_gap = blank.copy(), token.copy(), gap.copy()
    new_blank_from, new_token_from = blank_from.copy(), token_from.copy()
    new_gap_from = gap_from.copy()
    num_tokens, num_gaps = len(column), len(after)
    row = np.empty(emission.shape[1], np.int32)
    cost = np.empty(num_tokens, np.int32)
    far = np.int32(FAR)
    for frame in range(len(emission)):
        for v in range(len(row)):
            row[v] = emission[frame, v]
        _gather(cost, row, column)
        _tokens(new_token[1:], token[1:], blank[:-1], token[:-1], leap, cost)
        _token_origins(
            new_token_from[1:],
            (token[1:], blank[:-1], token[:-1]),
            leap,
            (token_from[1:], blank_from[:-1], token_from[:-1]),
        )
        _blanks(new_blank, blank, token, row[0])
        _blank_origins(new_blank_from, blank, token, blank_from, token_from)
        for k in range(num_gaps):
            least, came = gap[k], gap_from[k]
            for j in range(max(before[k], -1), min(after[k], num_tokens)):
                if token[j + 1] + enter < least:
                    least, came = token[j + 1] + enter, token_from[j + 1]
                if blank[j + 1] + enter < least:
                    least, came = blank[j + 1] + enter, blank_from[j + 1]
            new_gap[k], new_gap_from[k] = min(least, far), came
            i = after[k]
            if 0 <= i < num_tokens and gap[k] + cost[i] < new_token[i + 1]:
                new_token[i + 1], new_token_from[i + 1] = gap[k] + cost[i], gap_from[k]
        least, came = far, np.int32(0)
        for k in range(num_gaps):
            if least + skip[k] < new_gap[k]:
                new_gap_from[k] = came
            least = min(least + skip[k], new_gap[k])
            came = new_gap_from[k]
            new_gap[k] = least + row[1]
        blank, new_blank, token, new_token = new_blank, blank, new_token, token
        gap, new_gap = new_gap, gap
        blank_from, new_blank_from = new_blank_from, blank_from
        token_from, new_token_from = new_token_from, token_from
        gap_from, new_gap_from = new_gap_from, gap_from
        token[0] = far
    return (blank, token, gap), (blank_from, token_from, gap_from)


@njit
def _gather(cost: Values, row: Values, column: Values) -> None:
    for i in range(len(cost)):
        cost[i] = row[column[i]]


@njit
def _tokens(
    new: Values, stay: Values, blank: Values, before: Values, leap: Values, cost: Values
) -> None:
    far = np.int32(FAR)
    for i in range(len(new)):
        least = stay[i]
        other = blank[i]
        least = other if other < least else least
        other = before[i] + leap[i]
        least = other if other < least else least
        new[i] = (far if far < least else least) + cost[i]


@njit
def _token_origins(new: Values, costs: States, leap: Values, origins: States) -> None:
    stay, blank, before = costs
    stay_from, blank_from, before_from = origins
    for i in range(len(new)):
        least, came = stay[i], stay_from[i]
        other, way = blank[i], blank_from[i]
        came = way if other < least else came
        least = other if other < least else least
        other, way = before[i] + leap[i], before_from[i]
        new[i] = way if other < least else came


@njit
def _blanks(new: Values, blank: Values, token: Values, cost: np.int32) -> None:
    far = np.int32(FAR)
    for i in range(len(new)):
        stay, other = blank[i], token[i]
        least = other if other < stay else stay
        new[i] = (far if far < least else least) + cost


@njit
def _blank_origins(
    new: Values, blank: Values, token: Values, blank_from: Values, token_from: Values
) -> None:
    for i in range(len(new)):
        stay, way = blank_from[i], token_from[i]
        new[i] = way if token[i] < blank[i] else stay


@njit
def table(
    emission: Values,
    column: Values,
    leap: Values,
    after: Values,
    before: Values,
    skip: Values,
    enter: np.int32,
    state: States,
) -> tuple[States, States]:
    """As :func:`forward`, with the way to each state at each frame in place of origins.

    Returns state after the last frame, and uint8 ways: blanks (T, N + 1) STAY or BLANK (from the
    token), tokens (T, N) STAY, BLANK, LEAP or GAP, gaps (T, K) STAY, 1 + the place of the token or
    blank in the order of the ways, or SKIP.
    """
    blank, token, gap = state
    num_frames, num_tokens, num_gaps = len(emission), len(column), len(after)
    blank_way = np.zeros((num_frames, num_tokens + 1), np.uint8)
    token_way = np.zeros((num_frames, num_tokens), np.uint8)
    gap_way = np.zeros((num_frames, num_gaps), np.uint8)
    far = np.int32(FAR)
    for frame in range(num_frames):
        row = emission[frame]
        new_blank, new_token, new_gap = blank.copy(), token.copy(), gap.copy()
        for i in range(num_tokens + 1):
            if token[i] < blank[i]:
                new_blank[i], blank_way[frame, i] = token[i], BLANK
            new_blank[i] = min(new_blank[i], far) + row[0]
        for i in range(num_tokens):
            least = token[i + 1]
            if blank[i] < least:
                least, token_way[frame, i] = blank[i], BLANK
            if token[i] + leap[i] < least:
                least, token_way[frame, i] = token[i] + leap[i], LEAP
            new_token[i + 1] = min(least, far) + row[column[i]]
        for k in range(num_gaps):
            least, place = gap[k], 1
            for j in range(before[k], after[k]):
                if -1 <= j < num_tokens and token[j + 1] + enter < least:
                    least, gap_way[frame, k] = token[j + 1] + enter, place
                if -1 <= j < num_tokens and blank[j + 1] + enter < least:
                    least, gap_way[frame, k] = blank[j + 1] + enter, place + 1
                place += 2
            new_gap[k] = min(least, far)
            i = after[k]
            if 0 <= i < num_tokens and gap[k] + row[column[i]] < new_token[i + 1]:
                new_token[i + 1], token_way[frame, i] = gap[k] + row[column[i]], GAP
        least = far
        for k in range(num_gaps):
            if least + skip[k] < new_gap[k]:
                new_gap[k], gap_way[frame, k] = least + skip[k], SKIP
            least = new_gap[k]
            new_gap[k] = least + row[1]
        blank, token, gap = new_blank, new_token, new_gap
        token[0] = far
    return (blank, token, gap), (blank_way, token_way, gap_way)
