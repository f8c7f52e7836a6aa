"""Numbers as they are written, and when two of them are the same answer."""
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings, strategies as st

from mtd.core import EQUALITIES, Equality, Outcome, number_text, numbers_in, parse_number, same_answer

third = Fraction(1, 3)


@pytest.mark.parametrize('text, value', {
    '12': 12, '-3.50': '-7/2', '1,200': 1200, '$5': 5, '3/4': '3/4', '1e3': 1000, '+5': 5, '5.': 5, '.5': '1/2', '007': 7, '20%': '1/5', '20 percent': '1/5',
    '50 per cent': '1/2', '1 1/2': '3/2', '2 and 1/2': '5/2', '5 and a half': '11/2', '½': '1/2', '2½': '5/2', '-½': '-1/2', '⅔': '2/3', '⅒': '1/10', '↉': 0,
    '−5': -5, '–5': -5, '－５': -5, '٣': 3, '٣٫٥': '7/2', '१२': 12, '１，２００': 1200, '1{,}000': 1000, '\\$1{,}000': 1000, '1\\,000\\,000': 10**6,
    '1\u00a0000\u00a0000': 10**6, '12\u2009345.5': '24691/2', r'\frac{3}{4}': '3/4', r'-\dfrac{3}{4}': '-3/4', r'1\frac{1}{2}': '3/2', '2.5 million': 2_500_000,
    '3 dozen': 36, '5 hundred': 500, '3.2 × 10^4': 32000, r'3.2 \times 10^{4}': 32000, '3.2*10^4': 32000, '3.2 x 10^-2': '0.032', '3.2 · 10⁴': 32000, '3.2e4': 32000,
    '10^4': 10**4, '10⁻²': '1/100', '2^12': 4096, '5²': 25, '5 €': 5, '$5$': 5, '$$5$$.': 5, '+$5': 5, '$+5': 5, ' 5\n': 5, '1234567890123456 × 10^4': 12345678901234560000, '1$6': None, 'e67': None, '€3': 3, '₹1,200': 1200, '-$3': -3, '$-3': -3, 'negative 4': -4,
    # what is no one number
    '': None, '.': None, 'twelve': None, '1/0': None, '1,2': None, '10-4': None, '10 - 4': None, '5 100': None, '1 200 3': None, '3:30': None, '2:1': None, 'x^2': None,
    'B12': None, 'm2': None, '1 2': None, '1_000': None, '0^-1': None, '9^999': None, '--5': None, '5 apples': None, 'nan': None, 'inf': None, '0x10': None}.items())
def test_one_number(text, value): assert parse_number(text) == (None if value is None else Fraction(value)), text


@pytest.mark.parametrize('text, values', [
    ('10-4 and 10 - 4, 10 -4', [10, 4, 10, 4, 10, 4]), ('from 3 to 5, or 3-5, or 3–5', [3, 5, 3, 5, 3, 5]), ('1 000 000 cars', [10**6]), ('3 000 m', [3000]),
    ('1 200 3', [1, 200, 3]), ('2020 500 300', [2020, 500, 300]), ('12 345 6789', [12, 345, 6789]), ('1, 2, 3', [1, 2, 3]), ('at 3:30 or 2:1', []), ('5 m2, 4 m^2, 3 m²', [5, 4, 3]),
    ('x_2, x_{2}, x^{2}, B12', []), ('apples - 5 were eaten', [5]), ('= - 5', [-5]), ('(-5)', [-5]), ('5apples', [5]), ('the 3rd of 1999', [3, 1999]), ('2.5.', ['5/2']),
    ('1,111,1111', [1, 111, 1111]), ('3 dozen eggs at $2 each', [36, 2]), ('10/4=2.5', ['5/2', '5/2']), ('1/0 7', [7]), ('20% of 50 percent', [20, 50]), ('half a million', [])])
def test_numbers_in_a_sentence(text, values): assert [v for v, _ in numbers_in(text)] == [Fraction(v) for v in values]


