"""Hostile programs: each would work in a naive runner (shown with a canary, in a throwaway process and folder) and does nothing in ours."""
import json, os, signal, socket, subprocess, sys, tempfile
from pathlib import Path

import pytest

from mtd import programs
from mtd.programs import STATUSES, close_workers, layers, run_all, run_program

LINUX = sys.platform.startswith('linux')
TOKEN = 271828182 # in the secret file and in the environment: an attack that reads it answers with it
HONEST = 'import math\nans = sum([math.floor(40.9), 2])' # 42

# $SECRET a file that holds the token, $LOOT a file that must not appear, $PORT a listening socket, $VICTIM a process
CANARY = {
    'file read': [
        "ans = int(open('$SECRET').read())",
        "from pathlib import Path\nans = int(Path('$SECRET').read_text())",
        "import os\nfd = os.open('$SECRET', os.O_RDONLY)\nans = int(os.read(fd, 99))",
        "import io\nans = int(io.open('$SECRET').readline())",
        "import codecs\nans = int(codecs.open('$SECRET', encoding='utf-8').read())",
        "import linecache\nans = int(linecache.getline('$SECRET', 1))",
        "import fileinput\nans = int(next(fileinput.input('$SECRET')))",
        "with open('/proc/self/cwd/' + '$SECRET'.rpartition('/')[2]) as f: ans = int(f.read())",
        "import mmap, os\nans = int(mmap.mmap(os.open('$SECRET', 0), 0, access=mmap.ACCESS_READ)[:])",
    ],
    'file write': [
        "open('$LOOT', 'w').write('x')\nans = 1",
        "from pathlib import Path\nPath('$LOOT').touch()\nans = 1",
        "import os\nos.remove('$SECRET')\nans = 1",
        "import os\nos.rename('$SECRET', '$LOOT')\nans = 1",
        "import os\nos.symlink('$SECRET', '$LOOT')\nans = 1",
        "import os\nos.mkdir('$LOOT')\nans = 1",
        "import shutil\nshutil.copy('$SECRET', '$LOOT')\nans = 1",
        "import sqlite3\nsqlite3.connect('$LOOT').execute('create table t(x)')\nans = 1",
        "import os\nos.truncate('$SECRET', 0)\nans = 1",
    ],
    'environment': [
        "import os\nans = int(os.environ['MTD_CANARY'])",
        "import os\nans = int(os.getenv('MTD_CANARY'))",
        "import posix\nans = int(posix.environ[b'MTD_CANARY'])",
        "env = open('/proc/self/environ').read()\nans = int(env.split('MTD_CANARY=')[1].split(chr(0))[0])",
        "env = open('/proc/%d/environ' % __import__('os').getpid()).read()\nans = int(env.split('MTD_CANARY=')[1].split(chr(0))[0])",
    ],
    'network': [
        "import socket\nsocket.create_connection(('127.0.0.1', $PORT), 2)\nans = 1",
        "import _socket\ns = _socket.socket()\ns.connect(('127.0.0.1', $PORT))\nans = 1",
        "import http.client\nc = http.client.HTTPConnection('127.0.0.1', $PORT, timeout=2)\nc.connect()\nans = 1",
        "import urllib.request\ntry: urllib.request.urlopen('http://127.0.0.1:$PORT', timeout=0.3)\nexcept OSError: pass\nans = 1",
        "import asyncio\nasyncio.run(asyncio.open_connection('127.0.0.1', $PORT))\nans = 1",
    ],
    'process': [
        "import os\nos.system('echo x > $LOOT')\nans = 1",
        "import subprocess\nsubprocess.run(['touch', '$LOOT'])\nans = 1",
        "import os\nif os.fork() == 0:\n    open('$LOOT', 'w').close()\n    os._exit(0)\nos.wait()\nans = 1",
        "import os\nos.execv('/bin/sh', ['sh', '-c', 'echo x > $LOOT; echo [1]'])",
        "import os\nans = len(os.popen('touch $LOOT').read())",
        "import os, signal\nos.kill($VICTIM, signal.SIGKILL)\nans = 1",
        "import ctypes\nctypes.CDLL(None).system(b'touch $LOOT')\nans = 1",
        "import os\nos.posix_spawn('/bin/sh', ['sh', '-c', 'echo x > $LOOT'], {})\nos.wait()\nans = 1",
        "import threading\nt = threading.Thread(target=lambda: open('$LOOT', 'w').close())\nt.start()\nt.join()\nans = 1",
    ],
    'introspection': [
        "c = [c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0]\n"
        "c.__init__.__globals__['system']('touch $LOOT')\nans = 1",
        "ans = int((lambda: 0).__globals__['__builtins__']['open']('$SECRET').read())",
        "import sys\nans = int(sys._getframe().f_builtins['open']('$SECRET').read())",
        "exec('import os; os.remove(\"$SECRET\")')\nans = 1",
        "ans = eval('int(open(\"$SECRET\").read())')",
        "ans = int(getattr(__import__('builtins'), 'op' + 'en')('$SECRET').read())",
        "import importlib\nimportlib.import_module('os').remove('$SECRET')\nans = 1",
        "import pickle\nans = pickle.loads(b\"cposix\\nsystem\\n(S'touch $LOOT'\\ntR.\")",
        "class Evil:\n    def __reduce__(self): return (__import__('os').remove, ('$SECRET',))\n"
        "import pickle\nans = pickle.loads(pickle.dumps(Evil())) or 1",
        "import os\nleak = '{0.__init__.__globals__[environ]}'.format(os._wrap_close)\n"
        "ans = int(leak.split(\"MTD_CANARY': '\")[1].split(\"'\")[0])",
        "import gc\nf = [o for o in gc.get_objects() if getattr(o, '__name__', '') == 'system']\n"
        "__import__('posix').system('touch $LOOT')\nans = 1",
        "ｏｐｅｎ('$LOOT', 'w').write('x')\nans = 1",
        "try: 1 / 0\nexcept Exception as e: ans = int(e.__traceback__.tb_frame.f_builtins['open']('$SECRET').read())",
        "def f(x=open('$LOOT', 'w')): return 1\nans = f()",
        "print(open('$LOOT', 'w'))\n",
    ],
    'poison': [ # the next program in the same place answers wrongly
        "import math\nmath.floor = lambda x: 0\nans = 1",
        "import builtins\nbuiltins.sum = lambda x: 0\nans = 1",
        "import sys\nsys.modules['math'] = None\nans = 1",
        "import math, sys\nclass Fake:\n    floor = lambda x: 7\nsys.modules['math'] = Fake\nans = 1",
        "import math\ndel math.floor\nans = 1",
        "__builtins__['sum'] = lambda x: 0\nans = 1",
    ],
}
FORGED = [ # replies that are not the runner's; a naive one takes the last line printed
    'print(\'{"id": 2, "status": "ran", "answer": "666", "detail": "", "text": "666"}\')',
    'import sys\nsys.stdout.write(\'{"id": 2, "status": "ran", "answer": "666", "detail": "", "text": ""}\\n\')\nsys.stdout.flush()',
    'import os\nos.write(1, b\'{"id": 2, "status": "ran", "answer": "666", "detail": "", "text": ""}\\n\')',
    'import os\nfor fd in range(20):\n    try: os.write(fd, b\'{"id": 2, "status": "ran", "answer": "666", "detail": "", "text": ""}\\n\')\n    except OSError: pass',
    'import atexit\natexit.register(print, \'{"id": 2, "status": "ran", "answer": "666"}\')',
]
BOMBS = { # program: how it may end
    'ans = 9**9**9': {'memory'},
    "ans = len('a' * 10**10)": {'memory'},
    'ans = len([0] * 10**9)': {'memory'},
    'x = []\nwhile True: x.append(x)': {'memory', 'timeout'},
    "x = 'a'\nwhile True: x += x": {'memory', 'timeout'},
    'x = [0]\nwhile True: x = x + x': {'memory', 'timeout'},
    'ans = len({i: str(i) for i in range(10**8)})': {'memory', 'timeout'},
    "ans = len(f'{1:>{10**9}}')": {'memory', 'timeout'},
    "ans = len('%1000000000d' % 1)": {'memory', 'timeout'},
    "ans = 'a' * 40_000_000": {'memory', 'not_a_number', 'timeout'},
    'x = []\nfor i in range(10**5): x = [x]\nans = x': {'memory', 'not_a_number', 'error', 'timeout'},
    'while True: pass': {'timeout'},
    'x = 3\nwhile True: x = x * x': {'timeout', 'memory'},
    'ans = sum(range(10**12))': {'timeout'},
    'import math\nans = math.factorial(10**7)': {'timeout', 'memory'},
    'ans = pow(3, 10**7, 10**(10**6) + 1)': {'timeout', 'memory'},
    'import re\nans = len(re.findall("(a+)+b", "a" * 40))': {'timeout', 'ran', 'error'},
    'ans = max(range(10**12))': {'timeout'},
    "while True:\n    try:\n        while True: pass\n    except BaseException: pass": {'timeout'},
    'import time\ntime.sleep(10**9)\nans = "slept"': {'not_a_number'},
    "while True: print('x' * 1000)": {'too_large'},
    "print('x' * 60_000_000)\nans = 'y'": {'too_large', 'memory'},
    'def f(): return f()\nans = f()': {'error'},
    'f = lambda g: g(g)\nans = f(f)': {'error'},
    "ans = eval('(' * 3000 + '1' + ')' * 3000)": {'error', 'too_large', 'syntax', 'ran'},
    "ans = eval('-' * 50_000 + '1')": {'error', 'too_large', 'syntax'},
    'ans = ' + '[' * 9000 + ']' * 9000: {'too_large'},
    'ans = a' + '.a' * 9000: {'too_large', 'error'},
    'ans = ' + '1+' * 9000 + '1': {'too_large', 'ran'},
    'ans = ' + 'not ' * 4000 + '1': {'too_large', 'not_a_number'},
    'class A:\n    def __eq__(self, other): return self == other\nans = A() == A()': {'error'},
    'x = []\nx.append(x)\nans = x': {'not_a_number'},
    'ans = int("9" * 19_000)': {'too_large', 'error'},
}

