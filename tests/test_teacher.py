"""The teacher's client and store, over real HTTP against real servers: what is bought, kept, refused and survived."""
import asyncio, http.server, json, signal, sqlite3, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import pytest

from mtd.core import Problem, find_file
from mtd.lab import lab_stories
from mtd.lab_server import LabTeacher
from mtd.pacing import Pace
from mtd.prices import usage_cost
from mtd.store import Store
from mtd.teacher import (MissingCompletion, Request, TeacherError, annotations, ask_lab, collect, complete, endpoint_identity, make_requests, recorded)

PROBLEMS = [s.problem for s in lab_stories('train', 20)]
REQUESTS = make_requests(PROBLEMS, ('cot', 'pot', 'eot'), 'lab-teacher-1', shots=2)
KEY = 'sk-this-key-must-never-be-stored-anywhere'


@pytest.fixture(scope='module')
def teacher():
    with LabTeacher() as t: yield t


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path/'a'/'completions.sqlite') as s: yield s


ONCE = Pace(attempts=1)


def buy(requests, store, teacher, **how): return complete(requests, store, teacher.base_url, KEY, endpoint=teacher.endpoint, progress=False, **how)


class Script(http.server.BaseHTTPRequestHandler):
    "A real server whose answers a test writes: `script(number of the request, body) -> (status, bytes, headers)`."
    protocol_version, disable_nagle_algorithm = 'HTTP/1.1', True # head and body go out as they are written
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        with self.server.lock: n, self.server.n = self.server.n, self.server.n + 1
        status, said, headers = self.server.script(n, body)
        if status is None: self.close_connection = True; return
        self.send_response(status)
        for name, value in {'Content-Type': 'application/json', 'Content-Length': str(len(said)), **headers}.items(): self.send_header(name, value)
        self.end_headers(); self.wfile.write(said)
    def log_message(self, *args): pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size, daemon_threads = 256, True # the default holds five connections and resets the sixth
    def handle_error(self, *args): pass # a client that hangs up is part of these tests


@pytest.fixture
def scripted():
    servers = []
    def start(script):
        server = Server(('127.0.0.1', 0), Script)
        server.script, server.n, server.lock = script, 0, threading.Lock()
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        servers.append(server)
        server.url = f'http://127.0.0.1:{server.server_address[1]}/v1'
        return server
    yield start
    for s in servers: s.shutdown(); s.server_close()


def says(text, **message):
    choice = {'index': 0, 'finish_reason': 'stop', 'message': {'role': 'assistant', 'content': text} | message}
    return 200, json.dumps({'id': 'x', 'object': 'chat.completion', 'created': 1, 'model': 'm', 'choices': [choice],
                            'usage': {'prompt_tokens': 10, 'completion_tokens': 5, 'total_tokens': 15}}).encode(), {}


def asks(n, model='m'): return [Request(f'p/{i}', 'cot', [{'role': 'user', 'content': f'question {i}'}], model) for i in range(n)]


def test_key_holds_what_determines_the_answer_and_nothing_else():
    r = REQUESTS[0]
    same = [replace(r, problem_id='other'), replace(r, thought='pot'), replace(r, temperature=0), replace(r, messages=[dict(m) for m in r.messages])]
    assert {x.key('e') for x in same} == {r.key('e')} and len(r.key('e')) == 64
    other = [replace(r, model='b'), replace(r, temperature=0.5), replace(r, top_p=0.9), replace(r, max_tokens=9), replace(r, seed=1), replace(r, seed=None),
             replace(r, sample=1), replace(r, messages=r.messages[1:]), replace(r, messages=[{'role': 'system', 'content': 'new'}, *r.messages[1:]])]
    assert len({x.key('e') for x in [r, *other]} | {r.key('f')}) == len(other) + 2
    code = "from mtd.teacher import Request; print(Request('p', 't', [{'role': 'user', 'content': 'é'}], 'm').key('e'))"
    printed = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env={'PYTHONHASHSEED': '7', 'PATH': ''}).stdout.strip()
    assert printed == Request('q', 'u', [{'role': 'user', 'content': 'é'}], 'm').key('e')


@pytest.mark.parametrize('url, identity', [
    ('https://api.openai.com/v1/', 'https://api.openai.com/v1'), ('HTTPS://API.openai.com:443/v1', 'https://api.openai.com/v1'),
    ('http://me:secret@host:8000/v1?key=1', 'http://host:8000/v1'), ('http://[::1]:80/v1', 'http://[::1]/v1')])
