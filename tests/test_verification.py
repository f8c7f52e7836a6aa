"""Verification beyond the lesson: the same rows wherever they are made, whatever dies on the way, and nothing left behind."""
import multiprocessing, os, signal, subprocess, sys, time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from mtd import prompting, verification
from mtd.core import Outcome
from mtd.lab import lab_stories
from mtd.programs import close_workers
from mtd.teacher import Completion
from mtd.verification import FIELDS, VERDICT, deduplicate, verify_each

STORIES = lab_stories('train', 60)
GOLD = {s.problem.id: s.problem.answer for s in STORIES}
linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc, which only Linux has')


def made(text, thought='pot', problem=STORIES[0].problem.id, sample=0):
    return dict(problem_id=problem, thought=thought, source='hand', model='', sample=sample, text=text)


def mixed(times=1):
    "Right and wrong ones of each thought, and some of what a model can get wrong otherwise."
    for k in range(times):
        for i, s in enumerate(STORIES):
            for thought, text in s.gold.items(): yield made(text, thought, STORIES[(i + (i % 5 == 0)) % 60].problem.id, k)
        yield from (made(text, sample=k) for text in ('ans = ', 'ans = 1 / 0', '', 'ans = 10 ** 10 ** 9', 'while True: pass', 'import os\nans = len(os.sep)'))
        yield from (made(text, thought, sample=k) for thought in ('cot', 'eot') for text in ('', 'x = \ud800', 'no number'))


@pytest.fixture(scope='module')
def here(): return list(verify_each(GOLD, mixed(), backend='here', workers=1))


# Rows

def test_rows_have_the_fields_and_the_reasons(here):
    assert all(tuple(r) == FIELDS + VERDICT for r in here) and [r['text'] for r in here] == [c['text'] for c in mixed()]
    assert all(r['right'] == (r['reason'] == '') and (r['answer'] is None) == (r['status'] not in ('ran', 'read', 'solved')) for r in here)
    assert {'', 'another number', 'syntax', 'error', 'timeout', 'no_answer'} <= {r['reason'] for r in here}
    assert all(len(r['form']) == 16 and int(r['form'], 16) >= 0 for r in here)


@pytest.mark.parametrize('workers, chunk', [(1, 7), (2, 40), (3, 1)])
def test_processes_give_the_same_rows_in_order(here, workers, chunk):
    completions = list(mixed())[-40:] if chunk == 1 else list(mixed())
    assert list(verify_each(GOLD, iter(completions), workers=workers, chunk=chunk)) == here[-len(completions):]


def test_objects_are_completions_too_and_the_equality_is_the_chosen_one():
    texts = ['The answer is 5.0005.', 'The answer is 5.', 'The answer is 6.']
    objects = [Completion(key='', problem_id='five', thought='cot', source='hand', sample=i, text=t) for i, t in enumerate(texts)] * 4
    for equality, right in (('exact', [False, True, False]), ('papers', [True, True, False])):
        assert [r['right'] for r in verify_each({'five': Fraction(5)}, objects, equality, workers=2, chunk=2)] == right * 4


@pytest.mark.parametrize('backend', ['here', 'processes'])
def test_a_right_answer_after_a_false_step_is_dropped_where_that_is_asked_for(backend):
    texts = {'3 + 4 = 8. 8 + 1 = 9. The answer is 8.': 'false step', '3 + 4 = 7. 7 + 1 = 8. The answer is 8.': '', '3 + 4 = 8. The answer is 9.': 'another number'}
    chains = [made(t, 'cot', 'eight') for t in texts] * 3
    rows = list(verify_each({'eight': Fraction(8)}, chains, steps=True, backend=backend, chunk=2))
    assert [r['reason'] for r in rows] == [*texts.values()] * 3 and rows[0]['right'], 'it is right, and it is not kept'
    assert [r['reason'] for r in verify_each({'eight': Fraction(8)}, chains[:3])] == ['', '', 'another number']
    assert not list(verify_each({'eight': Fraction(8)}, [made('ans = 8', 'pot', 'eight')], steps=True))[0]['reason'], 'a program has no check but its execution'


