"""Completions a second that the store alone takes, and what a killed writer loses, written to `benchmarks/results/store.json`.

`python benchmarks/store.py [FOLDER]`: the store stands in FOLDER (default: the temporary folder), whose disk is what is measured.
The peer is what one would write first, a JSON Lines file: buffered, and with an `fsync` for each group. All are given the same rows in alternating rounds."""
import json, os, platform, random, re, sqlite3, statistics, subprocess, sys, tempfile, time
from pathlib import Path

from mtd.core import write_atomic
from mtd.store import Store, row_of
from mtd.teacher import Request

from machine import processor

ROUNDS, KILLS = 7, 60
WORDS = 'a train leaves with twelve boxes of apples and each box holds half as many as the baker sold on the third day'.split()


def rows(n, start=0):
    "Rows of about 1.5 KB, as a teacher's answers make them."
    rng = random.Random(start)
    for i in range(start, start + n):
        question, said = (' '.join(rng.choices(WORDS, k=k)) for k in (95, 35))
        ask = Request(f'p/{i}', 'cot', [{'role': 'user', 'content': question}], 'gpt-4o-mini', sample=i)
        raw = json.dumps({'id': f'chatcmpl-{i}', 'object': 'chat.completion', 'created': 1, 'model': 'gpt-4o-mini-2024-07-18', 'system_fingerprint': f'fp-{i}',
                          'choices': [{'index': 0, 'finish_reason': 'stop', 'logprobs': None, 'message': {'role': 'assistant', 'content': said, 'refusal': None}}],
                          'usage': {'prompt_tokens': 90, 'completion_tokens': 40, 'total_tokens': 130}})
        yield row_of(ask, ask.key('https://api.example.com/v1'), 'https://api.example.com/v1', raw, 'sk-0123456789abcdef0123456789')


def groups(items, size): return [items[i:i + size] for i in range(0, len(items), size)]


def stored(path, items, size, claim=False):
    "Seconds until the last group is acknowledged."
    with Store(path) as store:
        if claim: store.claim(['first'])
        start = time.perf_counter()
        for group in groups(items, size):
            if claim: assert len(store.claim([r['key'] for r in group])) == len(group)
            store.put(group)
        return time.perf_counter() - start


def written(path, items, size, sync):
    with open(path, 'a', encoding='utf-8') as file:
        start = time.perf_counter()
        for group in groups(items, size):
            for row in group: file.write(json.dumps(row, ensure_ascii=False) + '\n')
            if sync: file.flush(); os.fsync(file.fileno())
        return time.perf_counter() - start


WAYS = {'store, groups of 64': lambda path, items: stored(path, items, 64),
        'store, groups of 64, each claimed before': lambda path, items: stored(path, items, 64, True),
        'store, one by one': lambda path, items: stored(path, items[:1024], 1),
        'JSON Lines, buffered': lambda path, items: written(path, items, 64, False),
        'JSON Lines, fsync for each group of 64': lambda path, items: written(path, items, 64, True)}


def rates(folder, n=8192):
    "Completions a second: medians over the rounds; every round adds new rows to the same files, so they grow."
    found = {way: [] for way in WAYS}
    for k in range(ROUNDS):
        items = list(rows(n, k * n))
        for way, run in WAYS.items():
            each = len(items[:1024] if 'one by one' in way else items)
            found[way].append(each / run(folder/re.sub(r'\W+', '-', way), items))
    return {way: dict(median=round(statistics.median(r)), low=round(min(r)), high=round(max(r)), rounds=len(r)) for way, r in found.items()}


WRITER = """
import json, os, sys
from mtd.store import Store
items, k, size = json.load(open(sys.argv[1])), int(sys.argv[3]), int(sys.argv[4])
for row in items: row['key'] = f'{k:08}' + row['key'][8:]
with Store(sys.argv[2]) as store:
    os.write(1, b'ready\\n')
    for i in range(0, len(items), size):
        group = items[i:i + size]
        store.put(group)
        os.write(1, ''.join(r['key'] + '\\n' for r in group).encode())
os.write(1, b'end\\n')
"""


def kills(folder, size):
    "Writers killed with -9 at moments uniform over the time that one needs undisturbed; all write to one file, one after the other."
    path, source, rng, acknowledged, ended = folder/f'killed-{size}.sqlite', folder/'rows.json', random.Random(size), set(), 0
    source.write_text(json.dumps(list(rows(64 * 64 if size > 1 else 1024))))
    def run(k, moment=None):
        nonlocal ended
        writer = subprocess.Popen([sys.executable, '-c', WRITER, str(source), str(path), str(k), str(size)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout.readline() == 'ready\n'
        start = time.perf_counter()
        if moment is not None: time.sleep(moment); writer.kill()
        said = writer.communicate()[0].splitlines(keepends=True)
        ended += 'end\n' in said
        acknowledged.update(line.strip() for line in said if len(line) == 65)
        return time.perf_counter() - start
    whole = run(0)
    for k in range(1, KILLS + 1): run(k, rng.random() * whole)
    with Store(path) as store: there = {key for key, in store._scan((), {})}
    found = dict(group=size, kills=KILLS, reached_their_end=ended - 1, acknowledged=len(acknowledged), lost=len(acknowledged - there),
                 stored_but_not_yet_said=len(there - acknowledged))
    print(json.dumps(found), flush=True)
    return found


def measure(folder):
    items = list(rows(200))
    size = round(statistics.mean(sum(len(str(v).encode()) for v in r.values()) for r in items))
    found = dict(bytes_each=size, completions_per_second=rates(folder), killed=[kills(folder, 64), kills(folder, 1)])
    if any(k['lost'] for k in found['killed']): raise SystemExit(f'acknowledged rows were lost: {found["killed"]}')
    return found


if __name__ == '__main__':
    from importlib.metadata import version
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as folder: found = measure(Path(folder))
    found |= dict(command='python benchmarks/store.py', device=processor(),
                  versions={'python': platform.python_version(), 'sqlite': sqlite3.sqlite_version} | {n: version(n) for n in ('mtd', 'filelock')})
    path = Path(__file__).parent/'results'/'store.json'
    write_atomic(path, json.dumps(found, indent=1) + '\n')
    print(json.dumps(found, indent=1), path, sep='\n')
