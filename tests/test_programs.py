"""Programs: where their answer is found, how it is read, and that no verdict depends on anything but the program."""
import json, os, random, re, signal, subprocess, sys, threading, time
from fractions import Fraction

import pytest

from mtd import programs
from mtd.core import Outcome, same_answer
from mtd.programs import STATUSES, close_workers, prepare, run_all, run_program, unfence

ANSWERS = { # program: its exact answer
    'ans = 3 * 8': 24,
    'price = 1.25\nans = price * 2': Fraction(5, 2),
    'answer = 10 / 4': Fraction(5, 2),
    'result = 0.1 + 0.2': Fraction('0.30000000000000004'),
    'def solution():\n    a = 3\n    return a * 4': 12,
    'def helper(x):\n    return x + 1\n\ndef solution():\n    return helper(6)\n\nprint(solution())': 7,
    'def half(n):\n    return n / 2\n\ndef solution(n=9):\n    return half(n)': Fraction(9, 2),
    'def main():\n    print(17)\n\nif __name__ == "__main__":\n    main()': 17,
    'x = 5\nprint(x)': 5,
    'x = 5\nx + 1': 6,
    'x = 5\nprint("Total:", x, "apples")': 5,
    'x = 2.5\nprint(f"That costs {x:.2f} dollars")': Fraction(5, 2),
    'answer = 8\nprint(f"3 boys and {answer} girls")': 8,
    'print("steps")\nprint(4 + 5)': 9,
    'for i in range(3):\n    print(i)': 2,
    'if 3 > 2:\n    ans = 1\nelse:\n    ans = 2': 1,
    'result = 5\nans = result * 2\nprint(result)': 10,
    'result = 5\nprint(result * 3)': 15,
    'import math\nans = math.ceil(7 / 2)': 4,
    'from math import *\nans = floor(sqrt(50)) + pi * 0': 7,
    'from math import *\nfrom datetime import *\nans = (date(2024, 3, 1) - date(2024, 2, 1)).days': 29,
    'from decimal import Decimal\nans = Decimal("0.10") * 3': Fraction(3, 10),
    'import datetime\nans = datetime.timedelta(hours=3).seconds // 60': 180,
    'ans = "1,200"': 1200,
    'ans = sum(n for n in range(5) if n % 2)': 4,
    'ans = -7 // 2': -4,
    '```python\nans = 6\n```': 6,
    'Here it is:\n```\nans = 6\n```\nThe answer is 7.': 6,
    'The output is\n```text\n99\n```\nof\n```python\nans = 6': 6,
    '    a = 2\n    ans = a + 2': 4,
    '\ufeffans = 1\r\nans = ans + 1\r\n': 2,
    'ans = 4 # ans = 5\n"""\nans = 6\n"""': 4,
    'größe = 3\nans = größe * 2': 6,
    's = "ü"; print(s); ans = len(s)': 1,
    'ﬁve = 5\nans = five': 5,
}
REFUSED = { # program: status, and a pattern that its detail must show
    'ans = 3 +': ('syntax', r'SyntaxError.*line 1'),
    'a = 1\n  ans = 2': ('syntax', 'line 2'),
    'The answer is 4.': ('syntax', 'line 1'),
    'ans = "\x00"': ('syntax', 'null'),
    'ans = "\ud800"': ('syntax', 'Unicode'),
    'a = 1\nans = a / 0': ('error', r'ZeroDivisionError: division by zero \(line 2\)'),
    'def solution():\n    x = y\n    return x': ('error', r"NameError.*'y'.*line 2"),
    'raise ValueError("no")': ('error', 'ValueError: no'),
    'def f(n): return f(n)\nans = f(1)': ('error', 'RecursionError'),
    'if 2 > 3:\n    ans = 1': ('error', "NameError.*'ans'"),
    'ans = True': ('not_a_number', 'bool'),
    'ans = (1, 2)': ('not_a_number', 'tuple'),
    'ans = [1]': ('not_a_number', 'list'),
    'ans = {1: 2}': ('not_a_number', 'dict'),
    'ans = "Monday"': ('not_a_number', 'Monday'),
    'ans = float("nan")': ('not_a_number', 'nan'),
    'ans = float("inf")': ('not_a_number', 'inf'),
    'ans = 1j': ('not_a_number', 'complex'),
    'from datetime import date\nans = date(2024, 1, 1)': ('not_a_number', 'date'),
    'print("2 boys and 3 girls")': ('not_a_number', 'str'),
    'print("now")\nprint("later")': ('not_a_number', 'str'),
    '': ('no_answer', 'no `ans`'),
    'total = 3 + 4': ('no_answer', 'no `ans`'),
    'def f(x):\n    return x': ('no_answer', 'no `ans`'),
    'ans = None': ('no_answer', 'no `ans`'),
    'import numpy as np\nans = np.array([1]).sum()': ('unsupported', 'numpy'),
    'from sympy import *\nans = 1': ('unsupported', r'line 1'),
    'ans = input()': ('unsupported', 'input'),
    'def g():\n    yield 1\nans = next(g())': ('unsupported', 'yield'),
    'ans = 7 ** 5000': ('too_large', 'bits'),
    'ans = 1' + '0' * 5000: ('too_large', 'digits'),
    'ans = ' + '(' * 5000 + '1' + ')' * 5000: ('too_large', 'nested'),
    'ans = ' + '-' * 10000 + '1': ('too_large', 'nested'),
    'ans = 1\n' * 5000: ('too_large', 'characters'),
    'for i in range(9):\n    print("x" * 5_000)': ('too_large', 'printed'),
    'ans = "x" * 100_000': ('not_a_number', 'x'),
    'ans = 9 ** 9 ** 9': ('memory', 'memory limit'),
    'ans = len("a" * 10 ** 10)': ('memory', 'memory limit'),
}

