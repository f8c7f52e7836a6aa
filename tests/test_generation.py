"""Answering: what a lesson has no room for."""
import os, random, signal, subprocess, sys
from pathlib import Path

import pytest
import torch

from mtd import generation as gn


INPUTS = [f'Say {a}' + ' please' * (a % 5) + '!\n' for a in range(60)]
SIZES = {'scratch-llama': dict(hidden_size=32, intermediate_size=64, initializer_range=.5), 'scratch-lfm2': dict(hidden_size=32, intermediate_size=64, initializer_range=.5),
         'scratch-t5': dict(d_model=32, d_ff=64, d_kv=8, initializer_factor=2.)}


def student_in(folder, model):
    "Untrained, with wide weights and many end tokens: its answers are unlike, and of every length."
    from mtd.finetuning import new_student
    from mtd.tokens import build_tokenizer
    tokenizer = build_tokenizer(INPUTS * 3, 300)
    net = new_student(model, tokenizer, SIZES[model] | dict(tie_word_embeddings=False))
    net.generation_config.eos_token_id = [1, *range(20, 80 if net.config.is_encoder_decoder else 40)]
    net.save_pretrained(folder); tokenizer.save_pretrained(folder)
    return gn.load_student(folder, device='cpu')


@pytest.fixture(scope='module', params=list(SIZES))
def student(request, tmp_path_factory): return student_in(tmp_path_factory.mktemp('students')/request.param, request.param), INPUTS


def ask(student, inputs, **how): return gn.generate(student, inputs, **(dict(max_new_tokens=12, progress=False) | how))


def by_transformers(student, text, most):
    "One input alone, by `model.generate`."
    batch = student.tokenizer(text, return_tensors='pt')
    with torch.inference_mode(), gn.quiet_transformers():
        out = student.model.generate(input_ids=batch['input_ids'], attention_mask=batch['attention_mask'], do_sample=False, max_new_tokens=most)
    return student.tokenizer.decode(out[0, 0 if student.encoder_decoder else batch['input_ids'].shape[1]:], skip_special_tokens=True)


# ---- greedy

def test_answers_are_those_of_transformers_whatever_the_batch(student):
    student, inputs = student
    alone = [by_transformers(student, t, 12) for t in inputs[:12]]
    for budget in (1, 100, 300, 100_000): assert ask(student, inputs[:12], tokens_per_batch=budget) == alone
    assert ask(student, inputs[:12][::-1] + inputs[:2]) == alone[::-1] + alone[:2]
    assert len(set(alone)) > 6 and all('</s>' not in a and '<pad>' not in a for a in alone)


def test_rows_leave_as_they_finish_and_what_was_cut_is_told(student):
    student, inputs = student
    found = sorted(gn.generate_each(student, inputs, max_new_tokens=9, progress=False), key=lambda a: a.place)
    longer = sorted(gn.generate_each(student, inputs, max_new_tokens=30, progress=False), key=lambda a: a.place)
    assert [a.place for a in found] == list(range(len(inputs))) and {a.cut for a in found} == {True, False}
    for a, b in zip(found, longer): assert (a.tokens, a.cut) == (min(9, b.tokens), b.tokens > 9) and (a.cut or a == b)
    widths, step = [], gn._Batch.step
    def watched(self, tokens): widths.append(len(tokens)); return step(self, tokens)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(gn._Batch, 'step', watched)
        ends = [a.tokens for a in gn.generate_each(student, inputs, max_new_tokens=40, progress=False)]
    assert ends == sorted(ends), 'an answer waited for others'
    assert widths == sorted(widths, reverse=True) and sum(widths) < 1.15 * sum(ends) + len(inputs), 'finished rows stayed'


def test_looking_rarely_changes_nothing(student, monkeypatch):
    "On a GPU finished rows are looked for every eighth step; the same loop with that step, on this device."
    student, inputs = student
    often = [(a.place, a.text, a.tokens, a.cut) for a in sorted(gn.generate_each(student, inputs, max_new_tokens=21, progress=False), key=lambda a: a.place)]
    monkeypatch.setattr(gn, '_look', lambda device: 8)
    seldom = [(a.place, a.text, a.tokens, a.cut) for a in sorted(gn.generate_each(student, inputs, max_new_tokens=21, progress=False), key=lambda a: a.place)]
    assert often == seldom and len({t for _, _, t, _ in often}) > 1


