"""Words in several scripts by their graphemes, and emojis of one grapheme each."""

#: Words by their graphemes.
WORDS = {
    "accents that follow their letters": ["c", "a", "f", "e\u0301"],
    "several accents": ["V", "i", "e\u0302\u0323", "t"],
    "Hindi vowel signs": ["\u0939\u093f\u0902", "\u0926\u0940"],
    "Thai tone marks": ["\u0e17\u0e35\u0e48", "\u0e19\u0e31\u0e48", "\u0e07"],
    "Arabic harakat": ["\u0643\u064e", "\u0644\u0652", "\u0628\u064c"],
    "Hangul jamo": ["\u1112\u1161\u11ab", "\u1100\u1173\u11af"],
    "a keycap": ["1\ufe0f\u20e3"],
    "plain": ["d", "o", "g"],
}

EMOJIS = {
    "one code point": "\U0001f600",
    "a flag": "\U0001f1eb\U0001f1f7",
    "a skin tone": "\U0001f44d\U0001f3fd",
    "a joined sequence": "\U0001f469\U0001f3fd\u200d\U0001f692",
    "a variation selector": "\u2764\ufe0f",
}
