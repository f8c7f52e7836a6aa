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
            "for k in range(60): Store(f'{sys.argv[1]}.{k}').close()\n"
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
    deadline = time.monotonic() + 20 # the copy lets go as soon as it runs
    while not (won := store.claim(['a'])) and time.monotonic() < deadline: time.sleep(0.01)
    assert won == {'a'}
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


# Out and in again

def ways(tmp_path): return [tmp_path/'out.jsonl', tmp_path/'out.parquet']


TIMES = dict(created=0, created_at='2024-01-01', total_duration=17, timings={'prompt_ms': 3}, x_groq={'id': 'r', 'usage': {'queue_time': 0.1, 'promptTime': 2}},
             usage={'prompt_tokens': 14, 'completion_tokens': 6, 'total_time': 3}, time_info=[{'latency': 3, 'kept': 1}], expiresAt=9)
texts = st.text(st.characters(blacklist_categories=('Cs',)), max_size=60)


@settings(max_examples=15)
@given(st.lists(texts, min_size=1, max_size=4), st.randoms(use_true_random=False), texts)
def test_equal_contents_make_equal_files_and_come_back_the_same(said, rng, system):
    ask = replace(ASK, messages=[{'role': 'system', 'content': system}, *ASK.messages])
    with tempfile.TemporaryDirectory() as folder:
        folder, order = Path(folder), list(range(len(said)))
        with Store(folder/'a') as a, Store(folder/'b') as b, Store(folder/'c') as c:
            a.put([row(i, text, ask=ask) for i, text in enumerate(said)])
            rng.shuffle(order)
            for i in order: b.put([row(i, said[i], ask=ask, **TIMES | dict(created_at=rng.random(), created=rng.random()))])
            b_only = [export_store(b, path) for path in ways(folder)]
            first = [p.read_bytes() for p in ways(folder)]
            assert import_store(c, ways(folder)[rng.randrange(2)]) == dict(added=len(said), present=0, different=0)
            for path in ways(folder): assert import_store(c, path)['present'] == len(said) == export_store(c, path) == b_only[0]
            assert [p.read_bytes() for p in ways(folder)] == first
            assert [r['text'] for r in sorted(c.rows(), key=lambda r: r['sample'])] == said and list(map(itself, a.rows())) == list(map(itself, c.rows()))
        assert check_store(folder/'c') == []


def itself(r): return {k: r[k] for k in COLUMNS if k not in ('created', 'response')} | {'usage': json.loads(r['usage'])}


def test_exports_hold_no_times_and_are_ordered(store, tmp_path):
    store.put([row(i, **TIMES | dict(created=i)) for i in range(600)])
    assert export_store(store, tmp_path/'out.jsonl') == 600
    lines = [json.loads(line) for line in (tmp_path/'out.jsonl').read_text().splitlines()]
    assert [r['key'] for r in lines] == sorted(r['key'] for r in lines) and list(lines[0]) == [c for c in COLUMNS if c != 'created']
    assert json.loads(lines[0]['response']) == {'id': 'x', 'choices': [{'finish_reason': 'stop', 'message': {'content': 'The answer is 4.'}}],
                                                'usage': {'prompt_tokens': 14, 'completion_tokens': 6}, 'x_groq': {'id': 'r', 'usage': {}}}
    assert json.loads(lines[0]['usage']) == {'prompt_tokens': 14, 'completion_tokens': 6}
    import pyarrow.parquet as pq
    export_store(store, tmp_path/'out.parquet')
    assert pq.read_table(tmp_path/'out.parquet').to_pylist() == lines


@pytest.mark.parametrize('name, time', [('created', True), ('createdAt', True), ('eval_duration', True), ('prompt_ms', True), ('tokens_per_second', True),
                                        ('timestamp', True), ('X-Response-Time', True), ('content', False), ('prompt_tokens', False), ('model', False),
                                        ('finish_reason', False), ('message', False), ('items', False), ('format', False), ('estimates', False), ('at_home', False)])
def test_what_is_a_time(name, time): assert module._is_time(name) is time