def test_reading_in_parts_changes_nothing(student, monkeypatch):
    student, inputs = student
    whole = ask(student, inputs, temperature=1.0, paths=2)
    parts, read = [], gn._Batch.read
    monkeypatch.setattr(gn, '_PART', 60)
    monkeypatch.setattr(gn._Batch, 'read', lambda self, ids, mask: parts.append(ids.shape) or read(self, ids, mask))
    assert ask(student, inputs, temperature=1.0, paths=2) == whole
    assert len(parts) > 5 and all(rows * longest <= 60 or rows == 1 for rows, longest in parts) and len({longest for _, longest in parts}) > 2


def test_a_student_with_a_sliding_window_answers_as_transformers_does(tmp_path):
    from mtd.tokens import build_tokenizer
    from transformers import AutoModelForCausalLM, MistralConfig
    tokenizer = build_tokenizer(['Say 1 please please!'] * 3, 300)
    config = MistralConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                           sliding_window=8, pad_token_id=0, bos_token_id=None, eos_token_id=1, initializer_range=0.3)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    student, inputs = gn.load_student(tmp_path, device='cpu'), ['Say 1' + ' please' * n + '!' for n in (0, 7, 3)]
    assert ask(student, inputs, max_new_tokens=20) == [by_transformers(student, t, 20) for t in inputs]


def test_the_attention_of_a_cache_with_room_is_that_of_one_without():
    from transformers.cache_utils import DynamicLayer
    ours, theirs, rows = gn._layer_class()(), DynamicLayer(), torch.tensor([2, 0, 2])
    torch.manual_seed(0)
    for n in (70, 1, 1, 64, 1):
        keys, values = torch.randn(3, 2, n, 4), torch.randn(3, 2, n, 4)
        for a, b in zip(ours.update(keys, values), theirs.update(keys, values)): assert torch.equal(a, b)
        for layer in (ours, theirs): layer.reorder_cache(rows)
        assert torch.equal(ours.keys, theirs.keys) and ours.get_seq_length() == theirs.get_seq_length()


# ---- sampling

def test_a_path_depends_on_seed_input_and_number_alone(student):
    student, inputs = student
    draw = lambda texts, **how: ask(student, texts, **(dict(temperature=1.5, paths=3) | how))
    three = draw(inputs[:5])
    assert len(three) == 15 and len(set(three)) > 8
    assert draw(inputs[3:5] + inputs[10:20])[:6] == three[9:15] and draw(inputs[:5], tokens_per_batch=60) == three
    assert draw(inputs[:5], paths=1) == three[::3] and draw(inputs[:5], seed=1) != three
    assert draw(inputs[:5], temperature=1e-6) == [a for a in ask(student, inputs[:5]) for _ in range(3)], 'a cold sample is the likeliest'
    assert draw(inputs[:5], top_p=1e-6) == draw(inputs[:5], temperature=1e-6)


def test_sampled_tokens_have_the_frequencies_of_the_model(student):
    student, inputs = student
    first = gn._Batch(student, [student.tokenizer(inputs[0])['input_ids']], 1)
    p = (first.logits[0].float() / 0.7).softmax(-1).detach()
    u = torch.rand(4000, generator=torch.Generator().manual_seed(3))
    seen = gn._choose(first.logits.expand(4000, -1), u, 0.7, 1.0).bincount(minlength=len(p)) / 4000
    assert (seen - p).abs().max() < 0.03
    kept = gn._choose(first.logits.expand(4000, -1), u, 0.7, 0.5).unique()
    falling, order = p.sort(descending=True)
    most = int((falling.cumsum(0) - falling < 0.5).sum())
    assert set(kept.tolist()) <= set(order[:most].tolist())


