"""The batch path with the official client against a server that really has files and batches: what is bought, kept, taken up again and refused."""
import json, random, signal, subprocess, sys, threading, time
from collections import Counter
from dataclasses import replace

import openai
import pytest

from mtd.batch import batch_groups, batch_line, complete_batch
from mtd.lab import lab_stories
from mtd.lab_server import LabTeacher
from mtd.prices import Budget, usage_cost
from mtd.store import Store, row_of
from mtd.teacher import TeacherError, complete, make_requests

KEY = 'sk-this-key-must-never-be-stored-anywhere'
REQUESTS = make_requests([s.problem for s in lab_stories('train', 20)], ('cot', 'pot', 'eot'), 'lab-teacher-1', shots=1)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path/'s.sqlite') as s: yield s


@pytest.fixture
def lab():
    started = []
    def start(**how):
        started.append(LabTeacher(**how).__enter__())
        return started[-1]
    yield start
    for t in started: t.__exit__()


def buy(requests, store, teacher, **how):
    return complete_batch(requests, store, teacher.base_url, KEY, **dict(endpoint=teacher.endpoint, poll=0.02, progress=False) | how)


def official(teacher): return openai.OpenAI(base_url=teacher.base_url, api_key='none', max_retries=0)
def times(teacher): return Counter(teacher.answered().values())
def noted(store): return {name: note for name, note in store.notes('batch').items() if set(note.get('keys', ())) - store.has(note.get('keys', ()))}


def test_a_batch_buys_what_the_store_lacks_and_says_how_it_was_bought(store, lab):
    teacher = lab()
    answers = buy(REQUESTS + REQUESTS[:5], store, teacher)
    assert [(c.problem_id, c.thought) for c in answers] == [(r.problem_id, r.thought) for r in REQUESTS + REQUESTS[:5]] and not answers.failures
    assert times(teacher) == {1: 60} and {r['via'] for r in store.rows()} == {'batch'} and all(c.usage['completion_tokens'] for c in answers)
    assert buy(REQUESTS[::-1], store, teacher).completions == answers.completions[:60][::-1] and times(teacher) == {1: 60}
    assert not noted(store) and store.claim([r.key(teacher.endpoint) for r in REQUESTS]) == set()


def test_both_paths_say_the_same_and_share_what_they_bought(tmp_path, lab):
    teacher = lab()
    with Store(tmp_path/'a') as a, Store(tmp_path/'b') as b:
        one = buy(REQUESTS, a, teacher)
        with official(teacher) as c:
            for r in REQUESTS[:30]:
                raw = c.chat.completions.with_raw_response.create(model=r.model, messages=[], extra_body=r.body()).text
                b.put([row_of(r, r.key(teacher.endpoint), teacher.endpoint, raw, KEY)])
        before = teacher.stats()['completions']
        two = buy(REQUESTS, b, teacher)
        assert teacher.stats()['completions'] == before + 30 and Counter(r['via'] for r in b.rows()) == {'chat': 30, 'batch': 30}
        assert one.completions == two.completions
        without = lambda rows: [{k: v for k, v in r.items() if k not in ('created', 'via')} for r in rows]
        assert without(a.rows()) == without(b.rows()), 'the same to the last byte of the raw response'


def test_the_answers_come_in_another_order_and_are_joined_by_id(store, lab):
    teacher = lab(slip_rate=0)
    gold = {s.problem.id: s.gold for s in lab_stories('train', 20)}
    assert all(c.text == gold[c.problem_id][c.thought] for c in buy(REQUESTS, store, teacher))
    with official(teacher) as c:
        batch = next(iter(c.batches.list()))
        ids = [json.loads(line)['custom_id'] for line in c.files.content(batch.output_file_id).text.splitlines()]
    keys = [r.key(teacher.endpoint) for r in REQUESTS]
    assert ids != keys and sorted(ids) == sorted(keys) and max(map(len, ids)) == 64, 'the most that the API allows'


def test_groups_hold_one_model_and_keep_within_both_sizes():
    mixed = {f'{i:064}': replace(r, model=f'm{i % 3}') for i, r in enumerate(REQUESTS)}
    groups = batch_groups(mixed, 7, 10_000)
    assert sorted(k for g in groups for k in g) == sorted(mixed) and all(len({mixed[k].model for k in g}) == 1 for g in groups)
    assert max(map(len, groups)) <= 7 and max(sum(len(batch_line(k, mixed[k])) for k in g) for g in groups) <= 10_000
    with pytest.raises(ValueError, match='shorten it'): batch_groups(mixed, 7, 500)


