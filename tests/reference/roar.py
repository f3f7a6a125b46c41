"""ROAR the slow way: ranks by sorting, removal pixel by pixel, one network after the other, one sample after the other.

`train(images, labels, seed)` gives a network trained from new weights; `inputs(image)` what a network takes of it.
"""

import torch

PERCENTS = (10, 30, 50, 70, 90)


def descending(saliency):
    """Places (row, column) from the most salient on; without ties."""
    height, width = saliency.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    values = {place: float(saliency[place]) for place in places}
    assert len(set(values.values())) == len(places), "ties are settled at random, which a reference cannot know"
    return sorted(places, key=lambda place: -values[place])


def removed(percent, pixels):
    """Rounded half up."""
    return int(percent * pixels / 100 + 0.5)


def colour(mean, low, high):
    """A channel's mean as one of 256 levels: what of the way from low to high."""
    return round(255 * (mean - low) / (high - low))


def without(image, saliency, percent, colours):
    """A copy of an image [c, h, w] of bytes without its most salient pixels."""
    found = image.clone()
    places = descending(saliency)
    for place in places[: removed(percent, len(places))]:
        for channel, level in enumerate(colours):
            found[channel, place[0], place[1]] = level
    return found


def seed_of(percent, seed):
    """Networks of one seed begin alike whatever the share."""
    return seed


def shown(image, saliency, percent, colours):
    """A sample, as networks are asked about it."""
    return without(image, saliency, percent, colours)


def right(model, image, label):
    """Whether the largest of the logits is the label's."""
    with torch.no_grad():
        scores = model(image[None])[0].tolist()
    return scores.index(max(scores)) == label


def roar(training, samples, colours, seeds, train, inputs):
    """Share of networks that are right, [seeds][samples] over shares; training and samples are (images, labels, maps)."""
    hits = [[0] * len(samples[0]) for _ in seeds]
    for percent in PERCENTS:
        seen = torch.stack([without(x, a, percent, colours) for x, a in zip(training[0], training[2], strict=True)])
        for number, seed in enumerate(seeds):
            model = train(seen, training[1], seed_of(percent, seed))
            for i, (image, label, saliency) in enumerate(zip(*samples, strict=True)):
                hits[number][i] += right(model, inputs(shown(image, saliency, percent, colours)), int(label))
    return [[hit / len(PERCENTS) for hit in row] for row in hits]
