"""Programs: where their answer is found, how it is read, and that no verdict depends on anything but the program."""
import json, multiprocessing, os, random, re, signal, subprocess, sys, tempfile, threading, time, warnings
from fractions import Fraction
from pathlib import Path

import pytest

from mtd import equations, programs, sandbox
from mtd.core import Outcome, parse_number, same_answer
from mtd.programs import STATUSES, close_workers, run_all, run_each, run_program, unfence
from mtd.sandbox import NEEDED, layers

needs_jail = pytest.mark.skipif(not NEEDED <= set(layers()), reason='this system has no locks of the kind')

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
    'def solve_it():\n    return 6\n\ntotal = 3': 6,
    'def main():\n    print("The total is $1,250.50.")\nmain()': Fraction(2501, 2),
    'answer = 4\nprint("done")': 4,
    'print("It costs 1,200 dollars")': 1200,
    'print("minus", "-0.5")': Fraction(-1, 2),
    'x = 3\nprint("x1 =", x)': 3,
    'from fractions import Fraction\nans = Fraction(1, 3)': Fraction(1, 3),
}
JAIL = { # what only CPython runs
    'from math import *\nfrom datetime import *\nans = (date(2024, 3, 1) - date(2024, 2, 1)).days': 29,
    'from decimal import Decimal\nans = Decimal("0.10") * 3': Fraction(3, 10),
    'import statistics\nans = statistics.mean([1, 2, 4])': Fraction(parse_number(7 / 3)),
    'import itertools\nans = len(list(itertools.combinations(range(5), 2)))': 10,
    'from collections import Counter, defaultdict\nseen = defaultdict(int)\nseen["a"] += Counter("banana")["a"]\nans = seen["a"]': 3,
    'import sympy\nx = sympy.Symbol("x")\nans = sympy.solve(3 * x - 1)[0]': Fraction(1, 3),
    'from sympy import *\nx, y = symbols("x y")\nsolution = solve([x + y - 10, x - y - 4], [x, y])\nans = solution[x]': 7,
    'def solve_it():\n    from sympy import Symbol, Eq, solve\n    n = Symbol("n", positive=True)\n    return solve(Eq(n**2, 49), n)[0]\nprint(solve_it())': 7,
    'from sympy import sqrt\nans = sqrt(2)': Fraction(parse_number(2 ** 0.5)),
    'import sympy\nans = sympy.Float("2.5")': Fraction(5, 2),
    'import sympy\nans = sympy.Integer(3) ** 2 / 2': Fraction(9, 2),
    'import numpy as np\nans = np.array([1, 2]).sum()': 3,
    'import numpy as np\nans = np.mean([0.5, 1.0])': Fraction(3, 4),
    'import numpy as np\nans = np.linalg.solve([[1, 1], [1, -1]], [3, 1])[0].round(6)': 2,
    'import numpy as np\nans = np.float32(0.5)': Fraction(1, 2),
    'import numpy as np\nans = np.percentile([1, 2, 3, 4], 50) + np.fft.fft([1, 2, 3])[0].real': Fraction(17, 2),
    'from sympy import *\nf, x = Function("f"), symbols("x")\nans = dsolve(f(x).diff(x) - f(x), f(x)).rhs.subs({symbols("C1"): 1, x: 0})': 1,
    'from sympy import *\nx = symbols("x")\nans = integrate(x**2, (x, 0, 3)) + limit(sin(x) / x, x, 0) + Sum(x, (x, 1, 4)).doit()': 20,
    'from sympy.solvers.diophantine import diophantine\nfrom sympy import symbols\nx, y = symbols("x y", integer=True)\nans = len(diophantine(2*x + 3*y - 5))': 1,
    'from datetime import datetime\nans = datetime.strptime("3:45 PM", "%I:%M %p").hour': 15,
    'class Box:\n    def __init__(self, n): self.n = n\n    def __add__(self, other): return Box(self.n + other.n)\nans = (Box(2) + Box(5)).n': 7,
    'from dataclasses import dataclass\n@dataclass\nclass A:\n    n: int = 4\nans = A().n': 4,
    'def g():\n    total = 0\n    while True: total += yield total\nit = g(); next(it); it.send(4)\nans = it.send(5)': 9,
    'import heapq, bisect, operator, string, calendar\nans = calendar.monthrange(2024, 2)[1]': 29,
    'async def f(): return 1\ntry: f().send(None)\nexcept StopIteration as e: ans = e.value': 1,
    'import sys\nans = 3\nsys.exit()': 3,
    'from enum import IntEnum\nclass E(IntEnum):\n    A = 4\nans = E.A': 4,
    'import collections.abc, typing, abc, copy\nans = len(copy.deepcopy([1, [2]]))': 2,
    'class A:\n    pass\ndef f():\n    return 5\nprint(f"It is {f()} kg")': 5,
    'class A: pass\nprint("twice", 4)': 4,
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
    'if 2 > 3:\n    ans = 1': ('error', "NameError.*'ans'"),
    'ans = True': ('not_a_number', 'bool'),
    'ans = (1, 2)': ('not_a_number', 'tuple'),
    'ans = [1]': ('not_a_number', 'list'),
    'ans = {1: 2}': ('not_a_number', 'dict'),
    'ans = "Monday"': ('not_a_number', 'Monday'),
    'ans = float("nan")': ('not_a_number', 'nan'),
    'ans = float("inf")': ('not_a_number', 'inf'),
    'from datetime import date\nans = date(2024, 1, 1)': ('not_a_number', 'date'),
    'print("2 boys and 3 girls")': ('not_a_number', 'str'),
    'print("now")\nprint("later")': ('not_a_number', 'str'),
    '': ('no_answer', 'no `ans`'),
    'total = 3 + 4': ('no_answer', 'no `ans`'),
    'def f(x):\n    return x': ('no_answer', 'no `ans`'),
    'ans = None': ('no_answer', 'no `ans`'),
    'import spreadsheet\nans = 1': ('unsupported', 'spreadsheet'),
    'ans = 7 ** 5000': ('too_large', 'bits'),
    'ans = 1' + '0' * 5000: ('too_large', 'digits'),
    'ans = ' + '(' * 5000 + '1' + ')' * 5000: ('too_large', 'nested'),
    'ans = ' + '-' * 10000 + '1': ('too_large', 'nested'),
    'ans = 1\n' * 5000: ('too_large', 'characters'),
    'for i in range(9):\n    print("x" * 5_000)': ('too_large', 'printed'),
    'ans = "x" * 100_000': ('not_a_number', 'x'),
    'ans = 9 ** 9 ** 9': ('memory', 'memory'),
    'ans = len("a" * 10 ** 10)': ('memory', 'memory'),
}