def test_several_batches_at_once_and_no_more_than_the_server_takes(store, lab):
    teacher = lab(batch_limit=2, batch_seconds=0.2)
    answers = buy(REQUESTS, store, teacher, size=13)
    assert len(answers) == 60 and times(teacher) == {1: 60} and teacher.stats()['batches'] >= 5


def test_lines_that_fail_for_a_while_are_asked_again_and_others_are_reported(store, lab):
    teacher = lab(batch_failing=0.3, batch_troubled=1)
    wrong = [replace(r, messages=[{'role': 'user', 'content': None}]) for r in REQUESTS[:2]]
    answers = buy(REQUESTS + wrong, store, teacher)
    assert len(answers) == 60 and [f['reason'].split(':')[0] for f in answers.failures] == ['HTTP 400'] * 2
    assert teacher.stats()['batches'] == 2 and times(teacher) == {1: 60}


def test_a_line_that_keeps_failing_is_reported_after_so_many_rounds(store, lab):
    teacher = lab(batch_failing=1)
    answers = buy(REQUESTS[:5], store, teacher, rounds=3)
    assert teacher.stats()['batches'] == 3 and len(answers.failures) == 5 and all('HTTP 500: This line failed' in f['reason'] for f in answers.failures)
    assert buy(REQUESTS[:5], store, teacher, rounds=1).failures and teacher.stats()['batches'] == 4, 'a rerun asks for these again'


def test_an_expired_batch_leaves_what_it_has_and_the_rest_is_asked_again(store, lab):
    teacher = lab(batch_done=0.5, batch_troubled=1)
    answers = buy(REQUESTS, store, teacher)
    assert len(answers) == 60 and teacher.stats()['batches'] == 2 and times(teacher) == {1: 60}


def test_an_expired_batch_is_reported_when_the_rounds_are_over(store, lab):
    teacher = lab(batch_done=0.5)
    answers = buy(REQUESTS, store, teacher, rounds=1)
    assert len(answers) == 30 == len(store) and {f['reason'].split(':')[0] for f in answers.failures} == {'batch_expired'}


def test_a_cancelled_batch_keeps_what_it_has_and_is_not_asked_again_by_itself(store, lab):
    teacher = lab(batch_seconds=2)
    def cancel():
        with official(teacher) as c:
            while not [b for b in c.batches.list() if b.request_counts.completed > 5]: time.sleep(0.02)
            c.batches.cancel(next(iter(c.batches.list())).id)
    threading.Thread(target=cancel).start()
    answers = buy(REQUESTS, store, teacher)
    assert 5 < len(answers) < 60 and {f['reason'].split(':')[0] for f in answers.failures} == {'batch_cancelled'} and teacher.stats()['batches'] == 1
    assert not noted(store)
    answers = buy(REQUESTS, store, teacher)
    assert len(answers) == 60 and times(teacher) == {1: 60}, 'asked for again, it is bought'


def test_a_refused_batch_is_told_in_the_words_of_the_server(store, lab, monkeypatch):
    import mtd.batch
    teacher, line = lab(), mtd.batch.batch_line
    monkeypatch.setattr(mtd.batch, 'batch_line', lambda k, r: line('x' * 70 if k.startswith('0') else k, r) if len(k) == 64 else line(k, r))
    keys = {r.key(teacher.endpoint) for r in REQUESTS}
    assert any(k.startswith('0') for k in keys)
    with pytest.raises(TeacherError, match=r'refused the batch .*line \d+: A custom_id of 1 to 64 characters is needed') as e: buy(REQUESTS, store, teacher)
    assert len(e.value.failures) == 60 and not noted(store) and teacher.stats()['completions'] == 0 and KEY not in str(e.value)
    monkeypatch.undo()
    assert len(buy(REQUESTS, store, teacher)) == 60, 'nothing stands in the way of another try'


