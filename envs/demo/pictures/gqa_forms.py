"""The forms of questions in the manner of GQA: their types, phrases, sentences for answers and steps of reasoning.

Types are GQA's: the structural one is what a question does, the semantic one what it is about.
"""

from dataclasses import dataclass

_YES_NO_IS = {"yes": "Yes, the {noun} {is} {color}.", "no": "No, the {noun} {is} {truth}."}
_YES_NO_PLACE = {"yes": "Yes, the {noun} {is} on the {place}.", "no": "No, the {noun} {is} on the {truth}."}
_LEFT_RIGHT = "The {noun} {is} on the {answer} side of the picture."
_ROOM = "It is {a_room}."
_COLOR = "The {noun} {is} {answer}."
_BESIDE = "The {noun} {is} to the {answer} of the {other}."


@dataclass(frozen=True)
class Form:
    """One form of questions.

    Attributes:
        types: structural, semantic and detailed type.
        share: of the questions.
        phrases: of the question.
        sentence: the answer as a sentence, by answer where there are two.
        steps: of reasoning, ``operation: argument``; ``select`` begins a branch.
    """

    types: tuple[str, str, str]
    share: float
    phrases: tuple[str, ...]
    sentence: str | dict[str, str]
    steps: str


GQA_FORMS: dict[str, Form] = {
    "exist": Form(
        ("verify", "obj", "exist"),
        0.07,
        (
            "Are there any {many}?",
            "Do you see any {many}?",
            "Are there any {many} in the picture?",
            "{Is} there {a} in this picture?",
        ),
        {"yes": "Yes, there {is} {a}.", "no": "No, there are no {many}."},
        "select: {noun}; exist: ?",
    ),
    "exist_color": Form(
        ("verify", "obj", "existAttr"),
        0.04,
        ("Are there any {color} {many}?", "Do you see {a_color}?", "{Is} there {a_color} in the picture?"),
        {"yes": "Yes, there {is} {a_color}.", "no": "No, there {is} {a}, but not {a_color}."},
        "select: {noun}; filter color: {color}; exist: ?",
    ),
    "verify_color": Form(
        ("verify", "attr", "verifyAttr"),
        0.05,
        ("{Is} the {noun} {color}?", "Is the color of the {noun} {color}?", "{Does} the {noun} look {color}?"),
        _YES_NO_IS,
        "select: {noun}; verify color: {color}",
    ),
    "verify_place": Form(
        ("verify", "attr", "positionVerify"),
        0.04,
        ("{Is} the {noun} on the {place} side of the picture?", "{Is} the {noun} on the {place} of the image?"),
        _YES_NO_PLACE,
        "select: {noun}; verify hposition: {place}",
    ),
    "verify_beside": Form(
        ("verify", "rel", "relVerify"),
        0.05,
        ("{Is} the {noun} to the {side} of the {other}?", "{Is} the {noun} {side} of the {other}?"),
        {
            "yes": "Yes, the {noun} {is} to the {side} of the {other}.",
            "no": "No, the {noun} {is} to the {truth} of the {other}.",
        },
        "select: {other}; relate: {noun},to the {side} of,_; exist: ?",
    ),
    "exist_beside": Form(
        ("verify", "rel", "existRelS"),
        0.05,
        ("Are there any {many} to the {side} of the {other}?", "{Is} there {a} to the {side} of the {other}?"),
        {
            "yes": "Yes, there {is} {a} to the {side} of the {other}.",
            "no": "No, there are no {many} to the {side} of the {other}.",
        },
        "select: {other}; relate: {noun},to the {side} of,s; exist: ?",
    ),
    "verify_room": Form(
        ("verify", "global", "verifyGlobal"),
        0.04,
        ("Is it {a_room}?", "Is the room in the picture {a_room}?", "Does this place look like {a_room}?"),
        {"yes": "Yes, it is {a_room}.", "no": "No, it is {a_truth}."},
        "select: scene; verify place: {room}",
    ),
    "query_color": Form(
        ("query", "attr", "directOf"),
        0.12,
        ("What color {is} the {noun}?", "Which color {is} the {noun}?", "What is the color of the {noun}?"),
        _COLOR,
        "select: {noun}; query: color",
    ),
    "query_color_beside": Form(
        ("query", "attr", "directOf"),
        0.04,
        (
            "What color is the {noun} to the {side} of the {other}?",
            "Which color is the {noun} that is to the {side} of the {other}?",
        ),
        "The {noun} is {answer}.",
        "select: {other}; relate: {noun},to the {side} of,s; query: color",
    ),
    "query_beside": Form(
        ("query", "rel", "relS"),
        0.05,
        (
            "What is the {color} thing to the {side} of the {other}?",
            "What is the {color} object to the {side} of the {other} called?",
        ),
        "The {color} thing is {a_answer}.",
        "select: {other}; relate: _,to the {side} of,s; filter color: {color}; query: name",
    ),
    "query_furniture": Form(
        ("query", "obj", "categoryAttr"),
        0.06,
        (
            "What kind of furniture is {color}?",
            "Which piece of furniture is {color}?",
            "Which {color} piece of furniture is shown?",
        ),
        "The {answer} is {color}.",
        "select: furniture; filter color: {color}; query: name",
    ),
    "query_place": Form(
        ("query", "attr", "positionQuery"),
        0.05,
        ("On which side of the picture {is} the {noun}?", "Which side of the image {is} the {noun} on?"),
        _LEFT_RIGHT,
        "select: {noun}; query: hposition",
    ),
    "query_room": Form(
        ("query", "global", "place"),
        0.07,
        ("Which room is it?", "What room is shown?", "Which place is shown in the picture?"),
        _ROOM,
        "select: scene; query: place",
    ),
    "choose_color": Form(
        ("choose", "attr", "chooseAttr"),
        0.05,
        ("What color {is} the {noun}, {first} or {second}?", "{Is} the {noun} {first} or {second}?"),
        _COLOR,
        "select: {noun}; choose color: {first}|{second}",
    ),
    "choose_place": Form(
        ("choose", "attr", "positionChoose"),
        0.03,
        (
            "{Is} the {noun} on the {first} or on the {second} of the picture?",
            "On which side {is} the {noun}, the {first} or the {second}?",
        ),
        _LEFT_RIGHT,
        "select: {noun}; choose hposition: {first}|{second}",
    ),
    "choose_beside": Form(
        ("choose", "rel", "relChooser"),
        0.04,
        ("{Is} the {noun} to the {first} or to the {second} of the {other}?",),
        _BESIDE,
        "select: {other}; choose rel: {noun},to the {first} of|to the {second} of,_",
    ),
    "choose_object": Form(
        ("choose", "rel", "categoryRelOChoose"),
        0.03,
        (
            "What is to the {side} of the {other}, {a_first} or {a_second}?",
            "Which of them is to the {side} of the {other}, {a_first} or {a_second}?",
        ),
        "The {answer} is to the {side} of the {other}.",
        "select: {other}; relate: _,to the {side} of,s; choose name: {first}|{second}",
    ),
    "choose_room": Form(
        ("choose", "global", "placeChoose"),
        0.03,
        ("Is it {a_first} or {a_second}?", "Which place is it, {a_first} or {a_second}?"),
        _ROOM,
        "select: scene; choose place: {first}|{second}",
    ),
    "both": Form(
        ("logical", "obj", "existAnd"),
        0.03,
        ("Are there both {a} and {b} in the picture?", "Do you see both {a} and {b}?"),
        {"yes": "Yes, there are both {a} and {b}.", "no": "No, there {lone_is} {a_lone} but no {missing}."},
        "select: {noun}; exist: ?; select: {other}; exist: ?; and: ",
    ),
    "either": Form(
        ("logical", "obj", "existOr"),
        0.03,
        ("{Is} there either {a} or {b} in the picture?", "Do you see {a} or {b}?"),
        {"yes": "Yes, there {lone_is} {a_lone}.", "no": "No, there are no {many} or {other_many}."},
        "select: {noun}; exist: ?; select: {other}; exist: ?; or: ",
    ),
    "color_and_place": Form(
        ("logical", "attr", "verifyAttrAnd"),
        0.03,
        ("{Is} the {noun} {color} and on the {place} side of the picture?",),
        {
            "yes": "Yes, the {noun} {is} {color} and on the {place}.",
            "no": "No, the {noun} {is} {truth} and on the {true_place}.",
        },
        "select: {noun}; verify color: {color}; select: {noun}; verify hposition: {place}; and: ",
    ),
    "same_color": Form(
        ("compare", "attr", "twoSame"),
        0.02,
        ("Do the {noun} and the {other} have the same color?", "Are the {noun} and the {other} the same color?"),
        {"yes": "Yes, both are {truth}.", "no": "No, the {noun} is {truth} and the {other} is {other_truth}."},
        "select: {noun}; select: {other}; same color: ",
    ),
    "different_color": Form(
        ("compare", "attr", "twoDifferent"),
        0.02,
        ("Do the {noun} and the {other} have different colors?", "Are the {noun} and the {other} different in color?"),
        {"no": "No, both are {truth}.", "yes": "Yes, the {noun} is {truth} and the {other} is {other_truth}."},
        "select: {noun}; select: {other}; different color: ",
    ),
    "compare_near": Form(
        ("compare", "attr", "comparativeChoose"),
        0.03,
        ("Which is closer to the camera, the {noun} or the {other}?", "What is nearer, the {noun} or the {other}?"),
        "The {answer} is closer.",
        "select: {noun}; select: {other}; choose nearer: ",
    ),
}
