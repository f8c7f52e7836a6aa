"""Hostile programs: each does its harm in a naive runner (shown with a canary, in a throwaway process and folder) and none in ours."""
import functools, json, os, socket, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from fractions import Fraction
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from mtd.core import Outcome
from attack_programs import ATTACKS, HARM, HONEST, RUNNERS

TOKEN = 271828182 # in the secret file and in the environment: an attack that reads it answers with it
CASES = [(kind, name) for kind, attacks in ATTACKS.items() for name in attacks]
ENVIRONMENT = {'MTD_CANARY': str(TOKEN), 'MTD_WIDTH': '9', 'PATH': os.environ.get('PATH', ''), 'OPENBLAS_NUM_THREADS': '1'}

# The scene: everything an attack would want, its own for each attack

class Scene:
    def __init__(self, folder, case):
        kind, name = case
        entry = ATTACKS[kind][name]
        self.program, self.witness = entry if isinstance(entry, tuple) else (entry, 'ans = 42' if kind == 'unicode' else HONEST)
        self.inside = folder/'inside' # of the scene's folder, what an attack may not change
        self.inside.mkdir(parents=True)
        self.secret = self.inside/'secret.txt'
        self.secret.write_text(str(TOKEN))
        self.sockets, self.victim = [], None
        names = {'SECRET': self.secret, 'LOOT': self.inside/'loot', 'TOKEN': TOKEN}
        for name, family, kind in (('PORT', socket.AF_INET, socket.SOCK_STREAM), ('UDP', socket.AF_INET, socket.SOCK_DGRAM),
                                   ('SOCKET', socket.AF_UNIX, socket.SOCK_STREAM), ('ABSTRACT', socket.AF_UNIX, socket.SOCK_STREAM)):
            if f'${name}' in self.program: names[name] = self.listen(name, family, kind, folder)
        if '$VICTIM' in self.program:
            self.victim = subprocess.Popen(['sleep', '100'])
            names['VICTIM'] = self.victim.pid
        for name, value in names.items(): self.program = self.program.replace(f'${name}', str(value))
        self.before = self.files(), self.condition()

    def listen(self, name, family, kind, folder):
        server = socket.socket(family, kind)
        self.sockets.append(server)
        place = {'SOCKET': str(folder/'listener'), 'ABSTRACT': f'\0mtd-{os.getpid()}-{time.monotonic_ns()}'}.get(name, ('127.0.0.1', 0))
        server.bind(place)
        if kind == socket.SOCK_STREAM: server.listen()
        server.settimeout(0)
        return server.getsockname()[1] if family == socket.AF_INET else place.lstrip('\0')

    def files(self):
        return sorted((p.name, p.lstat().st_mode, p.lstat().st_mtime_ns, p.lstat().st_nlink, p.is_file() and p.read_text(errors='replace'))
                      for p in self.inside.iterdir() if p.name != '__pycache__')

    def condition(self): # of the victim: alive, its limit, its priority
        if self.victim is None: return None
        try: return self.victim.poll(), Path(f'/proc/{self.victim.pid}/limits').read_text(), os.getpriority(os.PRIO_PROCESS, self.victim.pid)
        except OSError: return self.victim.wait()

    def damage(self, answers): # what an attack achieved, in words
        seen = set()
        if self.files() != self.before[0]: seen.add('files')
        if self.condition() != self.before[1]: seen.add('victim')
        if TOKEN in answers: seen.add('token')
        if answers[0] != 42 or answers[-1] != 42: seen.add('neighbour')
        for server in self.sockets:
            try: server.recv(1) if server.type == socket.SOCK_DGRAM else server.accept()[0].close(); seen.add('connection')
            except BlockingIOError: pass
        return seen

    def close(self):
        for server in self.sockets: server.close()
        if self.victim is not None: self.victim.kill(); self.victim.wait()

# The naive runners

def in_cell(runner, programs, folder, seconds, memory):
    asked = json.dumps(dict(runner=runner, programs=programs, folder=str(folder), environment=ENVIRONMENT, seconds=seconds, memory=memory))
    done = subprocess.run([sys.executable, '-I', str(Path(__file__).with_name('naive_runners.py'))], input=asked, env=ENVIRONMENT,
                          capture_output=True, text=True, start_new_session=True)
    if not done.stdout: return None
    return json.loads(done.stdout)