def test_answers():
    outcomes = run_all(ANSWERS)
    wrong = {p: o for (p, answer), o in zip(ANSWERS.items(), outcomes) if o.status != 'ran' or o.answer != answer}
    assert not wrong

def test_refusals():
    outcomes = run_all(REFUSED)
    wrong = {p[:80]: o for (p, (status, words)), o in zip(REFUSED.items(), outcomes)
             if o.status != status or o.answer is not None or not re.search(words, o.detail)}
    assert not wrong

def test_every_status_is_seen():
    seen = {status for status, _ in REFUSED.values()} | {'ran'} | {run_program('while True: pass', timeout=0.1).status}
    assert seen == set(STATUSES)

def test_text_is_the_answer_as_written():
    assert [o.text for o in run_all(['ans = 4.0', 'ans = 4', 'ans = "5.00"', 'x = 1 / 3\nprint(f"{x:.2f}")'])] == ['4.0', '4', '5.00', '0.33']
    assert same_answer(run_program('x = 1 / 3\nprint(f"{x:.2f}")'), Fraction(1, 3)), 'a rounding that shows its decimals is right'

def test_unfence_and_prepare():
    assert unfence('```py\nans = 1\n```\n```python\nans = 2\n```') == 'ans = 1', 'the first block fenced as Python'
    assert unfence('no fence') == 'no fence'
    assert prepare('answer = 1\nprint("x", 2)').then == ('answer',)
    assert prepare('x = "é"; from math import *; y = sqrt(4)\nans = y').source == 'x = "é"; from math import sqrt; y = sqrt(4)\nans = y\nans'

def test_order_and_neighbours():
    texts = [f'ans = {i}' if i % 3 else 'ans = 1 /' for i in range(200)]
    outcomes = run_all(texts, workers=3)
    assert [o.answer for o in outcomes] == [i if i % 3 else None for i in range(200)]
    assert run_all(texts[::-1], workers=1) == outcomes[::-1] and run_all([]) == []

def test_a_verdict_does_not_depend_on_its_moment():
    moody = ['import random\nans = random.random()', 'import datetime\nans = datetime.datetime.now().timestamp()',
             'import time\ntime.sleep(50)\nans = time.time()', 'ans = hash("a") % 1000', 'ans = list({"a", "b", "c"}).index("a")']
    first = run_all(moody)
    close_workers()
    assert run_all(moody) == first and first[0].status == first[1].status == first[2].status == 'ran'

def test_settings_are_checked():
    for bad in (dict(workers=0), dict(timeout=0), dict(memory=10)):
        with pytest.raises(ValueError, match='at least 1 worker'): run_all(['ans = 1'], **bad)
    with pytest.raises(ValueError, match='run_program'): run_all('ans = 1')

def test_limits_are_the_callers():
    text = 'ans = len("a" * (20 << 20))'
    assert run_program(text, memory=8 << 20).status == 'memory' and run_program(text, memory=64 << 20).answer == 20 << 20
    began = time.monotonic()
    assert run_program('while True: pass', timeout=0.2).status == 'timeout' and time.monotonic() - began < 2