def test_a_few_are_done_on_the_spot():
    rows = verify_each(GOLD, list(mixed())[:20], chunk=10)
    next(rows)
    assert not multiprocessing.active_children() and len(list(rows)) == 19


def test_no_completion_is_no_row(): assert list(verify_each({}, [])) == []


@pytest.mark.parametrize('backend, workers, window', [('here', 1, 3), ('processes', 1, 4), ('processes', 2, 8)])
def test_the_input_is_read_no_further_ahead_than_the_window(backend, workers, window):
    taken, ahead = 0, []
    def source():
        nonlocal taken
        for c in mixed(3):
            if c['thought'] == 'cot': taken += 1; yield c
    for n, _ in enumerate(verify_each(GOLD, source(), backend=backend, workers=workers, chunk=10)): ahead.append(taken - n)
    assert max(ahead) <= window * 10 and len(ahead) == taken


def test_what_is_wrong_with_the_input_is_said():
    for bad, words in ((made('', problem='nobody'), "completion 1 is of the problem 'nobody'"), (made('', thought='tot'), "no thought is called 'tot'"),
                       ({'problem_id': 'x'}, 'completion 1 is incomplete'), (made(None), 'type NoneType')):
        with pytest.raises(ValueError, match=words): list(verify_each(GOLD, [made('ans = 1'), bad]))
    for wrong, words in ((dict(backend='threads'), 'choose one of here, processes, ray'), (dict(workers=0), 'at least 1'), (dict(chunk=0), 'at least 1')):
        with pytest.raises(ValueError, match=words): verify_each(GOLD, [], **wrong)


def test_ray_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(ImportError, match=r"pip install 'mtd\[ray\]'"): verify_each(GOLD, [], backend='ray')


def test_the_second_of_one_form_is_a_duplicate():
    texts = [('a', 'pot', 'ans = 5'), ('a', 'pot', 'ans =  5'), ('b', 'pot', 'ans = 5'), ('a', 'pot', 'ans = 4'), ('a', 'pot', 'ans = 4'), ('a', 'eot', 'ans = 5'), ('a', 'pot', 'ans = 2 + 3')]
    rows = list(verify_each(dict.fromkeys('ab', Fraction(5)), [made(text, thought, problem) for problem, thought, text in texts]))
    before = [dict(r) for r in rows]
    assert [r['reason'] for r in deduplicate(rows)] == ['', 'duplicate', '', 'another number', 'another number', '', '']
    assert rows == before and list(deduplicate(deduplicate(rows))) == list(deduplicate(rows))
    assert next(deduplicate(r for r in [rows[0], None])) == rows[0], 'it reads no further than it writes'


# What dies; the executors of these thoughts are found by the pool processes in this file

def deadly(texts):
    for text in texts:
        if text == 'memory': raise MemoryError
        if text == 'raise': raise OSError('no worker')
        if text == 'die' or text.startswith('once ') and not Path(text[5:]).exists():
            if text != 'die': Path(text[5:]).touch()
            os._exit(9)
        if text.startswith('count '): open(text[6:], 'a').write('.')
        if text.startswith('sleep '): time.sleep(float(text[6:]))
    return [Outcome('read', Fraction(1), text=t) for t in texts]


@pytest.fixture
def risky(monkeypatch):
    monkeypatch.setitem(prompting.THOUGHTS, 'risky', replace(prompting.THOUGHTS['cot'], name='risky', executor='test_verification.deadly'))
    return lambda texts, **more: list(verify_each({'p': Fraction(1)}, [made(t, 'risky', 'p') for t in texts], **dict(workers=2, chunk=5) | more))


def test_one_that_kills_its_process_is_a_row_and_the_others_have_their_verdicts(risky, tmp_path):
    texts = [f'text {i}' for i in range(40)]
    texts[7], texts[21], texts[22] = 'die', 'memory', f'once {tmp_path}/flag'
    texts[6] = f'count {tmp_path}/count'
    rows = risky(texts)
    assert [i for i, r in enumerate(rows) if r['reason']] == [7, 21] and {rows[i]['status'] for i in (7, 21)} == {'crashed'}
    assert [r['text'] for r in rows] == texts and rows[22]['right'], 'the process died of it once: that proves nothing'
    assert (tmp_path/'count').read_text() in ('.', '..'), 'no completion is tried more than three times'