REFUSED_IN_JAIL = { # programs that only CPython gets as far as to refuse
    'def f(n): return f(n)\nans = f(1)': ('error', 'RecursionError'),
    'ans = 1j': ('not_a_number', 'complex'),
    'ans = input()': ('error', 'EOFError'),
}

def test_answers():
    outcomes = run_all(ANSWERS)
    wrong = {p: o for (p, answer), o in zip(ANSWERS.items(), outcomes) if o.status != 'ran' or o.answer != answer}
    assert not wrong

def wrongly_refused(programs):
    return {p[:80]: o for (p, (status, words)), o in zip(programs.items(), run_all(programs))
            if o.status != status or o.answer is not None or not re.search(words, o.detail)}

def test_refusals(): assert not wrongly_refused(REFUSED)

def test_every_status_is_seen():
    seen = {status for status, _ in REFUSED.values()} | {'ran'} | {run_program('while True: pass', timeout=0.1).status}
    assert seen == set(STATUSES)

def test_text_is_the_answer_as_written():
    assert [o.text for o in run_all(['ans = 4.0', 'ans = 4', 'ans = "5.00"', 'x = 1 / 3\nprint(f"{x:.2f}")'])] == ['4.0', '4', '5.00', '0.33']
    assert same_answer(run_program('x = 1 / 3\nprint(f"{x:.2f}")'), Fraction(1, 3)), 'a rounding that shows its decimals is right'

@needs_jail
def test_what_only_cpython_runs():
    outcomes = run_all(JAIL)
    assert not {p: o for (p, answer), o in zip(JAIL.items(), outcomes) if o.status != 'ran' or o.answer != answer}
    assert not wrongly_refused(REFUSED_IN_JAIL)

@needs_jail
def test_both_tiers_agree():
    "The same programs give the same outcome, to the letter, in CPython and in the interpreter."
    texts = [t for t in [*ANSWERS, *REFUSED] if 'while True' not in t]
    first, second = run_all(texts), run_all(texts, _tiers=('jail',))
    differ = {t[:80]: (a, b) for t, a, b in zip(texts, first, second) if a != b and not {a.status, b.status} <= {'memory', 'timeout', 'too_large'}}
    assert not differ

