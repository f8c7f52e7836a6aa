"The loaders of the benchmarks, by the project's own rows everywhere and by the real ones where they are at hand."
import json, os
from fractions import Fraction
from pathlib import Path

import pytest

from mtd.core import find_file, read_jsonl
from mtd.problems import BENCHMARKS, Benchmark, leakage, load_benchmark, normalise, read_svamp, why_excluded

MTD_DATA = os.environ.get('MTD_DATA')
real = pytest.mark.skipif(not MTD_DATA, reason='MTD_DATA is not set')
OWN = find_file('data/problems')


@pytest.mark.parametrize('name', BENCHMARKS)
def test_own_rows_are_all_accounted_for(name):
    for part, (_, file) in BENCHMARKS[name].parts.items():
        if not file: continue
        b = load_benchmark(name, part, data=OWN)
        ids = [p.id for p in b.problems] + [e['id'] for e in b.excluded]
        assert len(ids) == len(set(ids)) == len(read_jsonl(OWN/file))
        assert all(isinstance(p.answer, Fraction) and p.source == name and p.meta['split'] == part for p in b.problems)
        assert f'{len(b.problems)} of {len(ids)}' in b.version
        json.dumps([p.to_dict() for p in b.problems])


def test_answers_and_solutions_of_own_rows():
    train = load_benchmark('gsm8k', 'train', data=OWN).problems
    assert [p.answer for p in train[:3]] == [56, 185, 28] and train[5].answer == 2430
    assert '####' not in train[0].meta['solution'] and train[0].meta['solution'].endswith('56 notebooks.')
    svamp = load_benchmark('svamp', data=OWN).problems
    assert svamp[-1].answer == Fraction(9, 2) and svamp[0].id == 'svamp/own-1'
    assert 'got on, how many' in svamp[2].question
    assert [e['reason'] for e in load_benchmark('asdiv', data=OWN).excluded] == ['a ratio']
    assert load_benchmark('asdiv', data=OWN).problems[3].answer == Fraction(9, 2)


def test_the_hub_goes_through_the_same_code(monkeypatch):
    import datasets
    calls = []
    rows = read_jsonl(OWN/'svamp'/'test.jsonl')
    halves = {'train': rows[:4], 'test': rows[4:]}

    def load_dataset(path, name=None, split=None, **kw):
        calls.append((path, name, split))
        return [dict(r, Answer=str(r['Answer']), question_concat=f"{r['Body']} {r['Question']}") for r in halves[split]]

    monkeypatch.setattr(datasets, 'load_dataset', load_dataset)
    hub, folder = load_benchmark('svamp'), load_benchmark('svamp', data=OWN)
    assert hub.problems == folder.problems, 'strings or floats: the same answers'
    assert calls == [('ChilleD/SVAMP', None, 'train'), ('ChilleD/SVAMP', None, 'test')]
    assert len(load_benchmark('svamp', 'test')) == 2 and 'ChilleD/SVAMP' in hub.origin


def test_hub_failure_says_what_where_and_what_next(monkeypatch):
    import datasets

    def load_dataset(*a, **k): raise OSError('no route to host')
    monkeypatch.setattr(datasets, 'load_dataset', load_dataset)
    with pytest.raises(ConnectionError, match=r"gsm8k/test.*openai/gsm8k.*no route.*data folder"): load_benchmark('gsm8k')
    with pytest.raises(ValueError, match='not on the hub.*mawps_asdiv_a_train'): load_benchmark('mawps_asdiv_a')


