"""Scoring a student: what a lesson has no room for."""
import itertools, json, random
from fractions import Fraction

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from mtd import evaluation as ev
from mtd.core import Outcome, Problem

A = lambda x: Outcome('solved', Fraction(x), text=str(x)) if x is not None else Outcome('failed')
def problems(answers): return [Problem(f'p{i}', 'How many?', Fraction(a)) for i, a in enumerate(answers)]

# ---- scores

@given(st.integers(1, 5000), st.data())
@hypothesis_settings(deadline=None)
def test_the_interval_holds_the_rate_and_stays_between_0_and_1(n, data):
    right = data.draw(st.integers(0, n))
    low, high = ev.wilson_interval(right, n)
    assert 0 <= low <= right / n <= high <= 1 and low < high
    assert ev.wilson_interval(n - right, n) == pytest.approx((1 - high, 1 - low))

def test_the_interval_covers_as_often_as_it_says():
    rng, p, n, trials = random.Random(0), 0.8, 100, 3000
    inside = sum(low <= p <= high for low, high in (ev.wilson_interval(sum(rng.random() < p for _ in range(n)), n) for _ in range(trials)))
    assert 0.93 < inside / trials < 0.97

def test_a_score_counts_right_wrong_and_unparsable():
    s = ev.score([A(1), A(3), A(None), A('0.33')], problems([1, 2, 3, '1/3']), 'x')
    assert (s.n, s.right, s.unparsable, s.accuracy) == (4, 2, 1, 0.5) and s.standard_error == pytest.approx(0.25)
    assert json.loads(json.dumps(s.to_dict()))['interval'] == list(s.interval)
    assert '50.0%' in s._repr_markdown_()
    with pytest.raises(ValueError, match='2 outcomes for 1 problems'): ev.score([A(1), A(1)], problems([1]))

def test_no_problems_make_no_accuracy():
    s = ev.score([], [])
    assert s.n == 0 and s.accuracy != s.accuracy and s.interval == (0.0, 1.0) and s.to_dict()['accuracy'] is None and '–' in s._repr_markdown_()

def test_a_table_is_read_by_name():
    table = ev.score_thoughts(dict(a=[A(1)], b=[A(2)]), problems([1]))
    assert [s.name for s in table] == ['a', 'b'] and table['a'].right == 1
    with pytest.raises(KeyError, match='no score is called'): table['c']

# ---- combining

outcomes = st.sampled_from([None, 1, 2, 3]).map(A)
thoughts = st.integers(1, 8).flatmap(lambda n: st.dictionaries(st.sampled_from(['cot', 'pot', 'eot', 'tot']), st.lists(outcomes, min_size=n, max_size=n), min_size=2))

@given(thoughts)
@hypothesis_settings(deadline=None, max_examples=150)
def test_no_rule_passes_the_oracle_and_combining_answers_whenever_one_does(by_thought):
    names, n = list(by_thought), len(next(iter(by_thought.values())))
    gold = problems([1] * n)
    best = ev.oracle(by_thought, gold, names).rows[0]
    for order in itertools.permutations(names):
        for rule in (ev.combine, ev.vote_thoughts):
            s = ev.score(rule(by_thought, order), gold)
            assert s.right <= best.right and s.unparsable == best.unparsable
    chosen = ev.choose_order(by_thought, gold)
    assert ev.score(chosen.apply(by_thought), gold).right == max(r.right for r in chosen.scores)

@given(thoughts)
@hypothesis_settings(deadline=None, max_examples=100)
def test_a_majority_wins_whatever_the_order(by_thought):
    names = list(by_thought)
    for order in itertools.permutations(names):
        for i, voted in enumerate(ev.vote_thoughts(by_thought, order)):
            given_answers = [by_thought[t][i].answer for t in order if by_thought[t][i].ok]
            if not given_answers: assert not voted.ok
            else:
                most = max(map(given_answers.count, given_answers))
                assert voted.answer == next(a for a in given_answers if given_answers.count(a) == most)