def test_endpoints_have_one_form(url, identity): assert endpoint_identity(url) == identity


def test_a_bad_url_or_no_key_is_refused_before_anything_is_asked(store):
    for url in ('api.openai.com/v1', '', 'ftp://host/v1'):
        with pytest.raises(ValueError, match='no base URL'): complete(asks(1), store, url, KEY)
    with pytest.raises(ValueError, match='no API key'): complete(asks(1), store, 'http://127.0.0.1:9/v1', '')


def test_completions_come_in_the_order_of_the_requests_and_a_rerun_buys_nothing(store, teacher):
    before = teacher.stats()['completions']
    answers = buy(REQUESTS + REQUESTS[:5], store, teacher, pace=Pace(7))
    assert [(c.problem_id, c.thought) for c in answers] == [(r.problem_id, r.thought) for r in REQUESTS + REQUESTS[:5]]
    assert teacher.stats()['completions'] - before == len(REQUESTS) == len(store), 'identical requests are asked once'
    assert buy(REQUESTS[::-1], store, teacher).completions == answers.completions[:len(REQUESTS)][::-1]
    assert teacher.stats()['completions'] - before == len(REQUESTS)
    buy(make_requests(PROBLEMS[:3], ('cot',), 'lab-teacher-1', shots=1), store, teacher)
    assert teacher.stats()['completions'] - before == len(REQUESTS) + 3, 'another prompt is another question'


def test_it_runs_inside_a_running_event_loop(store, teacher):
    async def notebook(): return buy(REQUESTS[:6], store, teacher)
    assert len(asyncio.run(notebook())) == 6


def test_the_api_key_is_nowhere_in_the_store_or_in_errors(store, teacher, scripted):
    buy(REQUESTS[:6], store, teacher)
    server = scripted(lambda n, body: (200, json.dumps({'choices': [{'message': {'content': f'your key is {KEY}'}}]}).encode(), {}) if n else
                      (401, json.dumps({'error': {'message': f'Incorrect API key {KEY}'}}).encode(), {}))
    answers = complete(asks(4), store, server.url, KEY, progress=False, pace=Pace(1, attempts=1))
    assert len(answers) == 3 and 'HTTP 401' in answers.failures[0]['reason'] and KEY not in str(answers.failures)
    server.script = lambda n, body: (401, json.dumps({'error': {'message': f'Incorrect API key {KEY}'}}).encode(), {})
    with pytest.raises(TeacherError) as e: complete(asks(30, 'k'), store, server.url, KEY, progress=False, pace=ONCE)
    assert KEY not in str(e.value) + str(e.value.failures)
    with store._writer as db: db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    held = b''.join(p.read_bytes() for p in store.path.parent.iterdir() if p.is_file())
    assert b'question' in held and KEY.encode() not in held and b'Authorization' not in held
    raw = [r['response'] for r in store.rows()]
    assert KEY not in str(raw), 'not even where the server itself repeats it'


def test_an_api_key_in_a_prompt_is_seen_before_anything_is_sent(store, scripted):
    server = scripted(lambda n, body: says('The answer is 1.'))
    told = [replace(r, messages=[{'role': 'system', 'content': f'My key is {KEY}.'}, *r.messages]) for r in asks(3)]
    with pytest.raises(ValueError, match='API key stands in') as e: complete(told, store, server.url, KEY, progress=False)
    assert server.n == 0 and KEY not in str(e.value)


def test_one_bad_answer_never_stops_the_others_and_a_rerun_asks_only_for_the_failed(store, scripted):
    bad = {3: (400, b'{"error": {"message": "too long"}}', {}), 5: (200, b'{"choices": []}', {}), 7: (200, b'not json', {}), 9: (None, b'', {}),
           11: (200, b'{"choices": [{"message": {"content": [1]}}]}', {}), 13: (200, b'{"choices": [{"message": null}]}', {}), 15: (200, b'[]', {})}
    def script(n, body):
        i = int(body['messages'][0]['content'].split()[-1])
        return bad.get(i) or says(f'The answer is {i}.')
    server = scripted(script)
    answers = complete(asks(40), store, server.url, KEY, progress=False, pace=ONCE)
    assert [c.text for c in answers] == [f'The answer is {i}.' for i in range(40) if i not in bad]
    assert {f['problem_id'] for f in answers.failures} == {f'p/{i}' for i in bad}
    reasons = {f['problem_id']: f['reason'] for f in answers.failures}
    assert 'too long' in reasons['p/3'] and 'no chat completion' in reasons['p/5'] and 'no chat completion' in reasons['p/7'] and 'no connection' in reasons['p/9']
    assert all('no chat completion' in reasons[f'p/{i}'] for i in (11, 13, 15))
    asked, fails, bad = server.n, len(bad), {}
    again = complete(asks(40), store, server.url, KEY, progress=False, pace=ONCE)
    assert server.n - asked == fails and len(again) == 40 and not again.failures


