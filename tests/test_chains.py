"""Chains beyond the lesson: numbers as written, where they are read, hostile text, real chains."""
import json, os, re, time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from mtd.chains import READING_RULES, RULES, arithmetic_steps, false_steps, read_answer, read_answers
from mtd.core import EQUALITIES, number_text, same_answer

MTD_DATA = os.environ.get('MTD_DATA')


@pytest.mark.parametrize('written, value', {
    '$5.50': '5.5', '$ 5.50': '5.5', '1,200': 1200, '1,234,567.5': '1234567.5', '3/4': '3/4', '-5': -5, '−5': -5,
    '-$5': -5, '$-5': -5,
    '20%': 20, '20 %': 20, '5 apples': 5, '5.': 5, '**5**': 5, '1 1/2': '3/2', r'\frac{3}{4}': '3/4',
    r'-\frac{3}{4}': '-3/4',
    r'\frac{-3}{4}': '-3/4', r'2\frac{1}{2}': '5/2', r'\dfrac{1}{2}': '1/2', r'\$1{,}000': 1000, '.5': '1/2',
    '0.10': '0.1', '1e3': 1000,
    '007': 7, '10 / 4': '5/2', '€3': 3, '-3/4': '-3/4', '-1 1/2': '-3/2', '٣': 3, '２½': '5/2', '1 000 000': 10**6,
    '3.2 × 10^4': 32000, '2.5 million': 2_500_000, '5 and a half': '11/2', '3:30': None, 'x^2': None, 'B12': None}.items())
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
    ('It costs 3.5 dollars.', '3.5', 'last number'), ('from 3 to 4-', 4, 'last number'),
    ('**Answer:** 5 of 9', 5, 'answer is'),
    ('The answer is 5:30, after 2 hours', 2, 'answer is'), ('The answer is x ≈ 3.3 or 4', '3.3', 'answer is'),
    # last number: what is no candidate
    ('1. Count.\n2. That makes 15.\n3. Done', 15, 'last number'), ('Step 1: 4 eggs\nStep 2: done', 4, 'last number'), ('It is 7.\n- 2 left\n- one right', 2, 'last number'),
    ('She ran 5 km^2, or m2, at 3:30 in x_{1}.', 5, 'last number'), ('In 1999 she had 3', 3, 'last number'), ('10 - 4', 4, 'last number'), ('He was 3rd', 3, 'last number'),
    # words
    ('The answer is twelve.', 12, 'answer is'), ('The answer is one hundred and five pens', 105, 'answer is'), ('#### twenty-five', 25, '####'), (r'\boxed{\text{twelve}}', 12, 'boxed'),
    ('She had 9. The answer is two dozen.', 24, 'answer is'), ('That makes two dozen', 24, 'last number'), ('Half a dozen, then', 6, 'last number'), ('The answer is minus two', -2, 'answer is'),
    ('The answer is two and a half.', '5/2', 'answer is'), ('The answer is a third of it.', '1/3', 'answer is'), ('The answer is a hundred.', 100, 'answer is'),
    ('The answer is twelve, in digits 13', 13, 'answer is'), ('The answer is 2 + 2 = four', 4, 'answer is'), ('2 of them are three', 2, 'last number'),
    ('The answer is one.', 1, 'answer is'), ('The answer is one of these.', None, ''), ('The answer is that no one knows.', None, ''), ('This one is it', None, ''),
    ('Wait a second, first the twenty-first of nineteen eighty', None, ''), ('someone often weighs a tonne', None, '')])
def test_where_it_is_read(text, value, rule):
    outcome = read_answer(text)
    if value is None: assert outcome.status == 'no_answer' and outcome.answer is None and outcome.detail
    else: assert (outcome.status, outcome.answer, outcome.detail) == ('read', Fraction(value), rule), outcome


def test_too_large():
    assert read_answer('1' * 100_001).status == 'too_large' and read_answer('12', characters=1).status == 'too_large'