def test_lines_that_are_no_results_stop_no_other(store, tmp_path, lab):
    teacher = lab(state=str(tmp_path/'state'))
    buy(REQUESTS[:6], store, teacher, wait=False)
    with official(teacher) as c:
        while not (batch := next(iter(c.batches.list()))).output_file_id: time.sleep(0.01)
    path = tmp_path/'state'/batch.output_file_id
    lines = path.read_bytes().splitlines()
    for i, odd in enumerate(({'error': 'gone'}, {'response': {'status_code': 500, 'body': '<html>'}}, {'response': 'none'})):
        lines[i] = json.dumps({'custom_id': json.loads(lines[i])['custom_id']} | odd).encode().ljust(len(lines[i])) # as long as before
    path.write_bytes(b'\n'.join(lines) + b'\n')
    answers = buy(REQUESTS[:6], store, teacher, rounds=1)
    assert len(answers) == 3 and all(f['again'] for f in answers.failures) and not noted(store)
    assert {f['reason'] for f in answers.failures} == {'gone', 'HTTP 500: no reason given', 'HTTP None: no reason given'}


def test_a_wrong_model_is_a_failure_of_each_line(store, lab):
    answers = buy([replace(r, model='gpt-9') for r in REQUESTS[:4]], store, lab())
    assert len(answers.failures) == 4 and all("HTTP 404: There is no model 'gpt-9'" in f['reason'] for f in answers.failures)


def test_handed_in_and_fetched_another_time(store, lab):
    teacher = lab(batch_seconds=0.5)
    answers = buy(REQUESTS, store, teacher, wait=False)
    assert not len(answers) and all('under way in the batch batch_' in f['reason'] for f in answers.failures) and len(noted(store)) == 1
    assert len(buy(REQUESTS, store, teacher)) == 60 and times(teacher) == {1: 60} and teacher.stats()['batches'] == 1


def test_what_another_call_asked_for_stays_noted_until_it_asks_again(store, lab):
    teacher = lab(batch_seconds=0.3)
    buy(REQUESTS, store, teacher, wait=False)
    assert len(buy(REQUESTS[:7], store, teacher)) == 7 == len(store) and len(next(iter(noted(store).values()))['keys']) == 53
    assert len(buy(REQUESTS, store, teacher)) == 60 and times(teacher) == {1: 60} and not noted(store)


def test_a_lost_store_finds_its_batches_again(tmp_path, lab):
    teacher = lab()
    with Store(tmp_path/'a') as a: buy(REQUESTS, a, teacher)
    with Store(tmp_path/'b') as b: assert len(buy(REQUESTS, b, teacher)) == 60 and times(teacher) == {1: 60}


def test_lines_under_other_ids_are_ignored_and_counted(store, lab, capsys):
    teacher = lab(batch_seconds=0.4)
    buy(REQUESTS[:10], store, teacher, wait=False)
    (name, note), = noted(store).items()
    store.note(name, note | {'keys': note['keys'][:6]})  # of ten lines, four are strangers now
    known = [r for r in REQUESTS[:10] if r.key(teacher.endpoint) in note['keys'][:6]]
    answers = buy(known, store, teacher)
    assert len(answers) == 6 == len(store) and '4 lines under ids that are not ours' in capsys.readouterr().err


def test_an_unknown_batch_is_no_reason_to_buy_again(store, lab):
    teacher = lab(batch_seconds=0.5)
    buy(REQUESTS[:5], store, teacher, wait=False)
    other = lab()  # it has never heard of that batch
    with pytest.raises(TeacherError, match='does not know the batch batch_.*forget it'): buy(REQUESTS[:5], store, other)
    store.note(next(iter(noted(store))), None)
    assert len(buy(REQUESTS[:5], store, other)) == 5


def test_results_that_are_no_longer_kept_are_reported_and_asked_again_by_the_next_run(store, lab):
    teacher = lab()
    buy(REQUESTS[:5], store, teacher, wait=False)
    with official(teacher) as c:
        while not (batch := next(iter(c.batches.list()))).output_file_id: time.sleep(0.01)
        c.files.delete(batch.output_file_id)
    answers = buy(REQUESTS[:5], store, teacher)
    assert len(answers.failures) == 5 and 'no longer keeps the file' in answers.failures[0]['reason']
    assert len(buy(REQUESTS[:5], store, teacher)) == 5


def test_the_key_is_nowhere(store, lab):
    teacher = lab(batch_failing=1)
    buy(REQUESTS[:3], store, teacher)
    store.close()
    assert KEY.encode() not in b''.join(p.read_bytes() for p in store.path.parent.rglob('*') if p.is_file())


