"""The filter and the mix beyond the lesson: what is kept is right, a fourth thought is one row, and the lab teacher's slips are caught."""
from dataclasses import replace

import pytest

from mtd import chains, prompting
from mtd.core import Equality, Problem
from mtd.mixing import answers_only, card, examples, hub_licence, write_mix, yields, yields_table
from mtd.teacher import Completion
from mtd.verification import deduplicate, verify_each

SHOP = Problem('shop/1', 'Pens cost $1.25 each. What do 2 pens cost?', '2.50')


def made(text, thought='pot', sample=0, problem=SHOP):
    return Completion(key='', problem_id=problem.id, thought=thought, source='hand', sample=sample, text=text)


def verify(completions, equality='exact'): return list(deduplicate(verify_each({SHOP.id: SHOP.answer}, completions, equality)))


def test_every_reason_is_counted_once():
    rows = verify([made('ans = 2.5'), made('ans = 2.5', sample=1), made('ans = 3'), made('ans ='), made('y = 1', 'eot'), made('no number', 'cot')])
    assert [r['reason'] for r in rows] == ['', 'duplicate', 'another number', 'syntax', 'no_answer', 'no_answer']
    table = yields(rows, [dict(source='hand', thought='pot', reason='refused: no')])
    assert sum(y['asked'] for y in table) == 7 and sum(y['kept'] for y in table) == 1
    assert next(y for y in table if y['thought'] == 'pot')['reasons']['refused'] == 1


def test_completion_of_no_problem_is_an_error():
    with pytest.raises(ValueError, match="completion 0 is of the problem 'other'"): verify([made('ans = 1', problem=replace(SHOP, id='other'))])


def test_paths_keep_the_earliest_and_stay_within_their_problem():
    rows = verify([made('ans = 1.25 * 2'), made('price = 1.25\nans = 2 * price', sample=1)])
    assert len(examples([SHOP], rows, 1)) == 1 and len(examples([SHOP], rows, 2)) == 2
    assert examples([replace(SHOP, id='other')], rows) == []


def test_one_problem_in_two_splits_is_refused(tmp_path):
    one = examples([SHOP], verify([made('ans = 2.5')]))
    with pytest.raises(ValueError, match='in train and in dev'): write_mix(tmp_path/'mix', one, one)


def test_baseline_sees_no_thought():
    example, = answers_only([SHOP])
    assert example['target'] == 'The answer is 2.5.' and not any(t.instruction in example['input'] for t in prompting.THOUGHTS.values())


def test_a_fourth_thought_is_one_row(monkeypatch):
    monkeypatch.setattr(chains, 'read_backwards', lambda texts: [chains.read_answer(t[::-1]) for t in texts], raising=False)
    monkeypatch.setitem(prompting.THOUGHTS, 'tac', replace(prompting.THOUGHTS['cot'], name='tac', instruction='Backwards.', executor='mtd.chains.read_backwards'))
    rows = verify([made('.5.2 si rewsna ehT', 'tac'), made('.3 si rewsna ehT', 'tac')])
    assert [r['right'] for r in rows] == [True, False]
    assert examples([SHOP], rows)[0]['input'].endswith('\nBackwards.\n')


def test_the_filter_keeps_by_the_chosen_equality():
    chain = made('The answer is 2.5005.', 'cot')
    assert [verify([chain], name)[0]['right'] for name in ('exact', 'papers', 'harness')] == [False, True, False]
    assert [verify([made('The answer is $2.50.', 'cot')], name)[0]['right'] for name in ('exact', 'papers', 'harness')] == [True, True, False]
    assert verify([chain], Equality(absolute=0.01))[0]['right']


def test_both_cards_say_the_same_of_licences_and_yields(tmp_path):
    other = verify([made('ans = 2.5')])
    dev = [e | dict(problem_id='shop/2') for e in examples([SHOP], other)]
    write_mix(tmp_path/'mix', examples([SHOP], other), dev, yields(other), {'hand': 'ours, MIT'})
    text = (tmp_path/'mix'/'README.md').read_text(encoding='utf-8')
    assert text.startswith('---\nlicense: mit\n') and 'configs:' not in text and yields_table(yields(other)) in text
    assert '- hand: ours, MIT' in text and all(f'| `{name}` |' in text for name in dev[0])
    assert 'configs:' in card('t', 'a', {'dev': {'pot': 1}}, {}, files={'dev': 'data/dev.parquet'})


@pytest.mark.parametrize('texts, field', [((), 'unknown'), (('MIT', 'openai/gsm8k, MIT'), 'mit'), (('MIT', 'Apache-2.0'), 'other'),
                                          (("under the terms of the endpoint's owner",), 'other'), (('chaochun, CC BY-NC 4.0',), 'cc-by-nc-4.0')])
def test_the_licence_is_the_one_that_holds_for_all(texts, field):
    assert hub_licence(dict(enumerate(texts))) == field
