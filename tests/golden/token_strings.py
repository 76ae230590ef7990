"""The texts whose tokens are kept: what shoppers type, and what breaks tokenizers."""

EMPTY_AND_SPACE = [
    "", " ", "   ", "\t", "\n", "\r\n", "\t\n\r \t", "\u00a0", "\u2003\u2009", "\u3000", "\u1680", "\u2028", "\u2029", "\u0085",
    " leading", "trailing ", "  both  ", "a  b   c", "tab\tseparated\twords", "line\nbreak", "line\r\nbreak", "no\u00a0break",
    "ideographic\u3000space", "thin\u2009space", "next\u0085line", "form\ffeed", "vertical\vtab",
]

CONTROLS = [
    *(f"a{chr(code)}b" for code in range(0x00, 0x20)),
    "\u0000", "\u0000\u0001\u0002", "\u007f", "a\u007fb", "a\u0080b\u009fc", "bell\u0007", "\u001b[31mred\u001b[0m",
    "zero\u200bwidth", "non\u200cjoiner", "joi\u200dner", "word\u2060joiner", "\ufeffbyte order mark", "soft\u00adhyphen",
    "left\u200eto\u200fright", "\u202eoverride\u202c", "\u2066isolate\u2069", "replacement \ufffd", "non\ufffecharacter\uffff",
    "private \ue000 use", "plane 16 \U0010ffff", "tag \U000e0061", "interlinear \ufff9a\ufffab\ufffb",
]

SCRIPTS = [
    "red dress", "RED DRESS", "Red Dress", "rEd DrEsS",
    "\u00e9l\u00e9gant caf\u00e9", "e\u0301le\u0301gant cafe\u0301", "na\u00efve fa\u00e7ade cr\u00e8me br\u00fbl\u00e9e",
    "\u00c5ngstr\u00f6m", "A\u030angstro\u0308m", "\u212bngstr\u00f6m", "z\u0335\u0321\u0353a\u0334\u0315l\u0336g\u0337o\u0338",
    "Stra\u00dfe", "STRASSE", "STRA\u1e9eE", "gr\u00f6\u00dfe m\u00f6bel", "\u0130stanbul", "ISTANBUL", "istanbul", "\u0131s\u0131t\u0131c\u0131",
    "\u01c5 titlecase digraph", "\ufb01ne \ufb02uffy o\ufb03ce", "\uff26\uff35\uff2c\uff2c \uff57\uff49\uff44\uff54\uff48 \uff11\uff12\uff13", "\u2160\u2161\u2162 \u2460\u2461",
    "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "\u039f\u0394\u039f\u03a3", "\u1f08\u03b8\u1fc6\u03bd\u03b1\u03b9",
    "\u043a\u0440\u0430\u0441\u043d\u043e\u0435 \u043f\u043b\u0430\u0442\u044c\u0435", "\u041a\u0420\u0410\u0421\u041d\u041e\u0415 \u041f\u041b\u0410\u0422\u042c\u0415", "\u0439\u043e\u0434 \u0438\u0306\u043e\u0434", "\u0457\u0436\u0430\u043a \u0491\u0430\u043d\u043e\u043a",
    "\u7ea2\u8272\u8fde\u8863\u88d9", "\u8d64\u3044\u30c9\u30ec\u30b9", "\u30d0\u30c3\u30b0 \u30cf\u309a", "\u304c \u304b\u3099", "\ube68\uac04 \uc6d0\ud53c\uc2a4", "\u1112\u1161\u11ab", "\uff76\uff9e\uff80\uff76\uff85",
    "\U00020000\U0002a6d6", "nike\u978b\u5b50red", "\u7ea2\u8272dress\u8fde\u8863", "\u3002\u3001\u300c\u300d", "\u4e00",
    "\u0e0a\u0e38\u0e14\u0e40\u0e14\u0e23\u0e2a\u0e2a\u0e35\u0e41\u0e14\u0e07", "\u0932\u093e\u0932 \u092a\u094b\u0936\u093e\u0915", "\u0915\u094d\u0937\u093f", "\u09b2\u09be\u09b2", "\u0b9a\u0bbf\u0bb5\u0baa\u0bcd\u0baa\u0bc1", "\u0f56\u0f7c\u0f51", "\u1019\u103c\u1014\u103a\u1019\u102c",
    "\u0641\u0633\u062a\u0627\u0646 \u0623\u062d\u0645\u0631", "\u0641\u064f\u0633\u0652\u062a\u064e\u0627\u0646", "\u0644\u0640\u0640\u0640\u0644\u0640\u0640", "\u05e9\u05de\u05dc\u05d4 \u05d0\u05d3\u05d5\u05de\u05d4", "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd", "red \u0641\u0633\u062a\u0627\u0646 dress", "\u0663\u0664\u0665 \u09e9 \u0e53",
    "v\u00e1y \u0111\u1ecf", "va\u0301y \u0111o\u0309", "\u10ec\u10d8\u10d7\u10d4\u10da\u10d8", "\u13a0\u13a1\uab70", "\u0531\u0562\u0563", "\u12a0\u121b\u122d\u129b", "\U0001d400\U0001d401\U0001d402 math", "\U00010400\U00010428 deseret",
]

EMOJI = [
    "\U0001f457", "red \U0001f457\U0001f460", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "\U0001f1e9", "\U0001f44d\U0001f3fd",
    "\u2764\ufe0f", "\u2764", "1\ufe0f\u20e3", "\u2122 \u00ae \u00a9", "\U0001f600" * 40, "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", "\u263a\ufe0e shoes", "a\u200d\U0001f457",
]

