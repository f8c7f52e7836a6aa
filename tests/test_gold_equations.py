"""Gold equations: read exactly, written as thoughts that execute to the gold, drawn anew, and trained on without what is scored."""
import json, os, random, re
from fractions import Fraction
from pathlib import Path

import pytest

from mtd.core import Problem, find_file, same_answer, write_jsonl
from mtd.gold_equations import add_statement, augment, reorder, draw_numbers, gold_thoughts, proper_words, read_prefix, sentence_case, steps_of, swap_words
from mtd.problems import leakage, load_benchmark
from mtd.prompting import execute
from mtd.run import Run
from mtd.settings import load
from mtd.teacher import gold_equations

OWN, MTD_DATA = find_file('data/problems'), os.environ.get('MTD_DATA')
real = pytest.mark.skipif(not MTD_DATA, reason='MTD_DATA is not set')


def drawn_tree(rng, slots, depth):
    "A random equation in prefix order, and the same in infix order for Python's own arithmetic."
    if depth == 0 or rng.random() < 0.3:
        i = rng.randrange(slots)
        return (f'number{i}', f'n[{i}]') if rng.random() < 0.9 else ('0.5', 'Fraction(1, 2)')
    (a, x), (b, y), op = drawn_tree(rng, slots, depth - 1), drawn_tree(rng, slots, depth - 1), rng.choice('+-*/')
    return f'{op} {a} {b}', f'({x} {op} {y})'


def problem(equation, numbers, answer, slots='A shop has number0 red pens, number1 blue pens and number2 caps. How many?'):
    from mtd.problems import fill_slots
    return Problem('p', fill_slots(slots, numbers), Fraction(answer), 'mawps_asdiv_a', dict(slots=slots, numbers=[str(n) for n in numbers], equation=equation))


def test_every_thought_of_a_random_equation_executes_to_what_python_computes():
    rng, made, texts = random.Random(5), 0, {t: [] for t in ('cot', 'pot', 'eot')}
    while made < 150:
        prefix, infix = drawn_tree(rng, 3, 3)
        n = [Fraction(rng.randint(1, 40)) for _ in range(3)]
        try: answer = eval(infix, {'n': n, 'Fraction': Fraction})
        except ZeroDivisionError: answer = None
        found = gold_thoughts(problem(prefix, n, 1 if answer is None else answer))
        if answer is None: assert set(found.reasons.values()) == {'a division by zero'}; continue
        made += 1
        assert {'pot', 'eot'} <= set(found.thoughts) and set(found.reasons) <= {'cot'}
        for t, text in found.thoughts.items(): texts[t].append((text, answer))
    for t, pairs in texts.items():
        for o, (text, answer) in zip(execute(t, [text for text, _ in pairs]), pairs): assert same_answer(o, answer), (t, text, answer, o)
    assert len(texts['cot']) > 60


@pytest.mark.parametrize('bad, says', [('', 'ends where'), ('+ number0', 'ends where'), ('+ number0 number1 number2', 'goes on'), ('- number0 x', "'x' is no"),
    ('^ number0 number1', "'\\^' is no"), ('+ number0 -3', "'-3' is no"), ('+ number0 1e9', "'1e9' is no"), ('+ ' * 200, 'most'), ('+ number0 number1 ' * 9, 'most'), ('numberA', 'is no')])
def test_what_is_no_equation_is_refused(bad, says):
    with pytest.raises(ValueError, match=says): read_prefix(bad)
    assert set(gold_thoughts(problem(bad, [1, 2, 3], 1)).reasons) == {'cot', 'pot', 'eot'}


def test_a_problem_without_its_equation_or_number_gets_no_thought_and_a_reason():
    assert set(gold_thoughts(Problem('x', 'How many?', 1)).reasons.values()) == {'no equation'}
    assert set(gold_thoughts(problem('+ number0 number7', [1, 2, 3], 1)).reasons.values()) == {'a slot without a number'}
    assert 'does not give the answer' in gold_thoughts(problem('+ number0 number1', [1, 2, 3], 4)).reasons['pot']


def test_one_step_after_the_other():
    steps = steps_of(read_prefix('/ - number0 number1 + number1 2'), 2)
    assert [s[0] for s in steps] == ['-', '+', '/'] and steps[2][1:] == (('ref', 2), ('ref', 3)) and steps_of(read_prefix('number0'), 1) == []
    assert gold_thoughts(problem('number1', [4, 5, 6], 5)).thoughts['cot'] == 'The answer is 5.'


def test_a_system_states_what_holds_and_leaves_the_solving():
    given = 'a = 24\nb = 6\nc = 2\n'
    def system(equation): return gold_thoughts(problem(equation, [24, 6, 2], {'-': 18, '/': 4, '+': 30, '*': 16}[equation[0]])).thoughts['eot'].removeprefix(given)
    assert system('- number0 number1') == 'b + x = a\nans = x' and system('/ number0 number1') == 'b * x = a\nans = x'
    assert system('+ number0 number1') == 'x = a + b\nans = x' and system('* - number0 + number1 10 number2') == 'x = (a - (b + 10)) * c\nans = x'


