"""The sandbox: what a locked process can still ask of the kernel, workers and their deadlines, and copies that are thrown away."""
import json, os, shutil, signal, subprocess, sys, threading, time
from pathlib import Path

import pytest

from mtd import sandbox
from mtd.sandbox import LAYERS, NEEDED, Worker, layers

LINUX = sys.platform.startswith('linux')
ROOT = LINUX and os.geteuid() == 0
needs_locks = pytest.mark.skipif(not LINUX or not NEEDED <= set(layers()), reason='this system has no locks of the kind')
HOME = str(Path(sandbox.__file__).resolve().parent.parent)

def locked(code, lock='lock()', user=None):
    "What `code` leaves in `result`, run in a process that locked itself before; `user`: as whom."
    program = f'''
import ctypes, errno, json, mmap, os, resource, signal, socket, sys
sys.path.insert(0, {HOME!r})
from mtd.sandbox import *
from mtd.sandbox import _call, _limit, _no_calls, _no_files, _no_privileges, _prctl, _COMPUTE, _ALARM, _FORK
def tries(action):
    try: action()
    except OSError as e: return errno.errorcode[e.errno]
    except MemoryError: return 'MemoryError'
    except ValueError as e: return 'EPERM' if 'raise maximum' in str(e) else 'done'
    return 'done'
def asks(*call): # the error's name, of a system call by its number
    return 'done' if _call(*call) >= 0 else errno.errorcode[ctypes.get_errno()]
def forks():
    if os.fork() == 0: os._exit(0)
asks(39); machine, here, up = os.uname().machine, os.getpid(), os.getppid()
held = {lock}
{code}
os.write(1, json.dumps([held, result]).encode())
os._exit(0)
'''
    become = ['setpriv', f'--reuid={user}', f'--regid={user}', '--clear-groups'] if user is not None else []
    command = [*become, PYTHON if user is not None else sys.executable, '-I', '-S', '-c', program]
    done = subprocess.run(command, capture_output=True, text=True, env={}, start_new_session=True, timeout=60)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)

def open_to_all(path): return all(p.stat().st_mode & 5 == 5 for p in (Path(path).resolve(), *Path(path).resolve().parents))

PYTHON = next((p for p in (sys.executable, shutil.which('python3', path='/usr/local/bin:/usr/bin')) if ROOT and p and open_to_all(p)), None) # one that nobody may start
nobody = pytest.param(65534, id='nobody', marks=pytest.mark.skipif(not PYTHON or not shutil.which('setpriv') or not open_to_all(HOME), reason='only root can become nobody'))

def everyone(test): # as whoever runs the tests, and where that is root, as nobody
    return needs_locks(pytest.mark.parametrize('user', [pytest.param(None, id='self'), nobody])(test))

# The locks

FORBIDDEN = '''
result = {
    'open': tries(lambda: open('/etc/hosts')), 'write': tries(lambda: open('/tmp/mtd-loot', 'w')), 'list': tries(lambda: os.listdir('/')),
    'stat': tries(lambda: os.stat('/')), 'remove': tries(lambda: os.remove('/tmp/mtd-none')), 'chdir': tries(lambda: os.chdir('/')),
    'environ of another': tries(lambda: open('/proc/%d/environ' % up)), 'memory of itself': tries(lambda: open('/proc/self/mem', 'r+b')),
    'socket': tries(socket.socket), 'pair': tries(socket.socketpair), 'fork': tries(forks), 'exec': tries(lambda: os.execv('/bin/sh', ['sh'])),
    'spawn': tries(lambda: os.posix_spawn('/bin/sh', ['sh'], {})), 'kill': tries(lambda: os.kill(up, 0)), 'kill itself': tries(lambda: os.kill(here, 0)),
    'kill group': tries(lambda: os.killpg(here, 0)), 'setsid': tries(os.setsid), 'chroot': tries(lambda: os.chroot('/')),
    'setuid': tries(lambda: os.setuid(0)), 'pipe': tries(os.pipe), 'dup': tries(lambda: os.dup(0)), 'memfd': tries(lambda: os.memfd_create('x')),
    'more memory': tries(lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1))), 'unshare': asks(272, 0x10000000), 'ptrace': asks(101, 0, 0, 0, 0),
    'executable memory': tries(lambda: mmap.mmap(-1, 4096, prot=7)), 'another filter': 'EPERM' if _prctl(22, 2, 0) else 'done',
    'dumpable': 'EPERM' if _prctl(4, 1) else 'done', '3 GB': tries(lambda: bytearray(3 << 30)), 'thread': None}
import threading
try: threading.Thread(target=print).start()
except RuntimeError: result['thread'] = 'EPERM'
'''

@everyone
def test_a_locked_process_can_do_nothing(user):
    held, result = locked(FORBIDDEN, user=user)
    assert set(held) == set(layers())
    assert result.pop('3 GB') == 'MemoryError'
    assert {k: v for k, v in result.items() if v not in ('EPERM', 'EACCES')} == {}
    assert not Path('/tmp/mtd-loot').exists()

