"""The dataset beyond the lesson: loaded by `datasets`, the same bytes twice, whole or not there, and sent as it stands."""
import base64, hashlib, json, os, signal, subprocess, sys, threading
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import pyarrow.parquet as parquet
import pytest
import yaml

from mtd.core import Problem
from mtd.mixing import yields
from mtd.thoughts import COLUMNS, ROWS, push_thoughts, read_thoughts, schema, write_thoughts

PROBLEMS = [Problem(f'p/{i}', f'What is half of {i}?', Fraction(i, 2)) for i in range(20)]
SPLITS = dict(train={f'p/{i}' for i in range(15)}, dev={f'p/{i}' for i in range(15, 20)})


def rows(n=100):
    for i in range(n):
        thought, right = ('cot', 'pot', 'eot')[i % 3], i % 7 != 0
        yield dict(problem_id=f'p/{i % 20}', thought=thought, source='hand', model='', sample=i // 20, text=f'ans = {i}', status='ran' if right else 'error',
                   answer=str(PROBLEMS[i % 20].answer) if right else None, detail='', right=right, reason='' if right else 'error', form=f'{i:016x}')


def bytes_of(folder): return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(Path(folder).rglob('*')) if p.is_file()}


@pytest.fixture
def written(tmp_path):
    folder = tmp_path/'thoughts'
    write_thoughts(folder, rows(), PROBLEMS, SPLITS, yields(rows()), '| price |\n|---|\n| $1 |', {'hand': 'ours, MIT', 'problems': 'openai/gsm8k, MIT'}, 'Halves')
    return folder


# Written and loaded

def test_datasets_load_the_folder_whatever_lies_beside(written, tmp_path):
    (written/'manifest.json').write_text('{"made": 1}')
    (written/'yields.json').write_text(json.dumps(yields(rows())))
    loaded = datasets.load_dataset(str(written), cache_dir=str(tmp_path/'cache'))
    assert loaded.num_rows == {'train': 75, 'dev': 25} and list(loaded) == ['train', 'dev']
    for split in SPLITS:
        assert loaded[split].column_names == list(COLUMNS) and list(loaded[split]) == list(read_thoughts(written, split))
    kinds = {name: str(feature.dtype) for name, feature in loaded['dev'].features.items()}
    assert kinds.pop('sample') == 'int64' and kinds.pop('right') == 'bool' and set(kinds.values()) == {'string'}


def test_rows_are_as_they_were_with_question_and_gold(written):
    known = {p.id: p for p in PROBLEMS}
    for split, ids in SPLITS.items():
        expected = [r | dict(question=known[r['problem_id']].question, gold=str(known[r['problem_id']].answer)) for r in rows() if r['problem_id'] in ids]
        assert list(read_thoughts(written, split)) == expected
    assert list(read_thoughts(written)) == list(read_thoughts(written, 'train')) + list(read_thoughts(written, 'dev'))
    assert next(read_thoughts(written, columns=('gold', 'text'))) == {'gold': '0', 'text': 'ans = 0'}
    with pytest.raises(ValueError, match="no split 'test'; it has train, dev"): read_thoughts(written, 'test')
    with pytest.raises(ValueError, match="no column 'answers'"): read_thoughts(written, columns=['answers'])
    with pytest.raises(FileNotFoundError, match='no finished dataset'): read_thoughts(written/'nowhere')


def test_each_column_is_explained_in_the_file_and_in_the_card(written):
    stored = parquet.read_schema(written/'data'/'dev.parquet')
    assert {f.name: f.metadata[b'description'].decode() for f in stored} == COLUMNS and stored.equals(schema(), check_metadata=False)
    text = (written/'README.md').read_text(encoding='utf-8')
    assert all(f'| `{n}` | {d} |' in text for n, d in COLUMNS.items())


def test_the_card_says_what_the_hub_and_people_ask(written):
    head, text = (written/'README.md').read_text(encoding='utf-8').split('\n---\n', 1)
    meta = yaml.safe_load(head.removeprefix('---\n'))
    assert meta['license'] == 'mit' and meta['task_categories'] == ['text-generation'] and meta['language'] == ['en']
    assert meta['configs'] == [dict(config_name='default', data_files=[dict(split=s, path=f'data/{s}.parquet') for s in SPLITS])]
    assert '# Halves' in text and '| train, asked | 25 | 25 | 25 | 75 |' in text and '$1' in text and '- problems: openai/gsm8k, MIT' in text
    right = sum(r['right'] for r in rows())
    assert sum(int(line.split('|')[3]) for line in text.split('## Diversity')[1].splitlines()[4:7]) == right
    assert '| hand | cot |' in text.split('## What was kept')[1]


