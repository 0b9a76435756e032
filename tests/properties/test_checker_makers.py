"""Which calls made the events of a watch: against every choice of them, tried one by one."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.checker.events import Change, Event, change_of
from bench.checker.makers import conflict
from bench.checker.objects import place
from bench.checker.record import Call

NEVER = 1 << 62


class Made:
    """Calls on two keys beside one another and events of them, some perhaps not as they happened."""

    def __init__(self, seed: int, spoil: bool) -> None:
        random = Random(seed)
        self.changes: list[Change] = []
        happened: list[tuple[str, str, int]] = []
        line = 0
        running: list[tuple[Call, bool]] = []
        for _ in range(random.randrange(2, 18)):
            line += 1
            if random.random() < 0.5:
                args = [random.choice("kl"), random.choice((1, 1, 2))]
                running.append((Call(f"p{line}", line, "map", "m", "put", args, line=line), False))
            elif running:
                call, is_made = running.pop(random.randrange(len(running)))
                if not is_made and random.random() < 0.6:
                    happened.append((*self._key(call), line))
                    running.append((call, True))
                    continue
                if not is_made and random.random() < 0.6:
                    happened.append((*self._key(call), line))
                    is_made = True
                known = is_made and random.random() < 0.8
                call.outcome = "ok" if known else "info"
                call.end_line = line
                call.result = len(happened) if known and happened[-1][:2] == self._key(call) and (
                    happened[-1][2] == line and random.random() < 0.3
                ) else None  # fmt: skip
                self._add(call)
        for call, _ in running:
            self._add(call)
        if spoil and len(happened) > 1:
            one, other = random.randrange(len(happened)), random.randrange(len(happened))
            happened[one] = (*happened[other][:2], happened[one][2])
        self.events = []
        self.known = {}
        for at, (key, value, made) in enumerate(happened, 1):
            told = Call("w", 0, "watch", "m", "next", [], line=1000 + at)
            self.events.append(Event(told, "put", key, value, at, 0))
            self.known[told.line] = made + random.randrange(1, 6) if random.random() < 0.5 else 2000 + at

    def _key(self, call: Call) -> tuple[str, str]:
        change = change_of(call)
        assert change is not None
        return change.key, change.value

    def _add(self, call: Call) -> None:
        change = change_of(call)
        assert change is not None
        self.changes.append(change)

    def is_accused(self) -> bool:
        placed = {(at, one.key): one for one in self.changes if (at := place(one.call)) is not None}
        unplaced: dict[str, list[Change]] = {}
        for one in self.changes:
            if place(one.call) is None:
                unplaced.setdefault(one.key, []).append(one)
        return conflict(self.events, self.known, placed, unplaced) is not None

    def has_a_choice(self) -> bool:
        """Whether each event can have a call of its own. A call of a known revision made that of it."""

        def go(at: int, line: int, left: list[Change]) -> bool:
            if at == len(self.events):
                return True
            event = self.events[at]
            for one in left:
                where = place(one.call)
                if one.key != event.key or where not in (None, event.revision):
                    continue
                if where is None and (one.value != event.value or self._is_placed(event)):
                    continue
                end = NEVER if one.call.is_unknown else one.call.end_line or 0
                low = max(line, one.call.line)
                if low < min(end, self.known[event.call.line]) and go(
                    at + 1, low, [other for other in left if other is not one]
                ):
                    return True
            return False

        return go(0, 0, self.changes)

    def _is_placed(self, event: Event) -> bool:
        return any((place(one.call), one.key) == event.place for one in self.changes)


@given(seed=st.integers(0, 1 << 40), spoil=st.booleans())
@settings(max_examples=300, deadline=None)
def test_nothing_is_accused_for_which_there_is_a_choice(seed: int, spoil: bool) -> None:
    made = Made(seed, spoil)
    assert not (made.is_accused() and made.has_a_choice())
    assert spoil or made.has_a_choice()


def test_most_of_what_has_no_choice_is_accused() -> None:
    wrong = [made for seed in range(600) if not (made := Made(seed, spoil=True)).has_a_choice()]
    assert len(wrong) > 50
    assert sum(made.is_accused() for made in wrong) > 0.9 * len(wrong)