@everyone
def test_every_other_call_is_refused(user):
    "All numbers there are, and more, but for those on the list (and two that no filter sees: they end who calls them, uprobes aside)."
    column = sandbox._MACHINE[0]
    listed = {int(n[column]) for part in sandbox._COMPUTE.split(',') for _, *n in [part.split()] if n[column] != '-'}
    held, result = locked(f'result = {{n: asks(n, -1, -1, -1, -1, -1, -1) for n in [*range(335), *range(337, 600), 1 << 30, (1 << 30) + 2] if n not in {listed}}}', user=user)
    assert set(result.values()) == {'EPERM'} and len(result) == 600 - len(listed)
    assert 30 < len(listed) < 45, 'the list has grown: is each of them needed?'

EACH = { # a lock alone: what it must refuse
    'rlimits': ('_limit(AS=1 << 30, CORE=0, FSIZE=0, NOFILE=0, CPU=5)', {
        'open': "tries(lambda: open('/etc/hosts'))", '3 GB': 'tries(lambda: bytearray(3 << 30))'}),
    'capabilities': ('_no_privileges()', {'chroot': "tries(lambda: os.chroot('/'))", 'mount': "asks(165 if machine == 'x86_64' else 40, b'/', b'/', b'', 4096, 0)"}),
    'landlock': ('_no_privileges() + _no_files()', {
        'read': "tries(lambda: open('/etc/hosts'))", 'write': "tries(lambda: open('/tmp/mtd-loot', 'w'))", 'list': "tries(lambda: os.listdir('/'))",
        'make': "tries(lambda: os.mkdir('/tmp/mtd-loot'))", 'exec': "tries(lambda: os.execv('/bin/sh', ['sh', '-c', 'exit 3']))"}),
    'seccomp': ('_no_privileges() + _no_calls()', {
        'read': "tries(lambda: open('/etc/hosts'))", 'fork': 'tries(forks)', 'socket': 'tries(socket.socket)', 'kill': 'tries(lambda: os.kill(up, 0))'}),
}

@needs_locks
@pytest.mark.parametrize('name', EACH)
def test_each_lock_alone(name):
    lock, deeds = EACH[name]
    if name not in layers(): pytest.skip(f'{name} is not on this system')
    held, result = locked('result = {' + ', '.join(f'{k!r}: {v}' for k, v in deeds.items()) + '}', lock)
    free = locked('result = {' + ', '.join(f'{k!r}: {v}' for k, v in deeds.items() if k not in ('exec', 'mount', 'write', 'make')) + '}', '[]')[1]
    assert 'done' not in result.values(), result
    assert set(free.values()) == {'done'} or not ROOT, 'the deed is impossible anyway, so this test shows nothing'

@needs_locks
def test_what_the_zygote_may_do_its_copies_may_not():
    code = '''
import select, threading
result = {'fork': 'done', 'namespace': asks(56, 0x10000000 | 17, 0, 0, 0, 0) if machine == 'x86_64' else 'EPERM',
          'open': tries(lambda: open('/etc/hosts')), 'kill': tries(lambda: os.kill(up, 0)), 'dumpable': _prctl(15, b'x'), 'keepcaps': _prctl(8, 1)}
def inside(): return {'fork': tries(forks), 'kill': tries(lambda: os.kill(up, 0)), 'pipe': tries(os.pipe), 'filter': _prctl(22, 2, 0),
                      'others': [fd for fd in range(64) if tries(lambda: os.write(fd, b'')) == 'done'], 'wait': tries(lambda: os.waitpid(-1, 0))}
result['copy'] = run_forked(inside, 5, 1 << 40)
'''
    held, result = locked(code, 'lock(fork=True)')
    assert result['namespace'] == result['open'] == 'EPERM' and result['dumpable'] == result['keepcaps'] == -1
    assert result['kill'] == ('EPERM' if 'landlock' in held else 'done')
    (reply, ended), one = result['copy'], result['copy'][0]['others']
    assert ended == '' and len(one) == 1 and one[0] > 2, 'the only open descriptor is its own reply pipe'
    assert reply == dict(fork='EPERM', kill='EPERM', pipe='EPERM', filter=-1, others=one, wait='EPERM')

@needs_locks
def test_copies_end_in_every_way():
    code = '''
import time
def loud(): os.write(fd(), b'x' * 100_000 + b'\\n'); return 1
def fd(): return next(i for i in range(3, 64) if tries(lambda: os.write(i, b'')) == 'done')
def forge(): os.write(fd(), b'"forged"\\n'); return 'own'
def deaf(): signal.signal(signal.SIGPROF, signal.SIG_IGN); exec('while True: pass')
def nested(): os.write(fd(), b'[' * 9000 + b'\\n'); return 1
def gone(): os.close(fd()); exec('while True: pass')
def slow(): exec('while True: pass')
began = time.monotonic()
result = {f.__name__: run_forked(f, 0.3, 1 << 40) for f in (loud, forge, nested, slow, deaf, gone, lambda: ctypes.string_at(0), lambda: os._exit(3), lambda: {}[1])}
result['memory'] = run_forked(lambda: tries(lambda: bytearray(1 << 30)), 5, 600 << 20)
result['next'] = run_forked(lambda: [1, 'ü'], 5, 1 << 40)
result['seconds'] = time.monotonic() - began
'''
    result = locked(code, 'lock(fork=True)')[1]
    assert result['loud'] == [None, 'crash'] and result['forge'] == ['forged', ''] and result['nested'] == [None, 'crash']
    assert result['slow'] == result['deaf'] == [None, 'timeout'] and result['gone'] == result['<lambda>'] == [None, 'crash']
    assert result['memory'] == ['MemoryError', ''] and result['next'] == [[1, 'ü'], ''] and result['seconds'] < 30

