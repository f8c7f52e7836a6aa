"""Items a second of the executors beside named peers, alternating in one run, written to `benchmarks/results/executors.json`.

`MTD_DATA=FOLDER python benchmarks/executors.py` also takes real systems and programs; `… executors.py million` adds the memory that a million
items take. Peers: sympy's `parse_expr` and `solve`; the raw `exec`; a process forked for each program; `pydantic-monty` where it is installed
(`pip install pydantic-monty==1.4.0`). What a model wrote runs under this project's locks in the peers as well, taken before the clock starts."""
import json, multiprocessing, os, platform, random, re, resource, statistics, sys, time
from itertools import cycle, islice
from pathlib import Path

from mtd import chains, core, equations, lab, programs, sandbox
from mtd.annotations import annotate
from mtd.problems import load_benchmark

from machine import installed, processor

ROUNDS, DATA = 7, os.environ.get('MTD_DATA')
STORIES = lab.lab_stories('numbers', 300, seed=1)


def read(path): return core.read_jsonl(Path(DATA)/path)


# Equations

def simultaneous(rng, n):
    "A system of `n` equations in `n` unknowns with a whole solution, as text."
    names, values = ['ans', 'b', 'c'][:n], [rng.randint(1, 60) for _ in range(n)]
    rows = [[rng.randint(1, 9) * (rng.random() < 0.8) for _ in names] for _ in names]
    return '\n'.join(' + '.join(f'{c}*{v}' for c, v in zip(row, names) if c) + f' = {sum(c * v for c, v in zip(row, values))}'
                     for row in rows if any(row))


def systems():
    "Equation systems by workload."
    rng = random.Random(0)
    yield 'lab, one unknown after the other', [s.gold['eot'] for s in STORIES]
    yield 'made here, two or three unknowns at once', [simultaneous(rng, rng.choice((2, 3))) for _ in range(300)]
    if not DATA: return
    found = (annotate(p.question, p.meta['solution'], p.answer).thoughts.get('eot') for p in load_benchmark('gsm8k', 'train', DATA).problems[:400])
    yield 'GSM8K, one unknown after the other', list(filter(None, found))[:300]
    rows = read('equations/draw1k_alg514_train.jsonl')[:300]
    yield 'DRAW-1K and ALG-514, unknowns at once', ['\n'.join([*r['equations'], 'ans = ' + re.search('[a-z]', ' '.join(r['equations']))[0]]) for r in rows]


def with_sympy(text):
    "The peer: each side by `parse_expr`, the whole by `solve`. `parse_expr` evaluates what it reads, so it is given texts of our own alone."
    import sympy
    from sympy.parsing.sympy_parser import parse_expr
    lines = [line.partition('#')[0] for line in text.splitlines() if line.strip() and not line.startswith('%')]
    found = [sympy.Eq(*(parse_expr(side, {'ans': sympy.Symbol('ans')}) for side in line.split('='))) for line in lines]
    solved = sympy.solve([e for e in found if e is not sympy.true], dict=True)
    return solved[0].get(sympy.Symbol('ans')) if solved else None


def cpu(call):
    start = time.process_time()
    call()
    return time.process_time() - start


def row(workload, n, peer, ours, theirs, unit):
    "Medians over the rounds; `low` and `high` are the smallest and largest ratio of one round."
    ratios = [a / b for a, b in zip(ours, theirs)]
    found = dict(workload=workload, n=n, unit=unit, ours=round(statistics.median(ours)), peer=round(statistics.median(theirs), 1), peer_name=peer,
                 ratio=round(statistics.median(ours) / statistics.median(theirs), 2), low=round(min(ratios), 2), high=round(max(ratios), 2), rounds=len(ratios))
    print(json.dumps(found), flush=True)
    return found


def equation_rows():
    for workload, texts in systems():
        ours, theirs = [], []
        for k in range(ROUNDS): # the peer is slow: it gets another forty of them each round, ours all
            sample, said = texts[40 * k:40 * k + 40], []
            ours.append(len(texts) / cpu(lambda: equations.solve_all(texts)))
            theirs.append(len(sample) / cpu(lambda: said.extend(map(with_sympy, sample))))
            differ = [t for t, x in zip(sample, said) if '.' not in t and core.parse_number(str(x)) != equations.solve_equations(t).answer]
            if differ: raise SystemExit(f'{workload}: sympy answers otherwise, so the times compare nothing:\n{differ[0]}')
        yield row(workload, len(texts), 'sympy parse_expr + solve', ours, theirs, 'systems per CPU second, one process')


# Programs: seconds by the clock, since ours work in processes of their own

def texts_of_programs():
    "Programs by workload."
    yield 'lab', [s.gold['pot'] for s in STORIES] * 10
    if DATA: yield 'gpt-3.5 on SVAMP', [r['completion'] for r in read('teacher/gpt35_pot_svamp_train.jsonl')]


