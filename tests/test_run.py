"""A run from an empty folder: whole, killed and resumed, and never made twice; then the student of that run is asked."""
import json, os, random, shutil, signal, socket, sqlite3, subprocess, sys, time, urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

MTD = str(Path(sys.executable).parent/'mtd')
ENV = os.environ | {'OMP_NUM_THREADS': '1', 'OMP_WAIT_POLICY': 'passive'}
RUN = [MTD, 'run', '--profile', 'smoke', '--notebooks', '07', '08', '12']


def call(*args, cwd):
    return subprocess.run([MTD, *args], cwd=cwd, env=ENV, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "An undisturbed run in a folder that is no checkout."
    folder, start = tmp_path_factory.mktemp('whole'), time.monotonic()
    done = subprocess.run(RUN, cwd=folder, env=ENV, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    done.took = time.monotonic() - start
    return folder, done


def results(folder):
    base = folder/'runs'/'smoke'
    return {name: (base/name).read_bytes() for name in ('problems/train.jsonl', 'completions/completions.jsonl', 'thoughts/data/train.parquet', 'thoughts/README.md', 'scores/scores.json')}


def test_report_opens_offline_and_the_table_has_intervals(whole):
    folder, done = whole
    page = (folder/'runs'/'smoke'/'report.html').read_text()
    assert str(folder/'runs'/'smoke'/'report.html') in done.stdout and '95% interval' in done.stdout
    assert not any(f'{tag}="http' in page for tag in ('src', 'href')) and '<script' not in page
    for word in ('Learning curve', 'What the filter kept', 'per kept thought', 'transformers', 'lab/numbers'): assert word in page


def test_second_call_makes_nothing(whole):
    folder, _ = whole
    stamps = {p: p.stat().st_mtime_ns for p in folder.rglob('manifest.json')}
    start = time.monotonic()
    done = subprocess.run(RUN, cwd=folder, env=ENV, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and done.stderr.count('executed before, unchanged') == 3 and 'making it' not in done.stderr
    assert stamps == {p: p.stat().st_mtime_ns for p in folder.rglob('manifest.json')} and len(stamps) >= 7


@pytest.mark.parametrize('kills', [1, pytest.param(12, marks=pytest.mark.full)])
def test_killed_run_goes_on_and_ends_the_same(whole, tmp_path, kills):
    rng, standing = random.Random(kills), {}
    for _ in range(kills):
        job = subprocess.Popen(RUN, cwd=tmp_path, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try: job.wait(rng.uniform(0.1, 0.9) * whole[1].took)
        except subprocess.TimeoutExpired: os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        now = {p: p.stat().st_mtime_ns for p in tmp_path.glob('runs/smoke-*/[a-z]*/manifest.json')}
        assert standing.items() <= now.items(), 'a finished stage was made again'
        standing = now
    done = subprocess.run(RUN, cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    assert results(tmp_path) == results(whole[0])
    def bought(folder): return sqlite3.connect(folder/'runs'/'completions.sqlite').execute('select count(*) from completions').fetchone()[0]
    assert bought(tmp_path) == bought(whole[0]) > 0


def test_a_broken_artifact_is_made_again(whole):
    folder, _ = whole
    path = folder/'runs'/'smoke'/'scores'/'scores.json'
    before = path.read_text()
    path.write_text(before[:10])
    code = "from mtd.run import Run; from mtd.settings import load; Run(load('smoke')).artifact('scores')"
    subprocess.run([sys.executable, '-c', code], cwd=folder, env=ENV, check=True, timeout=300)
    assert path.read_text() == before


def test_the_price_is_told_and_nothing_is_asked(whole, tmp_path):
    done = call('run', '--profile', 'smoke', '--dry-run', cwd=tmp_path)
    total = next(line for line in done.stdout.splitlines() if 'total' in line)
    assert done.returncode == 0 and [x.strip() for x in total.split('|')][2:4] == ['216', '0'] and '$0.0000' in total
    folder, _ = whole
    assert '| 216 | 216 |' in call('run', '--profile', 'smoke', '--dry-run', cwd=folder).stdout, 'all of it is stored'
    rows = json.loads(call('store', 'list', '--json', cwd=folder).stdout)
    assert sum(r['completions'] for r in rows) >= 216 and not any((tmp_path/'runs').glob('*/completions'))


def test_a_run_is_replayed_from_an_imported_store_alone(whole, tmp_path):
    folder, _ = whole
    assert call('store', 'export', str(tmp_path/'bought.parquet'), cwd=folder).returncode == 0
    make = [MTD, 'run', '--profile', 'smoke', '--notebooks', '07', '--set', 'replay=true']
    lacking = subprocess.run(make, cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=300)
    assert lacking.returncode == 2 and 'are not in' in lacking.stderr and 'lab/train/0/0' in lacking.stderr
    assert call('store', 'import', 'bought.parquet', cwd=tmp_path).returncode == 0
    done = subprocess.run(make, cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    name = 'runs/smoke/thoughts/data/train.parquet'
    assert (tmp_path/name).read_bytes() == (folder/name).read_bytes()


@pytest.mark.parametrize('way', ['chat', 'batch'])
def test_an_endpoint_is_asked_with_the_settings_of_a_run(tmp_path, way, monkeypatch):
    from mtd.lab_server import LabTeacher
    from mtd.run import Run
    from mtd.settings import load
    monkeypatch.delenv('OPENAI_API_KEY', raising=False)
    with LabTeacher(faults='' if way == 'batch' else '429:0.1 500:0.1') as teacher:
        how = dict(sources='endpoint', endpoint=teacher.base_url, teacher_model='lab-teacher-1', train_problems=4, dev_problems=2, batch=way == 'batch', budget=0.5,
                   teacher_extra='top_p:null', stop='Question:', requests_per_minute=6000)
        run = Run(load('smoke', how), tmp_path)
        with pytest.raises(ValueError, match='export OPENAI_API_KEY'): run.artifact('thoughts')
        monkeypatch.setenv('OPENAI_API_KEY', 'any')
        thoughts = run.artifact('thoughts')
        assert teacher.stats()['batches'] == (way == 'batch') and teacher.stats()['completions'] >= 18
    assert json.loads((thoughts/'cost.json').read_text())[-1]['bought'] == 18
    monkeypatch.delenv('OPENAI_API_KEY')
    assert Run(load('smoke', how | {'replay': True}), tmp_path).artifact('thoughts') == thoughts and {r['via'] for r in run.read('completions', 'bought.jsonl')} == {way}


def test_a_run_goes_on_without_some_answers_only_where_that_is_set(tmp_path, monkeypatch):
    from mtd.lab_server import LabTeacher
    from mtd.run import Run
    from mtd.settings import load
    monkeypatch.setenv('OPENAI_API_KEY', 'any')
    with LabTeacher(faults='500:0.3', fault_seed=3) as teacher:
        how = dict(sources='endpoint', endpoint=teacher.base_url, teacher_model='lab-teacher-1', train_problems=4, dev_problems=2, attempts=1)
        with pytest.raises(ValueError, match='of 18 requests have no answer .*HTTP 500.*unanswered'): Run(load('smoke', how), tmp_path).artifact('completions')
        assert Run(load('smoke', how | {'unanswered': 0.9}), tmp_path).artifact('completions').is_dir()


def test_the_thoughts_of_a_run_load_as_a_dataset_and_have_their_price(whole, tmp_path):
    from datasets import load_dataset
    folder = whole[0]/'runs'/'smoke'/'thoughts'
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path))
    cost, yields = (json.loads((folder/f'{name}.json').read_text()) for name in ('cost', 'yields'))
    kept = {t: sum(r['thought'] == t and not r['reason'] for split in loaded.values() for r in split) for t in ('cot', 'pot', 'eot')}
    assert {c['thought']: c['kept'] for c in cost if c['thought'] != 'total'} == kept == {y['thought']: y['kept'] for y in yields}
    assert cost[-1]['bought'] == 216 and cost[-1]['dollars'] == 0 and 'Prices' in (folder/'README.md').read_text()


def test_ask_answers_in_all_three_thoughts(whole):
    done = call('ask', '--student', 'runs/smoke', 'Mia has 12 shells. Mia finds 7 shells. How many shells does Mia have now?', '--max-new-tokens', '40', cwd=whole[0])
    assert done.returncode == 0, done.stderr
    for thought in ('[cot]', '[pot]', '[eot]', 'combined ('): assert thought in done.stdout


@pytest.mark.parametrize('args, says', [
    (['run', '--profile', 'smok'], "did you mean 'smoke'"), (['run', '--set', 'sede=1'], "did you mean 'seed'"), (['run', '--set', 'seed'], 'key=value'),
    (['run', '--profile', 'smoke', '--notebooks', '99'], 'no notebook begins with'), (['ask', '--student', 'runs/none', 'q'], 'holds no student'),
    (['settings', '--profile', 'lab', '--set', 'top_p=3'], 'above 1.0'), (['push', '--student', 'runs/none', 'a/b'], 'holds no student'),
    (['run', '--profile', 'paper', '--set', 'data=nowhere', '--notebooks', '07'], 'nowhere'),
])
def test_wrong_words_are_one_line_and_status_2(tmp_path, args, says):
    done = call(*args, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr and 'Traceback' not in done.stderr


def test_settings_lists_profiles_and_values(tmp_path):
    assert call('settings', cwd=tmp_path).stdout.split()[:2] == ['smoke', 'lab']
    assert 'student_seed = 3' in call('settings', '--profile', 'gsm8k', '--set', 'student_seed=3', cwd=tmp_path).stdout


def test_scores_agree_with_predictions(whole):
    base = whole[0]/'runs'/'smoke'
    scores = json.loads((base/'scores'/'scores.json').read_text())
    for name, s in scores['sets'].items():
        for thought, one in s['thoughts'].items():
            rows = [json.loads(line) for line in (base/'predictions'/f'{name.replace("/", "-")}.{thought}.jsonl').read_text().splitlines()]
            assert (len(rows), sum(r['right'] for r in rows)) == (one['n'], one['right'])
    card = (base/'student'/'README.md').read_text()
    assert 'Apache-2.0' in card and 'max_steps' in card


def test_scores_hold_lengths_and_rulers_and_are_exported(whole, tmp_path):
    base = whole[0]/'runs'/'smoke'
    scores = json.loads((base/'scores'/'scores.json').read_text())
    done = call('export', str(tmp_path), '--profile', 'smoke', cwd=whole[0])
    assert done.returncode == 0, done.stderr
    exported = json.loads(Path(done.stdout.strip()).read_text())['results']
    for name, s in scores['sets'].items():
        assert len(s['operations']) == len(s['thoughts']) + 1 and all(sum(v['n'] for v in rows.values()) == s['n'] for rows in s['operations'].values())
        for thought, rulers in s['rulers'].items():
            assert rulers['ours']['right'] == s['thoughts'][thought]['right'] == sum(v['right'] for v in s['operations'][thought].values())
            task = exported[f'{name.replace("/", "_")}_{thought}']
            assert [task[f'exact_match,{f}'] * s['n'] for f in ('mtd', 'strict-match', 'flexible-extract')] == pytest.approx([rulers[r]['right'] for r in ('ours', 'strict-match', 'flexible-extract')])
    page = (base/'report.html').read_text()
    assert 'How much is the ruler' in page and 'accuracy by operations' in page and 'flexible-extract' in page
    gone = call('export', str(tmp_path), '--profile', 'smoke', '--set', 'student_seed=5', cwd=whole[0])
    assert gone.returncode == 2 and 'has no predictions' in gone.stderr and 'mtd run --profile smoke --set student_seed=5' in gone.stderr
PREDICT = '''import sys
from mtd import generation as gn
from mtd.run import Run
from mtd.settings import load
write = gn._Journal.add
gn._Journal.add = lambda self, row: (write(self, row), print('written', flush=True)) # tells its parent
print(Run(load('smoke', dict(x.split('=') for x in sys.argv[3:])), sys.argv[1]).artifact(sys.argv[2]))'''


def predict(whole, folder, *settings, stage='predictions'):
    "The stage alone, in a copy of the run that lacks it, as a process."
    if not (folder/'runs').exists():
        shutil.copytree(whole[0]/'runs', folder/'runs', symlinks=True)
        for path in folder.glob(f'runs/smoke-*/{stage}'): shutil.rmtree(path)
    return subprocess.Popen([sys.executable, '-c', PREDICT, str(folder), stage, *settings], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def predicted(folder): # without what other company in a batch may round otherwise
    return {p.name: [{k: v for k, v in json.loads(line).items() if k != 'log_probability'} for line in p.read_text().splitlines()] for p in sorted(folder.glob('*.jsonl'))}


@pytest.mark.parametrize('stage, files', [('predictions', 9), ('paths', 2)])
def test_killed_answering_asks_only_for_what_is_missing_and_gives_the_same(whole, tmp_path, stage, files):
    job, written = predict(whole, tmp_path, 'eval_tokens=2000', stage=stage), 0
    while written < 21: written += job.stdout.readline() == 'written\n' # the journal's head is a line as well
    job.send_signal(signal.SIGKILL); job.wait()
    journal, = tmp_path.glob(f'runs/smoke-*/.{stage}.partial/journal.jsonl')
    kept = journal.read_bytes().count(b'\n') - 1
    job = predict(whole, tmp_path, stage=stage)
    said, errors = job.communicate(timeout=300)
    assert job.returncode == 0 and kept >= 20 and not journal.exists(), errors[-3000:]
    made, undisturbed = predicted(Path(said.split()[-1])), predicted(next(whole[0].glob(f'runs/smoke-*/{stage}')))
    assert sum(map(len, made.values())) == kept + said.count('written\n'), 'an answer was lost, or asked for twice'
    assert made == undisturbed and len(made) == files


def test_votes_are_of_the_paths_and_stand_in_the_report(whole):
    from dataclasses import replace
    from fractions import Fraction
    from mtd.evaluation import plausible
    from mtd.multipath import vote
    from mtd.run import Run, read_paths
    from mtd.settings import load
    base = next(whole[0].glob('runs/smoke-*/votes')).parent # other settings may be the newest
    votes, run = json.loads((base/'votes'/'votes.json').read_text()), Run(load('smoke'), whole[0], newest=False)
    sampled, problems = read_paths(run, 'lab/numbers'), run.read('problems', 'test/lab-numbers.jsonl')
    assert [[p.thought for p in paths] for paths in sampled] == [['cot'] * 3 + ['pot'] * 3 + ['eot'] * 3] * 12 and list(votes['sets']) == ['lab/numbers']
    heard = [[replace(p, outcome=o) for p, o in zip(paths, plausible([p.outcome for p in paths], Fraction(0)))] for paths in sampled]
    ballots, shown = [vote(paths, order=votes['order']).outcome for paths in heard], votes['sets']['lab/numbers']['rules']['plain']
    assert shown['k'] == 3 and shown['n'] == len(problems) == 12 and shown['silent'] == pytest.approx(sum(not o.ok for o in ballots) / 12)
    assert shown['accuracy'] == pytest.approx(sum(o.ok and o.answer == Fraction(p['answer']) for o, p in zip(ballots, problems)) / 12)
    assert 'Many paths, one vote' in (base/'report.html').read_text() and 'accuracy over paths on lab/numbers' in (base/'report.html').read_text()


def test_predictions_are_what_the_student_writes_and_what_comes_of_it(whole):
    from mtd.core import Problem, same_answer
    from mtd.generation import generate, load_student
    from mtd.prompting import execute, student_input
    base = next(whole[0].glob('runs/smoke-*/predictions')).parent # other settings may be the newest
    problems = [Problem.from_dict(json.loads(line)) for line in (base/'problems'/'dev.jsonl').read_text().splitlines()]
    for thought in ('cot', 'pot', 'eot'):
        texts = generate(load_student(base/'student', device='cpu'), [student_input(thought, p.question) for p in problems], max_new_tokens=64, progress=False)
        rows = [json.loads(line) for line in (base/'predictions'/f'dev.{thought}.jsonl').read_text().splitlines()]
        assert [(r['id'], r['text'], r['status'], r['right']) for r in rows] == \
            [(p.id, t, o.status, same_answer(o, p.answer)) for p, t, o in zip(problems, texts, execute(thought, texts))]
        assert all(type(r['cut']) is bool for r in rows)


def test_answers_are_executed_while_others_are_still_written(tmp_path, monkeypatch):
    import threading
    from fractions import Fraction
    from types import SimpleNamespace
    from mtd import run as module
    from mtd.core import Outcome, Problem
    from mtd.generation import Answer
    executed, n = threading.Event(), 200
    def work(texts):
        executed.set()
        return [Outcome('solved', Fraction(int(t)), text=t) for t in texts]
    def answers(*_):
        for i in reversed(range(n)):
            if i < 100: assert executed.wait(20), 'nothing is executed before all is written'
            yield Answer(i, 0, str(i), 3, i == 7)
    monkeypatch.setattr(module, '_answers', answers)
    asked = [('ab'[i % 2], Problem(str(i), 'How many?', Fraction(i)), f'{i}?', work) for i in range(n)]
    module._predict(SimpleNamespace(settings=SimpleNamespace(equality='exact')), 'student', asked, tmp_path)
    rows = [json.loads(line) for name in 'ab' for line in (tmp_path/f'{name}.jsonl').read_text().splitlines()]
    assert [r['id'] for r in rows] == [str(i) for i in (*range(0, n, 2), *range(1, n, 2))] and all(r['right'] and r['text'] == r['id'] for r in rows)
    assert [r['id'] for r in rows if r['cut']] == ['7']


@pytest.mark.full
@pytest.mark.skipif(not (find_spec('fastapi') and find_spec('uvicorn')), reason='needs the extra serve')
def test_a_served_student_gives_the_same_predictions(whole, tmp_path):
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    server = subprocess.Popen([str(Path(MTD).with_name('transformers')), 'serve', '--host', '127.0.0.1', '--port', str(port), '--device', 'cpu'],
                              env=ENV | {'HF_HUB_OFFLINE': '1'}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while True:
            try: urllib.request.urlopen(f'http://127.0.0.1:{port}/health'); break
            except OSError: assert server.poll() is None and time.monotonic() < until, 'the server did not start'
            time.sleep(0.3)
        job = predict(whole, tmp_path, f'student_endpoint=http://127.0.0.1:{port}/v1', 'concurrency=4')
        said, errors = job.communicate(timeout=500)
        assert job.returncode == 0, errors[-3000:]
    finally: server.terminate(); server.wait()
    folder = Path(said.split()[-1])
    assert 'written' not in said and not (folder/'served').exists(), 'it was answered in the process'
    assert predicted(folder) == predicted(next(whole[0].glob('runs/smoke-*/predictions')))


def test_a_changed_input_makes_what_stands_on_it_stale(whole, tmp_path):
    code = '''import shutil, sys
from dataclasses import replace
from mtd.run import Run
from mtd.settings import load
run = Run(load("smoke"), sys.argv[1])
print(run.fresh("scores"), run.fresh("examples"))
path = run.folder/"thoughts"/"data"/"train.parquet"
text = path.read_bytes(); path.write_bytes(text[:-1] + b"x")
print(run.fresh("thoughts"), run.fresh("examples"), run.fresh("scores"))
path.write_bytes(text)
print(run.fresh("scores"), run.fresh("report"))
other = Run(replace(load("smoke"), shots=1), sys.argv[1])
shutil.rmtree(other.folder)
print(Run(replace(load("smoke"), shots=1), sys.argv[1]).fresh("problems"))'''
    done = subprocess.run([sys.executable, '-c', code, str(whole[0])], cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ['True', 'True', 'False', 'False', 'False', 'True', 'True', 'False'], done.stderr


def test_real_data_take_the_same_way(tmp_path):
    "GSM8K's own way (annotations, recorded chains, the baseline) on the project's rows in the hub's schema."
    data = tmp_path/'data'
    from mtd.core import find_file
    import shutil
    shutil.copytree(find_file('data/problems'), data)
    (data/'teacher').mkdir()
    shutil.copy(find_file('data/recorded_sample.jsonl'), data/'teacher'/'sample.jsonl')
    settings = ['data=' + str(data), 'recorded=cot:teacher/sample.jsonl', 'dev_problems=3', 'test_sets=gsm8k,svamp,asdiv,asdiv/2215,asdiv/2096,multiarith', 'epochs=0', 'max_steps=4', 'eval_every=2', 'warmup_steps=1', 'vocab_size=600',
                'max_new_tokens=8', 'student_config=hidden_size:32,intermediate_size:64,num_hidden_layers:3']
    done = call('run', '--profile', 'gsm8k', '--notebooks', '12', *[x for s in settings for x in ('--set', s)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    base = tmp_path/'runs'/'gsm8k'
    yields = {(y['source'], y['thought']): y for y in json.loads((base/'thoughts'/'yields.json').read_text())}
    assert yields['annotations', 'pot']['kept'] == 10 and yields['annotations', 'pot']['reasons'] == {'no marks': 1, 'ends on another number': 1}
    assert ('recorded', 'cot') in yields and 'trained on answers alone' in done.stdout
    summary = json.loads((base/'problems'/'summary.json').read_text())
    assert len(summary['excluded']['asdiv']) == 1 and summary['counts']['dev'] == 3
    assert summary['versions']['asdiv'] == dict(rows=6, scored=5, says=summary['versions']['asdiv']['says']) and '5 of 6' in done.stdout and 'left out as wrong' in done.stdout
    config = json.loads((base/'student'/'config.json').read_text())
    assert config['num_hidden_layers'] == 3 == len(config['layer_types'])
    gone = call('run', '--profile', 'gsm8k', '--notebooks', '07', '--set', f'data={data}', '--set', 'recorded=cot:teacher/none.jsonl', cwd=tmp_path)
    assert gone.returncode == 2 and 'none.jsonl' in gone.stderr and 'Traceback' not in gone.stderr


# --- what another run has made ---------------------------------------------------------------------------------------

SMALL = dict(train_problems=4, dev_problems=2, test_problems=2, test_sets='lab/numbers')
TEACHING = ('problems', 'completions', 'thoughts', 'examples')


def small(root, **given):
    from mtd.run import Run
    from mtd.settings import load
    return Run(load('smoke', SMALL | given), root, newest=False)


def manifest(run, name): return json.loads((run.folder/name/'manifest.json').read_text())


def stage_files(run, name): return {f: (run.folder/name/f).read_bytes() for f in manifest(run, name)['files']}


@pytest.fixture(scope='module')
def taught(tmp_path_factory):
    "A run with its teacher's part, to be copied."
    run = small(tmp_path_factory.mktemp('taught'))
    run.artifact('examples')
    return run


@pytest.fixture
def beside(taught, tmp_path):
    "A copy of that run, and one beside it that differs in a setting of the training alone."
    import shutil
    shutil.copytree(taught.root, tmp_path/'runs')
    first = small(tmp_path)
    assert first.folder.name == taught.folder.name and first.fresh('examples')
    return first, small(tmp_path, learning_rate=1e-3)


def test_a_run_takes_from_another_what_was_made_from_the_same(beside):
    import shutil
    first, second = beside
    (second.root/'smoke').symlink_to(first.folder.name)
    second.artifact('examples')
    for name in TEACHING:
        assert manifest(second, name)['taken_from'] == first.folder.name and stage_files(second, name) == stage_files(first, name)
        assert second.fresh(name) and (second.folder/name/'manifest.json').stat().st_ino != (first.folder/name/'manifest.json').stat().st_ino
    data = 'thoughts/data/train.parquet'
    assert (first.folder/data).stat().st_ino == (second.folder/data).stat().st_ino, 'it costs no room'
    shutil.rmtree(first.folder)
    third = small(second.root.parent, learning_rate=2e-3)
    third.artifact('examples')
    assert second.fresh('examples') and manifest(third, 'examples')['taken_from'] == first.folder.name, 'who made it, not who handed it on'
    assert not list(second.folder.glob('.*.taken'))


def break_file(run): (run.folder/'completions'/'completions.jsonl').write_text('x')
def remove_file(run): (run.folder/'completions'/'bought.jsonl').unlink()
def break_manifest(run): (run.folder/'completions'/'manifest.json').write_text('{"digest":')
def strange_manifest(run): (run.folder/'completions'/'manifest.json').write_text('[]')
def never_finished(run): os.replace(run.folder/'completions', run.folder/'.completions.partial')
def other_recipe(run): edit_manifest(run, digest='0' * 12)
def other_inputs(run): edit_manifest(run, inputs={'problems': '0' * 12})


def edit_manifest(run, **changed):
    path = run.folder/'completions'/'manifest.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


@pytest.mark.parametrize('damage', [break_file, remove_file, break_manifest, strange_manifest, never_finished, other_recipe, other_inputs])
def test_what_is_stale_broken_or_half_written_is_not_taken(beside, damage):
    first, second = beside
    want = stage_files(first, 'completions')
    damage(first)
    (second.folder/'.completions.taken').mkdir() # what a kill left behind
    (second.folder/'.completions.taken'/'completions.jsonl').write_text('rubbish')
    second.artifact('completions')
    assert 'taken_from' not in manifest(second, 'completions') and stage_files(second, 'completions') == want
    assert 'taken_from' in manifest(second, 'problems') and not list(second.folder.glob('.*.taken'))


def test_damage_to_a_file_that_two_runs_share_is_found_in_both(beside):
    first, second = beside
    second.artifact('examples')
    want = stage_files(first, 'problems')
    path = first.folder/'problems'/'train.jsonl'
    path.write_bytes(path.read_bytes()[:-2])
    assert not first.fresh('problems') and not second.fresh('problems') and not second.fresh('examples')
    second.artifact('problems')
    assert stage_files(second, 'problems') == want and not first.fresh('problems')
    first.artifact('examples')
    assert manifest(first, 'problems')['taken_from'] == second.folder.name and first.fresh('examples')


def test_another_teacher_or_another_input_is_not_taken(beside):
    first, _ = beside
    other = small(first.root.parent, slip_rate=0.3)
    other.artifact('completions')
    assert 'taken_from' in manifest(other, 'problems') and 'taken_from' not in manifest(other, 'completions')


def test_a_student_of_the_same_recipe_is_trained_once(beside):
    first, _ = beside
    how = dict(max_steps=2, eval_every=2, student_config='hidden_size:32,intermediate_size:64,num_hidden_layers:2')
    trained, twin = small(first.root.parent, **how), small(first.root.parent, max_new_tokens=8, **how) # who answers at more length learns the same
    trained.artifact('student'), twin.artifact('student')
    assert 'taken_from' not in manifest(trained, 'student') and manifest(twin, 'student')['taken_from'] == trained.folder.name
    assert twin.digest('predictions') != trained.digest('predictions')


@pytest.mark.full
def test_runs_that_take_while_the_other_is_removed_and_written_end_whole(beside, taught):
    "Four processes, two of them on the same runs, take stages that are removed and come back file by file under their hands."
    import shutil
    code = '''import sys
from mtd.run import Run
from mtd.settings import load
for i in range(12):
    run = Run(load("smoke", eval(sys.argv[2]) | dict(learning_rate=float(sys.argv[3]) + i / 1e4)), sys.argv[1], newest=False)
    run.artifact("examples")
    assert run.fresh("examples")'''
    first, _ = beside
    jobs = [subprocess.Popen([sys.executable, '-c', code, str(first.root.parent), repr(SMALL), f'{i}e-2'], env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for i in (2, 2, 3, 4)] # none of them at `first`'s rate, which is removed under their hands
    while any(job.poll() is None for job in jobs):
        for name in TEACHING:
            shutil.rmtree(first.folder/name)
            time.sleep(0.01)
            shutil.copytree(taught.folder/name, first.folder/name)
            time.sleep(0.01)
    assert all(job.wait() == 0 for job in jobs), [job.stderr.read()[-1500:] for job in jobs]
    made = list(first.root.glob('smoke-*/examples/manifest.json'))
    assert len(made) == 1 + 36 and len({json.dumps(json.loads(p.read_text())['files']) for p in made}) == 1
