"""A tool environment written by hand (the method file's worked example, E.1), and a language model that writes it stage by stage."""

import json

from assay.environments.tools.record import GoldenCall, SubQuestion, ToolEnvironment, first_messages

QUESTION = "Which mineral is mined in the home town of the composer of 'Velka Suite'?"
NODES = (
    SubQuestion("s1", "Who composed Velka Suite?", "Orsel Dunmarr"),
    SubQuestion("s2", "What is the home town of s1?", "Kestwick", ("s1",)),
    SubQuestion("s3", "Which mineral is mined in s2?", "brelite", ("s2",)),
)


def _text(description, **more):
    return {"type": "string", "description": description, **more}


FINDER = {
    "name": "creator_and_origin_finder",
    "description": "Looks up who created a work or where a person comes from.",
    "parameters": {
        "type": "object",
        "properties": {
            "attribute": _text("What to look up.", enum=["creator", "home_town"]),
            "work_title": _text("Needed for creator."),
            "person": _text("Needed for home_town."),
            "work_kind": _text("Optional filter.", enum=["music", "book"], default="music"),
        },
        "required": ["attribute"],
    },
}
LOOKUP = {
    "name": "town_resource_lookup",
    "description": "Lists a resource of a town.",
    "parameters": {
        "type": "object",
        "properties": {
            "town": _text("Name."),
            "resource": _text("Kind.", enum=["mineral", "crop"], default="mineral"),
            "include_history": {"type": "boolean", "default": False},
        },
        "required": ["town"],
    },
}
TIDES = {
    "name": "tide_table",
    "description": "Tide times of a port.",
    "parameters": {"type": "object", "properties": {"port": _text("Name."), "day": _text("Weekday.")}, "required": ["port"]},
}
CODES = {
    "creator_and_origin_finder": """def creator_and_origin_finder(attribute=None, work_title=None, person=None, work_kind="music"):
    facts = {("creator", "velka suite"): "Orsel Dunmarr", ("home_town", "orsel dunmarr"): "Kestwick"}
    if attribute not in ("creator", "home_town"):
        return {"error": "attribute must be creator or home_town"}
    key = work_title if attribute == "creator" else person
    if not isinstance(key, str):
        return {"error": "missing subject for the chosen attribute"}
    hit = facts.get((attribute, key.lower()))
    return {"value": hit} if hit else {"error": "no record"}
""",
    "town_resource_lookup": """def town_resource_lookup(town=None, resource="mineral", include_history=False):
    if not isinstance(town, str):
        return {"error": "town is missing"}
    facts = {("kestwick", "mineral"): "brelite", ("kestwick", "crop"): "rye"}
    found = facts.get((town.lower(), resource if isinstance(resource, str) else ""))
    return {"value": found} if found else {"error": "no record"}
""",
    "tide_table": """def tide_table(port=None, day=None):
    return {"high": "06:10", "low": "12:25"} if port == "Port Amsel" else {"error": "no record"}
""",
}
CALLS = (
    GoldenCall("s1", "creator_and_origin_finder", {"attribute": "creator", "work_title": "Velka Suite"}),
    GoldenCall("s2", "creator_and_origin_finder", {"attribute": "home_town", "person": "Orsel Dunmarr"}),
    GoldenCall("s3", "town_resource_lookup", {"town": "Kestwick"}),
)
ENVIRONMENT = ToolEnvironment(
    scenario="multi_hop",
    question=QUESTION,
    answer="brelite",
    tools=tuple({"type": "function", "function": function} for function in (FINDER, LOOKUP, TIDES)),
    codes=CODES,
    unsolved={"creator_and_origin_finder": ("Orsel Dunmarr", "Kestwick"), "town_resource_lookup": ("brelite",)},
    messages=first_messages(QUESTION),
    nodes=NODES,
    calls=CALLS,
)


def call_text(name, **arguments):
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def stage_of(prompt):
    """Which stage a prompt asks for, by what its reply must hold."""
    prompt = prompt.split("\n\nInput:")[0]
    if '"subquestions": [{' in prompt:
        return "decompose"
    if '"source": text' in prompt:
        return "deploy"
    if '"count"' in prompt:
        return "extend"
    if "Merge documents" in prompt:
        return "integrate"
    return "scale" if "Make the tool harder" in prompt else "document"


def reply_to(prompt):
    """What a language model that knows the example would answer."""
    payload = json.loads(prompt.split("Input:\n", 1)[1].split("\n\nReply with JSON alone.")[0])
    stage = stage_of(prompt)
    if stage == "decompose":
        nodes = [{"id": n.id, "question": n.question, "answer": n.answer, "depends_on": list(n.depends_on)} for n in NODES]
        return json.dumps({"question": QUESTION, "answer": "brelite", "subquestions": nodes})
    if stage == "document":
        name = {"Who composed Velka Suite?": "work_creator_finder", "What is the home town of s1?": "person_town_finder"}
        plain = {"type": "object", "properties": {"subject": _text("Name.")}, "required": ["subject"]}
        return json.dumps(
            {"name": name.get(payload["subquestion"], "town_resource_lookup"), "description": "Looks up.", "parameters": plain}
        )
    if stage == "integrate":
        return json.dumps({"documents": [FINDER | {"subquestions": ["s1", "s2"]}, LOOKUP | {"subquestions": ["s3"]}]})
    if stage == "scale":
        return "```json\n" + json.dumps({one["name"]: one for one in (FINDER, LOOKUP)}[payload["name"]]) + "\n```"
    if stage == "extend":
        return json.dumps({"documents": [TIDES]})
    name = payload["document"]["name"]
    calls = [{"subquestion": call.node, "arguments": call.arguments} for call in CALLS if call.tool == name]
    return json.dumps({"source": CODES[name], "calls": calls})
