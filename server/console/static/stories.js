/** Today's paper. `topic` goes to the ad server as a key-value; `picture` is a file in stories/. */

export const SECTIONS = {
  front: "Front page",
  business: "Business",
  sport: "Sport",
  culture: "Culture",
  travel: "Travel",
  food: "Food",
};

export const STORIES = [
  {
    section: "front", topic: "islands", picture: "ferry", byline: "Ingrid Solhavn", minutes: 7,
    title: "The last ferry captain of the outer islands hangs up his cap",
    deck: "For thirty-one years Aksel Brenner has taken the 5:40 out through the skerries. On Friday he goes once more, and nobody yet knows who will go on Monday.",
  },
  {
    section: "front", topic: "housing", picture: "quay", byline: "Tomas Reling", minutes: 4,
    title: "Council votes 21 to 19 for a quay without cars",
    deck: "From spring the old waterfront belongs to trams, bicycles and delivery carts before ten.",
  },
  {
    section: "front", topic: "weather", picture: "storm", byline: "Weather desk", minutes: 3,
    title: "What Thursday’s low means for the lower town",
    deck: "The harbour master expects 1.4 metres above mean. Sandbags are at the fish hall from noon.",
  },
  {
    section: "business", topic: "energy", picture: "turbine", byline: "Lena Marquardt", minutes: 6,
    title: "The shipyard that builds no ships is hiring four hundred",
    deck: "Where hulls slid into the bay, turbine towers now stand in a row. The yard’s order book reaches to the end of the decade.",
  },
  {
    section: "sport", topic: "football", picture: "derby", byline: "Pelle Okafor", minutes: 5,
    title: "Maresund go top in a derby that nearly drowned",
    deck: "Two goals in the last six minutes, a pitch under water and a captain who says he could not see the ball. He scored anyway.",
  },
  {
    section: "culture", topic: "music", picture: "silo", byline: "Carla Venn", minutes: 5,
    title: "An opera in a grain silo, and nobody wanted to leave",
    deck: "Eleven seconds of echo should ruin a soprano. On Saturday it gave her a choir.",
  },
  {
    section: "travel", topic: "islands", picture: "north", byline: "Jonas Friel", minutes: 9,
    title: "Slow north: eleven hours, four islands, one thermos",
    deck: "The mail boat takes a day to do what a plane does in forty minutes. That is the reason to take it.",
  },
  {
    section: "food", topic: "restaurants", picture: "smoke", byline: "Mette Aalund", minutes: 4,
    title: "The smokehouse that will not open on Mondays",
    deck: "Three generations, one oven and a queue to the tram stop. A day of rest, they say, is the recipe.",
  },
  {
    section: "business", topic: "technology", byline: "Lena Marquardt", minutes: 3,
    title: "Old Town gets its fibre, street by cobbled street",
    deck: "Every stone is numbered before it is lifted. The last house is due in June.",
  },
  {
    section: "sport", topic: "rowing", byline: "Pelle Okafor", minutes: 3,
    title: "Five in the morning: the bay’s oldest rowing club is full of beginners",
    deck: "The waiting list is longer than the boathouse.",
  },
  {
    section: "culture", topic: "photography", byline: "Carla Venn", minutes: 6,
    title: "Forty winters on the ice road, in one small room",
    deck: "A photographer shows what the sea looked like when one could still drive on it.",
  },
  {
    section: "food", topic: "cooking", byline: "Mette Aalund", minutes: 2,
    title: "Leeks, late apples, the last fennel: this week’s market",
    deck: "What to buy on Saturday, and what to leave until it is cheaper.",
  },
  {
    section: "travel", topic: "trains", byline: "Jonas Friel", minutes: 5,
    title: "Where the night train stops for nobody",
    deck: "A platform, a lamp and a timetable with one line on it.",
  },
  {
    section: "business", topic: "banking", byline: "Tomas Reling", minutes: 4,
    title: "A hundred years of lending on a handshake",
    deck: "The fishermen’s co-op bank has written off four loans since 1925.",
  },
];

/** All stories, those of the section first; otherwise in the paper's own order. */
export function ordered(section) {
  const own = STORIES.filter((story) => story.section === section);
  return [...own, ...STORIES.filter((story) => story.section !== section)];
}
