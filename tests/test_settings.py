"""settings.ini, its loader, and that nbdev leaves both alone."""
import shutil, subprocess, sys
from dataclasses import fields
from pathlib import Path

import pytest

from mtd import settings
from mtd.core import project_root

ROOT = project_root()


def test_every_profile_loads_and_they_differ():
    names = settings.profiles()
    assert {'smoke', 'lab', 'gsm8k', 'paper'} <= set(names)
    assert len({settings.load(n).digest for n in names}) == len(names)


def test_default_holds_each_key_once_with_a_comment():
    lines = (ROOT/'settings.ini').read_text().split('[smoke]')[0].splitlines()
    keys = {line.split('=')[0].strip(): i for i, line in enumerate(lines) if '=' in line and not line.startswith('#')}
    assert set(keys) == {f.name for f in fields(settings.Settings)} - {'profile'}
    bare = [k for k, i in keys.items() if not lines[i - 1].startswith('#') and k not in ('top_p', 'student_seed', 'learning_rate', 'warmup_steps', 'weight_decay', 'tokens_per_minute')]
    assert not bare, f'no comment above {bare}'


@pytest.mark.parametrize('overrides, says', [
    ({'studnet_seed': 3}, "did you mean 'student_seed'"), ({'student_seed': 'x'}, 'not a whole number'), ({'top_p': 2}, 'above 1.0'),
    ({'train_problems': -1}, 'below 0'), ({'thoughts': 'cot, pott'}, "did you mean 'pot'"), ({'thoughts': ''}, 'empty'),
    ({'thoughts': 'cot, cot'}, 'twice'), ({'answers_only': 'maybe'}, 'neither true nor false'), ({'sources': 'annotations'}, 'set train_set = gsm8k'),
    ({'epochs': 0, 'max_steps': 0}, 'would not be trained'), ({'learning_rate': 'nan'}, 'not a number'), ({'student_config': 'hidden_size'}, 'name:value'),
    ({'epochs': 'inf'}, 'not a number'), ({'endpoint': 'http://me:secret@host/v1'}, 'OPENAI_API_KEY'), ({'endpoint': 'foo'}, 'no base URL'), ({'learning_rate': 0}, 'train nothing'),
    ({'student_model': 'scratch-lfm'}, "did you mean 'scratch-lfm2'"), ({'train_problems': 0}, 'endless'),
    ({'recorded': 'file.jsonl'}, 'thought:file'), ({'test_sets': 'lab/number'}, "did you mean 'lab/numbers'"),
    ({'equality': 'exakt'}, "did you mean 'exact'"), ({'verify_with': 'rey'}, "did you mean 'ray'"), ({'teacher_extra': 'max_tokens:none'}, 'teacher_extra.*name:value'),
    ({'budget': -1}, 'below 0'), ({'timeout': 0}, 'below'), ({'replay': 'perhaps'}, 'neither true nor false'), ({'batch': True}, 'does not name endpoint'), ({'teacher_extra': 'temperature:NaN'}, 'teacher_extra'),
])
def test_wrong_values_are_refused(overrides, says):
    with pytest.raises(ValueError, match=says): settings.load('lab', overrides)


@pytest.mark.parametrize('text, says', [
    ('[DEFAULT]\nseed = 1\n[lab]\n', 'DEFAULT. lacks'), ('[DEFAULT]\nsede = 1\n[lab]\n', "did you mean 'seed'"),
    ('seed = 1', 'cannot be read'), ('[DEFAULT]\nseed = 1\nseed = 2\n', 'cannot be read'), ('', "no profile is called 'lab'"),
])
def test_broken_files_are_refused(tmp_path, text, says):
    path = tmp_path/'settings.ini'
    path.write_text(text)
    with pytest.raises(ValueError, match=says): settings.load('lab', path=path)


def test_precedence_is_file_profile_override():
    assert settings.load('lab').max_new_tokens == 256
    assert settings.load('smoke').max_new_tokens == 64
    assert settings.load('smoke', {'max_new_tokens': 65}).max_new_tokens == 65


def test_environment_names_the_data_and_does_not_count(monkeypatch):
    monkeypatch.delenv('MTD_DATA', raising=False)
    plain, lab = settings.load('gsm8k'), settings.load('lab')
    monkeypatch.setenv('MTD_DATA', 'some/folder')
    assert settings.load('gsm8k').data == str(Path('some/folder').resolve()) and settings.load('lab').digest == lab.digest
    assert settings.load('gsm8k').digest != plain.digest, 'a mirror and the hub are two runs'


def test_nbdev_exports_beside_settings_and_leaves_them_alone(tmp_path):
    copy = tmp_path/'project'
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns('.venv', 'runs', '.git', '__pycache__'))
    before = {p: (copy/p).read_bytes() for p in ('settings.ini', 'pyproject.toml')}
    (copy/'mtd'/'core.py').unlink()
    done = subprocess.run([str(Path(sys.executable).parent/'nbdev-export')], cwd=copy, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (copy/'mtd'/'core.py').read_bytes() == (ROOT/'mtd'/'core.py').read_bytes()
    assert all((copy/p).read_bytes() == text for p, text in before.items())
    assert 'nbdev-migrate-config' in (ROOT/'settings.ini').read_text()[:400], 'the warning stands at the top'