@needs_jail
def test_every_status_is_seen_in_the_jail():
    texts = {'ran': 'ans = 1', 'syntax': 'ans =', 'error': 'ans = 1 / 0', 'not_a_number': 'class A: pass\nans = A()', 'no_answer': 'x = 1', 'unsupported': 'import spreadsheet',
             'timeout': 'while True: pass', 'too_large': 'while True: print("x" * 99)', 'memory': 'ans = [0] * 10**9'}
    assert [o.status for o in run_all(texts.values(), timeout=0.3, _tiers=('jail',))] == list(texts) and set(texts) == set(STATUSES)
    worse = run_all(['import sympy\nans = sympy.Integer(7) ** 5000', 'import sympy\nans = sympy.oo', 'import sympy\nx = sympy.Symbol("x")\nans = sympy.solve(x - 1)', 'import numpy\nans = numpy.array([1, 2])',
                     'import numpy\nans = numpy.float64("nan")', 'import sympy\nans = sympy.sqrt(-2)', 'import numpy\nans = numpy.bool_(True)', 'ans = chr(0xd800)'])
    assert [o.status for o in worse] == ['too_large'] + ['not_a_number'] * 7
    swallowed = 'try:\n    while True: print("x" * 99)\nexcept BaseException: pass\nans = 1'
    crash = run_program('import ctypes\nctypes.string_at(0)', _tiers=('jail',))
    assert run_program(swallowed, _tiers=('jail',)).status == 'too_large' and crash.status in ('error', 'unsupported')

def test_unfence():
    assert unfence('```py\nans = 1\n```\n```python\nans = 2\n```') == 'ans = 1', 'the first block fenced as Python'
    assert unfence('no fence') == 'no fence'

def test_order_and_neighbours():
    texts = [f'ans = {i}' if i % 3 else 'ans = 1 /' for i in range(200)]
    outcomes = run_all(texts, workers=3)
    assert [o.answer for o in outcomes] == [i if i % 3 else None for i in range(200)]
    assert run_all(texts[::-1], workers=1) == outcomes[::-1] and run_all([]) == []

def test_a_verdict_does_not_depend_on_its_moment():
    moody = ['import random\nans = random.random()', 'import datetime\nans = datetime.datetime.now().timestamp()',
             'import time\ntime.sleep(50)\nans = time.time()', 'ans = hash("a") % 1000', 'import secrets, uuid\nans = secrets.randbelow(1000) + uuid.uuid4().int % 1000',
             'import numpy\nans = numpy.random.default_rng().random() + numpy.random.rand()', 'import os\nans = os.urandom(1)[0]', 'ans = list({"a", "b", "c"}).index("a")']
    for tiers in (('interpreter', 'jail'), ('jail',))[:1 + (NEEDED <= set(layers()))]:
        first = run_all(moody, _tiers=tiers)
        close_workers()
        assert run_all(moody, _tiers=tiers) == first and first[0].status == first[1].status == first[2].status == 'ran'
        assert first[1].answer == first[2].answer == 1704110400, 'noon of the first of January 2024'

def test_settings_are_checked():
    for bad in (dict(workers=0), dict(timeout=0), dict(memory=10)):
        with pytest.raises(ValueError, match='at least 1 worker'): run_all(['ans = 1'], **bad)
    with pytest.raises(ValueError, match='run_program'): run_all('ans = 1')

def test_limits_are_the_callers():
    text = 'ans = len("a" * (20 << 20))'
    assert run_program(text, memory=8 << 20).status == 'memory' and run_program(text, memory=64 << 20).answer == 20 << 20
    began = time.monotonic()
    assert run_program('while True: pass', timeout=0.2).status == 'timeout' and time.monotonic() - began < 2

SLOW = 'n = 0\nwhile n < 50_000: n += 1\nans = n'

