"""The lab's stories: the same everywhere, never twice, split as promised, and right by three executors that know nothing of them."""
import ast, hashlib, json, os, re, subprocess, sys
from fractions import Fraction

import pytest

from mtd.core import number_text, same_answer
from mtd.lab import EVENTS, KINDS, LAST, SPLITS, UNKNOWN, held_out, lab_stories, lab_story, ordered_answer
from mtd.prompting import THOUGHTS, execute

# The first 200 stories of every split with seed 0. A change here is a change of every published result: say so in the CHANGELOG.
DIGEST = '208a8bacf3ca24a6'

def stories_digest(n=200):
    rows = [[s.problem.to_dict(), s.gold, s.ordered] for split in SPLITS for s in lab_stories(split, n)]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]

@pytest.fixture(scope='module')
def stories():
    return {split: lab_stories(split, 400) for split in SPLITS}

def test_the_committed_digest():
    assert stories_digest() == DIGEST

def test_another_process_tells_the_same():
    code = 'from mtd.lab import SPLITS, lab_story; print([lab_story(s, i) for s in SPLITS for i in (7, 3)])'
    def told(seed):
        run = subprocess.run([sys.executable, '-c', code], env=os.environ | {'PYTHONHASHSEED': seed}, capture_output=True, text=True)
        return run.stdout + run.stderr
    here = [lab_story(s, i) for s in SPLITS for i in (7, 3)]
    assert told('0') == told('42') == f'{here}\n'

def test_another_seed_is_another_supply():
    assert lab_story('train', 5, seed=1).problem.question != lab_story('train', 5).problem.question

@pytest.mark.parametrize('split, i', [('test', 0), ('train', -1)])
def test_refusals_say_what_to_do(split, i):
    with pytest.raises(ValueError, match='choose one of|numbered from 0'): lab_story(split, i)

def no_duplicates(train, rest):
    questions = [s.problem.question for s in lab_stories('train', train)]
    questions += [s.problem.question for split in SPLITS[1:] for s in lab_stories(split, rest)]
    questions += [s.problem.question for s in lab_stories('dev', 20, seed=1)]
    assert len(set(questions)) == len(questions) == train + 4 * rest + 20

def test_no_question_twice(): no_duplicates(1600, 200)

@pytest.mark.full
def test_no_question_twice_among_many(): no_duplicates(20000, 2000)

def test_numbers_are_owned_by_one_split(stories):
    "No list of numbers of the same kinds is in train and in dev or numbers, whatever the names."
    def key(s): return s.kinds, tuple(re.findall(r'\d+(?:\.\d+)?', s.problem.question))
    train = {key(s) for s in stories['train']}
    assert not train & {key(s) for split in ('dev', 'numbers') for s in stories[split]}
    assert not train & {key(s) for s in lab_stories('numbers', 50, seed=1)}

def test_numbers_keeps_the_structures_of_train(stories):
    assert [s.kinds for s in stories['numbers']] == [s.kinds for s in stories['train']]
    assert all(a.problem.question != b.problem.question for a, b in zip(stories['numbers'], stories['train']))

def test_sequences_are_held_out(stories):
    for split, those in stories.items():
        if split != 'longer': assert {held_out(s.kinds) for s in those} == {split == 'sequences'}
    every = [(o, a.name, b.name) for o in KINDS for a in EVENTS for b in EVENTS]
    assert 0.18 < sum(map(held_out, every)) / len(every) < 0.22

def test_lengths(stories):
    for split, those in stories.items():
        assert {len(s.kinds) - 1 for s in those} == ({4, 5} if split == 'longer' else {1, 2, 3})

def test_every_kind_and_form_occurs(stories):
    assert len(EVENTS + LAST) >= 12 and {k for s in stories['train'] for k in s.kinds} == set(KINDS)
    text = ' '.join(s.problem.question for s in stories['train'])
    for form in (r'\d%', r'\d/\d', r'\$\d+\.\d\d\b', r'\d\.\d (kilos|liters|meters)'): assert re.search(form, text), form

