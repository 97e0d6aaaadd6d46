"""The worked gold of the method file (C.1.1) and variations of it."""

import json

GOLD = """<think>Buffer goes in first so the pellet can be resuspended before spinning.</think>
<key>
Step 1: {"action": "add", "objects": ["buffer"], "parameters": ["5 ml"]}
Step 2: {"action": "mix", "objects": ["tube"], "parameters": ["10 s"]}
Step 3: {"action": "spin", "objects": ["tube"], "parameters": ["300 xg", "5 min"]}
Step 4: {"action": "discard", "objects": ["supernatant"], "parameters": []}
</key>
<orc>
Step 1: Add 5 ml of buffer.
Step 2: Mix the tube for 10 s.
Step 3: Spin the tube at 300 xg for 5 min.
Step 4: Discard the supernatant.
</orc>
<note>Balance the rotor.</note>"""

ADD = ("add", ["buffer"], ["5 ml"])
MIX = ("mix", ["tube"], ["10 s"])
SPIN = ("spin", ["tube"], ["300 xg", "5 min"])
DISCARD = ("discard", ["supernatant"], [])
STEPS = [ADD, MIX, SPIN, DISCARD]


def written(steps, words=0, **fields):
    """A protocol of (action, objects, parameters), each orc line filled up to `words`; `fields` replaces whole blocks."""
    key, orc = [], []
    for number, (action, objects, parameters) in enumerate(steps, 1):
        key.append(f"Step {number}: {json.dumps({'action': action, 'objects': objects, 'parameters': parameters})}")
        sentence = " ".join([action, *objects, *parameters])
        orc.append(f"Step {number}: {sentence}{' well' * (words - len(sentence.split()))}")
    blocks = {"think": "because", "key": "\n".join(key), "orc": "\n".join(orc), "note": "gloves"} | fields
    return "\n".join(f"<{name}>\n{body}\n</{name}>" for name, body in blocks.items())