def test_a_log_probability_is_that_of_the_model_itself(student):
    student, inputs = student
    for how in (dict(temperature=0.0, top_p=1.0, seed=0), dict(temperature=1.7, top_p=0.9, seed=3)):
        jobs, start = gn._jobs(student, inputs[:9], 1 + 2 * bool(how['temperature']), 12), student.model.config.decoder_start_token_id
        for job, ids, _, found in gn._write_all(student, jobs, 400, how):
            with torch.inference_mode():
                if student.encoder_decoder: logits = student.model(input_ids=torch.tensor([job.ids]), decoder_input_ids=torch.tensor([[start] + ids[:-1]])).logits[0]
                else: logits = student.model(torch.tensor([job.ids + ids])).logits[0, len(job.ids) - 1:-1]
            assert found == pytest.approx(logits.log_softmax(-1)[range(len(ids)), ids].sum().item(), abs=1e-3)
    told = [a for a in gn.generate_each(student, inputs[:3], max_new_tokens=12, progress=False)]
    assert all(a.log_probability < 0 for a in told)


def test_an_input_is_read_once_for_all_its_paths(student, monkeypatch):
    student, inputs = student
    read, begin = [], gn._Batch.__init__
    monkeypatch.setattr(gn._Batch, '__init__', lambda self, student, prompts, most: read.append(len(prompts)) or begin(self, student, prompts, most))
    ask(student, inputs[:4] * 2, temperature=1.0, paths=5)
    assert read == [4]


# ---- what is finished stays

@pytest.mark.parametrize('model, kills', [('scratch-lfm2', 1), *(pytest.param(m, 6, marks=pytest.mark.full) for m in ('scratch-llama', 'scratch-t5'))])
def test_a_scoring_killed_at_any_time_goes_on(tmp_path, model, kills):
    student, inputs = student_in(tmp_path/'student', model), INPUTS
    path, code = tmp_path/'deep'/'answers.jsonl', '''import sys
from mtd import generation as gn
write = gn._Journal.add
gn._Journal.add = lambda self, row: (write(self, row), print(flush=True)) # tells its parent
gn.generate(gn.load_student(sys.argv[1], device='cpu'), eval(sys.argv[2]), max_new_tokens=12, tokens_per_batch=300, path=sys.argv[3], progress=False)'''
    kept = 0
    for after in random.Random(kills).sample(range(1, 12), kills):
        job = subprocess.Popen([sys.executable, '-c', code, str(student.path), repr(inputs), str(path)], stdout=subprocess.PIPE)
        for _ in range(after): job.stdout.readline()
        job.send_signal(signal.SIGKILL); job.wait()
        lines = path.read_bytes().count(b'\n')
        assert lines > kept, 'nothing of it was kept'
        kept = lines
    with open(path, 'a') as f: f.write('{"input": "half a li')
    asked, write = [], gn._write
    with pytest.MonkeyPatch.context() as m:
        m.setattr(gn, '_write', lambda student, jobs, how: asked.extend(j.text for j in jobs) or write(student, jobs, how))
        resumed = ask(student, inputs, path=path, tokens_per_batch=300)
    assert len(asked) == len(inputs) - (kept - 1) == len(set(asked)) and resumed == ask(student, inputs)
    assert path.read_bytes().count(b'\n') == 1 + len(inputs)


def test_more_paths_ask_only_for_the_new_ones(student, tmp_path):
    student, inputs = student
    how = dict(temperature=1.0, path=tmp_path/'a.jsonl')
    two = ask(student, inputs[:3], paths=2, **how)
    four = ask(student, inputs[:3], paths=4, **how)
    assert [four[i] for i in (0, 1, 4, 5, 8, 9)] == two and len((tmp_path/'a.jsonl').read_text().splitlines()) == 1 + 12


