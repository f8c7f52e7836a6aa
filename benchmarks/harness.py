"""Do our readings and our export give what lm-evaluation-harness gives? Its own filter and metric classes, built from its own task files, on real model-written texts; and real scores under each ruler.

`lm_eval` is no dependency of the project: install it beside it (`pip install --target FOLDER lm_eval`) and name that folder in PYTHONPATH.
`MTD_DATA=FOLDER python benchmarks/harness.py` prints the figures and writes benchmarks/results/harness.json."""
import json, os, platform, random, tempfile
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

from mtd.core import Problem, number_text, parse_number, read_jsonl, same_answer, write_atomic
from mtd.harness import RULERS, Task, extract, read_by, under_rulers, write_harness
from mtd.prompting import execute

DATA = os.environ.get('MTD_DATA')
TASKS = {'strict-match': ('gsm8k-cot', 'strict-match'), 'flexible-extract': ('gsm8k-cot', 'flexible-extract'), 'strict-match ####': ('gsm8k', 'strict-match')} # ruler -> its file, its filter


def recorded(file):
    rows = read_jsonl(Path(DATA)/'teacher'/file)
    return [Problem(f'{file}/{i}', r['question'], parse_number(r['gold']), file) for i, r in enumerate(rows)], [r['completion'] for r in rows]


def task_file(name):
    import lm_eval, yaml
    path = Path(lm_eval.__file__).parent/'tasks'/'gsm8k'/f'{name}.yaml'
    return yaml.safe_load(path.read_text())


def theirs(ruler):
    "A filter and a metric of lm_eval, as its task file asks for them."
    from lm_eval.api.metrics import exact_match_fn
    from lm_eval.filters.extraction import RegexFilter
    file, name = TASKS[ruler]
    task = task_file(file)
    regex = next(f for f in next(x for x in task['filter_list'] if x['name'] == name)['filter'] if f['function'] == 'regex')
    how = {k: v for k, v in task['metric_list'][0].items() if k in ('regexes_to_ignore', 'ignore_case', 'ignore_punctuation')}
    take = RegexFilter(**{k: v for k, v in regex.items() if k != 'function'})
    return (lambda texts: [t[0] for t in take.apply([[t] for t in texts], [])]), (lambda text, gold: bool(exact_match_fn(predictions=[text], references=[gold], **how)['exact_match']))


def agreement(thought, problems, texts, outcomes):
    "Text by text: the piece taken and the verdict, theirs and ours."
    from mtd.harness import closing
    found, seen = {}, texts if thought == 'cot' else [closing(o) for o in outcomes]
    for name in TASKS:
        take, judge = theirs(name)
        pieces, ruler = take(seen), RULERS[name]
        mine = [extract(ruler.rule, thought, t, o) for t, o in zip(texts, outcomes)]
        verdicts = [same_answer(o, p.answer, ruler.equality) for o, p in zip(read_by(ruler, thought, texts, outcomes), problems)]
        found[name] = dict(texts=len(texts), different_text=sum((m or '[invalid]') != t for m, t in zip(mine, pieces)),
                           different=sum(v != judge(t, number_text(p.answer)) for v, t, p in zip(verdicts, pieces, problems)))
    return found


def export_is_read(problems, texts, outcomes):
    "Our files through lm_eval's own readers: the table, the file names, the hashes, and every metric counted again from the samples."
    from datasets import load_dataset
    from lm_eval.utils import get_file_datetime, get_file_task_name, get_results_filenames, get_sample_results_filenames, hash_string, make_table
    with tempfile.TemporaryDirectory() as folder:
        path = write_harness(folder, [Task('gsm8k', 'cot', problems, texts, outcomes)], 'mtd/recorded')
        files = [str(p) for p in path.parent.iterdir()]
        results, lines = get_results_filenames(files), get_sample_results_filenames(files)
        assert (len(results), len(lines)) == (1, 1) and get_file_task_name(Path(lines[0]).name) == 'gsm8k_cot'
        assert get_file_datetime(Path(lines[0]).name) == get_file_datetime(Path(results[0]).name).removesuffix('.json')
        found, rows = json.loads(path.read_text()), list(load_dataset('json', data_files=lines[0], split='train', cache_dir=folder))
        table = make_table(found)
        for name in ('strict-match', 'flexible-extract', 'mtd'):
            marks = [r['exact_match'] for r in rows if r['filter'] == name]
            assert len(marks) == len(problems) and abs(sum(marks) / len(marks) - found['results']['gsm8k_cot'][f'exact_match,{name}']) < 1e-12
            if name != 'mtd': assert [r['filtered_resps'] for r in rows if r['filter'] == name] == [[t] for t in theirs(name)[0](texts)]
        assert all(r['doc_hash'] == hash_string(json.dumps(p.to_dict(), indent=2, ensure_ascii=False)) for r, p in zip(rows, problems))
    return table.strip().splitlines()


def made_up(n, seed=0):
    "Texts of pieces at which the patterns differ, with a gold number each."
    rng = random.Random(seed)
    pieces = ['The answer is ', 'the answer is ', '#### ', '####', '.', ',', '-', '$', ' ', '\n', '%', '/', 'So ', '0', '7', '42', '1,200', '3.50', '-5', '.5', '$8', '1.2.3', '٣', '½']
    golds = [Fraction(x) for x in ('0', '7', '42', '1200', '3.5', '-5', '1/2', '8', '72')]
    return [Problem(f'made/{i}', 'How many?', rng.choice(golds)) for i in range(n)], [''.join(rng.choices(pieces, k=rng.randint(0, 9))) for _ in range(n)]


def main():
    problems, texts = recorded('llama3_70b_cot_gsm8k_train.jsonl')
    outcomes = execute('cot', texts)
    programs, written = recorded('gpt35_pot_svamp_train.jsonl')
    ran = execute('pot', written)
    odd, said = made_up(20_000)
    stopped = [t if t.rstrip().endswith('.') else t.rstrip() + '.' for t in texts] # with the full stop that the strict rule waits for
    return dict(chains=dict(file='llama3_70b_cot_gsm8k_train', rulers=under_rulers('cot', texts, outcomes, problems)),
                chains_with_full_stop=dict(rulers=under_rulers('cot', stopped, execute('cot', stopped), problems)),
                programs=dict(file='gpt35_pot_svamp_train', rulers=under_rulers('pot', written, ran, programs)),
                agreement={f'{name}, {kind}': a for kind, *what in (('chains', 'cot', problems, texts, outcomes), ('chains with a full stop', 'cot', problems, stopped, outcomes),
                                                                    ('made up texts', 'cot', odd, said, execute('cot', said)),
                                                                    ('programs', 'pot', programs, written, ran)) for name, a in agreement(*what).items()},
                table=export_is_read(problems, texts, outcomes), tasks={name: task_file(file)['metadata']['version'] for name, (file, _) in TASKS.items()},
                command='MTD_DATA=FOLDER python benchmarks/harness.py', versions={'python': platform.python_version()} | {n: version(n) for n in ('mtd', 'lm_eval', 'datasets')})


if __name__ == '__main__':
    if not DATA: raise SystemExit('MTD_DATA is not set; let it name the folder that holds `teacher`')
    found = main()
    print(json.dumps(found, indent=1))
    write_atomic(Path(__file__).parent/'results'/'harness.json', json.dumps(found, indent=1, ensure_ascii=False) + '\n')
