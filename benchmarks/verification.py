"""Completions verified a second by each backend, alternating in one run, written to `benchmarks/results/verification.json`.

`python benchmarks/verification.py` compares the backends; `python benchmarks/verification.py million` verifies a million once, with the default backend,
and adds the memory it took. The completions are the lab's gold thoughts, every seventh for the wrong problem. `processes` counts the start of its processes;
Ray was started before, and is also measured in the way that it is mostly used: one item a task, all of them submitted at once."""
import json, platform, resource, statistics, sys, time
from itertools import cycle, islice
from pathlib import Path

from mtd.core import digest, write_atomic
from mtd.lab import lab_stories
from mtd.verification import FIELDS, VERDICT, _cores, _on_ray, deduplicate, verify_each

from machine import installed, processor

ROUNDS, ITEMS, MILLION = 5, 20_000, 10 ** 6


def completions():
    "Gold answers, and `ITEMS` completions, the three thoughts in turn."
    stories = lab_stories('train', -(-ITEMS // 3))
    asked = [stories[(i + (i % 7 == 0)) % len(stories)].problem.id for i in range(len(stories))]
    made = [dict(problem_id=p, thought=thought, source='lab', model='', sample=0, text=text) for p, s in zip(asked, stories) for thought, text in s.gold.items()]
    return {s.problem.id: s.problem.answer for s in stories}, made[:ITEMS]


def one_item_a_task(gold, made):
    import ray
    task = ray.remote(_on_ray)
    options = ray.put(('exact', False, {}))
    verdicts = ray.get([task.remote([(c['thought'], c['text'], gold[c['problem_id']])], options) for c in made])
    return [c | dict(zip(VERDICT, verdict)) for c, (verdict,) in zip(made, verdicts)]


def rates():
    import ray
    cores = _cores()
    ray.init('local', num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level='error')
    gold, made = completions()
    ways = {'here, one sandbox': lambda: list(verify_each(gold, made, backend='here', workers=1)),
            f'processes, {cores}': lambda: list(verify_each(gold, made, backend='processes')),
            f'ray, {cores} processors': lambda: list(verify_each(gold, made, backend='ray')),
            f'ray, {cores} processors, one item a task': lambda: one_item_a_task(gold, made)}
    seconds, found = {name: [] for name in ways}, set()
    for k in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            rows = way()
            seconds[name].append(time.perf_counter() - start)
            found.add(digest([[r[k] for k in FIELDS + VERDICT] for r in rows]))
            print(k, name, f'{ITEMS / seconds[name][-1]:.0f}/s', flush=True)
    ray.shutdown()
    if len(found) != 1: raise SystemExit('the backends made different rows, so the times compare nothing')
    first = seconds['here, one sandbox']
    return {name: dict(rate=round(ITEMS / statistics.median(s)), ratio=round(statistics.median(first) / statistics.median(s), 2),
                       low=round(min(a / b for a, b in zip(first, s)), 2), high=round(max(a / b for a, b in zip(first, s)), 2), rounds=ROUNDS) for name, s in seconds.items()}


def peak(who=resource.RUSAGE_SELF): return round(resource.getrusage(who).ru_maxrss / 1024, 1)


def million():
    "Peak memory in MB of this process after a tenth of the completions and after all, and of the largest of its processes in the end."
    gold, made = completions()
    before, start, right = peak(), time.perf_counter(), 0
    for n, row in enumerate(verify_each(gold, islice(cycle(made), MILLION)), 1):
        right += row['right']
        if n == MILLION // 10: tenth = peak()
        if n % 50_000 == 0: print(n, f'{n / (time.perf_counter() - start):.0f}/s', peak(), 'MB', flush=True)
    found = dict(n=n, right=right, seconds=round(time.perf_counter() - start), rate=round(n / (time.perf_counter() - start)), before=before, tenth=tenth, all=peak(),
                 largest_process=peak(resource.RUSAGE_CHILDREN), unit='MB of peak memory')
    different = (dict(problem_id=f'p/{i}', thought='pot', reason='', form=f'{i:016x}') for i in range(MILLION))
    for row in deduplicate(different): pass
    return found | dict(deduplicated=peak())


if __name__ == '__main__':
    path = Path(__file__).parent/'results'/'verification.json'
    found = json.loads(path.read_text()) if path.exists() else {}
    found |= {'million': million()} if sys.argv[1:] == ['million'] else {'items': ITEMS, 'rates': rates()}
    found |= dict(command='python benchmarks/verification.py; python benchmarks/verification.py million', device=processor(),
                  versions={'python': platform.python_version()} | {n: installed(n) for n in ('mtd', 'ray', 'sympy', 'gmpy2')})
    write_atomic(path, json.dumps(found, indent=1) + '\n')
    print(path)
