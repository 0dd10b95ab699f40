"""The named recipes, as data. Drops are fractions of the epochs, so 80 of 160 is 0.5.

Sources are the configurations of the authors' published code; docs/protocol.md lists them.
"""

from paibench.methods.training.recipe import Recipe

# A few seconds on a laptop: enough to see that everything works, not to rank anything.
smoke = Recipe(epochs=2, batch=64, lr=0.05)

# The embedded digits to their plateau.
lite = Recipe(epochs=20, batch=64, lr=0.05, schedule="cosine")

# Frankle & Carbin 2019, as open_lth trains it.
lenet_mnist = Recipe(epochs=40, lr=0.1, momentum=0.0)

# Ramanujan et al. 2020 for Conv-2 to Conv-8, as they train weights: their dense SGD baseline has
# lr 0.01. The 0.1 of their tables is for scores and is the default of edge_popup's own lr; the
# rest (100 epochs, batch 128, momentum 0.9, decay 1e-4, cosine) is the same for both.
conv = Recipe(epochs=100, lr=0.01, weight_decay=1e-4, schedule="cosine", augment="crop-flip")

# Frankle et al. 2021 for ResNet-20 and its like.
cifar_resnet = Recipe(
    epochs=160,
    weight_decay=1e-4,
    schedule="multistep",
    drops=(0.5, 0.75),
    augment="crop-flip",
)

# Tanaka et al. 2020 for VGG with batch norm: drops at 60 and 120 of 160, Nesterov.
cifar_vgg = Recipe(
    epochs=160,
    nesterov=True,
    weight_decay=1e-4,
    schedule="multistep",
    drops=(0.375, 0.75),
    augment="crop-flip",
)

# Sreenivasan et al. 2022, the finetuning of ResNet-20: drops at 80 and 120 of 150.
gem_miner = Recipe(
    epochs=150,
    lr=0.01,
    weight_decay=1e-4,
    schedule="multistep",
    drops=(80 / 150, 0.8),
    augment="crop-flip",
)

# Wang et al. 2023 for ResNet-18: drops at 100 and 150 of 200.
tiny_imagenet = Recipe(
    epochs=200,
    batch=256,
    lr=0.2,
    weight_decay=5e-4,
    schedule="multistep",
    drops=(0.5, 0.75),
    augment="crop-flip",
)

# Ramanujan et al. 2020 for ResNet-50; bfloat16 is ours.
imagenet = Recipe(
    epochs=100,
    batch=256,
    lr=0.256,
    momentum=0.875,
    weight_decay=3.0517578125e-05,
    schedule="cosine",
    warmup=5,
    augment="crop-flip",
    label_smoothing=0.1,
    precision="bf16",
)