@needs_locks
def test_no_memory_is_shared_with_copies():
    worker = Worker('mtd.programs:_jail', locks=dict(fork=True))
    shared = [line for line in Path(f'/proc/{worker.process.pid}/maps').read_text().splitlines() if line.split()[1][3] == 's' and 'w' in line.split()[1]]
    worker.close()
    assert shared == [], 'a copy could write into its parent'

# Workers

def test_a_worker_answers_with_what_it_got():
    for locks in ({}, None):
        worker = Worker('mtd.sandbox:_echo', locks=locks)
        assert [worker.ask(m, 10) for m in ({'a': [1, 'ü', None]}, 'x' * 1_000_000, [])] == [{'a': [1, 'ü', None]}, 'x' * 1_000_000, []]
        assert not worker.trouble and worker.alive and set(worker.layers) <= set(LAYERS) and bool(worker.layers) == (locks is not None and os.name != 'nt')
        worker.close()
        assert not worker.alive and worker.ask(1, 1) is None and not Path(worker.folder).exists()

def test_trouble_is_said():
    assert 'ModuleNotFoundError' in Worker('mtd.nowhere:f').trouble and 'AttributeError' in Worker('mtd.sandbox:nothing').trouble
    assert Worker('os:_exit', 3).trouble == 'it ended at once'

def test_a_worker_inherits_nothing(monkeypatch):
    monkeypatch.setenv('MTD_CANARY', '1'); monkeypatch.setenv('PYTHONHASHSEED', '7')
    with open(os.devnull) as extra:
        os.set_inheritable(extra.fileno(), True)
        worker = Worker('mtd.sandbox:_echo')
        if LINUX:
            env = Path(f'/proc/{worker.process.pid}/environ').read_text()
            assert 'MTD_CANARY' not in env and 'PYTHONHASHSEED=0' in env and '7' not in env
            assert len(list(Path(f'/proc/{worker.process.pid}/fd').iterdir())) <= 5
            assert os.readlink(f'/proc/{worker.process.pid}/cwd').endswith('(deleted)')
        worker.close()

def test_a_message_too_long_is_refused():
    worker = Worker('mtd.sandbox:_echo')
    assert worker.ask('x' * (sandbox.LONGEST_LINE + 1), 2) is None, 'nothing was asked, so nothing is answered'
    worker.close()

@pytest.mark.skipif(not hasattr(signal, 'SIGSTOP'), reason='a process is stopped by a signal')
def test_a_deadline_holds_for_a_worker_that_is_stuck():
    for size in (10, 3_000_000): # in the answer, and in the asking
        worker = Worker('mtd.sandbox:_echo')
        os.kill(worker.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        assert worker.ask('x' * size, 0.3) is None and worker.late and time.monotonic() - began < 10
        worker.close()

def test_a_worker_outlives_the_thread_that_asked_for_it():
    made = []
    thread = threading.Thread(target=lambda: made.append(Worker('mtd.sandbox:_echo')))
    thread.start(); thread.join(); time.sleep(0.2)
    assert made[0].ask(5, 10) == 5
    made[0].close()

@pytest.mark.skipif(not LINUX, reason='a parent\'s death is signalled by Linux')
def test_workers_end_with_their_parent_even_while_they_work():
    code = '''
import os, threading
from mtd.sandbox import Worker
made = []
t = threading.Thread(target=lambda: made.append(Worker('mtd.programs:_interpreter'))); t.start(); t.join()
pid = made[0].process.pid
if os.fork() == 0: # a copy of the parent that holds the pipes' other ends
    os.close(1); os.close(2); import time; time.sleep(5); os._exit(0)
made[0].send(dict(texts=['ans = 1'] * 20_000, timeout=60, memory=1 << 26, steps=10**9), 5)
print(pid, flush=True); os.kill(os.getpid(), 9)
'''
    pid = int(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=HOME).stdout)
    for _ in range(60):
        if not Path(f'/proc/{pid}').exists() or '\nState:\tZ' in Path(f'/proc/{pid}/status').read_text(): break
        time.sleep(0.05)
    else: pytest.fail('a worker outlived its parent')

def test_layers_are_what_they_say():
    assert set(layers()) <= set(LAYERS) and list(layers()) == [n for n in LAYERS if n in layers()] and layers() is layers()
    if LINUX and sandbox._MACHINE: assert NEEDED <= set(layers())
