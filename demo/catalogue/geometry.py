"""Outlines in a square of 100 by 100 units, y pointing down."""

import math


def rect(left, top, right, bottom, radius=0.0):
    """A rectangle with rounded corners."""
    if radius <= 0:
        return [(left, top), (right, top), (right, bottom), (left, bottom)]
    radius = min(radius, (right - left) / 2, (bottom - top) / 2)
    corners = [
        (right - radius, top + radius, -90),
        (right - radius, bottom - radius, 0),
        (left + radius, bottom - radius, 90),
        (left + radius, top + radius, 180),
    ]
    return [p for x, y, start in corners for p in arc(x, y, radius, radius, start, start + 90, 8)]


def arc(x, y, radius_x, radius_y, start, end, steps=40):
    """Points on an ellipse between two angles in degrees, clockwise from the right."""
    angles = (math.radians(start + (end - start) * i / steps) for i in range(steps + 1))
    return [(x + radius_x * math.cos(a), y + radius_y * math.sin(a)) for a in angles]


def ellipse(x, y, radius_x, radius_y=None):
    return arc(x, y, radius_x, radius_x if radius_y is None else radius_y, 0, 360, 72)


def smooth(points, closed=True, steps=10):
    """A Catmull-Rom curve through the points."""
    count = len(points)
    curve = []
    for i in range(count if closed else count - 1):
        if closed:
            a, b, c, d = (points[(i + k - 1) % count] for k in range(4))
        else:
            a, b, c, d = (points[min(max(i + k - 1, 0), count - 1)] for k in range(4))
        for step in range(steps):
            t = step / steps
            curve.append(tuple(
                0.5 * (2 * b[j] + (c[j] - a[j]) * t + (2 * a[j] - 5 * b[j] + 4 * c[j] - d[j]) * t**2
                       + (3 * b[j] - a[j] - 3 * c[j] + d[j]) * t**3)
                for j in (0, 1)
            ))
    return curve if closed else curve + [points[-1]]


def mirror(points, axis=50.0):
    return [(2 * axis - x, y) for x, y in points]


def symmetric(half, axis=50.0):
    """Closes the right half of an outline, listed top to bottom, with its mirror image."""
    return list(half) + mirror(half, axis)[::-1]


def turned(profile, axis=50.0):
    """The outline of a body of revolution from its (radius, y) profile."""
    return symmetric(smooth([(axis + radius, y) for radius, y in profile], closed=False), axis)


def rotate(points, degrees, x=50.0, y=50.0):
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(x + (px - x) * cos - (py - y) * sin, y + (px - x) * sin + (py - y) * cos) for px, py in points]
