"""A run from an empty folder: whole, killed and resumed, and never made twice; then the student of that run is asked."""
import json, os, random, signal, sqlite3, subprocess, sys, time
from pathlib import Path

import pytest

MTD = str(Path(sys.executable).parent/'mtd')
ENV = os.environ | {'OMP_NUM_THREADS': '1', 'OMP_WAIT_POLICY': 'passive'}
RUN = [MTD, 'run', '--profile', 'smoke', '--notebooks', '03', '07', '08', '12']


def call(*args, cwd):
    return subprocess.run([MTD, *args], cwd=cwd, env=ENV, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "An undisturbed run in a folder that is no checkout."
    folder = tmp_path_factory.mktemp('whole')
    done = subprocess.run(RUN, cwd=folder, env=ENV, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, done


def results(folder):
    base = folder/'runs'/'smoke'
    return {name: (base/name).read_bytes() for name in ('problems/train.jsonl', 'completions/completions.jsonl', 'thoughts/thoughts.jsonl', 'scores/scores.json')}


def test_report_opens_offline_and_the_table_has_intervals(whole):
    folder, done = whole
    page = (folder/'runs'/'smoke'/'report.html').read_text()
    assert str(folder/'runs'/'smoke'/'report.html') in done.stdout and '95% interval' in done.stdout
    assert not any(f'{tag}="http' in page for tag in ('src', 'href')) and '<script' not in page
    for word in ('Learning curve', 'What the filter kept', 'Cost', 'transformers', 'lab/numbers'): assert word in page


def test_second_call_makes_nothing(whole):
    folder, _ = whole
    stamps = {p: p.stat().st_mtime_ns for p in folder.rglob('manifest.json')}
    start = time.monotonic()
    done = subprocess.run(RUN, cwd=folder, env=ENV, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and done.stderr.count('executed before, unchanged') == 4 and 'making it' not in done.stderr
    assert stamps == {p: p.stat().st_mtime_ns for p in folder.rglob('manifest.json')} and len(stamps) >= 7


@pytest.mark.parametrize('kills', [3, pytest.param(12, marks=pytest.mark.full)])
def test_killed_run_goes_on_and_ends_the_same(whole, tmp_path, kills):
    rng = random.Random(kills)
    for _ in range(kills):
        job = subprocess.Popen(RUN, cwd=tmp_path, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try: job.wait(rng.uniform(5, 35))
        except subprocess.TimeoutExpired: os.killpg(job.pid, signal.SIGKILL)
        job.wait()
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
