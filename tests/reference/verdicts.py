"""Decision rules the slow way, from the Decisions of METRICS: lists, loops, one resample after the other.

`counts[r][i]` says how often resample r holds sample i. Bars are those of the rules' defaults. Nothing here is shared with cardgen.
"""

from math import erf, fsum, isclose, sqrt

EFFECT, PROBABILITY, SIMILAR, SAME, GAP, SAMPLES, FLAT = 0.2, 0.01, 0.3, 0.5, 0.2, 20, 0.1


def mean(values):
    return fsum(values) / len(values)


def deviation(values):
    centre = mean(values)
    return sqrt(fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def effect(values):
    return mean(values) / deviation(values)


def normal_share(z):
    return (1 + erf(z / sqrt(2))) / 2


def normal_quantile(share):
    """By bisection of the distribution function."""
    low, high = -40.0, 40.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if normal_share(middle) < share else (low, middle)
    return (low + high) / 2


def quantile(values, share):
    """Between the two neighbours in order, linearly."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = min(int(place), len(ordered) - 2)
    return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])


def resampled(values, statistic, counts):
    """The statistic of every resample, each written out sample by sample."""
    found = []
    for row in counts:
        sample = []
        for value, times in zip(values, row, strict=True):
            sample += [value] * int(times)
        found.append(statistic(sample))
    return found


def leave_one_out(values, statistic):
    return [statistic(values[:i] + values[i + 1 :]) for i in range(len(values))]


def bca(values, statistic, counts, share):
    """Efron's bias-corrected and accelerated bound (1987), ties with the estimate counted by half."""
    estimate, found = statistic(values), resampled(values, statistic, counts)
    tied = sum(isclose(value, estimate, rel_tol=1e-9, abs_tol=1e-12) for value in found)
    below = sum(value < estimate and not isclose(value, estimate, rel_tol=1e-9, abs_tol=1e-12) for value in found)
    below = (below + tied / 2) / len(found)
    left = leave_one_out(values, statistic)
    centre = mean(left)
    cubes, squares = fsum((centre - one) ** 3 for one in left), fsum((centre - one) ** 2 for one in left)
    if squares == 0 or below in (0, 1):
        return quantile(found, share)
    acceleration = cubes / (6 * squares**1.5)
    bias = normal_quantile(below)
    z = bias + normal_quantile(share)
    return quantile(found, normal_share(bias + z / (1 - acceleration * z)))


def two_way(table, draw_counts, sample_counts):
    """Means of the table [draws][n] with its rows and its columns resampled independently."""
    found = []
    for rows, columns in zip(draw_counts, sample_counts, strict=True):
        cells = []
        for row, times in enumerate(rows):
            for column, repeats in enumerate(columns):
                cells += [table[row][column]] * int(times * repeats)
        found.append(mean(cells))
    return found


def stretched_two_way(table, draw_counts, sample_counts):
    """As two_way, with each row's share moved away from 1/k by √(k/(k − 1)) as far."""
    k = len(table)
    found = []
    for rows, columns in zip(draw_counts, sample_counts, strict=True):
        total = 0.0
        for row, times in enumerate(rows):
            share = 1 / k + (times / k - 1 / k) * (k / (k - 1)) ** 0.5
            picked = [table[row][column] for column, repeats in enumerate(columns) for _ in range(int(repeats))]
            total += share * mean(picked)
        found.append(total)
    return found


def leads(values, valid, flat, draws, direction):
    """Per sample by how much the method beats the mean of a member's draws; 0 where a flat map has no score, left out if neither."""
    found = []
    for i in range(len(values)):
        if valid[i]:
            difference = values[i] - mean([draw[i] for draw in draws])
            found.append(-difference if direction == "lower" else difference)
        elif flat[i]:
            found.append(0.0)
    return found


def stretched(counts, k):
    """A row's shares, moved away from 1/k by √(k/(k − 1)) as far."""
    return [1 / k + (times / k - 1 / k) * (k / (k - 1)) ** 0.5 for times in counts]


def stretched_two_way_effect(table, draw_counts, sample_counts):
    """The effect of each sample's weighted mean over rows, with columns drawn again and rows' weights stretched."""
    found = []
    for rows, columns in zip(draw_counts, sample_counts, strict=True):
        shares = stretched(rows, len(table))
        picked = []
        for column, repeats in enumerate(columns):
            value = fsum(share * row[column] for share, row in zip(shares, table, strict=True))
            picked += [value] * int(repeats)
        found.append(effect(picked))
    return found


def vs_noise_over_seeds(table, flats, family, seed_counts, sample_counts, direction="lower"):
    """("pass" | "fail" | "inconclusive"), from scores [seeds][n], the number of flat maps, and the family's: {member: [seeds][n]}."""
    beaten, hopeless, mute, n = True, False, True, len(table[0])
    for theirs in family.values():
        d = [
            [(a - b) if direction == "higher" else (b - a) for a, b in zip(mine, its, strict=True)]
            for mine, its in zip(table, theirs, strict=True)
        ]
        means = [mean([row[i] for row in d]) for i in range(n)]
        mute &= min(means) == max(means) == 0
        low = quantile(stretched_two_way(d, seed_counts, sample_counts), 0.025)
        high = quantile(stretched_two_way_effect(d, seed_counts, sample_counts), 1 - 0.025 / len(family))
        beaten &= low > 0 and effect(means) >= EFFECT and mean(means) >= PROBABILITY
        hopeless |= high < EFFECT
    if n < SAMPLES:
        return "inconclusive"
    if beaten:
        return "inconclusive" if flats > FLAT * n else "pass"
    if mute and flats <= FLAT * n:
        return "inconclusive"
    return "fail" if hopeless else "inconclusive"


def vs_noise(values, valid, flat, family, counts, direction="higher", probability=False):
    """("pass" | "fail" | "inconclusive"), from the scores and the family's draws: {member: [draws][n]}."""
    beaten, hopeless, mute, n = True, False, True, 0
    for draws in family.values():
        d = leads(values, valid, flat, draws, direction)
        n = len(d)
        mute &= min(d) == max(d) == 0
        if min(d) == max(d):
            beaten &= d[0] > 0
            hopeless |= d[0] <= 0
        else:
            beaten &= bca(d, mean, counts, 0.025) > 0 and effect(d) >= EFFECT
            hopeless |= bca(d, effect, counts, 1 - 0.025 / len(family)) < EFFECT
        if probability and mean(d) < PROBABILITY:
            beaten = False
    flats = sum(flat)
    if n < SAMPLES:
        return "inconclusive"
    if beaten:
        return "inconclusive" if flats > FLAT * n else "pass"
    if mute and flats <= FLAT * n:
        return "inconclusive"
    return "fail" if hopeless else "inconclusive"


def randomisation(similarity, own, flats, draw_counts, sample_counts):
    """("pass" | "fail" | "inconclusive"), from similarities [draws][n], similarity to itself [n] and the number of flat maps."""
    n = len(own)
    found = stretched_two_way(similarity, draw_counts, sample_counts)
    gaps = [self - other for self, other in zip(resampled(own, mean, sample_counts), found, strict=True)]
    if n < SAMPLES:
        return "inconclusive"
    if quantile(gaps, 0.975) < GAP or quantile(found, 0.025) > SAME:
        return "fail"
    if quantile(found, 0.975) < SIMILAR and quantile(gaps, 0.025) > GAP:
        return "inconclusive" if flats > FLAT * n else "pass"
    return "inconclusive"


def shares(times):
    """What each of k models or draws weighs in a resample that holds it so often: √(k/(k − 1)) as far from 1/k as it falls."""
    k = len(times)
    return [1 / k + (t / k - 1 / k) * (k / max(k - 1, 1)) ** 0.5 for t in times]


def leads_over_baseline(similarity, baseline, flat, of_models, of_draws):
    """Σ share · similarity − Σ share · baseline of each sample; 0 where its map is flat."""
    found = []
    for i in range(len(flat)):
        alike = fsum(share * row[i] for share, row in zip(of_models, similarity, strict=True))
        anyway = fsum(share * row[i] for share, row in zip(of_draws, baseline, strict=True))
        found.append(0.0 if flat[i] else alike - anyway)
    return found


def vs_baseline(similarity, baseline, flat, model_counts, draw_counts, sample_counts, correlation=0.05):
    """(verdict, mean lead, effect, interval of the mean lead), from similarities [models][n] and baselines [draws][n].

    For leads that vary.
    """
    n = len(flat)
    equal = [[1 / len(table)] * len(table) for table in (similarity, baseline)]
    d = leads_over_baseline(similarity, baseline, flat, *equal)
    means, effects = [], []
    for models, draws, times in zip(model_counts, draw_counts, sample_counts, strict=True):
        leads = leads_over_baseline(similarity, baseline, flat, shares(models), shares(draws))
        picked = [lead for lead, often in zip(leads, times, strict=True) for _ in range(int(often))]
        means.append(mean(picked))
        effects.append(mean(picked) / max(deviation(picked), 1e-6 * deviation(d)))
    interval = quantile(means, 0.025), quantile(means, 0.975)
    clear = interval[0] > 0 and effect(d) >= EFFECT
    if n < SAMPLES:
        verdict = "inconclusive"
    elif quantile(effects, 0.975) < EFFECT:
        verdict = "fail"
    elif clear and mean(d) >= correlation and sum(flat) <= FLAT * n:
        verdict = "pass"
    else:
        verdict = "inconclusive"
    return verdict, mean(d), effect(d), interval


def wilson(hits, n, z=1.959963984540054):
    """The shares p at which |hits/n − p| = z √(p (1 − p) / n): Wilson 1927, by bisection to either side of the share found."""
    share = hits / n

    def outside(p):
        return (share - p) ** 2 > z * z * p * (1 - p) / n

    def bound(inner, outer):
        if not outside(outer) or inner == outer:
            return outer
        for _ in range(200):
            middle = (inner + outer) / 2
            inner, outer = (inner, middle) if outside(middle) else (middle, outer)
        return (inner + outer) / 2

    return bound(share, 0.0), bound(share, 1.0)