def test_a_busy_server_is_asked_again(store, scripted):
    server = scripted(lambda n, body: (429, b'{"error": {"message": "slow down"}}', {'Retry-After': '0'}) if n < 3 else says('The answer is 1.'))
    answers = complete(asks(5), store, server.url, KEY, progress=False, pace=Pace(2))
    assert len(answers) == 5 and not answers.failures and server.n == 8


def test_refused_empty_and_cut_answers(store, scripted):
    kinds = [says(None, refusal='I do not do sums.'), says(''), says('The answer is')]
    server = scripted(lambda n, body: kinds[int(body['messages'][0]['content'].split()[-1])])
    answers = complete(asks(3), store, server.url, KEY, progress=False)
    assert [c.problem_id for c in answers] == ['p/2'] and answers.reasons()['cot', 'refused: I do not do sums.'] == 1
    assert 'empty' in answers.failures[1]['reason']
    complete(asks(3), store, server.url, KEY, progress=False)
    assert server.n == 3, 'a refusal was paid for and is not asked again'


def test_odd_characters_are_kept(store, scripted):
    said = ['The answer is \u221212 \U0001f600.', 'a null \x00 inside', '\ud83d half a pair']
    server = scripted(lambda n, body: says(said[int(body['messages'][0]['content'].split()[-1])]))
    assert [c.text for c in complete(asks(3), store, server.url, KEY, progress=False)] == [*said[:2], '? half a pair']


def test_a_dead_endpoint_is_told_quickly_and_the_store_keeps_what_it_has(store, teacher):
    buy(REQUESTS[:6], store, teacher)
    started = time.time()
    with pytest.raises(TeacherError, match=r'http://127.0.0.1:9/v1 answers nothing.*no connection.*6 completions') as e:
        complete(asks(500), store, 'http://127.0.0.1:9/v1', KEY, progress=False)
    assert time.time() - started < 12 and 8 <= len(e.value.failures) <= 40 and len(store) == 6


def test_an_endpoint_that_dies_midway_ends_the_run(store, scripted):
    server = scripted(lambda n, body: says('The answer is 1.') if n < 50 else (500, b'{"error": {"message": "out of order"}}', {}))
    with pytest.raises(TeacherError, match='out of order'):
        complete(asks(1000), store, server.url, KEY, progress=False, pace=Pace(8, attempts=1, patience=1))
    assert len(store) == 50 and server.n < 120


def test_bad_requests_alone_do_not_end_a_run_that_has_answers(store, scripted):
    server = scripted(lambda n, body: says('The answer is 1.') if n == 0 else (400, b'{"error": {"message": "no"}}', {}))
    answers = complete(asks(40), store, server.url, KEY, progress=False, pace=Pace(1, attempts=1))
    assert len(answers) == 1 and len(answers.failures) == 39


def test_a_wrong_model_is_told(store, teacher):
    with pytest.raises(TeacherError, match="no model 'gpt-9'"): buy(asks(30, 'gpt-9'), store, teacher)
    with pytest.raises(TeacherError, match='no connection'): complete(asks(2), store, 'http://127.0.0.1:9/v1', KEY, progress=False, pace=ONCE)


def test_a_store_that_cannot_be_written_stops_the_run(tmp_path, scripted):
    server = scripted(lambda n, body: says('The answer is 1.'))
    with Store(tmp_path/'s') as s:
        with s._writer as db: db.execute("CREATE TRIGGER full BEFORE INSERT ON completions BEGIN SELECT RAISE(ABORT, 'no room'); END")
        with pytest.raises(Exception, match='no room'): complete(asks(200), s, server.url, KEY, progress=False, pace=Pace(4))
    assert server.n <= 8, 'what cannot be kept is not bought'


