// The order of search results. A page whose title has the words comes first, then guides, then lists and the API.
const words = (text) => text.toLowerCase().split(/[^\p{L}\p{N}]+/u).filter(Boolean);
const asked = words(new URLSearchParams(window.location.search).get("q") || "");

var Scorer = {
  score: ([page, title, , , score]) => {
    const titled = asked.length > 0 && asked.every((word) => words(title.split(" > ")[0]).some((own) => own.startsWith(word)));
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