def test_bad_arguments_and_a_dead_server_are_told(store, lab):
    for bad in (dict(size=0), dict(size=50_001), dict(rounds=0), dict(poll=0)):
        with pytest.raises(ValueError, match='size is 1 to'): complete_batch(REQUESTS, store, 'http://127.0.0.1:9/v1', KEY, progress=False, **{'poll': 0.02} | bad)
    with pytest.raises(ValueError, match='no API key'): complete_batch(REQUESTS, store, 'http://127.0.0.1:9/v1', '', progress=False)
    with pytest.raises(TeacherError, match='no connection.*nothing is under way'):
        complete_batch(REQUESTS, store, 'http://127.0.0.1:9/v1', KEY, progress=False, poll=0.02, patience=0)
    assert len(store.claim(r.key('e') for r in REQUESTS)) == 60, 'nothing stays claimed'


@pytest.mark.parametrize('faults', ['cut:0.1 json:0.1 429:0.05 503:0.05 empty:0.1',
                                    *(pytest.param(f, marks=pytest.mark.full) for f in ('cut:0.3', 'json:0.3', '429:0.2 503:0.2 empty:0.2'))])
def test_a_faulty_endpoint_makes_no_batch_twice(store, lab, faults):
    teacher = lab(faults=faults, fault_seed=3)
    answers = buy(REQUESTS, store, teacher, size=20)
    stats = teacher.stats()
    assert len(answers) == 60 and times(teacher) == {1: 60} and stats['batches'] == 3 and sum(stats['faults'].values()) > 2


def test_the_server_may_be_restarted_meanwhile(store, tmp_path):
    how = dict(batch_seconds=1, state=str(tmp_path/'state'))
    teacher = LabTeacher(**how).__enter__()
    port, result = int(teacher.base_url.split(':')[2].split('/')[0]), {}
    run = threading.Thread(target=lambda: result.update(answers=buy(REQUESTS, store, teacher)))
    run.start()
    while teacher.stats()['completions'] < 20: time.sleep(0.01)
    teacher._process.kill(); teacher.__exit__()
    time.sleep(0.3)
    with LabTeacher(**how, port=port) as teacher:
        run.join(30)
        assert len(result['answers']) == 60 and teacher.stats()['batches'] == 1 and sum(teacher.answered().values()) <= 61 and len(teacher.answered()) == 60


PRICES = {'read_on': 'now', 'batch': 0.5, 'models': {'lab-teacher-1': [100., 400.]}} # dollars for a million tokens


def spent(store): return usage_cost([dict(key=r['key'], model=r['model'], usage=json.loads(r['usage']), via=r['via']) for r in store.rows()], PRICES).dollars


def test_a_budget_is_held(store, lab):
    teacher = lab(batch_failing=0.2, batch_troubled=1)
    answers = buy(REQUESTS, store, teacher, budget=3, prices=PRICES, size=10)
    assert 10 < len(answers) == teacher.stats()['completions'] < 60 and 0.3 < spent(store) <= 3
    assert {f['reason'] for f in answers.failures} == {'not asked: it might cross the budget'} and all(f['again'] for f in answers.failures)
    assert len(buy(REQUESTS, store, teacher, budget=30, prices=PRICES)) == 60 == len(store)
    assert {b['via'] for b in buy(REQUESTS, store, teacher).bought} == {'batch'}


def test_what_is_under_way_counts_in_the_budget_of_the_next_run(store, lab):
    teacher = lab(batch_seconds=0.3)
    buy(REQUESTS[:30], store, teacher, wait=False, budget=30, prices=PRICES)
    assert len(store) == 0 and teacher.stats()['batches'] == 1
    answers = buy(REQUESTS, store, teacher, budget=spent_of(30), prices=PRICES)
    assert 30 <= len(answers) < 60 and spent(store) <= spent_of(30), 'the money of the thirty under way is not spent again'
    assert len(buy(REQUESTS, store, teacher, budget=30, prices=PRICES)) == 60


def spent_of(n): # what the first `n` may cost at the worst
    budget = Budget(1e6, PRICES, batch=True)
    for r in REQUESTS[:n]: assert budget.reserve(r)
    return budget.reserved


# Killed

