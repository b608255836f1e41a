"""Class names and colours of the public datasets, as their authors state them."""

from __future__ import annotations

Color = tuple[int, int, int]

# SegNet tutorial: the 11 classes of CamVid that papers report; value 11 of a mask is void.
CAMVID: dict[str, Color] = {
    'sky': (128, 128, 128),
    'building': (128, 0, 0),
    'pole': (192, 192, 128),
    'road': (128, 64, 128),
    'pavement': (60, 40, 222),
    'tree': (128, 128, 0),
    'sign_symbol': (192, 128, 128),
    'fence': (64, 64, 128),
    'car': (64, 0, 128),
    'pedestrian': (64, 64, 0),
    'bicyclist': (0, 128, 192),
}
CAMVID_VOID_ID = 11

# PASCAL VOC 2012 development kit; value 255 of a mask is void.
VOC: dict[str, Color] = {
    'background': (0, 0, 0),
    'aeroplane': (128, 0, 0),
    'bicycle': (0, 128, 0),
    'bird': (128, 128, 0),
    'boat': (0, 0, 128),
    'bottle': (128, 0, 128),
    'bus': (0, 128, 128),
    'car': (128, 128, 128),
    'cat': (64, 0, 0),
    'chair': (192, 0, 0),
    'cow': (64, 128, 0),
    'diningtable': (192, 128, 0),
    'dog': (64, 0, 128),
    'horse': (192, 0, 128),
    'motorbike': (64, 128, 128),
    'person': (192, 128, 128),
    'pottedplant': (0, 64, 0),
    'sheep': (128, 64, 0),
    'sofa': (0, 192, 0),
    'train': (128, 192, 0),
    'tvmonitor': (0, 64, 128),
}
VOC_VOID_ID = 255

# cityscapesScripts, helpers/labels.py: the 19 classes that are evaluated, and all values of
# labelIds masks (the licence plate's -1 is never drawn).
CITYSCAPES: dict[str, Color] = {
    'road': (128, 64, 128),
    'sidewalk': (244, 35, 232),
    'building': (70, 70, 70),
    'wall': (102, 102, 156),
    'fence': (190, 153, 153),
    'pole': (153, 153, 153),
    'traffic light': (250, 170, 30),
    'traffic sign': (220, 220, 0),
    'vegetation': (107, 142, 35),
    'terrain': (152, 251, 152),
    'sky': (70, 130, 180),
    'person': (220, 20, 60),
    'rider': (255, 0, 0),
    'car': (0, 0, 142),
    'truck': (0, 0, 70),
    'bus': (0, 60, 100),
    'train': (0, 80, 100),
    'motorcycle': (0, 0, 230),
    'bicycle': (119, 11, 32),
}
CITYSCAPES_IDS: tuple[str, ...] = (
    *('unlabeled', 'ego vehicle', 'rectification border', 'out of roi', 'static', 'dynamic'),
    *('ground', 'road', 'sidewalk', 'parking', 'rail track', 'building', 'wall', 'fence'),
    *('guard rail', 'bridge', 'tunnel', 'pole', 'polegroup', 'traffic light', 'traffic sign'),
    *('vegetation', 'terrain', 'sky', 'person', 'rider', 'car', 'truck', 'bus', 'caravan'),
    *('trailer', 'train', 'motorcycle', 'bicycle'),
)

# MIT SceneParsing benchmark, objectInfo150: value 0 of a mask is "other objects", 1 is the wall.
ADE20K_OTHER = 'other'
ADE20K: tuple[str, ...] = (
    *('wall', 'building', 'sky', 'floor', 'tree', 'ceiling', 'road', 'bed', 'windowpane'),
    *('grass', 'cabinet', 'sidewalk', 'person', 'earth', 'door', 'table', 'mountain', 'plant'),
    *('curtain', 'chair', 'car', 'water', 'painting', 'sofa', 'shelf', 'house', 'sea'),
    *('mirror', 'rug', 'field', 'armchair', 'seat', 'fence', 'desk', 'rock', 'wardrobe'),
    *('lamp', 'bathtub', 'railing', 'cushion', 'base', 'box', 'column', 'signboard'),
    *('chest of drawers', 'counter', 'sand', 'sink', 'skyscraper', 'fireplace', 'refrigerator'),
    *('grandstand', 'path', 'stairs', 'runway', 'case', 'pool table', 'pillow', 'screen door'),
    *('stairway', 'river', 'bridge', 'bookcase', 'blind', 'coffee table', 'toilet', 'flower'),
    *('book', 'hill', 'bench', 'countertop', 'stove', 'palm', 'kitchen island', 'computer'),
    *('swivel chair', 'boat', 'bar', 'arcade machine', 'hovel', 'bus', 'towel', 'light'),
    *('truck', 'tower', 'chandelier', 'awning', 'streetlight', 'booth', 'television receiver'),
    *('airplane', 'dirt track', 'apparel', 'pole', 'land', 'bannister', 'escalator', 'ottoman'),
    *('bottle', 'buffet', 'poster', 'stage', 'van', 'ship', 'fountain', 'conveyer belt'),
    *('canopy', 'washer', 'plaything', 'swimming pool', 'stool', 'barrel', 'basket'),
    *('waterfall', 'tent', 'bag', 'minibike', 'cradle', 'oven', 'ball', 'food', 'step', 'tank'),
    *('trade name', 'microwave', 'pot', 'animal', 'bicycle', 'lake', 'dishwasher', 'screen'),
    *('blanket', 'sculpture', 'hood', 'sconce', 'vase', 'traffic light', 'tray', 'ashcan'),
    *('fan', 'pier', 'crt screen', 'plate', 'monitor', 'bulletin board', 'shower', 'radiator'),
    *('glass', 'clock', 'flag'),
)