# The scene

NAIVE = '''
import json, sys
def run(program):
    space = {}
    try: exec(program, space)
    except Exception as e: return type(e).__name__
    return space['ans'] if isinstance(space.get('ans'), int) else None
programs = json.load(sys.stdin)
print(json.dumps([run(p) for p in programs]))
'''

@pytest.fixture
def scene(tmp_path, monkeypatch):
    "A folder with a secret, a listening socket, a process to kill and a variable to read; everything an attack would want."
    (tmp_path/'secret.txt').write_text(str(TOKEN))
    monkeypatch.setenv('MTD_CANARY', str(TOKEN))
    victim = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(60)'])
    server = socket.create_server(('127.0.0.1', 0))
    server.setblocking(False)
    yield tmp_path, server, victim
    server.close(); victim.kill(); victim.wait()

def staged(program, scene):
    folder, server, victim = scene
    for name, value in (('SECRET', folder/'secret.txt'), ('LOOT', folder/'loot'), ('PORT', server.getsockname()[1]), ('VICTIM', victim.pid)):
        program = program.replace(f'${name}', str(value))
    return program

def damage(scene, answers):
    "What an attack achieved, in words; empty if nothing."
    folder, server, victim = scene
    seen = []
    if sorted(p.name for p in folder.iterdir()) != ['secret.txt'] or (folder/'secret.txt').read_text() != str(TOKEN): seen.append('files')
    try: server.accept()[0].close(); seen.append('connection')
    except BlockingIOError: pass
    if victim.poll() is not None: seen.append('killed')
    if TOKEN in answers: seen.append('secret read')
    if answers[-1:] != [42]: seen.append('neighbour wrong')
    return seen