def test_a_machine_on_which_all_die_is_an_error(risky, monkeypatch):
    monkeypatch.setattr(verification, '_MOST_CRASHED', 3)
    with pytest.raises(RuntimeError, match='3 completions in a row ended their process'): risky(['die'] * 40, chunk=2)
    assert not multiprocessing.active_children()


def test_what_an_executor_raises_is_passed_on(risky):
    with pytest.raises(RuntimeError, match='could not be verified: OSError: no worker'): risky(['a'] * 20 + ['raise'] + ['b'] * 20)
    assert not multiprocessing.active_children()


@pytest.mark.skipif(os.name == 'nt', reason='kills by a signal')
def test_processes_killed_from_outside_change_nothing(here):
    rows, killed = [], []
    for row in verify_each(GOLD, mixed(2), workers=2, chunk=10):
        rows.append(row)
        if len(rows) in (30, 150):
            for child in multiprocessing.active_children():
                killed.append(child.pid)
                os.kill(child.pid, signal.SIGKILL)
    assert len(set(killed)) == 4 and [{k: r[k] for k in r if k != 'sample'} for r in rows] == [{k: r[k] for k in r if k != 'sample'} for r in here] * 2


# The sandbox stays in force, and nothing outlives us

def processes(root):
    "pid -> command of all that descend from `root`."
    parent, command = {}, {}
    for entry in Path('/proc').iterdir():
        if not entry.name.isdigit(): continue
        try:
            state, above = (entry/'stat').read_text().rpartition(')')[2].split()[:2]
            if state != 'Z': parent[int(entry.name)], command[int(entry.name)] = int(above), (entry/'cmdline').read_text()
        except (FileNotFoundError, ProcessLookupError): pass
    below, more = set(), {root}
    while more:
        more = {p for p, q in parent.items() if q in more} - below
        below |= more
    return {p: command[p] for p in below if 'resource_tracker' not in command[p]}


def gone(pids, seconds=10):
    until = time.monotonic() + seconds
    def living(pid):
        try: return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
        except (FileNotFoundError, ProcessLookupError): return False
    while (left := [p for p in pids if living(p)]) and time.monotonic() < until: time.sleep(0.05)
    for pid in left: print('left:', Path(f'/proc/{pid}/cmdline').read_text().replace('\0', ' ')[:300])
    return not left


@linux
def test_hostile_programs_reach_no_pool_process(tmp_path):
    attack = ['import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nans = 1', f'open({str(tmp_path/"written")!r}, "w").write("x")\nans = 1', 'import os\nos._exit(0)',
              "import ctypes\nctypes.string_at(0)\nans = 1", "().__class__.__base__.__subclasses__()\nans = 1", "import multiprocessing\nans = len(multiprocessing.active_children())"]
    seen = set()
    rows = []
    for row in verify_each({'p': Fraction(7)}, [made(t, problem='p') for t in attack * 6], workers=2, chunk=6):
        rows.append(row)
        seen |= {c.pid for c in multiprocessing.active_children()}
    assert len(seen) <= 2 and not (tmp_path/'written').exists() and not any(r['right'] or r['status'] == 'crashed' for r in rows)


@linux
def test_one_sandbox_each_started_once():
    before, seen = {*processes(os.getpid())}, []
    for n, _ in enumerate(verify_each(GOLD, (made(s.gold['pot'], problem=s.problem.id) for s in STORIES * 10), workers=2, chunk=20)):
        if n % 40 == 39: seen.append({p: c for p, c in processes(os.getpid()).items() if p not in before})
    pools = {p for each in seen for p, c in each.items() if 'spawn_main' in c}
    sandboxes = {p for each in seen for p, c in each.items() if 'mtd.sandbox' in c}
    assert len(sandboxes) <= len(pools) == 2 and gone(pools | sandboxes)


