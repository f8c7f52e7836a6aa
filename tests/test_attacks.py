"""Hostile programs: each does its harm in a naive runner (shown with a canary, in a throwaway process and folder) and none in ours."""
import functools, json, os, socket, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from fractions import Fraction
from pathlib import Path

import pytest

from mtd.core import Outcome
from mtd.programs import STATUSES
from mtd.sandbox import NEEDED, layers

sys.path.insert(0, str(Path(__file__).parent))
from attack_programs import ATTACKS, HARM, HONEST, RUNNERS

LINUX = sys.platform.startswith('linux')
linux = pytest.mark.skipif(not LINUX, reason='the attacks are Linux programs')
TOKEN = 271828182 # in the secret file and in the environment: an attack that reads it answers with it
CASES = [(kind, name) for kind, attacks in ATTACKS.items() for name in attacks]
ENVIRONMENT = {'MTD_CANARY': str(TOKEN), 'MTD_WIDTH': '9', 'PATH': os.environ.get('PATH', ''), 'OPENBLAS_NUM_THREADS': '1'}
each = pytest.mark.parametrize('case', CASES, ids=[f'{kind}: {name}' for kind, name in CASES])

# The scene: everything an attack would want, its own for each attack

class Scene:
    def __init__(self, folder, case):
        kind, name = case
        entry = ATTACKS[kind][name]
        self.program, self.witness = entry if isinstance(entry, tuple) else (entry, 'ans = 42' if kind == 'unicode' else HONEST)
        self.inside = folder/'inside' # where nothing may change
        self.inside.mkdir(parents=True)
        (self.inside/'secret.txt').write_text(str(TOKEN))
        self.listeners, self.victim = [], None
        places = {'SECRET': self.inside/'secret.txt', 'LOOT': self.inside/'loot', 'TOKEN': TOKEN}
        for name, family, kind in (('PORT', 'AF_INET', 'SOCK_STREAM'), ('UDP', 'AF_INET', 'SOCK_DGRAM'),
                                   ('SOCKET', 'AF_UNIX', 'SOCK_STREAM'), ('ABSTRACT', 'AF_UNIX', 'SOCK_STREAM')):
            if f'${name}' in self.program: places[name] = self.listen(getattr(socket, family), getattr(socket, kind), name == 'ABSTRACT')
        if '$VICTIM' in self.program:
            self.victim = subprocess.Popen(['sleep', '100'])
            places['VICTIM'] = self.victim.pid
        for name, value in places.items(): self.program = self.program.replace(f'${name}', str(value))
        self.before = self.files(), self.health()

    def listen(self, family, kind, abstract):
        server = socket.socket(family, kind)
        self.listeners.append(server)
        if family == socket.AF_INET: server.bind(('127.0.0.1', 0))
        else: server.bind('\0' * abstract + str(self.inside.parent/'listener')[-100:])
        if kind == socket.SOCK_STREAM: server.listen()
        server.setblocking(False)
        name = server.getsockname()
        return name[1] if family == socket.AF_INET else name[1:].decode() if abstract else name

    def files(self):
        found = [(p, p.lstat()) for p in self.inside.iterdir() if p.name != '__pycache__']
        return sorted((p.name, s.st_mode, s.st_mtime_ns, s.st_nlink, s.st_size) for p, s in found)

    def health(self): # of the victim: is it alive, its limits, its priority
        if self.victim is None: return None
        try: return self.victim.poll(), Path(f'/proc/{self.victim.pid}/limits').read_text(), os.getpriority(os.PRIO_PROCESS, self.victim.pid)
        except OSError: return self.victim.wait()

    def damage(self, answers): # what was achieved, in words; `answers` of the witness, the attack, the witness
        seen = set()
        if self.files() != self.before[0]: seen.add('files')
        if self.health() != self.before[1]: seen.add('victim')
        if TOKEN in answers: seen.add('token')
        if answers[0] != 42 or answers[2] != 42: seen.add('neighbour')
        for server in self.listeners:
            try: server.recv(1) if server.type == socket.SOCK_DGRAM else server.accept()[0].close()
            except BlockingIOError: continue
            seen.add('connection')
        return seen

    def close(self):
        for server in self.listeners: server.close()
        if self.victim is not None: self.victim.kill(); self.victim.wait()

# In a naive runner

