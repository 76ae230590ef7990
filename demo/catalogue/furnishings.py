"""Furniture and things that stand or hang in a room."""

import math

from .geometry import ellipse, mirror, rect, rotate, smooth, symmetric, turned
from .paint import BLACK, BRASS, WHITE, Paint


def seat_box(canvas, paint, left, right, top, bottom, setback=2.0):
    """A seat cushion seen slightly from above: its top, then its front."""
    rise = (bottom - top) * 0.42
    canvas.fill(smooth([(left + setback, top), (right - setback, top), (right, top + rise), (left, top + rise)],
                       steps=4), paint.shaded(1.08) if paint.pattern == "solid" else paint, depth=1.5)
    canvas.fill(rect(left, top + rise - 1.5, right, bottom, 2.2), paint, depth=1.8)


def legs(canvas, paint, xs, top, bottom, width=2.6):
    for x in xs:
        lean = (x - 50) / 40
        canvas.fill([(x - width / 2, top), (x + width / 2, top),
                     (x + width / 3 + lean, bottom), (x - width / 3 + lean, bottom)], paint, depth=0.8)


def sofa(canvas, main, accent, seats=3, arm="track", tufted=False):
    half = {2: 35, 3: 44, 4: 46}[seats]
    arm_width = 7 if arm == "track" else 9
    left, right = 50 - half, 50 + half
    legs(canvas, accent, (left + 4, right - 4), 74, 81)
    legs(canvas, accent.shaded(0.7), (left + 11, right - 11), 74, 79, 2)
    canvas.fill(rect(left + 3, 40, right - 3, 72, 4), main.shaded(0.9), depth=2.5)
    inner_left, inner_right = left + arm_width - 0.5, right - arm_width + 0.5
    width = (inner_right - inner_left) / seats
    for seat in range(seats):
        x = inner_left + seat * width
        canvas.fill(smooth([(x + 1, 42), (x + width / 2, 41), (x + width - 1, 42), (x + width - 0.3, 51),
                            (x + width - 1, 62), (x + 1, 62), (x + 0.3, 51)]), main, depth=2.6)
        if tufted:
            for row, y in enumerate((46.5, 52)):
                for step in range(3):
                    bx = x + width * (step + 0.5 + 0.25 * (row - 0.5)) / 3
                    canvas.fill(ellipse(bx, y, 0.8), main.shaded(0.65), depth=0.4, cast=0.5)
    canvas.fill(rect(left + 2, 66, right - 2, 76, 1.5), main.shaded(0.92), depth=1.5)
    for seat in range(seats):
        x = inner_left + seat * width
        seat_box(canvas, main, x + 0.2, x + width - 0.2, 57.5, 69, 1)
    for side in (lambda p: p, mirror):
        if arm == "roll":
            canvas.fill(side(rect(left + 1.5, 54, left + arm_width - 1, 76.5, 2)), main, depth=1.8)
            canvas.fill(side(ellipse(left + 4.5, 53, 5.2, 4.8)), main, depth=2)
            canvas.fill(side(ellipse(left + 4.5, 53, 2.6, 2.3)), main.shaded(0.88), depth=1)
        else:
            canvas.fill(side(rect(left, 50, left + arm_width, 76.5, 2.4)), main, depth=2)


def armchair(canvas, main, accent, back="wing"):
    legs(canvas, accent, (27, 73), 78, 92, 3.4)
    legs(canvas, accent.shaded(0.7), (35, 65), 78, 88, 2.6)
    if back == "wing":
        canvas.fill(symmetric(smooth([(50, 10), (66, 12), (76, 18), (77, 35), (73, 50), (74, 70)], closed=False)),
                    main.shaded(0.86), depth=3)
        canvas.fill(symmetric(smooth([(50, 14), (62, 16), (66, 26), (65, 60)], closed=False)), main, depth=3)
    elif back == "tub":
        canvas.fill(symmetric(smooth([(50, 26), (68, 28), (79, 38), (81, 56), (78, 78)], closed=False)),
                    main.shaded(0.9), depth=4)
        canvas.fill(symmetric(smooth([(50, 32), (63, 34), (68, 44), (68, 66)], closed=False)), main.shaded(0.8),
                    depth=3)
    else:
        canvas.fill(rect(26, 18, 74, 72, 7), main.shaded(0.9), depth=3)
        canvas.fill(rect(30, 22, 70, 64, 7), main, depth=4)
    canvas.fill(rect(25, 70, 75, 82, 2), main.shaded(0.88), depth=1.5)
    seat_box(canvas, main, 30, 70, 57, 74, 3)
    for side in (lambda p: p, mirror):
        if back == "square":
            canvas.stroke(side([(22, 54), (30, 51.5)]), 4, accent)
            canvas.stroke(side([(22.5, 54), (25, 90)]), 3.2, accent)
        else:
            canvas.fill(side(smooth([(20, 50), (26, 47.5), (31.5, 51), (31, 66), (30, 82), (23, 82), (21, 66)])),
                        main, depth=2.4)