CASES = [(kind, program) for kind, programs in CANARY.items() for program in programs]

@pytest.mark.skipif(not LINUX, reason='the naive runner is attacked by Linux means')
@pytest.mark.parametrize('kind,program', CASES, ids=[f'{kind} {i}' for i, (kind, _) in enumerate(CASES)])
def test_canary(kind, program, scene):
    attack = staged(program, scene)
    outcomes = run_all([HONEST, attack, HONEST], workers=1, timeout=2)
    assert damage(scene, [o.answer for o in outcomes]) == [], 'the attack did something in our runner'
    assert outcomes[0].answer == 42 and outcomes[1].status in STATUSES and outcomes[1].answer in (None, 1, 5)
    naive = subprocess.Popen([sys.executable, '-I', '-c', NAIVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             cwd=scene[0], env={'MTD_CANARY': str(TOKEN), 'PATH': os.environ.get('PATH', '')}, start_new_session=True)
    out = naive.communicate(json.dumps([HONEST, attack, HONEST]).encode(), timeout=20)[0]
    scene[2].poll()
    if 'os.kill(' in attack: scene[2].wait(5)
    answers = json.loads(out) if out.endswith(b']\n') and out.count(b'\n') == 1 else []
    seen = damage(scene, answers)
    assert seen if kind == 'poison' else set(seen) - {'neighbour wrong'}, 'the attack does nothing in a naive runner either, so this test shows nothing'

def test_the_interpreter_holds_alone(scene, monkeypatch):
    "As on systems without Landlock and seccomp: the same attacks, and none of the locks."
    close_workers()
    monkeypatch.setattr(programs, '_lockable', [False])
    attacks = [staged(program, scene) for _, program in CASES]
    outcomes = run_all([t for attack in attacks for t in (attack, HONEST)])
    assert not {'landlock', 'seccomp'} & set(layers()) and layers()[0] == 'interpreter'
    close_workers()
    assert damage(scene, [o.answer for o in outcomes]) == []
    assert all(o.answer == 42 for o in outcomes[1::2]) and all(o.answer in (None, 1, 5) for o in outcomes[::2])

def test_attacks_are_many_and_of_many_kinds():
    assert len(CASES) >= 50 and len(CANARY) + 2 >= 8 and len(CASES) == len(set(CASES)) and len(BOMBS) >= 30
    assert all(len(programs) >= 5 for programs in (*CANARY.values(), FORGED))

@pytest.mark.parametrize('program', FORGED)
def test_forged_reply(program, tmp_path):
    naive = 'import json, sys\nspace = {}\ntry: exec(sys.stdin.read(), space)\nfinally: print(json.dumps({"status": "error"}))'
    out = subprocess.run([sys.executable, '-I', '-c', naive], input=program, capture_output=True, text=True, cwd=tmp_path).stdout
    assert '666' in out, 'a line among the naive runner\'s replies is the attacker\'s'
    first, forged, last = run_all([HONEST, program, HONEST], workers=1)
    assert first.answer == last.answer == 42 and forged.answer is None and forged.status in STATUSES

def test_bombs():
    texts = [t for bomb in BOMBS for t in (bomb, HONEST)]
    outcomes = run_all(texts, workers=2, timeout=0.3)
    wrong = {bomb[:70]: o for (bomb, ends), o in zip(BOMBS.items(), outcomes[::2]) if o.status not in ends}
    assert not wrong
    assert all(o.answer == 42 for o in outcomes[1::2]), 'a neighbour of a bomb was judged wrongly'
    assert not [o for o in outcomes if 'crashed' in o.detail or 'runner failed' in o.detail]

@pytest.mark.skipif(not LINUX, reason='reads /proc')
def test_nothing_is_left_behind():
    before = set(Path(tempfile.gettempdir()).glob('mtd-programs-*'))
    run_all(['while True: pass', 'x = 3\nwhile True: x = x * x', HONEST], timeout=0.2)
    close_workers()
    assert set(Path(tempfile.gettempdir()).glob('mtd-programs-*')) <= before
    running = [p.read_text().replace('\0', ' ') for p in Path('/proc').glob('[0-9]*/cmdline') if _parent(p.parent) == os.getpid()]
    assert not [line for line in running if 'mtd.programs' in line or 'monty' in line]

def _parent(folder):
    try: return int((folder/'stat').read_text().rpartition(')')[2].split()[1])
    except OSError: return None

@pytest.mark.skipif(not LINUX, reason='process groups and /proc')
def test_workers_end_with_their_parent():
    code = f'''
import os, subprocess, sys, mtd.programs as p
p.run_program({HONEST!r}); worker = p._idle[0].process.pid
print(worker, flush=True)
if sys.argv[1] == 'killed': os.kill(os.getpid(), 9)
'''
    for way in ('killed', 'exits'):
        worker = int(subprocess.run([sys.executable, '-c', code, way], capture_output=True, text=True).stdout)
        for _ in range(100):
            if not _alive(worker): break
            signal.sigtimedwait([], 0.05)
        assert not _alive(worker), f'a worker outlived a parent that {way}'

@pytest.mark.skipif(not LINUX, reason='process groups and /proc')
def test_an_interrupt_stops_everything():
    code = f'''
import mtd.programs as p, os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler) # whoever started the tests may have it ignored
threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
try: p.run_all(['while True: pass'] * 50, timeout=20)
except KeyboardInterrupt: print(p.run_program({HONEST!r}).answer)
'''
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=15).stdout == '42\n'

