"""The contractions that VQA's answer normalization restores: spellings without an apostrophe, and what they mean.

The public table has 120 entries, which two rules and three irregular entries produce. Texts are lower-cased before
they are looked up, so the entries with a capital I never fire; they are here because they are in the table.
"""

# The key is the target without its apostrophe.
_ONE_APOSTROPHE = """
    'twas I'm I've ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd
    how'll how's isn't it'd it'll ma'am might've mightn't must've mustn't needn't not've o'clock oughtn't shan't
    should've shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's
    there'd there're there's they'd they'll they're they've wasn't we've weren't what'll what're what's what've
    when's where'd where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all
    you'd you'll you're you've
"""
# The keys are all spellings with one apostrophe left out; those with none at all are not in the table.
_MORE_APOSTROPHES = """
    couldn't've hadn't've he'd've I'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've
    something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll y'all'd've you'd've 'ow's'at
"""
# The first stands the wrong way round in the public table; changing it would change scores.
_IRREGULAR = {"somebody'd": "somebodyd", "let's": "let's", "she's": "she's"}


def _without_one(word: str) -> list[str]:
    """Return the spellings of a word with exactly one of its apostrophes left out."""
    return [word[:k] + word[k + 1 :] for k, character in enumerate(word) if character == "'"]


_REGULAR = (_ONE_APOSTROPHE + _MORE_APOSTROPHES).split()
CONTRACTIONS = {key: word for word in _REGULAR for key in _without_one(word)} | _IRREGULAR
