"""Chat templates as several families of models have them, and small tokenizers that know their special
tokens."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% "
    "endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% "
    "endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') "
    "}}{% endif %}"
    "{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | "
    "trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
GEMMA3 = (  # a system turn is folded into the first of the user
    "{{ bos_token }}{% set system = messages[0]['content'] + '\n\n' if messages[0]['role'] == 'system' else "
    "'' %}"
    "{% for m in messages if m['role'] != 'system' %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + (system if "
    "loop.first else '') }}"
    "{{ m['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') "
    "}}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] "
    "+ eos_token }}{% endif %}"
    "{% endfor %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
_TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\nYou have tools:\n<tools>' }}{% for tool in tools %}{{ '\n' + "
    "tool | tojson }}{% endfor %}"
    "{{ '\n</tools><|im_end|>\n' }}{% endif %}"
)
_CALLS = (
    "{% for call in m.tool_calls or [] %}{% set call = call.function or call %}"
    '{{ \'\n<tool_call>\n{"name": "\' + call.name + \'", "arguments": \' }}{{ call.arguments | tojson '
    "}}{{ '}\n</tool_call>' }}"
    "{% endfor %}"
)
QWEN = (  # tools, their calls and what they gave
    _TOOLS + "{% for m in messages %}"
    "{% if m.role == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + m.content + "
    "'\n</tool_response><|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content }}" + _CALLS + "{{ '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_THINK = (  # earlier thoughts are left out, the last answer's are shown
    "{% set content = m.content.split('</think>')[-1].lstrip('\n') %}"
    "{% set thought = m.content.split('</think>')[0].split('<think>')[-1].strip('\n') if '</think>' in "
    "m.content else '' %}"
    "{% set content = '<think>\n' + thought + '\n</think>\n\n' + content if loop.last else content %}"
)
QWEN_THINK = (
    _TOOLS
    + "{% for m in messages %}{% if m.role == 'assistant' %}"
    + _THINK
    + "{{ '<|im_start|>assistant\n' + content }}"
    + _CALLS
    + ""
    "{{ '<|im_end|>\n' }}{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% "
    "endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN_THINK_BLOCKS = QWEN_THINK.replace(
    "{{ '<|im_start|>assistant\n' + content }}" + _CALLS + "{{ '<|im_end|>\n' }}",
    "{{ '<|im_start|>assistant\n' }}{% generation %}{{ content }}"
    + _CALLS
    + "{{ '<|im_end|>' }}{% endgeneration %}{{ '\n' }}",
)
CHATML_BLOCKS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m['content'] + "
    "'<|im_end|>' }}{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PHI3_BLOCKS = (  # the end of the text is a block of its own
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|end|>\n' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% elif messages[-1]['role'] == 'assistant' %}"
    "{% generation %}{{ eos_token }}{% endgeneration %}{% else %}{{ eos_token }}{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "llama3": LLAMA3,
    "gemma": GEMMA,
    "gemma3": GEMMA3,
    "mistral": MISTRAL,
    "phi3": PHI3,
    "qwen": QWEN,
    "chatml_blocks": CHATML_BLOCKS,
    "qwen_think_blocks": QWEN_THINK_BLOCKS,
    "phi3_blocks": PHI3_BLOCKS,
}
ENDS = {
    "llama3": "<|eot_id|>",
    "gemma": "<end_of_turn>",
    "gemma3": "<end_of_turn>",
    "mistral": "</s>",
    "phi3": "<|end|>",
    "phi3_blocks": "<|end|>",
}
EOS = ENDS | dict.fromkeys(("phi3", "phi3_blocks"), "</s>")
SPECIAL = [
    *(
        "<pad>",
        "<s>",
        "</s>",
        "<|im_start|>",
        "<|im_end|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ),
    *("<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<|end|>", "<|user|>", "<|assistant|>"),
]
TEXT = (
    "Hello there, how are you? I am well.\n\nWhat is the weather in Paris today?  It is sunny, 21 "
    "degrees.\n\n"
    "user\nassistant\nsystem\nname arguments {} [] \n\n\n   hello hello response the answer is"
)


def tokenizer_for(family: str, kind: str = "bytes") -> PreTrainedTokenizerFast:
    """With merges over blanks and line ends, as real ones have; ``words`` marks beginnings of words as
    SentencePiece does."""
    bare = Tokenizer(BPE(byte_fallback=kind == "words", unk_token="<unk>" if kind == "words" else None))
    special = [*SPECIAL, "<unk>"] if kind == "words" else SPECIAL
    if kind == "words":
        bare.pre_tokenizer, bare.decoder = (
            pre_tokenizers.Metaspace(prepend_scheme="first"),
            decoders.Metaspace(prepend_scheme="first"),
        )
        alphabet = [chr(i) for i in range(32, 127)] + ["\n", "▁"]
    else:
        bare.pre_tokenizer, bare.decoder = (
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            decoders.ByteLevel(),
        )
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    bare.train_from_iterator(
        [TEXT],
        trainers.BpeTrainer(
            vocab_size=440, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token="<s>",
        eos_token=EOS.get(family, "<|im_end|>"),
        pad_token="<pad>",
        extra_special_tokens=[
            token for token in SPECIAL if token not in ("<pad>", "<s>", EOS.get(family, "<|im_end|>"))
        ],
        clean_up_tokenization_spaces=False,
    )
    # known as one token each, but no special ones
    made.add_tokens(["<think>", "</think>", "<tool_call>", "</tool_call>"])
    made.chat_template = TEMPLATES.get(family) or {"qwen_think": QWEN_THINK}[family]
    return made


def turns(*contents: str, system: str | None = None) -> list[dict[str, Any]]:
    """User and assistant in turn."""
    spoken = [
        {"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)
    ]
    return ([{"role": "system", "content": system}] if system is not None else []) + spoken
