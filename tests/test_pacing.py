"""The pace of a run, on a clock of its own: ceilings, windows, waits, and when it stops."""
import random

import pytest

from mtd.pacing import HOPELESS, Pace, Pacer, retry_after, seconds_of


class Clock:
    now = 0.0
    def __call__(self): return self.now


def make(**how): return (p := Pacer(Pace(**how), clock=Clock(), rng=random.Random(0))), p.clock


@pytest.mark.parametrize('text, seconds', [('6m0s', 360), ('1s', 1), ('120ms', 0.12), ('1h30m', 5400), ('0.5s', 0.5), ('3', 3), (' 2 ', 2), ('1d', 86400),
                                           ('', None), (None, None), ('soon', None), ('-1', None), ('1x', None), ('9' * 400, None), ('1760000000', None), ('²', None), ('Fri, 31 Dec 9999 23:59:59 GMT', None),
                                           ('Wed, 21 Oct 2015 07:28:00 GMT', 0)])
def test_headers_are_read(text, seconds): assert seconds_of(text) == seconds


def test_a_date_in_the_future_is_waited_for():
    from datetime import datetime, timedelta, timezone
    from email.utils import format_datetime
    assert 25 < seconds_of(format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30))) <= 30


def test_milliseconds_are_preferred(): assert retry_after({'retry-after-ms': '1500', 'retry-after': '9'}) == 1.5 and retry_after({'retry-after': '9'}) == 9


@pytest.mark.parametrize('wrong', [dict(concurrency=0), dict(requests_per_minute=-1), dict(attempts=0), dict(timeout=0), dict(give_up_after=0), dict(retries=-1)])
def test_a_wrong_pace_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))): Pace(**wrong)


def drive(pacer, clock, seconds, seconds_each=0.3, tokens=lambda k: 0):
    "Send whenever allowed, answers after `seconds_each`; yields (time, tokens) of what was sent."
    answers, sent, k = [], [], 0
    while clock.now < seconds:
        while answers and answers[0] <= clock.now: answers.pop(0); pacer.answered({})
        wait = pacer.wait(tokens(k))
        if wait == 0:
            pacer.sent(tokens(k)); sent.append((clock.now, tokens(k))); answers.append(clock.now + seconds_each); k += 1
        else: clock.now = min(clock.now + wait, answers[0] if answers else float('inf'))
        assert pacer.in_flight <= pacer.pace.concurrency
    return sent


@pytest.mark.parametrize('rpm, tpm', [(60, 0), (900, 0), (0, 30_000), (300, 20_000)])
def test_no_minute_holds_more_than_the_ceiling(rpm, tpm):
    pacer, clock = make(concurrency=50, requests_per_minute=rpm, tokens_per_minute=tpm)
    rng = random.Random(1)
    asked = [rng.randint(50, 900) for _ in range(10_000)]
    sent = drive(pacer, clock, 300, tokens=lambda k: asked[k])
    for i, (start, _) in enumerate(sent):
        minute = [n for t, n in sent[i:] if t < start + 60 - 1e-6]
        if rpm: assert len(minute) <= rpm
        if tpm: assert sum(minute) - minute[-1] <= tpm, 'all but the last, which the next minute pays for'
    assert len(sent) > 0.9 * min(rpm * 5 or 1e9, tpm * 5 / (sum(asked[:200]) / 200) if tpm else 1e9)


def test_the_window_opens_fast_and_is_halved_once_for_a_wave():
    pacer, clock = make(concurrency=64)
    assert pacer.wait() == 0 and int(pacer.window) == 8
    for _ in range(3):
        n = int(pacer.window)
        for _ in range(n): pacer.sent()
        assert pacer.wait() == float('inf')
        clock.now += 1
        for _ in range(n): pacer.answered({})
    assert pacer.window == 64, 'it doubled each round'
    for _ in range(64): pacer.sent()
    clock.now += 1
    for _ in range(64): pacer.failed('busy', 503, sent_at=clock.now - 1)
    assert pacer.window == 32, 'one wave of complaints is one complaint'


def test_every_request_waits_as_long_as_the_server_says():
    pacer, clock = make()
    pacer.sent(); pacer.answered({}); pacer.sent()
    assert pacer.failed('slow down', 429, {'retry-after': '7'}) == 0.0 and pacer.wait() == 7
    clock.now += 7
    assert pacer.wait() == 0 and not pacer.stopped and pacer.spent_retries == 0, 'to be told to wait is no failed try'


