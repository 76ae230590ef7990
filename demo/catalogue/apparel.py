"""Clothes, shoes and what people carry."""

from .geometry import ellipse, mirror, rect, rotate, smooth, symmetric
from .paint import BLACK, BRASS, RUBBER, STEEL, Paint


def t_shirt(canvas, main, accent, neck="crew", motif="none"):
    dip = {"crew": 19, "v": 27, "scoop": 24}[neck]
    neckline = [(50, dip), (56, dip - 3), (60, 12.5)] if neck != "v" else [(50, dip), (60, 12)]
    canvas.fill(symmetric(smooth([(50, 15.5), (60, 11.5)], closed=False) + [(60, 14), (50, dip)]),
                main.plain().shaded(0.6), form="flat")
    body = neckline + [(72, 17), (80, 24), (92, 43), (79, 50.5), (73, 40), (72.5, 60), (73.5, 90), (50, 91.5)]
    canvas.fill(symmetric(smooth(body[:len(neckline)], closed=False) + body[len(neckline):]), main, depth=2.6)
    for side in (lambda p: p, mirror):
        canvas.stroke(side(smooth([(72.5, 41), (73, 31), (77, 22)], closed=False)), 0.5,
                      main.plain().shaded(0.78), cast=0.1)
        canvas.stroke(side(smooth([(71, 50), (64, 62), (66, 78)], closed=False)), 1.6, main.plain().shaded(0.82),
                      opacity=0.25, cast=0.25)
        canvas.stroke(side([(91, 41.5), (78.6, 48.8)]), 0.4, main.plain().shaded(0.75), cast=0)
    collar = smooth(neckline, closed=False)
    canvas.stroke(mirror(collar)[::-1] + collar, 2.0, accent, depth=0.6, cast=0.15)
    canvas.stroke([(27, 88.3), (50, 89.6), (73, 88.3)], 0.4, main.plain().shaded(0.75), cast=0)
    if motif == "sun":
        canvas.fill(sunburst(50, 46), accent, form="flat", cast=0)
    elif motif == "pocket":
        canvas.fill([(55, 34), (66, 34), (66, 44), (60.5, 48), (55, 44)], accent, depth=0.5, cast=0.15)


def sunburst(x, y):
    """A disc with twelve rays."""
    rays = []
    for ray in range(24):
        rays += rotate([(x, y - (12 if ray % 2 else 8.5))], ray * 15, x, y)
    return rays


def dress(canvas, main, accent, cut="flared", sleeves="none"):
    hem, waist = {"flared": (79, 40), "straight": (66, 42), "maxi": (75, 36)}[cut]
    bottom = {"flared": 84, "straight": 84, "maxi": 96}[cut]
    shade = main.plain().shaded
    neck = [(50, 16), (55, 14.5), (58, 7)]
    canvas.fill(symmetric([(50, 11), (58, 7), (57, 14), (50, 17)]), shade(0.55), form="flat")
    if sleeves == "long":
        for side in (lambda p: p, mirror):
            canvas.fill(side(smooth([(62, 9), (69, 13), (76, 34), (82, 52), (77, 54), (70, 40), (63, 26)], steps=6)),
                        main, depth=1.8)
    elif sleeves == "short":
        for side in (lambda p: p, mirror):
            canvas.fill(side(smooth([(62, 8), (70, 12), (76, 25), (67, 29), (62, 22)], steps=6)), main, depth=1.8)
    top = [(64, 8), (63, 16), (65, 23)] if sleeves == "none" else [(65, 9), (66, 16), (65, 23)]
    canvas.fill(symmetric(smooth(neck, closed=False) + smooth([*top, (61, waist)], closed=False)), main, depth=2.2)
    wave = [(50, bottom + 1.5), (57, bottom + 0.2), (64, bottom + 1.2)]
    skirt = smooth([(61, waist), (64, waist + 8), (70 if cut != "straight" else 65, waist + 24), (hem, bottom - 1)],
                   closed=False)
    canvas.fill(symmetric([(50, waist - 1), *skirt, *wave[::-1]]), main, depth=2.2, cast=0.1)
    spread = (hem - 50) / 29
    for fold in (-22, -14, -6, 4, 12, 20):
        canvas.stroke(smooth([(50 + fold * 0.42, waist + 3), (50 + fold * 0.7 * spread, waist + 20),
                              (50 + fold * spread, bottom - 1)], closed=False), 1.7, shade(0.72),
                      opacity=0.28, cast=0.12)
    canvas.fill(rect(38.8, waist - 2.2, 61.2, waist + 2.2, 1), accent, depth=0.8)
    if cut == "maxi":
        canvas.stroke(smooth([(53, waist), (57, waist + 8), (56, waist + 18)], closed=False), 1.6, accent)


