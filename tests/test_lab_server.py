"""The embedded teacher over real HTTP, by the official client and by raw sockets: it keeps to the protocol, and it fails as it is told to."""
import asyncio, http.client, io, json, re, signal, socket, subprocess, sys, time
from collections import Counter
from pathlib import Path

import openai
import pytest

from mtd.core import digest
from mtd.lab import lab_stories
from mtd.lab_server import FAULTS, OVER, Bucket, LabTeacher, Options, check_batch_file, duration, lab_endpoint, mannered, retry_headers
from mtd.lab_teacher import MODEL, count_tokens, reply
from mtd.prompting import student_input

STORIES = lab_stories('train', 60)


def user(thought, question): return [{'role': 'user', 'content': student_input(thought, question)}]
def asks(n, **more): return [{'model': MODEL, 'messages': user('pot', s.problem.question)} | more for s in STORIES[:n]]
def official(teacher, **how): return openai.OpenAI(base_url=teacher.base_url, api_key='none', **{'max_retries': 0} | how)


@pytest.fixture(scope='module')
def teacher():
    with LabTeacher(slip_rate=0) as t: yield t


@pytest.fixture(scope='module')
def client(teacher):
    with official(teacher) as c: yield c


def choice(client, thought='cot', question=STORIES[0].problem.question, **kw):
    return client.chat.completions.create(model=MODEL, messages=user(thought, question), **kw).choices[0]


# The protocol

@pytest.mark.parametrize('thought', ('cot', 'pot', 'eot'))
def test_it_says_over_the_wire_what_the_function_says(client, thought):
    for s in STORIES[:20]: assert choice(client, thought, s.problem.question).message.content == s.gold[thought]
    said = choice(client, thought, 'Mia has 5 apples. The weather in Lima is mild. How many apples does Mia have now?')
    assert 'The weather in Lima' in said.message.refusal and said.message.content is None and said.finish_reason == 'stop'
    assert 'instruction' in client.chat.completions.create(model=MODEL, messages=[{'role': 'user', 'content': 'Hello'}]).choices[0].message.refusal


def test_the_server_never_imports_the_lab(client, teacher):
    choice(client, 'pot')
    modules = teacher.stats()['modules']
    assert 'mtd.prompting' in modules and 'mtd.lab' not in modules


def test_the_same_request_gets_the_same_bytes_from_another_process():
    said = []
    for _ in range(2):
        with LabTeacher(slip_rate=1, seed=5) as t, official(t) as c:
            said.append([c.chat.completions.with_raw_response.create(model=MODEL, messages=user('cot', STORIES[0].problem.question), seed=k).text for k in range(6)])
    assert said[0] == said[1] and len(set(said[0])) > 1


def test_errors_are_those_of_the_protocol(client):
    with pytest.raises(openai.NotFoundError, match='no model') as e: client.chat.completions.create(model='gpt-9', messages=user('cot', 'x'))
    assert e.value.code == 'model_not_found' and e.value.type == 'invalid_request_error'
    wrong = dict(n=2, messages=[], max_tokens=0, seed='a', stop=['a'] * 5, max_completion_tokens=1.5)
    for name, value in wrong.items():
        body = {'model': MODEL, 'messages': user('cot', 'x')} | {name: value}
        with pytest.raises(openai.BadRequestError) as e: client.post('/chat/completions', body=body, cast_to=object)
        assert e.value.body['message'] and e.value.body['type'] == 'invalid_request_error'
    with pytest.raises(openai.BadRequestError, match='one answer'): choice(client, n=2)
    with pytest.raises(openai.BadRequestError, match='mean the same'): choice(client, max_tokens=5, max_completion_tokens=5)


def test_models_are_listed(client):
    assert [m.id for m in client.models.list()] == [MODEL] and client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError): client.models.retrieve('gpt-9')


