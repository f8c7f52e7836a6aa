"""Studies: what is refused, what an interval holds, what is compared with what, and that a cell that fails or is killed costs no other."""
import json, os, random, re, signal, subprocess, sys, time
from pathlib import Path

import pytest

from mtd.settings import load, profiles, studies
from mtd.studies import HOLDS, cell_rows, contrast, difference_rows, difference_table, estimate, load_study, study_figure, study_report, t_quantile, write_study

TINY = dict(test_sets='lab/sequences', dev_problems=3, test_problems=4, max_steps=4, max_new_tokens=16, warmup_steps=1, eval_every=2,
            student_config='hidden_size:32,intermediate_size:64,num_hidden_layers:2')


def results(rights, vary, hold=('steps',), seeds=(0, 1), problems='own', question='Is it?'):
    "Made-up results: `rights(values, hold, seed)` is a dict way -> answers as ones and zeros, or a reason to fail."
    import itertools
    cells = []
    for seed, held, values in itertools.product(seeds, hold, itertools.product(*vary.values())):
        values, found = dict(zip(vary, values)), rights(dict(zip(vary, values)), held, seed)
        if isinstance(found, str): cells.append(dict(values=values, hold=held, seed=seed, failed=found)); continue
        n = len(next(iter(found.values())))
        cells.append(dict(values=values, hold=held, seed=seed, parameters=10 ** (1 + list(next(iter(vary.values()))).index(next(iter(values.values())))), examples=30, steps=4,
                          seconds=dict(student=60.0), sets={'lab/sequences': dict(n=n, problems='p' if problems == 'same' else f'p{seed}', right=found, unparsable={w: 1 for w in found})}))
    return dict(study='made-up', question=question, profile='smoke', vary={k: list(v) for k, v in vary.items()}, seeds=list(seeds), seeded=['seed'], hold=list(hold),
                read='lab/sequences', command='mtd study made-up', versions={'python': '3'}, machine='none', cells=cells)


def test_every_declared_study_loads_and_is_no_profile():
    assert {'data_scale', 'thoughts', 'student_size'} <= set(studies()) and not any(':' in p for p in profiles())
    scale = load_study('data_scale')
    assert len({c.settings.train_problems for c in scale.cells}) >= 5 and len(scale.seeds) >= 5 and len({c.settings.digest for c in scale.cells}) == len(scale.cells)
    for name in studies():
        study = load_study(name)
        assert all(c.settings.seed == c.settings.student_seed == c.seed for c in study.cells) and study.question.endswith('?')
        assert [c.seed for c in study.cells] == sorted(c.seed for c in study.cells), 'a whole grid for one seed before the next'


@pytest.mark.parametrize('name, given, says', [
    ('data_scal', {}, "did you mean 'data_scale'"), ('data_scale', dict(vary=''), 'lacks vary'), ('data_scale', dict(vary='train_problems'), 'setting: value, value'),
    ('data_scale', dict(vary='train_problem: 1, 2'), "did you mean 'train_problems'"), ('data_scale', dict(vary='train_problems: 1, x'), 'not a whole number'),
    ('data_scale', dict(vary='train_problems: 1+2'), 'no list'), ('data_scale', dict(vary='train_problems: 1, 1'), 'one value twice'),
    ('data_scale', dict(vary='train_problems: 1; train_problems: 2'), 'twice'), ('data_scale', dict(vary='paths: 1; samples: 1; shots: 0'), 'one or two'),
    ('data_scale', dict(seeds='1, 1'), 'twice'), ('data_scale', dict(seeds=''), 'empty'), ('data_scale', dict(seeds='a'), 'whole numbers'),
    ('data_scale', dict(seeded='sed'), "did you mean 'seed'"), ('data_scale', dict(seed=3), 'one of the three'), ('data_scale', dict(train_problems=3), 'one of the three'),
    ('data_scale', dict(hold='step'), "did you mean 'steps'"), ('data_scale', dict(max_steps=0), 'needs max_steps'), ('data_scale', dict(hold='epochs', epochs=0), 'needs epochs'),
    ('data_scale', dict(read='lab/number'), "did you mean 'lab/numbers'"), ('data_scale', dict(profile='labb'), "did you mean 'lab'"), ('data_scale', dict(top_p=3), 'above 1.0'),
    ('thoughts', dict(vary='thoughts: cot+cot'), 'twice'), ('thoughts', dict(vary='thoughts: cot+pott'), "did you mean 'pot'"),
])
def test_a_wrong_study_is_refused(name, given, says):
    with pytest.raises(ValueError, match=re.escape(says) if "'" in says else says): load_study(name, None, given)


def test_what_is_held_equal_is_equal():
    cells = load_study('thoughts', None, dict(hold='steps, epochs, examples', seeds=0)).cells
    by = {h: [c.settings for c in cells if c.hold == h] for h in HOLDS}
    assert {s.max_steps for s in by['steps'] + by['examples']} == {load('study').max_steps} and {s.max_steps for s in by['epochs']} == {0}
    assert {s.train_problems for s in by['steps'] + by['epochs']} == {load('study').train_problems}
    asked = [s.train_problems * len(s.thoughts) for s in by['examples']]
    assert max(asked) - min(asked) < 3 and len({s.train_problems for s in by['examples']}) == 3