def boot(canvas, main, accent, form="laced"):
    top, sole_colour = {"laced": (20, RUBBER), "chelsea": (28, RUBBER), "rain": (8, accent)}[form]
    upper = [(32, top), (58, top), (58, 50), (62, 58), (74, 64), (85, 69), (90, 76),
             (89, 84), (80, 85), (32, 85), (29, 82), (29, 72), (33, 58)]
    canvas.fill(smooth(upper, steps=8), main, depth=4.5, gloss=0.3 if form == "rain" else 0.1)
    canvas.fill(ellipse(45, top + 1.5, 12.5, 2.8), main.shaded(0.42), form="flat", cast=0)
    if form == "laced":
        canvas.fill(smooth([(53, 20), (60, 19), (63, 54), (73, 62), (68, 66), (56, 58)], steps=5), main.shaded(0.72),
                    depth=1.4)
        for step in range(7):
            y = 25 + step * 5.2
            x = 54 + max(0, step - 4) * 2.6
            canvas.stroke([[(x, y), (x + 7, y - 1.6)], [(x, y), (x + 6.6, y + 2.2)]], 1.1, accent)
            canvas.fill(ellipse(x - 0.6, y, 0.9), BRASS, depth=0.4)
        canvas.stroke(smooth([(33, 60), (45, 66), (60, 68), (66, 78), (67, 83)], closed=False), 0.5,
                      main.shaded(0.6), cast=0.3)
    elif form == "chelsea":
        canvas.fill(smooth([(40, 30), (52, 30), (50, 46), (47, 56), (43, 46)], steps=6), accent, depth=0.8)
        canvas.stroke([[(x, 34), (45.5 + (x - 45.5) * 0.5, 52)] for x in (42, 44, 46, 48, 50)], 0.4,
                      accent.shaded(0.7), cast=0)
        canvas.stroke([(33, 28), (33, 20), (36, 20), (36, 28)], 1.2, accent)
    else:
        canvas.stroke([(32.5, 14), (57.5, 14)], 2, accent, depth=0.6)
        canvas.stroke(smooth([(76, 66), (74, 74), (75, 83)], closed=False), 0.7, main.shaded(0.75))
        canvas.fill(rect(52, 18, 56.5, 23, 1), STEEL, depth=0.6)
    canvas.fill([(28, 82), (91, 82), (92, 86.5), (54, 87), (53, 91), (28.5, 91)], sole_colour, depth=1)
    canvas.stroke([(29, 83), (91, 83)], 0.7, Paint("#d8c49a"), cast=0)


