"""The store: what acknowledged means under kills, full disks and damage; claims; migrations; exports; hostile files; the API key."""
import contextlib, io, json, os, random, signal, sqlite3, subprocess, sys, tempfile, threading, time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from mtd import store as module
from mtd.cli import main
from mtd.store import COLUMNS, Store, check_store, compact_store, export_store, import_store, row_of, salvage_store, summary
from mtd.teacher import Request

HERE, SECRET = 'https://api.example.com/v1', 'sk-this-key-must-never-be-stored-anywhere'
ASK = Request('shop/1', 'cot', [{'role': 'user', 'content': 'What is 2 + 2?'}], 'gpt-4o-mini')
BLANK = dict.fromkeys(COLUMNS, '') | dict(sample=0, created=0., usage='{}')
forks = pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system copies no processes')


def response(text='The answer is 4.', created=1, **more):
    return json.dumps({'id': 'x', 'created': created, 'choices': [{'finish_reason': 'stop', 'message': {'content': text}}],
                       'usage': {'prompt_tokens': 14, 'completion_tokens': 6}} | more)


def row(i=0, text='The answer is 4.', created=1, ask=ASK, **more):
    ask = replace(ask, sample=i)
    return row_of(ask, ask.key(HERE), HERE, response(text, created, **more), SECRET)


def started(code, *args, **how):
    return subprocess.Popen([sys.executable, '-c', code, *map(str, args)], stdout=subprocess.PIPE, text=True, **how)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path/'a'/'completions.sqlite') as s: yield s


# Stored means stored

WRITER = """
import itertools, os, sys
from mtd.store import COLUMNS, Store
blank, who = dict.fromkeys(COLUMNS, '') | dict(sample=0, created=0., usage='{}', response='x' * 1000), os.getpid()
store, size = Store(sys.argv[1]), int(sys.argv[2])
for i in itertools.count():
    store.put([blank | {'key': f'{who}-{i}-{k}'} for k in range(size)])
    os.write(1, f'{who}-{i}\\n'.encode())
"""


def killed_writers(path, moments, size):
    "Writers in pairs, each pair killed after so many seconds: the groups they said were stored."
    said = []
    for moment in moments:
        pair = [started(WRITER, path, size) for _ in range(2)]
        first = [p.stdout.readline() for p in pair]
        time.sleep(moment)
        for p in pair: p.kill()
        said += [line for p, f in zip(pair, first) for line in (f + p.communicate()[0]).splitlines(keepends=True) if line.endswith('\n')]
    return [line.strip() for line in said]


def assert_kept(path, said, size):
    with Store(path) as s: keys = {r['key'] for r in s.rows()}
    assert {f'{g}-{k}' for g in said for k in range(size)} <= keys, 'lost what was acknowledged'
    groups = {k.rpartition('-')[0] for k in keys}
    assert len(keys) == size * len(groups), 'a part of a group'
    with contextlib.closing(sqlite3.connect(path)) as db: assert db.execute('PRAGMA integrity_check').fetchone() == ('ok',)


def test_two_writers_killed_lose_nothing_acknowledged(tmp_path):
    said = killed_writers(tmp_path/'s', (0.0, 0.03, 0.1), 7)
    assert len(said) > 6
    assert_kept(tmp_path/'s', said, 7)


@pytest.mark.full
def test_writers_killed_at_sixty_moments(tmp_path):
    rng = random.Random(0)
    said = killed_writers(tmp_path/'s', [rng.random() / 5 for _ in range(60)], 16)
    assert_kept(tmp_path/'s', said, 16)


def test_a_group_that_fails_leaves_nothing_of_itself(store):
    with pytest.raises(KeyError): store.put([BLANK | {'key': 'a'}, {'key': 'b'}])
    with pytest.raises(ValueError): store.put([BLANK | {'key': 'a'}, BLANK | {'key': 'b', 'text': '\ud800'}])
    assert len(store) == 0 and store.put([]) == 0
    assert store.put([BLANK | {'key': 'a'}, BLANK | {'key': 'a', 'text': 'second'}, BLANK | {'key': 'b'}]) == 2 and store.get(['a'])['a']['text'] == ''