@pytest.mark.parametrize('tiers', [('interpreter',), pytest.param(('jail',), marks=needs_jail)])
def test_a_worker_that_dies_is_replaced(tiers):
    worker = programs._take(tiers[0], True)
    programs._give(worker)
    killer = threading.Timer(0.2, lambda: os.kill(worker.process.pid, signal.SIGKILL))
    killer.start()
    texts = [SLOW if tiers == ('interpreter',) else SLOW.replace('50_', '9_050_'), 'ans = 1', 'while True: pass', 'ans = 2'] * 2
    done = run_all(texts, workers=1, timeout=2, steps=2_000_000, _tiers=tiers)
    killer.join()
    assert [o.answer for o in done] == [int(texts[0][15:].split(':')[0]), 1, None, 2] * 2 and worker.process.wait(10) is not None
    assert done[2].status == done[6].status == 'timeout'

@pytest.mark.skipif(not hasattr(signal, 'SIGSTOP'), reason='a process is stopped by a signal')
def test_one_who_hangs_is_stopped_and_nobody_else_is_blamed():
    "A worker stopped by a signal, as if one program had hung in a way that no alarm ends."
    worker = programs._take('interpreter', True)
    programs._give(worker)
    threading.Timer(0.1, lambda: os.kill(worker.process.pid, signal.SIGSTOP)).start()
    assert [o.answer for o in run_all([SLOW] * 20, workers=1, timeout=0.5)] == [50_000] * 20 and not worker.alive

def test_a_forged_reply_is_not_believed():
    good = ['ran', '3/2', '', '1.5']
    assert programs._outcome(good) == Outcome('ran', Fraction(3, 2), text='1.5')
    for i, change in ((0, 'solved'), (0, ['ran']), (1, None), (1, 3), (1, '3/0'), (1, '1' * 5000), (0, 'error'), (2, None), (3, [1]), (1, '__import__("os")'), (1, '٣'), (2, '\ud800'), (3, 'x' * 5000)):
        assert programs._outcome([*good[:i], change, *good[i + 1:]]) is None, change
    for reply in (None, {}, [], good[:3], [*good, ''], 'ran', 5): assert programs._outcome(reply) is None

def test_a_worker_that_cannot_start_is_said(monkeypatch):
    close_workers()
    monkeypatch.setattr(sandbox, '_HOMES', ())
    with pytest.raises(RuntimeError, match='no worker for programs could be started: it ended at once'): run_all(['ans = 1'])
    monkeypatch.undo()
    assert run_program('ans = 1').answer == 1

def test_without_locks_the_interpreter_holds_alone(monkeypatch):
    "As on a system whose kernel offers none: what the interpreter does not know stays unsupported, and that is said once."
    close_workers()
    monkeypatch.setattr(programs, '_without', set())
    monkeypatch.setattr(programs, 'NEEDED', NEEDED | {'a lock that no kernel has'})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        outcomes = run_all(['import numpy\nans = numpy.sum([1])', 'ans = 1', 'class A: n = 1\nans = A.n'] * 3, workers=1)
    close_workers()
    assert [o.status for o in outcomes] == ['unsupported', 'ran', 'unsupported'] * 3 and len(said) == 1 and 'no jail holds' in str(said[0].message)

def test_a_stream_is_read_no_further_than_needed():
    read = []
    def source():
        for i in range(10**9):
            read.append(i)
            yield f'ans = {i}'
    stream = run_each(source(), workers=2)
    assert [next(stream).answer for _ in range(100)] == list(range(100))
    stream.close()
    assert len(read) < 10_000 and not [t for t in threading.enumerate() if getattr(t, '_target', None) and 'work' in str(t._target)]
    assert run_program('ans = 2').answer == 2

def test_a_slow_source_holds_nothing_back():
    def source():
        yield 'ans = 1'
        time.sleep(1)
        yield 'ans = 2'
        raise KeyError('the source broke')
    began, stream = time.monotonic(), run_each(source())
    with pytest.raises(KeyError, match='the source broke'):
        for outcome in stream: assert outcome.answer == 1 or outcome.answer == 2

@pytest.mark.full
def test_a_million_would_fit():
    code = '''
import resource, sys
from mtd.programs import run_each
size = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096 if sys.platform.startswith("linux") else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sizes = []
for i, outcome in enumerate(run_each((f"ans = {i} + 1" for i in range(200_000)), workers=2)):
    assert outcome.answer == i + 1, (i, outcome)
    if i in (50_000, 199_000): sizes.append(size())
print(sizes[1] / sizes[0])
'''
    assert float(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout) < 1.1

