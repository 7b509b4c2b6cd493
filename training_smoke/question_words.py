"""Words that captions of photographs use, and what they say about whoever and whatever is in them.

Tables, and nothing that computes: `training_smoke.questions` asks by them.
"""

from __future__ import annotations

from dataclasses import dataclass


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DOGS = "dog dogs puppy puppies greyhound greyhounds terrier terriers poodle poodles retriever labrador beagle collie \
dalmatian dalmatians bulldog doberman husky huskies dachshund corgi chihuahua rottweiler hound hounds sheepdog boxer"
MEN = "man men guy guys gentleman gentlemen male males fisherman cowboy cowboys groom father dad grandfather"
WOMEN = "woman women lady ladies female females bride mother mom grandmother ballerina cheerleader cheerleaders"
BOYS, GIRLS = "boy boys son", "girl girls daughter"
YOUNG = "child children kid kids baby babies toddler toddlers infant"
SOMEBODY = "person people persons someone somebody crowd group couple adult adults team teams family families friends \
player players rider riders skier skiers surfer surfers snowboarder snowboarders skateboarder skateboarders biker \
bikers cyclist cyclists bicyclist bicyclists motorcyclist climber climbers hiker hikers racer racers runner runners \
swimmer swimmers boarder skater skaters teenager teenagers teen teens youth youths individual individuals performer \
dancer dancers band driver diver jumper worker workers soldier soldiers officer police spectators audience kayaker \
acrobat athlete wrestlers golfer pedestrian pedestrians passenger bystanders tourists student students santa"
HIS, HER = "he his him himself", "she her herself"
LIMBS = "hand hands arm arms leg legs finger lap owner face someone's they their"
HUMANS = " ".join((MEN, WOMEN, BOYS, GIRLS, YOUNG, SOMEBODY))

WATER = "water ocean sea lake river pond pool creek stream waves wave surf surfs surfing surfer surfers swim swims \
swimming swimmer kayak kayaks kayaking canoe waterfall rapids fountain puddle wading wades splashing splashes"
SNOW = "snow snowy snowboard snowboarder snowboarders snowboarding skier skiers skiing skis sled sledding snowball"
GRASS = "grass grassy lawn"
BEACH = "beach seashore shoreline"
STREET = "street streets sidewalk road crosswalk highway"
ROCKS = "rock rocks rocky mountain mountains cliff cliffs boulder boulders"


@dataclass(frozen=True)
class Concept:
    """What a picture may show. named: words that say that it does. unsure: words that leave it open, so that neither
    answer is sure. weight: how readily it is asked about where it is not shown, and 1 / weight where it is.

    The weights make an answer yes as likely as no for each question on Flickr8k's training captions, so that the
    question alone does not tell the answer; on other captions about so.
    """

    question: str
    named: frozenset[str]
    unsure: frozenset[str]
    weight: float


def _concept(question: str, weight: float, named: str, unsure: str) -> Concept:
    return Concept(question, words(named), words(unsure), weight)


