"""The same facts in languages other than English: what the demo's language filter has to find."""

from __future__ import annotations

from curate.demo.scenes import PALETTE, SHAPES, Group, Scene

# Nouns are (one, several) in the order of SHAPES; colours stand after words that leave them as they are.
_SHAPES = {
    "de": (("Kreis", "Kreise"), ("Quadrat", "Quadrate"), ("Dreieck", "Dreiecke"), ("Stern", "Sterne"),
           ("Herz", "Herzen"), ("Raute", "Rauten"), ("Sechseck", "Sechsecke"), ("Kreuz", "Kreuze"),
           ("Ring", "Ringe"), ("Halbmond", "Halbmonde")),
    "fr": (("cercle", "cercles"), ("carré", "carrés"), ("triangle", "triangles"), ("étoile", "étoiles"),
           ("cœur", "cœurs"), ("losange", "losanges"), ("hexagone", "hexagones"), ("croix", "croix"),
           ("anneau", "anneaux"), ("croissant", "croissants")),
    "es": (("círculo", "círculos"), ("cuadrado", "cuadrados"), ("triángulo", "triángulos"),
           ("estrella", "estrellas"), ("corazón", "corazones"), ("rombo", "rombos"), ("hexágono", "hexágonos"),
           ("cruz", "cruces"), ("anillo", "anillos"), ("media luna", "medias lunas")),
    "zh": tuple((s, s) for s in ("圆形", "正方形", "三角形", "星星", "爱心", "菱形", "六边形", "十字", "圆环", "月牙")),
    "ar": (("دائرة", "دوائر"), ("مربع", "مربعات"), ("مثلث", "مثلثات"), ("نجمة", "نجوم"), ("قلب", "قلوب"),
           ("معين", "معينات"), ("شكل سداسي", "أشكال سداسية"), ("صليب", "صلبان"), ("حلقة", "حلقات"),
           ("هلال", "أهلة")),
}  # fmt: skip
_COLOURS = {
    "de": ("Rot", "Orange", "Gelb", "Grün", "Blau", "Lila", "Rosa", "Türkis"),
    "fr": ("rouge", "orange", "jaune", "verte", "bleue", "violette", "rose", "turquoise"),
    "es": ("rojo", "naranja", "amarillo", "verde", "azul", "morado", "rosa", "turquesa"),
    "zh": ("红色", "橙色", "黄色", "绿色", "蓝色", "紫色", "粉色", "青色"),
    "ar": ("أحمر", "برتقالي", "أصفر", "أخضر", "أزرق", "بنفسجي", "وردي", "سماوي"),
}
_ITEMS = {
    "de": "{n} {s} in {c}",
    "fr": "{n} {s} de couleur {c}",
    "es": "{n} {s} de color {c}",
    "zh": "{n}个{c}的{s}",
    "ar": "{n} {s} بلون {c}",
}
_FRAMES = {
    "de": ("Auf diesem Bild sieht man {}", "{} vor einem ruhigen Hintergrund"),
    "fr": ("Sur cette image on voit {}", "{} devant un fond très calme"),
    "es": ("En esta imagen se puede ver {}", "{} sobre un fondo tranquilo"),
    "zh": ("这张图片上画着{}", "{}，背景很柔和"),
    "ar": ("في هذه الصورة نرى {}", "{} على خلفية هادئة"),
}
_JOINS = {
    "de": {"row": " und daneben ", "column": " und darunter ", "inside": " und darum herum "},
    "fr": {"row": " et à côté ", "column": " et en dessous ", "inside": " et tout autour "},
    "es": {"row": " y al lado ", "column": " y debajo ", "inside": " y alrededor "},
    "zh": {"row": "，旁边有", "column": "，下面有", "inside": "，外面围着"},
    "ar": {"row": " وبجانبها ", "column": " وتحتها ", "inside": " وحولها "},
}
LANGUAGES = tuple(_FRAMES)


def translated(of: Scene, language: str, phrase: int = 0) -> str:
    """The facts of the scene, sizes apart, in one of LANGUAGES."""
    frames = _FRAMES[language]
    items = [_item(g, language) for g in of.groups]
    return frames[phrase % len(frames)].format(_JOINS[language][of.relation].join(items))


def _item(group: Group, language: str) -> str:
    one, several = _SHAPES[language][SHAPES.index(group.shape)]
    colour = _COLOURS[language][list(PALETTE).index(group.colour)]
    return _ITEMS[language].format(n=group.count, s=one if group.count == 1 else several, c=colour)