def test_threads_may_call_at_once():
    results = {}
    def call(k): results[k] = [o.answer for o in run_all([f'ans = {k} * {i}' for i in range(100)])]
    threads = [threading.Thread(target=call, args=(k,)) for k in range(6)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert results == {k: [k * i for i in range(100)] for k in range(6)}

def _in_a_fork(queue): queue.put([o.answer for o in run_all(['ans = 1', 'class A: n = 2\nans = A.n'])])

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system does not fork')
def test_a_forked_copy_starts_its_own_workers():
    run_all(['ans = 1', 'class A: n = 2\nans = A.n'])
    mine = programs._take('interpreter', True)
    programs._give(mine)
    context = multiprocessing.get_context('fork')
    queue = context.SimpleQueue()
    copies = [context.Process(target=_in_a_fork, args=(queue,)) for _ in range(2)]
    for p in copies: p.start()
    results = [queue.get() for _ in copies]
    for p in copies: p.join(20)
    assert all(r == [1, 2 if NEEDED <= set(layers()) else None] for r in results) and all(p.exitcode == 0 for p in copies)
    assert mine.alive and run_program('ans = 3').answer == 3, 'the copies left our worker alone'

LINUX = sys.platform.startswith('linux')

def running(group): # processes of a session that are no zombies
    found = []
    for folder in Path('/proc').glob('[0-9]*'):
        try: fields = (folder/'stat').read_text().rpartition(')')[2].split()
        except OSError: continue
        if int(fields[2]) == group and fields[0] != 'Z': found.append(int(folder.name))
    return found

@pytest.mark.skipif(not LINUX, reason='reads /proc')
@pytest.mark.parametrize('way', ['killed', 'exits', 'interrupted'])
def test_nothing_outlives_its_parent(way):
    "With a worker of each tier at work, and a copy of the zygote too."
    code = f'''
import os, signal, sys, threading, time, mtd.sandbox, mtd.programs as p
signal.signal(signal.SIGINT, signal.default_int_handler) # whoever started the tests may have it ignored
def end():
    time.sleep(0.5)
    print(*[w.process.pid for w in list(mtd.sandbox._workers)], flush=True)
    if {way!r} == 'exits': done.set()
    else: os.kill(os.getpid(), signal.SIGKILL if {way!r} == 'killed' else signal.SIGINT)
p.run_all(['ans = 1', 'class A: n = 1\\nans = A.n'], workers=1)
done = threading.Event()
endless = ['class A: pass\\nwhile True: pass'] * 9
threading.Thread(target=end, daemon=True).start()
if {way!r} == 'exits':
    threading.Thread(target=p.run_all, args=(endless, 2, 60), daemon=True).start()
    done.wait()
else:
    try: p.run_all(endless, 2, 60)
    except KeyboardInterrupt: print(p.run_program('ans = 42').answer)
'''
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60).stdout.split('\n')
    groups = [int(pid) for pid in said[0].split()]
    assert len(groups) >= 2 and (said[1] == '42' or way != 'interrupted')
    for _ in range(100):
        if not any(map(running, groups)): break
        time.sleep(0.05)
    assert not any(map(running, groups)), f'a worker outlived a parent that was {way}'

@pytest.mark.skipif(not LINUX, reason='reads /proc')
def test_nothing_is_left_behind():
    folders = set(Path(tempfile.gettempdir()).glob('mtd-worker-*'))
    run_all(['while True: pass', 'class A: pass\nwhile True: pass', 'class A: pass\nans = 1'], timeout=0.2)
    workers = [w.process.pid for w in sandbox._workers if w is not equations._solver] # which stays for the next system
    close_workers()
    assert workers and not [pid for group in workers for pid in running(group)] and set(Path(tempfile.gettempdir()).glob('mtd-worker-*')) <= folders

def test_import_is_light():
    code = 'import sys, mtd.programs; print([m for m in ("numpy", "sympy", "torch") if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == '[]'

@pytest.mark.fuzz
def test_mutilated_programs():
    "Whatever a model leaves out, doubles or garbles, there is a verdict, and it is the same twice."
    dice, texts = random.Random(0), [*ANSWERS, *REFUSED]
    pieces = ['\n', ' ', '(', ')', ':', '"', "\'", '=', '```', '\\', '#', 'ans', 'print(', '0', '\t', '\x00', 'é', '🍎', 'return ', 'f"{', '**', 'lambda:']
    broken = []
    for _ in range(int(os.environ.get('MTD_FUZZ', 2000))):
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