def chair(canvas, main, accent, back="slats"):
    rear, front = main.shaded(0.8), main
    canvas.stroke([[(33, 58), (31, 87)], [(63, 58), (66, 85)]], 3, rear)
    canvas.stroke([[(33, 76), (65, 75)]], 1.8, rear)
    if back == "panel":
        canvas.stroke([[(34, 60), (31, 14)], [(64, 58), (66, 14)]], 3, front)
        canvas.fill(smooth([(31, 13), (48, 11), (66, 13), (66, 40), (49, 42), (31, 40)], steps=6), accent, depth=2.5)
    elif back == "spindles":
        canvas.stroke([[(x, 58), (49 + (x - 49) * 1.18, 14)] for x in (34, 40, 46, 52, 58, 64)], 1.5, front)
        canvas.stroke(smooth([(28, 16), (38, 12), (60, 12), (70, 16)], closed=False), 4.5, front)
    else:
        canvas.stroke([[(34, 60), (31, 10)], [(64, 58), (66, 10)]], 3.2, front)
        for y in (14, 24, 34, 44):
            canvas.fill(smooth([(31.5, y), (48, y - 1.5), (66, y), (66, y + 4.5), (48, y + 3), (32, y + 4.5)], steps=5),
                        front, depth=0.9)
    canvas.stroke([[(26, 64), (23, 94)], [(72, 63), (75, 92)]], 3.4, front)
    canvas.stroke([[(25, 80), (32, 76)], [(73.5, 79), (65.5, 75)], [(25, 82), (74, 81)]], 1.8, front)
    canvas.fill(smooth([(33, 55), (64, 54.5), (75, 63), (73, 66.5), (26, 67.5), (23, 64)], steps=4),
                main if back == "spindles" else accent, depth=1.3)


def cushion(canvas, main, accent, form="square", trim="none"):
    top, side = (20, 16) if form == "square" else (32, 8)
    outline = smooth([(side, top), (side + 12, top + 1.5), (50, top + 1), (88 - side, top + 1.5), (100 - side, top),
                      (98 - side, top + 10), (98.5 - side, 50), (98 - side, 90 - top), (100 - side, 100 - top),
                      (88 - side, 98.5 - top), (50, 99 - top), (side + 12, 98.5 - top), (side, 100 - top),
                      (side + 2, 90 - top), (side + 1.5, 50), (side + 2, top + 10)])
    if form == "round":
        outline = ellipse(50, 52, 37, 35)
    if trim == "fringe":
        canvas.stroke([[(x, y), (x + (-5 if x < 50 else 5), y + 0.6 * math.sin(y))] for x in (side + 3, 97 - side)
                       for y in range(top + 2, 99 - top)], 0.5, accent)
    canvas.fill(outline, main, depth=9)
    if trim == "piping":
        canvas.stroke(outline + outline[:1], 1.4, accent, cast=0)
    if form == "round":
        for turn in range(0, 360, 30):
            canvas.stroke(rotate([(50, 49), (50, 20)], turn, 50, 51), 0.5, main.shaded(0.8), cast=0.3, opacity=0.6)
        canvas.fill(ellipse(50, 51, 2.6), accent, depth=1, cast=0.5)


def table_lamp(canvas, main, accent, base="gourd", shade="#f3e6c8"):
    canvas.stroke([(50, 40), (50, 62)], 1.6, BRASS)
    if base == "tripod":
        canvas.stroke([[(50, 55), (33, 92)], [(50, 55), (67, 92)], [(50, 55), (53, 88)]], 2.2, main)
        canvas.stroke([[(40.5, 76), (59.5, 76)]], 1.2, main)
    else:
        profile = {
            "gourd": [(2, 46), (4, 49), (8, 55), (6, 61), (11, 68), (16, 77), (14, 86), (9, 90), (10, 92)],
            "column": [(2, 46), (3, 50), (3, 80), (5, 85), (13, 88), (14, 92)],
            "ball": [(2, 56), (3, 58), (10, 64), (14, 74), (11, 84), (6, 89), (8, 92)],
        }[base]
        canvas.fill(turned(profile), main, form="turned", gloss=0.35)
    top, bottom = (12, 21) if base != "column" else (17, 19)
    canvas.fill(symmetric([(50 + top, 10), (50 + bottom, 44)]), Paint(shade, grain="fabric"), form="turned")
    canvas.fill(symmetric(smooth([(50, 12), (59, 20), (63, 32), (58, 43), (50, 44)], closed=False)),
                Paint("#fff3c4"), form="flat", opacity=0.25, cast=0)
    canvas.stroke([[(50 - top, 10), (50 + top, 10)], [(50 - bottom, 44), (50 + bottom, 44)]], 0.8, accent, cast=0)