def naively(folder, case): # what an attack achieves there
    kind, name = case
    with closing(Scene(folder, case)) as scene:
        asked = dict(runner=RUNNERS.get(name) or RUNNERS.get(kind, 'plain'), programs=[scene.witness, scene.program, scene.witness], folder=str(scene.inside),
                     environment=ENVIRONMENT, seconds=1 if kind == 'time' else 20, memory=250 << 20 if kind == 'memory' else 1 << 30)
        cell = subprocess.run([sys.executable, '-I', str(Path(__file__).with_name('naive_runners.py'))], input=json.dumps(asked), env=ENVIRONMENT,
                              capture_output=True, text=True, start_new_session=True)
        if not cell.stdout: return {'died'} # and took the cell with it
        did = json.loads(cell.stdout)
        answered = isinstance(did['answers'], list) and len(did['answers']) == 3
        seen = scene.damage(did['answers']) if answered else scene.damage([42, None, 42]) | {'neighbour'}
        facts = dict(died=not answered and not did['busy'], busy=did['busy'], memory=did['memory'] > 200 << 20, output=did['output'] > 2_000_000,
                     survivor=did['survivors'])
        return seen | {word for word, true in facts.items() if true}

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tmp_path_factory.mktemp('attacks')

@functools.cache # the first test of a runner runs all attacks in it, the others look up theirs
def all_naively(folder):
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(CASES, pool.map(naively, [folder/f'naive-{i}' for i in range(len(CASES))], CASES)))

@linux
@each
def test_an_attack_succeeds_in_a_naive_runner(case, folder):
    assert all_naively(folder)[case] & HARM[case[0]], 'it does no harm there, so that this attack shows nothing'

def test_attacks_are_many_and_of_many_kinds():
    programs = [p for attacks in ATTACKS.values() for p in attacks.values()]
    assert len(programs) == len(set(programs)) >= 110 and len(ATTACKS) == 15 == len(HARM)
    assert all(len(attacks) >= 5 for attacks in ATTACKS.values())

# In ours: each layer alone, and all together

LAYERS = {'the interpreter alone': dict(_tiers=['interpreter'], _lock=False), 'the jail alone': dict(_tiers=['jail']), 'all together': {}}
WORKER = 'the locked worker alone' # as if a program had broken out of the interpreter
BEYOND = 'class A: n = 42\nans = A.n' # honest, and of the second tier
MEMORY = 128 << 20 # bytes that processes may take above what honest programs take; a program is allowed half of that

HOST = '''
import ctypes, json, os, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from mtd.programs import _LOCKS, close_workers, run_all
from mtd.sandbox import Worker

ctypes.CDLL(None).prctl(36, 1) # PR_SET_CHILD_SUBREAPER: what is orphaned below comes to this process

def below(pid): # its processes, and theirs
    try: direct = [int(c) for task in Path(f'/proc/{pid}/task').iterdir() for c in (task/'children').read_text().split()]
    except OSError: return []
    return direct + [d for c in direct for d in below(c)]

def status(pid, name): # of a process, from /proc
    try: return next(line.split()[1] for line in Path(f'/proc/{pid}/status').read_text().splitlines() if line.startswith(name))
    except (OSError, StopIteration): return '0'

peak, guard, done = [0], threading.Lock(), threading.Event()
def look():
    with guard: peak[0] = max([peak[0]] + [int(status(pid, 'VmHWM:')) << 10 for pid in below(os.getpid())])

def watch():
    while not done.wait(0.01): look()

def forget(): # what processes took at most until now
    with guard:
        for pid in below(os.getpid()):
            try: Path(f'/proc/{pid}/clear_refs').write_text('5')
            except OSError: pass # it ended meanwhile
        peak[0] = 0

def in_a_worker(program): # CPython in a worker of the first tier, with nothing but its locks
    worker = Worker('builtins:eval', 'lambda program: [exec(program, space := {}), str(space.get("ans"))][1]', locks=_LOCKS['interpreter'])
    worker.send(program, 1)
    reply = worker.receive(1)
    worker.close()
    return 'ran', reply, '', ''

def run(programs, options):
    if options is None:
        with ThreadPoolExecutor(2) as pool: return list(pool.map(in_a_worker, programs))
    return [(o.status, str(o.answer), o.detail, o.text) for o in run_all(programs, timeout=0.3, **options)]

asked = json.load(sys.stdin)
watcher = threading.Thread(target=watch)
watcher.start()
replies, peaks = [], []
for group in asked['groups']:
    forget()
    replies.append(run(group, asked['options']))
    look(); peaks.append(peak[0])
close_workers()
done.set(); watcher.join()
print(json.dumps(dict(replies=replies, peaks=peaks, left=[p for p in below(os.getpid()) if status(p, 'State:') not in 'Z0'])))
'''

