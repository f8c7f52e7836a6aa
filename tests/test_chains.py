"""Chains beyond the lesson: numbers as written, where they are read, hostile text, real chains."""
import json, os, time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from mtd.chains import read_answer, read_answers
from mtd.core import same_answer

MTD_DATA = os.environ.get('MTD_DATA')


@pytest.mark.parametrize('written, value', {
    '$5.50': '5.5', '$ 5.50': '5.5', '1,200': 1200, '1,234,567.5': '1234567.5', '3/4': '3/4', '-5': -5, '−5': -5,
    '-$5': -5, '$-5': -5,
    '20%': 20, '20 %': 20, '5 apples': 5, '5.': 5, '**5**': 5, '1 1/2': '3/2', r'\frac{3}{4}': '3/4',
    r'-\frac{3}{4}': '-3/4',
    r'\frac{-3}{4}': '-3/4', r'2\frac{1}{2}': '5/2', r'\dfrac{1}{2}': '1/2', r'\$1{,}000': 1000, '.5': '1/2',
    '0.10': '0.1', '1e3': 1000,
    '007': 7, '10 / 4': '5/2', '€3': 3, '-3/4': '-3/4', '-1 1/2': '-3/2', '٣': None}.items())
def test_numbers_as_people_write_them(written, value):
    outcome = read_answer(f'There were 99 of them. The answer is {written}')
    if value is None: assert outcome.detail == 'last number'
    else: assert (outcome.answer, outcome.detail) == (Fraction(value), 'answer is'), outcome


@pytest.mark.parametrize('text, value, rule', [
    ('The answer is 7. I used 3 steps.', 7, 'answer is'), ('The answer is 3 * 2 = 6 pens', 6, 'answer is'),
    ('the ANSWER IS: 8', 8, 'answer is'),
    ('Answer: 8', 8, 'answer is'), ('The answer is 5. No, the answer is 6.', 6, 'answer is'),
    ('The answer is 4. The answer is clear.', 4, 'answer is'),
    ('The answer is\n\n12\n3', 12, 'answer is'), ('The answer is 2.5. 9', '2.5', 'answer is'), ('The answer is 1,5',
    1, 'answer is'),
    ('#### 5\nThe answer is 6', 5, '####'), ('#### 5\n#### 6', 6, '####'), ('####\nThe answer is 6', 6, 'answer is'),
    ('####', None, ''),
    (r'\boxed{5} #### 6', 5, 'boxed'), (r'\boxed{5} and \boxed{6}', 6, 'boxed'), (r'\boxed{\frac{1}{2}}', '1/2',
    'boxed'),
    (r'\boxed{\text{about } 7}', 7, 'boxed'), (r'\boxed{3 and \boxed{4}', 4, 'boxed'), (r'\boxed{3', 3, 'last number'),
    ('5 and 10-4', 4, 'last number'), ('1/0', None, ''), ('vitamin B12', None, ''), ('', None, ''),
    ('The answer is unknown.', None, ''),
    ('It costs 3.5 dollars.', '3.5', 'last number'), ('from 3 to 4-', 4, 'last number')])
def test_where_it_is_read(text, value, rule):
    outcome = read_answer(text)
    if value is None: assert outcome.status == 'no_answer' and outcome.answer is None and outcome.detail
    else: assert (outcome.status, outcome.answer, outcome.detail) == ('read', Fraction(value), rule), outcome


def test_too_large():
    assert read_answer('1' * 100_001).status == 'too_large' and read_answer('12', characters=1).status == 'too_large'


@pytest.mark.parametrize('piece', [
    '1,111', 'answer is ', 'answer is 1', '\\boxed{', '\\boxed{1}', '{', '{}', '1 ', '-', '- ', '\\frac{1}',
    '\\frac{1}{', '#', '####', '#### 1', '1 1/',
    '1/', ' ', '\n', '=', '.', '. ', '$ ', '9', '1e1', '٣', 'answer', 'answer is =', '1,', '1.', '%', '1%', '−1',
    '{,}', '\\$', 'answer is .1.'])
def test_time_grows_with_length_only(piece):
    took = []
    for n in (25_000, 100_000):
        text = (piece * n)[:n]
        best = []
        for _ in range(2):
            start = time.process_time()
            assert read_answer(text).status in ('read', 'no_answer')
            best.append(time.process_time() - start)
        took.append(min(best))
    assert took[1] < 3 and took[1] < 10 * took[0] + 0.05, took  # four times the text; sixteen times would be quadratic


pieces = st.sampled_from(['answer is', '\\boxed{', '}', '####', '=', '-', '$', '1', '22', ',', '.', '/', '%', ' ',
                          '\n', '\\frac{', '}{', '0', 'e', 'x', '٣', '²'])


def check(text):
    outcome = read_answer(text)
    assert outcome.status in ('read', 'no_answer') and outcome.ok == (outcome.status == 'read') and outcome.detail
    if outcome.ok: assert outcome.text and any(c.isdigit() for c in outcome.text)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.one_of(st.text(max_size=200), st.lists(pieces, max_size=40).map(''.join)))
def test_any_text_has_an_outcome(text): check(text)


@pytest.mark.full
@settings(max_examples=50_000, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(pieces, max_size=40).map(''.join)))
def test_any_text_has_an_outcome_long(text): check(text)


def test_a_batch_is_its_items():
    batch = ['The answer is 4.', 'nothing', None]
    assert read_answers(batch) == [read_answer(t) for t in batch]
    assert [o.status for o in read_answers(batch)] == ['read', 'no_answer', 'no_answer']


@pytest.mark.skipif(not MTD_DATA, reason='MTD_DATA is not set')
def test_real_chains_end_on_their_gold():
    path = Path(MTD_DATA)/'teacher'/'llama3_70b_cot_gsm8k_train.jsonl'
    rows = [json.loads(line) for line in path.open(encoding='utf-8')]
    outcomes = read_answers(r['completion'] for r in rows)
    right = sum(same_answer(o, r['gold']) for o, r in zip(outcomes, rows))
    assert len(rows) == 7441 and right == 7431, 'the ten others state another number than the gold'
    assert sum(o.detail == 'answer is' for o in outcomes) == 7437
