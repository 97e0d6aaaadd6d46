"""An invented world: typed things with made-up names, and relations between them. Facts are functions of (seed, relation, subject).

No fact is true, so a model cannot know one; what is found was said by a tool.
"""

from random import Random

from assay.trajectories import seed_from

NUMBER = "number"
RELATIONS: dict[str, dict[str, dict[str, str]]] = {
    "train": {
        "work": {"composer": "person", "publisher": "company", "premiere_town": "town", "dedicatee": "person", "catalogue_number": NUMBER},
        "person": {"home_town": "town", "employer": "company", "mentor": "person", "instrument": "instrument", "prize": "prize",
                   "pupils": "list:person", "member_number": NUMBER},
        "town": {"river": "river", "mineral": "mineral", "mayor": "person", "festival": "festival", "population": NUMBER,
                 "partner_towns": "list:town", "archive_code": NUMBER},
        "company": {"founder": "person", "headquarters": "town", "flagship_work": "work", "rival": "company", "revenue": NUMBER},
        "river": {"source": "mountain", "estuary_town": "town", "length": NUMBER},
        "mountain": {"first_climber": "person", "cave": "cave", "height": NUMBER},
        "mineral": {"discoverer": "person", "main_buyer": "company", "trade_volume": NUMBER},
        "instrument": {"maker": "company", "inventor": "person", "workshop_number": NUMBER},
        "prize": {"sponsor": "company", "namesake": "person", "purse": NUMBER},
        "festival": {"host": "person", "anthem": "work", "ticket_count": NUMBER},
        "cave": {"explorer": "person", "underground_river": "river", "depth": NUMBER},
    },
    "ood": {
        "ship": {"captain": "sailor", "home_port": "harbour", "builder": "guild", "cargo": "spice", "tonnage": NUMBER},
        "sailor": {"first_mate": "sailor", "birth_island": "island", "guild": "guild", "ship": "ship", "licence_code": NUMBER,
                   "cousins": "list:sailor"},
        "harbour": {"pilot": "sailor", "lighthouse": "lighthouse", "supplier": "guild", "berth_count": NUMBER},
        "guild": {"guildmaster": "sailor", "seat": "harbour", "emblem": "orchid", "sister_guild": "guild", "head_count": NUMBER},
        "island": {"peak": "peak", "governor": "sailor", "native_spice": "spice", "main_harbour": "harbour", "coast_length": NUMBER},
        "spice": {"growing_island": "island", "trader": "guild", "tariff_code": NUMBER},
        "lighthouse": {"architect": "sailor", "site": "island", "signal_code": NUMBER},
        "orchid": {"breeder": "sailor", "habitat": "island", "bloom_index": NUMBER},
        "peak": {"surveyor": "sailor", "beacon": "lighthouse", "altitude": NUMBER},
    },
}  # fmt: skip
"""Relations by world and type of their subject, with the type of what they lead to. No name occurs in both worlds with the same subject."""
PARAMETERS = {"work": "work_title", "person": "person_name", "ship": "ship_name", "sailor": "sailor_name"}
"""Of the subject, where it is not called by its type."""
SUFFIXES = {"train": ("finder", "lookup", "search"), "ood": ("registry", "index", "directory")}
_WORDS = {
    "work": ("Suite", "Sonata", "Ballad", "Nocturne"),
    "festival": ("Days", "Fair"),
    "prize": ("Medal", "Ribbon"),
    "ship": ("Star", "Pearl"),
}
_SURNAMED = ("person", "sailor")
_ONSETS = ("b", "br", "d", "dr", "f", "g", "gl", "h", "k", "kr", "l", "m", "n", "p", "pl", "r", "s", "sk", "st", "t", "tr", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ae", "ei", "ou")
_CODAS = ("", "l", "n", "r", "s", "m", "th", "rk", "nd", "x")
_BRIEF = (
    "Ba Be Da De Fa Go Gu Ha Ki Ko La Li Ma Mo Ne Pa Ri Sa Te Vi".split(),
    "bo da fi gu ha ki la mi no pe ra ri so ta ti to vu wa xo zi".split(),
)
"""First and second syllables of 400 words. A small tokenizer comes to have one token for each, so that a small policy learns soon to say
again what it was told."""


class World:
    """The facts of one seed."""

    def __init__(self, name: str, seed: int, brief: bool = False) -> None:
        """name: train or ood. brief: names are some hundred short words, and numbers have four digits."""
        self.name, self.seed, self.brief = name, seed, brief
        self.relations = RELATIONS[name]

    def leads_to(self, domain: str, relation: str) -> str:
        """Type of the value."""
        return self.relations[domain][relation]

    def value(self, domain: str, relation: str, subject: str) -> str | list[str] | int:
        """What a relation gives for a subject: a name, several, or a number of five digits (brief: four)."""
        kind = self.relations[domain][relation]
        random = Random(seed_from(self.seed, "fact", domain, relation, subject))
        if kind == NUMBER:
            return _brief_number(random) if self.brief else random.randint(10_000, 99_999)
        if kind.startswith("list:"):
            return [_name(kind[5:], random, self.brief) for _ in range(2)]
        return _name(kind, random, self.brief)

    def thing(self, domain: str, *key: str | int) -> str:
        """Some thing of a type."""
        return _name(domain, Random(seed_from(self.seed, "thing", domain, *key)), self.brief)


def as_answer(value: str | list[str] | int) -> str:
    """A fact as a sub-answer."""
    return ", ".join(value) if isinstance(value, list) else str(value)


def spoken(relation: str) -> str:
    """A relation as it is said in a sentence."""
    return relation.replace("_", " ")


def a(noun: str) -> str:
    """With its article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def subject_parameter(domain: str) -> str:
    """Name of the parameter in which tools take a subject of the domain."""
    return PARAMETERS.get(domain, domain)


def _word(random: Random, syllables: int) -> str:
    return "".join(random.choice(_ONSETS) + random.choice(_VOWELS) + random.choice(_CODAS) for _ in range(syllables)).capitalize()


def _brief_number(random: Random) -> int:
    """Four different digits: what comes next is told by the digit before."""
    first = random.randrange(1, 10)
    return int("".join(map(str, [first, *random.sample([digit for digit in range(10) if digit != first], 3)])))


def _name(domain: str, random: Random, brief: bool) -> str:
    if brief:
        made = "".join(map(random.choice, _BRIEF))
    elif domain in _SURNAMED:
        return f"{_word(random, 2)} {_word(random, 3)}"
    else:
        made = _word(random, 3)
    words = _WORDS.get(domain)
    return f"{made} {random.choice(words)}" if words else made