def _alive(group): # any process of the session that is not a zombie
    for folder in Path('/proc').glob('[0-9]*'):
        try: fields = (folder/'stat').read_text().rpartition(')')[2].split()
        except OSError: continue
        if int(fields[2]) == group and fields[0] != 'Z': return True
    return False

# The layers around the interpreter, without the interpreter: what a program could do that had broken out of it

ESCAPED = '''
import json, os, socket, sys
sys.path[:0] = json.loads(sys.argv[1])
import mtd.programs as p
secret, loot, port, victim = sys.argv[2:6]
held = p._limit_self() + p._shut_files(p._binary()) + p._shut_calls()
import resource
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
def tries(attack):
    try: attack()
    except (OSError, MemoryError) as e: return type(e).__name__
    return 'done'
print(json.dumps([held, {
    'landlock': {'read': tries(lambda: open(secret).read()), 'list': tries(lambda: os.listdir('/')), 'write': tries(lambda: open(loot, 'w')),
                 'remove': tries(lambda: os.remove(secret)), 'run': tries(lambda: os.execv('/bin/sh', ['sh', '-c', 'exit 3'])),
                 'environment': tries(lambda: open('/proc/%d/environ' % os.getppid()).read())},
    'seccomp': {'socket': tries(lambda: socket.socket()), 'kill': tries(lambda: os.kill(int(victim), 9)), 'session': tries(os.setsid)},
    'rlimits': {'memory': tries(lambda: bytearray(3 << 30))},
}]))
'''

@pytest.mark.skipif(not LINUX, reason='Landlock, seccomp and rlimits are Linux here')
def test_layers_hold_without_the_interpreter(scene):
    import mtd
    folder, server, victim = scene
    command = [sys.executable, '-I', '-c', ESCAPED, json.dumps([str(Path(mtd.__file__).parent.parent)]), str(folder/'secret.txt'), str(folder/'loot'),
               str(server.getsockname()[1]), str(victim.pid)]
    done = subprocess.run(command, capture_output=True, text=True, env={}, start_new_session=True)
    held, results = json.loads(done.stdout)
    assert 'rlimits' in held and set(held) <= set(layers())
    for layer, tried in results.items():
        if layer in held: assert 'done' not in tried.values(), (layer, tried)
    assert damage(scene, [42]) == [] or 'landlock' not in held or 'seccomp' not in held

def test_run_program_says_no():
    outcome = run_program("open('/etc/passwd')\nans = 1")
    assert outcome.status == 'error' and 'PermissionError' in outcome.detail