WITHIN = ('file', 'environment', 'network', 'process', 'survivor', 'frames', 'format string', 'unicode') # classes that concern a worker's locks

def needs_locks(layer):
    if layer in ('the jail alone', WORKER) and not NEEDED <= {*layers()}: pytest.skip('this kernel offers no locks')

@functools.cache
def all_in_ours(folder, layer): # what each achieved and its outcome; what the host saw; the host's folder for temporary files
    cases = [c for c in CASES if layer != WORKER or c[0] in WITHIN]
    place = folder/layer.replace(' ', '-')
    (place/'tmp').mkdir(parents=True)
    with ExitStack() as stack:
        scenes = {case: stack.enter_context(closing(Scene(place/str(i), case))) for i, case in enumerate(cases)}
        groups = [[c for c in cases if c[0] != 'memory'], *([c] for c in cases if c[0] == 'memory')] # those one by one, to see what each takes
        def witness(case): # the interpreter has no decimals that could be spoilt
            return HONEST if layer == 'the interpreter alone' and 'decimal' in scenes[case].witness else scenes[case].witness
        programs = [[p for c in group for p in ([scenes[c].program] if layer == WORKER else [witness(c), scenes[c].program, witness(c)])]
                    for group in groups]
        asked = json.dumps(dict(groups=[[HONEST] * 20, [BEYOND] * 20, *programs], options=LAYERS.get(layer)))
        host = subprocess.run([sys.executable, '-c', HOST], input=asked, env={**os.environ, **ENVIRONMENT, 'TMPDIR': str(place/'tmp')},
                              capture_output=True, text=True, start_new_session=True, timeout=300)
        assert host.returncode == 0, host.stderr[-3000:]
        did = json.loads(host.stdout)
        (honest, _, *outcomes), usual, peaks = did['replies'], max(did['peaks'][:2]), did['peaks'][2:]
        assert [answer for _, answer, _, _ in honest] == ['42'] * 20
        seen = {}
        for group, replies, peak in zip(groups, outcomes, peaks):
            for case, three in zip(group, [[honest[0], r, honest[0]] for r in replies] if layer == WORKER else zip(*[iter(replies)] * 3)):
                three = [Outcome(s, None if a in (None, 'None') else Fraction(a), detail, text) for s, a, detail, text in three]
                seen[case] = scenes[case].damage([o.answer for o in three]) | ({'memory'} if case[0] == 'memory' and peak - usual > MEMORY else set()), three[1]
        return seen, peaks[0] - usual, did['left'] + list((place/'tmp').iterdir())

def check(case, layer, folder):
    needs_locks(layer)
    seen, outcome = all_in_ours(folder, layer)[0][case]
    assert seen == set(), f'it did harm; {outcome}'
    assert outcome.status in STATUSES and len(outcome.detail) <= 300 and len(outcome.text) <= 1200
    assert (outcome.answer is None) == (outcome.status != 'ran') or layer == WORKER
    assert 'worker ended' not in outcome.detail and 'runner failed' not in outcome.detail, 'the program got at its worker'

@linux
@pytest.mark.parametrize('layer', LAYERS)
@each
def test_an_attack_does_no_harm_in_ours(case, layer, folder): check(case, layer, folder)

@linux
@pytest.mark.parametrize('case', [c for c in CASES if c[0] in WITHIN], ids=[f'{kind}: {name}' for kind, name in CASES if kind in WITHIN])
def test_an_attack_does_no_harm_that_has_left_the_interpreter(case, folder): check(case, WORKER, folder)

@linux
@pytest.mark.parametrize('layer', [*LAYERS, WORKER])
def test_attacks_leave_nothing_and_take_no_more_memory_than_they_may(layer, folder):
    needs_locks(layer)
    _, memory, left = all_in_ours(folder, layer)
    assert left == [] and memory < MEMORY