def test_a_worker_that_dies_is_replaced():
    worker = programs._take()
    programs._give(worker)
    done, killer = [], threading.Timer(0.4, lambda: os.kill(worker.process.pid, signal.SIGKILL))
    killer.start()
    slow = 'n = 0\nwhile n < 2_000_000: n += 1\nans = n'
    done = run_all([slow, 'ans = 1', slow, 'ans = 2'], workers=1, timeout=30)
    killer.join()
    assert [o.answer for o in done] == [2_000_000, 1, 2_000_000, 2] and worker.process.wait(10) is not None

def test_a_forged_reply_is_not_believed():
    good = dict(id=7, status='ran', answer='3/2', detail='', text='1.5')
    assert programs._check_reply(good, 7) == Outcome('ran', Fraction(3, 2), text='1.5')
    for change in (dict(id=8), dict(status='solved'), dict(answer=None), dict(answer=3), dict(answer='3/0'), dict(answer='1' * 5000),
                   dict(status='error'), dict(detail=None), dict(text=[1]), dict(answer='__import__("os")'), dict(answer='٣')):
        assert programs._check_reply(good | change, 7) is None, change
    assert programs._check_reply(None, 7) is None and programs._check_reply({}, 7) is None

def test_a_missing_interpreter_is_said(monkeypatch):
    close_workers()
    monkeypatch.setattr(programs, '_launch', lambda folder, lock: subprocess.Popen(
        [sys.executable, '-c', 'print(\'{"ready": false, "detail": "no monty here"}\')'], stdin=-1, stdout=-1, cwd=folder, start_new_session=True))
    with pytest.raises(RuntimeError, match='no monty here.*pydantic_monty --version'): run_all(['ans = 1'])
    monkeypatch.undo()
    assert run_program('ans = 1').answer == 1

def test_import_is_light():
    code = 'import sys, mtd.programs; print([m for m in ("pydantic_monty", "sympy", "torch") if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == '[]'

def test_mutilated_programs():
    "Whatever a model leaves out, doubles or garbles, there is a verdict, and it is the same twice."
    dice, texts = random.Random(0), [*ANSWERS, *REFUSED]
    pieces = ['\n', ' ', '(', ')', ':', '"', "\'", '=', '```', '\\', '#', 'ans', 'print(', '0', '\t', '\x00', 'é', '🍎', 'return ', 'f"{', '**', 'lambda:']
    broken = []
    for _ in range(1500):
        text = dice.choice(texts)[:300]
        for _ in range(dice.randint(1, 4)):
            i = dice.randint(0, len(text))
            text = text[:i] + dice.choice(pieces + [text[i:i + 9]]) + text[i + dice.choice([0, 0, 1, 5, 30]):]
        broken.append(text)
    first = run_all(broken, timeout=1)
    assert not [(t, o) for t, o in zip(broken, first) if o.status not in STATUSES or 'crashed' in o.detail or 'runner failed' in o.detail or (o.status == 'ran') != o.ok]
    steady = [(t, o) for t, o in zip(broken, first) if o.status != 'timeout']
    assert run_all([t for t, _ in steady][::-1], timeout=2) == [o for _, o in steady][::-1]

# Real programs

DATA = os.environ.get('MTD_DATA')
REFERENCE = '''
import json, resource, sys
for limit, value in ((resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CPU, 60), (resource.RLIMIT_AS, 1 << 30)): resource.setrlimit(limit, (value, value))
out = []
for text in json.load(sys.stdin):
    space = {}
    try:
        exec(text, space)
        value = space['solution']()
        out.append([type(value).__name__, repr(value)])
    except BaseException as e: out.append(['error', type(e).__name__])
print(json.dumps(out))
'''

@pytest.mark.full
@pytest.mark.skipif(not DATA, reason='MTD_DATA is not set')
def test_real_programs_give_what_cpython_gives(tmp_path):
    with open(os.path.join(DATA, 'teacher', 'gpt35_pot_svamp_train.jsonl'), encoding='utf-8') as f: rows = [json.loads(line) for line in f]
    texts = [row['completion'] for row in rows]
    outcomes = run_all(texts)
    done = subprocess.run([sys.executable, '-I', '-c', REFERENCE], input=json.dumps(texts), capture_output=True, text=True, cwd=tmp_path, env={})
    differ = [(o, value) for o, (kind, value) in zip(outcomes, json.loads(done.stdout))
              if not (o.status == 'ran' and kind in ('int', 'float') and o.answer == Fraction(value))]
    right = sum(same_answer(o, row['gold']) for o, row in zip(outcomes, rows))
    assert not differ and len(rows) == 2987 and right >= 2979
