"""Pots and cups."""

from .geometry import arc, ellipse, smooth, symmetric, turned



def mug(canvas, main, accent, form="straight"):
    profile, reach = {
        "straight": ([(25, 24), (25, 40), (25, 60), (25, 78), (23, 85), (19, 87)], 19),
        "bellied": ([(22, 26), (24, 36), (28, 52), (28, 68), (22, 82), (17, 86)], 17),
        "tapered": ([(29, 26), (28, 40), (25, 58), (21, 76), (19, 84), (17, 86)], 18),
    }[form]
    axis = 43
    edge = axis + profile[1][0]
    handle = smooth([(edge - 2, 36), (edge + reach * 0.7, 35), (edge + reach, 48), (edge + reach * 0.75, 63),
                     (edge - 4, 70)], closed=False)
    canvas.stroke(handle, 5.2, main.plain(), gloss=0.4)
    canvas.fill(turned(profile, axis), main, form="turned", gloss=0.4)
    radius, y = profile[0]
    canvas.fill(ellipse(axis, y, radius, 6.6), accent, depth=0.5, cast=0)
    canvas.fill(ellipse(axis, y + 0.4, radius - 1.7, 5.5), main.plain().shaded(0.62), form="flat", cast=0)
    canvas.fill(arc(axis, y + 0.6, radius - 2.2, 4.9, 0, 180) + arc(axis, y + 2.6, radius - 3.6, 3.0, 180, 0),
                main.plain().shaded(0.86), form="flat", cast=0)


def teapot(canvas, main, accent, form="round"):
    profile = {
        "round": [(11, 35), (19, 40), (27, 52), (28, 64), (23, 78), (15, 85), (14, 88)],
        "tall": [(12, 24), (16, 30), (20, 46), (23, 66), (23, 80), (18, 87), (17, 89)],
        "squat": [(12, 45), (22, 49), (31, 58), (32, 68), (27, 80), (18, 86), (16, 88)],
    }[form]
    top = profile[0][1]
    belly = max(radius for radius, _ in profile)
    edge = 50 + belly
    spout = smooth([(edge - 8, 62), (edge + 1, 62), (edge + 6, top + 14), (edge + 11, top + 3), (edge + 16, top + 2),
                    (edge + 13, top + 13), (edge + 9, 74), (edge - 6, 80)], steps=8)
    canvas.fill(spout, main.plain(), depth=3, gloss=0.4)
    if form == "squat":
        canvas.stroke(smooth([(30, top + 6), (30, top - 14), (50, top - 25), (70, top - 14), (70, top + 6)],
                             closed=False),
                      2.6, accent)
    else:
        left = 50 - belly
        canvas.stroke(smooth([(left + 9, top + 8), (left - 4, top + 6), (left - 13, top + 15), (left - 11, 66),
                              (left + 4, 77)], closed=False), 4.4, accent, gloss=0.35)
    canvas.fill(turned(profile), main, form="turned", gloss=0.5)
    radius = profile[0][0]
    canvas.fill(symmetric(smooth([(50, top - 8), (50 + radius * 0.5, top - 6.5), (50 + radius * 0.95, top - 1),
                                  (50 + radius * 1.05, top + 2), (50, top + 4.5)], closed=False)),
                main, form="turned", gloss=0.4)
    canvas.fill(ellipse(50, top - 10, 3.6, 3.2), accent, depth=1.4, gloss=0.5)
