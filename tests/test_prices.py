"""Prices before and after: whose tokens, which price, and a budget that is never crossed."""
import json, math, os, random, re, subprocess, sys, urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import example, given, settings, strategies as st

from mtd.lab import lab_stories
from mtd.lab_teacher import MODEL, reply
from mtd.prices import (Budget, Cost, TokenCounter, _bytes, _most_tokens, cost_markdown, cost_table, dry_run, estimate_cost, load_prices, token_counter,
                        usage_cost)
from mtd.teacher import Request, make_requests
from mtd.store import Store

PRICES = load_prices()
PROBLEMS = [s.problem for s in lab_stories('train', 12)]
REQUESTS = make_requests(PROBLEMS, ('cot', 'pot', 'eot'), 'gpt-4o-mini', shots=2)
CHATML = ("{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def ask(i=0, model='gpt-4o-mini', text=None, thought='cot', **more):
    return Request(f'p/{i}', thought, [{'role': 'user', 'content': text or f'question {i}'}], model, **more)


def bought(i=0, model='gpt-4o-mini', read=10, written=5, thought='cot', **more):
    return dict(key=f'k{i}', thought=thought, model=model, via='chat', usage=dict(prompt_tokens=read, completion_tokens=written)) | more


# The table

def test_price_table_is_dated_sourced_and_complete():
    assert re.fullmatch(r'\d{4}-\d\d-\d\d', PRICES['read_on']) and PRICES['read_on'] >= '2026-11'
    assert 'litellm 1.109.1' in PRICES['source'] and 'million tokens' in PRICES['unit']
    assert PRICES['batch'] == 0.5 and set(PRICES['batch_of']) <= set(PRICES['models']) and all(0 < s <= 1 for s in PRICES['batch_of'].values())
    assert PRICES['models'][MODEL] == [0, 0] and len(PRICES['models']) > 30
    assert all(p[0] <= p[1] for p in PRICES['models'].values())
    assert all(m.startswith(('gpt-5.6', 'gpt-6')) and p[2] == 1.25 * p[0] for m, p in PRICES['models'].items() if len(p) == 3)


@pytest.mark.parametrize('row', [[1], [1, 2, 3, 4], [1, -2], ['1', 2], [1, math.inf], [2, 3, 1], {'in': 1}, 3, None])
def test_a_row_that_is_no_price_is_named(tmp_path, row):
    (tmp_path/'p.json').write_text(json.dumps({'models': {'fine': [1, 2], 'odd': row}}))
    with pytest.raises(ValueError, match=r"p\.json: the price of 'odd' is .*give \[in, out\]"): load_prices(tmp_path/'p.json')


@pytest.mark.parametrize('model, like', [('gpt-4o-mini-2024-07-18', 'gpt-4o-mini'), ('claude-haiku-4-5-20251001', 'claude-haiku-4-5'), ('gpt-4.1-2025-04-14', 'gpt-4.1'),
                                         ('gpt-4o-2024-08-06', 'gpt-4o')])
def test_a_snapshot_costs_what_its_model_costs(model, like):
    assert usage_cost([bought(model=model)]).dollars == usage_cost([bought(model=like)]).dollars > 0


def test_a_snapshot_with_a_price_of_its_own_keeps_it():
    assert usage_cost([bought(model='gpt-4o-2024-05-13', read=10**6, written=10**6)]).dollars == 20 > usage_cost([bought(model='gpt-4o', read=10**6, written=10**6)]).dollars


@pytest.mark.parametrize('model', ['ft:gpt-4o-mini:mine', 'ft:gpt-4o-mini-2024-07-18:mine::abc', 'ft:gpt-4o-mini-2024-07-18', 'elsewhere/gpt-4o-mini', 'gpt-4o-mini-2024', 'gpt-4o-minimal',
                                   'GPT-4o-mini', 'own', ''])
def test_what_is_another_model_has_no_price(model):
    for cost in (usage_cost([bought(model=model), bought(1)]), estimate_cost([ask(model=model), ask(1)])):
        assert cost.dollars is None and cost.completions == 2 and cost.prompt_tokens > 0 and f'tokens only: {model} has no price' in cost.note
    with pytest.raises(ValueError, match='a budget needs the price of .*data/prices.json'): Budget(1).reserve(ask(model=model))
    with pytest.raises(ValueError, match='a budget needs the price of'): Budget(1).check([ask(), ask(model=model)])


# After: by usage

def test_price_by_usage_each_answer_once():
    rows = [bought(i) for i in range(4)] * 2
    cost = usage_cost(rows)
    assert (cost.completions, cost.prompt_tokens, cost.completion_tokens) == (4, 40, 20) and cost.dollars == round((40 * 0.15 + 20 * 0.60) / 1e6, 6)
    assert PRICES['read_on'] in cost.note and 'list price' in cost.note and '4 completions' in cost._repr_markdown_()
    class Row:
        def __init__(self, row): self.__dict__ = row
    assert usage_cost([Row(r) for r in rows]) == cost, 'objects and dicts alike'
    assert usage_cost([Row({k: v for k, v in r.items() if k != 'via'}) for r in rows]) == cost, 'a completion that does not say how it came'
    assert usage_cost([]) == Cost(0, 0, 0, 0.0, cost.note)


def test_a_batch_costs_its_share():
    rows = [bought(i, read=10**6, written=10**6) for i in range(2)]
    assert usage_cost([rows[0], rows[1] | {'via': 'batch'}]).dollars == 0.75 + 0.375
    assert usage_cost([bought(model='deepseek-flash', read=10**6, via='batch')]).dollars == usage_cost([bought(model='deepseek-flash', read=10**6)]).dollars
    assert usage_cost([bought(model='grok-4.7', read=10**6, written=0, via='batch')]).dollars == 1.6
    assert usage_cost([bought(read=10**6, via='batch')], {'read_on': 'now', 'models': {'gpt-4o-mini': [1, 1]}}).dollars == usage_cost([bought(read=10**6)], {'read_on': 'now', 'models': {'gpt-4o-mini': [1, 1]}}).dollars


def test_what_was_not_bought_is_not_priced_and_what_reports_no_usage_is_said():
    recorded = [dict(key='r', thought='cot', model='', usage={}), dict(key='r2', thought='cot', usage=None)]
    assert usage_cost(recorded).completions == 0 and usage_cost(recorded).dollars == 0
    silent = usage_cost([bought(), bought(1, usage={})])
    assert silent.completions == 2 and silent.prompt_tokens == 10 and '1 without usage not priced' in silent.note
    assert usage_cost([bought(usage={'prompt_tokens': 7})]).prompt_tokens == 7


# Before: what is missing, as counted

def test_an_estimate_prices_distinct_requests_that_are_missing(tmp_path):
    with Store(tmp_path/'s.sqlite') as store:
        keys = [r.key('e') for r in REQUESTS[:10]]
        row = dict(endpoint='e', model='gpt-4o-mini', problem_id='p', thought='cot', sample=0, request='{}', response='{}', text='t', refusal='', finish_reason='stop',
                   usage='{}', created=0., via='chat')
        store.put([row | {'key': k} for k in keys])
        whole, rest = estimate_cost(REQUESTS * 2), estimate_cost(REQUESTS * 2, store=store, endpoint='e')
        assert whole.completions == len(REQUESTS) and rest.completions == len(REQUESTS) - 10 and rest.dollars < whole.dollars
        assert estimate_cost(REQUESTS, store=store, endpoint='f') == whole, 'another endpoint is another question'
        assert estimate_cost(REQUESTS[:10], store=store, endpoint='e').dollars == 0
        lines = dry_run(REQUESTS, store=store, endpoint='e').splitlines()
        cells = {line.split('|')[1].strip(): [c.strip() for c in line.split('|')[2:-1]] for line in lines[2:6]}
        assert [cells[t][:2] for t in ('cot', 'pot', 'eot', '**total**')] == [['12', '4'], ['12', '3'], ['12', '3'], ['36', '10']]
        assert cells['**total**'][2:] == [f'{rest.prompt_tokens:,}', f'{rest.completion_tokens:,}', f'${rest.dollars:.4f}', f'${rest.dollars / 2:.4f}']
        assert 'characters a token' in lines[-1] and PRICES['read_on'] in lines[-1]


def test_answers_are_taken_at_their_longest_and_a_batch_at_half():
    cost = estimate_cost([replace(r, max_tokens=100) for r in REQUESTS])
    assert cost.completion_tokens == 100 * len(REQUESTS) and 'at most max_tokens' in cost.note and 'nothing taken off' in cost.note
    assert estimate_cost([replace(r, max_tokens=100) for r in REQUESTS], batch=True).dollars == pytest.approx(cost.dollars / 2, abs=1e-6)
    assert estimate_cost(REQUESTS, {'read_on': 'now', 'models': {'gpt-4o-mini': [0, 1_000]}}).dollars == 512 * len(REQUESTS) / 1000


def test_a_dry_run_without_price_or_requests():
    told = dry_run([replace(r, model='own') for r in REQUESTS])
    assert told.count('–') == 2 * 4 and 'tokens only: own has no price' in told and '$' not in told
    assert '| **total** | 0 | 0 | 0 | 0 | $0.0000 | $0.0000 |' in dry_run([])


# Whose tokens

def test_the_embedded_teacher_is_counted_as_its_server_counts():
    from mtd.lab_server import LabTeacher
    counter = token_counter(MODEL)
    asked = [replace(r, model=MODEL) for r in REQUESTS[:6]] + [ask(model=MODEL, text='Two  words, 12.50 and Ünï\u0301 😀 不 ½ x_1')]
    with LabTeacher() as teacher:
        for r in asked:
            post = urllib.request.Request(teacher.base_url + '/chat/completions', json.dumps(r.body()).encode(), {'Content-Type': 'application/json', 'Authorization': 'Bearer none'})
            got = json.loads(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(post, timeout=20).read())
            message = got['choices'][0]['message']
            assert got['usage']['prompt_tokens'] == counter.count(r.messages) <= counter.most(r.messages)
            assert got['usage']['completion_tokens'] == counter.count_text(message['content'] or message['refusal'])
    assert estimate_cost(asked).dollars == 0 and 'embedded teacher' in estimate_cost(asked).note


def test_an_unknown_model_is_estimated_and_says_so():
    counter = token_counter('own')
    assert counter.how == 'estimated: 3 characters a token and 4 tokens a message'
    assert counter.count_text('') == 0 and counter.count_text('abcd') == 2 and counter.count([{'role': 'user', 'content': 'abcd'}] * 2) == 3 + 2 * (4 + 2)


OFFLINE = """
import os, socket, sys
def refuse(*args, **more): print('NETWORK'); raise OSError('no network here')
socket.socket.connect = socket.getaddrinfo = refuse
import tiktoken.load
reads = tiktoken.load.read_file
from mtd.prices import token_counter
for model in ('gpt-4o-mini', 'gpt-3.5-turbo-0125', 'openai/gpt-oss-20b', 'gpt-4o-mini'): print(token_counter(model).how)
print(tiktoken.load.read_file is reads)
try: token_counter('own', 'tiktoken:o200k_base')
except OSError: print('asked for, so it was tried')
"""


@pytest.mark.parametrize('spoilt', [False, True])
def test_no_vocabulary_is_downloaded_unasked(tmp_path, spoilt):
    import hashlib
    if spoilt: # a cached file with another content, which tiktoken throws away and would fetch again
        name = hashlib.sha1(b'https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken').hexdigest()
        (tmp_path/name).write_text('aGVsbG8= 0\n')
    env = {k: v for k, v in os.environ.items() if 'proxy' not in k.lower()} | {'TIKTOKEN_CACHE_DIR': str(tmp_path)}
    done = subprocess.run([sys.executable, '-c', OFFLINE], capture_output=True, text=True, env=env, timeout=60)
    lines = done.stdout.splitlines()
    assert lines[:5] == ['estimated: 3 characters a token and 4 tokens a message'] * 4 + ['True'], done.stdout + done.stderr[-800:]
    assert lines[5] == 'NETWORK' and lines[-1] == 'asked for, so it was tried' and not [p for p in tmp_path.iterdir() if p.stat().st_size > 100]


@pytest.mark.parametrize('model, name', [('gpt-4o-mini', 'o200k_base'), ('gpt-4.1-mini-2025-04-14', 'o200k_base'), ('gpt-3.5-turbo', 'cl100k_base'), ('ft:gpt-4o-mini:mine', 'o200k_base')])
def test_a_vocabulary_at_hand_is_used(monkeypatch, model, name):
    import tiktoken, tiktoken.registry
    ranks = {bytes([b]): b for b in range(256)} | {b'th': 256, b'the': 257}
    small = tiktoken.Encoding(name, pat_str=r'\w+|\W', mergeable_ranks=ranks, special_tokens={'<|endoftext|>': 258})
    monkeypatch.setitem(tiktoken.registry.ENCODINGS, name, small)
    counter = token_counter(model)
    assert counter.how == f'tokens of {name}' and counter.count_text('the then') == 1 + 1 + 2 and counter.count([{'role': 'user', 'content': 'the'}]) == 1 + 4 + 3
    assert counter.count_text('<|endoftext|>') == 13, 'a mark of the vocabulary in a question is text'
    assert token_counter('own', f'tiktoken:{name}').count_text('the') == 1
    assert token_counter('gpt-9').how.startswith('estimated'), 'a model that tiktoken does not know is not guessed'


def byte_level(folder, template, size=500, normalise=False):
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast
    bpe = Tokenizer(models.BPE())
    if normalise: bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    bpe.train_from_iterator([m['content'] for r in REQUESTS for m in r.messages], trainers.BpeTrainer(
        vocab_size=size, special_tokens=['<s>', '<|im_start|>', '<|im_end|>'], show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token='<s>')
    if template: made.chat_template = template
    made.save_pretrained(folder)
    return made


@pytest.mark.parametrize('template', [
    CHATML,
    "{{ bos_token }}{% for m in messages %}{{ '[' + m.role + ']' + m.content | trim + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}",
    "{{ messages | length }} {% for m in messages %}{{ m.content }}{% endfor %}", # no beginning of it stands in the whole
    "{% for m in messages %}{{ m.content }}{% endfor %}", # tokens may cross from one message into the next
    "{% if messages[-1].role != 'user' %}{{ raise_exception('no question') }}{% endif %}" + CHATML, # no beginning can be rendered
], ids=['chatml', 'trimmed', 'counted', 'joined', 'strict'])
def test_a_chat_template_is_counted_to_the_token(tmp_path, template):
    made = byte_level(tmp_path, template)
    counter = token_counter('own', str(tmp_path))
    asked = [r.messages for r in REQUESTS] + [r.messages for r in make_requests(PROBLEMS[:3], ('cot',), 'own', shots=0)]
    asked += [[dict(role=who, content=text) for who, text in (('user', 'How man'), ('assistant', 'y doe'), ('user', 's ' + end))] for end in ('she', 'he')]
    exact = [len(made.apply_chat_template(m, add_generation_prompt=True)['input_ids']) for m in asked]
    assert [counter.count(m) for m in asked] == exact and 'chat template' in counter.how
    assert all(n <= counter.most(m) for n, m in zip(exact, asked))
    assert estimate_cost(REQUESTS, tokenizer=str(tmp_path)).prompt_tokens == sum(exact[:len(REQUESTS)])


def test_without_a_chat_template_a_tokenizer_counts_texts(tmp_path):
    made = byte_level(tmp_path, None)
    counter, messages = token_counter('own', str(tmp_path)), REQUESTS[0].messages
    assert 'no chat template: 4 more a message' in counter.how
    assert counter.count(messages) == 3 + sum(4 + len(made.encode(m['content'], add_special_tokens=False)) for m in messages)


def test_a_template_that_refuses_and_a_tokenizer_that_is_not_there(tmp_path):
    byte_level(tmp_path/'t', "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML)
    with pytest.raises(ValueError, match='refuses this prompt .System role not supported.*would refuse it too'): estimate_cost(REQUESTS, tokenizer=str(tmp_path/'t'))
    with pytest.raises(ValueError, match="no tokenizer can be read from .*a folder that holds its tokenizer"): token_counter('own', str(tmp_path/'nothing'/'here'))


def test_a_revision_is_read_as_it_was(tmp_path):
    hub = tmp_path/'hub'/'models--me--tok'
    for ref, size, sha in (('main', 300, 'a' * 40), ('v1', 600, 'b' * 40)):
        byte_level(hub/'snapshots'/sha, CHATML, size)
        (hub/'refs').mkdir(exist_ok=True); (hub/'refs'/ref).write_text(sha); (hub/'snapshots'/sha/'config.json').write_text('{}')
    code = ("from mtd.prices import token_counter; text = 'How many pens are left at the end of the day?'\n"
            "for name in ('me/tok', 'me/tok@v1'): c = token_counter('own', name); print(c.count_text(text), c.how)")
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120, env=os.environ | {'HF_HOME': str(tmp_path), 'HF_HUB_OFFLINE': '1'})
    (main, how), (v1, _) = (line.split(' ', 1) for line in done.stdout.splitlines()[-2:])
    assert int(v1) < int(main) and how == 'tokens of me/tok in its chat template', done.stderr[-800:]


@pytest.fixture(scope='module')
def composing(tmp_path_factory):
    return byte_level(tmp_path_factory.mktemp('nfc'), CHATML, normalise=True)


@settings(max_examples=400)
@example('\u0958\ufb2c\u0344\U0001d160\u2adc') # composed, these are longer
@example('\ufb2c' * 50)
@example('')
@given(st.text(st.characters(exclude_categories=['Cs'])))
def test_no_text_has_more_tokens_than_its_bound(composing, text):
    assert len(composing.encode(text, add_special_tokens=False, verbose=False)) <= _bytes(text)
    messages = [{'role': 'system', 'content': text}, {'role': 'user', 'content': text}]
    assert len(composing.apply_chat_template(messages, add_generation_prompt=True)['input_ids']) <= _most_tokens(messages)


def test_the_bound_takes_half_a_pair_and_is_never_below_the_count():
    assert _bytes('\ud83d') == 3 and _bytes('é') == 2 and _bytes('abc') == 3
    assert TokenCounter('many', lambda text: 10_000).most([{'role': 'user', 'content': 'x'}]) >= 10_000


# A budget

def worst(r, model='gpt-4o-mini', share=1):
    price = PRICES['models'][model]
    return Fraction(str(share)) * (_most_tokens(r.messages) * Fraction(str(max(price[::2]))) + r.max_tokens * Fraction(str(price[1]))) / 10**6


def test_a_request_is_reserved_at_its_worst_and_settled_at_its_usage():
    r, budget = ask(), Budget(1)
    assert budget.reserve(r) and budget.reserved == float(worst(r)) and budget.spent == 0
    budget.settle(r, {'prompt_tokens': 10, 'completion_tokens': 5})
    assert budget.spent == float(Fraction(10 * 15 + 5 * 60, 10**8)) and budget.reserved == 0 and budget.left == 1 - budget.spent


def test_it_goes_to_the_last_fraction_and_not_beyond():
    r = ask()
    exactly = float(worst(r))
    assert Budget(exactly).reserve(r) and not Budget(exactly - 1e-12).reserve(r)
    assert not Budget(exactly, spent=1e-12).reserve(r), 'what earlier runs spent counts'
    budget = Budget(2.5 * exactly)
    assert [budget.reserve(ask(i)) for i in range(4)] == [True, True, False, False]


def test_room_comes_back_when_something_settles_or_is_released():
    a, b = ask(1), ask(2)
    budget = Budget(1.5 * float(worst(a)))
    assert budget.reserve(a) and not budget.reserve(b) and budget.reserved > 0
    budget.settle(a, {'prompt_tokens': 10, 'completion_tokens': 5})
    assert budget.reserve(b)
    budget.release(b)
    assert budget.reserve(b), 'a request that never reached the server may go again'


def test_a_lost_reply_stays_spent_and_so_does_an_answer_without_usage():
    for end in (lambda budget, r: budget.lose(r), lambda budget, r: budget.settle(r, {}), lambda budget, r: budget.settle(r, None),
                lambda budget, r: budget.settle(r, {'prompt_tokens': 3})):
        r, budget = ask(), Budget(1)
        budget.reserve(r); end(budget, r)
        assert budget.spent == float(worst(r)) and budget.reserved == 0
    assert budget.lost == 0
    budget.reserve(r); budget.lose(r)
    assert budget.lost == float(worst(r)) and budget.spent == float(2 * worst(r)), 'the second attempt is paid for as well'


def test_an_answer_dearer_than_its_worst_is_counted_as_it_is():
    r, budget = ask(max_tokens=5), Budget(1)
    budget.reserve(r); budget.settle(r, {'prompt_tokens': 10, 'completion_tokens': 10**7})
    assert budget.spent > 6 and budget.left < 0 and not budget.reserve(ask(1))


def test_mistakes_of_the_caller_are_told():
    r, budget = ask(), Budget(1)
    for end in (budget.settle, budget.lose, budget.release):
        with pytest.raises(ValueError, match='nothing is reserved'): end(r, {}) if end == budget.settle else end(r)
    budget.reserve(r)
    with pytest.raises(ValueError, match='under way'): budget.reserve(r)
    assert budget.reserve(replace(r)), 'an equal request is another one'
    for odd in (-1, math.inf, math.nan):
        with pytest.raises(ValueError, match='neither negative'): Budget(odd)
        with pytest.raises(ValueError, match='neither negative'): Budget(1, spent=odd)


def test_the_dearest_price_of_a_token_and_the_share_of_a_batch():
    r = ask(model='gpt-6-luna')
    budget = Budget(1)
    budget.reserve(r)
    assert budget.reserved == float(worst(r, 'gpt-6-luna')) and PRICES['models']['gpt-6-luna'][2] > PRICES['models']['gpt-6-luna'][0]
    budget.settle(r, {'prompt_tokens': 10**6, 'completion_tokens': 0})
    assert budget.spent == 0.125, 'it may have been written into a cache'
    half = Budget(1, batch=True)
    half.reserve(ask())
    assert half.reserved == float(worst(ask(), share=0.5))


def test_what_earlier_runs_spent_is_counted_as_the_budget_counts_it():
    r, row = ask(model='gpt-6-luna'), bought(model='gpt-6-luna', read=10**6, written=10**6)
    budget = Budget(10)
    budget.reserve(r); budget.settle(r, row['usage'])
    before = usage_cost([row, row], dearest=True)
    assert before.dollars == budget.spent == 0.625 > usage_cost([row]).dollars == 0.6 and 'at its dearest' in before.note
    assert Budget(10, spent=before.dollars).left == budget.left


def test_a_free_model_needs_no_budget_and_a_prompt_beyond_the_prices_is_refused():
    assert Budget(0).reserve(ask(model=MODEL)) and not Budget(0).reserve(ask())
    full = Budget(1, spent=2)
    assert full.left == -1 and full.reserve(ask(model=MODEL)) and not full.reserve(ask())
    with pytest.raises(ValueError, match='p/7: a prompt of up to .* the prices hold up to 100,000'): Budget(10**6).check([ask(), ask(7, text='word ' * 30_000)])


def test_what_else_the_body_holds_is_seen():
    class Asked(Request):
        more = {}
        def body(self): return {k: v for k, v in (super().body() | self.more).items() if v is not None}
    def with_(**more):
        r = Asked('p/1', 'cot', [{'role': 'user', 'content': 'What?'}], 'gpt-4o-mini', max_tokens=100)
        object.__setattr__(r, 'more', more)
        return r
    def out(r): return estimate_cost([r]).completion_tokens
    def reserved(r):
        budget = Budget(1)
        return round(budget.reserve(r) and budget.reserved * 10**6 / 0.6, 6)
    plain = reserved(with_())
    assert out(with_(max_tokens=None, max_completion_tokens=2000)) == 2000 and reserved(with_(max_tokens=None, max_completion_tokens=2000)) == plain + 1900
    assert out(with_(max_completion_tokens=50)) == 100 and reserved(with_(n=3)) == plain + 200 and out(with_(n=3)) == 300
    tools = [{'type': 'function', 'function': {'name': 'f' * 400}}]
    assert reserved(with_(tools=tools)) >= plain + 400 * 0.15 / 0.6 and reserved(with_(stop=['Q'], service_tier='flex')) == plain
    with pytest.raises(ValueError, match='p/1: nothing bounds the length of its answer; set max_tokens'): Budget(1).check([with_(max_tokens=None)])
    with pytest.raises(ValueError, match="not those of service_tier='priority'"): Budget(1).reserve(with_(service_tier='priority'))
    assert out(with_(max_tokens=None)) == 0 and '1 without any, whose answers are not priced' in dry_run([with_(max_tokens=None)])


@settings(max_examples=300)
@given(st.data())
def test_whatever_happens_the_budget_holds(data):
    dollars = data.draw(st.floats(0, 0.02))
    budget, under_way, spent, lost = Budget(dollars), [], Fraction(0), Fraction(0)
    for i in range(data.draw(st.integers(1, 40))):
        if under_way and data.draw(st.booleans()):
            r = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
            how = data.draw(st.sampled_from(['settle', 'settle', 'lose', 'release']))
            if how == 'settle':
                read, written = data.draw(st.integers(0, _most_tokens(r.messages))), data.draw(st.integers(0, r.max_tokens))
                budget.settle(r, {'prompt_tokens': read, 'completion_tokens': written})
                spent += (read * Fraction('0.15') + written * Fraction('0.6')) / 10**6
            elif how == 'lose': budget.lose(r); spent += worst(r); lost += worst(r)
            else: budget.release(r)
        else:
            r = ask(i, text='x' * data.draw(st.integers(0, 20_000)), max_tokens=data.draw(st.integers(1, 5_000)))
            fits = spent + sum(map(worst, under_way)) + worst(r) <= Fraction(round(dollars * 10**12), 10**12)
            assert budget.reserve(r) == fits
            if fits: under_way.append(r)
        assert budget.spent == float(spent) and budget.reserved == float(sum(map(worst, under_way))) and budget.lost == float(lost)
        assert spent + sum(map(worst, under_way)) <= Fraction(dollars) + Fraction(1, 10**12)


def test_many_threads_never_cross_it():
    asked = [ask(i, max_tokens=100 + i % 50) for i in range(3000)]
    dollars = float(sum(map(worst, asked)) / 3)
    budget, seen, truth = Budget(dollars), [], []
    def one(i):
        rng, r = random.Random(i), asked[i]
        while not budget.reserve(r):
            if budget.reserved == 0: return 'not asked'
        seen.append(budget.spent + budget.reserved)
        how = rng.choice(['settle', 'lose', 'release'])
        if how == 'settle':
            budget.settle(r, {'prompt_tokens': 200, 'completion_tokens': r.max_tokens}); truth.append(200 * Fraction('0.15') + r.max_tokens * Fraction('0.6'))
        elif how == 'lose': budget.lose(r); truth.append(worst(r) * 10**6)
        else: budget.release(r)
        return how
    with ThreadPoolExecutor(16) as pool: ends = list(pool.map(one, range(len(asked))))
    assert max(seen) <= dollars + 1e-9 and budget.reserved == 0 and budget.spent == float(sum(truth) / 10**6) <= dollars
    assert ends.count('not asked') > 100 and budget.spent > 0.9 * dollars


# The price of a thought

def test_the_price_of_what_was_kept():
    rows = [bought(i, read=1_000_000, written=0, thought='cot') for i in range(4)] + [bought(9, read=2_000_000, written=0, thought='pot')] * 2
    table = cost_table(rows, {'cot': 2, 'pot': 0, 'eot': 3})
    assert [r['thought'] for r in table] == ['cot', 'pot', 'eot', 'total']
    cot, pot, eot, total = table
    assert (cot['bought'], cot['dollars'], cot['per_completion'], cot['kept'], cot['per_kept']) == (4, 0.6, 0.15, 2, 0.3)
    assert (pot['bought'], pot['dollars'], pot['kept'], pot['per_kept']) == (1, 0.3, 0, None), 'paid for, and nothing kept'
    assert (eot['bought'], eot['dollars'], eot['per_completion'], eot['per_kept']) == (0, 0, None, 0)
    assert (total['bought'], total['dollars'], total['kept'], total['per_kept']) == (5, 0.9, 5, 0.18) and total['prompt_tokens'] == 6_000_000
    assert set(total) == {'thought', 'bought', 'prompt_tokens', 'completion_tokens', 'dollars', 'per_completion', 'kept', 'per_kept'}


def test_a_table_without_prices_or_kept():
    table = cost_table([bought(1), bought(2, model='own', thought='pot')])
    assert [(r['dollars'] is None, r['kept'], r['per_kept']) for r in table] == [(False, None, None), (True, None, None), (True, None, None)]
    text = cost_markdown(table, 'as counted')
    assert text.splitlines()[0].startswith('| thought | bought |') and text.endswith('as counted') and text.count('\n') == 6 and '| **total** | 2 | 20 | 10 | – |' in text
    assert cost_table([])[0] == dict(thought='total', bought=0, prompt_tokens=0, completion_tokens=0, dollars=0.0, per_completion=None, kept=None, per_kept=None)


def test_real_answers_are_priced_to_the_kept_thought():
    counter = token_counter(MODEL)
    rows = [bought(i, read=counter.count(r.messages), written=counter.count_text(reply(r.messages).text), thought=r.thought) for i, r in enumerate(REQUESTS)]
    table = cost_table(rows, {t: 12 for t in ('cot', 'pot', 'eot')})
    assert sum(r['dollars'] for r in table[:3]) == pytest.approx(table[3]['dollars'], abs=3e-6) and all(r['per_kept'] == r['per_completion'] > 0 for r in table)
    assert table[3]['dollars'] == usage_cost(rows).dollars