@pytest.mark.parametrize('predicted, gold, exact, papers, harness', [
    ('5', 5, 1, 1, 1), ('5.0', 5, 1, 1, 0), ('5', 6, 0, 0, 0), ('1,000', 1000, 1, 1, 1), ('$7.', 7, 1, 1, 1), ('#### 7', 7, 0, 0, 0), (10**30, 10**30 + 1, 0, 0, 0),
    (0.1 + 0.2, '0.3', 1, 1, 0), ('24.000000000000004', 24, 1, 1, 0), ('5.0001', 5, 0, 1, 0), ('5.001', 5, 0, 0, 0), ('0.05', 5, 0, 0, 0),
    ('0.33', third, 1, 0, 0), ('0.3', third, 0, 0, 0), (third, '0.33', 0, 0, 0), ('0.3333', third, 1, 1, 0), ('0.334', third, 0, 1, 0), ('5.00', '5.004', 1, 0, 0), ('5', '5.004', 0, 0, 0),
    ('20%', 20, 1, 0, 0), ('20%', '0.2', 1, 1, 0), (20, '20%', 1, 0, 0), ('0.2', '20%', 1, 1, 0), (20, '0.2', 0, 0, 0), ('0.2', 20, 0, 0, 0), ('20%', '20%', 1, 1, 1), ('20%', '0.2%', 0, 0, 0),
    ('0.2%', '20%', 0, 0, 0), ('20%', '20 percent', 1, 1, 0), ('20%', 2000, 0, 0, 0), ('2000%', 20, 1, 1, 0), ('33.33%', third, 1, 1, 0), ('33.33%', '33.3333', 1, 0, 0), ('12.00%', '1/8', 0, 0, 0),
    (Outcome('read', Fraction(20), text='20%'), 20, 1, 1, 0), (Outcome('read', Fraction(20), text='20%'), '1/5', 1, 0, 0), (Outcome('ran', Fraction(1, 5), text='20%'), 20, 1, 0, 0),
    (Outcome('ran', Fraction(1, 5), text='20%'), '0.2', 1, 1, 0), (Outcome('read', Fraction(24), text='two dozen'), 24, 1, 1, 0), (Outcome('solved', Fraction(5)), 5, 1, 1, 1),
    (Outcome('ran', None, text='5'), 5, 0, 0, 0), ('abc', 'abc', 0, 0, 0), (float('nan'), 1, 0, 0, 0), (True, 1, 0, 0, 0), (None, 0, 0, 0, 0), ([], 0, 0, 0, 0), ('2.55 million', 2_550_000.001, 1, 0, 0),
    ('2.55 million', 2_554_000, 0, 0, 0)])
def test_same_answer(predicted, gold, exact, papers, harness):
    assert [same_answer(predicted, gold, name) for name in ('exact', 'papers', 'harness')] == [exact, papers, harness]


def test_each_part_can_be_switched():
    assert same_answer('5.3', 5, Equality(absolute=0.5)) and not same_answer(6, 5, Equality(absolute=2)) and same_answer(6, 5, Equality(absolute=2, integers=False))
    assert same_answer('5.04', '5', Equality(relative=0.01)) and not same_answer('0.33', third, Equality(rounded=False))
    assert not same_answer('20%', 20, Equality(percent=False)) and not same_answer('5.5', 5, Equality(absolute=0.5)), 'nearer means less than'
    with pytest.raises(KeyError): same_answer(1, 1, 'exakt')


# ---- every notation of a random number is read back

whole = st.integers(-10**9, 10**9)
decimal = st.decimals(-10**6, 10**6, places=3, allow_nan=False, allow_infinity=False).map(Fraction)
ratio = st.tuples(st.integers(0, 999), st.integers(1, 99)).map(lambda x: Fraction(*x))
def scripts(start): return str.maketrans('0123456789', ''.join(chr(start + i) for i in range(10)))
def spaced(x, space): return f'{x:,}'.replace(',', space)
def plain(x): return number_text(x)
NOTATIONS = {
    'plain': (whole, str), 'number_text': (decimal | ratio, plain), 'commas': (whole, lambda x: f'{x:,}'), 'LaTeX commas': (whole, lambda x: spaced(x, '{,}')),
    'thin spaces': (whole, lambda x: spaced(x, '\u2009')), 'NBSP': (whole, lambda x: spaced(x, '\u00a0')), 'LaTeX spaces': (whole, lambda x: spaced(x, r'\,')),
    'spaces': (whole, lambda x: spaced(x, ' ')), 'dollars': (st.integers(0, 10**9), lambda x: f'${x:,}.00'), 'minus': (st.integers(0, 10**6).map(lambda x: -x), lambda x: f'−{-x}' if x else '0'),
    'frac': (ratio, lambda x: rf'\frac{{{x.numerator}}}{{{x.denominator}}}'), 'mixed': (ratio, lambda x: f'3 {x.numerator}/{x.denominator}'),
    'LaTeX mixed': (ratio, lambda x: rf'3\frac{{{x.numerator}}}{{{x.denominator}}}'), 'vulgar': (st.integers(0, 10**6), lambda x: f'{x}¾'), 'million': (ratio, lambda x: f'{plain(x)} million'),
    'power': (whole, lambda x: f'{x} × 10^4'), 'LaTeX power': (whole, lambda x: rf'{x} \times 10^{{-3}}'), 'raised': (whole, lambda x: f'{x}·10⁻⁵'), 'e': (whole, lambda x: f'{x}e4'),
    'Arabic': (whole, lambda x: str(x).translate(scripts(0x660))), 'Devanagari': (whole, lambda x: str(x).translate(scripts(0x966))), 'fullwidth': (whole, lambda x: str(x).translate(scripts(0xff10))),
}
MEANT = {'mixed': lambda x: 3 + x, 'LaTeX mixed': lambda x: 3 + x, 'vulgar': lambda x: x + Fraction(3, 4), 'million': lambda x: x * 10**6, 'power': lambda x: Fraction(x) * 10**4,
         'LaTeX power': lambda x: Fraction(x) / 1000, 'raised': lambda x: Fraction(x) / 10**5, 'e': lambda x: Fraction(x) * 10**4}