@pytest.mark.parametrize('text, value, rule', [
    ('<think>Is it 5? The answer is 5.</think>The answer is 7.', 7, 'answer is'), ('<THINK>5</THINK>7', 7, 'last number'), ('<thinking>5</thinking> seven', 7, 'last number'),
    ('<think>The answer is 5.', None, ''), ('7 pens.<think>or 8', 7, 'last number'), ('The answer is 5.</think>It is 7.', 7, 'last number'), ('<think>5</think>', None, ''),
    ('<think>1 <think> 2</think> 3', 3, 'last number'), ('<think>1</think>4 </think> 5', 5, 'last number'), ('5 < 7 and <b>8</b>', 8, 'last number'), ('<think>', None, ''), ('</think>', None, '')])
def test_thinking_is_not_said(text, value, rule): test_where_it_is_read(text, value, rule)


@pytest.mark.parametrize('mark', ['Question:', 'Q:', 'Problem:', 'Question 2:', 'Q2.', '**Question:**', '### Problem 3:', 'Next question:'.title(), 'Human:', 'User:', 'New Problem:', '## Exercise 4.'])
@pytest.mark.parametrize('before', ['\n', '\n\n', '\n  ', ' ', '  \n'])
def test_an_invented_question_ends_the_answer(mark, before):
    assert read_answer(f'So she has 12 pens.{before}{mark} Bob has 5 hats.\nThe answer is 5.') == read_answer('So she has 12 pens.')
    assert read_answer(f'{mark} Ann has 5 pens and buys 7.{before}So 5 + 7 = 12. The answer is 12.').answer == 12, 'a question said again'
    assert read_answer(f'Let me say it again.{before}{mark} Ann has 5 pens.\nShe buys 7. The answer is 12.').answer == 12


@pytest.mark.parametrize('text, value', [
    ('It is 12.<|im_end|>\n<|im_start|>user 9', 12), ('12</s>9', 12), ('12<|endoftext|>9', 12), ('FAQ: 3 and Q: 4', 4), ('One problem: 4', 4), ('Twelve.\nQuestion: 3?', 12),
    ('12\nQuestionable: 4', 4), ('at 3 Q:4', 4), ('A problem:\n5', 5)])
def test_what_ends_a_turn(text, value): assert read_answer(text).answer == value


# ---- the rules are settings

@pytest.mark.parametrize('rules, text, value, shown', [
    (('harness ####',), '#### 5\n#### 1,200.', 5, '5'), (('harness ####',), 'x\n#### -1,200.', -1200, '-1,200.'), (('harness ####',), 'The answer is 5.', None, ''), (('harness ####',), '####5', None, ''),
    (('harness answer is',), 'The answer is 72.', 72, '72'), (('harness answer is',), 'The answer is 720', 72, '72'), (('harness answer is',), 'The answer is $5.', None, ''),
    (('harness last',), 'It is $2.50.', '2.5', '$2.50.'), (('harness last',), 'so 7', 7, '7'), (('harness last',), 'The answer is -19/3.', 3, '3.'), (('harness last',), 'It is 5. Well...', None, ''),
    (('last number',), '<think>5', 5, '5'), (('think', 'last number'), '<think>5', None, ''), (('answer is',), 'It is 5', None, ''), (('last number', 'boxed'), r'\boxed{4} 5', 5, '5'), ((), '5', None, '')])
def test_rules_can_be_chosen(rules, text, value, shown):
    outcome = read_answer(text, rules=rules)
    assert (outcome.answer, outcome.text) == (None if value is None else Fraction(value), shown)
    assert outcome.detail in rules if value is not None else outcome.status == 'no_answer'