CONCEPTS = (
    _concept("is there a dog?", 0.8, DOGS, "animal animals pet pets"),
    _concept("is there a person?", 7.9, HUMANS, f"{HIS} {HER} {LIMBS}"),
    _concept("is there a man?", 2.0, MEN, f"{BOYS} {SOMEBODY} {HIS} {LIMBS}"),
    _concept("is there a woman?", 0.95, WOMEN, f"{GIRLS} {SOMEBODY} {HER} {LIMBS}"),
    _concept("is there a boy?", 1.5, BOYS, f"{MEN} {YOUNG} {SOMEBODY} {HIS} {LIMBS}"),
    _concept("is there a girl?", 1.0, GIRLS, f"{WOMEN} {YOUNG} {SOMEBODY} {HER} {LIMBS}"),
    _concept("is there a child?", 0.95, YOUNG, f"{BOYS} {GIRLS} {SOMEBODY} {LIMBS}"),
    _concept("is there a horse?", 0.055, "horse horses pony", "animal animals rodeo bull cowboy jockey polo"),
    _concept(
        "is there a bird?", 0.066, "bird birds duck ducks goose geese seagull seagulls swan pigeon pigeons", "animal"
    ),
    _concept("is there water?", 0.53, WATER, f"{BEACH} shore boat boats dock wet fishing sprinkler hose bath raft"),
    _concept("is there snow?", 0.31, SNOW, "ice icy winter cold slope slopes mountain mountains white"),
    _concept(
        "is there grass?", 0.22, GRASS, "field fields park yard backyard meadow garden golf pasture lush green outside"
    ),
    _concept("is there a beach?", 0.12, BEACH, f"{WATER} sand sandy shore coast"),
    _concept(
        "is there a street?", 0.26, STREET, "city pavement car cars traffic corner parade downtown bus path outside"
    ),
    _concept(
        "is there a rock?", 0.2, ROCKS, "climb climbs climbing climber climbers hill stone stones wall peak canyon"
    ),
    _concept(
        "is there a ball?",
        0.32,
        "ball balls football basketball baseball volleyball",
        "soccer tennis rugby cricket lacrosse hockey polo golf toy object player players game catch fetch team",
    ),
    _concept(
        "is there a bike?",
        0.33,
        "bike bikes biking biker bikers bicycle bicycles cyclist cyclists bicyclist bicyclists bmx motorcycle \
motorcycles motorbike motorcyclist",
        "rider riders riding rides ride race racing racer wheel ramp trick stunt vehicle",
    ),
    _concept(
        "is there a skateboard?",
        0.13,
        "skateboard skateboards skateboarder skateboarders skateboarding",
        "board boards skater skaters skating skate ramp trick tricks rail stunt",
    ),
    _concept(
        "is there a boat?", 0.062, "boat boats kayak canoe raft sailboat", "river ocean lake rapids dock ship water"
    ),
    _concept("is there a frisbee?", 0.058, "frisbee frisbees", "disc disk toy object catch catches catching something"),
    _concept(
        "is anyone jumping?",
        0.34,
        "jump jumps jumping jumped leap leaps leaping",
        "air midair airborne flying flies flip flips trick tricks trampoline bouncing dives diving dive catch catches \
catching stunt ramp hurdle skateboarder skateboarders skateboarding snowboarder play plays playing over obstacle",
    ),
    _concept(
        "is anyone running?",
        0.39,
        "run runs running sprints sprinting jogging",
        "race races racing chase chases chasing play plays playing player players fetch game bounding leaps jumps \
jumping leaping trots trotting walks walking through football soccer rugby baseball track",
    ),
    _concept(
        "is anyone sitting?",
        0.36,
        "sit sits sitting seated sat",
        "bench chair chairs couch table rides riding ride swing swinging lay lays laying lying lap boat car bike \
bicycle motorcycle horse kayak canoe raft sled rests resting relaxing watch watches eating reading crowd group slide",
    ),
    _concept(
        "is anyone swimming?",
        0.086,
        "swim swims swimming swimmer swimmers",
        "pool wading water floating diving dives splashing ocean lake river pond surf surfing wave waves wet",
    ),
    _concept(
        "is anyone climbing?", 0.1, "climb climbs climbing climber climbers", "rope hanging rock wall ladder scaling"
    ),
)

BEINGS = {
    form: (one, many, form in ones.split())
    for one, many, ones, more in (
        ("dog", "dogs", "dog puppy", "dogs puppies"),
        ("man", "men", "man guy", "men guys"),
        ("woman", "women", "woman lady", "women ladies"),
        ("boy", "boys", "boy", "boys"),
        ("girl", "girls", "girl", "girls"),
        ("child", "children", "child kid baby toddler", "children kids babies toddlers"),
        ("person", "people", "person", "people"),
        ("horse", "horses", "horse", "horses"),
        ("bird", "birds", "bird", "birds"),
    )
    for form in (ones + " " + more).split()
}
"""Word -> (what it is called, what several are called, whether the word is of one)."""

NUMBERS = {n: n for n in ("one", "two", "three", "four", "five", "six")} | {"a": "one", "an": "one"}

COLORS = {
    n: n
    for n in ["black", "white", "brown", "red", "blue", "green", "yellow", "orange", "pink", "purple", "tan", "gray"]
} | {
    "grey": "gray",
    "blond": "tan",
    "golden": "tan",
    "beige": "tan",
}

COLORED = words(
    "dog shirt jacket hat dress coat ball helmet shorts pants car collar cap uniform vest sweater horse toy"
)
SEVERAL = words("shorts pants")

DOING = {
    form: forms.split()[0]
    for forms in (
        "running run runs",
        "jumping jump jumps leaping leap leaps",
        "swimming swim swims",
        "sitting sit sits",
        "standing stand stands",
        "walking walk walks",
        "climbing climb climbs",
        "playing play plays",
        "riding ride rides",
        "sleeping sleep sleeps",
        "skateboarding skateboards",
        "surfing surfs",
        "dancing dance dances",
        "eating eat eats",
        "smiling smile smiles",
    )
    for form in forms.split()
}

PLACES = {
    "in the water": words(WATER),
    "in the snow": words(SNOW),
    "on the grass": words(GRASS),
    "at the beach": words(BEACH),
    "on the street": words(STREET),
    "on the rocks": words(ROCKS),
}