def test_t_quantiles_are_those_of_the_tables():
    for freedom, value in ((1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (30, 2.0423)): assert abs(t_quantile(freedom) - value) < 2e-3


def test_an_estimate_by_hand():
    table = [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]] # rates 0, 1/2, 1: their variance is 1/4
    e, same = estimate(table, False), estimate(table, True)
    assert e.mean == 0.5 and abs(e.high - e.mean - 4.3027 * (1 / 4 / 3)**0.5) < 1e-3 and (e.seeds, e.n, e.sign) == (3, 4, 0)
    columns = 4 * (1 / 6)**2 / 3 / 4 # problems' means are 2/3, 2/3, 1/3, 1/3
    assert abs(same.high - same.mean - 4.3027 * (1 / 4 / 3 + columns)**0.5) < 1e-3, 'the same problems say less of others'
    agreeing = estimate([[1, 0] * 50] * 5, False)
    assert abs(agreeing.high - agreeing.mean - 2.7764 * (0.2525 / 500)**0.5) < 1e-3, 'seeds that agree by luck do not make it sure'
    assert estimate([[0] * 10] * 5, False).low < 0 < estimate([[0] * 10] * 5, False).high
    assert estimate([[1, 0]], False).low is None and 'one seed' in str(estimate([[1, 0]], False))
    nothing = estimate([[0] * 100] * 5, False, rate=True)
    assert nothing.low == 0 and nothing.high > 0.005
    for table in ([], [[]], [[1], [1, 0]]):
        with pytest.raises(ValueError, match='at least one seed'): estimate(table, False)


@pytest.mark.parametrize('same_problems', [False, True])
def test_an_interval_holds_the_truth(same_problems):
    rng, held, draws = random.Random(1), 0, 600
    for _ in range(draws):
        hard = [rng.gauss(0, 0.25) for _ in range(100)]
        table = []
        for _ in range(5):
            seed = rng.gauss(0.5, 0.04)
            if not same_problems: hard = [rng.gauss(0, 0.25) for _ in range(100)]
            table.append([int(rng.random() < min(1, max(0, seed + h))) for h in hard])
        e = estimate(table, same_problems, rate=True)
        held += e.low <= 0.5 <= e.high
    assert 0.93 < held / draws


def test_differences_are_paired_and_worse_is_called_worse():
    def rights(values, hold, seed):
        rng = random.Random(seed)
        hard = [rng.random() for _ in range(200)]
        return dict(combined=''.join('01'[h < {'1': 0.3, '10': 0.37, '100': 0.2}[values['train_problems']]] for h in hard))
    r = results(rights, dict(train_problems=('1', '10', '100')), seeds=range(5))
    up, down = difference_rows(r)
    assert (up['what'], up['estimate'].sign, down['estimate'].sign) == ('train_problems 1 → 10', 1, -1)
    alone = [x['estimate'] for x in cell_rows(r)]
    assert alone[0].high > alone[1].low, 'these two overlap, and yet the paired difference is sure'
    table = difference_table([up, down])
    assert table.count('| better |') == table.count('| worse |') == 1
    assert '1 of 2 differences are better, 1 worse, and of 0' in study_report(r)


def test_kinds_are_compared_with_the_last_and_only_in_what_both_answer():
    def rights(values, hold, seed): return {w: '1' * (5 + seed) + '0' * (5 - seed) for w in (*values['thoughts'].split('+'), 'combined')}
    r = results(rights, dict(thoughts=('cot', 'pot', 'cot+pot')), hold=('steps', 'epochs'))
    assert [(d['what'], d['hold'], d['way']) for d in difference_rows(r)] == [
        (f'thoughts {a} → cot+pot', h, w) for h in ('steps', 'epochs') for a in ('cot', 'pot') for w in (a, 'combined')]
    assert len(study_figure(r).axes) == 2


def test_two_settings_ask_whether_one_changes_the_other():
    gain = {('s', 'pot'): 4, ('s', 'mix'): 5, ('l', 'pot'): 5, ('l', 'mix'): 9}
    def rights(values, hold, seed):
        n = gain[values['student_config'], values['thoughts']]
        return dict(pot='1' * n + '0' * (10 - n), combined='1' * n + '0' * (10 - n))
    r = results(rights, dict(student_config=('s', 'l'), thoughts=('pot', 'mix')), seeds=range(5))
    found = {d['what']: d['estimate'].mean for d in difference_rows(r) if d['way'] == 'pot'}
    assert found['thoughts pot → mix: more at student_config=l than at s?'] == pytest.approx(0.3)
    assert found['student_config s → l, thoughts=mix'] == pytest.approx(0.4) and len(found) == 5
    figure = study_figure(r)
    assert [a.get_xlabel() for a in figure.axes] == ['parameters of the student'] * 2 and len(figure.axes[0].lines) >= 2