def test_the_harness_patterns_do_what_the_harness_does():
    strict, flexible = re.compile(r'#### (\-?[0-9\.\,]+)'), re.compile(r'(-?[$0-9.,]{2,})|(-?[0-9]+)')
    for text in ('a 1 b 22 c', '$5.', '#### 1.5\nand 7', 'no', '-5-6', '1,2,3 $', '12%', '#### .', '3/4'):
        found = [next(filter(None, m)) for m in flexible.findall(text)]
        outcome = read_answer(text, rules=('harness last',))
        assert (outcome.text or outcome.detail).count(found[-1]) if found else outcome.status == 'no_answer'
        found = strict.findall(text)
        if found and found[0] != '.': assert read_answer(text, rules=('harness ####',)).text == found[0]


def test_an_unknown_rule_is_named():
    with pytest.raises(KeyError, match='boxes'): read_answer('5', rules=('boxes',))


# ---- hostile text

HOSTILE = ['1,111', ',111', '1 111 ', ' 111', 'answer is ', 'answer is 1', '\\boxed{', '\\boxed{1}', '{', '{}', '1 ', '-', '- ', '\\frac{1}', '\\frac{1}{', '#', '####', '#### 1', '1 1/',
           '1/', ' ', '\n', '=', '.', '. ', '$ ', '9', '1e1', '٣', 'answer', 'answer is =', '1,', '1.', '%', '1%', '−1', '{,}', '\\$', 'answer is .1.', '<think>', '</think>', '<think></think>',
           'Question:', '\nQ:', '1\nQuestion:', 'one ', 'one, ', 'one-', 'one and ', 'half a ', 'two a half ', 'hundred ', 'twenty-', '10^', '1^', '1×10^4', '½', '1½', '1\u2009', '1\u2009000', ':1', '1:',
           'negative ', 'minus ', 'Step 1: ', '\n1. ', '\n- ', '**', '\n#', '1 and a half ', '1 dozen ', '1 per ', '⁴', '10⁴', '≈', '<|end|>', '<', '\\', '_{1', '*Question', 'The answer is -']


@pytest.mark.parametrize('reader', [RULES, *((r,) for r in READING_RULES)], ids=lambda r: '+'.join(r) if len(r) < 3 else 'ours')
def test_no_text_makes_it_hang(reader):
    start = time.process_time()
    for piece in HOSTILE:
        for text in ((piece * 100_000)[:100_000], ('The answer is \\boxed{1' + piece * 100_000)[:100_000]):
            assert read_answer(text, rules=reader).status in ('read', 'no_answer')
    assert time.process_time() - start < 120, 'seconds for all: quadratic work on one of these texts alone takes minutes'


pieces = st.sampled_from(['answer is', '\\boxed{', '}', '####', '=', '-', '$', '1', '22', ',', '.', '/', '%', ' ',
                          '\n', '\\frac{', '}{', '0', 'e', 'x', '٣', '²', '<think>', '</think>', 'Question:', 'one', 'two', 'hundred', 'and', 'half', 'dozen', 'million', '½', '^', '×10^', ':', '\u2009'])


def check(text):
    outcome = read_answer(text)
    assert outcome.status in ('read', 'no_answer') and outcome.ok == (outcome.status == 'read') and outcome.detail
    if outcome.ok: assert type(outcome.answer) is Fraction and outcome.text
    for rule in READING_RULES: assert read_answer(text, rules=(rule,)).status in ('read', 'no_answer')
    for name in EQUALITIES: assert same_answer(outcome, outcome, name) == outcome.ok


SEEDS = ['<think>No.</think>Ann has 3 shelves with 4 books: 3 * 4 = 12. The answer is 12.\n\nQuestion: 5?', 'So $x = \\boxed{\\frac{3}{4}}$ of 1{,}000.', 'Thus 3.2 × 10^4.\n#### 1,200.50',
         'She needs one hundred and five, or two dozen and a half.', 'The answer is -2½ million (20%).']
mutated = st.tuples(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 8), pieces | st.text(max_size=4)), max_size=6))


def mutate(seed_and_cuts):
    text, cuts = seed_and_cuts
    for at, length, new in cuts: text = text[:at] + new + text[at + length:]
    return text


texts = st.one_of(st.text(max_size=200), st.lists(pieces, max_size=40).map(''.join), mutated.map(mutate))


