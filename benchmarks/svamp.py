"""A student from scratch on real text, scored on SVAMP's 1,000: figures in `benchmarks/results/svamp.json`, no row of the data.

`MTD_DATA=FOLDER python benchmarks/svamp.py 0 1` is the profile `svamp` once for each seed of the student; what stands under `runs/` is not made again.
The reference was trained on the same problems: it gets their numbers as slots, and words from a pretrained model; the student here gets neither."""
import json, os, re, sys
from pathlib import Path

from mtd.core import write_atomic
from mtd.evaluation import choose_order, score
from mtd.mixing import yields
from mtd.problems import leakage, load_benchmark, normalise
from mtd.run import Run, read_outcomes, read_problems, report_data
from mtd.settings import load
from mtd.teacher import gold_equations
from mtd.verification import verify_each

DATA = os.environ.get('MTD_DATA')
REFERENCES = [dict(name='Graph2Tree with pretrained RoBERTa', accuracy=0.438, n=1000,
                   source='Patel, Bhattamishra, Goyal: Are NLP Models really able to Solve Simple Math Word Problems? (NAACL 2021, arXiv 2103.07191), the best there')]


def overlap(run):
    "How much of the test set stands in what the run may learn from, word for word, and with other numbers."
    bare = lambda p: re.sub(r'\d+p?\d*', '', normalise(p.question))
    learnt, test = read_problems(run, 'train') + read_problems(run, 'dev'), read_problems(run, 'svamp')
    texts = {bare(p) for p in learnt}
    return dict(test=len(test), same_question=len({b for _, b in leakage(learnt, test)}), same_text_with_other_numbers=sum(bare(p) in texts for p in test),
                same_question_before_numbers_are_drawn=len({b for _, b in leakage(load_benchmark('mawps_asdiv_a', data=DATA).problems, test)}))


def written():
    "What becomes of the rows as they come: how many thoughts are written and execute to the gold, and why the others are not there."
    problems = load_benchmark('mawps_asdiv_a', data=DATA).problems
    answers, made = {p.id: p.answer for p in problems}, gold_equations(problems)
    return dict(rows=len(problems), yields=yields(verify_each(answers, made.completions), [f | {'source': 'gold_equations'} for f in made.failures]))


def all_heard(run):
    "The combination, chosen and scored as if an answer below zero were an answer like any other."
    (problems, dev), (test, outcomes) = (read_outcomes(run, name) for name in ('dev', 'svamp'))
    choice = choose_order(dev, problems, run.settings.equality)
    return score(choice.apply(outcomes), test, choice.name, run.settings.equality).to_dict()


def of_seed(seed):
    "The figures of one student."
    run = Run(load('svamp', dict(student_seed=seed)))
    shown, record = report_data(run, votes=False), run.read('student', 'student.json')
    summary = shown['summary']
    return run, shown, dict(seed=seed, chosen=shown['scores']['chosen'], scores=shown['scores']['sets']['svamp'], all_heard=all_heard(run), dev=shown['scores']['dev'], steps=record['steps'],
                            best_step=record['best_step'], tokens=record['tokens'], dev_loss=record['dev_loss'], seconds=shown['seconds'],
                            counts=summary['counts'], left_out={k: len(v) for k, v in summary['leaked'].items()})


if __name__ == '__main__':
    if not DATA: raise SystemExit('MTD_DATA is not set; let it name the folder that holds `svamp`')
    students = []
    for seed in map(int, sys.argv[1:] or ['0']):
        run, shown, found = of_seed(seed)
        students.append(found)
        print(json.dumps({k: s['right'] for k, s in found['scores']['thoughts'].items()}), found['chosen']['name'], flush=True)
    settings = {k: v for k, v in shown['settings'].items() if k not in ('student_seed', 'data')}
    found = dict(command='mtd run --profile svamp --set student_seed=SEED', settings=settings, parameters=shown['parameters'], examples_trained=shown['examples_trained'],
                 yields=shown['yields'], as_they_come=written(), overlap=overlap(run), students=students, references=REFERENCES, versions=shown['versions'])
    path = Path(__file__).parent/'results'/'svamp.json'
    write_atomic(path, json.dumps(found, indent=1, ensure_ascii=False) + '\n')
    print(path)