def wall_clock(canvas, main, accent, case="round", numerals=True):
    if case == "sunburst":
        for ray in range(24):
            reach = 46 if ray % 2 else 39
            canvas.fill(rotate([(48.6, 30), (51.4, 30), (50.3, 50 - reach), (49.7, 50 - reach)], ray * 15), main,
                        depth=0.8)
        radius = 25
    elif case == "square":
        canvas.fill(rect(10, 10, 90, 90, 6), main, depth=2.5)
        radius = 34
    else:
        canvas.fill(ellipse(50, 50, 42), main, depth=2)
        radius = 36
    if case != "round":
        canvas.fill(ellipse(50, 50, radius + 2), main.shaded(0.85), depth=1)
    canvas.fill(ellipse(50, 50, radius), WHITE, depth=1, cast=0.1)
    for minute in range(60):
        inner = radius * (0.87 if minute % 5 == 0 else 0.92)
        canvas.stroke(rotate([(50, 50 - inner), (50, 50 - radius * 0.95)], minute * 6),
                      0.9 if minute % 5 == 0 else 0.35, BLACK, form="flat", cast=0)
    if numerals:
        for hour in range(1, 13):
            angle = math.radians(hour * 30)
            canvas.write(str(hour), 50 + radius * 0.73 * math.sin(angle), 50 - radius * 0.73 * math.cos(angle),
                         radius * 0.22, BLACK)
    canvas.stroke(rotate([(50, 53), (50, 50 - radius * 0.5)], 305), 2, BLACK, depth=0.6)
    canvas.stroke(rotate([(50, 54), (50, 50 - radius * 0.72)], 54), 1.4, BLACK, depth=0.5)
    canvas.stroke(rotate([(50, 57), (50, 50 - radius * 0.8)], 190), 0.5, accent, depth=0.3)
    canvas.fill(ellipse(50, 50, 1.8), accent, depth=0.6)


def vase(canvas, main, accent, form="amphora", stems=False):
    profile, mouth = {
        "amphora": ([(9, 14), (7, 19), (7, 26), (15, 36), (23, 48), (22, 62), (14, 80), (10, 90), (11, 92)], (9, 14)),
        "bottle": ([(5, 8), (4, 12), (4, 36), (6, 46), (17, 58), (21, 70), (19, 84), (13, 92)], (5, 8)),
        "flared": ([(17, 40), (13, 47), (11, 57), (12, 68), (16, 79), (15, 88), (11, 94)], (17, 40)),
    }[form]
    if stems:
        for angle, length in ((-42, 34), (-20, 42), (2, 43), (21, 39), (40, 35)):
            tip = rotate([(50, 48 - length)], angle, 50, 48)[0]
            canvas.stroke([(50, 46), tip], 0.8, Paint("#6d7f4c"))
            for step in (0.4, 0.54, 0.68, 0.82, 0.96):
                x, y = 50 + (tip[0] - 50) * step, 46 + (tip[1] - 46) * step
                for lean in (55, -55):
                    canvas.fill(rotate(ellipse(x, y - 3.4, 1.8, 3.8), angle + lean, x, y), Paint("#7f9660"), depth=0.8)
    canvas.fill(turned(profile), main, form="turned", gloss=0.45)
    radius, y = mouth
    if not stems:
        canvas.fill(ellipse(50, y, radius, radius * 0.22), main.shaded(1.12), depth=0.6, cast=0)
        canvas.fill(ellipse(50, y, radius * 0.82, radius * 0.16), main.shaded(0.35), form="flat", cast=0)
    if form == "amphora":
        for side in (lambda p: p, mirror):
            canvas.stroke(side(smooth([(57, 18), (69, 17), (73, 28), (70, 42)], closed=False)), 2.6, accent, gloss=0.3)
