"The rulers of lm-evaluation-harness against a second writing of its public description, the paired test, scores by length, and the files of the export."
import hashlib, json, math, os, random, re
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest

from mtd.chains import read_answer
from mtd.core import Outcome, Problem, find_file, number_text, parse_number, read_jsonl, same_answer
from mtd.harness import FILTERS, INVALID, RULERS, Task, by_operations, chance, closing, extract, operations_figure, paired_test, read_by, ruler_table, samples, under_rulers, write_harness
from mtd.prompting import execute, student_input

MTD_DATA = os.environ.get('MTD_DATA')
real = pytest.mark.skipif(not MTD_DATA, reason='MTD_DATA is not set')
PATTERNS = {'strict-match ####': (r'#### (\-?[0-9\.\,]+)', 0), 'strict-match': (r'The answer is (\-?[0-9\.\,]+).', 0), 'flexible-extract': (r'(-?[$0-9.,]{2,})|(-?[0-9]+)', -1)}


def described(text, name):
    "The filter as its documentation describes it: all matches, one of them, of its groups the first that is not empty."
    pattern, which = PATTERNS[name]
    found = re.findall(pattern, text)
    if not found: return '[invalid]'
    one = found[which]
    return (one if isinstance(one, str) else [g for g in one if g][0]).strip()


def judged(text, gold):
    "The metric as its settings say: the patterns taken out of both one after the other, then compared in lower case."
    for pattern in (',', r'\$', '(?s).*#### ', r'\.$'): text, gold = re.sub(pattern, '', text), re.sub(pattern, '', gold)
    return text.lower() == gold.lower()


def made_up(n, seed):
    rng = random.Random(seed)
    pieces = ['The answer is ', 'the answer is ', '#### ', '####', '.', ',', '-', '$', ' ', '\n', '%', '/', 'So ', '0', '7', '42', '1,200', '3.50', '-5', '.5', '$8', '1.2.3']
    return [''.join(rng.choices(pieces, k=rng.randint(0, 9))) for _ in range(n)]


def problem(i, answer, **meta): return Problem(f'p/{i}', 'How many?', Fraction(answer), 'p', meta)


@pytest.mark.parametrize('name', PATTERNS)
def test_rulers_are_the_harness_as_described(name):
    texts, ruler, found = made_up(3000, 1), RULERS[name], set()
    read = read_by(ruler, 'cot', texts, execute('cot', texts))
    for text, outcome, gold in zip(texts, read, map(Fraction, random.Random(2).choices(['0', '7', '42', '1200', '7/2', '-5', '1/2', '8'], k=len(texts)))):
        taken = described(text, name)
        assert (extract(ruler.rule, 'cot', text, Outcome('no_answer')) or INVALID) == taken
        assert same_answer(outcome, gold, ruler.equality) == judged(taken, number_text(gold)), (text, gold)
        found.add((taken == INVALID, judged(taken, number_text(gold))))
    assert found == {(True, False), (False, False), (False, True)}, 'nothing was tried'


def test_executed_answers_are_read_in_a_sentence_that_fits_each_pattern():
    pot = ['ans = 10 / 2', 'ans = 7 // 2', 'ans = 1200', 'ans = 7 / 3', 'no program', 'ans = 5 - 7']
    outcomes = execute('pot', pot)
    problems = [problem(i, a) for i, a in enumerate(['5', '3', '1200', '7/3', '0', '-2'])]
    verdicts = {name: [same_answer(o, p.answer, r.equality or 'exact') for o, p in zip(read_by(r, 'pot', pot, outcomes), problems)] for name, r in RULERS.items()}
    assert verdicts['ours'][:4] == [True] * 4 and not verdicts['ours'][4]
    for name in PATTERNS: assert verdicts[name] == [False, True, True, False, False, True], 'a float is another text than the integer'
    assert closing(outcomes[4]) == '' and all(extract(RULERS[n].rule, 'pot', 'ans = 4', outcomes[4]) is None for n in PATTERNS)
    assert closing(Outcome('solved', Fraction(7, 3))) == '#### 7/3\nThe answer is 7/3.'
    assert extract(RULERS['flexible-extract'].rule, 'eot', 'a = 9\nans = a', Outcome('solved', Fraction(4), text='4')) == '4.', 'not the 9 of the text'


def naive(b, c): return min(1.0, 2 * sum(math.comb(b + c, i) for i in range(min(b, c) + 1)) / 2 ** (b + c))


@pytest.mark.parametrize('b, c', [(0, 0), (1, 0), (5, 5), (9, 1), (22, 8), (0, 7000), (300, 260)])
def test_paired_test_is_the_binomial_sum(b, c):
    test = paired_test([1] * b + [0] * c + [1, 0] * 10, [0] * b + [1] * c + [1, 0] * 10)
    assert (test['first_only'], test['second_only']) == (b, c) and test['p'] == pytest.approx(naive(b, c), rel=1e-12)
    assert 0 <= test['p'] <= 1 and paired_test([0] * b + [1] * c, [1] * b + [0] * c)['p'] == test['p']


