"""Two texts have one form exactly where they are the same solution: random rewritings keep it, random changes do not, and a slow oracle agrees."""
import ast, itertools, json, os, random, re, subprocess, sys, warnings
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from mtd import forms
from mtd.forms import chain_form, diversity, form, program_form, system_form
from mtd.lab import lab_stories
from mtd.prompting import THOUGHTS, execute

MTD_DATA = os.environ.get('MTD_DATA')
WORDS = [f'{a}{b}' for a in ('brook', 'cliff', 'drum', 'ember', 'flute') for b in ('', '_2', 's', 'Left')]

# Equation systems, random ones: an expression is a number, a name, or (operation, left, right)
LEAVES = st.one_of(st.integers(0, 5), st.sampled_from(['a', 'b', 'c', 'd', 'ans']), st.sampled_from(['1.5', '0.25', '20%']))
EXPRESSIONS = st.recursive(LEAVES, lambda e: st.tuples(st.sampled_from('++--**/'), e, e), max_leaves=5)
CALLS = st.one_of(EXPRESSIONS, st.tuples(st.sampled_from(['min', 'max', 'ceil', 'pow']), EXPRESSIONS, EXPRESSIONS))
SYSTEMS = st.lists(st.tuples(CALLS, EXPRESSIONS), min_size=1, max_size=5)


def written(e):
    if not isinstance(e, tuple): return str(e)
    op, x, y = e
    x, y = written(x), written(y)
    if op == 'pow': return f'({x})**2 - ({y})'
    return f'ceil({x}) - ({y})' if op == 'ceil' else f'{op}({x}, {y})' if op in ('min', 'max') else f'({x}) {op} ({y})'


def text_of(system): return '\n'.join(f'{written(left)} = {written(right)}' for left, right in system)


def rewritten(e, rng, names): # another spelling of the same expression
    if not isinstance(e, tuple): return names.get(e, e)
    op, x, y = e
    x, y = rewritten(x, rng, names), rewritten(y, rng, names)
    if op in ('+', '*', 'min', 'max') and rng.random() < .5: x, y = y, x
    if op in '+*' and isinstance(x, tuple) and x[0] == op and rng.random() < .5: x, y = x[1], (op, x[2], y)
    if op == '-' and rng.random() < .3: return '+', x, ('*', -1, y)
    return op, x, y


def scrambled(system, rng):
    names = dict(zip('abcd', rng.sample(WORDS, 4)))
    out = []
    for left, right in system:
        left, right = rewritten(left, rng, names), rewritten(right, rng, names)
        if rng.random() < .5: left, right = right, left
        if rng.random() < .3: left, right = ('*', k := rng.choice((2, 3, '1.5', -1)), left), ('*', right, k)
        out += [(left, right)] * rng.choice((1, 1, 1, 2))
    rng.shuffle(out)
    return '\n'.join(line + rng.choice(('', '  # so', '\n% a sentence about it')) for line in text_of(out).split('\n'))


@given(SYSTEMS, st.randoms(use_true_random=False))
@settings(max_examples=500)
def test_a_rewritten_system_keeps_its_form(system, rng):
    text = text_of(system)
    assert system_form(scrambled(system, rng)) == system_form(text) and not system_form(text).startswith('text ')


# The oracle: equations as polynomials, systems as sets of them, all permutations of the names
MONOMIALS = st.sampled_from([(), ('a',), ('b',), ('c',), ('ans',), ('a',), ('b',), ('ans',), ('a', 'b'), ('b', 'c'), ('a', 'a'), ('a', 'ans')])
POLYNOMIALS = st.dictionaries(MONOMIALS, st.sampled_from([-2, -1, 1, 1, 2, 3]), min_size=1, max_size=4)


def normal(p): # a polynomial up to a factor
    first = p[min(p)]
    return frozenset((k, Fraction(c, first)) for k, c in p.items())