def trainer(canvas, main, accent, form="runner"):
    high = form == "high-top"
    collar = 22 if high else 42
    upper = [(12, collar), (22, collar + (3 if high else 6)), (33, collar), (44, 50), (58, 59), (72, 64),
             (85, 67), (92, 73), (91, 79), (88, 81), (12, 81), (8, 78), (7.5, 66), (10, 54), (9, collar + 5)]
    canvas.fill(smooth(upper, steps=8), main, depth=3.8)
    canvas.fill(smooth([(12, collar + 1), (22, collar + (4 if high else 7)), (32, collar), (23, collar + 10)], steps=6),
                main.plain().shaded(0.5), form="flat", cast=0)
    canvas.fill(smooth([(78, 65), (87, 68), (91.5, 73), (91, 80), (75, 80), (73, 70)], steps=6), accent, depth=2)
    tongue_top = (35, collar - 5)
    canvas.fill(smooth([(29, collar), tongue_top, (42, 47 if not high else 36), (63, 61), (54, 62), (37, 53)],
                       steps=6), main.plain().shaded(1.15), depth=1.4)
    for step in range(7 if high else 5):
        t = step / (6 if high else 4)
        x, y = 36 + 21 * t, (28 if high else 46) + (31 if high else 13.5) * t
        canvas.stroke([(x - 3.5, y + 3.4), (x + 4, y - 0.8)], 1.5, Paint("#fbfaf6"))
    if form == "runner":
        canvas.stroke([[(31, 76), (41, 59)], [(38, 76), (47, 61)], [(45, 76), (53, 63.5)]], 2.2, accent)
        canvas.fill(smooth([(7, 78), (50, 76.5), (92, 77), (97, 80), (93, 87), (60, 86), (30, 89), (5, 88)], steps=6),
                    Paint("#f6f4ef"), depth=1.6)
    else:
        canvas.fill(rect(6, 77, 95, 87, 3), Paint("#f6f4ef"), depth=1.3)
        canvas.stroke([(8, 81), (93, 81)], 0.7, accent, cast=0)
        if high:
            canvas.fill(ellipse(20, 42, 6.5), Paint("#f6f4ef"), depth=0.8)
            canvas.fill(ellipse(20, 42, 3), accent, form="flat", cast=0)
    canvas.fill(smooth([(8, 65), (12, 60), (15, 78), (8, 78)], steps=5), accent, depth=1)
    canvas.stroke([(7, 88), (92, 87)], 1.6, RUBBER)


def backpack(canvas, main, accent, form="day"):
    plain = main.plain()
    for side in (lambda p: p, mirror):
        canvas.stroke(side(smooth([(62, 22), (81, 34), (85, 60), (77, 84)], closed=False)), 4, plain.shaded(0.6))
    canvas.stroke(smooth([(42, 14), (43, 6), (57, 6), (58, 14)], closed=False), 2.6, accent)
    if form == "roll":
        canvas.fill(rect(26, 20, 74, 92, 6), main, depth=4)
        canvas.fill(rect(27, 9, 73, 22, 5), plain.shaded(0.9), depth=3)
        canvas.stroke([[(36, 16), (36, 44)], [(64, 16), (64, 44)]], 2.2, accent)
        for x in (36, 64):
            canvas.fill(rect(x - 2.4, 38, x + 2.4, 43, 0.6), BRASS, depth=0.6)
        canvas.fill(rect(32, 58, 68, 86, 3), main, depth=2)
        canvas.stroke([(33, 62), (67, 62)], 0.8, BLACK, cast=0.4)
        return
    canvas.fill(symmetric(smooth([(50, 9), (63, 11), (72, 20), (75, 40), (76, 84), (70, 92), (50, 93)], closed=False)),
                main, depth=4.5)
    for side in (lambda p: p, mirror):
        canvas.fill(side(smooth([(73, 62), (80, 66), (80, 86), (73, 90)], steps=5)), plain.shaded(0.8), depth=1.8)
    if form == "flap":
        canvas.fill(symmetric(smooth([(50, 10), (66, 12), (74, 22), (75, 48), (70, 53), (50, 54)], closed=False)),
                    main, depth=3)
        for x in (38, 62):
            canvas.stroke([(x, 46), (x, 68)], 3, accent)
            canvas.fill(rect(x - 2.6, 58, x + 2.6, 63, 0.6), BRASS, depth=0.6)
            canvas.fill(rect(x - 1.4, 59.2, x + 1.4, 61.8, 0.4), accent, form="flat", cast=0)
        canvas.fill(rect(31, 66, 69, 89, 4), main, depth=2.2)
        return
    canvas.stroke(smooth([(27, 50), (28, 28), (38, 17), (62, 17), (72, 28), (73, 50)], closed=False), 0.9, BLACK)
    canvas.stroke([(72.6, 44), (73.4, 50)], 1.5, STEEL)
    canvas.fill(symmetric(smooth([(50, 52), (63, 53), (68, 58), (68, 84), (63, 88), (50, 88.5)], closed=False)),
                main, depth=2.6)
    canvas.stroke(smooth([(33, 61), (37, 57), (63, 57), (67, 61)], closed=False), 0.8, BLACK)
    canvas.fill(rect(44, 32, 56, 40, 1), accent, depth=0.7)


