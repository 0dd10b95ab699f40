"""The papers behind the suite's own methods, as data for a bibliography."""

from typing import NamedTuple


class Paper(NamedTuple):
    """One entry of a bibliography. `arxiv` is its number there."""

    authors: tuple[str, ...]
    title: str
    venue: str
    year: int
    arxiv: str


_ICLR = "International Conference on Learning Representations"
_ICML = "International Conference on Machine Learning"
_NEURIPS = "Advances in Neural Information Processing Systems"
_CVPR = "IEEE/CVF Conference on Computer Vision and Pattern Recognition"

# By key, which never changes: a paper that cites it must find it again.
PAPERS = {
    "han2015learning": Paper(
        ("Han, Song", "Pool, Jeff", "Tran, John", "Dally, William J."),
        "Learning both Weights and Connections for Efficient Neural Networks",
        _NEURIPS,
        2015,
        "1506.02626",
    ),
    "lee2019snip": Paper(
        ("Lee, Namhoon", "Ajanthan, Thalaiyasingam", "Torr, Philip H. S."),
        "SNIP: Single-shot Network Pruning based on Connection Sensitivity",
        _ICLR,
        2019,
        "1810.02340",
    ),
    "frankle2019lottery": Paper(
        ("Frankle, Jonathan", "Carbin, Michael"),
        "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks",
        _ICLR,
        2019,
        "1803.03635",
    ),
    "zhou2019deconstructing": Paper(
        ("Zhou, Hattie", "Lan, Janice", "Liu, Rosanne", "Yosinski, Jason"),
        "Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask",
        _NEURIPS,
        2019,
        "1905.01067",
    ),
    "wang2020picking": Paper(
        ("Wang, Chaoqi", "Zhang, Guodong", "Grosse, Roger"),
        "Picking Winning Tickets Before Training by Preserving Gradient Flow",
        _ICLR,
        2020,
        "2002.07376",
    ),
    "tanaka2020pruning": Paper(
        ("Tanaka, Hidenori", "Kunin, Daniel", "Yamins, Daniel L. K.", "Ganguli, Surya"),
        "Pruning neural networks without any data by iteratively conserving synaptic flow",
        _NEURIPS,
        2020,
        "2006.05467",
    ),
    "ramanujan2020hidden": Paper(
        (
            *("Ramanujan, Vivek", "Wortsman, Mitchell", "Kembhavi, Aniruddha"),
            *("Farhadi, Ali", "Rastegari, Mohammad"),
        ),
        "What's Hidden in a Randomly Weighted Neural Network?",
        _CVPR,
        2020,
        "1911.13299",
    ),
    "evci2020rigging": Paper(
        (
            *("Evci, Utku", "Gale, Trevor", "Menick, Jacob"),
            *("Castro, Pablo Samuel", "Elsen, Erich"),
        ),
        "Rigging the Lottery: Making All Tickets Winners",
        _ICML,
        2020,
        "1911.11134",
    ),
    "frankle2020linear": Paper(
        (
            *("Frankle, Jonathan", "Dziugaite, Gintare Karolina"),
            *("Roy, Daniel M.", "Carbin, Michael"),
        ),
        "Linear Mode Connectivity and the Lottery Ticket Hypothesis",
        _ICML,
        2020,
        "1912.05671",
    ),
    "renda2020comparing": Paper(
        ("Renda, Alex", "Frankle, Jonathan", "Carbin, Michael"),
        "Comparing Rewinding and Fine-tuning in Neural Network Pruning",
        _ICLR,
        2020,
        "2003.02389",
    ),
    "sreenivasan2022rare": Paper(
        (
            *("Sreenivasan, Kartik", "Sohn, Jy-yong", "Yang, Liu", "Grinde, Matthew"),
            *("Nagle, Alliot", "Wang, Hongyi", "Xing, Eric", "Lee, Kangwook"),
            "Papailiopoulos, Dimitris",
        ),
        "Rare Gems: Finding Lottery Tickets at Initialization",
        _NEURIPS,
        2022,
        "2202.12002",
    ),
}

# The papers of each method of the suite, by their keys; the reference itself has none.
OF_METHOD: dict[str, tuple[str, ...]] = {
    "dense": (),
    "random": ("evci2020rigging",),
    "magnitude": ("han2015learning",),
    "snip": ("lee2019snip",),
    "grasp": ("wang2020picking",),
    "synflow": ("tanaka2020pruning",),
    "edge_popup": ("ramanujan2020hidden",),
    "zhou": ("zhou2019deconstructing",),
    "imp": ("frankle2019lottery", "frankle2020linear", "renda2020comparing"),
    "gem_miner": ("sreenivasan2022rare",),
}
