"""Data sets, transforms of batches of images, and the DataLoader.

``create(name)`` gives a data set by name, ``standard_transforms`` its usual preparation, ``DataLoader`` its batches.
"""

from minigrad.data import transforms
from minigrad.data.cells import Cells
from minigrad.data.cifar import CIFAR10, CIFAR100
from minigrad.data.color import ColorJitter, PCALighting
from minigrad.data.crops import CenterCrop, FiveCrop, RandomResizedCrop, Resize, TenCrop
from minigrad.data.dataset import Dataset, Subset, TensorDataset, collate, random_split
from minigrad.data.digits import Digits
from minigrad.data.elastic import ElasticDeformation, GridDeformation, border_weights
from minigrad.data.files import DataError, MissingDataError
from minigrad.data.folder import ImageFolder
from minigrad.data.images import ImageDataset, channel_statistics, mean_image
from minigrad.data.loader import DataLoader
from minigrad.data.mixing import CutMix, Mixup
from minigrad.data.mnist import KMNIST, MNIST, FashionMNIST
from minigrad.data.prefetch import to_device
from minigrad.data.registry import create, is_available
from minigrad.data.registry import list_names as list
from minigrad.data.segmentation import JointCompose, MirrorPad, RandomFlipsAndTurns, SegmentationDataset, SegmentationFolder
from minigrad.data.standard import NORMALIZATION, standard_transforms

__all__ = [
    "create",
    "list",
    "is_available",
    "standard_transforms",
    "NORMALIZATION",
    "Digits",
    "MNIST",
    "FashionMNIST",
    "KMNIST",
    "CIFAR10",
    "CIFAR100",
    "ImageFolder",
    "Cells",
    "SegmentationDataset",
    "SegmentationFolder",
    "Dataset",
    "ImageDataset",
    "TensorDataset",
    "Subset",
    "random_split",
    "collate",
    "channel_statistics",
    "mean_image",
    "transforms",
    "Resize",
    "CenterCrop",
    "RandomResizedCrop",
    "FiveCrop",
    "TenCrop",
    "ColorJitter",
    "PCALighting",
    "ElasticDeformation",
    "GridDeformation",
    "border_weights",
    "JointCompose",
    "RandomFlipsAndTurns",
    "MirrorPad",
    "Mixup",
    "CutMix",
    "DataLoader",
    "to_device",
    "DataError",
    "MissingDataError",
]