@pytest.mark.parametrize('notation', NOTATIONS)
@settings(max_examples=100) # of each notation
@given(data=st.data())
def test_every_notation_is_read_back(notation, data):
    numbers, write = NOTATIONS[notation]
    x = data.draw(numbers)
    text, value = write(x), MEANT.get(notation, Fraction)(x)
    for sentence in ('It is {} pens.', '{}', 'Then x = {}, they say', '({})'):
        assert [v for v, _ in numbers_in(sentence.format(text))] == [value], (sentence.format(text))
    if notation != 'spaces': assert parse_number(text) == value
    assert same_answer(Outcome('read', value, text=text), value)


@pytest.mark.fuzz
@given(st.fractions() | decimal | whole.map(Fraction))
def test_number_text_is_read_back(x): assert parse_number(number_text(x)) == x


# ---- equality's own laws

numbers = st.fractions(max_denominator=1000) | decimal | st.integers(-50, 50).map(Fraction)
written = numbers.flatmap(lambda x: st.sampled_from([x, number_text(x), number_text(x) + '%', Outcome('read', x, text=number_text(x) + '%'), Outcome('read', x, text=number_text(x)), float(x)]))


@pytest.mark.fuzz
@given(written, written, st.sampled_from(list(EQUALITIES)))
def test_laws_of_equality(a, b, name):
    assert same_answer(a, a, name)
    if name != 'exact': assert same_answer(a, b, name) == same_answer(b, a, name)
    assert same_answer(a, b, Equality(rounded=False)) == same_answer(b, a, Equality(rounded=False)), 'but for roundings it holds both ways'


@pytest.mark.fuzz
@given(st.integers(), st.integers(), st.sampled_from(list(EQUALITIES)))
def test_integers_are_the_same_only_if_equal(a, b, name):
    for x, y in ((a, b), (a, a + 1), (10**20 + a, 10**20 + b)): assert same_answer(x, y, name) == same_answer(str(x), str(y), name) == (x == y)


@pytest.mark.fuzz
@given(st.text(max_size=60) | st.from_regex(r'[-$]?[0-9.,/ eE^%½٣{}\\]{0,30}', fullmatch=True), st.floats() | st.text(max_size=20) | st.none(), st.sampled_from(list(EQUALITIES)))
def test_no_text_is_too_odd(a, b, name):
    value = parse_number(a)
    assert value is None or isinstance(value, Fraction)
    verdict = same_answer(a, b, name)
    assert verdict in (True, False) and not (verdict and (value is None or parse_number(b) is None))


def test_huge_answers_are_compared_without_complaint():
    huge = Fraction(10**6000)
    for name in EQUALITIES:
        assert same_answer(huge, huge, name) and not same_answer(huge, huge + 1, name) and not same_answer(Outcome('solved', huge), 1, name)
    assert not same_answer('9' * 5000, 1) and not same_answer('0.' + '3' * 5000, third) and not same_answer(Outcome('read', third, text='.1' * 10**5), 1)
    assert math.isfinite(float(parse_number('1e300'))) and parse_number('1' * 999) == int('1' * 999)
