"""Every notebook runs by itself under papermill in the `smoke` profile, and refuses parameters that are no settings."""
import json, os, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mtd.core import project_root

ROOT = project_root()
NOTEBOOKS = sorted((ROOT/'nbs').glob('*.ipynb'))


def papermill(path, out, *parameters, cwd=ROOT):
    env = {k: v for k, v in os.environ.items() if k != 'MTD_DATA'} | {'OMP_NUM_THREADS': '1', 'OMP_WAIT_POLICY': 'passive', 'TOKENIZERS_PARALLELISM': 'false'}
    return subprocess.run([sys.executable, '-m', 'papermill', str(path), str(out), '-p', 'profile', 'smoke', *parameters, '--log-output',
                           '--no-progress-bar', '-k', 'python3'], cwd=cwd, env=env, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope='session')
def executed(tmp_path_factory):
    "All notebooks, two at a time, each in a kernel of its own, from a folder without runs."
    folder = tmp_path_factory.mktemp('executed')
    with ThreadPoolExecutor(2) as pool:
        return {p.stem: (folder/p.name, pool.submit(papermill, p, folder/p.name, cwd=folder)) for p in NOTEBOOKS}


@pytest.mark.parametrize('name', [p.stem for p in NOTEBOOKS])
def test_notebook_runs_alone_in_smoke(executed, name):
    out, job = executed[name]
    done = job.result()
    assert done.returncode == 0, done.stderr[-4000:]
    cells = json.loads(out.read_text())['cells']
    at = next(i for i, c in enumerate(cells) if 'injected-parameters' in c['metadata'].get('tags', []))
    assert 'parameters' in cells[at - 1]['metadata']['tags'], 'papermill injected above the defaults, which then win'
    assert 'profile = "smoke"' in ''.join(cells[at]['source'])
    code = [c for c in cells if c['cell_type'] == 'code']
    assert all(c['execution_count'] for c in code), 'a cell was not executed'
    shown = [o['data'] for c in code for o in c['outputs'] if 'data' in o]
    assert not [d for d in shown if '<Figure size' in ''.join(d.get('text/plain', '')) and 'image/png' not in d], 'a figure is not seen'


def test_unknown_parameter_is_refused(tmp_path):
    done = papermill(ROOT/'nbs'/'settings.ipynb', tmp_path/'out.ipynb', '-p', 'studnet_seed', '3')
    assert done.returncode != 0 and "did you mean 'student_seed'" in done.stderr


def test_wrong_value_is_refused(tmp_path):
    done = papermill(ROOT/'nbs'/'settings.ipynb', tmp_path/'out.ipynb', '-p', 'student_seed', 'three')
    assert done.returncode != 0 and 'not a whole number' in done.stderr


def test_notebook_runs_where_jupyterlab_runs_it(tmp_path):
    done = papermill(ROOT/'nbs'/'02_prompting.ipynb', tmp_path/'out.ipynb', cwd=ROOT/'nbs')
    assert done.returncode == 0, done.stderr[-3000:]
    assert not (ROOT/'nbs'/'runs').exists()


@pytest.mark.full # `test_real_data_take_the_same_way` begins with the last notebook in an empty folder too
def test_late_notebook_makes_all_it_stands_on(tmp_path):
    done = papermill(ROOT/'nbs'/'12_results.ipynb', tmp_path/'out.ipynb', cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path/'runs'/'smoke'/'report'/'report.html').exists()