def asking(teacher, path, n, concurrency=8):
    "The command of a process that asks for `n` stories."
    code = ("import sys\nfrom mtd.lab import lab_stories\nfrom mtd.teacher import Pace, Store, complete, make_requests\n"
            "url, endpoint, path = sys.argv[1:]\n"
            f"r = make_requests([s.problem for s in lab_stories('train', {n})], ('cot', 'pot', 'eot'), 'lab-teacher-1', shots=1)\n"
            f"a = complete(r, Store(path), url, 'none', endpoint=endpoint, pace=Pace({concurrency}), progress=False); print(len(a), len(a.failures))")
    return [sys.executable, '-c', code, teacher.base_url, teacher.endpoint, str(path)]


def test_a_killed_run_loses_only_what_was_on_the_way(tmp_path):
    with LabTeacher(delay=0.01) as teacher:
        command, n = asking(teacher, tmp_path/'s', 40), 120
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while teacher.stats()['completions'] < 40 and run.poll() is None: time.sleep(0.005)
        run.send_signal(signal.SIGKILL); run.wait()
        time.sleep(0.1)
        answered = teacher.stats()['completions']
        with Store(tmp_path/'s') as s: kept = len(s)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60) # its claims are free at once
        assert done.stdout.split() == [str(n), '0'], done.stderr[-800:]
        assert 0 <= answered - kept <= 8, 'lost more than what was on the way'
        assert teacher.stats()['completions'] - n == answered - kept, 'bought twice more than what was lost'


def test_recorded_are_joined_by_question_and_everything_is_counted(tmp_path):
    problems = [Problem('a', 'Ann has 2 pens. How many?', 2), Problem('b', 'Bo has 3 pens. How many?', 3), Problem('c', 'Cy has 4 pens. How many?', 4)]
    rows = [{'question': 'bo has 3 pens . how many ?', 'completion': 'The answer is 3.', 'gold': '3'}, {'question': 'Ann has 2 pens. How many?', 'completion': 'one'},
            {'question': 'Ann has 2 pens. How many?', 'completion': 'two', 'gold': 2}, {'question': 'Who?', 'completion': 'me'},
            {'question': 'Cy has 4 pens. How many?', 'completion': 'The answer is 5.', 'gold': '5'}]
    path = tmp_path/'r.jsonl'
    path.write_text('\n'.join(map(json.dumps, rows)))
    a = recorded(path, problems, 'cot')
    assert [(c.problem_id, c.sample, c.text) for c in a] == [('a', 0, 'one'), ('a', 1, 'two'), ('b', 0, 'The answer is 3.')]
    assert sorted(f['reason'] for f in a.failures) == ['no problem asks this question', 'no recorded completion', 'the file gives another gold answer than the problem']
    assert len({c.key for c in a}) == 3 and [c.key for c in a] == [c.key for c in recorded(path, problems, 'cot')]
    path.write_text('{"question": "Who?"}')
    with pytest.raises(ValueError, match='row 1'): recorded(path, problems, 'cot')


def test_the_sample_file_has_the_schema():
    rows = [json.loads(line) for line in find_file('data/recorded_sample.jsonl').read_text(encoding='utf-8').splitlines()]
    assert 6 <= len(rows) <= 10 and all(set(r) == {'question', 'gold', 'completion'} for r in rows)


def test_annotations_are_a_source_like_any_other():
    told = Problem('g/1', 'Ilse binds 14 notebooks on Monday and three times as many on Tuesday. How many notebooks does she bind on the two days?', Fraction(56), 'gsm8k',
                   {'solution': 'On Tuesday Ilse binds 14*3=<<14*3=42>>42 notebooks.\nOn the two days she binds 14+42=<<14+42=56>>56 notebooks.'})
    a = annotations([told, Problem('x', 'No solution. How many?', 1)])
    assert [c.thought for c in a] == ['cot', 'pot', 'eot'] and {c.source for c in a} == {'annotations'}
    assert [f['reason'] for f in a.failures] == ['no human solution'] * 3


def test_the_embedded_teacher_is_started_only_when_something_is_missing(store, monkeypatch):
    bought = ask_lab(REQUESTS[:6], store, progress=False)
    monkeypatch.setattr(sys, 'executable', '/nowhere')  # now it could not be started
    assert ask_lab(REQUESTS[:6], store) == bought and {c.source for c in bought} == {'lab_teacher'}
    with pytest.raises(FileNotFoundError): ask_lab(REQUESTS[:7], store)