def test_yields_and_prices_may_be_counted_while_the_rows_stream_by(written, tmp_path):
    seen = []
    counts = write_thoughts(tmp_path/'stream', rows(), PROBLEMS, SPLITS, lambda written: seen.extend(yields(written)) or seen, lambda table: f'kept {sum(y["kept"] for y in table)}')
    assert sorted(map(str, seen)) == sorted(map(str, yields(rows()))) and sum(y['asked'] for y in seen) == sum(counts.values())
    assert f'kept {sum(r["right"] for r in rows())}' in (tmp_path/'stream'/'README.md').read_text(encoding='utf-8')


def test_what_belongs_to_no_split_is_left_out_and_counted(tmp_path):
    counts = write_thoughts(tmp_path/'some', rows(), PROBLEMS, dict(train={'p/1', 'p/2'}))
    assert counts == {'train': 10} and 'Left out: 90 rows' in (tmp_path/'some'/'README.md').read_text(encoding='utf-8')


# Bytes

def test_the_same_rows_make_the_same_bytes_in_another_process(written, tmp_path):
    code = ('import test_thoughts as t; t.write_thoughts({!r}, list(t.rows()), t.PROBLEMS, t.SPLITS, t.yields(t.rows()), "| price |\\n|---|\\n| $1 |", '
            '{{"hand": "ours, MIT", "problems": "openai/gsm8k, MIT"}}, "Halves")').format(str(tmp_path/'again'))
    env = os.environ | {'PYTHONPATH': os.pathsep.join([str(Path(__file__).parent), *sys.path]), 'PYTHONHASHSEED': '7', 'TZ': 'Asia/Tokyo'}
    subprocess.run([sys.executable, '-c', code], env=env, check=True, timeout=120)
    assert bytes_of(tmp_path/'again') == bytes_of(written) and len(bytes_of(written)) == 3


def test_row_groups_have_one_size_and_one_changed_row_other_bytes(tmp_path):
    n = 2 * ROWS + 5
    write_thoughts(tmp_path/'a', rows(n), PROBLEMS, dict(train={p.id for p in PROBLEMS}))
    with parquet.ParquetFile(tmp_path/'a'/'data'/'train.parquet') as file:
        assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [ROWS, ROWS, 5]
        assert file.metadata.row_group(0).column(0).compression == 'ZSTD'
    write_thoughts(tmp_path/'b', (r | dict(text='') if i == n - 1 else r for i, r in enumerate(rows(n))), PROBLEMS, dict(train={p.id for p in PROBLEMS}))
    assert bytes_of(tmp_path/'a')['data/train.parquet'] != bytes_of(tmp_path/'b')['data/train.parquet']
    assert [r['sample'] for r in read_thoughts(tmp_path/'b', columns=['sample'])] == [r['sample'] for r in rows(n)]


def test_half_of_a_pair_is_written_as_the_sign_for_it(tmp_path):
    write_thoughts(tmp_path/'a', [next(rows()) | dict(text='½ \ud83d', detail='\ude00\u2028')], PROBLEMS, dict(train={'p/0'}))
    row, = read_thoughts(tmp_path/'a')
    assert (row['text'], row['detail']) == ('½ \ufffd', '\ufffd\u2028')


# Whole or not there

@pytest.mark.parametrize('change, words', [
    (dict(problem_id='p/99'), "row 3 is of the problem 'p/99', which is not among the 20"), (dict(problem_id=None), 'row 3 is of the problem None'),
    (dict(form=...), 'row 3 has no form'), (dict(right=...), 'row 3 has no right'), (dict(text=None), 'row 3: text is None'), (dict(right=1), 'row 3: right is 1'),
    (dict(sample=True), 'row 3: sample is True'), (dict(answer=Fraction(1, 2)), 'row 3: answer is Fraction')])
def test_a_bad_row_is_named_and_what_stood_there_stays(written, change, words):
    before = bytes_of(written)
    bad = [{k: v for k, v in (r | change if i == 3 else r).items() if v is not ...} for i, r in enumerate(rows())]
    with pytest.raises(ValueError, match=words): write_thoughts(written, bad, PROBLEMS, SPLITS)
    assert bytes_of(written) == before


def test_bad_splits_are_refused(written):
    before = bytes_of(written)
    for splits, words in ((SPLITS | {'test': set()}, 'no row is of a problem of the split test'), (dict(train={'p/1'}, dev={'p/1'}), '1 problems are in train and in dev, e.g. p/1'),
                          ({'a/b': {'p/1'}}, "a split cannot be called 'a/b'"), ({}, 'give at least one split')):
        with pytest.raises(ValueError, match=words): write_thoughts(written, rows(), PROBLEMS, splits)
    with pytest.raises(ValueError, match='no row is of a problem of the split train'): write_thoughts(written, [], PROBLEMS, SPLITS)
    assert bytes_of(written) == before