def test_lengths_stops_and_usage(client):
    whole = choice(client).message.content
    for name in ('max_tokens', 'max_completion_tokens'):
        cut = choice(client, **{name: 4})
        assert cut.finish_reason == 'length' and count_tokens(cut.message.content) == 4 and whole.startswith(cut.message.content)
    assert choice(client, max_tokens=count_tokens(whole)).finish_reason == 'stop', 'just enough is enough'
    first = whole.split('.')[0]
    for stop in ('.', ['zzz', '.'], ['.', '\n']):
        said = choice(client, stop=stop)
        assert said.message.content == first and said.finish_reason == 'stop'
    assert choice(client, stop='.', max_tokens=2).finish_reason == 'length' and choice(client, stop='never').message.content == whole
    answer = client.chat.completions.create(model=MODEL, messages=user('cot', STORIES[0].problem.question))
    assert answer.usage.completion_tokens == count_tokens(whole) and answer.usage.prompt_tokens == count_tokens(user('cot', STORIES[0].problem.question)[0]['content']) + 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_content_may_come_in_parts(client):
    text = user('cot', STORIES[0].problem.question)[0]['content']
    parts = [{'type': 'text', 'text': text[:20]}, {'type': 'text', 'text': text[20:]}]
    assert client.chat.completions.create(model=MODEL, messages=[{'role': 'user', 'content': parts}]).choices[0].message.content == STORIES[0].gold['cot']


def test_streams_say_the_same_piece_by_piece(client):
    body = {'model': MODEL, 'messages': user('eot', STORIES[1].problem.question)}
    pieces = list(client.chat.completions.create(**body, stream=True, stream_options={'include_usage': True}))
    assert pieces[0].choices[0].delta.role == 'assistant' and len(pieces) > 10 and {p.object for p in pieces} == {'chat.completion.chunk'}
    assert ''.join(p.choices[0].delta.content or '' for p in pieces[:-1]) == STORIES[1].gold['eot']
    assert [p.choices[0].finish_reason for p in pieces[:-1]] == [None] * (len(pieces) - 2) + ['stop'] and not pieces[-1].choices
    assert pieces[-1].usage == client.chat.completions.create(**body).usage and all(p.usage is None for p in pieces[:-1])
    assert all(p.usage is None for p in client.chat.completions.create(**body, stream=True))
    refused = list(client.chat.completions.create(model=MODEL, messages=user('eot', 'Hello.'), stream=True))
    assert ''.join(p.choices[0].delta.refusal or '' for p in refused) == choice(client, 'eot', 'Hello.').message.refusal
    assert [p.choices[0].finish_reason for p in client.chat.completions.create(**body, stream=True, max_tokens=3)][-1] == 'length'


def test_the_asynchronous_client_is_served_as_well(teacher):
    async def ask():
        async with openai.AsyncOpenAI(base_url=teacher.base_url, api_key='none', http_client=openai.DefaultAioHttpClient()) as c:
            said = await asyncio.gather(*(c.chat.completions.create(**b) for b in asks(30)))
            return [s.choices[0].message.content for s in said], [p async for p in await c.chat.completions.create(**asks(1)[0], stream=True)]
    whole, pieces = asyncio.run(ask())
    assert whole == [s.gold['pot'] for s in STORIES[:30]] and ''.join(p.choices[0].delta.content or '' for p in pieces) == whole[0]


def test_paths_and_methods(teacher):
    line = http.client.HTTPConnection(teacher.base_url.split('/')[2])
    for method, path, body, status in (('POST', '/v1/chat/completions', b'{"model": ', 400), ('POST', '/v1/chat/completions', b'[]', 400),
                                       ('GET', '/v1/nothing', None, 404), ('GET', '/v1/chat/completions', None, 405), ('GET', '/v1/models', None, 200),
                                       ('POST', '/v1/chat/completions', b'x' * (2 << 20), 413), ('POST', '/v1/files', b'x', 400)):
        line.request(method, path, body)
        answer = line.getresponse()
        said = json.loads(answer.read())
        assert answer.status == status and (status == 200 or said['error']['message']), path
    line.close()


@pytest.mark.parametrize('sent, status', [
    (b'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n', 413), (b'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n', 400),
    (b'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n', 400), (b'GET / HTTP/1.1\r\nX: ' + b'a' * 20_000, 400), (b'nonsense\r\n\r\n', 400)])