def test_other_people_and_things_stand_everywhere_and_units_stay():
    rng = random.Random(2)
    told = swap_words('Ida has number0 pens in number1 boxes. A pen costs $ number2. How many pens has Ida?', ['Ida', 'Omar'], ['pens', 'kites'], rng)
    assert told == 'Omar has number0 kites in number1 boxes. A kite costs $ number2. How many kites has Omar?'
    assert swap_words('Nobody is here.', ['Ida'], ['pens'], rng) == 'Nobody is here.'
    assert swap_words('Ida has pens.', ['Ida'], ['pens'], rng) == 'Ida has pens.', 'there is nobody else'


def test_new_numbers_keep_what_the_problem_was():
    rng, tree = random.Random(1), read_prefix('/ - number0 number1 number2')
    for _ in range(30):
        a, b, c = draw_numbers(tree, [Fraction(20), Fraction(8), Fraction(3)], list(range(1, 50)), rng)
        assert a > b and (a - b) % c == 0
    half, whole = draw_numbers(read_prefix('* number0 number1'), [Fraction('2.5'), Fraction(4)], [7, 8], rng)
    assert half % 1 == Fraction(1, 2) and whole in (7, 8)


def test_augmented_problems_are_right_repeatable_and_named():
    own = load_benchmark('mawps_asdiv_a', data=OWN).problems
    more = augment(own, 5, 0.5, 0.5, 0.5, seed=3)
    assert more == augment(own, 5, 0.5, 0.5, 0.5, seed=3) != augment(own, 5, 0.5, 0.5, 0.5, seed=4) and augment(own) == own
    assert len({p.id for p in more}) == len(more) > 4 * len(own) and [p for p in more if '#' not in p.id] == own
    found = gold_equations(more)
    assert not found.failures and len(found.completions) == 3 * len(more)
    answers = {p.id: p.answer for p in more}
    for t in ('cot', 'pot', 'eot'):
        mine = [c for c in found.completions if c.thought == t]
        assert all(same_answer(o, answers[c.problem_id]) for o, c in zip(execute(t, [c.text for c in mine]), mine))
    wide = [p for p in more if len(p.meta['numbers']) > len(next(o for o in own if o.id == p.id.split('#')[0]).meta['numbers'])]
    assert wide and all(p.question.rstrip().endswith('?') for p in wide)
    for p in wide: # one number is not needed, wherever it stands, and the slots count from left to right
        original = next(o for o in own if o.id == p.id.split('#')[0])
        assert re.findall(r'number(\d+)', p.meta['slots']) == [str(i) for i in range(len(p.meta['numbers']))]
        assert len(set(re.findall(r'number\d+', p.meta['equation']))) == len(set(re.findall(r'number\d+', original.meta['equation'])))
    assert len({(set(range(len(p.meta['numbers']))) - {int(i) for i in re.findall(r'number(\d+)', p.meta['equation'])}).pop() for p in wide}) > 1


def test_statements_change_places_and_take_their_letters_with_them():
    told = problem('- number0 number1', [9, 4], 5, 'Ida had number0 pens. Omar took number1 of the pens. How many pens has Ida?')
    turned = reorder(told, random.Random(0))
    assert turned.question == 'Omar took 4 of the pens. Ida had 9 pens. How many pens has Ida?' and turned.meta['equation'] == '- number1 number0' and turned.answer == 5
    assert same_answer(execute('pot', [gold_equations([turned]).completions[1].text])[0], 5)
    for slots in ('Ida had number0 pens. Then she lost number1. How many has she?', 'Ida had number0 pens and lost number1. How many has she?', 'Oh. Oh. What is number0 - number1?'):
        stays = problem('- number0 number1', [9, 4], 5, slots)
        assert reorder(stays, random.Random(0)) is stays
    hidden = problem('+ number0 number1', [1, 2, 3], 3, 'Ida found number2 caps. Omar has number0 pens. How many?') # a slot in the equation alone
    turned = reorder(hidden, random.Random(0))
    assert turned.question == 'Omar has 1 pens. Ida found 3 caps. How many?' and turned.meta['equation'] == '+ number0 number2' and turned.meta['numbers'] == ['1', '3', '2']


def test_a_row_that_cannot_be_written_stays_alone():
    wrong = problem('+ number0 number1', [1, 2, 3], 99)
    assert augment([wrong], 4) == [wrong] and gold_equations([wrong]).completions == []
    assert {f['reason'] for f in gold_equations([wrong]).failures} == {'the equation does not give the answer when computed exactly'}