def test_what_is_sent_is_what_is_in_the_key():
    r = replace(asks(1)[0], stop=('Question:',), extra={'max_tokens': None, 'max_completion_tokens': 99, 'temperature': None})
    assert r.body() == dict(model='m', messages=r.messages, top_p=1.0, seed=0, stop=['Question:'], max_completion_tokens=99)
    assert len({r.key('e'), replace(r, stop=()).key('e'), replace(r, extra={}).key('e')}) == 3
    own, given = (make_requests(PROBLEMS[:1], ('cot',), 'm', system=s)[0] for s in ('', 'Be brief.'))
    assert given.messages[0] == {'role': 'system', 'content': 'Be brief.'} and given.messages[1:] == own.messages[1:] and own.key('e') != given.key('e')


def test_a_faulty_endpoint_gives_what_a_good_one_gives_and_nothing_is_lost(store, tmp_path, teacher):
    with LabTeacher(faults='429:0.1 500:0.1 cut:0.05 json:0.05') as faulty:
        answers = complete(REQUESTS[:40], store, faulty.base_url, KEY, endpoint=faulty.endpoint, progress=False, pace=Pace(8, timeout=10, retries=2))
        stats = faulty.stats()
    assert sum(stats['faults'].values()) > 5 and len(store) == 40
    with Store(tmp_path/'good') as other: assert buy(REQUESTS[:40], other, teacher).completions == answers.completions


def test_slow_tokens_are_waited_for_and_a_silent_server_is_asked_again(store):
    with LabTeacher(faults='timeout:0.1 slow:0.2', slow_seconds=0.3) as faulty:
        answers = complete(REQUESTS[:30], store, faulty.base_url, KEY, endpoint=faulty.endpoint, progress=False, pace=Pace(8, timeout=2, retries=2))
        assert {*faulty.stats()['faults']} == {'timeout', 'slow'}
    assert len(store) == 30 and not [f for f in answers.failures if f['again']]


def test_a_server_that_limits_is_asked_as_fast_as_it_allows(store):
    with LabTeacher(requests_per_minute=1200) as teacher:
        answers = complete(REQUESTS[:40], store, teacher.base_url, KEY, endpoint=teacher.endpoint, progress=False)
        stats = teacher.stats()
    assert len(store) == 40 and not [f for f in answers.failures if f['again']] and stats['completions'] == 40


def test_ceilings_of_our_own(store, teacher):
    times = []
    buy(REQUESTS[:12], store, teacher, pace=Pace(requests_per_minute=600), watch=lambda key, event: event == 'sent' and times.append(time.monotonic()))
    assert len(times) == 12 and times[-1] - times[0] > 0.99


def test_an_empty_account_ends_the_run_at_once(store, scripted):
    empty = (429, json.dumps({'error': {'message': 'You have no money left.', 'code': 'insufficient_quota'}}).encode(), {})
    server = scripted(lambda n, body: empty)
    with pytest.raises(TeacherError, match='no money left'): complete(asks(500), store, server.url, KEY, progress=False)
    assert server.n <= 20


def test_replay_asks_nothing_and_names_what_is_missing(store, teacher):
    bought = buy(REQUESTS[:6], store, teacher)
    before = teacher.stats()['completions']
    assert buy(REQUESTS[:6], store, teacher, replay=True) == bought
    with pytest.raises(MissingCompletion, match=f"1 of the answers.*{REQUESTS[6].problem_id}.*{REQUESTS[6].key(teacher.endpoint)[:16]}"): buy(REQUESTS[:7], store, teacher, replay=True)
    with pytest.raises(MissingCompletion, match='it holds 1 answers about this problem'): buy([replace(REQUESTS[0], temperature=1.0)], store, teacher, replay=True)
    assert teacher.stats()['completions'] == before