def test_errors_name_the_way_out(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'asdiv'"): load_benchmark('asdive', data=OWN)
    with pytest.raises(ValueError, match="no part 'tests'.*'test'"): load_benchmark('gsm8k', 'tests', data=OWN)
    with pytest.raises(FileNotFoundError, match='multiarith/all.*test.jsonl.*hub'): load_benchmark('multiarith', data=tmp_path)
    with pytest.raises(ValueError, match="one file and has no part 'test'.*'all'"): load_benchmark('svamp', 'test', data=OWN)
    (tmp_path/'multiarith').mkdir()
    (tmp_path/'multiarith'/'test.jsonl').write_text('{"question": "How many?", "answer": "3"}\n')
    with pytest.raises(ValueError, match=r"multiarith/all/0.*final_ans.*\['answer', 'question'\]"): load_benchmark('multiarith', data=tmp_path)


def test_a_row_without_a_gold_answer_is_excluded_not_lost(tmp_path):
    (tmp_path/'gsm8k').mkdir()
    (tmp_path/'gsm8k'/'test.jsonl').write_text('{"question": "How many?", "answer": "Nobody knows."}\n{"question": "  ", "answer": "#### 3"}\n')
    b = load_benchmark('gsm8k', data=tmp_path)
    assert not b.problems and [e['reason'] for e in b.excluded] == ['no answer', 'no question'] and b.excluded[0]['row']['question'] == 'How many?'


@pytest.mark.parametrize('gold,reason', [('7', ''), ('1,200', ''), ('5/2', ''), ('5; 6', 'several numbers'), ('13:1', 'a ratio'),
    ('3:30 p.m.', 'a ratio or a time of day'), ('NO', 'yes or no'), ('They are equal', 'words'), ('-(1/3)', 'not written as one number')])
def test_reasons(gold, reason): assert why_excluded(gold) == reason


@pytest.mark.parametrize('a,b,same', [('It costs $ 1,200 .', 'it costs $1200', True), ('3.50 m', '3.5 m', True), ('3.5 m', '35 m', False),
    ('2.0 cups', '2 cups', True), ('Tom’s pens', "Tom's pens", True), ('1,200', '1,20', False), ('a b', 'ab', True), ('3 pens', '4 pens', False)])
def test_normalise(a, b, same): assert (normalise(a) == normalise(b)) is same


def test_leakage_of_own_rows_gives_ids():
    train, test = load_benchmark('mawps_asdiv_a', data=OWN).problems, load_benchmark('multiarith', data=OWN).problems
    assert leakage(train, test) == [('mawps_asdiv_a/train/0', 'multiarith/all/2'), ('mawps_asdiv_a/train/1', 'multiarith/all/4')]
    assert leakage(test, load_benchmark('gsm8k', data=OWN).problems) == []


def test_a_benchmark_shows_itself():
    text = load_benchmark('asdiv', data=OWN)._repr_markdown_()
    assert '5 of 6 rows' in text and '1 a ratio' in text and 'CC BY-NC 4.0' in text


@real
def test_sizes_of_the_real_benchmarks():
    sizes = {(n, s): load_benchmark(n, s, data=MTD_DATA) for n, s in
             (('gsm8k', 'train'), ('gsm8k', 'test'), ('svamp', 'all'), ('asdiv', 'validation'), ('multiarith', 'all'))}
    assert [len(b) for b in sizes.values()] == [7473, 1319, 1000, 2092, 600]
    assert len(sizes['asdiv', 'validation'].excluded) == 213
    assert all(e['reason'] for b in sizes.values() for e in b.excluded)


@real
def test_leakage_of_the_real_training_set():
    train = load_benchmark('mawps_asdiv_a', data=MTD_DATA).problems
    rows = {n: load_benchmark(n, data=MTD_DATA).problems for n in ('multiarith', 'asdiv', 'svamp', 'gsm8k')}
    found = {n: {t for _, t in leakage(train, ps)} for n, ps in rows.items()}
    different = {normalise(p.question) for p in rows['multiarith'] if p.id in found['multiarith']}
    assert len(different) == 580 and len(found['multiarith']) == 600
    assert len(found['asdiv']) == 879 and not found['svamp'] and not found['gsm8k']
    # 851 is what remains where 3.50 in a slot is written 3.5 and the two are held for different numbers
    import re
    key = lambda t: re.sub(r'[^a-z0-9]', '', t.lower())
    slots = [re.sub(r'number(\d+)', lambda m: '%g' % float(r['Numbers'].split()[int(m[1])]), r['Question'])
             for r in read_jsonl(Path(MTD_DATA)/'svamp'/'mawps_asdiv_a_train.jsonl')]
    seen = {key(t) for t in slots}
    assert sum(key(p.question) in seen for p in rows['asdiv']) == 851
