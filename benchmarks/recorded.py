"""What real teachers wrote, through the filter and the audit: figures in `benchmarks/results/recorded.json`, no row of the data.

`MTD_DATA=FOLDER python benchmarks/recorded.py` reads `FOLDER/teacher`: chains of a LLaMA model on GSM8K's training problems, programs of gpt-3.5 on
SVAMP's training questions (MAWPS and ASDiv-A). Each goes through `recorded`, the executors and the comparison with the gold; then every `a op b = c`
of the chains is computed. `… recorded.py draw flagged 100 SEED` (or `unflagged 50 SEED`) prints the chains of a draw, to be read one by one;
the verdicts stand in `READ` below, and a draw that is no longer the one that was read is refused."""
import json, os, platform, random, sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from mtd.chains import arithmetic_steps, false_steps, read_answer
from mtd.core import digest, read_jsonl, same_answer, write_atomic
from mtd.evaluation import wilson_interval
from mtd.mixing import yields
from mtd.problems import load_benchmark
from mtd.replies import read_reply
from mtd.teacher import recorded
from mtd.verification import deduplicate, verify_each

DATA = os.environ.get('MTD_DATA')
CHAINS, PROGRAMS = 'teacher/llama3_70b_cot_gsm8k_train.jsonl', 'teacher/gpt35_pot_svamp_train.jsonl'
FILES = {CHAINS: ('cot', 'gsm8k', 'train', 'LLaMA-3-70B'), PROGRAMS: ('pot', 'mawps_asdiv_a', 'train', 'gpt-3.5')}

READER = 'a language model, the author of the audit; not blind'
READ = [ # draws that were read chain by chain, by the row's number in the file; `rows` is the digest of the numbers drawn
    dict(kind='flagged', n=100, seed=2, rows='8f51090af10c', misread={6815: 'a running total, a = b + c = d = sum, whose last two numbers were taken for an equality'}),
    dict(kind='unflagged', n=50, seed=1, rows='fdb659a2bb36', missed={3650: 'a false equality in an unknown, which is not read'}),
    dict(kind='unflagged', n=50, seed=2, rows='37b854096ec8', missed={})]


def filtered(problems, completions):
    "Every completion executed and compared, a row each."
    return list(deduplicate(verify_each({p.id: p.answer for p in problems}, completions)))


def share(n, of):
    low, high = wilson_interval(n, of)
    return dict(n=n, of=of, share=round(n / of, 5), low=round(low, 5), high=round(high, 5))


def through_the_filter(name):
    "The figures of one file, and its rows."
    thought, benchmark, part, source = FILES[name]
    problems, rows = load_benchmark(benchmark, part, DATA).problems, read_jsonl(Path(DATA)/name)
    answers = recorded(Path(DATA)/name, problems, thought, source)
    lost, unread = [f for f in answers.failures if 'row' in f], Counter(f['reason'] for f in answers.failures if 'sample' in f)
    kept = filtered(problems, answers.completions)
    table, = yields(kept)
    return kept, dict(
        thought=thought, source=source, rows=len(rows), joined_to=f'{benchmark}/{part}', joined=len(rows) - len(lost), not_joined=dict(Counter(f['reason'] for f in lost)),
        problems=len(problems), problems_with_one=len({c.problem_id for c in answers.completions}), completions=len(answers.completions),
        no_thought_in=dict(unread),
        kept=share(table['kept'], table['asked']), dropped=table['reasons'], right=sum(r['right'] for r in kept), statuses=dict(Counter(r['status'] for r in kept)),
        right_by_the_gold_of_the_rows=right_by_own_gold(rows, thought))


def right_by_own_gold(rows, thought):
    "How many agree with the gold that their own row gives, joined to a problem or not."
    from mtd.prompting import execute
    return sum(same_answer(o, r['gold']) for o, r in zip(execute(thought, [read_reply(thought, r['completion']).text for r in rows]), rows))