def test_a_budget_is_never_crossed_and_counts_what_was_bought_before(store, scripted):
    server = scripted(lambda n, body: says('The answer is 1.'))
    prices = {'read_on': 'now', 'models': {'m': [1000., 1000.]}, 'batch': 0.5} # an answer costs 15 tokens: 1.5 cents
    short = [replace(r, max_tokens=10) for r in asks(40)]
    with pytest.raises(TeacherError, match=r'budget of \$0.6.*raise the budget'): complete(short, store, server.url, KEY, progress=False, budget=0.6, prices=prices)
    bought, n = len(store), server.n
    assert 3 <= bought == n and 0.015 * n <= 0.6
    with pytest.raises(TeacherError, match='budget'): complete(short, store, server.url, KEY, progress=False, budget=0.6, prices=prices)
    assert 0.015 * server.n <= 0.6, 'a rerun does not begin anew'
    assert len(complete(short, store, server.url, KEY, progress=False, budget=9, prices=prices)) == 40 == server.n
    with pytest.raises(ValueError, match='unknown-model'): complete(asks(1, 'unknown-model'), store, server.url, KEY, progress=False, budget=1, prices=prices)
    assert server.n == 40


def test_lost_replies_count_against_the_budget(store, scripted):
    server = scripted(lambda n, body: (None, b'', {}) if n else says('The answer is 1.'))
    prices = {'read_on': 'now', 'models': {'m': [1000., 1000.]}, 'batch': 0.5}
    with pytest.raises(TeacherError): complete(asks(400), store, server.url, KEY, progress=False, budget=3, prices=prices, pace=Pace(1, patience=0))
    assert server.n < 12, 'what was cut off may have been billed'


def test_answers_without_a_thought_end_the_run(store, scripted):
    cut = json.dumps({'choices': [{'finish_reason': 'length', 'message': {'content': 'First we'}}], 'usage': {'prompt_tokens': 1, 'completion_tokens': 2}}).encode()
    server = scripted(lambda n, body: (200, cut, {}))
    with pytest.raises(TeacherError, match='hold no thought .truncated.*max_tokens'): complete(asks(400), store, server.url, KEY, progress=False)
    assert 50 <= server.n <= 50 + 2 * 32
    answers = collect(asks(400), [r.key(endpoint_identity(server.url)) for r in asks(400)], store)
    assert not answers.completions and len(answers.bought) == server.n and answers.reasons()['cot', 'truncated'] == server.n


def test_two_processes_ask_nothing_twice(tmp_path):
    with LabTeacher(delay=0.01) as teacher:
        command = asking(teacher, tmp_path/'s', 40)
        runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [r.communicate()[0].split() for r in runs] == [['120', '0']] * 2
        assert teacher.stats()['completions'] == 120 == teacher.stats()['distinct']


def test_threads_that_share_a_store_ask_nothing_twice(store):
    with LabTeacher(delay=0.01) as teacher, ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: buy(REQUESTS, store, teacher), range(2)))
        assert both[0].completions == both[1].completions and teacher.stats()['completions'] == len(REQUESTS) == len(store)


def test_lost_replies_of_an_earlier_run_count_too(store):
    prices = {'read_on': 'now', 'models': {'lab-teacher-1': [100., 400.]}, 'batch': 0.5}
    with LabTeacher(faults='cut:1') as teacher:
        for _ in range(3):
            with pytest.raises(TeacherError): buy(REQUESTS, store, teacher, budget=1.5, prices=prices, pace=Pace(2, patience=0))
        assert 3 <= teacher.stats()['completions'] < 12, 'the first run lost the money, the others have none to lose'


