"""How wrong are 4 (or 3) characters a token, and how wide is the bound by bytes? Our own prompts, by real vocabularies.

`python benchmarks/tokens.py FOLDER` reads tiktoken's cache in FOLDER and downloads nothing: PyPI's litellm carries such a folder
(litellm/litellm_core_utils/tokenizers), and TIKTOKEN_CACHE_DIR fills one. tiktoken checks each file's SHA-256. Writes benchmarks/results/tokens.json."""
import json, os, sys
from importlib.metadata import version
from pathlib import Path

from mtd.core import find_file, write_atomic
from mtd.lab import lab_stories
from mtd.prices import TokenCounter, _bytes, _most_tokens, _vocabulary
from mtd.problems import load_benchmark
from mtd.prompting import THOUGHTS, demonstrations, teacher_messages

SHOTS = 8


def texts(thought):
    "What is sent and what comes back: prompts with all demonstrations, and the demonstrations' own thoughts as answers."
    questions = [s.problem.question for s in lab_stories('train', 200)] + [p.question for p in load_benchmark('gsm8k', 'train', find_file('data/problems')).problems]
    return [teacher_messages(thought, q, SHOTS) for q in questions], [d['thought'] for d in demonstrations(thought)]


def by(characters): return TokenCounter(f'{characters} characters a token', lambda text: -(-len(text) // characters))


def row(name, thought, what, real, texts, counts, bounds):
    characters = sum(len(x['content']) for t in texts for x in t) if what == 'prompts' else sum(map(len, texts))
    out = dict(vocabulary=name, thought=thought, what=what, n=len(real), tokens=sum(real), characters_per_token=round(characters / sum(real), 3))
    for rule, estimates in counts.items():
        ratios = [e / r for e, r in zip(estimates, real)]
        out |= {rule: round(sum(estimates) / sum(real), 3), f'{rule}_range': [round(min(ratios), 3), round(max(ratios), 3)]}
    return out | dict(bound=round(sum(bounds) / sum(real), 3), bound_least=round(min(b / r for b, r in zip(bounds, real)), 3))


def measure(name, count):
    real, rules = TokenCounter(name, count), dict(four=by(4), three=by(3))
    for thought in THOUGHTS:
        prompts, answers = texts(thought)
        yield row(name, thought, 'prompts', [real.count(m) for m in prompts], prompts,
                  {k: [r.count(m) for m in prompts] for k, r in rules.items()}, [_most_tokens(m) for m in prompts])
        yield row(name, thought, 'answers', [real.count_text(t) for t in answers], answers,
                  {k: [r.count_text(t) for t in answers] for k, r in rules.items()}, [_bytes(t) for t in answers])


def vocabularies(folder):
    "name -> a function that counts the tokens of a text."
    os.environ['TIKTOKEN_CACHE_DIR'] = str(folder)
    for name in ('cl100k_base', 'o200k_base'):
        encoding = _vocabulary(name)
        if encoding is None: sys.exit(f'{folder} does not hold {name} with the checksum that tiktoken knows')
        yield name, lambda text: len(encoding.encode_ordinary(text))
    if (folder/'deepseek_tokenizer.json').exists():
        from tokenizers import Tokenizer
        deepseek = Tokenizer.from_file(str(folder/'deepseek_tokenizer.json'))
        yield 'deepseek', lambda text: len(deepseek.encode(text, add_special_tokens=False).ids)


if __name__ == '__main__':
    rows = [r for name, count in vocabularies(Path(sys.argv[1])) for r in measure(name, count)]
    result = dict(command='python benchmarks/tokens.py FOLDER', folder='litellm/litellm_core_utils/tokenizers of litellm 1.109.1 from PyPI', shots=SHOTS,
                  what='four, three, bound: over the real count of all texts; _range and _least: over the single texts',
                  versions={p: version(p) for p in ('tiktoken', 'tokenizers')} | {'python': sys.version.split()[0]}, rows=rows)
    path = Path(__file__).parent/'results'/'tokens.json'
    write_atomic(path, json.dumps(result, indent=1) + '\n')
    print(path)