def test_filters_and_the_summary(store, tmp_path):
    asks = [replace(ASK, thought=t, model=m, problem_id=f'p/{k}') for t in ('cot', 'pot') for m in ('m1', 'm2') for k in range(2)]
    store.put([row_of(replace(a, messages=[{'role': 'user', 'content': f'{a}'}]), f'{i:064}', HERE, response(), '') for i, a in enumerate(asks)])
    store.put([row_of(ASK, 'f' * 64, 'elsewhere', json.dumps({'choices': [{'finish_reason': 'length', 'message': {'content': 'x', 'refusal': 'no'}}]}), '')])
    assert export_store(store, tmp_path/'o.jsonl', thought='pot', model='m1', endpoint=None) == 2 == len(list(store.rows(thought='pot', model='m1')))
    assert {r['endpoint'] for r in store.rows(endpoint=HERE)} == {HERE} and list(store.rows(model="m1' OR 1")) == []
    found = summary(store)
    assert [r['completions'] for r in found] == [1, 2, 2, 2, 2] and sum(r['tokens'] for r in found) == 8 * 20
    assert found[0] | {'refused': 1, 'cut': 1, 'tokens': 0, 'endpoint': 'elsewhere'} == found[0]
    for use in (lambda: list(store.rows(colour='red')), lambda: summary(store, colour='red')):
        with pytest.raises(ValueError, match="no 'colour'; its columns are key, endpoint"): use()


def test_an_export_is_whole_or_not_there(store, tmp_path):
    store.put([row(i) for i in range(3)])
    for path in ways(tmp_path):
        path.write_text('old')
        with pytest.raises(ValueError, match="no 'colour'"): export_store(store, path, colour='red')
        assert path.read_text() == 'old'
    with pytest.raises(ValueError, match='neither in .jsonl nor in .parquet'): export_store(store, tmp_path/'out.csv')
    (tmp_path/'a folder.jsonl').mkdir()
    with pytest.raises(OSError, match='a folder.jsonl cannot be written .*the store is as it was'): export_store(store, tmp_path/'a folder.jsonl')
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ['out.jsonl', 'out.parquet']


def test_reading_goes_on_while_others_write(store):
    store.put([BLANK | {'key': f'{i:05}'} for i in range(0, 3000, 2)])
    seen = []
    for i, r in enumerate(store.rows()):
        seen.append(r['key'])
        if i % 100 == 0: store.put([BLANK | {'key': f'{2 * i + 1001:05}'}])
    assert seen == sorted(set(seen)) and {f'{i:05}' for i in range(0, 3000, 2)} <= set(seen) and len(seen) > 1500


def lies():
    r = {k: v for k, v in row().items() if k != 'created'}
    body = json.loads(r['request'])
    yield 'key', r | dict(key='0' * 64)
    yield 'key', r | dict(key=r['key'][:12])
    yield 'key', r | dict(endpoint='http://127.0.0.1/v1')
    yield 'key', r | dict(sample=1)
    yield 'key', r | dict(request=json.dumps(body | {'temperature': 1.0}))
    yield 'request', r | dict(request=json.dumps(body | {'sample': 0, 'endpoint': HERE}), endpoint='another')
    yield 'request', r | dict(request='[]')
    yield 'no JSON', r | dict(request='[' * 100_000)
    yield 'no JSON', r | dict(usage='9' * 10_000)
    yield 'no JSON', r | dict(request='{')
    yield 'model', r | dict(model='gpt-9')
    yield 'text', r | dict(text='The answer is 5.')
    yield 'refusal', r | dict(refusal='no')
    yield 'finish_reason', r | dict(finish_reason='length')
    yield 'usage', r | dict(usage='{"prompt_tokens": 1}')
    yield 'no chat completion', r | dict(response='{}')
    yield 'no chat completion', r | dict(response='[' * 100_000)
    yield 'sample', r | dict(sample=True)
    yield 'sample', r | dict(sample=-1)
    yield 'sample', r | dict(sample='0')
    yield 'text', r | dict(text=None)
    yield "'colour'", r | dict(colour='red')
    yield "'via'", {k: v for k, v in r.items() if k != 'via'}
    yield 'object', [r]
    yield 'object', 3