def test_answers_of_others_are_refused(student, tmp_path):
    student, inputs = student
    path = tmp_path/'answers.jsonl'
    path.write_text('{"student": "somebody", "max_new_tokens": 12}\n')
    with pytest.raises(ValueError, match='somebody'): ask(student, inputs[:1], path=path)
    path.unlink()
    ask(student, inputs[:1], path=path)
    for other in (dict(max_new_tokens=5), dict(temperature=1.0)):
        with pytest.raises(ValueError, match='give another path'): ask(student, inputs[:1], path=path, **other)


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_a_full_disk_is_said(student, tmp_path):
    student, inputs = student
    (tmp_path/'answers.jsonl').symlink_to('/dev/full')
    with pytest.raises(OSError, match='No space left.*answers.jsonl.*make room'): ask(student, inputs[:2], path=tmp_path/'answers.jsonl')


# ---- what cannot be answered

def test_nothing_asked_nothing_answered(student): assert ask(student[0], []) == [] == ask(student[0], [], paths=2, temperature=1.0)


@pytest.mark.parametrize('how, says', [
    (dict(paths=0), 'at least 1'), (dict(temperature=-1), 'a temperature of 0 or more'), (dict(top_p=0, temperature=1), 'top_p'), (dict(tokens_per_batch=0), 'tokens_per_batch=0'),
    (dict(paths=2), 'give a temperature'), (dict(inputs='Say 1!'), 'one text'), (dict(inputs=['Say 1!', '']), 'input 1 is empty')])
def test_bad_input_is_refused_before_anything_is_written(student, how, says):
    inputs = how.pop('inputs', ['Say 1!'])
    try:
        with pytest.raises(ValueError, match=says): gn.generate_each(student[0], inputs, **how)
    finally: how['inputs'] = inputs


def test_no_answer_goes_beyond_the_positions(student):
    student, inputs = student
    if student.encoder_decoder: # positions are relative: nothing is too long
        assert len(ask(student, ['Say 1' + ' please' * 600 + '!'])) == 1
        return
    long = lambda n: 'Say 1' + ' please' * n + '!'
    most = student.model.config.max_position_embeddings
    fits = max(n for n in range(most - 20, most) if len(student.tokenizer(long(n))['input_ids']) < most)
    room = most - len(student.tokenizer(long(fits))['input_ids'])
    a, b = sorted(gn.generate_each(student, [long(fits), inputs[0]], max_new_tokens=12, progress=False), key=lambda a: a.place)
    assert a.tokens <= room < 12 and b.text == ask(student, inputs[:1])[0]
    with pytest.raises(ValueError, match=f'input 1 has .* tokens, and this student reads and writes {most:,}'): ask(student, [inputs[0], long(most + 5)])