MARKUP = [
    "black &amp; white", "&lt;b&gt;bold&lt;/b&gt;", "it&#39;s", "&quot;quoted&quot;", "&nbsp;", "&amp;amp;", "&#x1F457;", "&eacute;", "&unknown;", "<b>bold</b>", "<br/>", "<!-- comment -->",
    "<|endoftext|>", "<|startoftext|>", "red <|endoftext|> dress", "<|startoftext|><|endoftext|>", "<|ENDOFTEXT|>", "<|endoftext|", "<|endoftext|>ing", "a<|startoftext|>b",
    "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]", "red [MASK] dress", "[cls]", "[CLS][SEP]", "[ CLS ]", "x[SEP]y", "##ing", "## ing", "</w>", "dress</w>", "<unk>", "<s></s>", "<pad>", "\u0120dress", "\u2581dress",
    "https://shop.example/p/red-dress?size=M&color=red#top", "www.shop.example", "mail@shop.example", "C:\\pictures\\dress.jpg", "/srv/pictures/dress.jpg", "{\"colour\": \"red\"}", "SELECT * FROM products; --", "%20%C3%A9", "\\u0041 \\n", "${jndi:x}",
]

PUNCTUATION = [
    "!", "!!!", "?!?!", "...", "\u2026", ".,;:!?", "-", "--", "---", "\u2013 \u2014", "_", "__init__", "a_b_c", "()[]{}<>", "\"'`\u00b4", "\u2018a\u2019 \u201cb\u201d \u00abc\u00bb", "@#$%^&*+=|~\\/", "!" * 300, "=-" * 100, "a.b.c.d", "a,b", "a , b", "t-shirt", "t - shirt", "T\u2011shirt", "hand-made, one-of-a-kind",
    "don't", "it's", "we're I've I'm they'll he'd", "DON'T IT'S", "it\u2019s", "don\u2019t", "'s", "''s", "dogs'", "rock'n'roll", "o'neill", "l'or\u00e9al", "'til", "a's's", "x'sy", "'tis 'twas 'll", "'S 'T 'RE", "can't've",
]

NUMBERS = [
    "0", "7", "42", "2024", "1234567890", "1,234.56", "1.234,56", "$19.99", "\u20ac19,99", "19.99\u20ac", "\u00a3100", "\u00a55000", "\u20b9999", "-50%", "50% off", "3 for 2", "10x15cm", "10 x 15 cm", "10\u00d715\u00a0cm", "32GB", "5.5\"", "6'2\"", "\u00bd cup", "\u00b2 m\u00b2", "10\u207b\u00b3", "1st 2nd 3rd", "1e-5", "0xFF", "24/7", "size 42/44", "iPhone 15 Pro Max 256GB", "WH-1000XM5", "SKU: AB-12345/X", "B08N5WRWNW", "4006381333931", "ISBN 978-3-16-148410-0", "v2.0.1", "1" * 200, "12 34 56" * 30, "\u0661\u0662\u0663", "\u2075",
]

SEARCHES = [
    "red summer dress", "women's running shoes size 8", "black leather jacket men", "wireless noise cancelling headphones", "solid oak dining table 6 seater", "vintage floral midi dress with pockets", "a photo of a red dress", "a photo of a dog.", "gift for dad under $50",
    "non-stick frying pan 28cm induction", "baby onesie 0-3 months organic cotton", "4k hdmi cable 2m", "cushion cover 45x45 velvet emerald green", "shoes like these but in brown", "not leather", "nike air max 90", "ADIDAS ORIGINALS SUPERSTAR", "levis 501 w32 l34", "h&m", "M&S Collection", "dolce&gabbana", "C&A T-Shirt", "ben & jerry's cookie dough", "st\u00fchle f\u00fcr k\u00fcche", "robe rouge \u00e9t\u00e9", "vestido rojo ni\u00f1a", "\u017elut\u00fd k\u016f\u0148", "hyggelig l\u00e6nestol",
    "dress", "dresses", "dressed", "antidisestablishmentarianism", "qwrtpsdfg", "asdfghjkl zxcvbnm", "iphon charer", "tshirt", "t shirt", "T-SHIRT", "eau de parfum 50 ml", "Caf\u00e9-au-lait", "USB-C to USB-A 3.2 Gen 2", "AA/AAA batteries", "x", "X", "a b c d e f g",
]

LONG = [
    "word " * 500, "red dress with pockets, " * 150, "a" * 1000, "A" * 1000, "ab" * 500, "\u00e9" * 1000, "\u7ea2" * 600, "\u0301" * 300, "a" + "\u0301" * 300, "\u0e01" * 400, " " * 1000, "\n" * 200, " ".join(f"item{n}" for n in range(500)), "the quick brown fox jumps over the lazy dog " * 60,
    "x" * 100, "x" * 101, "x" * 99 + " y", "word " * 75, "word " * 74 + "word", "word " * 76, "dress " * 75 + "<|endoftext|>", "don't " * 100, "\U0001f457" * 300, "<|endoftext|>" * 90, "[SEP]" * 90, "-" * 1000,
]

STRINGS = [*EMPTY_AND_SPACE, *CONTROLS, *SCRIPTS, *EMOJI, *MARKUP, *PUNCTUATION, *NUMBERS, *SEARCHES, *LONG]