def test_bad_heads_are_answered_and_the_server_lives(teacher, sent, status):
    host, port = teacher.base_url.split('/')[2].split(':')
    with socket.create_connection((host, int(port)), 5) as s:
        s.sendall(sent)
        assert s.recv(4096).split(b' ')[1] == str(status).encode()
    assert teacher.stats()['completions'] >= 0


def test_a_body_without_end_is_cut_off(teacher):
    host, port = teacher.base_url.split('/')[2].split(':')
    with socket.create_connection((host, int(port)), 5) as s:
        s.sendall(b'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n')
        for _ in range(40): s.sendall(b'10000\r\n' + b'x' * 65536 + b'\r\n')
        assert s.recv(4096).split(b' ')[1] == b'413'


def test_pieces_and_pipelines_are_understood(teacher):
    host, port = teacher.base_url.split('/')[2].split(':')
    one = b'GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n'
    with socket.create_connection((host, int(port)), 5) as s:
        for byte in one[:-1]: s.sendall(bytes([byte]))
        s.sendall(one[-1:] + one)
        got, until = b'', time.time() + 5
        while got.count(b'HTTP/1.1 200 OK') < 2 and time.time() < until: got += s.recv(65536)
    assert got.count(b'HTTP/1.1 200 OK') == 2


def test_it_listens_on_loopback_alone(teacher):
    port = int(teacher.base_url.split('/')[2].split(':')[1])
    try: others = {a[4][0] for a in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)} - {'127.0.0.1'}
    except OSError: others = set()
    for host in others | {'127.0.0.2'}:
        with pytest.raises(OSError): socket.create_connection((host, port), 0.5).close()


def test_the_server_ends_with_its_parent():
    code = "from mtd.lab_server import LabTeacher; import time; t = LabTeacher().__enter__(); print(t._process.pid, t.base_url, flush=True); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    pid, url = parent.stdout.readline().split()
    parent.send_signal(signal.SIGKILL); parent.wait()
    until = time.time() + 5
    while time.time() < until:
        try: http.client.HTTPConnection(url.split('/')[2], timeout=1).connect(); time.sleep(0.05)
        except OSError: break
    else: raise AssertionError('the server outlived its parent')


