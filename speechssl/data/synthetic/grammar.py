"""What is said: sentences of a small grammar of English, about 400 words."""

import re

import numpy as np

# `<name>` stands for one of the entries of that name. Words that sound like another word of the
# lexicon ("for" beside "four", "to" beside "two") are kept out: no listener could spell them.
PHRASES: dict[str, tuple[str, ...]] = {
    "sentence": (
        "the <adjective> <person> <did> the <thing> <where>",
        "the <adjective> <person> <did> <count> <things>",
        "<name> <did> the <adjective> <thing> <when>",
        "<name> and <name> <did> <count> <things> <where>",
        "please <do> the <thing> <where>",
        "please <do> <count> <adjective> <things> before <time>",
        "where did <name> <do> the <thing>",
        "did the <person> <do> the <adjective> <thing> <when>",
        "the <adjective> <thing> is <where>",
        "there are <count> <things> <where>",
        "the price of the <thing> is <number> dollars",
        "call <name> at <digit> <digit> <digit> <digit> <digit>",
        "the <event> starts at <time> <when>",
        "it was <weather> <when> and <name> stayed <where>",
        "every <animal> <where> wants <food>",
        "i think the <animal> <did> my <thing>",
        "we had <food> and <food> <when>",
        "turn the <device> <switch> <where>",
        "<name> lives at number <number> <street> street",
        "my <relative> was born on <month> <ordinal>",
        "the <vehicle> from <city> leaves at <time>",
        "they never <do> the <things> when it is <weather>",
        "the <color> <thing> costs less than the <color> one",
        "<name> said that the <event> was <opinion>",
        "<number> people <did> the <thing> in <city>",
        "can you <do> the <color> <thing> and the <device>",
        "<adverb> the <person> and the <animal> <did> the <thing>",
    ),
    "where": (
        "in the <place>",
        "near the <place>",
        "behind the <place>",
        "under the <furniture>",
        "beside the <adjective> <furniture>",
        "across the <place>",
    ),
    "when": (
        "on <day>",
        "in <month>",
        "before <time>",
        "after the <event>",
        "yesterday",
        "tomorrow morning",
        "last <day>",
        "every <day>",
    ),
    "time": (
        "<hour> thirty",
        "<hour> fifteen",
        "half past <hour>",
        "<hour> in the evening",
    ),
    "number": (
        "<tens> <digit>",
        "<tens>",
        "<teen>",
        "<digit> hundred",
        "<digit> hundred <tens>",
    ),
    "count": (
        "<digit>",
        "<teen>",
        "<tens>",
        "several",
        "many",
        "a dozen",
        "only <digit>",
    ),
}

WORDS = {
    "digit": "one two three four five six seven eight nine",
    "hour": "one two three four five six seven eight nine ten eleven twelve",
    "teen": "ten eleven twelve thirteen fourteen fifteen sixteen nineteen",
    "tens": "twenty thirty forty fifty sixty seventy eighty ninety",
    "ordinal": "first second third fourth fifth sixth seventh tenth twentieth",
    "day": "monday tuesday wednesday thursday friday saturday sunday",
    "month": (
        "january february march april may june july august september october november december"
    ),
    "name": (
        "anna peter maria david laura simon helen oscar nina victor emma thomas julia martin "
        "sarah robert linda george alice kevin"
    ),
    "person": (
        "farmer doctor teacher driver painter singer lawyer student captain baker neighbor "
        "soldier writer dancer tailor visitor manager pilot carpenter nurse"
    ),
    "relative": "mother father sister brother uncle cousin grandmother nephew",
    "animal": (
        "horse rabbit elephant tiger monkey camel donkey chicken turtle spider dolphin puppy "
        "kitten parrot lizard wolf"
    ),
    "adjective": (
        "old young heavy yellow quiet happy angry broken empty dirty famous hungry lonely "
        "modern narrow perfect rusty secret silver simple strange tiny ugly wooden useful "
        "golden clever gentle lazy expensive"
    ),
    "color": "yellow purple orange silver brown pink black golden",
    "opinion": "boring wonderful terrible noisy short useful crowded quiet",
    "weather": "raining snowing windy cloudy sunny foggy freezing",
    "adverb": "suddenly slowly finally perhaps usually later",
    "did": (
        "carried painted opened forgot watched bought dropped followed cleaned borrowed "
        "counted ordered repaired covered pushed remembered finished returned noticed "
        "collected visited measured"
    ),
    "do": (
        "carry paint open forget watch bring drop follow clean borrow count order repair "
        "cover push remember finish return collect measure"
    ),
    "thing": (
        "basket letter window picture bottle camera candle pocket ladder hammer jacket guitar "
        "mirror package pencil pillow ticket umbrella wallet blanket envelope barrel compass "
        "necklace newspaper"
    ),
    "things": (
        "baskets letters windows pictures bottles cameras candles pockets ladders hammers "
        "jackets guitars mirrors packages pencils pillows tickets umbrellas wallets blankets "
        "envelopes barrels"
    ),
    "furniture": "table sofa cupboard ladder carpet staircase bench counter",
    "device": "lamp heater radio engine fountain television fan",
    "switch": "on off",
    "place": (
        "garden kitchen market river mountain station library village castle forest factory "
        "harbor hospital museum office valley theater bridge school island desert church"
    ),
    "city": "london paris berlin madrid boston chicago dublin cairo lisbon vienna",
    "street": "garden river castle market station orange elephant silver",
    "vehicle": "bus tractor ferry airplane taxi wagon",
    "event": "meeting concert wedding lesson festival funeral breakfast dinner",
    "food": (
        "bread butter cheese coffee honey lemon mushrooms onions pepper potatoes rice salad "
        "soup sugar tomatoes carrots"
    ),
}

GRAMMAR = PHRASES | {name: tuple(words.split()) for name, words in WORDS.items()}


def make_sentence(generator: np.random.Generator, symbol: str = "sentence") -> str:
    """A random sentence of lower-case words separated by single spaces."""
    entries = GRAMMAR[symbol]
    entry = entries[int(generator.integers(len(entries)))]
    return re.sub(r"<(\w+)>", lambda match: make_sentence(generator, match[1]), entry)


def lexicon() -> set[str]:
    """Every word that a sentence may hold."""
    entries = " ".join(entry for entries in GRAMMAR.values() for entry in entries)
    return set(re.sub(r"<\w+>", " ", entries).split())