def test_the_choice_is_deterministic_in_a_tie():
    same = dict(b=[A(1), A(2)], a=[A(1), A(2)])
    chosen = ev.choose_order(same, problems([1, 2]))
    assert (chosen.rule, chosen.order, chosen.name) == ('fallback', ('b', 'a'), 'b → a') and 'Chosen: **b → a**' in chosen._repr_markdown_()
    assert len(chosen.scores) == 3 and len(ev.choose_order(dict(a=[A(1)]), problems([1])).scores) == 1

def test_the_choice_finds_the_order_that_helps():
    by_thought = dict(cot=[A(9), A(9), A(9)], eot=[A(1), A(None), A(None)], pot=[A(8), A(2), A(None)])
    assert ev.choose_order(by_thought, problems([1, 2, 9])).order == ('eot', 'pot', 'cot')

def test_a_vote_needs_no_thought_twice_to_outvote_one():
    assert ev.vote_thoughts(dict(a=[A(7)], b=[A(1)], c=[A('1')], d=[A(None)]), ('a', 'b', 'c', 'd'))[0].answer == 1

def test_an_answer_below_zero_and_below_all_training_answers_is_not_heard():
    by_thought, gold = dict(cot=[A(4), A(-1)], pot=[A(-4), A(-9)]), problems([4, -1])
    assert ev.least_answer(problems([3, 7])) == ev.least_answer([]) == 0 and ev.least_answer(problems([3, -2])) == -2
    plain, heard = (ev.choose_order(by_thought, gold, least=least) for least in (None, Fraction(0)))
    assert [o.answer for o in ev.apply_rule('fallback', ('pot', 'cot'), by_thought)] == [-4, -9]
    assert [o.answer for o in ev.apply_rule('fallback', ('pot', 'cot'), by_thought, Fraction(0))] == [4, None]
    assert [o.answer for o in ev.apply_rule('fallback', ('pot', 'cot'), by_thought, Fraction(-2))] == [4, -1]
    assert heard.least == 0 and [o.ok for o in heard.apply(by_thought)] == [True, False] and plain.apply(by_thought)[1].answer == -1
    assert heard.scores['pot → cot'].right == 1 and plain.scores['pot → cot'].right == 0 and ev.score(by_thought['pot'], gold).unparsable == 0


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(ValueError, match='unlike numbers'): ev.combine(dict(a=[A(1)], b=[]), ('a', 'b'))
    with pytest.raises(ValueError, match='names'): ev.vote_thoughts(dict(a=[A(1)]), ('b',))
    with pytest.raises(ValueError, match='names'): ev.oracle(dict(a=[A(1)]), problems([1]), ('a', 'z'))

def test_scores_are_counted_by_the_chosen_equality():
    near = dict(a=[A('1.0005'), A(2)], b=[A(1), A(3)])
    gold = problems([1, 2])
    for name, a, best in (('exact', 1, 2), ('papers', 2, 2), ('harness', 1, 2)):
        assert ev.score(near['a'], gold, equality=name).right == ev.score_thoughts(near, gold, name)['a'].right == sum(ev.right_ones(near['a'], gold, name)) == a
        assert ev.score_rules(near, gold, ('a', 'b'), name)['a → b'].right == a and ev.oracle(near, gold, equality=name)['a+b'].right == best
    assert ev.choose_order(near, gold, 'papers').scores['a → b'].right == 2 and ev.choose_order(near, gold).scores['a → b'].right == 1

def test_every_combination_has_its_oracle():
    table = ev.oracle(dict(a=[A(1), A(9)], b=[A(9), A(2)], c=[A(None), A(None)]), problems([1, 2]))
    assert {s.name: (s.right, s.unparsable) for s in table} == {'a+b': (2, 0), 'a+c': (1, 0), 'b+c': (1, 0), 'a+b+c': (2, 0)}

def test_baselines():
    assert ev.most_frequent_answer(problems([3, 2, 2, 3, 7])) == 2, 'a tie goes to the smaller'
    assert ev.score(ev.constant_outcomes(Fraction(2), 3), problems([2, 2, 5])).right == 2
    with pytest.raises(ValueError, match='no problems'): ev.most_frequent_answer([])
    from mtd.chains import read_answer
    from mtd.mixing import answers_only
    example, = answers_only(problems([Fraction(7, 2)]))
    assert read_answer(example['target']).answer == Fraction(7, 2), 'what the baseline is taught can be read back'