def test_a_fifth_needs_a_solver(stories):
    for split, those in stories.items():
        assert sum(not s.ordered for s in those) >= 0.2 * len(those), split
        assert all(s.ordered == (s.kinds[0] not in {k.name for k in UNKNOWN}) for s in those)
        assert all(ordered_answer(s.gold['eot']) in ([s.problem.answer] if s.ordered else [None]) for s in those)

def test_sizes(stories):
    for s in (s for those in stories.values() for s in those):
        assert 0 < s.problem.answer < 10000 and 100 % s.problem.answer.denominator == 0
        for step in s.steps: assert step.value is None or 0 < step.value < 10000
        assert re.fullmatch(r'([A-Z][^?]*\. )+[A-Z][^.?]*\?', s.problem.question), s.problem.question

def test_thoughts_compute():
    "No result of a step stands in a program or a system as a literal: every number is the question's, or of its percents and halves."
    for s in (s for split in SPLITS for s in lab_stories(split, 100)):
        stated = set(re.findall(r'\d+(?:\.\d+)?', s.problem.question)) | {'1', '2', '100'}
        for name in ('pot', 'eot'):
            lines = [x for x in s.gold[name].splitlines() if not x.startswith('%')]
            assert set(re.findall(r'(?<![\w.])\d+(?:\.\d+)?', '\n'.join(lines))) <= stated, s.gold[name]
            assert lines[-1].startswith('ans = ')

def test_systems_are_linear_and_quote_every_sentence():
    def constant(node): return not any(isinstance(x, ast.Name) for x in ast.walk(node))
    for s in (s for split in SPLITS for s in lab_stories(split, 100)):
        quoted = [x[2:] for x in s.gold['eot'].splitlines() if x.startswith('% ')]
        assert ' '.join(quoted) == s.problem.question
        for side in (side for x in s.gold['eot'].splitlines() if not x.startswith('%') for side in x.split('=')):
            for node in ast.walk(ast.parse(side.strip(), mode='eval')):
                if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult): assert constant(node.left) or constant(node.right), side
                if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div): assert constant(node.right), side

def test_every_step_of_a_chain_is_true(stories):
    for s in (s for those in stories.values() for s in those[:100]):
        for step in re.findall(r'((?:[\d.]+ [-+*/] )+[\d.]+) = (\d+(?:\.\d+)?)', s.gold['cot']):
            assert ordered_answer(f'ans = {step[0]}') == Fraction(step[1]), (s.gold['cot'], step)
        assert s.gold['cot'].endswith(f' The answer is {number_text(s.problem.answer)}.')

def right_by_execution(n):
    stories = [s for split in SPLITS for s in lab_stories(split, n)]
    for name in THOUGHTS:
        outcomes = execute(name, [s.gold[name] for s in stories])
        wrong = [(s.problem.id, o) for s, o in zip(stories, outcomes) if not same_answer(o, s.problem.answer)]
        assert len(outcomes) == 5 * n and not wrong, (name, wrong[:3])

def test_gold_is_right_by_execution(): right_by_execution(200)

@pytest.mark.full
def test_gold_is_right_by_execution_20_000(): right_by_execution(4000)

def test_executors_see_a_changed_number(stories):
    "The check above can fail: with one more at the start, program and system end elsewhere."
    some = [s for s in stories['sequences'] if s.kinds[0] == 'has'][:60]
    for name in ('pot', 'eot'):
        changed = [re.sub(r'^(\w+day = )(\d+)', lambda m: m[1] + str(int(m[2]) + 1), s.gold[name], count=1, flags=re.M) for s in some]
        assert all(text != s.gold[name] for text, s in zip(changed, some))
        assert not any(same_answer(o, s.problem.answer) for o, s in zip(execute(name, changed), some))
