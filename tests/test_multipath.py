"""Many paths and one vote: what the lesson has no room for."""
import math, random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from mtd import evaluation as ev, multipath as mp
from mtd.core import Outcome, Problem

ACCURACY = dict(cot=0.2, pot=0.7, eot=0.5)


def path(thought, x, log=-1.0, tokens=4):
    "`x`: a number, or None for a path that failed."
    return mp.SampledPath(thought, '', Outcome('failed') if x is None else Outcome('solved', Fraction(x)), tokens, log)


paths_strategy = st.lists(st.builds(path, st.sampled_from(['cot', 'pot', 'eot']), st.one_of(st.none(), st.integers(0, 3)), st.floats(-20, 0), st.integers(1, 9)), min_size=1, max_size=14)


def by_hand(paths, rule):
    "The heaviest answers, each rule written out."
    given = [p for p in paths if p.outcome.ok]
    weight = dict(plain=lambda p: 1, accuracy=lambda p: ACCURACY[p.thought], sequence=lambda p: math.exp(p.log_probability), token=lambda p: math.exp(p.log_probability / p.tokens))
    answers = list(dict.fromkeys(p.outcome.answer for p in given))
    if rule == 'agreement': key = {a: (len({p.thought for p in given if p.outcome.answer == a}), sum(p.outcome.answer == a for p in given)) for a in answers}
    else: key = {a: sum(weight[rule](p) for p in given if p.outcome.answer == a) for a in answers}
    top = max(key.values(), default=None)
    return [a for a in answers if (key[a] == top if rule == 'agreement' else math.isclose(key[a], top, rel_tol=1e-12))]


@given(paths_strategy, st.sampled_from(list(mp.VOTES)))
@hypothesis_settings(max_examples=300, deadline=None)
def test_a_vote_is_what_its_rule_says(paths, rule):
    ballot, best = mp.vote(paths, rule, ACCURACY), by_hand(paths, rule)
    if not best: assert not ballot.outcome.ok and ballot.share == 0 and ballot.ties == 0
    else:
        assert ballot.outcome.answer == best[0] and ballot.ties == len(best) - 1 and 0 < ballot.share <= 1
        assert ballot.outcome is next(p.outcome for p in paths if p.outcome.answer == best[0])


@given(paths_strategy)
@hypothesis_settings(max_examples=100, deadline=None)
def test_who_failed_does_not_vote(paths):
    heard = [p for p in paths if p.outcome.ok]
    for rule in set(mp.VOTES) - {'agreement'} if heard else (): assert mp.vote(paths, rule, ACCURACY) == mp.vote(heard, rule, ACCURACY)
    if heard: assert mp.vote(paths, 'agreement').outcome == mp.vote(heard, 'agreement').outcome


def test_a_tie_goes_to_the_more_trusted_thought():
    tied = [path('cot', 1), path('eot', 3), path('pot', 2)]
    assert mp.vote(tied).outcome.answer == 1 and mp.vote(tied).ties == 2
    assert mp.vote(tied, order=['pot', 'eot', 'cot']).outcome.answer == 2
    useless = mp.vote(tied, 'accuracy', dict.fromkeys(ACCURACY, 0.0))
    assert useless.outcome.answer == 1 and useless.share == 0 and useless.ties == 2, 'trusting nobody is a tie of all'


def test_answers_that_are_shown_unlike_are_one():
    half, text = mp.SampledPath('cot', '', Outcome('read', Fraction(1, 2), '', '0.5'), 3, -1.), mp.SampledPath('pot', '', Outcome('ran', Fraction(50), '', '50%'), 3, -1.)
    assert ev.answer_groups([half.outcome, Outcome('failed'), Outcome('read', Fraction(2, 4), '', '2/4')]) == [0, None, 0]
    assert mp.vote([path('eot', 7), half, text]).outcome.answer == Fraction(1, 2)


def drawn(rng, n=20, k=12, rate=0.5):
    problems = [Problem(str(i), f'Question {i}?', Fraction(rng.randint(1, 9))) for i in range(n)]
    def one(p, t): return path(t, p.answer if rng.random() < rate else rng.choice([None, 10, 11, 12]), -rng.random(), rng.randint(2, 9))
    return problems, [[one(p, t) for t in ('cot', 'pot') for _ in range(k)] for p in problems]


@pytest.mark.parametrize('rule', ['plain', 'agreement', 'accuracy'])
def test_the_curve_ends_at_the_vote_of_all_and_begins_at_one_path(rule):
    problems, sampled = drawn(random.Random(rule))
    rows = mp.accuracy_by_paths(sampled, problems, [1, 4, 12], rule, ACCURACY, draws=10)
    ballots = [mp.vote(paths, rule, ACCURACY) for paths in sampled]
    assert rows[-1]['accuracy'] == sum(b.outcome.ok and b.outcome.answer == p.answer for b, p in zip(ballots, problems)) / 20
    assert rows[-1]['tied'] == sum(b.ties > 0 for b in ballots) / 20 and rows[-1]['silent'] == sum(not b.outcome.ok for b in ballots) / 20
    assert rows[-1]['tokens'] == pytest.approx(sum(p.tokens for paths in sampled for p in paths) / 20) and rows[0]['tokens'] == pytest.approx(rows[-1]['tokens'] / 12, rel=0.15)
    assert all(r['low'] <= r['accuracy'] <= r['high'] and r['n'] == 20 for r in rows)
    alone = mp.accuracy_by_paths([[p for p in paths if p.thought == 'pot'] for paths in sampled], problems, [1], draws=100)[0]['accuracy']
    single = sum(p.outcome.ok and p.outcome.answer == q.answer for paths, q in zip(sampled, problems) for p in paths if p.thought == 'pot') / (20 * 12)
    assert alone == pytest.approx(single, abs=0.05)