def test_a_row_that_is_done_stays_within_learned_positions(tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
    from mtd.tokens import build_tokenizer
    torch.manual_seed(0)
    tokenizer = build_tokenizer(INPUTS * 3, 300)
    net = AutoModelForCausalLM.from_config(AutoConfig.for_model('gpt2', vocab_size=len(tokenizer), n_positions=40, n_embd=32, n_layer=1, n_head=2))
    net.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    net.save_pretrained(tmp_path); tokenizer.save_pretrained(tmp_path)
    student = gn.load_student(tmp_path, device='cpu')
    long = max((f'Say 1{" please" * n}!' for n in range(38)), key=lambda t: (n := len(tokenizer(t)['input_ids'])) * (n < 38))
    asked = [long, *INPUTS[:16]]
    assert ask(student, asked, max_new_tokens=30) == [ask(student, [t], max_new_tokens=30)[0] for t in asked]


def test_a_file_that_is_no_journal_stays_as_it_is(student, tmp_path):
    notes = tmp_path/'notes.txt'
    notes.write_text('my notes\nof today\n')
    with pytest.raises(ValueError, match='line 1: not JSON'): ask(student[0], INPUTS[:2], path=notes)
    assert notes.read_text() == 'my notes\nof today\n'
    ask(student[0], INPUTS[:3], path=tmp_path/'j')
    hurt = (tmp_path/'j').read_bytes().splitlines(keepends=True)
    (tmp_path/'j').write_bytes(b''.join([hurt[0], b'X' + hurt[1][1:], *hurt[2:]]))
    with pytest.raises(ValueError, match='line 2: not JSON'): ask(student[0], INPUTS[:3], path=tmp_path/'j')


def test_without_memory_the_budget_is_halved_and_it_goes_on(student, monkeypatch, capsys):
    student, inputs = student
    step, biggest = gn._Batch.step, []
    def small(self, tokens):
        biggest.append(len(tokens))
        if len(tokens) > 20: raise torch.OutOfMemoryError('CUDA out of memory')
        return step(self, tokens)
    whole = ask(student, inputs)
    monkeypatch.setattr(gn._Batch, 'step', small)
    assert ask(student, inputs) == whole and max(b for b in biggest if b <= 20) > 10
    assert 'going on with a budget of' in capsys.readouterr().err
    def none(self, tokens): raise torch.OutOfMemoryError('CUDA out of memory')
    monkeypatch.setattr(gn._Batch, 'step', none)
    with pytest.raises(MemoryError, match='lower max_new_tokens'): ask(student, inputs[:3])


@pytest.mark.full
def test_a_processor_without_memory_goes_on_with_less(tmp_path):
    "The real thing: an address space that does not hold the batch."
    code = '''import resource, sys, torch
from mtd import generation as gn
from mtd.finetuning import new_student
from mtd.tokens import build_tokenizer
folder = sys.argv[1]
tokenizer = build_tokenizer(['Say 1 please!'] * 3, 300)
new_student('scratch-llama', tokenizer, dict(hidden_size=512, num_attention_heads=8, num_key_value_heads=8)).save_pretrained(folder)
tokenizer.save_pretrained(folder)
student, inputs = gn.load_student(folder, device='cpu'), [f'Say {n}' + ' please' * 100 for n in range(96)]
few = gn.generate(student, inputs[:2], max_new_tokens=3, progress=False)
size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (80 << 20),) * 2)
assert gn.generate(student, inputs, max_new_tokens=3, progress=False)[:2] == few
print('done')'''
    done = subprocess.run([sys.executable, '-c', code, str(tmp_path)], capture_output=True, text=True, timeout=300, env=os.environ | {'OMP_NUM_THREADS': '1'})
    assert done.stdout.strip() == 'done' and 'going on with a budget of' in done.stderr, done.stderr[-2000:]


# ---- loading

def test_a_student_loads_in_the_precision_asked_for(student, tmp_path):
    folder = student[0].path
    assert gn.load_student(folder, 'cpu').model.dtype == torch.float32 and gn.load_student(folder, 'cpu', 'bf16').model.dtype == torch.bfloat16
    assert len(ask(gn.load_student(folder, 'cpu', 'bf16'), student[1][:3])) == 3
    with pytest.raises(ValueError, match='auto, fp32, bf16'): gn.load_student(folder, precision='fp8')
    with pytest.raises(FileNotFoundError, match='train one'): gn.load_student(tmp_path)


def test_a_chat_server_would_give_the_student_its_plain_input(student):
    from transformers import AutoTokenizer
    from mtd.tokens import build_tokenizer
    from tokenizers.processors import TemplateProcessing
    tokenizer, text = AutoTokenizer.from_pretrained(student[0].path), 'Question: a < b\n  {x}?\nGo\n'
    tokenizer.chat_template = gn.chat_template(tokenizer)
    assert tokenizer.apply_chat_template([dict(role='user', content=text)], add_generation_prompt=True)['input_ids'] == tokenizer(text)['input_ids']
    begins = build_tokenizer([text], 300)
    begins.add_special_tokens({'bos_token': '<s>'})
    begins.backend_tokenizer.post_processor = TemplateProcessing(single='<s> $A', special_tokens=[('<s>', begins.bos_token_id)])
    begins.chat_template = gn.chat_template(begins)
    assert begins.apply_chat_template([dict(role='user', content=text)])['input_ids'] == begins(text)['input_ids'] and begins(text)['input_ids'][0] == begins.bos_token_id


@pytest.mark.full
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_gpu_gives_the_same_answers(student):
    "In fp32, greedy and sampled."
    student, inputs = student
    there = gn.load_student(student.path, device='cuda', precision='fp32')
    assert ask(there, inputs) == ask(student, inputs)
    assert ask(there, inputs, temperature=1.0, paths=3) == ask(student, inputs, temperature=1.0, paths=3)