@pytest.mark.skipif(os.name == 'nt', reason='kills by a signal')
def test_a_killed_write_leaves_what_stood_there(written):
    before = bytes_of(written)
    code = ('import test_thoughts as t, time\ndef slow():\n    yield from t.rows(30000)\n    print("writing", flush=True); time.sleep(60)\n'
            f't.write_thoughts({str(written)!r}, slow(), t.PROBLEMS, t.SPLITS)')
    env = os.environ | {'PYTHONPATH': os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    child = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True, env=env)
    assert child.stdout.readline() == 'writing\n'
    child.send_signal(signal.SIGKILL); child.wait()
    child.stdout.close()
    left = bytes_of(written)
    assert left.items() > before.items() and len(list(read_thoughts(written))) == 100, 'files of the killed one lie beside'
    write_thoughts(written, rows(50), PROBLEMS, SPLITS)
    assert set(bytes_of(written)) == set(before) and len(list(read_thoughts(written))) == 50


# Sent: a loopback hub that keeps what it is sent. It takes files within the commit, where the hub would ask for large ones by another way

class Hub(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def answer(self):
        said = self.rfile.read(int(self.headers['Content-Length'] or 0)).decode()
        hub, route = self.server, self.path.partition('?')[0].removeprefix('/api/')
        hub.asked.append((self.command, route, self.headers['Authorization']))
        if route == 'repos/create':
            hub.private = json.loads(said)['visibility'] == 'private'
            reply = {'url': f'{hub.endpoint}/datasets/somebody/thoughts'}
        elif route.endswith('/tree/main'): reply = [dict(type='file', path=p, size=len(b), oid='0' * 40) for p, b in hub.files.items()]
        elif route.endswith('/preupload/main'): reply = {'files': [dict(path=f['path'], uploadMode='regular', shouldIgnore=False) for f in json.loads(said)['files']]}
        elif route.endswith('/commit/main'):
            for line in map(json.loads, said.splitlines()):
                if line['key'] == 'file': hub.files[line['value']['path']] = base64.b64decode(line['value']['content'])
                if line['key'] == 'deletedFile': del hub.files[line['value']['path']]
            reply = {'commitUrl': f'{hub.endpoint}/datasets/somebody/thoughts/commit/{"a" * 40}', 'commitOid': 'a' * 40, 'success': True}
        else: reply = {'errors': [], 'warnings': []} # validate-yaml
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/json'); self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer
    def log_message(self, *_): pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    server.asked, server.files, server.endpoint = [], {'data/old.parquet': b'old', '.gitattributes': b''}, f'http://127.0.0.1:{server.server_port}'
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_what_is_sent_are_the_files_as_they_stand_and_no_others(written, hub, tmp_path):
    (written/'manifest.json').write_text('{}')
    (written/'.data.new').mkdir()
    (written/'.data.new'/'train.parquet').write_text('half')
    url = push_thoughts(written, 'somebody/thoughts', token='hf_secret', endpoint=hub.endpoint)
    assert url == f'{hub.endpoint}/datasets/somebody/thoughts/commit/{"a" * 40}' and hub.private
    assert {p: b for p, b in hub.files.items() if p != '.gitattributes'} == {p: (written/p).read_bytes() for p in ('README.md', 'data/train.parquet', 'data/dev.parquet')}
    assert {token for _, _, token in hub.asked} == {'Bearer hf_secret'}
    copy = tmp_path/'copy'
    for path, content in hub.files.items():
        (copy/path).parent.mkdir(parents=True, exist_ok=True)
        (copy/path).write_bytes(content)
    assert datasets.load_dataset(str(copy), cache_dir=str(tmp_path/'cache')).num_rows == {'train': 75, 'dev': 25}
    push_thoughts(written, 'somebody/thoughts', token='hf_secret', private=False, endpoint=hub.endpoint)
    assert not hub.private


def test_without_a_token_nothing_is_sent(written, hub, tmp_path):
    code = f'from mtd.thoughts import push_thoughts; push_thoughts({str(written)!r}, "somebody/thoughts", endpoint={hub.endpoint!r})'
    env = {k: v for k, v in os.environ.items() if 'TOKEN' not in k} | {'HF_HOME': str(tmp_path/'home')}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 1 and 'ValueError: somebody/thoughts cannot be written without a token' in done.stderr and not hub.asked


def test_an_unfinished_dataset_is_not_sent(written, hub):
    (written/'README.md').unlink()
    with pytest.raises(FileNotFoundError, match='no finished dataset'): push_thoughts(written, 'somebody/thoughts', token='x', endpoint=hub.endpoint)
    assert not hub.asked