def umbrella(canvas, main, accent, handle="crook", spread=1.0):
    reach = 44 * spread
    canvas.stroke([(50, 8), (50, 80)], 1.4, STEEL)
    if handle == "crook":
        canvas.stroke(smooth([(50, 76), (50, 88), (55, 94), (61, 91), (61.5, 86)], closed=False), 3.2, accent)
    else:
        canvas.stroke([(50, 76), (50, 92)], 4, accent)
    depth = 52 if spread < 1 else 48
    xs = [50 + reach * k for k in (-1, -0.62, -0.22, 0.22, 0.62, 1)]
    canvas.fill([(xs[0], depth),
                 *smooth([(xs[0] + 4, depth + 2), (50, depth + 5.5), (xs[-1] - 4, depth + 2)], closed=False),
                 (xs[-1], depth), (50, depth - 14)], main.plain().shaded(0.5), form="flat")
    dome = smooth([(50, 12), (50 + reach * 0.42, 16), (50 + reach * 0.8, 30), (50 + reach, depth)], closed=False)
    scallops = []
    for right, left in zip(xs[:0:-1], xs[-2::-1]):
        scallops += smooth([(right, depth), ((right + left) / 2, depth - 4.2), (left, depth)], closed=False)
    canvas.fill(mirror(dome)[::-1] + dome + scallops, main, form="puff", depth=5)
    for x in xs[1:-1]:
        canvas.stroke(smooth([(50, 12), (50 + (x - 50) * 0.66, 26), (x, depth)], closed=False), 0.6,
                      main.plain().shaded(0.7), cast=0.25)
    canvas.stroke([(50, 6), (50, 12)], 1.6, accent)


def sunglasses(canvas, main, accent, lens="round"):
    half = {
        "round": ellipse(71, 50, 16.5, 16),
        "square": smooth([(55, 39), (72, 37), (90, 38.5), (88, 54), (80, 63), (64, 63), (56, 55)], steps=8),
        "aviator": smooth([(56, 40), (72, 37.5), (88, 40), (88, 54), (80, 66), (68, 66), (58, 56)], steps=8),
    }[lens]
    rim = 1.4 if lens == "aviator" else 3.4
    for side in (lambda p: p, mirror):
        canvas.stroke(side([(86, 43), (92, 42), (80, 33), (60, 29)]), 1.8, main.shaded(0.75))
        canvas.fill(side(half), accent, form="flat", opacity=0.9)
        canvas.fill(side(smooth([(62, 42), (70, 40), (64, 56), (60, 52)], steps=6)), Paint("#ffffff"), form="flat",
                    opacity=0.22, cast=0)
        canvas.stroke(side(half + half[:1]), rim, main, gloss=0.4)
    canvas.stroke(smooth([(43.5, 47), (50, 43.5), (56.5, 47)], closed=False), rim, main, gloss=0.4)
    if lens == "aviator":
        canvas.stroke([(42, 40), (58, 40)], rim, main, gloss=0.4)
