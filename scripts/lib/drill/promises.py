"""Does what the examples' users were told agree with what each example promises? Histories, and what is wrong with them; times are
seconds of one clock. An answer of None means that nobody knows what became of the request: it may have been carried out, then
or later, or not."""

import bisect
import itertools

# The examples' clocks show whole milliseconds: a lease is shorter than was asked for by less than one.
TICK_S = 0.001


class Highest:
    """The highest of what was said before some time."""

    def __init__(self, said, lowest):
        said = sorted(said, key=lambda at_value: at_value[0])
        self.times, self.lowest = [at for at, _ in said], lowest
        self.values = list(itertools.accumulate((value for _, value in said), max))

    def before(self, at):
        i = bisect.bisect_left(self.times, at)
        return self.values[i - 1] if i else self.lowest


class Map:
    """Each key has one writer, who puts 1, 2, 3, .. and leaves the key when a put came to nobody knows what. So a read of it,
    anywhere, is linearizable if it shows no less than what was answered, or shown to anybody, before it was asked, and
    no more than what was sent before it was answered."""

    def __init__(self):
        self.puts, self.gets = [], []

    def put(self, key, n, sent, told, before):
        """`before`: the value that there was; None if that isn't known."""
        self.puts.append((key, n, sent, told, before))

    def get(self, key, value, sent, told):
        self.gets.append((key, value, sent, told))

    def wrong(self):
        for key, n, _, _, before in self.puts:
            if before is not None and before != n - 1:
                yield f"put {n} of {key} found {before}"
        by_key = {}
        for key, n, sent, told, before in self.puts:
            by_key.setdefault(key, ([], []))[0].append((n, sent, told if before is not None else None))
        for key, value, sent, told in self.gets:
            by_key.setdefault(key, ([], []))[1].append((value, sent, told))
        for key, (puts, gets) in by_key.items():
            known = Highest([(at, n) for n, _, at in puts if at is not None] + [(at, v) for v, _, at in gets], 0)
            begun = Highest([(at, n) for n, at, _ in puts], 0)
            for value, sent, told in gets:
                least, most = known.before(sent), begun.before(told)
                if not least <= value <= most:
                    yield f"{key} showed {value}, {least} to {most} would be right"


class Queue:
    """Each job is handed to one worker at a time, and done once; none is lost, none comes twice."""

    def __init__(self):
        self.adds, self.takes, self.dones = [], [], []

    def add(self, work, number):
        self.adds.append((work, number))

    def take(self, worker, number, work, lease, sent, told):
        self.takes.append((worker, number, work, lease, sent, told))

    def done(self, worker, number, is_done, sent, told):
        self.dones.append((worker, number, is_done, sent, told))

    def wrong(self):
        numbers, works = {}, {}
        for work, number in [(w, n) for w, n in self.adds if n is not None] + [(w, n) for _, n, w, *_ in self.takes]:
            if numbers.setdefault(number, work) != work:
                yield f"job {number} is {numbers[number]} and {work}"
            if works.setdefault(work, number) != number:
                yield f"{work} is job {works[work]} and {number}: it was added twice"
        sent_works = {work for work, _ in self.adds}
        yield from (f"{work} was never added" for work in works if work not in sent_works)
        by_number = {}
        for worker, number, _, lease, sent, told in self.takes:
            by_number.setdefault(number, []).append((worker, lease, sent, told))
        finished, perhaps = {}, set()
        for worker, number, is_done, sent, told in self.dones:
            if is_done is None:
                perhaps.add(number)
            elif is_done:
                if number in finished:
                    yield f"job {number} was done by {finished[number][0]} and by {worker}"
                finished[number] = (worker, sent, told)
        for number, takes in by_number.items():
            for i, (worker, lease, sent, told) in enumerate(takes):
                if number in finished and finished[number][2] < sent:
                    yield f"job {number} was given to {worker} when it was done"
                for other, other_lease, other_sent, other_told in takes[:i]:
                    # Whichever came first: its lease had run out before the other was told.
                    early = min(other_sent + other_lease - told, sent + lease - other_told) - TICK_S
                    if early > 0:
                        yield f"job {number} was given to {other} and to {worker} at a time, {1000 * early:.3f} ms too early"
        for work, number in self.adds:
            if number is not None and number not in finished and number not in perhaps:
                yield f"job {number} is lost"