def test_votes_of_scattered_errors_win_and_of_shared_ones_lose():
    problems, sampled = drawn(random.Random(0), n=80, k=20, rate=0.4)
    scattered = mp.accuracy_by_paths(sampled, problems)
    assert [r['k'] for r in scattered] == [1, 2, 3, 5, 10, 20] and scattered[-1]['accuracy'] > scattered[0]['accuracy'] + 0.3
    shared = [[path(p.thought, p.outcome.answer if p.outcome.ok and p.outcome.answer < 10 else 99) for p in paths] for paths in sampled]
    assert mp.accuracy_by_paths(shared, problems)[-1]['accuracy'] < scattered[-1]['accuracy'] - 0.3


@pytest.mark.parametrize('change, says', [(dict(ks=[13]), '12 paths of each'), (dict(ks=[0]), '12 paths of each'), (dict(rule='loudest'), "called 'loudest'"), (dict(rule='accuracy'), 'none is given of cot, pot')])
def test_what_cannot_be_voted_is_refused(change, says):
    problems, sampled = drawn(random.Random(0))
    with pytest.raises(ValueError, match=says): mp.accuracy_by_paths(sampled, problems, **change)
    with pytest.raises(ValueError, match='19 sampled questions for 20'): mp.accuracy_by_paths(sampled[1:], problems)
    with pytest.raises(ValueError, match='no path'): mp.vote([])
    with pytest.raises(ValueError, match='a server does not tell'): mp.vote([path('cot', 1, None)], 'token')


def test_the_rule_is_chosen_on_dev_and_a_server_that_tells_no_probabilities_is_no_hindrance():
    rng = random.Random(0)
    (dev, on_dev), (test, on_test) = drawn(rng), drawn(rng, n=50)
    greedy = lambda problems, rate: {t: [Outcome('solved', p.answer if rng.random() < r else Fraction(99)) for p in problems] for t, r in rate.items()}
    made = mp.votes_of((on_dev, dev, greedy(dev, dict(cot=.1, pot=.9))), dict(test=(on_test, test, greedy(test, dict(cot=.9, pot=.1)))))
    assert made['order'] == ['pot', 'cot'] and made['rule'] == max(made['dev']['rules'], key=lambda r: made['dev']['rules'][r]['accuracy'])
    assert set(made['sets']['test']['curves']) == {'all thoughts', 'cot', 'pot'} and set(made['dev']['rules']) == set(mp.VOTES)
    assert f"{made['sets']['test']['rules'][made['rule']]['accuracy']:.1%}" in mp.votes_table(made) and '| test | 50 | pot: ' in mp.votes_table(made)
    quiet = [[path(p.thought, p.outcome.answer, None) for p in paths] for paths in on_dev]
    assert set(mp.votes_of((quiet, dev, greedy(dev, dict(cot=.1, pot=.9))), {})['dev']['rules']) == {'plain', 'accuracy', 'agreement'}


@pytest.fixture(scope='module')
def student(tmp_path_factory):
    from test_generation import student_in
    return student_in(tmp_path_factory.mktemp('students')/'s', 'scratch-lfm2')


def test_paths_are_executed_in_their_thought_and_more_of_them_begin_with_the_same(student, tmp_path):
    few, many = (mp.sample_paths(student, ['Say 3!', 'Say 4!', 'Say 3!'], k, ('pot', 'cot'), 1.0, max_new_tokens=8, progress=False) for k in (2, 5))
    assert [[p.thought for p in paths] for paths in few] == [['pot'] * 2 + ['cot'] * 2] * 3 and few[0] == few[2] != few[1]
    assert few[0] == many[0][:2] + many[0][5:7] and len({p.text for p in many[0]}) > 3
    from mtd.prompting import execute
    assert all(p.outcome == execute(p.thought, p.text) and p.log_probability < 0 and 0 < p.tokens <= 8 for paths in many for p in paths)
    kept = tmp_path/'answers.jsonl'
    assert mp.sample_paths(student, ['Say 3!'], 2, ('pot', 'cot'), 1.0, max_new_tokens=8, progress=False, path=kept) == [few[0]]
    assert Counter(line[:10] for line in kept.read_text().splitlines())[kept.read_text().splitlines()[1][:10]] == 4
    with pytest.raises(ValueError, match='temperature'): mp.sample_paths(student, ['Say 3!'], 2, temperature=0.0)