def test_paired_test_agrees_with_every_way_the_coins_can_fall():
    for b, c in ((3, 1), (2, 2), (6, 0)):
        seen = [sum(way) for way in product((0, 1), repeat=b + c)]
        assert paired_test([1] * b + [0] * c, [0] * b + [1] * c)['p'] == min(1, 2 * sum(s <= min(b, c) for s in seen) / len(seen))
    with pytest.raises(ValueError, match='3 and 2 verdicts'): paired_test([1, 1, 0], [1, 1])


def test_shift_is_what_was_gained_less_what_was_lost():
    texts = ['The answer is 720', 'The answer is 5.', 'It is 8 pens and 2 more', 'nothing', 'The answer is 8.0.']
    problems = [problem(i, a) for i, a in enumerate([720, 5, 2, 3, 8])]
    found = under_rulers('cot', texts, execute('cot', texts), problems)
    assert list(found) == list(RULERS) and found['ours']['right'] == 4 and found['ours']['shift'] == found['ours']['gained'] == found['ours']['lost'] == 0
    assert [found['strict-match'][k] for k in ('right', 'unparsable', 'gained', 'lost')] == [1, 2, 0, 3] and found['strict-match']['shift'] == pytest.approx(-0.6)
    assert found['strict-match ####']['right'] == 0 and found['flexible-extract']['right'] == 3, '8.0 is another text than 8'
    assert all(v['right'] - found['ours']['right'] == v['gained'] - v['lost'] for v in found.values())
    table = ruler_table({'mine': found})
    assert table.count('\n') == 1 + len(RULERS) and '-60.0 | 0 / 3 | 0.25 |' in table
    assert chance(0.0) == '< 1e-99' and chance(0.0391) == '0.039'


def test_rulers_keep_to_the_equality_of_the_run():
    found = under_rulers('cot', ['The answer is 8.0004.'], execute('cot', ['The answer is 8.0004.']), [problem(0, 8)], 'papers')
    assert found['ours']['right'] == found['papers']['right'] == 1 and found['flexible-extract']['right'] == 0


def test_scores_by_length_are_a_partition():
    problems = [problem(0, 1, equation='( 1 + 2 )'), problem(1, 1, equation='( 1 + ( 2 * 3 ) )'), problem(2, 1), problem(3, 1, equation='( 4 - 2 )'), problem(4, 1, kinds=['has'] * 11)]
    outcomes = [Outcome('read', 1), Outcome('read', 2), Outcome('no_answer'), Outcome('read', 2), Outcome('read', 1)]
    rows = by_operations(outcomes, problems)
    assert [(s.name, s.n, s.right, s.unparsable) for s in rows] == [('1', 2, 1, 0), ('2', 1, 0, 0), ('10', 1, 1, 0), ('not counted', 1, 0, 1)]
    with pytest.raises(ValueError): by_operations(outcomes[:2], problems)
    assert len(by_operations([], [])) == 0


def test_the_figure_has_a_panel_for_each_set_with_counts():
    rows = lambda *names: {n: dict(n=9, accuracy=0.5, interval=[0.3, 0.7]) for n in names}
    fig = operations_figure({'svamp': dict(cot=rows('1', '2'), pot=rows('1', 'not counted')), 'multiarith': dict(cot=rows('not counted'))})
    assert [ax.get_title() for ax in fig.axes] == ['svamp'] and len(fig.axes[0].containers) == 2
    assert 'no set' in operations_figure({'multiarith': dict(cot=rows('not counted'))}).get_suptitle()
    many = operations_figure({str(i): dict(cot=rows('1')) for i in range(4)})
    assert [ax.get_title() for ax in many.axes if ax.axison] == ['0', '1', '2', '3']


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    texts = {'cot': ['So 3 + 4 = 7. The answer is 7.', 'The answer is 12', 'It makes 5.'], 'pot': ['ans = 3 + 4', 'ans = 24 / 2', 'ans =']}
    problems = [problem(i, a) for i, a in enumerate([7, 12, 6])]
    tasks = [Task('svamp/200', t, problems, x, execute(t, x), 5, 'three of five') for t, x in texts.items()]
    return tasks, write_harness(tmp_path_factory.mktemp('harness'), tasks, 'mtd/a:b', 99, 'exact', 'student_seed=1')