class Lock:
    """Nobody gets it as long as somebody else has it, each holder's token is higher than the one's before, and what a later
    holder has written no earlier one overwrites."""

    def __init__(self):
        self.held, self.writes, self.reads, self.freed, self.asked = [], [], [], {}, []

    def lock(self, owner, token, lease, sent, told):
        """`token`: 0 if somebody else has it; None if nobody knows."""
        self.asked.append((owner, token, lease, sent))
        if token:
            self.held.append((owner, token, lease, sent, told))

    def unlock(self, token, sent):
        """However often it was locked under that token, nobody is sure to have it any more."""
        self.freed.setdefault(token, sent)

    def write(self, token, n, is_written, sent, told):
        self.writes.append((token, n, is_written, sent, told))

    def read(self, token, n, sent, told):
        self.reads.append((token, n, sent, told))

    def until(self, owner, lease, sent):
        """Who has it and asks again has it for as long as he said last; what nobody knows of may come late."""
        until, leases = sent + lease, self.by_owner[owner]
        i = bisect.bisect_right(leases, (sent, lease))
        for at, shorter in leases[i:]:
            if at >= until:
                break
            until = min(until, at + shorter)
        return min([until] + [max(at, sent) + shorter for at, shorter in self.unknown.get(owner, [])]) - TICK_S

    def wrong(self):
        self.by_owner, self.unknown = {}, {}
        for owner, token, lease, sent in sorted(self.asked, key=lambda asked: asked[3]):
            self.by_owner.setdefault(owner, []).append((sent, lease))
            if token is None:
                self.unknown.setdefault(owner, []).append((sent, lease))
        owners = {}
        for owner, token, *_ in self.held:
            if owners.setdefault(token, owner) != owner:
                yield f"token {token} was {owners[token]}'s and {owner}'s"
        before = Highest([(told, token) for _, token, _, _, told in self.held], 0)
        for owner, token, _, sent, _ in self.held:
            if before.before(sent) > token:
                yield f"token {token} of {owner} came behind {before.before(sent)}: they don't grow"
        # From the answer on, until it was given back or the lease was over, at the earliest.
        sure = [(told, min(self.until(owner, lease, sent), self.freed.get(token, sent + lease)), token, owner)
                for owner, token, lease, sent, told in self.held]
        others = []
        for told, end, token, owner in sorted(sure):
            others = [other for other in others if other[1] > told]
            for _, _, other_token, other in others:
                if token != other_token and end > told:
                    yield f"{owner} and {other} had it at a time, with tokens {token} and {other_token}"
            others.append((told, end, token, owner))
        written = [(told, (token, n)) for token, n, is_written, _, told in self.writes if is_written]
        before = Highest(written, (0, 0))
        for token, n, is_written, sent, _ in self.writes:
            if is_written and before.before(sent)[0] > token:
                yield f"token {token} wrote what {before.before(sent)[0]} had written"
        tried = {(token, n): sent for token, n, _, sent, _ in self.writes}
        shown = Highest(written + [(told, (token, n)) for token, n, _, told in self.reads], (0, 0))
        for token, n, sent, told in self.reads:
            least = shown.before(sent)
            if (token, n) < least:
                yield f"a read showed {n} of token {token}, {least[1]} of {least[0]} was there before"
            if (token, n) != (0, 0) and tried.get((token, n), told) >= told:
                yield f"a read showed {n} of token {token}, which nobody had written"