def isomorphic(one, two):
    names = [sorted({n for p in s for k in p for n in k}) for s in (one, two)]
    if len(names[0]) != len(names[1]) or ('ans' in names[0]) != ('ans' in names[1]): return False
    aim = {normal(p) for p in two}
    for order in itertools.permutations(names[1]):
        new = dict(zip(names[0], order))
        if new.get('ans', 'ans') != 'ans': continue
        if {normal({tuple(sorted(new[n] for n in k)): c for k, c in p.items()}) for p in one} == aim: return True
    return False


def spelled(system, rng):
    lines = []
    for p in system:
        terms = [f'{c}*{"*".join(rng.sample(k, len(k)))}' if k else str(c) for k, c in p.items()]
        rng.shuffle(terms)
        cut = rng.randint(0, len(terms))
        lines.append(f'{" + ".join(terms[:cut]) or 0} = {" - ".join(["0", *(f"({t})" for t in terms[cut:])])}')
    return '\n'.join(rng.sample(lines, len(lines)))


def mutated(system, rng):
    system = [dict(p) for p in system]
    p = rng.choice(system)
    k = rng.choice(list(p))
    match rng.choice(('coefficient', 'name', 'drop', 'swap', 'nothing')):
        case 'coefficient': p[k] += rng.choice((-1, 1))
        case 'name': p[rng.choice([('a',), ('b',), ('c',), ('ans',), ()])] = rng.choice((-1, 1, 2))
        case 'drop' if len(p) > 1: del p[k]
        case 'swap':
            new = dict(zip('abc', rng.sample('abc', 3)))
            system = [{tuple(sorted(new.get(n, n) for n in k)): c for k, c in q.items()} for q in system]
    return [{k: c for k, c in q.items() if c} or {(): 1} for q in system]