def test_names_get_capitals_and_a_foreign_sentence_its_new_owner():
    told = problem('+ number0 number1', [1, 2, 3], 3, 'Then Ida met Omar. Ida has number0 pens and number1 pens. How many pens has Ida?')
    small = problem('+ number0 number1', [1, 2, 3], 3, 'omar has number0 pens. he buys number1 pens. how many has omar?')
    assert proper_words([told, small]) == {'ida', 'omar'}
    assert sentence_case([told, small])[1].question == 'Omar has 1 pens. He buys 2 pens. How many has Omar?'
    new = add_statement(small, 'Ida lost number0 caps.', Fraction(8), random.Random(0), {'ida', 'omar'})
    assert new.answer == 3 and sorted(new.meta['numbers']) == ['1', '2', '8'] == sorted(re.findall(r'\d+', new.question)) and new.meta['numbers'] == re.findall(r'\d+', new.question) and 'lost 8 caps.' in new.question and new.question.endswith('?')


@pytest.mark.parametrize('overrides, says', [
    ({'test_sets': 'svamp, multiarith'}, 'holds questions of multiarith'), ({'test_sets': 'asdiv'}, 'no score there'),
    ({'sources': 'gold_equations'}, 'extra_stories adds stories'), ({'sources': 'lab_teacher, annotations'}, 'set train_set = gsm8k'),
    ({'train_set': 'gsm8k', 'sources': 'gold_equations, lab_teacher'}, 'set train_set = mawps_asdiv_a'),
    ({'train_set': 'gsm8k', 'sources': 'annotations, lab_teacher'}, 'set train_set = mawps_asdiv_a'),
    ({'extra_stories': 0}, 'add extra_stories'), ({'distractors': 1.5}, 'above 1.0'), ({'reorders': 1.5}, 'above 1.0'), ({'number_draws': 0}, 'below 1')])
def test_settings_that_would_score_what_was_learnt_are_refused(overrides, says):
    with pytest.raises(ValueError, match=says): load('svamp', overrides)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "The stages before the student, on own rows, one of which stands in the test set under another spelling."
    root = tmp_path_factory.mktemp('svamp')
    rows = [json.loads(line) for line in (OWN/'svamp'/'mawps_asdiv_a_train.jsonl').read_text().splitlines()]
    stolen = dict(Question='Bo had number0 marbles . He lost number1 and then found number2 . How many marbles does he have ?', Numbers='20.0 7.0 4.0',
                  Equation='+ - number0 number1 number2', Answer='17.0')
    write_jsonl(root/'data'/'svamp'/'mawps_asdiv_a_train.jsonl', rows + [stolen])
    (root/'data'/'svamp'/'test.jsonl').write_text((OWN/'svamp'/'test.jsonl').read_text())
    return Run(load('svamp', dict(data=root/'data', dev_problems=3, extra_stories=5, number_draws=3, verify_with='here')), root)


def test_a_run_learns_nothing_that_it_scores_and_mixes_in_the_stories(run):
    from datasets import load_from_disk
    summary = run.read('problems', 'summary.json')
    stolen = {i for i in summary['leaked']['svamp']}
    assert stolen and all(i.startswith('mawps_asdiv_a/train/') for i in stolen)
    mix = load_from_disk(str(run.artifact('examples')))
    learnt = set(mix['train']['problem_id'])
    assert not learnt & stolen and any('#' in i for i in learnt) and sum(i.startswith('lab/') for i in learnt) == 5
    inputs = [i.casefold().replace(' ', '') for split in mix.values() for i in split['input']]
    assert not any('bohad20marbles' in i for i in inputs)
    assert {y['source'] for y in run.read('thoughts', 'yields.json')} == {'gold_equations', 'lab_teacher'} and set(mix['train']['thought']) == {'cot', 'pot', 'eot'}


def test_dev_shares_no_text_with_training(run):
    rows = {name: [json.loads(line) for line in (run.artifact('problems')/f'{name}.jsonl').read_text().splitlines()] for name in ('train', 'dev')}
    texts = {name: {r['meta']['slots'] for r in found if 'slots' in r['meta']} for name, found in rows.items()}
    assert len(texts['dev']) == 3 and not texts['dev'] & texts['train'] and not any('#' in r['id'] for r in rows['dev'])


@real
def test_what_survives_of_the_real_training_set_and_what_it_shares_with_svamp():
    problems = load_benchmark('mawps_asdiv_a', data=MTD_DATA).problems
    found = gold_equations(problems)
    assert [sum(c.thought == t for c in found.completions) for t in ('cot', 'pot', 'eot')] == [3071, 3079, 3079] and len(problems) == 3138
    for t in ('cot', 'pot', 'eot'):
        answers = {p.id: p.answer for p in problems}
        mine = [c for c in found.completions if c.thought == t]
        assert all(same_answer(o, answers[c.problem_id]) for o, c in zip(execute(t, [c.text for c in mine]), mine))
    assert leakage(problems, load_benchmark('svamp', data=MTD_DATA).problems) == []