def audited(rows):
    "The audit of the chains."
    steps = [arithmetic_steps(r['text']) for r in rows]
    every = [s for each in steps for s in each]
    false = [any(not s.holds for s in each) for each in steps]
    right = [f for f, r in zip(false, rows) if r['right']]
    elsewhere = [not same_answer(read_answer(r['text'].rpartition('The answer is')[0]), r['answer']) for r in rows if r['right']]
    notes = Counter(s.note for s in every if s.note)
    return dict(chains=len(rows), with_steps=sum(map(bool, steps)),
                steps=dict(all=len(every), exact=sum(s.holds and not s.note for s in every), only_by_rounding=notes['rounded'], by_another_reading=notes['reading'],
                           run_on=notes['run on'], not_read=notes['unread'], false=sum(not s.holds for s in every)),
                false_steps_of_those_read=share(sum(not s.holds for s in every), len(every) - notes['unread']),
                chains_with_false_step=sum(false), right_with_false_step=share(sum(right), len(right)),
                right_and_without_its_last_sentence_another_answer=share(sum(elsewhere), len(right)), right_with_either=share(sum(map(max, right, elsewhere)), len(right)),
                wrong_with_false_step=share(sum(false) - sum(right), len(false) - len(right)))


def human():
    "The same audit of the solutions that people wrote for GSM8K: what it finds where little should be found."
    found = {}
    for part in ('train', 'test'):
        steps = [arithmetic_steps(p.meta['solution']) for p in load_benchmark('gsm8k', part, DATA).problems]
        every = [s for each in steps for s in each]
        found[part] = dict(chains=len(steps), steps=len(every), not_read=sum(s.note == 'unread' for s in every), false=sum(not s.holds for s in every),
                           chains_with_false_step=share(sum(any(not s.holds for s in each) for each in steps), len(steps)))
    return found


def drawn(kind, n, seed):
    "Row numbers of chains, flagged by the audit or not, at random; among the unflagged only chains with steps."
    rows = read_jsonl(Path(DATA)/CHAINS)
    flagged = [bool(false_steps(r['completion'])) for r in rows]
    pool = [i for i, f in enumerate(flagged) if f == (kind == 'flagged') and (f or arithmetic_steps(rows[i]['completion']))]
    return sorted(random.Random(seed).sample(pool, min(n, len(pool)))), rows


def read_by_hand():
    "Precision and misses, by the verdicts in `READ`."
    found = []
    for verdict in READ:
        numbers, rows = drawn(verdict['kind'], verdict['n'], verdict['seed'])
        if digest(numbers) != verdict['rows']:
            raise SystemExit(f"the draw {verdict['kind']}, seed {verdict['seed']} is {digest(numbers)}, not {verdict['rows']}: the audit changed, so read it again")
        entry = dict(kind=verdict['kind'], chains=len(numbers), seed=verdict['seed'], reader=READER)
        if verdict['kind'] == 'flagged':
            steps = sum(len(false_steps(rows[i]['completion'])) for i in numbers)
            wrong = len(verdict['misread'])
            entry |= dict(steps=steps, chains_misread=wrong, misread_why=sorted(verdict['misread'].values()), precision=share(len(numbers) - wrong, len(numbers)))
        else:
            steps = sum(len(arithmetic_steps(rows[i]['completion'])) for i in numbers)
            entry |= dict(steps=steps, chains_missed=len(verdict['missed']), missed_what=sorted(verdict['missed'].values()), missed=share(len(verdict['missed']), len(numbers)))
        found.append(entry)
    return found


def draw(kind, n, seed):
    numbers, rows = drawn(kind, int(n), int(seed))
    print('rows', digest(numbers), len(numbers))
    for i in numbers:
        print(f'\n{i}: {rows[i]["completion"]}')
        for s in arithmetic_steps(rows[i]['completion']) if kind == 'flagged' else ():
            if not s.holds: print(f'    {s.written}   [{s.left} is not {s.right}]')


if __name__ == '__main__':
    if not DATA: raise SystemExit('MTD_DATA is not set; let it name the folder that holds `teacher` and `gsm8k`')
    if sys.argv[1:2] == ['draw']: raise SystemExit(draw(*sys.argv[2:]))
    kept, figures = {}, {}
    for name in FILES:
        kept[name], figures[name] = through_the_filter(name)
        print(json.dumps(figures[name]), flush=True)
    found = dict(files=figures, audit=audited(kept[CHAINS]) | dict(read_by_hand=read_by_hand(), human_solutions=human()),
                 command='MTD_DATA=FOLDER python benchmarks/recorded.py', versions={'python': platform.python_version()} | {n: version(n) for n in ('mtd', 'gmpy2', 'sympy')})
    path = Path(__file__).parent/'results'/'recorded.json'
    write_atomic(path, json.dumps(found, indent=1, ensure_ascii=False) + '\n')
    print(path)