@given(st.lists(POLYNOMIALS, min_size=1, max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=500)
def test_forms_are_equal_exactly_where_the_oracle_finds_the_systems_the_same(system, rng):
    other = mutated(system, rng)
    one, two = spelled(system, rng), spelled(other, rng)
    want = {n for p in system for k in p for n in k} & {'ans'} == {n for p in other for k in p for n in k} & {'ans'} and isomorphic(system, other)
    assert (system_form(one) == system_form(two)) == want, (one, two)


@pytest.mark.parametrize('one, two', [
    ('2*x = 4\nans = x', 'ans = y\ny = 2'), ('z/3 = 1/6', '2*y = 1'), ('a = 50%', '2*b = 1'), ('a = 5\nb = 5\nans = a + b', 'p = 5\nans = q + p\nq = 5'),
    ('ans = ceil(a/2) + min(b, c)\na + b = 3', 'p + q = 3\nmin(r, p) + ceil(q/2) = ans'), ('ans = x**2', 'y*y = ans'), ('c*(y + 1) = 2', 'b*a + b = 2'),
    ('x = 1\nx = 1', 'x = 1'), ('cost_of_it = 3', 'z = 3'), ('a = 1,000', 'b = 1000'), ('no system', '  no\n system '),
    ('```\nans = 3\n```', 'ans = 3'), ('ans = 4', 'answer = 4'), ('x = 4', 'ans = 4')])
def test_the_same_system(one, two): assert system_form(one) == system_form(two)


@pytest.mark.parametrize('one, two', [
    ('x = 2\nans = x', 'ans = 2'), ('a = 5\nb = 3\nans = a', 'a = 5\nb = 3\nans = b'), ('ans = x / y\nx = 4', 'ans = y / x\nx = 4'), ('ans = ceil(x)', 'ans = floor(x)'),
    ('ans = x - 1', 'ans = x + 1'), ('ans = min(x, 2*y)', 'ans = max(x, 2*y)'), ('a + b = 3', 'a - b = 3'), ('x = 1\ny = 2', 'x = 1\nx = 2'), ('ans = x**2', 'ans = x**3'),
    ('ans = x % 3', 'ans = 3 % x'), ('0 = 0', '1 = 2'), ('x = 2', 'ans = 2\nx = 2'), ('ans = 1/0', 'ans = 2/0'), ('no system', 'a system')])
def test_another_system(one, two): assert system_form(one) != system_form(two)


def graph(edges, rng=None): # an equation for each edge
    names = [f'n{i}' for i in range(1 + max(map(max, edges)))]
    if rng: rng.shuffle(names)
    edges = [tuple(rng.sample(e, 2)) if rng else e for e in (rng.sample(edges, len(edges)) if rng else edges)]
    return '\n'.join(f'{names[a]}*{names[b]} = 1' for a, b in edges)


RING, TWO_RINGS = [(i, (i + 1) % 6) for i in range(6)], [(i, (i + 1) % 3) for i in range(3)] + [(3 + i, 3 + (i + 1) % 3) for i in range(3)]
PRISM, UTILITY = [*TWO_RINGS, (0, 3), (1, 4), (2, 5)], [(i, j) for i in range(3) for j in range(3, 6)]
CELLS = list(itertools.product(range(4), range(4)))
ROOK = [(i, j) for i, (a, b) in enumerate(CELLS) for j, (c, d) in enumerate(CELLS) if i < j and (a == c) != (b == d)]
SHRIKHANDE = [(i, j) for i, (a, b) in enumerate(CELLS) for j, (c, d) in enumerate(CELLS) if i < j and ((c - a) % 4, (d - b) % 4) in {(0, 1), (0, 3), (1, 0), (3, 0), (1, 1), (3, 3)}]


def test_puzzles_that_colours_alone_do_not_tell_apart():
    rng = random.Random(1)
    for one, two in ((RING, TWO_RINGS), (PRISM, UTILITY), (ROOK, SHRIKHANDE)):
        assert len(one) == len(two) and system_form(graph(one)) != system_form(graph(two))
    for edges in (RING, TWO_RINGS, PRISM, UTILITY): assert len({system_form(graph(edges, rng)) for _ in range(20)}) == 1
    for _ in range(5): assert system_form(graph(ROOK, rng)) != system_form(graph(SHRIKHANDE, rng)), 'even beyond the bound'


def test_beyond_the_bound_the_form_still_says_all(monkeypatch):
    monkeypatch.setattr(forms, '_WORK', 0)
    rng, seen = random.Random(2), {}
    for edges in (RING, TWO_RINGS, PRISM, UTILITY):
        for _ in range(30): assert seen.setdefault(system_form(graph(edges, rng)), edges) is edges, 'two different systems share a form'
    assert len(seen) >= 4


def test_large_and_hostile_systems_end():
    for text in ('\n'.join(f'a{i} = 5' for i in range(200)), '\n'.join(f'a{i} + b{i} = 5' for i in range(200)), '\n'.join(f'a{i} = a{i + 1}' for i in range(200)),
                 '\n'.join('+'.join(f'x{i}_{j}' for j in range(120)) + ' = 1' for i in range(20)), '(((((x + 1)*(y + 2))**8 + z)**8)**8)**8 = 2', 'x**x**x = x/(x/(x/x))',
                 '9**9**9 = x', 'ans = ' + '+'.join('x' * 400), 'x = 1e300*1e300*1e300', 'x' * 30_000, '(' * 19_000, '', '\0', '\ud800 = 1', 'x = ' + '-' * 900 + '1'):
        assert system_form(text) == system_form(text)


# Programs, random ones: each statement binds a name to an expression over the names before it
OPERATORS = ['+', '-', '*', '/', '//', '%', '**']


@st.composite
def programs(draw): # tokens; a statement ends at '\n'
    tokens, bound = [], []
    for i in range(draw(st.integers(2, 6))):
        def atom(): return draw(st.sampled_from(bound)) if bound and draw(st.booleans()) else draw(st.sampled_from(['1', '2', '40', '0.5', '1_000']))
        value = [atom()]
        for _ in range(draw(st.integers(0, 3))): value += [draw(st.sampled_from(OPERATORS)), atom()]
        if draw(st.integers(0, 4)) == 0: value = [draw(st.sampled_from(['max', 'min', 'round', 'abs'])), '(', *value, ')']
        name = draw(st.sampled_from(['a', 'b', 'c', 'd', 'total'])) if i else 'a'
        tokens += [name, '=', *value, '\n']
        bound = list(dict.fromkeys([*bound, name]))
    return [*tokens, 'ans', '=', draw(st.sampled_from(bound)), '\n'], bound


def respelled(tokens, bound, rng):
    new = dict(zip(bound, rng.sample(WORDS, len(bound))))
    text = ''.join(new.get(t, t) + rng.choice(('', ' ')) * (t != '\n') for t in tokens).replace('1_000', rng.choice(('1000', '1_000', '0x3e8')))
    if rng.random() < .5: text = '"""What is asked."""\n' + text
    return '\n'.join(line + rng.choice(('', ' # so', '\n\n')) for line in text.split('\n'))


@given(programs(), st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_a_respelled_program_keeps_its_form_and_any_change_changes_it(program, rng):
    tokens, bound = program
    plain = program_form(' '.join(tokens).replace('\n ', '\n'))
    assert plain.startswith('(Module') and program_form(respelled(tokens, bound, rng)) == plain
    for i, t in enumerate(tokens):
        other = {'1': '3', '2': '2.0', '40': '41', '0.5': '5', '1_000': '1000.0', 'max': 'min', 'min': 'max', 'round': 'abs', 'abs': 'round'}.get(t)
        if t in OPERATORS: other = OPERATORS[OPERATORS.index(t) - 1]
        if t in bound and tokens[i - 1] != '\n' and i: # a use, to another name that is bound by then
            earlier = {u for u, after in zip(tokens[:i], tokens[1:i]) if after == '='} - {t}
            here = tokens[max(j for j in range(i) if j == 0 or tokens[j - 1] == '\n')]
            other = min(earlier - {here}, default=None)
        if other: assert program_form(' '.join([*tokens[:i], other, *tokens[i + 1:]]).replace('\n ', '\n')) != plain, (t, other)


@pytest.mark.parametrize('one, two', [
    ('def solution():\n    """Q"""\n    result = 4\n    return result', 'def f():\n    total = 4 # so\n    return total'), ('x=1;ans=x', 'y = 1\nans = y'),
    ('import numpy as np\nans = np.sum([1])', 'import numpy as n\nans = n.sum([1])'), ('ans = [i for i in range(3)][0]', 'ans = [k for k in range(3)][0]'),
    ('try:\n    x = 1\nexcept ValueError as e:\n    print(e)', 'try:\n    y = 1\nexcept ValueError as error:\n    print(error)'),
    ('ans = (lambda a: a)(1)', 'ans = (lambda z: z)(1)'), ("x = 1\nans = f'{x}'", "y = 1\nans = f'{y}'"), ('a, *b = 1, 2\nans = a', 'c, *d = 1, 2\nans = c'),
    ('def f():\n    global t\n    t = 1\nf()\nans = t', 'def g():\n    global u\n    u = 1\ng()\nans = u'), ("ans = 'a'", 'ans = "a"'), ('ans = (1 + 2)', 'ans = 1+2'),
    ('```python\nans = 1\n```', 'ans = 1'), ('no program here', 'no  program\nhere'), ('ans = 1e3', 'ans = 1000.0'), ('for i in [1]: "x"; ans = i', 'for j in [1]: ans = j'),
    ('if (n := 3) > 2: ans = n', 'if (m := 3) > 2: ans = m'), ("x = 1\nmatch x:\n    case [y]: ans = y", "x = 1\nmatch x:\n    case [z]: ans = z"),
    ('def f(a, b=2): return a\nans = f(1)', 'def g(c, d=2): return c\nans = g(1)')])
def test_the_same_program(one, two): assert program_form(one) == program_form(two)


@pytest.mark.parametrize('one, two', [
    ('ans = 1', 'ans = 1.0'), ('ans = 1', 'ans = True'), ('ans = 1', 'answer = 1'), ('ans = 1', 'result = 1'), ('ans = 1', 'x = 1'), ('ans = 1 + 2', 'ans = 3'), ('ans = len([])', 'ans = sum([])'),
    ('ans = 0.0', 'ans = -0.0'), ('ans = 1e999', 'ans = inf'), ('ans = 1\n"2"', 'ans = 1'), ('x = 1\ny = 2\nans = x', 'x = 1\ny = 2\nans = y'), ('ans = x', 'ans = y'),
    ('import math\nans = math.pi', 'import cmath\nans = cmath.pi'), ('from math import floor\nans = floor(1.5)', 'from math import ceil\nans = ceil(1.5)'),
    ('x = 1\nans = eval("x")', 'y = 1\nans = eval("x")'), ('x = 1\nans = globals()["x"]', 'y = 1\nans = globals()["x"]'), ('from math import *\ne = 1\nans = e', 'from math import *\nf = 1\nans = e'),
    ('def f(a, b): return a - b\nans = f(a=1, b=2)', 'def f(b, a): return a - b\nans = f(a=1, b=2)'), ('key = 1\nans = sorted([1], key=abs)', 'reverse = 1\nans = sorted([1], reverse=abs)'),
    ('class A:\n    def f(self): return 1\nans = A().f()', 'class A:\n    def g(self): return 1\nans = A().f()'), ('max = max(1, 2)\nans = max', 'm = m(1, 2)\nans = m'),
    ('def f():\n    """1"""\nans = f.__doc__', 'def f():\n    """2"""\nans = f.__doc__'), ("ans = f'{1}'", "ans = f'{1!r}'"), ('ans = {1: 2}', 'ans = {2: 1}'), ('ans = [1, [2]]', 'ans = [[1], 2]'),
    ('ans = 1', 'text (Module'), ('ans = "a b"', 'ans = "a  b"'), ('ans = x.a', 'ans = x.b'), ('a = 1\nb = a\nans = b', 'a = 1\nb = b\nans = b'), ('ans = `1', 'ans = `2'), ('ans = 5', 'ans = 0x55')])
def test_another_program(one, two): assert program_form(one) != program_form(two)


def test_hostile_programs_end_and_say_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for text in ('1+' * 9_000 + '1', '-' * 9_000 + '1', '(' * 9_000, '[' * 9_000, 'x' + '.a' * 9_000, '\0', '\ud800', 'ans = 0x' + 'f' * 19_000, 'ans = ' + '9' * 5_000, 'x = "\\d"', 'x = 1if 1else 2',
                     'f"' + '{' * 300, 'ans = 1' * 9_000, 'if 1:\n' + ' ' * 19_000 + 'ans = 1', 'lambda: ' * 2_000 + '1', '', '"only a text"', 'x = "\\ud800"', '1()', 'x = 1 is 1'):
            assert program_form(text) == program_form(text)


def test_chains():
    same = ['He has 3 × 4 = 12 rolls.\nThe answer is 12.', 'he has 3*4=12 rolls; so the answer is: 12', 'He has 3 * 4 = 12 rolls! Answer: 12', 'He has 3 * 4 = 12 rolls. Therefore, the final answer is 12.\n\nQuestion: And 4?\nThe answer is 4.']
    assert len({chain_form(t) for t in same}) == 1
    other = ['The answer is 12.', 'The answer is 1.2.', 'The answer is .12', 'The answer is 12 rolls.', 'The answer is -12.', 'The answer is $12.', 'The answer is 12%.', 'The answer is 1 2.', 'The answer is 1,2000.', 'Twelve.']
    assert len({chain_form(t) for t in other}) == len(other)
    assert chain_form('') == '' and chain_form('The answer is 1,450,000.5.') == chain_form('answer: 1450000.5')


@given(st.text())
@settings(max_examples=500)
def test_any_text_has_a_form_of_each_thought(text):
    for name in THOUGHTS: assert form(name, text) == form(name, text) and isinstance(form(name, text), str)


def test_forms_are_the_same_in_every_process():
    code = ('from mtd.forms import form; from mtd.lab import lab_stories; from mtd.core import digest; from mtd.prompting import THOUGHTS; '
            'print(digest([form(n, s.gold[n]) for s in lab_stories("train", 60) for n in THOUGHTS] + [form("eot", "\\n".join(f"a{i}*a{(i + 1) % 30} = 1" for i in range(30)))]))')
    runs = [subprocess.run([sys.executable, '-c', code], env=os.environ | {'PYTHONHASHSEED': seed}, capture_output=True, text=True, check=True).stdout for seed in '123']
    assert runs[0] and len(set(runs)) == 1


def test_lab_thoughts_are_different_solutions_of_different_problems():
    stories = lab_stories('train', 150, seed=2)
    for name in THOUGHTS:
        made = {}
        for s in stories: made.setdefault(form(name, s.gold[name]), []).append(s)
        assert len(made) > 140, 'the numbers are different ones'
        for same in made.values(): assert len({s.problem.answer for s in same}) == 1, 'one solution has one answer'


def test_diversity_counts_right_forms_per_problem():
    rows = [dict(problem_id=p, thought=t, form=f, reason=r) for p, t, f, r in (
        ('1', 'pot', 'x', ''), ('1', 'pot', 'x', 'duplicate'), ('1', 'pot', 'y', ''), ('2', 'pot', 'x', ''), ('2', 'pot', 'z', 'another number'), ('3', 'pot', 'x', 'syntax'), ('1', 'eot', 'x', ''))]
    assert diversity(iter(rows)) == [dict(thought='pot', problems=2, kept=4, forms=3, mean=1.5, distribution={1: 1, 2: 1}),
                                     dict(thought='eot', problems=1, kept=1, forms=1, mean=1.0, distribution={1: 1})]
    assert diversity([]) == [] and diversity([dict(problem_id='1', thought='cot', form='f')])[0]['kept'] == 1


def rows_of(file): return [json.loads(line) for line in (Path(MTD_DATA)/file).open(encoding='utf-8')]


@pytest.mark.skipif(not MTD_DATA, reason='MTD_DATA is not set')
def test_real_programs_with_other_names():
    made, rng = {}, random.Random(0)
    for r in rows_of('teacher/gpt35_pot_svamp_train.jsonl'):
        text = r['completion']
        made.setdefault(program_form(text), []).append(text)
        try: tree = ast.parse(text)
        except SyntaxError: continue
        bound = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)} - forms._BUILTINS - {'ans', 'answer', 'result'}
        if any(isinstance(n, (ast.keyword, ast.Import, ast.ImportFrom, ast.Constant)) and isinstance(getattr(n, 'value', None), (str, ast.expr)) for n in ast.walk(tree)): continue
        new = {n: f'{rng.choice(WORDS)}{i}' for i, n in enumerate(sorted(bound))}
        assert program_form(re.sub(r'[A-Za-z_]\w*', lambda m: new.get(m[0], m[0]), text)) == program_form(text)
    texts = [t for same in made.values() for t in same]
    assert len(texts) == 2987 and len(made) < len(set(texts)) <= 2987
    outcomes = execute('pot', texts)
    answers = dict(zip(texts, outcomes))
    for same in made.values(): assert len({(answers[t].status, answers[t].answer) for t in same}) == 1, same


@pytest.mark.skipif(not MTD_DATA, reason='MTD_DATA is not set')
def test_real_systems_shuffled_and_renamed():
    rng = random.Random(0)
    for r in rows_of('equations/draw1k_alg514_train.jsonl'):
        lines = list(r['equations'])
        new = dict(zip(sorted(set(re.findall(r'[a-z]\w*', ' '.join(lines)))), rng.sample(WORDS, 20)))
        moved = ['='.join(reversed(re.sub(r'[a-z]\w*', lambda m: new[m[0]], line).split('='))) for line in rng.sample(lines, len(lines))]
        if not {'x', 'ans', 'answer'} & {*new}: assert system_form('\n'.join(moved)) == system_form('\n'.join(lines))
