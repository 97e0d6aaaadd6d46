"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const shown = root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.dataset.theme = shown === "dark" ? "light" : "dark";
  });

  const form = document.getElementById("filters");
  if (!form) return;
  const cards = [...document.querySelectorAll("article")];
  const words = cards.map((card) => card.textContent.toLowerCase());
  const more = document.getElementById("more");
  const count = document.getElementById("count");
  const page = 12;
  let limit = page;
  const update = () => {
    const value = (name) => form.elements[name].value;
    const search = value("q").toLowerCase();
    let found = 0;
    cards.forEach((card, i) => {
      const fits = ["p", "e", "s", "c"].every((key) => !value(key) || card.dataset[key] === value(key)) && words[i].includes(search);
      found += fits;
      card.hidden = !fits || found > limit;
    });
    count.textContent = `${Math.min(found, limit)} of ${found} shown`;
    more.hidden = found <= limit;
  };
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { limit = page; update(); });
  more.addEventListener("click", () => { limit += page; update(); });
  update();
})();