def test_cells_that_failed_or_answer_other_problems_are_not_compared(tmp_path):
    def rights(values, hold, seed): return 'ValueError: no memory' if (values['paths'], seed) == ('2', 1) else dict(combined='10')
    r = results(rights, dict(paths=('1', '2')), seeds=(0, 1, 2))
    d, = difference_rows(r)
    assert (d['estimate'].seeds, [x['estimate'].seeds for x in cell_rows(r)]) == (2, [3, 2])
    report = write_study(r, tmp_path).read_text()
    assert 'no memory' in report and '1 of them failed' in report and (tmp_path/'figure.png').stat().st_size > 1000
    r['cells'][1]['sets']['lab/sequences']['problems'] = 'others'
    with pytest.raises(ValueError, match='other problems'): difference_rows(r)
    assert contrast(r, [(1, {'paths': '7'}, 'steps')], 'lab/sequences', 'combined') is None
    nothing = results(lambda *_: 'OSError: disk full', dict(paths=('1', '2')))
    assert 'disk full' in write_study(nothing, tmp_path/'nothing').read_text()


def test_a_cell_that_fails_is_told_and_the_others_are_made(tmp_path, monkeypatch, capsys):
    from mtd.cli import main
    monkeypatch.chdir(tmp_path)
    sizes = 'hidden_size:32+intermediate_size:64+num_hidden_layers:2, hidden_sise:32'
    given = {k: v for k, v in TINY.items() if k != 'student_config'} | dict(train_problems=6, thoughts='eot', seeds='0', vary=f'student_config: {sizes}')
    asked = ['study', 'student_size', '--profile', 'smoke', *[x for k, v in given.items() for x in ('--set', f'{k}={v}')]]
    assert main(asked) == 1
    said = capsys.readouterr()
    assert 'did you mean' in said.err and '[2/2]' in said.err and '1 of them failed' in said.out and 'too few' in said.out
    kept = json.loads((tmp_path/'runs'/'studies'/'student_size'/'results.json').read_text())
    assert ['failed' in c for c in kept['cells']] == [False, True]
    assert 'examples: taken from' in said.err and said.err.count('completions: making') == 1, 'the teacher is asked once'
    assert not (tmp_path/'runs'/'smoke').exists(), 'a cell is not the newest run of its profile'


def made(folder):
    "What a study found, without what differs from call to call."
    kept = json.loads((folder/'runs'/'studies'/'data_scale'/'results.json').read_text())
    return [{k: v for k, v in c.items() if k != 'seconds'} for c in kept['cells']]


@pytest.mark.full
@pytest.mark.parametrize('jobs', [1, 2])
def test_a_study_killed_again_and_again_ends_the_same(tmp_path, jobs):
    command = [sys.executable, '-m', 'mtd.cli', 'study', 'data_scale', '--profile', 'smoke', '--jobs', str(jobs),
               *[x for k, v in (TINY | dict(max_steps=20, seeds='0, 1', thoughts='pot, eot', vary='train_problems: 6, 12')).items() for x in ('--set', f'{k}={v}')]]
    env = os.environ | {'OMP_NUM_THREADS': '1', 'OMP_WAIT_POLICY': 'passive'}
    whole, killed = tmp_path/'whole', tmp_path/'killed'
    whole.mkdir(), killed.mkdir()
    start = time.monotonic()
    done = subprocess.run(command, cwd=whole, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    took, rng, standing = time.monotonic() - start, random.Random(jobs), {}
    for _ in range(4):
        job = subprocess.Popen(command, cwd=killed, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try: job.wait(rng.uniform(0.2, 0.6) * took)
        except subprocess.TimeoutExpired: os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        now = {p: p.stat().st_mtime_ns for p in killed.glob('runs/smoke-*/[a-z]*/manifest.json')}
        assert standing.items() <= now.items(), 'a finished stage was made again'
        standing = now
    done = subprocess.run(command, cwd=killed, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and made(killed) == made(whole), done.stderr[-3000:]


@pytest.mark.full
def test_a_process_that_is_ended_from_outside_is_told_and_its_cell_made_by_the_next_call(tmp_path):
    command = [sys.executable, '-m', 'mtd.cli', 'study', 'data_scale', '--profile', 'smoke', '--jobs', '2',
               *[x for k, v in (TINY | dict(seeds='0', thoughts='pot', vary='train_problems: 6, 8')).items() for x in ('--set', f'{k}={v}')]]
    env = os.environ | {'OMP_NUM_THREADS': '1', 'OMP_WAIT_POLICY': 'passive'}
    job = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    def workers():
        pids = Path(f'/proc/{job.pid}/task/{job.pid}/children').read_text().split()
        return [int(p) for p in pids if b'spawn_main' in Path(f'/proc/{p}/cmdline').read_bytes()]
    while job.poll() is None and len(workers()) < 2: time.sleep(0.05)
    os.kill(workers()[0], signal.SIGKILL)
    said, _ = job.communicate(timeout=600)
    assert job.returncode == 1 and 'BrokenProcessPool' in said and '2 of them failed' in said
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and '0 of them failed' in done.stdout, done.stderr[-2000:]
