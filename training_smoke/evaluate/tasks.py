"""The 38 tasks behind DataComp's score, as a table: where each set lies, its main metric, and what guessing would get.

    TASKS["ImageNet-A"].main_metric, VTAB

Source: mlfoundations/datacomp at 4a8df19, tasklist.yml (names, sizes, main metrics, random scores) and
aggregate_scores.py (groups). Its list has two more, FairFace and UTKFace, which have no main metric and no part in the
score. Chances that it does not give are ours and are marked so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One of the 38.

    key: DataComp's ("vtab/dtd"). name: as in results and tables. size: samples of the test set. chance: of the main
    metric, when classes are guessed by their frequency.
    """

    key: str
    name: str
    size: int
    chance: float
    main_metric: str = "acc1"

    @property
    def folders(self) -> tuple[str, ...]:
        """Where the set may lie below the root: as DataComp, then as CLIP_benchmark's export names it."""
        if self.key.startswith(("retrieval/", "misc/")):
            return (f"hf_cache/nlphuji___{self.key.split('/')[1]}", *ALSO.get(self.key, ()))
        plain = "wds_" + self.key.removeprefix("fairness/").replace("/", "-")
        return (f"{plain}_test", plain, *ALSO.get(self.key, ()))


ALSO = {
    "cifar10": ("wds_vtab-cifar10",),
    "retrieval/flickr_1k_test_image_text_retrieval": ("wds_flickr30k",),
    "retrieval/mscoco_2014_5k_test_image_text_retrieval": ("wds_mscoco_captions",),
    "misc/winogavil": ("winogavil",),
}

RECALL, PER_CLASS = "mean_recall@1", "mean_per_class_recall"

_TABLE = (
    Task("vtab/caltech101", "Caltech-101", 6085, 0.009804, PER_CLASS),
    Task("cifar10", "CIFAR-10", 10000, 0.1),
    Task("vtab/cifar100", "CIFAR-100", 10000, 0.01),
    Task("vtab/clevr_count_all", "CLEVR Counts", 15000, 0.125061),
    Task("vtab/clevr_closest_object_distance", "CLEVR Distance", 15000, 0.190520),
    Task("country211", "Country211", 21100, 0.004739),
    Task("vtab/dtd", "Describable Textures", 1880, 0.021277),
    Task("vtab/eurosat", "EuroSAT", 5400, 0.101483),
    Task("fgvc_aircraft", "FGVC Aircraft", 3333, 0.01, PER_CLASS),
    Task("food101", "Food-101", 25250, 0.009901),
    Task("gtsrb", "GTSRB", 12630, 0.037604),
    Task("imagenet1k", "ImageNet 1k", 50000, 0.001),
    Task("imagenet_sketch", "ImageNet Sketch", 50889, 0.001),
    Task("imagenetv2", "ImageNet v2", 10000, 0.001),
    Task("imagenet-a", "ImageNet-A", 7500, 0.008056),
    Task("imagenet-o", "ImageNet-O", 2000, 0.006047),
    Task("imagenet-r", "ImageNet-R", 30000, 0.006163),
    Task("vtab/kitti_closest_vehicle_distance", "KITTI Vehicle Distance", 711, 0.295289),
    Task("mnist", "MNIST", 10000, 0.100350),
    Task("objectnet", "ObjectNet", 18574, 0.009481),
    Task("vtab/flowers", "Oxford Flowers-102", 6149, 0.009804, PER_CLASS),
    Task("vtab/pets", "Oxford-IIIT Pet", 3669, 0.027027, PER_CLASS),
    Task("voc2007", "Pascal VOC 2007", 14976, 0.154038),
    Task("vtab/pcam", "PatchCamelyon", 32768, 0.5),
    Task("renderedsst2", "Rendered SST2", 1821, 0.500001),
    Task("vtab/resisc45", "RESISC45", 6300, 0.022342),
    Task("cars", "Stanford Cars", 8041, 0.005160),
    Task("stl10", "STL-10", 8000, 0.1),
    Task("sun397", "SUN397", 108754, 0.004645),
    Task("vtab/svhn", "SVHN", 26032, 0.117897),
    # ours: 1 of 1,000 images and 5 of 5,000 texts; 1 of 5,000 and 5 of 25,000
    Task("retrieval/flickr_1k_test_image_text_retrieval", "Flickr", 1000, 0.001, RECALL),
    Task("retrieval/mscoco_2014_5k_test_image_text_retrieval", "MSCOCO", 5000, 0.0002, RECALL),
    Task("misc/winogavil", "WinoGAViL", 3563, 0.205, "jaccard_score_10-12"),
    # ours: F1 of a class guessed by its frequency is that frequency, 1 / 182 in the mean. The list's 0.143056 is the
    # chance of accuracy, above the F1 of most models
    Task("wilds/iwildcam", "iWildCam", 42791, 0.005495, "F1-macro_all"),
    Task("wilds/camelyon17", "Camelyon17", 85054, 0.5),
    Task("wilds/fmow", "FMoW", 22108, 0.027193, "acc_worst_region"),
    # ours: 5 of 58 classes, 1 of 40
    Task("fairness/dollar_street", "Dollar Street", 3503, 0.086207, "acc_top5_wg"),
    Task("fairness/geode", "GeoDE", 12488, 0.025, "acc_wg"),
)

TASKS = {task.name: task for task in _TABLE}
"""By name, in DataComp's order."""

WORST_GROUP = {"acc_worst_region": 1, "acc_wg": 1, "acc_top5_wg": 5}
"""Main metrics that are the worst group's accuracy -> among how many first classes. The group (region or income) is the
first number of a sample's .npy; DataComp counts groups of any size."""

IMAGENET = frozenset({"ImageNet 1k"})
IMAGENET_SHIFTS = frozenset({"ImageNet Sketch", "ImageNet v2", "ImageNet-A", "ImageNet-O", "ImageNet-R", "ObjectNet"})
VTAB = frozenset(
    {
        "Caltech-101",
        "CIFAR-100",
        "CLEVR Counts",
        "CLEVR Distance",
        "Describable Textures",
        "EuroSAT",
        "KITTI Vehicle Distance",
        "Oxford Flowers-102",
        "Oxford-IIIT Pet",
        "PatchCamelyon",
        "RESISC45",
        "SVHN",
        "SUN397",
    }
)
RETRIEVAL = frozenset({"Flickr", "MSCOCO", "WinoGAViL"})
