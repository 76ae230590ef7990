"""Guitars and bicycles."""

import math

from .geometry import arc, ellipse, rect, rotate, smooth, symmetric
from .paint import BLACK, RUBBER, STEEL, WALNUT, Paint


def guitar(canvas, main, accent, form="dreadnought"):
    fretboard, pegs = WALNUT.shaded(0.55), STEEL
    if form == "electric":
        body = smooth([(53.5, 59), (57, 58.5), (61, 53), (66, 52), (67, 58), (64.5, 65), (64, 71), (68, 79),
                       (69, 88), (62, 95.5),
                       (50, 97), (38, 95), (31, 87), (33, 78), (36, 70), (34, 62), (31.5, 54), (34, 47.5), (39, 49),
                       (42.5, 56), (46.5, 59)], steps=8)
        canvas.fill(body, main, depth=3, gloss=0.35)
        canvas.fill(smooth([(44, 60), (56, 60), (60, 72), (62, 84), (56, 88), (45, 76)], steps=6), accent, depth=0.6)
        for y in (66, 74, 81):
            canvas.fill(rect(44, y, 56, y + 2.8, 1.2), BLACK, depth=0.6)
        canvas.fill(rect(43, 87, 57, 90.5, 0.8), STEEL, depth=0.8, gloss=0.3)
        for x, y in ((61, 80), (63, 86)):
            canvas.fill(ellipse(x, y, 1.5), BLACK, depth=0.6)
        end = 63
    else:
        waist = 11.5 if form == "classical" else 13.5
        half = [(50, 50), (60, 51), (64, 57), (50 + waist, 67), (67, 77), (68, 87), (61, 95.5), (50, 97)]
        body = symmetric(smooth(half, closed=False))
        canvas.fill(body, main, depth=2.2, gloss=0.15)
        canvas.stroke(body + body[:1], 0.9, WALNUT.shaded(0.7), cast=0)
        canvas.fill(ellipse(50, 67, 6.6), accent, form="flat", cast=0)
        canvas.fill(ellipse(50, 67, 5.4), Paint("#17110d"), form="flat", cast=0)
        if form == "dreadnought":
            canvas.fill(smooth([(55, 70), (58, 68), (61, 77), (57, 80), (53, 74)], steps=6), BLACK, depth=0.4,
                        gloss=0.3)
        canvas.fill(rect(42, 84, 58, 87, 0.8), fretboard, depth=0.7)
        end = 61
    canvas.fill([(48, 16), (52, 16), (52.8, end), (47.2, end)], fretboard, depth=0.8)
    for fret in range(16):
        y = 16 + (end - 16) * (1 - 0.93**fret) / (1 - 0.93**16)
        canvas.stroke([(47.6, y), (52.4, y)], 0.3, STEEL, cast=0)
    if form == "electric":
        canvas.fill(smooth([(47.5, 17), (46.5, 8), (48, 2), (54, 2), (55, 6), (52.5, 17)], steps=5), main, depth=0.9)
        sides = ((46.2, -1),)
    else:
        canvas.fill([(46.4, 3), (53.6, 3), (52.6, 17), (47.4, 17)], WALNUT, depth=0.9)
        sides = ((46.2, -1), (53.8, 1))
    for x, way in sides:
        for y in (5, 9, 13) if len(sides) == 2 else (4, 6, 8, 10, 12, 14):
            canvas.stroke([(x, y), (x + 1.6 * way, y)], 1.3, pegs)
    canvas.stroke([[(48.3 + 0.68 * s, 14), (47.6 + 0.96 * s, 86)] for s in range(6)], 0.2, Paint("#e9e4d6"),
                  form="flat", cast=0)


def wheel(canvas, x, y, radius, tyre):
    canvas.stroke([[(x, y), (x + radius * math.cos(math.radians(a)), y + radius * math.sin(math.radians(a)))]
                   for a in range(0, 360, 15)], 0.28, STEEL.shaded(0.85), form="flat", cast=0)
    ring = ellipse(x, y, radius)
    canvas.stroke(ring, 2.3, tyre, depth=0.7, cast=0)
    canvas.stroke(ellipse(x, y, radius - 1.7), 0.8, STEEL, cast=0)
    canvas.fill(ellipse(x, y, 1.5), STEEL, depth=0.6)


def bicycle(canvas, main, accent, form="city"):
    rear, front, radius = (22, 66), (78, 66), 19
    crank, seat, head = (46, 68), (40, 40), (69, 38)
    tyre = RUBBER if form != "city" else Paint("#4a453d")
    wheel(canvas, *rear, radius, tyre)
    wheel(canvas, *front, radius, tyre)
    if form != "road":
        for x, y in (rear, front):
            canvas.stroke(arc(x, y, radius + 2.4, radius + 2.4, 190, 325), 1.1, main.shaded(0.85))
    canvas.stroke([[crank, rear]], 0.7, RUBBER)
    canvas.stroke([[rear, (seat[0] + 1, seat[1] + 5)], [rear, crank]], 1.3, main, gloss=0.3)
    canvas.stroke([[crank, (seat[0] - 1.6, seat[1] - 6)]], 1.7, main, gloss=0.3)
    canvas.stroke(smooth([head, (72, 52), front], closed=False), 1.6, main, gloss=0.3)
    if form == "city":
        canvas.stroke(smooth([(70, 43), (60, 60), crank], closed=False), 2, main, gloss=0.3)
        canvas.stroke(smooth([(69.6, 40), (58, 54), (43.5, 57)], closed=False), 1.6, main, gloss=0.3)
    else:
        canvas.stroke([[(70, 42), crank], [(69.4, 39), seat]], 1.9, main, gloss=0.3)
    canvas.stroke([[(seat[0] - 1.6, seat[1] - 6), (seat[0] - 2.2, seat[1] - 9)], [head, (67.6, 31)]], 1.2, STEEL)
    canvas.fill(smooth([(30, 29.5), (38, 30), (46, 30.5), (46, 32), (38, 33), (31, 34)], steps=5), accent, depth=1)
    if form == "road":
        canvas.stroke(smooth([(67.6, 31), (74, 30.5), (78, 34), (76, 40), (70, 41)], closed=False), 1.5, accent)
    else:
        canvas.stroke(smooth([(67.6, 31), (70, 27), (65, 25), (58, 27)], closed=False), 1.3, STEEL)
        canvas.stroke([(63, 25.6), (57.5, 27.2)], 2.2, accent)
    if form == "city":
        canvas.fill([(73, 30), (89, 30), (86.5, 41), (74.5, 41)], Paint("#b58c58", "checked", "#8b6538"), depth=1)
    elif form == "touring":
        canvas.stroke([(12, 45), (34, 45)], 1.2, BLACK)
        canvas.fill(rect(13, 47, 27, 64, 2), accent, depth=1.6)
    canvas.stroke(ellipse(*crank, 4.2), 0.9, BLACK)
    canvas.stroke([[crank, (50, 75)], [(48, 75.5), (53, 75.5)]], 1.2, BLACK)
    canvas.stroke(rotate([(crank[0], crank[1]), (crank[0], crank[1] - 7)], -28, *crank), 1.1, BLACK)