def test_what_is_left_in_the_servers_window_is_not_overdrawn():
    pacer, clock = make()
    pacer.sent(); pacer.sent()
    pacer.answered({'x-ratelimit-remaining-requests': '3', 'x-ratelimit-reset-requests': '10s'}) # one is on the way: two are left
    for _ in range(2): assert pacer.wait() == 0; pacer.sent()
    assert pacer.wait() == 10
    pacer.answered({'x-ratelimit-remaining-tokens': '500', 'x-ratelimit-reset-tokens': '20s'})
    clock.now += 10
    assert pacer.wait(400) == 0 and pacer.wait(600) == 10


@pytest.mark.parametrize('status', sorted(HOPELESS))
def test_some_failures_are_final(status):
    pacer, _ = make()
    pacer.sent(); pacer.answered({}); pacer.sent()
    assert pacer.failed('no', status) is None


def test_an_empty_account_is_not_asked_again():
    pacer, _ = make()
    for _ in range(8): pacer.sent(); assert pacer.failed('no money', 429, quota=True) is None
    assert '8 requests in a row' in pacer.stopped


def test_waits_are_random_and_grow_and_end():
    pacer, _ = make(attempts=6, give_up_after=10_000)
    waits = {n: [] for n in range(1, 6)}
    for _ in range(20):
        pacer.answers = 10_000
        for n in waits: pacer.sent(); waits[n].append(pacer.failed('HTTP 500', 500, attempt=n))
    for n, w in waits.items(): assert 0 <= min(w) and max(w) <= 0.5 * 2 ** n and len(set(w)) > 10
    assert max(waits[5]) > 8 and pacer.failed('HTTP 500', 500, attempt=6) is None


def test_further_tries_are_a_share_of_the_answers():
    pacer, _ = make(attempts=100, give_up_after=10_000, retries=0.1)
    def retried():
        n = 0
        while True:
            pacer.sent()
            if pacer.failed('HTTP 500', 500) is None: return n
            n += 1
    assert retried() == 20
    for _ in range(100): pacer.sent(); pacer.answered({})
    assert retried() == 10


def test_bad_requests_are_no_outage_once_something_was_answered():
    pacer, _ = make()
    pacer.sent(); pacer.answered({})
    for _ in range(100): pacer.sent(); assert pacer.failed('bad', 400) is None
    assert not pacer.stopped
    first, _ = make()
    for _ in range(8): first.sent(); first.failed('bad', 400)
    assert first.stopped, 'when no request was ever right, the question is wrong'


def test_an_outage_is_waited_for_and_then_the_run_ends():
    pacer, clock = make(patience=60)
    pacer.sent(); pacer.answered({})
    tries = 0
    while not pacer.stopped:
        clock.now += pacer.wait(); pacer.sent(); tries += 1
        pacer.failed('HTTP 500', 500, sent_at=clock.now, attempt=99)
    assert 60 <= clock.now < 95 and tries < 30
    pacer, clock = make(patience=60)
    pacer.sent(); pacer.answered({})
    while clock.now + pacer.wait() < 40: clock.now += pacer.wait(); pacer.sent(); pacer.failed('HTTP 500', 500, sent_at=clock.now, attempt=99)
    clock.now += pacer.wait(); pacer.sent(); pacer.answered({})
    assert not pacer.stopped and pacer.failing_since is None


def test_a_server_that_only_says_slow_down_is_left_in_the_end():
    pacer, clock = make(patience=30)
    while not pacer.stopped:
        clock.now += pacer.wait(); pacer.sent()
        pacer.failed('slow down', 429, {'retry-after': '5'}, sent_at=clock.now)
    assert 30 < clock.now < 60 and 'too fast' in pacer.stopped


def test_headers_that_say_nonsense_hold_nothing_up():
    for left, again in (('²', '1s'), ('9' * 5000, '1s'), ('0', '1760000000'), ('0', '9' * 400), ('0', 'soon')):
        pacer, _ = make()
        pacer.sent(); pacer.answered({'x-ratelimit-remaining-requests': left, 'x-ratelimit-reset-requests': again})
        assert pacer.wait() == 0, (left[:9], again[:9])
    pacer, _ = make()
    pacer.sent()
    pacer.failed('slow down', 429, {'retry-after': '9' * 400})
    assert pacer.wait() <= 60 and make()[0].window == 8


def test_an_overloaded_server_that_says_when_is_asked_then_and_no_later_than_the_patience():
    for asked, waited in (('7', 7), ('9999', 60)):
        pacer, _ = make()
        pacer.sent(); pacer.failed('overloaded', 503, {'retry-after': asked})
        assert pacer.wait() == waited
