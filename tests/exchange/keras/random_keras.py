"""Random small Keras models over every layer that is read, with random weights and statistics.

Average pooling over uneven borders is left out: Keras on torch repeats the last row there, which Keras on TensorFlow
does not.
"""

from random import Random
from typing import Any

import numpy as np
from keras import Input, Model, Sequential, layers, ops


def convolutions_2d(r, first):
    padding, window = r.choice(["same", "valid"]), r.choice([1, 2, 3, (2, 3), (3, 1), 4])
    strides = r.choice([1, 2, 3])
    dilation = 1 if strides > 1 else r.choice([1, 1, 2])
    shape = {"padding": padding, "strides": strides, "dilation_rate": dilation, "use_bias": r.random() < 0.7}
    acts = {"activation": r.choice([None, "relu", "relu6", "leaky_relu", "tanh", "linear", "elu", "silu"])}
    kind = r.choice(["conv", "conv", "grouped", "depthwise", "separable"])
    if kind == "conv":
        return [layers.Conv2D(r.choice([2, 4, 6]), window, **shape, **acts)]
    if kind == "grouped":
        return [layers.Conv2D(4, 1), layers.Conv2D(6, window, groups=2, **shape, **acts)]
    if kind == "depthwise":
        return [layers.DepthwiseConv2D(3, depth_multiplier=r.choice([1, 2]), **shape, **acts)]
    return [layers.SeparableConv2D(5, 3, depth_multiplier=r.choice([1, 2]), **shape, **acts)]


def poolings_2d(r, first):
    window, strides = r.choice([1, 2, 3, (2, 3), 4]), r.choice([None, 1, 2, 3])
    if r.random() < 0.5:
        return [layers.MaxPooling2D(window, strides=strides, padding=r.choice(["same", "valid"]))]
    return [r.choice([layers.AveragePooling2D(window, strides), layers.AveragePooling2D(3, 1, padding="same")])]


def rectifiers(r):
    choices = [
        lambda: layers.ReLU(),
        lambda: layers.ReLU(max_value=6),
        lambda: layers.ReLU(max_value=0.5),
        lambda: layers.ReLU(negative_slope=0.1),
        lambda: layers.ReLU(negative_slope=0.1, max_value=1.0),
        lambda: layers.ReLU(threshold=0.2),
        lambda: layers.ReLU(threshold=0.2, max_value=0.7),
        lambda: layers.LeakyReLU(negative_slope=0.05),
        lambda: layers.Activation("relu"),
        lambda: layers.Activation("relu6"),
        lambda: layers.Activation("leaky_relu"),
        lambda: layers.Activation(r.choice(["sigmoid", "gelu", "elu", "swish", "tanh"])),
        lambda: layers.ELU(0.5),
        lambda: layers.Softmax(),
    ]
    return r.choice(choices)()


def norm(r, axis=-1):
    return layers.BatchNormalization(
        axis, epsilon=r.choice([1e-3, 1e-5]), scale=r.random() < 0.8, center=r.random() < 0.8
    )


def noises(r):
    return r.choice([layers.Dropout(0.4), layers.GaussianNoise(0.3)])


def affine(r, channels, first):
    values = [round(r.uniform(0.1, 1.0), 3) for _ in range(channels)]
    if r.random() < 0.5:
        return layers.Rescaling(r.choice([1 / 255, 2.0] if first else [1 / 255, values]), offset=-0.5)
    axis = 1 if first else -1
    return layers.Normalization(axis, mean=values, variance=values, invert=r.random() < 0.3)


def stage_2d(r, x, first):
    axis = 1 if first else -1
    channels = x.shape[axis]
    kind = r.randrange(10)
    if kind <= 2:
        made = convolutions_2d(r, first)
    elif kind == 3:
        made = poolings_2d(r, first)
    elif kind == 4:
        made = [norm(r, axis), rectifiers(r)]
    elif kind == 5:
        made = [rectifiers(r), norm(r, axis), noises(r), layers.SpatialDropout2D(0.2)]
    elif kind == 6:
        border = r.choice([1, (1, 2), ((0, 1), (2, 0))])
        made = [layers.ZeroPadding2D(border), layers.Cropping2D(r.choice([1, ((1, 0), (0, 1))]))]
    elif kind == 7:
        made = [layers.UpSampling2D(r.choice([2, (1, 2)]), interpolation=r.choice(["nearest", "bilinear"]))]
    elif kind == 8:
        made = [layers.Dense(4, activation=r.choice(["relu", "softmax"]))]
    else:
        made = [affine(r, channels, first)]
    for layer in made:
        if min(x.shape[1:]) < 1:
            return x
        x = layer(x)
    return x


def joined(r, x, first):
    """Two branches that are added or laid side by side."""
    a = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    b = layers.Conv2D(4, 1, padding="same")(x)
    how = r.randrange(5)
    if how == 0:
        return layers.Add()([a, b])
    if how == 1:
        return a + b
    if how == 2:
        return ops.relu(ops.add(a, b))
    axis = 1 if first else -1
    if how == 3:
        return layers.Concatenate(axis=axis)([a, b, x])
    return layers.Concatenate(axis=r.choice([1, 2, 3]))([a, b])