@pytest.mark.fuzz
@given(texts)
def test_any_text_has_an_outcome(text): check(text)


@pytest.mark.fuzz
@given(st.integers(0, 10**15 - 1))
def test_words_are_read_back(n):
    assert read_answer(f'The answer is {in_words(n)}.').answer == n and read_answer(f'That makes {in_words(n)} of them').answer == (n if n != 1 else None)


def in_words(n):
    names = 'zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen'.split()
    tens = '- - twenty thirty forty fifty sixty seventy eighty ninety'.split()
    for size, name in ((10**12, 'trillion'), (10**9, 'billion'), (10**6, 'million'), (1000, 'thousand'), (100, 'hundred')):
        if n >= size: return f'{in_words(n // size)} {name}' + (f'{" and" if size == 100 else ""} {in_words(n % size)}' if n % size else '')
    return names[n] if n < 20 else tens[n // 10] + (f'-{names[n % 10]}' if n % 10 else '')


def test_a_batch_is_its_items():
    batch = ['The answer is 4.', 'nothing', None]
    assert read_answers(batch) == [read_answer(t) for t in batch]
    assert [o.status for o in read_answers(batch)] == ['read', 'no_answer', 'no_answer']


# ---- arithmetic

def how(text):
    "What became of the steps of a text: `left = right` of each, with a mark."
    marks = {'': '', 'rounded': '~', 'reading': ' else', 'run on': ' on'}
    return [f'? = {s.right}' if s.note == 'unread' else f'{s.left} {"=" if s.holds else "!="} {s.right}{marks[s.note]}' for s in arithmetic_steps(text)]


@pytest.mark.parametrize('text, steps', {
    # what is read
    '5 + 3 = 8': '8 = 8', 'She has 5+3=8 hats.': '8 = 8', '2 + 3 + 4 = 10': '9 != 10', '20 - 3 - 4 = 13': '13 = 13', '2 + 3 * 4 = 14': '14 = 14', '(2 + 3) * 4 = 20': '20 = 20',
    '[(1 + 1) * 3] / 2 = 3': '3 = 3', '4 x 7.5 = 30': '30 = 30', '4x7 = 28': '28 = 28', '6 × 2 = 12': '12 = 12', '8 ÷ 2 = 4': '4 = 4', '6 · 2 = 12': '12 = 12', '8/2 = 4': '4 = 4', '12/3/2 = 2': '2 = 2',
    '2 ^ 3 = 8': '8 = 8', '2 ** 3 = 8': '8 = 8', '8/2^2 = 2': '2 = 2', '3² = 9': '9 = 9', '2(3 + 4) = 14': '14 = 14', '(2)(3) = 6': '6 = 6', '-3 + 5 = 2': '2 = 2', '5 - -3 = 8': '? = 8', '−3 + 5 = 2': '2 = 2',
    '1,200 + 300 = 1,500': '1500 = 1500', '$5 + $2.50 = $7.50': '15/2 = 15/2', '$ 5 + 2 = $ 7': '7 = 7', '€5 * 2 = €10': '10 = 10', '1 1/2 + 1/2 = 2': '2 = 2', '2½ * 2 = 5': '5 = 5', '.5 * 4 = 2': '2 = 2',
    r'\frac{3}{4} \times 8 = 6': '6 = 6', r'$12 \div 4 = 3$': '3 = 3', r'\(2 \cdot 3 = 6\)': '6 = 6', r'5 \text{ apples} + 3 = 8': '8 = 8', r'10 / 3 \approx 3.3': '10/3 = 33/10~', '10 / 3 ≈ 3': '10/3 = 3~',
    '**2 + 3 = 5**': '5 = 5', '2 + **3** = 5': '5 = 5', '* 2 + 3 = 5': '5 = 5', '- 2 + 3 = 5': '1 = 5 else', '6 times 7 = 42': '42 = 42', '6 plus 7 minus 1 = 12': '12 = 12',
    '12 divided by 4 = 3': '3 = 3', '3 multiplied by 4 = 12': '12 = 12', '2 + 2 == 4': '4 = 4', '2 + 3\n= 5': '5 = 5', '2 + 3 = 5 and 5 * 2 = 11': '5 = 5|10 != 11', '2 * 3 = 6 = 5': '6 = 6|6 != 5',
    '2 + 3 = 1 + 4 = 5': '5 = 5|5 = 5', '48/2 = <<48/2=24>>24': '24 = 24', 'He has <<48/2=24>>24': '24 = 24', 'so 48/3 = <<48/2=24>>24': '16 != 24|24 = 24', '<<5*0=0>>': '0 = 0',
    # units
    '5 apples + 3 apples = 8 apples': '8 = 8', '6 laps * 150 meters = 900 meters': '900 = 900', '5 dollars per hour * 3 hours = 15 dollars': '15 = 15', '5 feet * 12 inches/feet = 61 inches': '? = 61',
    '$4/hour x 6 hours = $24': '24 = 24', '2 m * 3 m = 6 m^2': '6 = 6', '30 minutes * 4 = 2 hours': '120 = 2 else', '30 minutes * 4 = 3 hours': '? = 3', '5 * 60 = 300 minutes = 5 hours': '300 = 300',
    '30 + 90 = 10 years': '120 = 10 else', '5 * 25 cents = $1.25': '125 = 5/4 else', '2 feet + 2 inches = 26 inches': '? = 26', '35 / 5 = 5 hours per day': '7 != 5', '380 / 60 = 6 hours 20 minutes': '? = 6', '17 / 5 = 3 remainder 2': '? = 3',
    # percent and scale words
    '20% * 50 = 10': '10 = 10', '10% of 60 = 6': '6 = 6', '60 - 10% of 60 = 54': '54 = 54', '1/2 of 60 = 30': '30 = 30', '100% - 20% = 80%': '4/5 = 4/5', '100 - 20 = 80%': '80 = 4/5 else', '50 - 20% = 40': '249/5 = 40 else',
    '20 percent * 5 = 1': '1 = 1', '450 * 8% = 36': '36 = 36', '20% * 20 = 8': '4 != 8', '2 dozen * 3 = 72': '72 = 72', '36 / 12 = 3 dozen': '3 = 36 else', '2 million + 500,000 = 2.5 million': '2500000 = 2500000', '(7/35) x 100 = 20%': '20 = 1/5 else',
    # rounding
    '10 / 3 = 3.33': '10/3 = 333/100~', '10 / 3 = 3.34': '10/3 != 167/50', '20 / 3 = 6.66': '20/3 = 333/50~', '20 / 3 = 6.67': '20/3 = 667/100~', '17 / 3 = 5': '17/3 = 5~', '17 / 3 = 6': '17/3 = 6~', '17 / 3 = 7': '17/3 != 7',
    '8.25 - 1 = 7': '29/4 != 7', '2.5 * 3 = 8': '15/2 = 8~', '1.005 + 1 = 2.01': '401/200 = 201/100~', '1/3 = 0.33': '1/3 = 33/100~', '2/3 = 66.7%': '2/3 = 667/1000~', '1.33 * 60 = 80': '399/5 = 80~', '1.31 * 60 = 80': '393/5 != 80',
    '10 / 4 = 2.5 = 3': '5/2 = 5/2|5/2 != 3', '15 * 1/3 = 15 * 0.33': '5 = 99/20~',
    # several readings, run on
    '20 / 2/3 = 30': '10/3 = 30 else', '2 * 5 = 10 + 3 = 13': '10 = 13 on|13 = 13', '2 * 5 = 10 + 4 * 5 = 20': '10 = 30 on|30 = 20 on', '2 * 5 = 11 + 3 = 14': '10 != 14|14 = 14', '10% of 122 - 100 = 2.2': '-439/5 = 11/5 else', '10% of 122 - 100 = 22': '-439/5 = 22 else',
    # what is not read, and what is no step
    '2x + 4 = 10': '? = 10', '3x = 66': '? = 66', 'Total - 5 = 11': '? = 11', '5 * rate = 20': '? = 20', 'half of 30 - 5 = 10': '? = 10', 'half of 30 / 2 = 15': '15 = 15', 'twice 5 + 1 = 12': '? = 12', 'f(2 + 3) = 6': '? = 6',
    '√16 + 2 = 6': '? = 6', '1/0 = 5': '? = 5', '3/4 = 45': '? = 45', '1/3 of the price = 20': '? = 20', '7:30 + 1 = 8': '? = 8', r'\frac{x}{2} + 1 = 5': '? = 5', 'x = 3': '', 'The total = 5': '', '5 = 5': '', '1 hour = 60 minutes': '', '2 + 3 >= 5': '', '2 + 3 != 6': '',
    '2 + 3 = x': '', '2 + 3 is 6': '', '= 5': '', '2 + 3 =': '', '2 + 3, = 5': '', 'so x = 2 + 3 = 6': '5 != 6', 'Step 1: 2 + 2 = 4': '4 = 4', '1. 2 + 2 = 4': '4 = 4', 'In 2020, 2 + 2 = 4': '4 = 4', 'the 2nd is 2 + 2 = 4': '4 = 4', '': '', '9 - 4': ''}.items())
def test_steps(text, steps): assert '|'.join(how(text)) == steps


def test_a_step_says_where_it_stands():
    text = 'So 6 * 5 = 30 kites fly. Then 30 - 8 = 24 are left, and 22 + 2 = 24.'
    steps = arithmetic_steps(text)
    assert [s.written for s in steps] == ['6 * 5 = 30 kites fly', '30 - 8 = 24', '22 + 2 = 24'] and all(s.written in text for s in steps)
    assert false_steps(text) == [steps[1]] and not steps[1].holds and steps[1].left == 22
    assert arithmetic_steps(None) == [] and arithmetic_steps(text, characters=20) == arithmetic_steps(text[:20])


numbers = st.one_of(st.integers(1, 2000).map(lambda n: (Fraction(n), f'{n:,}' if n % 2 else str(n))),
                    st.integers(1, 999).map(lambda n: (Fraction(n, 10), f'{n / 10:.1f}')))
sums = st.recursive(numbers, lambda part: st.tuples(part, st.sampled_from('+-*x×/÷'), part, st.booleans()).map(lambda p: joined(*p)), max_leaves=4)


def joined(a, op, b, tight):
    space = '' if tight and op not in '/÷' else ' ' # a fraction without spaces has two readings
    value = a[0] + b[0] if op == '+' else a[0] - b[0] if op == '-' else a[0] * b[0] if op in '*x×' else a[0] / b[0] if b[0] else Fraction(0)
    return (value, f'({a[1]}{space}{op}{space}{b[1]})') if b[0] or op not in '/÷' else (a[0], a[1])


@pytest.mark.fuzz
@settings(max_examples=settings().max_examples // 4)
@given(sums.filter(lambda s: s[1].startswith('(')), st.integers(2, 10**6), st.booleans(), st.sampled_from(['So that is {}.', '{}', 'First, find it: {} pens in all. The answer is 3', r'\({}\)', '<<{}>>']))
def test_a_true_step_holds_and_a_false_one_does_not(left, off, less, prose):
    value, written = left
    written = written[1:-1] # the outermost parentheses
    true, = arithmetic_steps(prose.format(f'{written} = {number_text(value)}'))
    assert (true.left, true.right, true.holds, true.note) == (value, value, True, '')
    false, = arithmetic_steps(prose.format(f'{written} = {number_text(value - off if less else value + off)}'))
    assert not false.holds and false.left == value and false_steps(prose.format(f'{written} = {number_text(value)}')) == []


@pytest.mark.fuzz
@settings(max_examples=settings().max_examples // 2)
@given(st.one_of(texts, st.lists(st.sampled_from(['1', '2.5', '3/4', ' + ', '=', ' = ', '-', '*', '/', 'x', '(', ')', ' of ', '%', ' apples', ' and ', '^', '<<', '>>', '\n', '$', 'half ', ' dozen', ' hours', '\\frac{1}{0}', '9' * 30, '1e9']), max_size=25).map(''.join)))
def test_any_text_has_steps(text):
    for s in arithmetic_steps(text):
        assert s.written and type(s.right) is Fraction and (s.left is None) == (s.note == 'unread') and (s.holds or s.note == '') and (s.left is not None or s.holds)
        if s.left == s.right: assert s.holds and s.note == ''


BETWEEN = ['1=', '1+1=', '(', ')', '((1', '(1)', '1)(', '1 of ', '1/2 of ', '50% of ', 'a ', '1 a ', '1 a + ', '/a', '1/a', '<<', '<<1=1>>', '>>', '1.33*', 'x ', '1x', '1 x ', '2^', 'm^2', '=\n', 'minus 1', '1 - ', '1 a b and 2 = ',
           '\\text', '1%', '+ 5%', '1.11 = ', '1.11 + ', '1,111 + ']


def test_steps_take_time_in_proportion():
    start = time.process_time()
    for piece in HOSTILE + BETWEEN:
        for text in ((piece * 20_000)[:3_000], (piece * 20_000)[:3_000] + ' = 4', ('1 + 1 = ' + piece * 20_000)[:3_000]): arithmetic_steps(text)
    assert time.process_time() - start < 60, 'seconds for all'


@pytest.mark.full
@pytest.mark.skipif(not MTD_DATA, reason='MTD_DATA is not set')
def test_steps_of_real_chains():
    rows = [json.loads(line) for line in (Path(MTD_DATA)/'teacher'/'llama3_70b_cot_gsm8k_train.jsonl').open(encoding='utf-8')]
    steps = [arithmetic_steps(r['completion']) for r in rows]
    assert sum(map(bool, steps)) == 7405 and sum(map(len, steps)) == 23828
    assert sum(not s.holds for each in steps for s in each) == 207 and sum(s.note == 'unread' for each in steps for s in each) < 1100
    human = [s for line in (Path(MTD_DATA)/'gsm8k'/'test.jsonl').open(encoding='utf-8') for s in arithmetic_steps(json.loads(line)['answer'])]
    assert len(human) > 4500 and [str(s.left) for s in human if not s.holds] == ['273', '91', '12'], 'these are false, whoever wrote them'


@pytest.mark.skipif(not MTD_DATA, reason='MTD_DATA is not set')
def test_real_chains_end_on_their_gold():
    path = Path(MTD_DATA)/'teacher'/'llama3_70b_cot_gsm8k_train.jsonl'
    rows = [json.loads(line) for line in path.open(encoding='utf-8')]
    outcomes = read_answers(r['completion'] for r in rows)
    right = sum(same_answer(o, r['gold']) for o, r in zip(outcomes, rows))
    assert len(rows) == 7441 and right == 7431, 'the ten others state another number than the gold'
    assert sum(o.detail == 'answer is' for o in outcomes) == 7437


@pytest.mark.skipif(not MTD_DATA, reason='MTD_DATA is not set')
def test_real_chains_end_on_their_gold_whoever_reads():
    rows = [json.loads(line) for line in (Path(MTD_DATA)/'teacher'/'llama3_70b_cot_gsm8k_train.jsonl').open(encoding='utf-8')]
    def right(rules, cut=lambda t: t): return sum(same_answer(read_answer(cut(r['completion']), rules=rules), r['gold']) for r in rows)
    assert right(('harness last',)) == 7423 and right(('harness ####',)) == 0 and right(('last number',)) == 7423
    assert right(('harness answer is',)) == 24, 'its pattern asks for a character after the number, and these chains end on it'
    assert right(RULES, lambda t: t.rpartition('The answer is')[0]) == 7184, 'the steps alone lead there too'