def one_naive(folder, case):
    kind, name = case
    scene = Scene(folder, case)
    t = time.time()
    try:
        runner = RUNNERS.get(name) or RUNNERS.get(kind) or 'plain'
        did = in_cell(runner, [scene.witness, scene.program, scene.witness], scene.inside, 1 if kind == 'time' else 15, 250 << 20 if kind == 'memory' else 1 << 30)
        if did is None: return {'died'}, None, 0
        answers = did['answers']
        if isinstance(answers, list) and len(answers) == 3: seen = scene.damage(answers)
        else: seen = scene.damage([42, None, 42]) | ({'neighbour'} if did['busy'] else {'neighbour', 'died'})
        if did['busy']: seen.add('busy')
        if did['memory'] > 200 << 20: seen.add('memory')
        if did['output'] > 2_000_000: seen.add('output')
        if did['survivors']: seen.add('survivor')
        return seen, did, time.time() - t
    finally: scene.close()

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tmp_path_factory.mktemp('attacks')

@functools.cache
def attack_naive(folder, only=()):
    cases = [c for c in CASES if not only or c[0] in only or c[1] in only]
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(cases, pool.map(lambda pair: one_naive(folder/f'naive-{pair[0]}', pair[1]), enumerate(cases))))

# Ours: one layer, the other, both

LAYERS = {'interpreter alone': dict(_tiers=('interpreter',), _lock=False), 'jail alone': dict(_tiers=('jail',)), 'all together': {}}

HOST = '''
import ctypes, json, os, sys, threading
from pathlib import Path
ctypes.CDLL(None).prctl(36, 1) # PR_SET_CHILD_SUBREAPER: what is orphaned comes to this process
from mtd.programs import close_workers, run_all

def below(pid): # its processes, and theirs
    try: direct = [int(c) for task in Path(f'/proc/{pid}/task').iterdir() for c in (task/'children').read_text().split()]
    except OSError: return []
    return direct + [d for c in direct for d in below(c)]

largest, done = {}, threading.Event()
def watch():
    while not done.wait(0.01):
        for pid in below(os.getpid()):
            try: lines = Path(f'/proc/{pid}/status').read_text().splitlines()
            except OSError: continue
            for line in lines:
                if line.startswith('VmHWM'): largest[pid] = max(largest.get(pid, 0), int(line.split()[1]) << 10)
watcher = threading.Thread(target=watch)
watcher.start()
asked = json.load(sys.stdin)
replies = []
for group in asked['groups']:
    outcomes = run_all(group, timeout=asked['timeout'], memory=64 << 20, **{k: tuple(v) if isinstance(v, list) else v for k, v in asked['options'].items()})
    replies.append([(o.status, str(o.answer), o.detail, o.text) for o in outcomes])
close_workers()
done.set(); watcher.join()
def state(pid):
    try: return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError: return 'Z'
print(json.dumps(dict(replies=replies, largest=max(largest.values()), left=[p for p in below(os.getpid()) if state(p) != 'Z'])))
'''

def attack_ours(folder, layer, only=()):
    cases = [c for c in CASES if not only or c[0] in only or c[1] in only]
    place = folder/layer.replace(' ', '-')
    with ExitStack() as stack:
        scenes = [stack.enter_context(closing(Scene(place/str(i), case))) for i, case in enumerate(cases)]
        programs = [p for scene in scenes for p in (scene.witness, scene.program, scene.witness)]
        asked = json.dumps(dict(groups=[programs], timeout=0.3, options=LAYERS[layer]))
        done = subprocess.run([sys.executable, '-c', HOST], input=asked, env={**os.environ, **ENVIRONMENT, 'TMPDIR': str(place)}, capture_output=True, text=True, start_new_session=True)
        assert done.returncode == 0, done.stderr[-2000:]
        did = json.loads(done.stdout)
        outcomes = [Outcome(status, Fraction(answer) if answer != 'None' else None, detail, text) for status, answer, detail, text in did['replies'][0]]
        threes = [outcomes[i:i + 3] for i in range(0, len(outcomes), 3)]
        return {case: (scene.damage([o.answer for o in three]), three[1]) for case, scene, three in zip(cases, scenes, threes)}, did, done.stderr