@pytest.mark.parametrize('told, lie', list(lies()))
def test_a_row_that_lies_is_refused_with_its_number_and_the_whole_file_with_it(store, tmp_path, told, lie):
    with Store(tmp_path/'other') as other:
        other.put([row(i) for i in range(1, 4)]); export_store(other, tmp_path/'in.jsonl')
    with open(tmp_path/'in.jsonl', 'a') as f: f.write(json.dumps(lie) + '\n')
    with pytest.raises(ValueError, match=f'in.jsonl, line 4: .*{told}.*Nothing was imported'): import_store(store, tmp_path/'in.jsonl')
    assert len(store) == 0


def test_broken_files_are_refused_whole(store, tmp_path):
    with Store(tmp_path/'other') as other:
        other.put([row(i) for i in range(40)])
        for path in ways(tmp_path): export_store(other, path)
    lines, table, rng = *(p.read_bytes() for p in ways(tmp_path)), random.Random(0)
    cases = [('x.jsonl', lines[:-30]), ('x.jsonl', lines + b'\xff\xfe\n'), ('x.jsonl', b'[' * 200_000), ('x.jsonl', rng.randbytes(5000)), ('x.jsonl', table)]
    cases += [('x.parquet', table[:n]) for n in (0, 3, 100, len(table) // 2, len(table) - 1)] + [('x.parquet', rng.randbytes(5000)), ('x.parquet', lines)]
    for k in range(30):
        at = rng.randrange(4, len(table) - 50)
        cases.append(('x.parquet', table[:at] + rng.randbytes(40) + table[at + 40:]))
    with Store(tmp_path/'whole') as whole: import_store(whole, ways(tmp_path)[1]); true = {r['key']: itself(r) for r in whole.rows()}
    for name, data in cases:
        (tmp_path/name).write_bytes(data)
        try: import_store(store, tmp_path/name)
        except ValueError as e: assert str(e).endswith('Nothing was imported') and name in str(e)
    assert all(itself(r)['text'] == true[r['key']]['text'] for r in store.rows()), 'bytes that were changed made an answer'
    with Store(tmp_path/'clean') as clean:
        for name, data in cases[:10]:
            (tmp_path/name).write_bytes(data)
            with pytest.raises(ValueError, match='Nothing was imported'): import_store(clean, tmp_path/name)
        assert len(clean) == 0
    with pytest.raises(ValueError, match='neither in .jsonl'): import_store(store, tmp_path/'x.csv')
    with pytest.raises(FileNotFoundError, match='no file'): import_store(store, tmp_path/'nothing.jsonl')


def test_a_conflict_is_counted_and_the_stored_row_stays(store, tmp_path):
    with Store(tmp_path/'other') as other:
        other.put([row(0), row(1, 'The answer is 5.'), row(2)]); export_store(other, tmp_path/'in.jsonl')
    store.put([row(0, created=99), row(1)])
    for expected in (dict(added=1, present=1, different=1), dict(added=0, present=2, different=1)):
        assert import_store(store, tmp_path/'in.jsonl') == expected
    assert store.get([row(1)['key']])[row(1)['key']]['text'] == 'The answer is 4.'
    data = (tmp_path/'in.jsonl').read_text().splitlines(keepends=True)
    (tmp_path/'in.jsonl').write_text(data[0] * 2)
    with Store(tmp_path/'third') as third: assert import_store(third, tmp_path/'in.jsonl') == dict(added=1, present=1, different=0)


def test_huge_rows(store, tmp_path):
    store.put([row(0, 'é\x00\u2028' * 600_000), row(1)])
    assert len(store.get([row(0, '')['key']])[row(0, '')['key']]['text']) == 1_800_000
    for path in ways(tmp_path):
        assert export_store(store, path) == 2 == import_store(store, path)['present']
    with pytest.raises(ValueError, match='lower max_tokens'): row_of(ASK, 'k', HERE, ' ' * (module.LARGEST + 1), SECRET)


FLAT = """
import resource, sys
from mtd.store import COLUMNS, Store, _write_lines, _write_parquet, summary
n, s, blank = int(sys.argv[2]), Store(sys.argv[1]), dict.fromkeys(COLUMNS, '') | dict(sample=0, created=0., usage='{}')
for i in range(0, n, 1000): s.put([blank | {'key': f'{(i + k) * 7919 % 10**9:064}', 'text': f'{i + k} ' * 60} for k in range(1000)])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert sum(1 for _ in s.rows()) == n == summary(s)[0]['completions'] == _write_lines(sys.argv[1] + '.out', s.rows())
print(before // 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def flat(tmp_path, n):
    pytest.importorskip('resource')
    before, after = map(int, started(FLAT, tmp_path/'s', n).communicate()[0].split())
    assert after - before < 40, 'megabytes'


def test_reading_and_writing_out_take_the_memory_of_a_page(tmp_path): flat(tmp_path, 60_000)


@pytest.mark.full
def test_a_million_rows_take_the_memory_of_a_page(tmp_path): flat(tmp_path, 1_000_000)


# The API key

def hidden(secret, rng): return ''.join(f'\\u{ord(c):04x}' if rng.random() < 0.3 else json.dumps(c)[1:-1].replace('/', rng.choice(['/', '\\/'])) for c in secret)


@settings(max_examples=100)
@given(st.text(st.characters(codec='ascii', categories=('L', 'N', 'P', 'S')), min_size=16, max_size=60), st.randoms(use_true_random=False))
def test_the_key_is_in_no_column_however_it_is_echoed(secret, rng):
    if secret.lower() in (response() + json.dumps(ASK.body())).lower(): return
    raw = response('Your key: @. Bye.', system_fingerprint='@', **{'@': 1}).replace('@', hidden(secret, rng))
    r = row_of(ASK, ASK.key(HERE), HERE, raw, secret)
    assert r['text'] == 'Your key: [api key]. Bye.'
    assert not any(secret in str(v) or (c in ('request', 'response', 'usage') and secret in str(json.loads(v))) for c, v in r.items())


def test_the_key_is_in_no_file_and_no_error(store):
    store.put([row_of(ASK, ASK.key(HERE), HERE, response(f'Hello {SECRET}'), SECRET)])
    held = b''.join(p.read_bytes() for p in store.path.parent.iterdir() if p.is_file())
    assert b'Hello [api key]' in held and SECRET.encode() not in held
    with pytest.raises(ValueError, match=r'no chat completion.*\[api key\]') as e: row_of(ASK, 'k', HERE, json.dumps({'error': SECRET}), SECRET)
    assert SECRET not in str(e.value)
    for ask, endpoint, column in ((replace(ASK, messages=[{'role': 'user', 'content': SECRET}]), HERE, 'request'), (ASK, f'{HERE}/{SECRET}', 'endpoint')):
        with pytest.raises(ValueError, match=f'stands in the {column} itself') as e: row_of(ask, 'k', endpoint, response(), SECRET)
        assert SECRET not in str(e.value)


@pytest.mark.parametrize('key', ['none', 'EMPTY', 'ollama', 'lm-studio', 'not-needed', '12345678', ''])
def test_a_word_is_no_secret(key):
    assert row_of(ASK, 'k', HERE, response(f'Say {key}'), key)['text'] == f'Say {key}'


def test_a_short_key_is_a_secret(): assert row_of(ASK, 'k', HERE, response('token-abc123'), 'token-abc123')['text'] == '[api key]'


@pytest.mark.parametrize('raw', ['', '{}', '[]', 'null', '3', '{"choices": []}', '{"choices": [{}]}', '{"choices": [{"message": null}]}', '<html>', '[' * 100_000,
                                 '{"choices": [{"message": {"content": ["a"]}}]}', '{"choices": [{"message": {"content": 3}}]}', '{"choices": {"0": 1}}', '9' * 5000])
def test_what_is_no_completion_is_refused(raw):
    with pytest.raises(ValueError, match='no chat completion'): row_of(ASK, 'k', HERE, raw, SECRET)


def test_odd_but_good_responses():
    cut = row_of(ASK, 'k', HERE, '{"choices": [{"message": {"content": null, "refusal": "I will not"}, "finish_reason": null}], "usage": null}', SECRET)
    assert (cut['text'], cut['refusal'], cut['finish_reason'], cut['usage'], cut['via']) == ('', 'I will not', '', '{}', 'chat')
    assert row_of(ASK, 'k', HERE, response('half \ud83d'), SECRET)['text'] == 'half ?' and row_of(ASK, 'k', HERE, response(), SECRET, 'batch')['via'] == 'batch'


# The command

def told(*argv):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err): status = main(['store', *map(str, argv)])
    return status, out.getvalue(), err.getvalue()


def test_the_command_lists_exports_imports_checks_and_compacts(tmp_path):
    path, other, out = tmp_path/'s.sqlite', tmp_path/'t.sqlite', tmp_path/'out.parquet'
    with Store(path) as s: s.put([row(0), row(1), row(ask=replace(ASK, thought='pot', model='m'))])
    status, said, _ = told('list', '--store', path)
    assert status == 0 and said.count('\n') == 3 and 'cot' in said and 'prompt_tokens' in said
    assert [r['completions'] for r in json.loads(told('list', '--json', '--model', 'm', '--store', path)[1])] == [1]
    assert told('list', '--model', 'none', '--store', path) == (0, 'no completions\n', '') and told('list', '--model', 'none', '--store', path, '--json')[1] == '[]\n'
    assert json.loads(told('export', out, '--thought', 'cot', '--json', '--store', path)[1])['rows'] == 2
    assert json.loads(told('import', out, '--store', other, '--json')[1]) == dict(added=2, present=0, different=0)
    assert told('import', out, '--store', path)[1] == '0 added, 2 were there, 0 differ from what is there, which stays\n'
    assert told('check', '--store', path) == (0, f'{path} is sound\n', '')
    assert {*json.loads(told('compact', '--json', '--store', path)[1])} == {'before', 'after'}
    with Store(path) as s, s._writer as db: db.execute("UPDATE completions SET text = '5' WHERE sample = 1")
    status, said, _ = told('check', '--json', '--store', path, '--salvage', tmp_path/'new.sqlite')
    found = json.loads(said)
    assert status == 1 and len(found['findings']) == 1 and (found['saved'], found['refused']) == (2, 1) and told('check', '--store', tmp_path/'new.sqlite')[0] == 0
    assert told('check', '--store', path)[0] == 1


def test_the_command_says_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for verb in (['list'], ['check'], ['compact'], ['export', 'o.jsonl']):
        assert told(*verb) == (2, '', 'mtd: there is no store at runs/completions.sqlite: name one with --store, or run `mtd run` first\n')
    assert told('import', 'o.jsonl')[0] == 2
    (tmp_path/'text').write_text('hello ' * 100)
    for verb in (['list'], ['compact'], ['export', 'o.jsonl'], ['import', 'o.jsonl']):
        status, said, error = told(*verb, '--store', 'text')
        assert status == 2 and not said and error.startswith('mtd: ') and error.count('\n') == 1
    assert told('check', '--store', 'text')[0] == 1 and told('export', 'o.csv', '--store', 'text')[0] == 2
    with pytest.raises(SystemExit) as e: told('frobnicate')
    assert e.value.code == 2


def test_compacting_gives_room_back_and_keeps_everything(tmp_path):
    with Store(tmp_path/'s') as s:
        s.put([row(i, 'x' * 2000) for i in range(300)])
        with s._writer as db: db.execute('DELETE FROM completions WHERE sample >= 20')
        s.note('a', 1); s.claim(['k'])
        before, after = compact_store(tmp_path/'s')
        assert after < before / 3 and len(s) == 20 and s.put([row(999)]) == 1 and s.notes() == {'a': 1}
    assert check_store(tmp_path/'s') == []