def answer(text):
    "The least that a runner does: execute the text in this process, and look where the answer stands."
    space = {'__name__': 'benchmark'}
    exec(text, space)
    return space['ans'] if 'ans' in space else space['solution']()


def locked(work):
    "`work()` in a forked child that took the locks first: what it returned, a number."
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try: sandbox.lock(keep=(w,)); os.write(w, repr(work()).encode())
        finally: os._exit(0)
    os.close(w)
    with os.fdopen(r) as f: said = f.read()
    os.waitpid(pid, 0)
    return float(said)


def raw_exec(texts):
    "The limit: no isolation between programs, no worker, no message. Seconds, as from all of these."
    def work():
        start = time.perf_counter()
        for text in texts: answer(text)
        return time.perf_counter() - start
    return locked(work)


def answer_into(text, found): found.append(float(answer(text)))


def manager_and_fork(texts):
    "human-eval's way: a manager, a process and a time limit for each program. It takes no locks, so it is given our own programs alone."
    start = time.perf_counter()
    for text in texts:
        with multiprocessing.Manager() as manager:
            found = manager.list()
            process = multiprocessing.Process(target=answer_into, args=(text, found))
            process.start(); process.join(3)
            if process.is_alive(): process.kill()
            assert len(found) == 1, text
    return time.perf_counter() - start


def bare_fork(texts):
    "The least that a locked process for each program costs."
    start = time.perf_counter()
    for text in texts: locked(lambda: float(answer(text)))
    return time.perf_counter() - start


def with_monty(texts):
    import pydantic_monty as monty
    with monty.Monty(max_processes=1) as pool:
        with pool.checkout() as session: session.feed_run('1')
        start = time.perf_counter()
        for text in texts:
            with pool.checkout() as session: session.feed_run(text + ('\nsolution()' if 'def solution' in text else '\nans'))
        return time.perf_counter() - start


def ours(texts, workers):
    start = time.perf_counter()
    outcomes = programs.run_all(texts, workers=workers)
    seconds = time.perf_counter() - start
    assert all(o.ok for o in outcomes), next(o for o in outcomes if not o.ok)
    return seconds


def program_rows():
    peers = [('raw exec in one process', raw_exec, 2, None), ('a process forked and locked for each program', bare_fork, 2, 300),
             ('a manager and a process for each program', manager_and_fork, 2, 30), ('raw exec in one process', raw_exec, 1, None)]
    if installed('pydantic-monty'): peers.append((f'pydantic-monty {installed("pydantic-monty")}', with_monty, 1, None))
    for workload, texts in texts_of_programs():
        for peer, call, workers, most in peers:
            if call is manager_and_fork and workload != 'lab': continue
            mine, theirs = [], []
            for _ in range(ROUNDS):
                mine.append(len(texts) / ours(texts, workers))
                theirs.append(len(texts[:most]) / call(texts[:most]))
            yield row(f'{workload}, {workers} worker{"s" * (workers > 1)}', len(texts), peer, mine, theirs, 'programs per second')


# Memory

def peak(who): return round(resource.getrusage(who).ru_maxrss / 1024, 1)


def million_rows():
    "Peak memory in MB of this process after a tenth of the items and after all, and of its workers in the end."
    for name, each, texts in (('programs', programs.run_each, [s.gold['pot'] for s in STORIES]),
                              ('equations', lambda texts: map(equations.solve_equations, texts), [s.gold['eot'] for s in STORIES]),
                              ('chains', lambda texts: map(chains.read_answer, texts), [s.gold['cot'] for s in STORIES])):
        seen, start, before = 0, time.perf_counter(), peak(resource.RUSAGE_SELF)
        for outcome in each(islice(cycle(texts), 10 ** 6)):
            assert outcome.ok, outcome
            seen += 1
            if seen == 10 ** 5: tenth = peak(resource.RUSAGE_SELF)
        found = dict(executor=name, n=seen, seconds=round(time.perf_counter() - start), before=before, tenth=tenth, all=peak(resource.RUSAGE_SELF))
        programs.close_workers()
        print(json.dumps(found), flush=True)
        yield found | {'workers': peak(resource.RUSAGE_CHILDREN)}


if __name__ == '__main__':
    path = Path(__file__).parent/'results'/'executors.json'
    found = json.loads(path.read_text()) if path.exists() else {}
    if sys.argv[1:] == ['million']: found['million'] = list(million_rows())
    else: found |= dict(equations=list(equation_rows()), programs=list(program_rows()))
    found |= dict(command=('MTD_DATA=FOLDER ' if DATA else '') + 'python benchmarks/executors.py', device=processor(),
                  versions={'python': platform.python_version()} | {n: installed(n) for n in ('mtd', 'sympy', 'gmpy2', 'pydantic-monty')})
    core.write_atomic(path, json.dumps(found, indent=1) + '\n')
    print(path)