@linux
@pytest.mark.parametrize('how', ['close', 'raise in the input', 'raise in the loop'])
def test_left_early_it_leaves_nothing(how):
    before = {*processes(os.getpid())}
    def source():
        yield from mixed(2)
        if how == 'raise in the input': raise OSError('the disk')
        yield from mixed(10)
    rows = verify_each(GOLD, source(), workers=2, chunk=10)
    try:
        for n, _ in enumerate(rows):
            if n == 50 and how == 'close': break
            if n == 50 and how == 'raise in the loop': raise OSError('the disk')
    except OSError: pass
    started = {*processes(os.getpid())} - before
    assert started or how == 'raise in the input'
    rows.close()
    assert gone(started) and not multiprocessing.active_children()
    assert list(rows) == []


SCRIPT = '''
import sys, test_verification as t
def go(**more):
    for n, row in enumerate(t.verify_each(t.GOLD, t.mixed(10000), workers=2, chunk=20, **more)):
        if n == 100: print('working', flush=True)
'''


@pytest.fixture
def started():
    children = []
    def start(code):
        env = os.environ | {'PYTHONPATH': os.pathsep.join([str(Path(__file__).parent), *sys.path])}
        children.append(subprocess.Popen([sys.executable, '-c', SCRIPT + code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True))
        assert children[-1].stdout.readline() == 'working\n'
        return children[-1]
    yield start
    for child in children:
        child.kill()
        child.wait()


@linux
@pytest.mark.parametrize('end', ['kill -9', 'interrupt', 'interrupt all', 'terminate'])
def test_the_end_of_the_parent_is_the_end_of_all(started, end):
    child = started('go()')
    below = processes(child.pid)
    assert sum('spawn_main' in c for c in below.values()) == 2 and any('mtd.sandbox' in c for c in below.values())
    if end == 'interrupt all': os.killpg(child.pid, signal.SIGINT) # as a terminal does
    else: os.kill(child.pid, {'kill -9': signal.SIGKILL, 'interrupt': signal.SIGINT, 'terminate': signal.SIGTERM}[end])
    _, said = child.communicate(timeout=20)
    assert gone(below) and child.returncode != 0
    assert 'interrupt' not in end or said.count('Traceback') == 1 and 'KeyboardInterrupt' in said, said


@linux
def test_an_interrupt_that_is_caught_leaves_nothing(started):
    child = started('''
import multiprocessing
try: go()
except KeyboardInterrupt: pass
print(len(multiprocessing.active_children()), sum('spawn_main' in c for c in t.processes(t.os.getpid()).values()), flush=True)
''')
    os.kill(child.pid, signal.SIGINT)
    assert child.communicate(timeout=20) == ('0 0\n', '')


def test_a_script_that_starts_itself_again_is_told(tmp_path):
    script = tmp_path/'script.py'
    script.write_text('import test_verification as t\nprint(len(list(t.verify_each(t.GOLD, t.mixed(), workers=1, chunk=20))))\n')
    env = os.environ | {'PYTHONPATH': os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 1 and done.stderr.rstrip().splitlines()[-1].startswith('RuntimeError: a process for verification ended before it began; in a script')


# Ray: on a real cluster, one node of which is killed

def located(texts): # an executor that says where it runs
    import ray
    for text in texts:
        with open(text, 'a') as f: f.write(f'{ray.get_runtime_context().get_node_id()} {os.getpid()}\n')
    return [Outcome('read', Fraction(1), text=t) for t in texts]


@pytest.fixture
def ray(monkeypatch):
    monkeypatch.setenv('RAY_USAGE_STATS_ENABLED', '0')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(Path(__file__).parent), *sys.path])) # what every machine of a cluster has installed
    return pytest.importorskip('ray')


@pytest.fixture
def cluster(ray):
    from ray.cluster_utils import Cluster
    before = {*processes(os.getpid())}
    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1, include_dashboard=False))
    second = cluster.add_node(num_cpus=1)
    yield cluster, second
    ray.shutdown()
    cluster.shutdown()
    close_workers() # those of this process, that made the rows to compare with
    assert gone({*processes(os.getpid())} - before)


