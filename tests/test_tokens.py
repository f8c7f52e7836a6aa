"""Tokenizers: nothing is lost, whoever made them."""
import json, random
from pathlib import Path

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from mtd.lab import lab_stories
from mtd.prompting import execute, student_input
from mtd.tokens import build_tokenizer, check_lossless, encode, keep_lossless, round_trip, tokenizer_of

TEXTS = [f'Question: {a} and {b}?\nsum\nx = {a}\nans = x + {b}' for a in range(5, 45, 7) for b in range(9)]

@pytest.fixture(scope='module', params=[0, 20])
def tokenizer(request): return build_tokenizer(TEXTS, 300, phrases=request.param)

@given(st.text(max_size=200))
@hypothesis_settings(max_examples=200, deadline=None)
def test_the_tokenizer_loses_nothing(tokenizer, text):
    text = text.replace('<pad>', '').replace('</s>', '')
    assert round_trip(tokenizer, [text]) == [text.encode('utf-8', 'replace').decode()]

def test_the_tokenizer_is_the_same_every_time_and_splits_digits(tokenizer):
    again = build_tokenizer(TEXTS, 300, phrases=20)
    assert again.get_vocab() == build_tokenizer(TEXTS, 300, phrases=20).get_vocab()
    assert [t.strip('Ġ ') for t in again.tokenize('x = 1234')][-4:] == list('1234')
    assert not any(c.isdigit() for t in again.added_tokens_encoder for c in t), 'a phrase holds a digit'

@pytest.fixture(scope='module')
def t5(tmp_path_factory):
    "A tokenizer as T5's: SentencePiece with its normaliser, on sentences without what it loses."
    import sentencepiece
    from transformers import AutoTokenizer
    folder = tmp_path_factory.mktemp('t5')
    words = ' '.join(s.problem.question for s in lab_stories('train', 300)).replace('%', '')
    (folder/'s.txt').write_text(words.replace('. ', '.\n'))
    sentencepiece.SentencePieceTrainer.train(input=str(folder/'s.txt'), model_prefix=str(folder/'spiece'), vocab_size=400, model_type='unigram', hard_vocab_limit=False,
                                             normalization_rule_name='nmt_nfkc', pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=3)
    (folder/'config.json').write_text(json.dumps(dict(model_type='t5')))
    (folder/'tokenizer_config.json').write_text(json.dumps(dict(tokenizer_class='T5Tokenizer', extra_ids=0, eos_token='</s>', pad_token='<pad>', unk_token='<unk>')))
    return lambda: AutoTokenizer.from_pretrained(folder)

def test_every_gold_thought_survives_a_mended_t5_tokenizer_and_executes_to_its_answer(t5, tmp_path):
    from transformers import AutoTokenizer
    stories = lab_stories('train', 120)
    gold = [(t, text, s.problem.answer) for s in stories for t, text in s.gold.items()]
    texts = [text for _, text, _ in gold]
    before = [execute(t, back) for (t, _, _), back in zip(gold, round_trip(t5(), texts))]
    assert sum(o.ok and o.answer == a for o, (_, _, a) in zip(before, gold)) < 0.7 * len(gold), 'nothing was lost, so nothing is shown'
    mended, added = keep_lossless(t5(), texts)
    mended.save_pretrained(tmp_path)
    for tokenizer in (mended, AutoTokenizer.from_pretrained(tmp_path)):
        assert round_trip(tokenizer, texts) == texts
        assert all(execute(t, back).answer == execute(t, text).answer is not None for (t, text, a), back in zip(gold[::7], round_trip(tokenizer, texts[::7])))
    assert '\n' in added and len(added) < 30

def test_programs_with_braces_tabs_and_indentation_survive(t5):
    program = 'def f(a):\n\tif a <= 3 and a > 1:\n        return {"x": a ** 2}\n    # ½ ² … ’ “q” 10€\nans = f(2)  \n'
    mended, added = keep_lossless(t5(), [program])
    assert round_trip(mended, [program, program * 2]) == [program, program * 2] and {'<', '{', '\t', '½'} <= set(added)

def test_a_byte_level_tokenizer_is_left_alone(tokenizer):
    before = len(tokenizer)
    assert keep_lossless(tokenizer, TEXTS) == (tokenizer, []) and len(tokenizer) == before

def test_a_special_token_in_a_target_is_refused(tokenizer):
    with pytest.raises(ValueError, match='changes target 1'): keep_lossless(tokenizer, ['fine', 'ans = </s> 3'])

def test_what_was_encoded_is_kept_whole_or_not_at_all(tokenizer, tmp_path):
    rows = [dict(id=str(i), input=t, target=t) for i, t in enumerate(TEXTS)]
    fresh = encode(rows, tokenizer)[0]
    assert all((a == b).all() for x, y in zip(fresh, encode(rows, tokenizer, cache=tmp_path)[0]) for a, b in zip(x, y))
    file, = tmp_path.glob('*.npz')
    again = encode(rows, tokenizer, cache=tmp_path)[0]
    assert all((a == b).all() for x, y in zip(fresh, again) for a, b in zip(x, y)) and encode([], tokenizer) == ([], [])
    encode([r | dict(target='x') for r in rows], tokenizer, cache=tmp_path)
    assert len(list(tmp_path.glob('*.npz'))) == 2, 'other texts took what was kept for these'
    file.write_bytes(file.read_bytes()[:-100]) # no writer of ours leaves such a file, but a disk may
    assert all((a == b).all() for x, y in zip(fresh, encode(rows, tokenizer, cache=tmp_path)[0]) for a, b in zip(x, y))

def test_a_tokenizer_without_an_end_is_refused(tokenizer):
    from transformers import PreTrainedTokenizerFast
    endless = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(ValueError, match='never stop'): encode([dict(id='0', input='a', target='b')], endless)

def test_an_instruction_is_one_token():
    rows = [dict(input=student_input('eot', s.problem.question), target=s.gold['eot']) for s in lab_stories('train', 40) if 'eot' in s.gold]
    made = tokenizer_of(dict(train=rows), 400, phrases=10)
    line = rows[0]['input'].rstrip('\n').rpartition('\n')[2]
    assert made.tokenize(line) == [line]
