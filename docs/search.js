// The order of search results. A page whose title has the words comes first, then guides, then lists and the API.
const asked = (new URLSearchParams(window.location.search).get("q") || "").toLowerCase();

var Scorer = {
  score: ([page, title, , , score]) => {
    const titled = asked && title.toLowerCase().split(" > ")[0].includes(asked);
    const guide = !page.includes("/") && !["examples", "paper-runs", "coming-from", "benchmarks"].includes(page);
    return score + (titled ? 30 : 0) + (guide ? 10 : 0);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
