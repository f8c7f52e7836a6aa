"""What is taken out of a model's answer, what is put aside, and that nothing which ran is lost by it."""
import json, os
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from mtd.core import same_answer
from mtd.lab import lab_stories
from mtd.prompting import THOUGHTS, demonstrations, execute
from mtd.replies import LONGEST_REPLY, REASONS, Reply, read_chain, read_equations, read_program, read_reply

MTD_DATA = os.environ.get('MTD_DATA')
GOLD = {name: [(d['thought'], d['answer']) for d in demonstrations(name)] + [(s.gold[name], s.problem.answer) for s in lab_stories('train', 12, seed=3)]
        for name in THOUGHTS}


@pytest.mark.parametrize('name', THOUGHTS)
def test_what_is_as_it_was_asked_for_stays_as_it_is(name):
    for text, _ in GOLD[name]: assert read_reply(name, text) == Reply(text)


@pytest.mark.parametrize('finish, refusal, text, reason', [
    ('stop', 'I will not.', '', 'refused'), ('stop', 'I will not.', 'ans = 1', 'refused'), ('content_filter', '', 'ans = 1', 'refused'),
    ('content_filter', None, None, 'refused'), ('length', '', 'ans = 1\nThe answer is 1.', 'truncated'), ('max_tokens', '', 'ans = 1', 'truncated'),
    ('length', '', '', 'truncated'), ('stop', '', '', 'empty'), ('stop', None, None, 'empty'), (None, '', ' \n\t', 'empty'), ('tool_calls', None, None, 'empty'),
    ('stop', '', '<think>It is 4.</think>\n', 'empty'), ('stop', '', '<think>It is 4.', 'empty'), ('stop', '', 'x' * (LONGEST_REPLY + 1), 'too large'),
    ('stop', '', 'I’m sorry, but I can’t help with that.', 'refused'), ('stop', '', "I'm unable to determine the answer.", 'refused'),
    ('stop', '', 'As an AI language model, I cannot solve that problem.', 'refused'), ('stop', '', 'Unfortunately I am not able to answer.', 'refused')])
@pytest.mark.parametrize('name', THOUGHTS)
def test_the_protocol_and_plain_refusals(name, finish, refusal, text, reason):
    assert read_reply(name, text, finish, refusal) == Reply(text or '', reason) and reason in REASONS


@pytest.mark.parametrize('text', [
    'I cannot buy more than 4 packs. The answer is 4.', 'I can help: there are 3.', "I can't do this in my head, so 3 + 4 = 7.", 'Sorry! 12', 'twelve',
    "I'm sorry, but I cannot help.\n```\nans = x\n```", 'We cannot determine a, but ans = b', 'It is known that he cannot help. So it is twelve.'])
def test_what_may_be_a_solution_is_no_refusal(text):
    assert all(read_reply(name, text).reason != 'refused' for name in THOUGHTS)


def test_an_unknown_thought_and_an_unknown_reason():
    with pytest.raises(ValueError, match='no thought is called'): read_reply('tot', 'x')
    assert all(isinstance(why, str) and why for why in REASONS.values())


@pytest.mark.parametrize('around', ['{}', 'Here it is:\n\n{}', 'Sure!\n\n{}\n\nI hope this helps!', '```\n{}\n```', 'Of course.\n```\n{}\n```\nThat is all.',
                                    '<think>Is it 3 or 4?</think>\n{}', '\n\n{}\n\n', '<think>a</think>Here:\n\n```\n{}\n```\n', '\ufeff{}'])
@pytest.mark.parametrize('name', THOUGHTS)
def test_nothing_right_is_lost_in_a_wrapping(name, around):
    replies = [read_reply(name, around.format(text)) for text, _ in GOLD[name]]
    assert [r.reason for r in replies] == [''] * len(replies)
    assert all(same_answer(o, gold) for o, (_, gold) in zip(execute(name, [r.text for r in replies]), GOLD[name]))