def test_processes_create_one_file_at_once_and_share_it(tmp_path):
    code = ("import sys; from mtd.store import Store, COLUMNS; sys.stdin.read()\n"
            "s, who = Store(sys.argv[1]), sys.argv[2]\n"
            "for i in range(30): s.put([dict.fromkeys(COLUMNS, '') | dict(key=k, text=who, sample=0, created=0., usage='{}') for k in (f'both-{i}', f'{who}-{i}')])")
    path = tmp_path/'shared.sqlite'
    runs = [started(code, path, who, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for who in 'abcd']
    for r in runs: r.stdin.close(); r.stdin = None # all begin now
    errors = [r.communicate()[1] for r in runs]
    assert [r.returncode for r in runs] == [0] * 4, errors
    with Store(path) as s: assert len(s) == 4 * 30 + 30 and len({r['text'] for r in s.rows()}) > 1


def test_threads_share_a_store(store):
    def work(who):
        for i in range(40):
            store.put([BLANK | {'key': f'{who}-{i}'}]); assert f'{who}-{i}' in store
            store.claim([f'c-{who}-{i}', 'one']); store.note(f'{who}', i)
        return store.get([f'{who}-0'])
    with ThreadPoolExecutor(6) as pool: assert all(pool.map(work, range(6)))
    assert len(store) == 240 and store.notes() == {str(k): 39 for k in range(6)}


# A disk that is full, a file that cannot be written

def test_a_full_database_loses_nothing_and_goes_on_when_there_is_room(store):
    store.put([row(0)])
    with store._writer as db: db.execute(f'PRAGMA max_page_count={db.execute("PRAGMA page_count").fetchone()[0] + 2}')
    with pytest.raises(OSError, match='no room to write .*stays; make room'): store.put([row(i, 'x' * 5000) for i in range(1, 20)])
    with pytest.raises(OSError, match='no room'): store.note('name', 'x' * 50_000)
    assert len(store) == 1 and store.notes() == {} and row(0)['key'] in store
    with store._writer as db: db.execute('PRAGMA max_page_count=1000000')
    assert store.put([row(i, 'x' * 5000) for i in range(1, 20)]) == 19 and check_store(store.path) == []


@forks
def test_a_file_that_may_not_grow(tmp_path):
    code = ("import resource, sys; from mtd.store import Store, COLUMNS\n"
            "s, blank = Store(sys.argv[1]), dict.fromkeys(COLUMNS, '') | dict(sample=0, created=0., usage='{}')\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)); n = 0\n"
            "try:\n"
            "    while True: s.put([blank | dict(key=f'{n}', text='x' * 9000)]); n += 1\n"
            "except OSError as e: print(n, 'run again' in str(e), len(s))")
    n, told, there = started(code, tmp_path/'s').communicate()[0].split()
    assert int(n) > 3 and told == 'True' and n == there
    with Store(tmp_path/'s') as s: assert len(s) == int(n)


def as_nobody(code, *args):
    "Run `code` in a process that is not root, whom permissions do not bind; it imports first, since its Python may be root's alone."
    first = 'import os, sys, filelock; from mtd.store import *; from mtd.store import COLUMNS\nif os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n'
    return subprocess.run([sys.executable, '-c', first + code, *map(str, args)], capture_output=True, text=True)


@pytest.fixture
def public(): # pytest's own folders are closed to others
    with tempfile.TemporaryDirectory() as folder: os.chmod(folder, 0o755); yield Path(folder)


@forks
def test_a_read_only_store_can_be_read_and_says_why_it_cannot_be_written(public):
    with Store(public/'s') as s: s.put([row(i) for i in range(3)])
    os.chmod(public/'s', 0o444); os.chmod(public, 0o555)
    code = ("s = Store(sys.argv[1]); print(len(s), len(list(s.rows())), check_store(sys.argv[1]))\n"
            "for do in (lambda: s.put([dict.fromkeys(COLUMNS, '') | dict(key='k', sample=0, created=0.)]), lambda: s.note('a', 1), lambda: s.claim(['k'])):\n"
            "    try: do()\n"
            "    except OSError as e: print(type(e).__name__, e)\n")
    done = as_nobody(code, public/'s')
    os.chmod(public, 0o755)
    lines = done.stdout.splitlines()
    assert lines, done.stderr
    assert lines[0] == '3 3 []' and len(lines) == 4 and all(line.startswith('PermissionError') for line in lines[1:]), done.stdout + done.stderr
    assert 'make the file and its folder writable' in lines[1]


@forks
def test_a_store_that_cannot_be_made(public):
    os.chmod(public, 0o555)
    done = as_nobody("try: Store(sys.argv[1])\nexcept OSError as e: print(e)", public/'new.sqlite')
    os.chmod(public, 0o755)
    assert 'cannot be opened' in done.stdout and 'permissions' in done.stdout, done.stderr
    with pytest.raises(OSError, match='cannot be opened'): Store(public)


def test_a_writer_that_never_ends_is_told(store, monkeypatch):
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute('BEGIN IMMEDIATE')
        with store._writer as db: db.execute('PRAGMA busy_timeout=50')
        with pytest.raises(TimeoutError, match='another process has been writing'): store.put([row()])
    assert store.put([row()]) == 1


# Files that are older, newer, damaged or something else

def old_file(path, n=5):
    "What the package wrote before files had a format: no `via`, no notes, `user_version` 0."
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute('PRAGMA journal_mode=WAL')
        db.execute("""CREATE TABLE IF NOT EXISTS completions (
  key TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL, problem_id TEXT NOT NULL, thought TEXT NOT NULL,
  sample INTEGER NOT NULL, request TEXT NOT NULL, response TEXT NOT NULL, text TEXT NOT NULL, refusal TEXT NOT NULL,
  finish_reason TEXT NOT NULL, usage TEXT NOT NULL, created REAL NOT NULL)""")
        rows = [row(i) for i in range(n)]
        db.executemany(f'INSERT INTO completions VALUES ({", ".join("?" * 13)})', [[r[c] for c in COLUMNS[:-1]] for r in rows])
        db.commit()
    return rows


def test_an_older_file_is_brought_up_to_date(tmp_path):
    rows = old_file(tmp_path/'old')
    assert check_store(tmp_path/'old') == []
    with Store(tmp_path/'old') as s:
        assert {r['key']: r for r in s.rows()} == {r['key']: r for r in rows} and s.get([rows[0]['key']])[rows[0]['key']]['via'] == 'chat'
        s.note('a', [1]); s.put([row(9) | {'via': 'batch'}])
        assert s.notes() == {'a': [1]} and len(s) == 6
    assert check_store(tmp_path/'old') == []


def test_processes_migrate_at_once(tmp_path):
    old_file(tmp_path/'old', 50)
    code = "import sys; from mtd.store import Store; sys.stdin.read(); print(len(Store(sys.argv[1])), len(Store(sys.argv[1]).notes()))"
    runs = [started(code, tmp_path/'old', stdin=subprocess.PIPE) for _ in range(4)]
    for r in runs: r.stdin.close(); r.stdin = None
    assert [r.communicate()[0].split() for r in runs] == [['50', '0']] * 4


@pytest.mark.parametrize('made, told', [
    (['CREATE TABLE completions (key TEXT, more TEXT)', 'PRAGMA user_version=2'], 'written by a newer mtd .*upgrade mtd'),
    (['CREATE TABLE bookmarks (url TEXT)'], 'no store of completions but something else'),
    (['CREATE TABLE bookmarks (url TEXT)', 'PRAGMA user_version=7'], 'no store of completions but something else'),
    (['CREATE TABLE completions (key TEXT, more TEXT)'], 'no store of completions but something else')])
def test_newer_and_foreign_databases_are_refused_and_untouched(tmp_path, made, told):
    path = tmp_path/'x.sqlite'
    with contextlib.closing(sqlite3.connect(path)) as db:
        for line in made: db.execute(line)
        db.commit()
    before = path.read_bytes()
    for open in (Store, check_store, compact_store):
        if open is check_store: assert len(open(path)) == 1
        else:
            with pytest.raises(ValueError, match=told): open(path)
    assert path.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ['x.sqlite']


def test_a_file_that_is_no_database_is_refused_and_untouched(tmp_path):
    for i, content in enumerate((b'hello ' * 100, b'x', bytes(5000))):
        path = tmp_path/f'{i}'
        path.write_bytes(content)
        with pytest.raises(ValueError, match='no store of completions.*give another path'): Store(path)
        assert path.read_bytes() == content and len(check_store(path)) == 1
    (tmp_path/'empty').touch()
    assert check_store(tmp_path/'empty') == []
    with Store(tmp_path/'empty') as s: assert s.put([row()]) == 1
    with pytest.raises(FileNotFoundError, match='no store at'): check_store(tmp_path/'nothing')


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp('sound')/'s'
    with Store(path) as s: s.put([row(i, f'The answer is {i}.') for i in range(150)])
    return path.read_bytes()


@pytest.mark.parametrize('seed', range(25))
def test_damage_is_found_told_and_survived(tmp_path, sound, seed):
    rng, path = random.Random(seed), tmp_path/'damaged'
    data, kind = bytearray(sound), seed % 5
    at = rng.randrange(100, len(data) - 5000) # the first hundred bytes are the header, which is another test
    if kind == 0: data[at:at + 4096] = rng.randbytes(4096)
    if kind == 1: data[at:at + 4096] = bytes(4096)
    if kind == 2: del data[len(data) // 4096 // 2 * 4096:]
    if kind == 3: data[at // 4096 * 4096:][:8]; data[at // 4096 * 4096:at // 4096 * 4096 + 8] = rng.randbytes(8)
    if kind == 4: data[4096:3 * 4096] = rng.randbytes(2 * 4096)
    path.write_bytes(data)
    found = check_store(path)
    assert found and all(isinstance(f, str) for f in found)
    try:
        with Store(path) as s: list(s.rows())
    except ValueError as e: assert 'is damaged' in str(e) and '--salvage' in str(e) or 'no store' in str(e)
    try: saved, refused = salvage_store(path, tmp_path/'new')
    except ValueError: return # the schema itself is gone
    assert check_store(tmp_path/'new') == []
    with Store(tmp_path/'new') as s: assert len(s) == saved and {(r['key'], r['text']) for r in s.rows()} <= {(row(i)['key'], f'The answer is {i}.') for i in range(150)}
    assert saved > 20 or kind in (2, 4), 'most rows are outside the damage'
    with pytest.raises(ValueError, match='exists'): salvage_store(path, tmp_path/'new')


def test_a_changed_row_is_found(tmp_path):
    for column, value in dict(text='5', refusal='no', finish_reason='length', usage='{"prompt_tokens": 1}', endpoint='e', model='m', sample=3, request='{}',
                              response='{}', key='0' * 64).items():
        path = tmp_path/column
        with Store(path) as s:
            s.put([row(0), row(1)])
            with s._writer as db: db.execute(f'UPDATE completions SET {column} = ? WHERE sample = 0', [value])
        found = check_store(path)
        assert len(found) == 1 and found[0].startswith('row '), (column, found)
        assert salvage_store(path, tmp_path/f'{column}.new') == (1, 1)


# Claims

def test_claims_are_exclusive_and_end_with_release_put_and_close(store):
    with Store(store.path) as other:
        assert store.claim(['a', 'b', 'c', 'a']) == {'a', 'b', 'c'} == store.claim(['a', 'b', 'c']), 'they are this store\'s already'
        assert other.claim(['a', 'b', 'c', 'd']) == {'d'}
        store.release(['a', 'never claimed', 'd'])
        assert other.claim(['a', 'd', 'b']) == {'a', 'd'}
        store.put([BLANK | {'key': 'b'}])
        assert other.claim(['b', 'c']) == set() and store.claim(['b']) == set(), 'stored is not claimed'
        other.put([BLANK | {'key': 'c'}]) # bought by another all the same
        assert store.claim(['c']) == set()
        assert other.claim([]) == set()
    assert store.claim(['a', 'd']) == {'a', 'd'}, 'closing gives back'
    assert list(store.path.with_name(store.path.name + '.claims').glob('*.lock')).__len__() == 1
    third = Store(store.path); third.claim(['z']); del third
    assert store.claim(['z']) == {'z'}, 'a store that nobody holds claims nothing'


CLAIMER = """
import sys, time
from mtd.store import Store
s = Store(sys.argv[1]); print(len(s.claim(sys.argv[2].split())), flush=True)
time.sleep(60)
"""


def test_a_killed_process_gives_its_claims_back_at_once(store):
    other = started(CLAIMER, store.path, 'a b')
    assert other.stdout.readline() == '2\n' and store.claim(['a', 'b', 'c']) == {'c'}
    other.send_signal(signal.SIGKILL if os.name == 'posix' else signal.SIGTERM); other.wait()
    assert store.claim(['a']) == {'a'}
    again = started(CLAIMER, store.path, 'a b')
    assert again.stdout.readline() == '1\n'
    again.kill(); again.wait()


BUYER = """
import random, sys
from mtd.store import COLUMNS, Store
sys.stdin.read()
s, keys, blank = Store(sys.argv[1]), [f'{i}' for i in range(300)], dict.fromkeys(COLUMNS, '') | dict(sample=0, created=0., usage='{}')
random.seed(sys.argv[2]); random.shuffle(keys)
while keys:
    some, keys = keys[:7], keys[7:]
    mine = s.claim(some)
    for k in sorted(mine): print(k)
    s.put([blank | {'key': k} for k in mine])
    keys += [k for k in some if k not in mine and k not in s]
"""


def test_many_processes_buy_everything_once(tmp_path):
    runs = [started(BUYER, tmp_path/'s', k, stdin=subprocess.PIPE) for k in range(4)]
    for r in runs: r.stdin.close(); r.stdin = None
    bought = [k for r in runs for k in r.communicate()[0].split()]
    assert sorted(bought) == sorted(f'{i}' for i in range(300)), 'bought twice, or not at all'
    with Store(tmp_path/'s') as s: assert len(s) == 300


@forks
def test_a_forked_copy_is_an_owner_of_its_own_and_frees_nothing_of_its_parents(store):
    store.claim(['a'])
    r, w = os.pipe()
    if not (pid := os.fork()):
        try: os.write(w, repr(sorted(store.claim(['a', 'b']))).encode()); store.put([BLANK | {'key': 'child'}]); store.close()
        finally: os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(r, 100) == b"['b']" and 'child' in store
    with Store(store.path) as other: assert other.claim(['a', 'b']) == {'b'}, 'the copy is gone, its parent is not'
    os.close(r); os.close(w)


@forks
def test_a_copy_that_outlives_its_parent_does_not_keep_its_claims(store):
    code = ("import os, sys, time; from mtd.store import Store\n"
            "s = Store(sys.argv[1]); s.claim(['a'])\n"
            "if os.fork() == 0: time.sleep(60)\n"
            "print('ready', flush=True); time.sleep(60)")
    parent = started(code, store.path, start_new_session=True)
    parent.stdout.readline()
    assert store.claim(['a']) == set()
    parent.kill(); parent.wait()
    assert store.claim(['a']) == {'a'}
    os.killpg(parent.pid, signal.SIGKILL)


@forks
def test_what_a_copy_commits_after_its_parent_closed_is_there(store):
    store.put([BLANK | {'key': 'parent'}])
    (go_r, go_w), (in_r, in_w) = os.pipe(), os.pipe()
    if not (pid := os.fork()):
        try:
            assert len(store) == 1
            os.write(in_w, b'x'); os.read(go_r, 1)
            for i in range(5): store.put([BLANK | {'key': f'child-{i}'}])
        finally: os.kill(os.getpid(), signal.SIGKILL)
    os.read(in_r, 1); store.close(); os.write(go_w, b'x'); os.waitpid(pid, 0)
    with Store(store.path) as s: assert len(s) == 6, 'the log went away under the copy'
    for fd in (go_r, go_w, in_r, in_w): os.close(fd)


@forks
def test_copies_are_made_while_threads_write(store):
    stop, n = threading.Event(), [0]
    def write():
        while not stop.is_set(): store.put([BLANK | {'key': f't-{n[0]}'}]); store.claim([f'c-{n[0]}']); n[0] += 1
    threads = [threading.Thread(target=write) for _ in range(1)] + [threading.Thread(target=lambda: [list(store.rows()) for _ in iter(stop.is_set, True)])]
    for t in threads: t.start()
    for i in range(15):
        if not (pid := os.fork()):
            try: os._exit(0 if store.put([BLANK | {'key': f'f-{i}'}]) and len(store) else 1)
            finally: os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0
    stop.set()
    for t in threads: t.join()
    assert len(store) == n[0] + 15 and check_sqlite(store.path)


def check_sqlite(path):
    with contextlib.closing(sqlite3.connect(path)) as db: return db.execute('PRAGMA integrity_check').fetchone() == ('ok',)


def test_a_closed_store_says_so(store):
    store.close(); store.close()
    for use in (lambda: store.put([row()]), lambda: len(store), lambda: store.claim(['a']), lambda: list(store.rows()), lambda: store.notes()):
        with pytest.raises(ValueError, match='is closed: open it again'): use()