def head_2d(r, x, first):
    kind = r.randrange(5)
    if kind == 0:
        return layers.Flatten()(x)
    if kind == 1:
        return r.choice([layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D])()(x)
    if kind == 2:
        pool = r.choice([layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D])(keepdims=True)
        return layers.Flatten()(pool(x))
    if kind == 3:
        return layers.Flatten()(layers.Permute(r.choice([(2, 1, 3), (3, 1, 2), (2, 3, 1)]))(x))
    return layers.Flatten()(layers.Reshape((-1, x.shape[-1]))(x))


def dense_head(r, x):
    if r.random() < 0.5:
        x = norm(r)(layers.Dense(7, activation="relu")(x))
    if r.random() < 0.3:
        x = layers.Concatenate()([x, layers.Dense(3)(x)])
    return layers.Dense(5, activation=r.choice(["softmax", None]), use_bias=r.random() < 0.8)(x)


def images_model(r):
    """A functional model of images; Keras itself decides the order of axes by its global setting."""
    from keras.config import image_data_format

    first = image_data_format() == "channels_first"
    channels = r.choice([1, 2, 3])
    sides = (r.randint(7, 12), r.randint(7, 12))
    inputs = Input((channels, *sides) if first else (*sides, channels))
    x: Any = inputs
    for _ in range(r.randint(2, 6)):
        spatial = x.shape[2:] if first else x.shape[1:3]
        if min(spatial) < 4 or max(spatial) > 40:
            break
        x = joined(r, x, first) if r.random() < 0.25 else stage_2d(r, x, first)
    return Model(inputs, dense_head(r, head_2d(r, x, first)))


def series_model(r):
    """A Sequential of series `[L, C]`."""
    parts = [Input((r.randint(12, 20), r.choice([1, 3])))]
    parts.append(layers.ZeroPadding1D(r.choice([1, (0, 2)])))
    for _ in range(r.randint(1, 3)):
        kind, padding = r.randrange(6), r.choice(["same", "valid"])
        if kind == 0:
            parts.append(
                layers.Conv1D(4, r.choice([1, 2, 3]), padding=r.choice(["same", "valid", "causal"]), strides=2)
            )
        elif kind == 1:
            parts.append(layers.Conv1D(4, 3, padding=r.choice(["same", "causal"]), dilation_rate=2, activation="relu"))
        elif kind == 2:
            parts.append(layers.SeparableConv1D(4, 3, padding="same", activation="relu"))
        elif kind == 3:
            parts.append(layers.MaxPooling1D(r.choice([2, 3]), strides=r.choice([None, 1]), padding=padding))
            parts.append(r.choice([layers.AveragePooling1D(2), layers.AveragePooling1D(3, 1, padding="same")]))
        elif kind == 4:
            parts += [norm(r), rectifiers(r), layers.SpatialDropout1D(0.1)]
        else:
            parts += [layers.DepthwiseConv1D(3, padding="same"), layers.UpSampling1D(2), layers.Cropping1D((1, 2))]
    heads = [layers.Flatten(), layers.GlobalAveragePooling1D(), layers.GlobalMaxPooling1D()]
    parts += [r.choice(heads), layers.Dense(4)]
    return Sequential(parts)


def features_model(r):
    """Dense layers alone, behind features or behind images without a channel axis; sometimes a nested model."""
    if r.random() < 0.5:
        parts = [Input((9,)), layers.Normalization(mean=0.2, variance=2.0), layers.Dense(6, activation="relu")]
    else:
        parts = [Input((5, 6)), layers.Rescaling(0.5), layers.Flatten(), layers.Dense(6), rectifiers(r)]
    inner = Sequential([Input((6,)), layers.Dense(8, activation="relu"), norm(r)])
    return Sequential([*parts, inner, layers.Dropout(0.5), layers.Dense(3)])


def nested_model(r):
    """A functional model inside another, called once or twice."""
    from keras.config import image_data_format

    first = image_data_format() == "channels_first"
    shape = (3, 8, 8) if first else (8, 8, 3)
    inner_in = Input(shape)
    y = layers.Conv2D(3, 3, padding="same", activation="relu")(inner_in)
    inner = Model(inner_in, layers.Add()([norm(r, 1 if first else -1)(y), inner_in]))
    inputs = Input(shape)
    x = inner(inputs)
    if r.random() < 0.5:
        x = inner(x)
    return Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def random_model(seed):
    """A model, and images in the file's order of axes."""
    r = Random(seed)
    kinds = [images_model] * 4 + [series_model, features_model, nested_model]
    model: Any = r.choice(kinds)(r)
    numbers = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.dtype == "float32":
            values = numbers.normal(0, 0.5, variable.shape)
            variable.assign(np.abs(values) + 0.1 if "variance" in variable.name else values)
    return model, numbers.random((3, *model.input_shape[1:]), dtype=np.float32)