@pytest.mark.parametrize('text, said, note', [
    ('```python\nans = 1\n```', 'ans = 1', 'code fence'), ('~\n```py\nans = 1\n```', 'ans = 1', 'code fence, preamble'),
    ('```python\r\nx = 1\r\nans = x\r\n```\r\nDone.', 'x = 1\nans = x', 'code fence, epilogue'),
    ('Here is the program:\n\n    x = 1\n    ans = x\n\nDone.', 'x = 1\nans = x', 'preamble, epilogue'),
    ('def solution():\n    x = 1\n\n    return x\n\nThis returns 1.', 'def solution():\n    x = 1\n\n    return x', 'epilogue'),
    ('First we define\nx = 1\nand from this follows\nans = x', 'x = 1\nans = x', 'preamble, prose between'),
    ('```python\nx = 1\n```\nThen\n```python\nans = x\n```', 'x = 1\nans = x', 'code fence'),
    ('```python\ndef f():\n    return 1\n```\nCall it:\n```python\nprint(f())\n```', 'def f():\n    return 1\nprint(f())', 'code fence'),
    ('```bash\npip install sympy\n```\n```python\nans = 1\n```', 'ans = 1', 'code fence'),
    ('```\nx = 1\nans = x\n```\nOutput:\n```\n1\n```', 'x = 1\nans = x', 'code fence'),
    ('```python\nx = 1\nans = x\n```\nor the same again\n```python\ny = 1 # one\nans = y\n```', 'x = 1\nans = x', 'code fence'),
    ('```python\nans = 1', 'ans = 1', 'code fence')])
def test_the_program_in_a_reply(text, said, note):
    assert read_program(text) == Reply(said, note=note)
    assert execute('pot', said).answer == 1


@pytest.mark.parametrize('text', [
    '```python\nans = 1 + 1\n```\nAlternatively:\n```python\nprint(3)\n```', 'Solution 1:\nans = 1\n\nSolution 2:\nx = 2\nans = x',
    '```\ndef f():\n    return 1\n```\n```\ndef f():\n    return 2\n```', 'def solution():\n    return 1\n\ndef solution():\n    return 2',
    'Here:\ndef solution():\n    return 1\n\ndef solution():\n    return 2'])
def test_two_programs_are_several_answers(text):
    assert read_program(text) == Reply(text, 'several answers')


@pytest.mark.parametrize('text', [
    'def f():\n    return 1\n\ndef f():\n    return 1', 'ans = 1\nans = ans + 1', 'def f():\n    return 1\n\ndef g():\n    return f()', 'x = 1 +', 'ans = 5 apples',
    'if True:\n    def f(): return 1\nelse:\n    def f(): return 2', "ans = '```'", '42'])
def test_what_is_the_executors_to_judge_is_left_to_it(text):
    assert read_program(text) == Reply(text)


@pytest.mark.parametrize('text', ['The answer is 42.', 'two apples', 'Let us think: 3 and 4 are 7.', '% only a comment'])
def test_no_program(text): assert read_program(text) == Reply(text, 'no program')


@pytest.mark.parametrize('text, said, note', [
    ('Sure.\n% a\nx = 1\nans = x\nDone.', '% a\nx = 1\nans = x', 'preamble, epilogue'), ('```\nx = 1\nans = x\n```', 'x = 1\nans = x', 'code fence'),
    ('```\nx = 1\n```\nand\n```\nans = x\n```', 'x = 1\nans = x', 'code fence'),
    ('```\nx = 1\nans = x\n```\nor\n```\n2 = 2*y\nans = y\n```\n', 'x = 1\nans = x', 'code fence'),
    ('The unknown is x.\r\nx = 1\r\nans = x', 'x = 1\nans = x', 'preamble')])
def test_the_system_in_a_reply(text, said, note):
    assert read_equations(text) == Reply(said, note=note)
    assert execute('eot', said).answer == 1


def test_systems_that_are_two_none_or_the_solvers_business():
    for text in ('x = 1\nans = x\n\nOr:\ny = 2\nans = y', '```\nans = 1\n```\n```\nans = 2\n```'): assert read_equations(text) == Reply(text, 'several answers')
    for text in ('x is 4', '% x = 4', '# x = 4', '```\nnothing\n```'): assert read_equations(text) == Reply(text, 'no equations')
    for text in ('x = 1\nans = x\nans = 1', 'a = 3\nthere are b apples\nans = a', 'ans = 1 = 2', 'x = = 1'): assert read_equations(text) == Reply(text)


