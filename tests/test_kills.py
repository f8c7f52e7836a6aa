"""A hundred runs of the teacher's client killed with -9: nothing lost, nothing bought twice beyond what was on the way, the dataset the same to the byte."""
import json, mmap, random, struct, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mtd.lab_server import LabTeacher
from mtd.store import Store

STORIES, CONCURRENCY, KILLS = 300, 16, 100

# The whole way from the questions to the dataset. What goes on is written into a mapped file, which stays as it was when its writer is killed:
# requests on the way, is a write going on, answers acknowledged.
RUN = '''
import mmap, struct, sys
url, endpoint, folder = sys.argv[1:]
with open(f'{folder}/state', 'r+b') as f: state = mmap.mmap(f.fileno(), 12)
def tell(way=None, writing=None, kept=None):
    for at, value in ((0, way), (4, writing), (8, kept)):
        if value is not None: struct.pack_into('i', state, at, value)
from mtd.lab import lab_stories
from mtd.pacing import Pace
from mtd.store import Store, export_store
from mtd.teacher import complete, make_requests
class Watched(Store):
    def put(self, rows):
        tell(writing=1)
        try: return super().put(rows)
        finally: tell(writing=0)
way = kept = 0
def watch(key, event):
    global way, kept
    way, kept = way + (event == 'sent') - (event in ('kept', 'failed')), kept + (event == 'kept')
    tell(way, kept=kept)
problems = [s.problem for s in lab_stories('train', %d)]
requests = make_requests(problems, ('cot', 'pot', 'eot'), 'lab-teacher-1', shots=1)
tell(kept=0)
store = Watched(f'{folder}/store.sqlite')
answers = complete(requests, store, url, 'none', endpoint=endpoint, pace=Pace(%d), progress=False, watch=watch)
from mtd.thoughts import write_thoughts
from mtd.verification import deduplicate, verify_each
export_store(store, f'{folder}/store.jsonl')
rows = deduplicate(verify_each({p.id: p.answer for p in problems}, answers, backend='here'))
write_thoughts(f'{folder}/thoughts', list(rows), problems, {'train': {p.id for p in problems}})
print(len(answers), len(answers.failures))
''' % (STORIES, CONCURRENCY)


def command(teacher, folder): return [sys.executable, '-c', RUN, teacher.base_url, teacher.endpoint, str(folder)]


def prepared(folder):
    folder.mkdir()
    (folder/'state').write_bytes(bytes(12))
    return folder


def made(folder): # all that a run leaves for others, byte by byte
    files = [folder/'store.jsonl', *sorted(p for p in (folder/'thoughts').rglob('*') if p.is_file())]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def undisturbed(folder):
    with LabTeacher(delay=0.002) as teacher:
        start = time.monotonic()
        done = subprocess.run(command(teacher, prepared(folder)), capture_output=True, text=True)
        took = time.monotonic() - start
        assert done.stdout.split() == [str(3 * STORIES), '0'] and teacher.stats()['completions'] == 3 * STORIES, done.stderr[-900:]
    return took, made(folder)


def killed_and_resumed(folder, after, expected):
    "Kill one run after some seconds, run it again to its end; what was going on at the kill."
    with LabTeacher(delay=0.002) as teacher:
        run = subprocess.Popen(command(teacher, prepared(folder)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(after)
        run.kill(); run.wait()
        way, writing, kept = struct.unpack('3i', (folder/'state').read_bytes())
        stored = 0
        if (folder/'store.sqlite').exists():
            with Store(folder/'store.sqlite') as s: stored = len(s)
        assert stored >= kept, f'{kept - stored} acknowledged completions are lost'
        assert 0 <= way <= CONCURRENCY
        done = subprocess.run(command(teacher, folder), capture_output=True, text=True)
        assert done.stdout.split() == [str(3 * STORIES), '0'], done.stderr[-900:]
        twice = teacher.stats()['completions'] - 3 * STORIES
        assert 0 <= twice <= way, f'{twice} answers were bought twice and {way} were on the way'
    assert made(folder) == expected, 'the dataset is not that of an undisturbed run'
    return dict(after=round(after, 3), way=way, writing=writing, kept=kept, twice=twice)


@pytest.mark.full
def test_a_hundred_kills(tmp_path):
    took, expected = undisturbed(tmp_path/'whole')
    rng = random.Random(0)
    moments = [rng.uniform(0, took) for _ in range(KILLS)]
    with ThreadPoolExecutor(2) as pool:
        kills = list(pool.map(lambda k: killed_and_resumed(tmp_path/f'k{k}', moments[k], expected), range(KILLS)))
    during = dict(requests=sum(k['way'] > 0 for k in kills), writes=sum(k['writing'] for k in kills))
    for k in range(KILLS, 3 * KILLS): # more of the same until both were met twenty times
        if min(during.values()) >= 20: break
        kills.append(killed_and_resumed(tmp_path/f'k{k}', rng.uniform(0, took), expected))
        during = dict(requests=sum(k['way'] > 0 for k in kills), writes=sum(k['writing'] for k in kills))
    print(f'\n{len(kills)} kills over {took:.1f} s, {during["requests"]} with requests on the way, {during["writes"]} in a write; '
          f'bought twice {sum(k["twice"] for k in kills)} of {sum(k["way"] for k in kills)} on the way')
    assert min(during.values()) >= 20, during
