"""Plain English sentences without end, put together from words. No text of anybody else's is used."""

import numpy as np


def _list(words: str) -> tuple[str, ...]:
    return tuple(words.split(","))


_WHO = _list(
    "the farmer,a young teacher,my brother,the old sailor,every child,the baker,our neighbour,the quiet doctor,"
    "a tall woman,the judge,her cousin,the night nurse,a lost tourist,the painter,the boy in blue,your uncle,"
    "the whole family,a careful pilot,the shop keeper,his daughter,the choir,a small dog,the mayor,the engineer"
)
_DOES = _list(
    "found,carried,watched,painted,forgot,followed,borrowed,washed,pushed,moved,bought,opened,measured,covered,"
    "remembered,gathered,showed,wrapped,fixed,chose,threw,pulled,kept,sold,drew,cleaned,packed,loved,missed,shook"
)
_WHAT = _list(
    "the wooden boat,a bag of apples,two green bottles,the broken chair,a warm loaf,the yellow map,some fresh butter,"
    "a pair of boots,the heavy box,five small coins,the kitchen clock,a bunch of flowers,the paper crown,her violin,"
    "a cup of coffee,the garden gate,an empty jar,the silver spoon,a long rope,the big umbrella,his favourite book,"
    "the morning paper,a jug of milk,the oldest photograph,three thin fish,a smooth pebble,the measuring tape,my purse"
)
_WHERE = _list(
    "by the river,near the market,behind the church,above the stove,at the edge of the forest,under the bridge,"
    "in the middle of the road,on the roof,beside the fire,across the valley,at home,in a deep hole,on the beach,"
    "before the mirror,outside the village,along the wall,between two houses,over the fence,in the cold cellar"
)
_WHEN = _list(
    "before breakfast,last summer,every other day,at half past four,once a year,in the evening,when it rained,"
    "after the game,on Thursday,for a long while,in early March,just now,at noon,while we slept,by chance,all winter"
)
_HOW = _list(
    "slowly,with both hands,without a word,very gently,in a hurry,for no reason,again and again,as usual,by mistake,"
    "with great joy,quite badly,on purpose,rather well,in silence,with a smile,too early"
)
_IS = _list(
    "is full of smoke,looks bigger than mine,was made of pure wool,will never be the same,smells of fish and vinegar,"
    "turned out to be empty,has a sharp edge,should be moved to the left,was worth every penny,feels soft and warm,"
    "belongs to the museum,broke into pieces,goes round and round,could be a problem,is always above the water"
)
_ASK = _list(
    "who moved,why did you buy,where should we put,do you remember,have you ever seen,how much is,which of us chose,"
    "would you please bring,can anybody move,what became of"
)
_DIGITS = _list("zero,one,two,three,four,five,six,seven,eight,nine")
_UNITS = _list("miles,pounds,boxes,minutes,pages,fathoms,bushels,voices,people,degrees")


def sentence(rng: np.random.Generator) -> str:
    """One sentence of about 1.5 to 4 s, without punctuation."""

    def one(words: tuple[str, ...]) -> str:
        return words[int(rng.integers(len(words)))]

    shape = int(rng.integers(6))
    if shape == 0:
        return f"{one(_WHO)} {one(_DOES)} {one(_WHAT)} {one(_WHERE)}"
    if shape == 1:
        return f"{one(_WHEN)} {one(_WHO)} {one(_DOES)} {one(_WHAT)} {one(_HOW)}"
    if shape == 2:
        return f"{one(_WHAT)} {one(_WHERE)} {one(_IS)}"
    if shape == 3:
        return f"{one(_ASK)} {one(_WHAT)} {one(_WHERE)}"
    if shape == 4:
        return f"{' '.join(one(_DIGITS) for _ in range(int(rng.integers(3, 6))))} {one(_UNITS)} {one(_WHEN)}"
    return f"{one(_WHO)} {one(_DOES)} {one(_WHAT)} and {one(_WHO)} {one(_DOES)} {one(_WHAT)}"