@linux
@pytest.mark.full
def test_a_node_that_is_killed_midway_changes_no_row(ray, cluster, monkeypatch, tmp_path):
    cluster, second = cluster
    monkeypatch.setitem(prompting.THOUGHTS, 'located', replace(prompting.THOUGHTS['cot'], name='located', executor='test_verification.located'))
    log, gold = tmp_path/'log', GOLD | {'p': Fraction(1)}
    completions = [c for i, c in enumerate(mixed(20)) for c in ([made(str(log), 'located', 'p'), c] if i % 20 == 0 else [c])]
    expected = list(verify_each(GOLD, mixed(20), backend='here'))
    rows, on_second, raylet = [], set(), second.all_processes['raylet'][0].process.pid
    for row in verify_each(gold, completions, backend='ray', workers=2, chunk=50, address=cluster.address):
        rows.append(row)
        if len(rows) == 1000:
            on_second = {int(line.split()[1]) for line in log.read_text().splitlines() if line.startswith(second.node_id)}
            below = set(processes(raylet))
            os.kill(raylet, signal.SIGKILL)
    lines = log.read_text().splitlines()
    assert on_second and len({line.split()[0] for line in lines}) == 2, 'both nodes worked'
    assert [r for r in rows if r['thought'] != 'located'] == expected and [r['text'] for r in rows] == [c['text'] for c in completions]
    assert on_second <= below and gone(below, 60), "neither its workers nor their sandboxes outlive it: Ray's workers look for their raylet now and then"
    assert not ray.is_initialized(), 'it leaves the cluster that it joined'
    ray.init(address=cluster.address)
    until = time.monotonic() + 60
    while (alive := sum(node['Alive'] for node in ray.nodes())) == 2 and time.monotonic() < until: time.sleep(0.5)
    assert alive == 1


@linux
@pytest.mark.full
def test_on_ray_what_dies_is_replaced_and_a_cluster_of_ones_own_is_left_running(ray, risky, tmp_path):
    before = {*processes(os.getpid())}
    texts = [f'text {i}' for i in range(40)]
    texts[7], texts[22] = 'die', f'once {tmp_path}/flag'
    expected = risky([t for t in texts if t != 'die' and not t.startswith('once')])
    rows = risky(texts, backend='ray')
    assert [r for r in rows if r['text'].startswith('text')] == expected and [r['text'] for r in rows] == texts
    assert rows[7]['status'] == 'crashed' and rows[22]['right']
    assert not ray.is_initialized() and gone({*processes(os.getpid())} - before), 'what was started is ended'
    ray.init('local', num_cpus=1, include_dashboard=False)
    try:
        with pytest.raises(RuntimeError, match='could not be verified on the cluster: .*no worker'): risky(['a'] * 20 + ['raise'] * 5, backend='ray')
        early = verify_each(GOLD, mixed(50), backend='ray', chunk=20)
        next(early); early.close()
        assert ray.is_initialized() and len(risky(['a'] * 20, backend='ray')) == 20
    finally: ray.shutdown()
    assert gone({*processes(os.getpid())} - before)


@linux
@pytest.mark.full
def test_a_killed_parent_takes_its_ray_with_it(ray, started):
    child = started("go(backend='ray')")
    below = processes(child.pid)
    assert any('raylet' in c for c in below.values()) and any('mtd.sandbox' in c for c in below.values())
    child.kill()
    child.communicate(timeout=20)
    assert gone([p for p, c in below.items() if 'Agent' not in c], 60), "Ray's own two agents notice it about a minute later"


# Memory

MEMORY = '''
import resource, sys, test_verification as t
def texts(n):
    for i in range(n): yield t.made(f'{i} marbles and {i} more. ' * 20 + f'The answer is {i}.', 'cot')
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for n, row in enumerate(t.verify_each(t.GOLD, texts(100000), workers=2), 1):
    if n == 10000: tenth = peak()
print(tenth, peak())
'''


@linux
@pytest.mark.full
def test_ten_times_the_input_takes_no_more_memory():
    env = os.environ | {'PYTHONPATH': os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, '-c', MEMORY], capture_output=True, text=True, env=env, timeout=300)
    tenth, all_of_it = map(int, done.stdout.split())
    assert all_of_it < tenth + 8 * 1024, 'kilobytes: 90,000 rows more would be fifty times that'