CODE = """
import os, signal, sys
from openai.resources import Batches, Files
from mtd.batch import complete_batch
from mtd.lab import lab_stories
from mtd.store import Store
from mtd.teacher import make_requests
url, endpoint, path, step = sys.argv[1:]
steps = 0
def watched(owner, name):
    do = getattr(owner, name)
    def watch(*args, **how):
        global steps
        steps += 1
        if steps == int(step): os.kill(os.getpid(), signal.SIGKILL)
        result = do(*args, **how)
        steps += 1
        if steps == int(step): os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, watch)
import mtd.batch
mtd.batch.GROUP = 16
for owner, name in ((Store, 'claim'), (Store, 'note'), (Store, 'put'), (Files, 'create'), (Batches, 'create'), (Files, 'retrieve')): watched(owner, name)
requests = make_requests([s.problem for s in lab_stories('train', 20)], ('cot', 'pot'), 'lab-teacher-1', shots=1)
a = complete_batch(requests, Store(path), url, 'none', endpoint=endpoint, poll=0.02, size=25, progress=False)
print(len(a), len(a.failures), steps)
"""


def run(teacher, path, step=0, **how):
    return subprocess.Popen([sys.executable, '-c', CODE, teacher.base_url, teacher.endpoint, str(path), str(step)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def killed_and_resumed(teacher, path, step):
    "Kill a run at a step, or at a moment where `step` is a fraction of a second; run again; what was answered how often."
    first = run(teacher, path, step if isinstance(step, int) else 0)
    if not isinstance(step, int): time.sleep(step); first.kill()
    first.communicate()
    before = Counter(teacher.answered())
    out, err = run(teacher, path).communicate(timeout=60)
    assert out.split()[:2] == ['40', '0'], (step, err[-800:])
    return first.returncode, before


def steps_of(tmp_path, lab):
    teacher = lab()
    out, err = run(teacher, tmp_path/'undisturbed').communicate(timeout=60)
    assert out.split()[:2] == ['40', '0'], err[-800:]
    return int(out.split()[2])


def at_each_step(tmp_path, lab, steps):
    for step in steps:
        teacher = lab(slip_rate=step / 1000)  # an identity of its own
        code, _ = killed_and_resumed(teacher, tmp_path/f's{step}', step)
        assert code == -signal.SIGKILL, step
        assert times(teacher) == {1: 40} and teacher.stats()['batches'] == 2, f'killed at step {step}, something was bought twice'
        with Store(tmp_path/f's{step}') as s: assert len(s) == 40 and not noted(s) and len(s.claim(['other'])) == 1


@pytest.mark.skipif(sys.platform == 'win32', reason='a process is killed by a signal that Windows does not have')
def test_killed_around_the_making_of_a_batch_nothing_is_bought_twice(tmp_path, lab):
    at_each_step(tmp_path, lab, (8, 9))  # made and not noted; about to be noted


@pytest.mark.full
@pytest.mark.skipif(sys.platform == 'win32', reason='a process is killed by a signal that Windows does not have')
def test_killed_at_every_step_nothing_is_bought_twice(tmp_path, lab):
    n = steps_of(tmp_path, lab)
    assert n > 30
    at_each_step(tmp_path, lab, range(1, n + 1))


@pytest.mark.full
@pytest.mark.skipif(sys.platform == 'win32', reason='a process is killed by a signal that Windows does not have')
def test_killed_at_any_moment_nothing_is_bought_twice(tmp_path, lab):
    rng = random.Random(0)
    for i in range(10):
        teacher = lab(slip_rate=i / 1000, batch_seconds=0.5)
        killed_and_resumed(teacher, tmp_path/f's{i}', 0.2 + 1.8 * rng.random())
        assert times(teacher) == {1: 40} and teacher.stats()['batches'] == 2


def test_two_processes_hand_in_nothing_twice(tmp_path, lab):
    teacher = lab(batch_seconds=0.4)
    both = [run(teacher, tmp_path/'shared') for _ in range(2)]
    said = [p.communicate(timeout=60) for p in both]
    assert [out.split()[:2] for out, _ in said] == [['40', '0']] * 2, [err[-500:] for _, err in said]
    assert times(teacher) == {1: 40} and teacher.stats()['batches'] == 2


@pytest.mark.skipif(sys.platform == 'win32', reason='a process is killed by a signal that Windows does not have')
def test_who_waits_for_another_takes_over_when_it_dies(tmp_path, lab):
    teacher = lab(batch_seconds=2)
    one = run(teacher, tmp_path/'shared')
    while teacher.stats()['batches'] < 2: time.sleep(0.02)
    two = run(teacher, tmp_path/'shared')
    time.sleep(1)
    one.kill(); one.communicate()
    out, err = two.communicate(timeout=60)
    assert out.split()[:2] == ['40', '0'], err[-800:]
    assert times(teacher) == {1: 40} and teacher.stats()['batches'] == 2


@pytest.mark.parametrize('odd', [{'error': 'words'}, {'error': ['words']}, {'response': 'words'}, {'response': {'status_code': 400, 'body': 'words'}},
                                 {'response': {'status_code': 400, 'body': {'error': 'words \ud800'}}}, {'response': {'status_code': '500', 'body': [1]}},
                                 {'response': {'status_code': 200, 'body': None}}, {'custom_id': ['x']}, {'custom_id': None}, [], None])
def test_an_odd_line_in_the_results_stops_no_other(tmp_path, store, lab, odd):
    teacher = lab(state=str(tmp_path/'state'))
    buy(REQUESTS[:4], store, teacher, wait=False)
    with official(teacher) as c: path = tmp_path/'state'/ends(lambda: next(iter(c.batches.list())).output_file_id)
    lines = path.read_bytes().splitlines()
    first = json.loads(lines[0])['custom_id']
    line = json.dumps({'custom_id': first} | odd if isinstance(odd, dict) else odd).encode()
    path.write_bytes(b'\n'.join([line.ljust(len(lines[0])), *lines[1:]]) + b'\n')
    answers = buy(REQUESTS[:4], store, teacher, rounds=1)
    assert len(answers) == 3 and [f['problem_id'] for f in answers.failures] == [r.problem_id for r in REQUESTS[:4] if r.key(teacher.endpoint) == first]
    assert answers.failures[0]['reason'].encode()


def ends(look, seconds=10):
    until = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < until: time.sleep(0.02)
    return found


def test_the_chat_path_leaves_to_a_batch_what_was_handed_in(tmp_path, lab):
    teacher = lab(batch_seconds=1)
    chat = lambda store, n=12: complete(REQUESTS[:n], store, teacher.base_url, KEY, endpoint=teacher.endpoint, progress=False)
    with Store(tmp_path/'s') as store: buy(REQUESTS[:8], store, teacher, wait=False)
    with Store(tmp_path/'s') as store:
        answers = chat(store)
        assert len(answers) == 4 and all(f['again'] and 'under way in the batch' in f['reason'] for f in answers.failures) and len(answers.failures) == 8
        assert len(chat(store, 8)) == 0
        assert len(buy(REQUESTS[:12], store, teacher)) == 12 and times(teacher) == {1: 12} and len(chat(store)) == 12


def test_the_chat_path_takes_over_no_batch_from_a_process_that_died(tmp_path, lab):
    teacher = lab(batch_seconds=1)
    with Store(tmp_path/'s') as a, Store(tmp_path/'s') as b:
        keys = [r.key(teacher.endpoint) for r in REQUESTS[:6]]
        assert len(a.claim(keys)) == 6 # as a process does that is about to hand in a batch
        found = []
        asking = threading.Thread(target=lambda: found.append(complete(REQUESTS[:8], b, teacher.base_url, KEY, endpoint=teacher.endpoint, progress=False)))
        asking.start()
        assert ends(lambda: len(b) == 2)
        buy(REQUESTS[:6], a, teacher, wait=False) # ends, and its claims with it
        asking.join(20)
        assert len(found[0]) == 2 and len(found[0].failures) == 6
        assert len(buy(REQUESTS[:8], a, teacher)) == 8 and times(teacher) == {1: 8}


@pytest.mark.parametrize('ending', ['\r\n'])
def test_a_key_with_a_line_end_is_sent_without_it_and_told_to_nobody(store, ending):
    with pytest.raises(TeacherError, match='no connection') as told:
        complete_batch(REQUESTS[:2], store, 'http://127.0.0.1:9/v1', KEY + ending, progress=False, poll=0.05, patience=0.1)
    assert KEY not in str(told.value)
    for bad in (KEY + '\0', KEY + '”', KEY[:20] + '\n' + KEY[20:]):
        for ask in (complete, complete_batch):
            with pytest.raises(ValueError, match='cannot be sent') as told: ask(REQUESTS[:2], store, 'http://127.0.0.1:9/v1', bad, progress=False)
            assert KEY[:15] not in str(told.value)