def test_an_interrupted_run_keeps_what_was_received(tmp_path, scripted):
    code = ("import sys, threading, _thread\nfrom mtd.pacing import Pace\nfrom mtd.store import Store\nfrom mtd.teacher import Request, complete\n"
            "seen = []\ndef watch(key, event):\n    if event == 'kept':\n        seen.append(key)\n        if len(seen) == 20: _thread.interrupt_main()\n"
            "asks = [Request(f'p/{i}', 'cot', [{'role': 'user', 'content': f'question {i}'}], 'm') for i in range(2000)]\n"
            "try: complete(asks, Store(sys.argv[2]), sys.argv[1], 'none', pace=Pace(4), progress=False, watch=watch)\n"
            "except KeyboardInterrupt: print('stopped', len(seen))")
    server = scripted(lambda n, body: (time.sleep(0.01), says('The answer is 1.'))[1])
    done = subprocess.run([sys.executable, '-c', code, server.url, str(tmp_path/'s')], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith('stopped'), done.stderr[-800:]
    with Store(tmp_path/'s') as s:
        assert 20 <= len(s) < 500 and server.n - len(s) <= 4, 'what was on the way, at most'
        assert s.claim(['x']) == {'x'}


def test_each_event_of_a_request_is_told_in_order(store, teacher):
    life = {}
    buy(REQUESTS[:9], store, teacher, watch=lambda key, event: life.setdefault(key, []).append(event))
    assert len(life) == 9 and all(events == ['sent', 'answered', 'kept'] for events in life.values())


@pytest.mark.parametrize('left', ['²'.encode().decode('latin-1'), '9' * 5000])
def test_a_header_that_is_no_number_does_not_hold_the_run_up(store, scripted, left):
    server = scripted(lambda n, body: says('The answer is 4.')[:2] + ({'x-ratelimit-remaining-requests': left, 'x-ratelimit-reset-requests': '1s'},))
    assert len(complete(asks(12), store, server.url, KEY, progress=False)) == 12


def test_an_error_in_the_program_itself_ends_the_run_and_keeps_what_came(store, scripted):
    def watch(key, event):
        if event == 'kept': raise LookupError('mine')
    server = scripted(lambda n, body: says('The answer is 4.'))
    with pytest.raises(LookupError, match='mine'): complete(asks(12), store, server.url, KEY, progress=False, watch=watch)
    assert len(store) == server.n and len(store.claim([r.key(endpoint_identity(server.url)) for r in asks(12)])) == 12 - len(store)


def test_an_answer_that_drips_for_ever_is_cut_off(store):
    async def drips(reader, writer):
        await reader.readuntil(b'\r\n\r\n')
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n')
        try:
            while True: writer.write(b' '); await writer.drain(); await asyncio.sleep(0.05)
        except ConnectionError: pass
    loop, ready = asyncio.new_event_loop(), threading.Event()
    async def serve():
        loop.port = (await asyncio.start_server(drips, '127.0.0.1', 0)).sockets[0].getsockname()[1]
        ready.set()
        await asyncio.sleep(30)
    threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True).start()
    ready.wait(10)
    with pytest.raises(TeacherError, match='no answer within 0.3 s'):
        complete(asks(2), store, f'http://127.0.0.1:{loop.port}/v1', KEY, progress=False, pace=Pace(timeout=0.3, attempts=1, give_up_after=2))


def test_half_a_surrogate_pair_in_an_error_can_be_written(store, scripted):
    bad = (400, b'{"error": {"message": "bad \\ud800 thing"}}', {})
    server = scripted(lambda n, body: bad if body['messages'][0]['content'] == 'question 3' else says('The answer is 4.'))
    answers = complete(asks(6), store, server.url, KEY, progress=False, pace=Pace(concurrency=1))
    assert [f['reason'].encode() for f in answers.failures] == [b'HTTP 400: bad ? thing']


@pytest.mark.parametrize('usage', [{'prompt_tokens': -10**6, 'completion_tokens': -10**6}, {'prompt_tokens': 5}, {'prompt_tokens': 10**400, 'completion_tokens': 1},
                                   {'prompt_tokens': '5', 'completion_tokens': '5'}, 'none', None, [1]])
def test_a_budget_holds_over_runs_whatever_the_server_says_of_its_usage(store, scripted, usage):
    said = json.dumps(json.loads(says('The answer is 4.')[1]) | {'usage': usage}).encode()
    server = scripted(lambda n, body: (200, said, {}))
    for _ in range(3):
        with pytest.raises(TeacherError, match='budget'): complete(asks(40, 'gpt-4o-mini'), store, server.url, KEY, progress=False, budget=0.0012)
        assert server.n == len(store) == 3, 'each at its worst price, about $0.00035'
    assert len(complete(asks(3, 'gpt-4o-mini'), store, server.url, KEY, progress=False)) == 3 == server.n


def test_an_answer_in_parts_is_read(store, scripted):
    parts = [{'type': 'thinking', 'thinking': [{'type': 'text', 'text': 'Hm.'}]}, {'type': 'text', 'text': 'The answer '}, {'type': 'text', 'text': 'is 4.'}]
    server = scripted(lambda n, body: says(parts))
    assert [c.text for c in complete(asks(2), store, server.url, KEY, progress=False)] == ['The answer is 4.'] * 2 and server.n == 2


@pytest.mark.parametrize('extra', [{'model': 'a dearer one'}, {'messages': []}, {'sample': 1}, {'endpoint': 'x'}, {'stream': True}])
def test_extra_fields_change_neither_key_nor_price_by_the_back_door(extra):
    with pytest.raises(ValueError, match=next(iter(extra))): replace(asks(1)[0], extra=extra)