def test_chains():
    for text in ('The answer is 4. No: the answer is 5.', r'\boxed{4} and the answer is 5', '#### 4\n#### 5'): assert read_chain(text) == Reply(text, 'several answers')
    for text in ('The answer is 4. The answer is 4.00.', r'\boxed{1/2}. The answer is 0.5', 'The answer is 9 - 4. The answer is 5.', 'The answer is 3 + 1 = 4. #### 4', 'no number'):
        assert read_chain(text) == Reply(text)
    assert read_reply('cot', '<think>The answer is 3.</think>4 of 5. The answer is 4.\n\nQuestion: and 5?\nThe answer is 5.') == Reply('4 of 5. The answer is 4.', note='thinking, next question')
    assert read_chain('```\n2 + 2 = 4. The answer is 4.\n```') == Reply('2 + 2 = 4. The answer is 4.', note='code fence')


HOSTILE = ['`' * 10**6, '```' + ' ' * (10**6 - 3), '```' + 'a' * (10**6 - 3), '```\n' * 250_000, '(' * 10**6, '[' * 900_000, '\0' * 10**6, '\ud800x = 1', 'x = ' + '-' * 10**5,
           '1+' * 450_000 + '1', 'x = 1\nnot code\n' * 60_000, '```\nx=1\n```\n' * 80_000, 'ans = 1\nans=2\n' * 70_000, 'the answer is 3 ' * 60_000, '1,000' * 190_000,
           '\\boxed{' * 140_000, '<think>' * 140_000, 'x' + ' ' * 900_000 + '!', 'a, ' * 300_000, 'I cannot ' * 111_000, 'Question: ' * 99_000, 'x = 0x' + 'f' * 19_000,
           'x = ' + 'a.' * 9_000 + 'b\nnot code', 'f"' + '{' * 400 + '"']


def test_hostile_replies_are_read_to_their_end_and_nothing_runs(): # three seconds; a pattern that is not linear would take hours
    for name in THOUGHTS:
        for text in HOSTILE: assert read_reply(name, text).reason in ('', *REASONS)


PIECES = st.sampled_from(['```', '```python', '\n', '\n', 'ans = ', 'x', ' = ', '1', '3', '+', ' ', '    ', 'def f():', 'return 1', 'The answer is ', '####', '<think>',
                          '</think>', 'Question: ', '\\boxed{', '}', '%', '#', 'print(x)', 'Here:', '(', ')', '"', '\r\n', '\0', '\ud800', 'é', 'ans', 'I cannot help'])


@given(st.one_of(st.lists(PIECES, max_size=25).map(''.join), st.text(max_size=60)))
@settings(max_examples=1500)
def test_any_text_is_read_and_reading_what_was_read_changes_nothing(text):
    for name in THOUGHTS:
        reply = read_reply(name, text)
        assert reply.reason in ('', *REASONS) and (not reply.reason or reply.text == text)
        if not reply.reason: # as far as it was taken, it is taken again
            again = read_reply(name, reply.text)
            assert again.reason in ('', 'several answers', 'empty', 'no program', 'no equations', 'refused')
            if not again.reason: assert again.text == reply.text or again.note


@given(st.lists(PIECES, max_size=20).map(''.join))
@settings(max_examples=1500)
def test_what_the_solver_and_the_reader_of_chains_answer_stays(text):
    for name in ('cot', 'eot'):
        before, reply = execute(name, text), read_reply(name, text)
        if before.ok and not reply.reason: assert execute(name, reply.text).answer == before.answer


@pytest.mark.skipif(not MTD_DATA, reason='MTD_DATA is not set')
@pytest.mark.parametrize('name, file, dropped, lost', [('cot', 'llama3_70b_cot_gsm8k_train', 15, 13), ('pot', 'gpt35_pot_svamp_train', 0, 0)])
def test_real_replies_stay_as_they_are_or_contradict_themselves(name, file, dropped, lost):
    rows = [json.loads(line) for line in (Path(MTD_DATA)/'teacher'/f'{file}.jsonl').open(encoding='utf-8')]
    replies = [read_reply(name, r['completion']) for r in rows]
    assert all(reply.text == r['completion'] for reply, r in zip(replies, rows)), 'none of them is wrapped in anything'
    without = [(r, reply) for r, reply in zip(rows, replies) if reply.reason]
    assert len(without) == dropped and {reply.reason for _, reply in without} <= {'several answers'}
    outcomes = execute(name, [r['completion'] for r, _ in without])
    assert sum(same_answer(o, Fraction(r['gold'].replace(',', ''))) for o, (r, _) in zip(outcomes, without)) == lost, 'each states two different answers, the last of them the gold'