def test_export_has_the_fields_of_the_format(exported):
    tasks, path = exported
    found = json.loads(path.read_text())
    assert {'results', 'group_subtasks', 'configs', 'versions', 'n-shot', 'higher_is_better', 'n-samples', 'config', 'date', 'task_hashes', 'model_source', 'model_name', 'model_name_sanitized'} <= set(found)
    assert 'lm_eval_version' not in found and 'lm_eval' in found['exported_by'], 'it was not lm_eval that wrote this'
    assert path.parent.name == found['model_name_sanitized'] == 'mtd__a__b' and set(found['results']) == {'svamp_200_cot', 'svamp_200_pot'}
    for name, row in found['results'].items():
        assert found['n-samples'][name] == dict(original=5, effective=3) and found['n-shot'][name] == 0 and found['higher_is_better'][name] == dict(exact_match=True)
        assert {k for k in row if ',' in k} == {f'{m},{f}' for m in ('exact_match', 'exact_match_stderr') for f in FILTERS}
    cot = found['results']['svamp_200_cot']
    assert [cot[f'exact_match,{f}'] for f in ('strict-match', 'flexible-extract', 'mtd')] == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert cot['exact_match_stderr,mtd'] == pytest.approx(math.sqrt(2 / 3 * 1 / 3 / 2)), 'the sample standard error'
    pot = found['configs']['svamp_200_pot']
    assert [f['function'] for f in pot['filter_list'][0]['filter']] == ['mtd.programs.run_all', 'regex', 'take_first'] and pot['doc_to_text'] == student_input('pot', '{{question}}')


def test_export_lines_have_the_hashes_and_the_scores_of_the_results(exported):
    tasks, path = exported
    found, stamp = json.loads(path.read_text()), path.stem.removeprefix('results_')
    digest = lambda text: hashlib.sha256(text.encode()).hexdigest()
    for task in tasks:
        rows = read_jsonl(path.with_name(f'samples_{task.name}_{stamp}.jsonl'))
        assert [(r['filter'], r['doc_id']) for r in rows] == [(f, i) for f in FILTERS for i in range(3)]
        for r, (p, text) in zip(rows, list(zip(task.problems, task.texts)) * 3):
            assert r['arguments']['gen_args_0']['arg_0'] == student_input(task.thought, p.question) and r['arguments']['gen_args_0']['arg_1']['max_gen_toks'] == 99
            assert (r['resps'], r['target'], r['metrics']) == ([[text]], number_text(p.answer), ['exact_match']) and isinstance(r['exact_match'], float)
            assert r['doc_hash'] == digest(json.dumps(r['doc'], indent=2, ensure_ascii=False)) and r['prompt_hash'] == digest(r['arguments']['gen_args_0']['arg_0']) and r['target_hash'] == digest(r['target'])
        for f in FILTERS: assert found['results'][task.name][f'exact_match,{f}'] == pytest.approx(sum(r['exact_match'] for r in rows if r['filter'] == f) / 3)
        assert found['task_hashes'][task.name] == digest(''.join(r['doc_hash'] + r['prompt_hash'] + r['target_hash'] for r in rows))
    taken = {f: [r['filtered_resps'][0] for r in samples(tasks[0]) if r['filter'] == f] for f in FILTERS}
    assert taken == {'strict-match': ['7', '1', INVALID], 'flexible-extract': ['7.', '12', '5.'], 'mtd': ['7', '12', '5']}


def test_export_of_nothing_and_of_one(tmp_path):
    with pytest.raises(ValueError, match='nothing to export'): write_harness(tmp_path, [], 'mtd/x')
    one = Task('a', 'cot', [problem(0, 1)], ['The answer is 1.'], execute('cot', ['The answer is 1.']))
    found = json.loads(write_harness(tmp_path, [one], 'x').read_text())
    assert found['results']['a_cot']['exact_match_stderr,mtd'] == 'N/A' and found['n-samples']['a_cot'] == dict(original=1, effective=1)


def test_the_recorded_agreement_with_lm_eval_is_whole():
    recorded = json.loads(find_file('benchmarks/results/harness.json').read_text())
    assert len(recorded['agreement']) == 12 and all(a['texts'] > 2000 and a['different'] == a['different_text'] == 0 for a in recorded['agreement'].values())
    assert recorded['versions']['lm_eval'] == '0.4.13' and set(recorded['tasks'].values()) == {3.0} and any('strict-match' in line for line in recorded['table'])


@real
@pytest.mark.parametrize('thought, part', [('cot', 'chains'), ('pot', 'programs')])
def test_the_ruler_moves_real_scores_as_recorded(thought, part):
    recorded = json.loads(find_file('benchmarks/results/harness.json').read_text())[part]
    rows = read_jsonl(Path(MTD_DATA)/'teacher'/f'{recorded["file"]}.jsonl')
    problems, texts = [problem(i, parse_number(r['gold'])) for i, r in enumerate(rows)], [r['completion'] for r in rows]
    found = under_rulers(thought, texts, execute(thought, texts), problems)
    assert json.loads(json.dumps(found)) == recorded['rulers']
    if part == 'chains': assert (found['ours']['n'], found['ours']['right'], found['flexible-extract']['right'], found['strict-match']['right']) == (7441, 7431, 7423, 24)
    else: assert found['flexible-extract']['lost'] == 418 and read_answer(closing(execute('pot', [texts[0]])[0])).ok