def test_command_line_prints_its_url_and_serves():
    server = subprocess.Popen([sys.executable, '-m', 'mtd.lab_server', '--port', '0', '--slip-rate', '0', '--seed', '0'], stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().strip()
        with openai.OpenAI(base_url=url, api_key='none', max_retries=0) as c: assert choice(c, 'pot').message.content == STORIES[0].gold['pot']
    finally:
        server.terminate(); server.wait()


def test_bad_settings_are_refused():
    for bad, said in (({'slip_rate': 1.5}, 'slip_rate=1.5'), ({'faults': 'teapot:0.5'}, 'teapot'), ({'faults': '429:x'}, '429:x'), ({'faults': '429:0.7 cut:0.7'}, 'more than 1'),
                      ({'manners': -1}, 'manners=-1')):
        with pytest.raises(ValueError, match=said): LabTeacher(**bad)
    done = subprocess.run([sys.executable, '-m', 'mtd.lab_server', '--faults', 'teapot:1'], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and 'teapot' in done.stderr and 'Traceback' not in done.stderr


def test_only_what_changes_answers_is_in_the_identity():
    assert lab_endpoint(0.1, 3) == LabTeacher(0.1, 3, delay=1, faults='429:0.5', requests_per_minute=3, port=1234).endpoint != LabTeacher(0.2, 3).endpoint
    assert lab_endpoint(0.1, 3, 0.2) == LabTeacher(0.1, 3, manners=0.2).endpoint != lab_endpoint(0.1, 3)


def test_importing_it_is_light():
    code = "import sys, mtd.lab_server; print([m for m in ('aiohttp', 'openai', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'


# Counting

def test_what_was_answered_is_counted_by_its_body():
    with LabTeacher(slip_rate=0) as t, official(t) as c:
        for b in asks(5) + asks(2): c.chat.completions.create(**b)
        choice(c, 'pot', 'Hello.')
        stats, answered = t.stats(), t.answered()
    assert (stats['completions'], stats['distinct'], stats['refusals'], stats['in_flight'], stats['errors']) == (8, 6, 1, 0, 0)
    assert [answered[digest(b, length=64)] for b in asks(5)] == [2, 2, 1, 1, 1]


def test_a_delay_is_before_each_answer_and_what_is_under_way_is_counted():
    with LabTeacher(slip_rate=0, delay=0.3) as t, official(t) as c:
        started = time.monotonic()
        async def both():
            async with openai.AsyncOpenAI(base_url=t.base_url, api_key='none') as a:
                tasks = [asyncio.create_task(a.chat.completions.create(**b)) for b in asks(3)]
                while (await asyncio.to_thread(t.stats))['in_flight'] < 3: await asyncio.sleep(0.01)
                await asyncio.gather(*tasks)
        asyncio.run(both())
        assert time.monotonic() - started >= 0.3 and t.stats()['in_flight'] == 0


# Limits

def test_durations_are_written_as_the_headers_do():
    assert [duration(s) for s in (0, 0.0004, 0.12, 0.9996, 1, 8.64, 59.5, 60, 86.4, 360, 3600, 3661.5)] == [
        '0s', '1ms', '120ms', '1000ms', '1s', '8.64s', '59.5s', '1m0s', '1m26.4s', '6m0s', '1h0m0s', '1h1m1.5s']
    assert retry_headers(0.05) == {'Retry-After': '1', 'retry-after-ms': '50'} and retry_headers(2.0001)['Retry-After'] == '3'


def test_a_bucket_holds_a_minute_and_fills():
    b = Bucket(120)
    b.held = 0.0
    assert b.wait(0) == 0 and 9.5 < b.wait(20) <= 10
    b.at -= 5
    assert 10 <= b.left() < 10.5
    b.at -= 500
    assert b.left() == 120


def test_requests_beyond_the_limit_are_refused_with_the_time_to_wait():
    with LabTeacher(slip_rate=0, requests_per_minute=4, tokens_per_minute=100_000) as t, official(t) as c:
        for left in (3, 2, 1, 0):
            head = c.chat.completions.with_raw_response.create(**asks(1, max_tokens=100)[0]).headers
            assert head['x-ratelimit-limit-requests'] == '4' and head['x-ratelimit-remaining-requests'] == str(left)
            assert head['x-ratelimit-limit-tokens'] == '100000' and int(head['x-ratelimit-remaining-tokens']) <= 100_000
            assert all(re.fullmatch(r'(\d+h)?(\d+m)?\d+(\.\d+)?s|\d+ms', head[f'x-ratelimit-reset-{k}']) for k in ('requests', 'tokens'))
        with pytest.raises(openai.RateLimitError, match='Try again in') as e: c.chat.completions.create(**asks(1)[0])
        head = e.value.response.headers
        assert 10 <= int(head['Retry-After']) <= 15 and 10_000 < int(head['retry-after-ms']) <= 15_000 and head['x-ratelimit-remaining-requests'] == '0'
        assert (e.value.code, e.value.type) == ('rate_limit_exceeded', 'requests') and t.stats()['completions'] == 4


def test_tokens_beyond_the_limit_are_refused_and_what_never_fits_is_told():
    body = asks(1, max_tokens=100)[0]
    need = count_tokens(body['messages'][0]['content']) + 3 + 100
    with LabTeacher(slip_rate=0, tokens_per_minute=2 * need + 5) as t, official(t) as c:
        for _ in range(2): c.chat.completions.create(**body)
        with pytest.raises(openai.RateLimitError, match='Try again in') as e: c.chat.completions.create(**body)
        assert e.value.type == 'tokens'
        with pytest.raises(openai.RateLimitError, match='too large'): c.chat.completions.create(**body | {'max_tokens': 5000})
        with pytest.raises(openai.BadRequestError) as e: c.chat.completions.create(**body | {'n': 2})
        assert 'x-ratelimit-remaining-tokens' in e.value.response.headers, 'every answer says how full the buckets are'


def test_the_official_client_waits_as_it_is_told():
    with LabTeacher(slip_rate=0, requests_per_minute=600) as t, official(t, max_retries=10) as c:
        for _ in range(3): c.chat.completions.create(**asks(1)[0])
        async def many():
            async with openai.AsyncOpenAI(base_url=t.base_url, api_key='none', max_retries=10) as a:
                return await asyncio.gather(*(a.chat.completions.create(**asks(1, seed=i)[0]) for i in range(610)))
        said = asyncio.run(many())
        assert len(said) == 610 and t.stats()['completions'] == 613 and t.stats()['errors'] > 0


# Faults

EXPECTED = {'429': openai.RateLimitError, '500': openai.InternalServerError, '503': openai.InternalServerError, 'timeout': openai.APITimeoutError,
            'cut': openai.APIConnectionError, 'json': ValueError, 'empty': ValueError}


@pytest.mark.parametrize('kind', EXPECTED)
def test_a_fault_is_what_it_says(kind):
    with LabTeacher(slip_rate=0, faults=f'{kind}:1') as t, official(t, timeout=0.5 if kind == 'timeout' else 30) as c:
        with pytest.raises(EXPECTED[kind]) as e: c.chat.completions.create(**asks(1)[0])
        stats = t.stats()
    assert stats['faults'] == {kind: 1} and stats['completions'] == (kind in ('cut', 'json', 'empty'))
    if kind == '429': assert e.value.response.headers['retry-after-ms'] == '50'
    if kind in ('429', '500', '503'): assert e.value.status_code == int(kind)


def test_a_slow_answer_drips_and_is_whole():
    with LabTeacher(slip_rate=0, faults='slow:1', slow_seconds=0.4) as t, official(t) as c:
        with c.chat.completions.with_streaming_response.create(**asks(1)[0]) as r:
            at = [(time.monotonic(), p) for p in r.iter_bytes()]
        assert json.loads(b''.join(p for _, p in at))['choices'][0]['message']['content'] == STORIES[0].gold['pot']
        assert len(at) > 5 and at[-1][0] - at[0][0] > 0.2
        assert ''.join(p.choices[0].delta.content or '' for p in c.chat.completions.create(**asks(1)[0], stream=True)) == STORIES[0].gold['pot']


@pytest.mark.parametrize('kind', ('cut', 'json', 'empty'))
def test_a_stream_can_break_too(kind):
    with LabTeacher(slip_rate=0, faults=f'{kind}:1') as t, official(t) as c:
        try: text, end = '', None; [(text := text + (p.choices[0].delta.content or ''), end := p.choices[0].finish_reason) for p in c.chat.completions.create(**asks(1)[0], stream=True)]
        except (openai.APIError, ValueError): text, end = '', None
        assert end is None and text != STORIES[0].gold['pot'] and t.stats()['completions'] == 1


def faulty(seed, n=40):
    with LabTeacher(slip_rate=0, faults='429:0.2 500:0.2 cut:0.1 json:0.1', fault_seed=seed) as t, official(t) as c:
        seen = []
        for b in asks(n):
            try: seen.append(c.chat.completions.create(**b).choices[0].message.content)
            except Exception as e: seen.append(type(e).__name__)
        return seen, t.stats()


def test_faults_come_at_their_share_by_the_number_of_the_request_and_change_no_answer():
    (one, stats), (two, _), (other, _) = faulty(0), faulty(0), faulty(1)
    assert one == two != other
    gold = [s.gold['pot'] for s in STORIES[:40]]
    assert all(a == g or a.endswith('Error') for a, g in zip(one, gold)) and 8 < sum(a == g for a, g in zip(one, gold)) < 30
    assert set(stats['faults']) == {'429', '500', 'cut', 'json'} and stats['requests'] == 40
    assert stats['completions'] == 40 - stats['faults']['429'] - stats['faults']['500']


def test_a_request_that_is_asked_again_may_succeed():
    def patient(c, body):
        while True:
            try: return c.chat.completions.create(**body).choices[0].message.content
            except openai.APIError: pass
    with LabTeacher(slip_rate=0, faults='429:0.3 503:0.2 cut:0.1') as t, official(t) as c:
        assert [patient(c, b) for b in asks(15)] == [s.gold['pot'] for s in STORIES[:15]]
        stats = t.stats()
    assert stats['completions'] == 15 + stats['faults'].get('cut', 0) and stats['distinct'] == 15 < stats['requests']


def test_a_client_that_hangs_up_leaves_nothing_behind():
    with LabTeacher(slip_rate=0, faults='timeout:1') as t, official(t, timeout=0.2) as c:
        for b in asks(3):
            with pytest.raises(openai.APITimeoutError): c.chat.completions.create(**b)
        until = time.time() + 5
        while t.stats()['in_flight'] and time.time() < until: time.sleep(0.05)
        assert t.stats()['in_flight'] == 0


def test_every_fault_is_tried_here(): assert {*EXPECTED, 'slow'} == set(FAULTS)


def test_manners_wrap_a_share_of_the_answers_and_leave_the_text_whole():
    plain = [reply(b['messages']).text for b in asks(60)]
    with LabTeacher(slip_rate=0, manners=0.5) as t, official(t) as c: said = [c.chat.completions.create(**b).choices[0].message.content for b in asks(60)]
    wrapped = [(p, s) for p, s in zip(plain, said) if p != s]
    assert 15 < len(wrapped) < 45 and all(p in s for p, s in wrapped)
    assert {('```' in s, s.startswith(p)) for p, s in wrapped} == {(True, False), (False, True)}, 'in a fence after a preamble, or with chatter at the end'
    with LabTeacher(slip_rate=0, manners=0.5) as t, official(t) as c: assert said == [c.chat.completions.create(**b).choices[0].message.content for b in asks(60)]
    assert mannered('', 'x', 1) == ''


# Files and batches

def lines(bodies): return [{'custom_id': f'n-{i}', 'method': 'POST', 'url': '/v1/chat/completions', 'body': b} for i, b in enumerate(bodies)]
def as_file(rows): return 'in.jsonl', io.BytesIO('\n'.join(r if isinstance(r, str) else json.dumps(r) for r in rows).encode())
def create(c, file_id, **more): return c.batches.create(input_file_id=file_id, endpoint='/v1/chat/completions', completion_window='24h', **more)
def submit(c, rows, **more): return create(c, c.files.create(file=as_file(rows), purpose='batch').id, **more)
def read(c, id): return [json.loads(line) for line in c.files.content(id).text.splitlines()] if id else []


def wait(c, batch, until=OVER, patience=20):
    seen, deadline = [batch.status], time.time() + patience
    while batch.status not in until:
        assert time.time() < deadline, seen
        time.sleep(0.01)
        batch = c.batches.retrieve(batch.id)
        if batch.status != seen[-1]: seen.append(batch.status)
    return batch, seen


def test_files_are_kept_listed_read_and_deleted(teacher, client):
    files = [client.files.create(file=(f'{i}.jsonl', f'line {i}\n'.encode() * 1000), purpose='batch') for i in range(3)]
    assert files[0].bytes == 7000 and files[0].filename == '0.jsonl' and files[0].purpose == 'batch' and client.files.retrieve(files[1].id) == files[1]
    assert [f.id for f in client.files.list(limit=2)][:3] == [f.id for f in files[::-1]], 'newest first, page by page'
    assert [f.id for f in client.files.list(order='asc', purpose='batch')][-3:] == [f.id for f in files]
    assert client.files.content(files[2].id).text == 'line 2\n' * 1000
    assert client.files.delete(files[2].id).deleted
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError): call(files[2].id)
    with pytest.raises(openai.BadRequestError, match='purpose'): client.files.create(file=as_file([]), purpose='fine-tune')
    with pytest.raises(openai.NotFoundError): client.files.content('file-../../etc/passwd')
    with pytest.raises(openai.BadRequestError, match='limit'): client.files.list(limit=0)


def test_a_file_that_is_too_large_is_refused():
    with LabTeacher(max_upload=100_000) as t, official(t) as c:
        for n in (100_001, 300_000):
            with pytest.raises(openai.APIStatusError) as e: c.files.create(file=('x', b'x' * n), purpose='batch')
            assert e.value.status_code == 413
        assert c.files.create(file=('x', b'x' * 100_000), purpose='batch').bytes == 100_000 and len(list(c.files.list())) == 1


def test_a_batch_is_answered_in_another_order(teacher, client):
    before = teacher.stats()
    batch, seen = wait(client, submit(client, lines(asks(30)), metadata={'who': 'me'}))
    assert batch.status == 'completed' and batch.metadata == {'who': 'me'} and batch.model == MODEL and batch.error_file_id is None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (30, 30, 0)
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at < batch.expires_at == batch.created_at + 86_400
    got = read(client, batch.output_file_id)
    ids = [g['custom_id'] for g in got]
    assert sorted(ids) == sorted(f'n-{i}' for i in range(30)) and ids != [f'n-{i}' for i in range(30)]
    assert {g['custom_id']: g['response']['body']['choices'][0]['message']['content'] for g in got} == {f'n-{i}': s.gold['pot'] for i, s in enumerate(STORIES[:30])}
    assert all(g['error'] is None and g['response']['status_code'] == 200 and g['response']['request_id'] for g in got)
    assert client.files.retrieve(batch.output_file_id).purpose == 'batch_output' and teacher.stats()['completions'] == before['completions'] + 30


def test_the_states_come_one_after_the_other():
    with LabTeacher(batch_seconds=0.8) as t, official(t) as c:
        _, seen = wait(c, submit(c, lines(asks(20))))
        assert seen == ['validating', 'in_progress', 'finalizing', 'completed']


@pytest.mark.parametrize('rows, codes', [
    ([], [('empty_file', None)]), (['', '  '], [('empty_file', None)]), (['{'], [('invalid_json_line', 1)]), (['[1]'], [('invalid_json_line', 1)]),
    (lines(asks(2)) + lines(asks(1)), [('duplicate_custom_id', 3)]), ([lines(asks(1))[0] | {'url': '/v1/embeddings'}], [('url_mismatch', 1)]),
    ([lines(asks(1))[0] | {'method': 'GET'}], [('invalid_method', 1)]), ([lines(asks(1))[0] | {'custom_id': 'x' * 65}], [('invalid_custom_id', 1)]),
    (lines([asks(1)[0], asks(1)[0] | {'model': 'gpt-9'}]), [('model_mismatch', 2)]), ([{'custom_id': 'a', 'method': 'POST', 'url': '/v1/chat/completions'}], [('invalid_request', 1)])])
def test_a_file_that_is_wrong_fails_as_a_whole(teacher, client, rows, codes):
    before = teacher.stats()['completions']
    batch, _ = wait(client, submit(client, rows))
    assert batch.status == 'failed' and [(e.code, e.line) for e in batch.errors.data] == codes and all(e.message for e in batch.errors.data)
    assert batch.output_file_id is None and batch.failed_at and teacher.stats()['completions'] == before


def test_a_batch_needs_a_file_an_endpoint_and_a_window(client):
    file = client.files.create(file=as_file(lines(asks(1))), purpose='batch').id
    good = dict(input_file_id=file, endpoint='/v1/chat/completions', completion_window='24h')
    for bad in ({'input_file_id': 'file-no'}, {'endpoint': '/v1/embeddings'}, {'completion_window': '1h'}, {'metadata': {'k': 'v' * 513}}, {'metadata': {str(i): 'v' for i in range(17)}}):
        with pytest.raises(openai.BadRequestError) as e: client.batches.create(**good | bad)
        assert e.value.body['param'] == next(iter(bad))
    with pytest.raises(openai.NotFoundError): client.batches.retrieve('batch_no')


def test_lines_that_fail_are_in_a_file_of_their_own():
    rows = lines(asks(40))
    rows[7]['body']['n'] = 2
    with LabTeacher(slip_rate=0, batch_failing=0.3, batch_troubled=1) as t, official(t) as c:
        batch, _ = wait(c, submit(c, rows))
        bad, good = read(c, batch.error_file_id), read(c, batch.output_file_id)
        again, _ = wait(c, submit(c, [r for r in rows if r['custom_id'] in {b['custom_id'] for b in bad}]))
    statuses = {b['custom_id']: b['response']['status_code'] for b in bad}
    assert batch.status == 'completed' and statuses['n-7'] == 400 and 5 < list(statuses.values()).count(500) < 22 and len(good) + len(bad) == 40
    assert all(b['error'] is None and b['response']['body']['error']['message'] for b in bad) and batch.request_counts.failed == len(bad)
    assert again.request_counts.failed == 1, 'the second batch is not troubled; n=2 is wrong for ever'


def test_a_batch_expires_with_what_it_has():
    with LabTeacher(slip_rate=0, batch_done=0.25) as t, official(t) as c:
        batch, _ = wait(c, submit(c, lines(asks(40))))
        good, bad = read(c, batch.output_file_id), read(c, batch.error_file_id)
    assert batch.status == 'expired' and batch.expired_at and len(good) == 10 and len(bad) == 30
    assert {b['error']['code'] for b in bad} == {'batch_expired'} and not any(b['response'] for b in bad)


def test_a_batch_is_cancelled_with_what_it_has():
    with LabTeacher(slip_rate=0, batch_seconds=2) as t, official(t) as c:
        batch = submit(c, lines(asks(40)))
        while c.batches.retrieve(batch.id).request_counts.completed < 6: time.sleep(0.01)
        assert c.batches.cancel(batch.id).status == 'cancelling'
        batch, _ = wait(c, c.batches.retrieve(batch.id))
        good, bad = read(c, batch.output_file_id), read(c, batch.error_file_id)
        with pytest.raises(openai.BadRequestError, match='cancelled'): c.batches.cancel(batch.id)
    assert batch.status == 'cancelled' and 6 <= len(good) < 40 and len(good) + len(bad) == 40 and {b['error']['code'] for b in bad} == {'batch_cancelled'}


def test_batches_are_listed_newest_first_page_by_page():
    with LabTeacher() as t, official(t) as c:
        ids = [submit(c, lines(asks(1)), metadata={'i': str(i)}).id for i in range(7)]
        assert [b.id for b in c.batches.list(limit=3)] == ids[::-1]
        page = c.batches.list(limit=3, after=ids[5])
        assert [b.id for b in page.data] == ids[2:5][::-1] and page.has_more and page.last_id == ids[2]
        assert not c.batches.list(limit=10).has_more and t.stats()['batches'] == 7


@pytest.mark.parametrize('kill', (True, pytest.param(False, marks=pytest.mark.full)))
def test_files_and_batches_survive_a_restart(tmp_path, kill):
    how = dict(slip_rate=0, batch_seconds=0.8, state=str(tmp_path/'state'))
    t = LabTeacher(**how).__enter__()
    with official(t) as c:
        over, _ = wait(c, submit(c, lines(asks(2))))
        batch = submit(c, lines(asks(40)))
        while c.batches.retrieve(batch.id).request_counts.completed < 10: time.sleep(0.01)
    if kill: t._process.kill()
    t.__exit__()
    with LabTeacher(**how) as t, official(t) as c:
        assert len(read(c, over.output_file_id)) == 2 and [b.id for b in c.batches.list()] == [batch.id, over.id]
        done, seen = wait(c, c.batches.retrieve(batch.id))
        assert done.status == 'completed' and len({r['custom_id'] for r in read(c, done.output_file_id)}) == 40 and 'validating' not in seen
        answered = Counter(t.answered())
    assert sum(answered.values()) <= 42 + kill and len(answered) == 40, 'the first two are in both batches'
    assert not list(Path(how['state']).glob('*.output')), 'nothing half done is left'


def test_faults_hold_for_files_and_batches_too():
    with LabTeacher(slip_rate=0, faults='cut:1') as t, official(t) as c:
        with pytest.raises(openai.APIConnectionError): c.files.create(file=as_file(lines(asks(1))), purpose='batch')
        assert t.stats()['files'] == 1, 'it was made, and the client cannot know'


def test_many_lines_are_checked_and_told(tmp_path):
    (tmp_path/'x').write_text('\n'.join(json.dumps({'custom_id': str(i), 'method': 'POST', 'url': '/v1/chat/completions', 'body': {'model': 'm'}}) for i in range(50_001)))
    rows, errors = check_batch_file(tmp_path/'x')
    assert len(rows) == 50_001 and [e['code'] for e in errors] == ['too_many_tasks']


def test_options_are_what_the_command_line_takes():
    done = subprocess.run([sys.executable, '-m', 'mtd.lab_server', '--help'], capture_output=True, text=True, check=True)
    assert all(f'--{k.replace("_", "-")}' in done.stdout for k in Options.__dataclass_fields__)
